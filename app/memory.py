"""Freed memory is kept for the next array, what a peak leaves is given back, and cycles are looked for less often."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 64 << 20
_LARGEST_ON_HEAP = 32 << 20

#: Free memory that is kept in any case: what a batch takes, so that nothing is given back that the next one wants.
_FREE_KEPT = 64 << 20

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


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def give_back_memory() -> bool:
    """Give the kernel what lies free between what is in use, if it is more than 64 MiB; says whether it was.

    `keep_freed_memory` leaves the top of the heap alone, and glibc never gives back what lies below it: the states that
    wait for a slow Redis, say, some hundred megabytes, stay with the process for good once they are gone. Where 370 MB
    were free it took 50 ms of CPU, during which other threads wait that allocate more than small objects, and the pages
    cost 0.5 µs each when they are used again: call it now and then. Does nothing where the C library is another.
    """
    library = ctypes.CDLL(None)
    mallinfo, trim = getattr(library, "mallinfo2", None), getattr(library, "malloc_trim", None)
    if mallinfo is None or trim is None:
        return False
    mallinfo.restype = _Mallinfo
    if mallinfo().fordblks <= _FREE_KEPT:
        return False
    trim(_FREE_KEPT)
    return True


def collect_less_often() -> None:
    """Let the garbage collector pass over what has been loaded so far, and look at new objects in larger lots.

    A batch makes thousands of objects and no cycles: searching them took 7 % of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
