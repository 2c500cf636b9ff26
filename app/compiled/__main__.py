"""Compile the express lane now, so that no worker has to: `python -m app.compiled`."""

from __future__ import annotations

import pkgutil
import sys
import time
from importlib import import_module

from app import compiled
from app.dsp.fused import load_kernel


def main() -> None:
    """Compile what is not in numba's cache."""
    if not compiled.AVAILABLE:
        sys.stdout.write("numba is not installed: nothing to compile\n")
        return
    begin = time.monotonic()
    load_kernel()
    for module in pkgutil.iter_modules(compiled.__path__):
        if module.name != "__main__":
            import_module(f"app.compiled.{module.name}")
    sys.stdout.write(f"the express lane is compiled ({time.monotonic() - begin:.1f} s)\n")


if __name__ == "__main__":
    main()
