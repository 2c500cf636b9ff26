"""How every suite's result is printed, drawn, kept and compared: the options that all of them share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from app.bench.baseline import Comparison, compare
from app.bench.plot import check_plot, save_result_plot
from app.bench.result import Measurement, Ratio, ResultError, SuiteResult, read_result, save_result
from app.cli.output import note, out, print_json

RepeatsOption = Annotated[int, typer.Option(help="Runs of each contender, in turn.", min=1)]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw the result into this SVG file.", show_default=False)
]
SaveOption = Annotated[Path | None, typer.Option("--save", help="Keep the result in this file.", show_default=False)]
BaselineOption = Annotated[
    Path | None,
    typer.Option("--baseline", help="Compare with the result kept in this file.", show_default=False),
]


_NAME_COLUMNS = 28


class Report(NamedTuple):
    """What is to be done with a result.

    Parameters
    ----------
    as_json
        Print JSON.
    plot, save
        Files to write.
    baseline
        File to compare with.
    """

    as_json: bool = False
    plot: Path | None = None
    save: Path | None = None
    baseline: Path | None = None

    def check(self, suite: str) -> None:
        """See before a long measurement that all files can be used.

        Raises
        ------
        ResultError
            One cannot.
        """
        if self.plot is not None:
            check_plot(self.plot)
        if self.save is not None and not self.save.absolute().parent.is_dir():
            raise ResultError(
                f"--save {self.save}: the folder {self.save.parent} does not exist; make it, or name another"
            )
        if self.baseline is not None:
            kept = read_result(self.baseline)
            if kept.suite != suite:
                raise ResultError(f"--baseline {self.baseline} is of the suite {kept.suite}: expected one of {suite}")

    def show(self, result: SuiteResult) -> None:
        """Print, draw, keep and compare a result as asked; first it is kept, so that nothing after loses it."""
        baseline = None if self.baseline is None else read_result(self.baseline)
        if self.save is not None:
            save_result(result, self.save)
            note(f"saved to {self.save}")
        if self.plot is not None:
            save_result_plot(result, self.plot)
            note(f"drawn into {self.plot}")
        comparison = None if baseline is None else compare(result, baseline)
        if self.as_json:
            fields = msgspec.to_builtins(result)
            print_json(fields if comparison is None else fields | {"baseline": comparison})
            return
        for name, value in result.conditions.lines().items():
            out.print(f"{name}: {value}", markup=False)
        for own in _by_figures(result.measurements):
            out.print(_result_table(own, result))
        for capacity in result.capacity:
            users = capacity.users_per_vcpu
            out.print(
                f"{capacity.encoding}: {shown(users.median)} users a vCPU ({shown(users.min)} to {shown(users.max)}) at"
                f" {capacity.sample_rate:g} Hz, at a utilisation of {capacity.utilisation:g}"
            )
        if comparison is not None:
            _print_comparison(comparison)


def shown(value: float) -> str:
    """Give a figure with what digits it deserves."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _by_figures(measurements: Iterable[Measurement]) -> list[list[Measurement]]:
    """Gather measurements that have the same figures."""
    groups: dict[tuple[tuple[str, str], ...], list[Measurement]] = {}
    for own in measurements:
        groups.setdefault(tuple((name, figure.unit) for name, figure in own.figures.items()), []).append(own)
    return list(groups.values())


def _result_table(measurements: list[Measurement], result: SuiteResult) -> Table:
    """Give a table of measurements that have the same figures: of the first the spread, of the others the medians."""
    (first, main), *others = measurements[0].figures.items()
    details = list(dict.fromkeys(name for own in measurements for name in own.details))
    ratios: dict[tuple[str, str], dict[str, str]] = {own: {} for own in map(_name, measurements)}
    for ratio in result.ratios:
        if (ratio.case, ratio.contender) in ratios:
            text = f"{ratio.spread.median:.2f}"
            ratios[ratio.case, ratio.contender][_against(ratio, first)] = text
    against = list(dict.fromkeys(title for own in ratios.values() for title in own))
    table = Table()
    table.add_column(max_width=_NAME_COLUMNS)
    columns = [f"{first}, {main.unit}: min", "median", "max"]
    columns += [f"{name}, {figure.unit}" for name, figure in others]
    for name in (*columns, *details, *against):
        table.add_column(name, justify="right")
    case = ""
    for own in measurements:
        if own.case != case:
            case = own.case
            table.add_section()
            table.add_row(f"[bold]{escape(case)}[/]")
        spread = own.figures[first].spread
        cells = [own.contender, *(shown(value) for value in (spread.min, spread.median, spread.max))]
        cells += [shown(own.figures[name].spread.median) for name, _ in others]
        cells += [_detail(own.details.get(name, "")) for name in details]
        table.add_row(*cells, *(ratios[_name(own)].get(title, "") for title in against))
    return table


def _name(own: Measurement) -> tuple[str, str]:
    return own.case, own.contender


def _against(ratio: Ratio, first: str) -> str:
    """Title what a ratio is to: a contender, or the same one in another case."""
    to = ratio.to_case if ratio.to_contender == ratio.contender else ratio.to_contender
    return f"× {to}" if ratio.figure == first else f"× {to}: {ratio.figure}"


def _detail(value: str | float) -> str:
    return value if isinstance(value, str) else shown(value)


def _print_comparison(comparison: Comparison) -> None:
    out.print(f"beside the baseline of {comparison.measured_at}, commit {comparison.commit}:", markup=False)
    for difference in comparison.differences:
        out.print(f"other conditions: {difference}", markup=False)
    table = Table("case", "contender", "figure")
    for name in ("then", "now", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("")
    for change in comparison.changes:
        table.add_row(
            change.case,
            change.contender,
            f"{change.figure}, {change.unit}",
            shown(change.then.median),
            shown(change.now.median),
            f"{change.ratio:.2f}",
            change.verdict,
        )
    out.print(table)
    for label in comparison.missing:
        out.print(f"only in the baseline: {label}", markup=False)
