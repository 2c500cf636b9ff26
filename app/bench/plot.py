"""A result drawn as SVG: of each figure the median as a bar, and from minimum to maximum a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.bench.result import Measurement, ResultError, SuiteResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _BAR = "#222222", "#888888", "#4878a8"
_LOG_FROM = 20.0
"""Times the least that the most has where an axis is better logarithmic."""


def check_plot(path: Path) -> None:
    """See before a long measurement that its plot can be drawn and has a name that fits.

    Raises
    ------
    ResultError
        The name is not that of an SVG, its folder does not exist, or matplotlib is missing.
    """
    if path.suffix.lower() != ".svg":
        raise ResultError(f"--plot {path}: expected a name that ends with .svg")
    if not path.absolute().parent.is_dir():
        raise ResultError(f"--plot {path}: the folder {path.parent} does not exist; make it, or name another")
    try:
        import matplotlib  # noqa: F401, PLC0415 - an extra, which only this needs
    except ModuleNotFoundError as error:
        raise ResultError(
            f"the package {error.name!r} is missing; install the extra that has it: pip install 'continuum[plot]'"
        ) from error


def save_result_plot(result: SuiteResult, path: Path) -> None:
    """Draw the first figure of each measurement; those with the same figure share a panel.

    Raises
    ------
    ResultError
        As of `check_plot`, or the file cannot be written.
    """
    check_plot(path)
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    panels: dict[str, list[Measurement]] = {}
    for measurement in result.measurements:
        name, figure = next(iter(measurement.figures.items()))
        panels.setdefault(f"{name}, {figure.unit} ({figure.better} is better)", []).append(measurement)
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 9, "axes.edgecolor": _FAINT, "svg.hashsalt": "continuum"}):
        rows = [0.8 + 0.3 * len(own) for own in panels.values()]
        canvas = Canvas(figsize=(9, 1.2 + sum(rows)), layout="constrained")
        lines = result.conditions.lines()
        canvas.suptitle(f"continuum bench {result.suite}\n{lines['cpu']}; commit {lines['commit']}", fontsize=9)
        axes = canvas.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": rows})
        for (title, own), (place,) in zip(panels.items(), axes, strict=True):
            _draw(place, title, own)
        try:
            # Without a date, so that the same result gives the same file.
            canvas.savefig(path, metadata={"Date": None})
        except OSError as error:
            raise ResultError(f"{path} cannot be written ({error.strerror}); give another --plot") from None


def _draw(axes: Axes, title: str, measurements: list[Measurement]) -> None:
    spreads = [next(iter(own.figures.values())).spread for own in measurements]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.min for spread in spreads]
    above = [spread.max - spread.median for spread in spreads]
    places = range(len(spreads))
    axes.barh(places, medians, color=_BAR, height=0.7)
    axes.errorbar(medians, places, xerr=[below, above], fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
    axes.set_yticks(places, [own.label for own in measurements])
    axes.invert_yaxis()
    least = min(medians)
    if least > 0 and max(medians) > _LOG_FROM * least:
        axes.set_xscale("log")
    axes.set_title(title, loc="left", color=_INK)
    for place, spread in zip(places, spreads, strict=True):
        axes.annotate(f" {spread.median:,.4g}", (spread.max, place), va="center", fontsize=7, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
