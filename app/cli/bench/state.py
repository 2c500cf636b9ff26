"""`continuum bench state`: what keeping a sensor's state costs, step by step."""

from __future__ import annotations

from app.bench.result import SuiteResult
from app.bench.state import measure_state
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note


def state(
    *,
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure snapshots, the table, RocksDB, the mirror and claims, for 1, 100 and 1,000 sensors at once.

    A Redis Cluster is measured where CONTINUUM_REDIS_URL names one.
    """

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        await measure_state(own, repeats, result, note)

    run_suite("state", Report(as_json, plot, save, baseline), measure)
