"""Independent components of a frame of channels: ``y = M (x - mean)``, M the unmixing matrix.

Where x = A s + mean with independent sources s, of which at most one is Gaussian, M is the inverse of A but for the
sources' order, sign and scale: they come out with a variance of 1 (Hyvärinen & Oja, *Neural Networks* 13, 2000).
`app.dsp.trainers.ica` fits mean and matrix.
"""

from __future__ import annotations

from app.dsp.stages.spatial._projection import projection

STAGE = projection(
    {"matrix": ((2.0, -1.0, 0.5), (0.25, 1.5, -1.0), (-0.5, 0.1, 3.0)), "mean": (0.3, 0.0, -1.5)},
    {"matrix": ((1.2, -0.7), (0.4, 2.1))},
)
