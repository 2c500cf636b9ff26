"""How `continuum pipelines` prints for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Column, Table

from app.cli.output import note, out
from app.pipelines.check import FileChecked
from app.pipelines.describe import NodeShown, PipelineShown
from app.pipelines.response import Response
from app.pipelines.stage_check import StageChecked
from app.pipelines.stage_list import StageShown, written


def print_pipelines(shown: Iterable[PipelineShown]) -> None:
    """Print a row for each pipeline."""
    table = Table(
        _whole("pipeline"), _right("Hz"), _right("channels"), "stages", "features", _right("snapshot, bytes"), ""
    )
    for own in shown:
        table.add_row(
            own.name,
            f"{own.sample_rate:g}",
            str(own.channels),
            ", ".join(node.name for node in own.nodes),
            ", ".join(feature.name for feature in own.features),
            f"{own.snapshot_bytes:,}",
            own.origin,
        )
    out.print(table)


def print_stages(shown: Sequence[StageShown]) -> None:
    """Print a row for each stage, family by family."""
    table = Table(_whole("stage"), "what it computes, and what that is checked against", "parameters", show_lines=True)
    for stage in shown:
        table.add_row(*_stage_row(stage))
    out.print(table)
    note(f"{len(shown)} stages; bytes are of a sensor's state, with the stage's first example")


def _stage_row(stage: StageShown) -> list[str]:
    name = f"[bold]{escape(stage.type)}[/]\n{escape(stage.family)}"
    if stage.fault is not None:
        return [name, f"[red]{escape(stage.fault)}[/]", ""]
    parameters = [
        f"{own.name}: {own.type}" + ("" if own.required else f" = {written(own.default) or 'left out'}")
        for own in stage.parameters
    ]
    return [
        f"{name}, {stage.kind}\n{stage.state_bytes:,} bytes",
        escape(f"{stage.summary.replace('``', '')}\nAgainst: {stage.oracle}."),
        escape("\n".join(parameters)),
    ]


def print_pipeline(shown: PipelineShown) -> None:
    """Print all of a pipeline."""
    settle = "never"
    if shown.settle_samples is not None:
        settle = f"{shown.settle_samples:,} samples, {shown.settle_seconds:.4g} s"
    state = sum(own.state_bytes for own in shown.nodes)
    gap = shown.gap if shown.gap == "reset" else f"{shown.gap}, up to {shown.max_gap:g} s"
    about = {
        "pipeline": f"{shown.name} ({shown.origin})",
        "takes": f"{shown.channels} channel(s) at {shown.sample_rate:g} Hz",
        "gaps": gap,
        "not finite": shown.non_finite,
        "settles after": settle,
        "snapshot": f"{shown.snapshot_bytes:,} bytes a sensor, of which state {state:,}",
        "fingerprint": shown.fingerprint,
    }
    for key, value in about.items():
        out.print(f"{key}: {value}", markup=False, soft_wrap=True)
    nodes = Table(
        _whole("node"),
        _whole("stage"),
        "input",
        "gives",
        "parameters",
        _right("state, bytes"),
        _right("settles, samples"),
    )
    for node in shown.nodes:
        nodes.add_row(
            escape(node.name),
            node.type,
            escape(f"{node.input}: {node.channels} x {node.sample_rate:g} Hz"),
            escape(_gives(node)),
            escape("\n".join(_parameter(node, own) for own in node.parameters)),
            f"{node.state_bytes:,}",
            "never" if node.settle_samples is None else f"{node.settle_samples:,}",
        )
    out.print(nodes)
    features = Table(_whole("feature"), "of", "take", "fields of the record")
    for feature in shown.features:
        fields = [name if width == 1 else f"{name} ({width} values)" for name, width in feature.fields.items()]
        features.add_row(feature.name, escape(feature.of), feature.take, ", ".join(fields))
    out.print(features)


def _gives(node: NodeShown) -> str:
    outputs = ", ".join(node.outputs)
    if node.gives_sample_rate is None:
        return f"a measure: {outputs}" + (f" of {node.gives_channels} channels" if node.gives_channels > 1 else "")
    series = f"{node.gives_channels} x {node.gives_sample_rate:g} Hz"
    hop = f", one in {node.hop}" if node.hop else ""
    return f"{series}{hop}" + (f": {outputs}" if outputs else "")


def _parameter(node: NodeShown, name: str) -> str:
    lasts = f" ({node.milliseconds[name]:g} ms)" if name in node.milliseconds else ""
    return f"{name} = {written(node.parameters[name]) or 'left out'}{lasts}"


def print_files(checked: Sequence[FileChecked]) -> None:
    """Print what is wrong with files."""
    for file in checked:
        for error in file.errors:
            out.print(error, markup=False, soft_wrap=True)
    wrong = sum(bool(file.errors) for file in checked)
    note(f"{len(checked)} file(s) checked, {wrong or 'none'} wrong")


def print_checked(result: StageChecked) -> None:
    """Print how a stage did."""
    table = Table("check", _right("made"), _right("failed"), title=result.stage, title_justify="left")
    for name, count in result.counts.items():
        table.add_row(name, f"{count.made:,}", f"[red]{count.failed:,}[/]" if count.failed else "0")
    out.print(table)
    for fault in result.faults:
        where = f" [{fault.on}]" if fault.on else ""
        out.print(f"{result.stage}: {fault.check}{where}: {fault.text}", markup=False, soft_wrap=True)
    made = sum(count.made for count in result.counts.values())
    out.print(f"{result.stage}: {made:,} checks, {len(result.faults) or 'none'} failed")


def print_responses(shown: Iterable[Response]) -> None:
    """Print in words what a drawing shows."""
    for response in shown:
        for line in _response_lines(response):
            out.print(f"{response.node}: {line}", markup=False, soft_wrap=True)


def _response_lines(response: Response) -> list[str]:
    if response.fault:
        return [response.fault]
    lines = []
    for curve in response.curves:
        edges = ", ".join(f"{edge:.4g}" for edge in curve.edges)
        of = f"channels {curve.label}: " if curve.label else ""
        cut = "; cut, as it has not died away" if curve.is_cut else ""
        lines.append(
            f"{of}at most {round(curve.decibels.max(), 1) + 0.0:.1f} dB; "
            + (f"-3 dB at {edges} Hz" if edges else "flat")
            + cut
        )
    if response.left_out:
        lines.append(f"{response.left_out} more curves are left out")
    return lines


def _right(header: str) -> Column:
    return Column(header, justify="right")


def _whole(header: str) -> Column:
    """Of names, which are looked for and copied."""
    return Column(header, no_wrap=True)
