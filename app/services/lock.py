"""Write `kafka.lock` anew: `python -m app.services.lock`, after a change of the versions below."""

from __future__ import annotations

import tempfile
from pathlib import Path

from jgo.maven import MavenContext

from app.services.jars import LOCK_FILE, sha256_of

# Kafka writes its log through SLF4J, and brings no binding that fits.
KAFKA = "org.apache.kafka:kafka_2.13:4.1.2"
BINDING = "org.slf4j:slf4j-simple:2.0.17"


def lock_text() -> str:
    """Resolve Kafka and all it needs to run, and give the text of the lock.

    Everything is downloaded into an empty cache, so that no damaged file of this machine gets locked.
    """
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch))
        named, needed = context.resolver.resolve([context.create_dependency(KAFKA), context.create_dependency(BINDING)])
        dependencies = [*named, *(dependency for dependency in needed if dependency.scope in {"compile", "runtime"})]
        artifacts = [dependency.artifact for dependency in dependencies]
        lines = sorted(
            f"{artifact.groupId}:{artifact.artifactId}:{artifact.version} {sha256_of(artifact.resolve())}"
            for artifact in artifacts
        )
    header = f"# {KAFKA} with {BINDING}. Written by `python -m app.services.lock`."
    return "\n".join([header, *lines]) + "\n"


if __name__ == "__main__":
    LOCK_FILE.write_text(lock_text())
