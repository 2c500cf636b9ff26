"""Common spatial patterns: ``y = M (x - mean)``, whose variances tell two conditions apart.

Each row of M is a filter for whose output the share of one condition in the variance is the greatest or the least
(Koles, 1991; Ramoser, Müller-Gerking & Pfurtscheller, *IEEE Trans. Rehab. Eng.* 8, 2000). The features of a classifier
are the logarithms of the outputs' variances: put a moving variance behind it. `app.dsp.trainers.csp` fits the matrix,
for signals that a band-pass has left without a mean.
"""

from __future__ import annotations

from app.dsp.stages.spatial._projection import projection

STAGE = projection(
    {"matrix": ((0.9, -0.3, 0.2), (0.1, 0.4, -1.1))},
    {"matrix": ((1.0, -1.0),), "mean": (0.5, 0.25)},
)
