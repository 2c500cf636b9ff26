"""Kafka's jars: which ones (`kafka.lock`), fetched by PyPI's `jgo` into the Maven cache, each verified.

The lock names every jar with its SHA-256, so that a first start fetches exactly these, several at a time,
without resolving dependencies, and every start runs exactly what was locked. `python -m app.services.lock`
writes it anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from app.services.errors import ServiceError, missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jgo.maven import Artifact, MavenContext

LOCK_FILE = Path(__file__).with_name("kafka.lock")

_DOWNLOADS = 8
_ATTEMPTS = 3


class Jar(NamedTuple):
    """One locked jar: its Maven coordinates and the SHA-256 of its bytes, in hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def read_lock(text: str) -> list[Jar]:
    """Parse a lock: a line `group:artifact:version sha256` for each jar; `#` begins a comment line."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    jars = []
    for line in lines:
        coordinates, sha256 = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def maven() -> MavenContext:
    """Give access to the Maven cache of this user (M2_REPO, else ~/.m2/repository) and what fills it."""
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - only the `embedded` extra has it
    except ImportError:
        raise missing_package("jgo") from None
    return MavenContext()


def fetch(jars: Sequence[Jar], context: MavenContext, progress: Callable[[str], None]) -> list[Path]:
    """Give the paths of the jars, each verified; what the cache lacks is downloaded into it.

    Parameters
    ----------
    jars
        What is wanted.
    context
        The cache, and the repositories it is filled from.
    progress
        Told of downloads.

    Returns
    -------
    list of Path
        In the order of `jars`.

    Raises
    ------
    ServiceError
        A jar cannot be downloaded, or what was downloaded is not what was locked.
    """
    try:
        return _fetch(jars, context, progress)
    # What the repositories do not have is jgo's RuntimeError; errors of network and disk are OSErrors.
    except (OSError, RuntimeError) as error:
        raise ServiceError(
            f"cannot fetch Kafka's jars into {context.repo_cache} ({error}): the first start needs Maven Central once;"
            " check the network, a proxy (HTTPS_PROXY) and the free space there, or copy that folder from a machine"
            " that has it, or name a Kafka of your own in CONTINUUM_KAFKA_BOOTSTRAP"
        ) from error


def _fetch(jars: Sequence[Jar], context: MavenContext, progress: Callable[[str], None]) -> list[Path]:
    paths = [_cache_path(jar, context) for jar in jars]
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        intact = pool.map(_is_intact, jars, paths)
        missing = [(jar, path) for jar, path, good in zip(jars, paths, intact, strict=True) if not good]
        for jar, path in missing:
            if path.exists():
                progress(f"{path} does not match the SHA-256 of {jar} in {LOCK_FILE.name}: fetching it anew")
        downloads = [pool.submit(_download, jar, path, context) for jar, path in missing]
        try:
            for done, download in enumerate(as_completed(downloads), 1):
                download.result()
                if done % 10 == 0 or done == len(missing):
                    progress(f"fetched {done} of {len(missing)} jars")
        finally:
            pool.shutdown(cancel_futures=True)
    return paths


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _artifact(jar: Jar, context: MavenContext) -> Artifact:
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact()


def _cache_path(jar: Jar, context: MavenContext) -> Path:
    artifact = _artifact(jar, context)
    return context.repo_cache / artifact.component.path_prefix / artifact.cached_filename


def _is_intact(jar: Jar, path: Path) -> bool:
    return path.exists() and sha256_of(path) == jar.sha256


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_attempt(_ATTEMPTS), wait=wait_fixed(1.0), reraise=True)
def _download(jar: Jar, path: Path, context: MavenContext) -> None:
    """Download one jar beside its place in the cache, verify it, and only then put it there."""
    context.repo_cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".continuum-", dir=context.repo_cache) as scratch:
        aside = maven()
        aside.repo_cache = Path(scratch)
        aside.remote_repos = context.remote_repos
        fetched = _artifact(jar, aside).resolve()
        if (found := sha256_of(fetched)) != jar.sha256:
            raise ServiceError(
                f"the download of {jar} has SHA-256 {found}, but {LOCK_FILE.name} has {jar.sha256}: it was changed on"
                " its way or at its source, and is not used; try another network, and tell us if it stays so"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(path)
