"""Values between samples that lie anywhere in time, as weighted sums of the samples around.

A place is told by the share ``u`` of the way from the sample before it to the one after it; the others are taken as if
they lay as far apart as these two.
"""

from __future__ import annotations

import math
from typing import Literal

from app.dsp.stage import Floats

Method = Literal["linear", "cubic", "sinc"]

REACH: dict[Method, int] = {"linear": 1, "cubic": 2, "sinc": 4}
"""Samples that are used on either side of a place."""


def weights(method: Method, u: Floats) -> list[Floats]:
    """Weights of the samples around, the oldest first.

    Only additions and products go into them, which give the same bits wherever a value lies in an array.

    Parameters
    ----------
    method
        Of interpolation.
    u
        (n,) shares, 0 to 1. Where it is 1 the sample after the place has all the weight, exactly.

    Returns
    -------
    ``2 * REACH[method]`` arrays (n,).
    """
    if method == "linear":
        return [1 - u, u]
    if method == "cubic":
        return [
            ((2 - u) * u - 1) * u / 2,
            ((3 * u - 5) * u * u + 2) / 2,
            ((4 - 3 * u) * u + 1) * u / 2,
            (u - 1) * u * u / 2,
        ]
    return _sinc(u)


def _sinc(u: Floats) -> list[Floats]:
    """Hamming-weighted sinc over eight samples, made to add up to 1.

    ``sin(pi * (u - j))`` is ``sin(pi * u)`` but for its sign, and falls out as the sum is made 1; times ``u * (1 - u)``
    what is left has no pole.
    """
    cosine, sine = _turn(u)
    both = u * (1 - u)
    found = []
    for j in range(-3, 5):
        # Cosine of the angle of u, less that of j.
        turned = cosine * math.cos(math.pi * j / 4) + sine * math.sin(math.pi * j / 4)
        kernel = 1 - u if j == 0 else u if j == 1 else (-1) ** j * both / (u - j)
        found.append((0.54 + 0.46 * turned) * kernel)
    total = sum(found[1:], found[0])
    return [own / total for own in found]


def _turn(u: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of ``pi * u / 4`` by their series, to the last bits for u from 0 to 1."""
    angle = u * (math.pi / 4)
    square = angle * angle
    cosine, sine = square * 0, square * 0
    for n in range(9, 0, -1):
        cosine = (1 + cosine) * -square / ((2 * n - 1) * (2 * n))
        sine = (1 + sine) * -square / (2 * n * (2 * n + 1))
    return 1 + cosine, angle * (1 + sine)
