"""The manual's table of stages: made from the registry and from the speeds that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.bench.stage_speeds import StageSpeeds
from app.dsp.stages import STAGES
from app.errors import ContinuumError
from app.pipelines.stage_list import StageShown, written

BEGIN = "<!-- stages: continuum pipelines list --stages --markdown --into README.md -->"
END = "<!-- end of stages -->"


class MarksError(ContinuumError):
    """A file has no place for the table."""


def stages_table(stages: Sequence[StageShown], speeds: StageSpeeds) -> str:
    """Write our stages as a Markdown table; its last column has the speeds, as far as measured."""
    lines = [
        "| family | stage | parameters | state, bytes | checked against | Msamples/s |",
        "|---|---|---|---:|---|---:|",
    ]
    for stage in stages:
        if not STAGES.is_ours(stage.type):
            continue
        speed = speeds.stages.get(stage.type)
        cells = [
            stage.family,
            f"`{stage.type}`",
            ", ".join(_parameters(stage)),
            "" if stage.state_bytes is None else f"{stage.state_bytes:,}",
            stage.oracle,
            "" if speed is None else rounded(speed.median),
        ]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    given = speeds.conditions
    speeds_line = "No speeds have been measured."
    if given:
        about = "; ".join(given[name] for name in ("batch", "cpu", "libraries"))
        speeds_line = f"Speeds: medians of {given['passes']} passes; {about}."
    return "\n".join([*lines, "", speeds_line]) + "\n"


def _parameters(stage: StageShown) -> list[str]:
    return [
        f"`{own.name}`{'' if own.required else ' (optional)'}"
        if own.default is None
        else f"`{own.name} = {written(own.default)}`"
        for own in stage.parameters
    ]


def rounded(value: float) -> str:
    """Write a figure with two or three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def put_between_marks(path: Path, table: str) -> None:
    """Put the table into a file, in the place of the one between the marks.

    Raises
    ------
    MarksError
        It cannot be read or written, or the marks are not in it, once each and in order.
    """
    try:
        text = path.read_text(encoding="utf-8")
        before, _, rest = text.partition(f"{BEGIN}\n")
        _, _, after = rest.partition(END)
        if text.count(BEGIN) != 1 or text.count(END) != 1 or not rest or END not in rest:
            raise MarksError(f"{path}: expected the line {BEGIN!r}, and after it the line {END!r}")
        path.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MarksError(f"{path} cannot be read or written ({error}); give another --into") from None
