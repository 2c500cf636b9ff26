"""Which reader a file needs, told by what the file is."""

from __future__ import annotations

from pathlib import Path

from app.sources.csv_reader import read_csv
from app.sources.edf_reader import SIGNATURES, read_edf
from app.sources.recording import Recording, RecordingError
from app.sources.wfdb_reader import read_wfdb

_CSV_ENDINGS = {".csv", ".tsv", ".txt"}


def read_recording(path: Path, *, sample_rate: float | None = None, channel: str | int | None = None) -> Recording:
    """Read a recording from a WFDB record, an EDF or BDF file, or a CSV file.

    Parameters
    ----------
    path
        A WFDB record's `.hea` or `.dat` file or its bare name; an EDF or BDF file; a `.csv`, `.tsv` or `.txt` file.
    sample_rate
        Hz, for a CSV file without a time column. The other formats say it themselves: `resampled` changes it.
    channel
        Name or number (from 0) of a channel: the recording then holds this one alone. An EDF file with signals of
        several rates can be read only so.

    Raises
    ------
    RecordingError
        There is no such file, it is of no known kind, it is broken, or it has no such channel.
    """
    header = _wfdb_header(path)
    if header is not None:
        return _only(read_wfdb(header), channel)
    if not path.is_file():
        raise RecordingError(f"{path} is not there; expected a WFDB record, an EDF or BDF file, or a CSV file")
    with path.open("rb") as file:
        beginning = file.read(8)
    if beginning in SIGNATURES:
        return read_edf(path, channel)
    if path.suffix.lower() in _CSV_ENDINGS:
        return _only(read_csv(path, sample_rate), channel)
    raise RecordingError(
        f"{path} is not a recording that can be read; expected a WFDB record (.hea), an EDF or BDF file,"
        f" or CSV ({', '.join(sorted(_CSV_ENDINGS))})"
    )


def _wfdb_header(path: Path) -> Path | None:
    """Find the header of the WFDB record that `path` means, if it means one."""
    if path.suffix == ".hea" and path.is_file():
        return path
    if path.suffix == ".dat":
        header = path.with_suffix(".hea")
        if path.is_file() and not header.is_file():
            raise RecordingError(f"{path} has no {header.name} beside it; give the record's .hea file")
    else:
        header = Path(f"{path}.hea")
    return header if header.is_file() else None


def _only(recording: Recording, channel: str | int | None) -> Recording:
    return recording if channel is None else recording.only(channel)
