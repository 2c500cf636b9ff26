"""What the built-in recordings are to each tier: signals that fit its own pipeline, in blocks of a usual length."""

from __future__ import annotations

from app.dsp.stage import Signal
from app.pipelines import shipped_pipelines
from app.replay.plan import Encoding, Plan, plan_replay
from app.settings import TierName
from app.sources import Recording, builtin_ecg, builtin_movement, builtin_reports
from app.tiers import TIER_DEFAULTS

_AXES = 3
_SLOW, _FAST = 1.0, 100.0
_ECG_BLOCK = 256


def builtin_recording(signal: Signal) -> Recording:
    """Give the built-in recording for a pipeline's kind of signal: movement for three axes, reports, else ECG."""
    if signal.channels == _AXES:
        return builtin_movement()
    return builtin_reports() if signal.sample_rate < _SLOW else builtin_ecg()


def usual_block(signal: Signal) -> int:
    """Give how many samples a block usually has: about a second's, and at least one."""
    return _ECG_BLOCK if signal.sample_rate >= _FAST else max(1, round(signal.sample_rate))


def plan_builtin(
    tier: TierName,
    *,
    sensors: int = 1,
    name: str | None = None,
    seconds: float | None = None,
    encoding: Encoding = "json",
) -> Plan:
    """Plan the replay of the built-in recording that fits a tier's own pipeline, which the blocks leave to the tier.

    Parameters
    ----------
    tier
        Where the sensors send to.
    sensors, name, seconds, encoding
        As for `plan_replay`.

    Raises
    ------
    ReplayError
        A value is out of its range.
    """
    signal = shipped_pipelines()[TIER_DEFAULTS[tier].pipeline].signal
    return plan_replay(
        builtin_recording(signal),
        channels=range(signal.channels),
        sensors=sensors,
        name=name,
        seconds=seconds,
        block=usual_block(signal),
        encoding=encoding,
    )
