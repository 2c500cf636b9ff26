"""Whitened channels: ``y = M (x - mean)``, which have a variance of 1 and no correlation.

`app.dsp.trainers.whitening` fits mean and matrix: the zero-phase one (ZCA), by which y is as near x as it can be
(Bell & Sejnowski, *Vision Research* 37, 1997).
"""

from __future__ import annotations

from app.dsp.stages.spatial._projection import projection

STAGE = projection(
    {"matrix": ((1.5, -0.4), (-0.4, 2.5)), "mean": (0.1, 0.2)},
    {"matrix": ((4.0,),)},
)
