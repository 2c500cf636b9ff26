"""WFDB records, as PhysioNet publishes them."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import numpy as np

from app.sources.extra import imported
from app.sources.recording import Recording, RecordingError


def read_wfdb(header: Path) -> Recording:
    """Read a single- or multi-segment record in physical units.

    A signal with several samples a frame is averaged to the frame rate. Between segments, and where a segment
    lacks a signal, samples are NaN.

    Parameters
    ----------
    header
        The record's `.hea` file.

    Raises
    ------
    RecordingError
        The header or a file it names is missing or broken.
    """
    wfdb = imported("wfdb")
    try:
        record = wfdb.rdrecord(str(header.with_suffix("").absolute()))
    except FileNotFoundError as error:
        raise RecordingError(
            f"{header} names a file that is not there: {error.filename}; put all files of the record into one folder"
        ) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError) as error:
        # The package has no error class of its own for a broken header or signal file.
        raise RecordingError(f"{header} is not a readable WFDB record ({error}); fetch its files again") from error
    if record.p_signal is None or record.sig_len == 0:
        raise RecordingError(f"{header} has no signals; expected a record with at least one, not annotations alone")
    start = record.base_datetime
    return Recording(
        name=header.stem,
        sample_rate=float(record.fs),
        # A header may leave a signal without a name.
        channels=tuple(name or str(number) for number, name in enumerate(record.sig_name)),
        signals=np.ascontiguousarray(record.p_signal.T, dtype=np.float64),
        start=start and start.replace(tzinfo=UTC),
    )
