"""The sweeps of a run as one picture: time and memory along each axis, for both operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .plots import BOUND, PAPER, headline
from .results import Result, Row

AXES = {
    "size": "height = width [pixels]",
    "holes": "holes [% of the pixels]",
    "channels": "channels in and out",
}
OPERATORS = {"conv": "Partial convolution, 3x3", "RN_B": "Region normalization, RN_B"}
LOOKS = {
    "reference": ("reference", "#8d99ae", "o-"),
    "torch-pconv": ("torch-pconv", "#b185db", "s-"),
    "bound": ("plain conv2d", BOUND, "D--"),
    "batch norm": ("plain batch norm", BOUND, "D--"),
    "plain": ("plain network", BOUND, "D--"),
    "fused": ("fused", "#1d7874", "o-"),
}
"""Label, colour and line of each provider, in the order of drawing. Copies are no operators."""


def _times(row: Row) -> tuple[float, float, float] | None:
    q = row.quantiles_ms
    return None if q is None else (q["0.1"], q["0.5"], q["0.9"])


def _peaks(row: Row) -> tuple[float, float, float] | None:
    return None if row.peak_bytes is None else (row.peak_bytes / 1e6,) * 3


Quantity = Callable[[Row], tuple[float, float, float] | None]
QUANTITIES: dict[str, Quantity] = {"time [ms]": _times, "peak memory [MB]": _peaks}


class Line(NamedTuple):
    """One provider along one axis: positions, medians, and the quantiles around them."""

    provider: str
    at: list[float]
    low: list[float]
    middle: list[float]
    high: list[float]


def lines(rows: Sequence[Row], operator: str, axis: str, quantity: Quantity) -> list[Line]:
    """The lines of one panel."""
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in LOOKS}
    for row in rows:
        if row.sweep is None or row.sweep["axis"] != axis or row.case.split()[0] != operator:
            continue
        values = quantity(row)
        if values is not None and row.provider in found:
            at = row.sweep["value"] * (100 if axis == "holes" else 1)
            found[row.provider].append((at, *values))
    return [
        Line(provider, *(list(column) for column in zip(*sorted(points), strict=True)))
        for provider, points in found.items()
        if points
    ]


def draw(result: Result, path: Path) -> Path | None:
    """A column for each axis, a row for each operator and quantity; None without a sweep."""
    rows = [row for row in result.rows if row.sweep is not None]
    grid = [
        (operator, name, [lines(rows, operator, axis, quantity) for axis in AXES])
        for operator in OPERATORS
        for name, quantity in QUANTITIES.items()
    ]
    grid = [(operator, name, panels) for operator, name, panels in grid if any(panels)]
    if not grid:
        return None
    figure, axes = plt.subplots(
        len(grid), len(AXES), figsize=(11.5, 2.6 * len(grid) + 1.2), squeeze=False,
        facecolor=PAPER, layout="constrained",
    )  # fmt: skip
    for i, (operator, name, panels) in enumerate(grid):
        for axis, kind, content in zip(axes[i], AXES, panels, strict=True):
            _panel(axis, kind, content)
        axes[i][0].set_ylabel(name, fontsize=9)
        if i == 0 or grid[i - 1][0] != operator:
            axes[i][0].set_title(OPERATORS[operator], loc="left", fontsize=11, fontweight="bold")
            axes[i][0].legend(fontsize=8, frameon=False)
    for axis, title in zip(axes[-1], AXES.values(), strict=True):
        axis.set_xlabel(title, fontsize=9)
    centre = Counter(row.detail for row in rows).most_common(1)[0][0]
    headline(
        figure, "Forward + backward, along one axis at a time",
        f"{result.where} · {result.date[:10]} · lines cross at {centre} · "
        "medians, bands: 10 % to 90 % quantile",
    )  # fmt: skip
    figure.savefig(path, dpi=130, facecolor=PAPER)
    plt.close(figure)
    return path


def _panel(axis: Any, kind: str, content: Sequence[Line]) -> None:
    if not content:
        axis.set_visible(False)
        return
    axis.set_facecolor(PAPER)
    for line in content:
        label, colour, style = LOOKS[line.provider]
        axis.plot(line.at, line.middle, style, color=colour, label=label, lw=1.6, ms=3.5)
        axis.fill_between(line.at, line.low, line.high, color=colour, alpha=0.2, lw=0)
    places = sorted({at for line in content for at in line.at})
    if kind == "holes":
        axis.set_ylim(bottom=0)
    else:
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(places, [f"{at:g}" for at in places])
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
