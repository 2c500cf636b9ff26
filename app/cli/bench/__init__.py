"""`continuum bench`: measurements, with their conditions."""

from __future__ import annotations

import typer

from app.cli.bench import dsp, function, handoff, latency, recovery, scale, schema, state, throughput

bench = typer.Typer(help="Measure, with the conditions, the contenders in turn.", no_args_is_help=True)
for _command in (
    throughput.throughput,
    latency.latency,
    scale.scale,
    state.state,
    function.function,
    dsp.dsp,
    dsp.stages,
    recovery.recovery,
    handoff.handoff,
    schema.schema,
):
    bench.command()(_command)
