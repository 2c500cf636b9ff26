"""The packages that read recordings, which only the extra `recordings` installs."""

from __future__ import annotations

import importlib
from typing import Any

from app.sources.recording import RecordingError


def imported(package: str) -> Any:
    """Import a package of the extra `recordings`.

    Raises
    ------
    RecordingError
        It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise RecordingError(
            f"the package {error.name!r} is missing; install the extra that has it: pip install 'continuum[recordings]'"
        ) from error
