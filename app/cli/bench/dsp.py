"""`continuum bench dsp` and `stages`: the engine on every shipped pipeline, and single stages."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bench.conditions import conditions
from app.bench.pipelines import BLOCK, PUBLISHED, measure_pipelines, numba_in_force
from app.bench.result import SuiteResult
from app.bench.stage_speeds import save_speeds
from app.bench.stages import measure_stages, stage_speeds
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.output import JsonOption, note
from app.dsp.stages import STAGES
from app.errors import ContinuumError
from app.memory import collect_less_often, keep_freed_memory


def dsp(
    *,
    repeats: RepeatsOption = 7,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure the engine alone on every shipped pipeline, beside scipy's bare `sosfilt`, and then every stage."""
    report = Report(as_json, plot, save, baseline)
    report.check("dsp")
    # As a worker does.
    keep_freed_memory()
    collect_less_often()
    result = SuiteResult.begin("dsp", conditions())
    result.conditions.remarks |= {
        "numba in force": numba_in_force(),
        "pipelines": f"blocks of {BLOCK} samples a channel, one a sensor in a batch",
        "dspx": PUBLISHED,
    }
    measure_pipelines(repeats, result, note)
    measure_stages(_ours(), repeats, result, note)
    report.show(result)


def stages(
    *,
    stage: Annotated[list[str] | None, typer.Option(help="Only these; else all.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(help="Passes over all stages.", min=1)] = 9,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures beside the code, for the manual.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure each stage with its first example, on batches as the engine hands them out."""
    if stage and save:
        raise ContinuumError("--save keeps the figures of all stages: leave out --stage")
    for kind in stage or ():
        if kind not in STAGES:
            raise ContinuumError(f"stage {kind!r}: expected one of {', '.join(sorted(STAGES))}")
    result = SuiteResult.begin("stages", conditions())
    measured = measure_stages(stage or _ours(), repeats, result, note)
    if save:
        note(f"saved to {save_speeds(stage_speeds(measured, result.conditions))}")
    Report(as_json).show(result)


def _ours() -> list[str]:
    return [kind for kind in STAGES if STAGES.is_ours(kind)]
