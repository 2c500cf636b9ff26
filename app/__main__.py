"""`python -m app`: the `continuum` command where it is not installed, as in the image."""

from __future__ import annotations

from app.cli import main

main()
