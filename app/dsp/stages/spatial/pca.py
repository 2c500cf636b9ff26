"""Principal components of a frame of channels: ``y = M (x - mean)``, the rows of M the axes of the greatest variance.

(Pearson, *Phil. Mag.* 2, 1901; Jolliffe, *Principal Component Analysis*, 2002.) `app.dsp.trainers.pca` fits mean and
matrix; the axes are orthonormal, the one of the greatest variance first.
"""

from __future__ import annotations

from app.dsp.stages.spatial._projection import projection

STAGE = projection(
    {"matrix": ((0.6, 0.8), (-0.8, 0.6)), "mean": (0.1, -0.2)},
    {"matrix": ((0.5, 0.5, -0.5, 0.5), (0.7, -0.1, 0.7, 0.1))},
)
