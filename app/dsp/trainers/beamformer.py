"""Fit `gsc`: weights for a beam into a direction at one frequency, and what blocks it.

A plane wave of frequency f from direction u reaches the sensor at p earlier than the array's middle by ``t = p u /
speed``. So a sensor has ``cos(2 pi f t) c - sin(2 pi f t) s`` of what would be c in the middle, s a quarter of a period
later: a frame is ``A [c, s]`` with two columns. The beam is of the least weights with ``w A = [1, 0]``,
``w = [1, 0] (A'A)**-1 A'``: it gives a wave from there as it is in the middle, and passes the least of noise that the
sensors do not share (Van Trees, *Optimum Array Processing*, 2002, 6.2; with real weights, as a stage's samples are
real). It is ``1 / channels`` for a wave that reaches all sensors at once, and ``cos(2 pi f t)`` over the sum of its
squares for an array that is the same on either side of its middle. The blocking rows are an orthonormal basis of all
weights with ``b A = 0``, by the QR factorisation of A.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from app.dsp.stage import Floats
from app.dsp.stages.spatial.gsc import Params

SPEED_OF_SOUND = 343.0
"""In air at 20 °C, m/s."""


def train(
    positions: ArrayLike,
    frequency: float,
    azimuth: float,
    elevation: float = 0.0,
    speed: float = SPEED_OF_SOUND,
) -> Params:
    """Compute the steering weights and the blocking matrix.

    Parameters
    ----------
    positions
        (channels, 2) or (channels, 3) metres: where the sensors are.
    frequency
        Hz, of the band's middle.
    azimuth, elevation
        Degrees: direction that the wave comes from; azimuth from the x axis towards y, elevation from that plane
        towards z. For sensors on the x axis an azimuth of 90 is broadside, from where a wave reaches all at once.
    speed
        m/s, of the wave.

    Raises
    ------
    ValueError
        A parameter is out of range; the array is blind in that direction at that frequency; or there are too few
        sensors to block it.
    """
    columns = response(positions, frequency, azimuth, elevation, speed)
    channels = len(columns)
    least = 1e-9 * math.sqrt(channels)
    # One column where a wave reaches all at once, as sensors have nothing of it a quarter of a period later.
    independent = int(np.count_nonzero(np.linalg.svd(columns, compute_uv=False) > least))
    if independent == 1 and np.linalg.norm(columns[:, 1]) > least:
        raise ValueError(
            f"azimuth = {azimuth}, elevation = {elevation}: the array cannot tell a wave's phase there at"
            f" {frequency} Hz; add sensors, or change their distances"
        )
    if channels <= independent:
        raise ValueError(f"{channels} sensors: expected at least {independent + 1}, for one that blocks the direction")
    steering = np.linalg.pinv(columns[:, :independent])[0]
    blocking = np.linalg.qr(columns[:, :independent], mode="complete")[0].T[independent:]
    return Params(tuple(steering.tolist()), tuple(map(tuple, blocking.tolist())))


def response(
    positions: ArrayLike,
    frequency: float,
    azimuth: float,
    elevation: float = 0.0,
    speed: float = SPEED_OF_SOUND,
) -> Floats:
    """Give A, (channels, 2): what sensors have of a wave as it is in the array's middle, and a quarter period later.

    Parameters are as those of `train`, whose ValueError for one out of range it raises.
    """
    places = np.asarray(positions, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] not in (2, 3) or not np.isfinite(places).all():
        raise ValueError(f"positions of shape {places.shape}: expected (channels, 2) or (channels, 3) finite metres")
    for name, value in (("frequency", frequency), ("speed", speed)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value}: expected above 0")
    for name, value in (("azimuth", azimuth), ("elevation", elevation)):
        if not math.isfinite(value):
            raise ValueError(f"{name} = {value}: expected degrees")
    east, up = math.radians(azimuth), math.radians(elevation)
    towards = np.array([math.cos(up) * math.cos(east), math.cos(up) * math.sin(east), math.sin(up)])
    around = places - places.mean(axis=0)
    angle = 2 * math.pi * frequency / speed * (around @ towards[: places.shape[1]])
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1)
