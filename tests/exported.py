"""Exported deployments, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from app.deploy.export import Kind, deployment_files
from app.deploy.values import Deployment
from app.settings import TIERS, Settings, TierName

NOT_DEFAULT = {"app_id": "ward-7", "topic_prefix": "icu.", "shutdown_seconds": 31.5}


def exported(
    kind: Kind,
    workers: tuple[TierName, ...] = TIERS,
    functions: tuple[TierName, ...] = (),
    settings: Settings | None = None,
) -> dict[str, str]:
    """Text of each file of a deployment, by its path."""
    deployment = Deployment(settings or Settings(**NOT_DEFAULT), "registry.example/continuum:1", workers, functions)
    return deployment_files(kind, deployment)


def documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def written(folder: Path, files: dict[str, str]) -> list[Path]:
    paths = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths
