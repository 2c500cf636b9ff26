"""Writing the files of a deployment."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from app.deploy.dashboard import dashboard
from app.deploy.render import render
from app.deploy.values import DeployError, Deployment

TEMPLATES = Path(__file__).parent / "templates"
DASHBOARD = "grafana/dashboards/continuum.json"


class Kind(StrEnum):
    """Where a deployment runs."""

    COMPOSE = "compose"
    AWS = "aws"
    K8S = "k8s"
    GRAFANA = "grafana"


def deployment_files(kind: Kind, deployment: Deployment) -> dict[str, str]:
    """Give the text of each file by its path."""
    folders = {Kind.COMPOSE: ("compose", "grafana")}.get(kind, (kind.value,))
    files = {}
    for folder in folders:
        for template in sorted((TEMPLATES / folder).rglob("*")):
            if template.is_file():
                text = render(template.read_text(), deployment.values, deployment.blocks)
                files[template.relative_to(TEMPLATES / folder).as_posix()] = text
    if "grafana" in folders:
        files[DASHBOARD] = msgspec.json.format(msgspec.json.encode(dashboard()), indent=2).decode() + "\n"
    return files


def write_files(folder: Path, files: dict[str, str], *, force: bool) -> list[Path]:
    """Write files, all or, where one is in the way, none, and give their paths.

    Raises
    ------
    DeployError
        One exists with another text and `force` is not set, or the folder cannot be written.
    """
    paths = {folder / name: text for name, text in files.items()}
    try:
        taken = [str(path) for path, text in paths.items() if path.exists() and path.read_text() != text]
        if taken and not force:
            raise DeployError(
                f"{', '.join(taken)}: there with another text; choose another folder, or overwrite with --force"
            )
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{folder} cannot be written ({error}): choose another folder") from None
    return list(paths)
