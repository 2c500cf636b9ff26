"""Continuum: stateful DSP over sensor streams, with every sensor's state kept continuous.

Importing this package loads neither Faust nor the web stack, so that ``import app.dsp`` stays cheap in a
cold function. The Faust application is the attribute ``app`` (``faust -A app worker``), made on first use.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

    app: ContinuumApp


def __getattr__(name: str) -> object:
    if name == "app":
        gc.set_threshold(50_000)  # what is loaded now stays: looking through it took 0.2 s of a worker's start
        from app.faust_app import command_line_app  # noqa: PLC0415 - the point of the lazy attribute

        value = command_line_app()
        globals()["app"] = value
        value.import_agents()  # they in turn take this attribute, so it must be there
        return value
    raise AttributeError(f"module 'app' has no attribute {name!r}")
