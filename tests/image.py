"""The Dockerfile's own steps, done in a folder in place of an image: there is no Docker here, and nothing may drift."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: An absolute path inside the image; what a URL has after its host is none.
_PATH = re.compile(r"(?<![\w.:/$}])/(?=[a-z])")


@dataclass
class Stage:
    """A stage of the build: its file system, in a folder, and what the image says of running it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def within(self, text: str) -> str:
        """Text whose absolute paths lead into the folder."""
        return _PATH.sub(f"{self.folder}/", text)

    def run(self, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a container of the image would."""
        return subprocess.run(
            [*self.as_user(), *arguments],
            cwd=self.within(self.workdir),
            env={**self.variables(), **environment},
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def as_user(self) -> list[str]:
        """What goes before a command, so that it runs as the image's user; nothing where we may not become another.

        It may read everything, for the interpreter may lie where only we can read, and write nothing of others.
        """
        if os.geteuid() != 0:
            return []
        user, _, group = self.user.partition(":")
        rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *rights]

    def variables(self) -> dict[str, str]:
        return {"PATH": os.defpath, **self.environment}


def build(folder: Path, dockerfile: Path = ROOT / "Dockerfile") -> Stage:
    """Do the steps of a Dockerfile, and give its last stage."""
    stages: dict[str, Stage] = {}
    stage = None
    for instruction, rest in _instructions(dockerfile.read_text()):
        if instruction == "FROM":
            _, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(folder / (name or "image"))
            stage.folder.mkdir(parents=True)
        elif instruction != "ARG":
            assert stage is not None, "a step before FROM"
            _step(stage, stages, instruction, rest)
    assert stage is not None
    return stage


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.splitlines()]


def _step(stage: Stage, stages: dict[str, Stage], instruction: str, rest: str) -> None:
    match instruction:
        case "RUN":
            # The build's Python is the one that runs this, as the base image's would.
            variables = os.environ | {"PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.defpath}"}
            subprocess.run(["sh", "-euc", stage.within(rest)], cwd=stage.folder, check=True, env=variables)
        case "COPY":
            _copy(stage, stages, rest)
        case "ENV":
            for assignment in shlex.split(rest):
                name, _, value = assignment.partition("=")
                stage.environment[name] = stage.within(value).replace("$PATH", os.defpath)
        case "WORKDIR" | "USER":
            setattr(stage, instruction.lower(), rest)
        case "ENTRYPOINT" | "CMD":
            setattr(stage, instruction.lower(), json.loads(rest))
        case "HEALTHCHECK":
            stage.healthcheck = json.loads(rest.partition("CMD ")[2])
        case "VOLUME" | "EXPOSE":
            pass
        case _:
            raise AssertionError(f"{instruction}: this script does not know what it does")


def _copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    *options, source, target = shlex.split(rest)
    origin = ROOT
    for option in options:
        name, _, value = option.partition("=")
        assert name == "--from", option
        origin = stages[value].folder
    found, place = origin / source.lstrip("/"), stage.folder / target.lstrip("/")
    if found.is_dir():
        shutil.copytree(
            found, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__") if origin == ROOT else None
        )
    else:
        (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy2(found, place)
