"""What commands that take a recording have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FileArgument = Annotated[Path | None, typer.Argument(help="WFDB record, EDF, BDF or CSV file.", show_default=False)]
ChannelOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of a channel, or its number from 0; once for each channel of the pipeline. Else the first.",
        show_default=False,
    ),
]
RateOption = Annotated[
    float | None, typer.Option(help="Sampling rate of a CSV file without times, Hz.", show_default=False)
]
ResampleOption = Annotated[
    float | None, typer.Option(help="Change the sampling rate to this before, Hz.", show_default=False)
]
