"""Responses of a pipeline drawn: magnitude, group delay and impulse response of each series, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.errors import ContinuumError
from app.pipelines.response import Curve, Response

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png")

_DEEPEST = 100
"""dB below the peak that are shown."""
_MOST_MARKED = 6
_MOST_NAMED = 8
_INK, _FAINT, _MARK = "#222222", "#888888", "#c0392b"


class PlotError(ContinuumError):
    """There is nothing to draw, or nothing to draw it with or onto."""


def save_plot(title: str, shown: Sequence[Response], path: Path) -> None:
    """Draw responses, one below another.

    Parameters
    ----------
    title
        Above all.
    shown
        What to draw; those that have no response are named at the foot.
    path
        File to write, or write over.

    Raises
    ------
    PlotError
        Of the file's format or folder, or as the extra `plot` is missing or nothing has a response.
    """
    if path.suffix.lower() not in FORMATS:
        raise PlotError(f"--out {path}: expected a name that ends with {' or '.join(FORMATS)}")
    drawn = [response for response in shown if response.curves]
    if not drawn:
        reasons = "; ".join(f"{response.node}: {response.fault}" for response in shown) or "it has no series"
        raise PlotError(f"{title}: nothing has a response to draw: {reasons}")
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, which only this needs
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise PlotError(
            f"the package {error.name!r} is missing; install the extra that has it: pip install 'continuum[plot]'"
        ) from error
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 9, "axes.edgecolor": _FAINT, "svg.hashsalt": "continuum"}):
        _draw(Figure, title, shown, drawn, path)


def _draw(figure_class: type[Figure], title: str, shown: Sequence[Response], drawn: list[Response], path: Path) -> None:
    feet = [f"{response.node}: {response.fault}" for response in shown if response.fault]
    figure = figure_class(figsize=(12, 0.7 + 2.7 * len(drawn) + 0.25 * len(feet)), layout="constrained")
    figure.suptitle(title, fontsize=11, color=_INK)
    for axes, response in zip(figure.subplots(len(drawn), 3, squeeze=False), drawn, strict=True):
        _magnitude(axes[0], response)
        _group_delay(axes[1], response)
        _impulse(axes[2], response)
        axes[0].set_title(_heading(response), loc="left", fontweight="bold", color=_INK)
        if any(curve.label for curve in response.curves[:_MOST_NAMED]):
            axes[2].legend(fontsize=7, frameon=False, title="channels", title_fontsize=7)
    if feet:
        figure.supxlabel("\n".join(feet), fontsize=8, color=_FAINT, x=0.01, ha="left")
    # Without a date, so that the same pipeline gives the same file.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    try:
        figure.savefig(path, dpi=110, metadata=metadata)
    except OSError as error:
        raise PlotError(f"{path} cannot be written ({error.strerror}); give another --out") from None


def _heading(response: Response) -> str:
    more = f" (and {response.left_out} more curves)" if response.left_out else ""
    cut = " (cut: not died away)" if any(curve.is_cut for curve in response.curves) else ""
    return f"{response.node}{more}{cut}"


def _magnitude(axes: Axes, response: Response) -> None:
    peak = max(curve.decibels.max() for curve in response.curves)
    lowest = min(curve.decibels.min() for curve in response.curves)
    for curve in response.curves:
        axes.plot(curve.frequencies[1:], curve.decibels[1:], linewidth=1.2)
    if len(response.curves) == 1:
        _mark_edges(axes, response.curves[0])
    axes.set_ylim(max(lowest, peak - _DEEPEST) - 3, peak + 6)
    axes.set_ylabel("magnitude, dB")
    _frequency_axis(axes, response)


def _mark_edges(axes: Axes, curve: Curve) -> None:
    level = curve.decibels.max() + 10 * np.log10(0.5)
    edges = curve.edges[:_MOST_MARKED]
    axes.axhline(level, color=_FAINT, linewidth=0.6, linestyle=":")
    axes.plot(edges, [level] * len(edges), "o", color=_MARK, markersize=4)
    for number, edge in enumerate(edges):
        axes.annotate(
            f"{edge:.4g} Hz",
            (edge, level),
            xytext=(0, -12 - 10 * (number % 2)),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=_MARK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )


def _group_delay(axes: Axes, response: Response) -> None:
    for curve in response.curves:
        axes.plot(curve.frequencies[1:], 1000 * curve.group_delay[1:], linewidth=1.2)
    low, high = axes.get_ylim()
    if high - low < 1e-3 * abs(high):  # of a linear phase, where it would show the rounding
        axes.set_ylim(0.9 * low, 1.1 * high)
    axes.set_ylabel("group delay, ms")
    _frequency_axis(axes, response)


def _impulse(axes: Axes, response: Response) -> None:
    ends = [np.flatnonzero(np.abs(curve.impulse) > 1e-2 * np.abs(curve.impulse).max())[-1] for curve in response.curves]
    shown = int(min(max(ends) * 1.05 + 2, len(response.curves[0].impulse)))
    marker = "." if shown <= 64 else ""
    for curve in response.curves:
        times = 1000 * np.arange(shown) / curve.sample_rate
        axes.plot(times, curve.impulse[:shown], linewidth=1.0, marker=marker, label=curve.label or None)
    axes.set_xlabel("time, ms")
    axes.set_ylabel("impulse response")
    axes.grid(color="#dddddd", linewidth=0.5)


def _frequency_axis(axes: Axes, response: Response) -> None:
    rate = response.curves[0].sample_rate
    lowest = min([edge for curve in response.curves for edge in curve.edges] or [rate / 100])
    axes.set_xscale("log")
    axes.set_xlim(max(min(lowest / 10, rate / 100), response.curves[0].frequencies[1]), rate / 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("frequency, Hz")
    axes.grid(which="major", color="#dddddd", linewidth=0.5)
