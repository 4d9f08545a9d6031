"""What a training step costs as work grows: a picture of it, and a table for the docs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .curves import LOOKS, Line, Quantity, lines
from .docs import FOLDER, table
from .figures import ratio
from .plots import PAPER, headline
from .results import Result, Row

AXES = {"batch": "pictures in a batch", "size": "height = width [pixels]"}
PIXELS = {"batch": 1, "size": 2}
"""The power of each axis with which the pixels grow."""
GIB = 2**30


def _time(row: Row) -> tuple[float, float, float] | None:
    q, pictures = row.quantiles_ms, row.shape[0]
    if q is None:
        return None
    return q["0.1"] / pictures / 1e3, q["0.5"] / pictures / 1e3, q["0.9"] / pictures / 1e3


def _peak(row: Row) -> tuple[float, float, float] | None:
    return None if row.peak_bytes is None else (row.peak_bytes / GIB,) * 3


QUANTITIES: dict[str, Quantity] = {"time per picture [s]": _time, "peak memory [GiB]": _peak}


def draw(result: Result, path: Path) -> Path | None:
    """Time per picture and memory, against the batch and the size; None where none was measured."""
    rows = [row for row in result.rows if row.group == "growth"]
    if not rows:
        return None
    figure, axes = plt.subplots(
        len(QUANTITIES), len(AXES), figsize=(10.5, 7.4), sharey="row", squeeze=False,
        facecolor=PAPER, layout="constrained",
    )  # fmt: skip
    network = rows[0].case.split()[0]
    handles: dict[str, Any] = {}
    for i, (name, quantity) in enumerate(QUANTITIES.items()):
        for axis, (kind, title) in zip(axes[i], AXES.items(), strict=True):
            # A picture takes the same time whatever the batch.
            power = 0 if kind == "batch" and quantity is _time else PIXELS[kind]
            handles |= _panel(axis, lines(rows, network, kind, quantity), power)
            axis.set_xlabel(title, fontsize=9)
            axis.set_ylabel(name, fontsize=9)
    for axis in axes[-1]:
        axis.axhline(result.machine["ram_gb"], color="#555555", lw=0.9, ls=":")
        axis.text(
            0.02, result.machine["ram_gb"] * 1.08, "memory of the machine", fontsize=8,
            transform=axis.get_yaxis_transform(), color="#555555",
        )  # fmt: skip
        axis.set_ylim(top=result.machine["ram_gb"] * 2)
    figure.legend(
        handles.values(), handles.keys(), fontsize=8.5, frameon=False, ncols=4,
        loc="outside lower center",
    )  # fmt: skip
    centre = Counter(row.detail for row in rows).most_common(1)[0][0]
    headline(
        figure, f"A training step of {network} as work grows",
        f"{result.where} · {result.date[:10]} · lines cross at {centre} · "
        "medians, bands: 10 % to 90 % quantile",
    )  # fmt: skip
    figure.savefig(path, dpi=130, facecolor=PAPER)
    plt.close(figure)
    return path


def _panel(axis: Any, content: Sequence[Line], power: int) -> dict[str, Any]:
    """Draw the lines of one panel; the drawn, by label."""
    axis.set_visible(bool(content))
    axis.set_facecolor(PAPER)
    for line in content:
        label, colour, style = LOOKS[line.provider]
        axis.plot(line.at, line.middle, style, color=colour, label=label, lw=1.6, ms=4)
        axis.fill_between(line.at, line.low, line.high, color=colour, alpha=0.2, lw=0)
        if line.provider == "fused":
            along = [line.middle[-1] * (at / line.at[-1]) ** power for at in line.at]
            text = "in proportion to the pixels"
            axis.plot(line.at, along, color="#aaaaaa", lw=1, ls="--", label=text, zorder=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    places = sorted({at for line in content for at in line.at})
    axis.set_xticks(places, [f"{at:g}" for at in places])
    axis.tick_params(labelsize=8, labelleft=True)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))


def block(result: Result | None, name: str) -> str:
    """The table of a stored run, what a further picture takes, and the run's picture."""
    if result is None:
        return "No such run is stored yet: `python -m benchmarks --plan growth` makes one."
    rows = [row for row in result.rows if row.group == "growth"]
    head = (
        "", *(f"{word}, s per picture" for word in ("reference", "fused", "plain")),
        "vs reference", "time / plain",
        *(f"{word}, GiB" for word in ("reference", "fused", "plain")), "memory / reference",
    )  # fmt: skip
    sentences = [
        f"From [`{name}`]({FOLDER}/{name}): {result.where}; medians, channels-last.",
        "Peak memory is what was alive at once beyond parameters and pictures, with gradients and "
        "Adam's state.",
    ]
    if result.disturbed:
        busy = max(row.foreign_cpu or 0.0 for row in rows)
        sentences.append(f"Other processes took up to {busy:.0%} of the processors.")
    return "\n\n".join(
        [
            " ".join(sentences),
            table(head, [_cells(rows, case) for case in dict.fromkeys(row.case for row in rows)]),
            _further(rows, result.machine["ram_gb"]),
            f"![Time per picture and memory]({FOLDER}/{Path(name).stem}-cost.png)",
        ]
    )


def _cells(rows: Sequence[Row], case: str) -> list[str]:
    mine = {row.provider: row for row in rows if row.case == case}
    providers = ("reference", "fused", "plain")
    times, peaks = (
        [None if (found := quantity(mine[name])) is None else found[1] for name in providers]
        for quantity in (_time, _peak)
    )
    shape = mine["fused"].shape
    return [
        "x".join(map(str, shape)),
        *map(_number, times),
        _number(ratio(times[0], times[1]), "x"),
        _number(ratio(times[1], times[2])),
        *map(_number, peaks),
        _number(ratio(peaks[1], peaks[0])),
    ]


def _further(rows: Sequence[Row], machine: float) -> str:
    """From the two largest batches: what one more picture takes, and how many there is room for."""
    texts = []
    for line in lines(rows, rows[0].case.split()[0], "batch", _peak):
        each = (line.middle[-1] - line.middle[-2]) / (line.at[-1] - line.at[-2])
        room = line.at[-1] + (machine - line.middle[-1]) / each
        texts.append(f"{line.provider} {each * 1024:.0f} MiB ({room:.0f} pictures)")
    return (
        "A further picture in the batch takes, from the two largest batches on: "
        + ", ".join(texts)
        + f"; in brackets how many would fill the machine's {machine:g} GiB at that rate."
    )


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"
