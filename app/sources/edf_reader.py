"""EDF, EDF+, BDF and BDF+ files."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import numpy as np

from app.sources.extra import imported
from app.sources.recording import Recording, RecordingError, channel_number

#: How a file begins: EDF's version field, and BDF's.
SIGNATURES = (b"0       ", b"\xffBIOSEMI")


def read_edf(path: Path, channel: str | int | None) -> Recording:
    """Read the signals in physical units, without the annotations.

    Parameters
    ----------
    path
        The file.
    channel
        Name or number of the one channel wanted; None for all, which must then have one rate.

    Raises
    ------
    RecordingError
        The file is broken, discontinuous, has no such channel, or signals of several rates and none chosen.
    """
    pyedflib = imported("pyedflib")
    try:
        reader = pyedflib.EdfReader(str(path))
    except OSError as error:
        raise RecordingError(
            f"{path} is not readable as EDF or BDF ({error}); expected a complete, continuous file"
        ) from error
    with reader:
        labels = tuple(label.strip() for label in reader.getSignalLabels())
        rates = [float(rate) for rate in reader.getSampleFrequencies()]
        wanted = _wanted(path, labels, rates, channel)
        return Recording(
            name=path.stem,
            sample_rate=rates[wanted[0]],
            channels=tuple(labels[number] for number in wanted),
            signals=np.stack([reader.readSignal(number) for number in wanted]),
            # The format has no time zone.
            start=reader.getStartdatetime().replace(tzinfo=UTC),
        )


def _wanted(path: Path, labels: tuple[str, ...], rates: list[float], channel: str | int | None) -> list[int]:
    if channel is not None:
        return [channel_number(path.name, labels, channel)]
    if not labels:
        raise RecordingError(f"{path} has no signals; expected at least one beside the annotations")
    if len(set(rates)) > 1:
        signals = enumerate(zip(labels, rates, strict=True))
        listed = ", ".join(f"{number} {label!r} {rate:g} Hz" for number, (label, rate) in signals)
        raise RecordingError(f"{path} has signals of several rates; choose one channel: {listed}")
    return list(range(len(labels)))
