"""Memory that numpy frees is kept for its next array, and the garbage collector looks for cycles less often."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 64 << 20
_LARGEST_ON_HEAP = 32 << 20

#: Objects made before the youngest are searched; Python's 700 is a third of one batch of records.
_YOUNG_OBJECTS = 50_000


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory of up to 64 MiB.

    By default it gives blocks of 128 KiB and more back to the kernel at once, which then clears every page of the
    next one: the arrays of a batch took three times as long. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)


def collect_less_often() -> None:
    """Let the garbage collector pass over what has been loaded so far, and look at new objects in larger lots.

    A batch makes thousands of objects and no cycles: searching them took 7 % of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
