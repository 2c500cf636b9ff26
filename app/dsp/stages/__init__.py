"""The registry of stages: the ``type`` a pipeline writes, and the module that defines it."""

from __future__ import annotations

from app.dsp.stage import Stage
from app.dsp.stages import butterworth, hjorth, moving_rms

STAGES: dict[str, Stage] = {
    "butterworth": butterworth.STAGE,
    "moving_rms": moving_rms.STAGE,
    "hjorth": hjorth.STAGE,
}
