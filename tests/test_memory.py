"""Memory that a peak has left free goes back to the kernel, and what a batch takes does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PEAK = """
import os, sys
from app.memory import give_back_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

keep_freed_memory()
objects = [bytes(2600) for _ in range(int(sys.argv[1]) * 400)]  # 1 MiB
kept = objects[::50]  # between the others, so that the heap does not shrink
del objects
before = resident()
given_back = give_back_memory()
print(given_back, before, resident())
"""


def after_peak(megabytes: int) -> tuple[bool, int, int]:
    """Whether memory was given back after a peak, and what was resident before and after, MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(megabytes)], capture_output=True, text=True, check=True, timeout=60
    )
    given_back, before, after = done.stdout.split()
    return given_back == "True", int(before), int(after)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_what_a_peak_has_left_is_given_back():
    given_back, before, after = after_peak(200)
    assert given_back
    assert before > 200
    assert before - after > 100


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_what_a_batch_takes_is_kept():
    given_back, before, after = after_peak(40)
    assert not given_back
    assert after == pytest.approx(before, abs=1)
