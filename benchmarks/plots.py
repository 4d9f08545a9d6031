"""The speed-ups of a run as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from . import figures
from .figures import BOTH, FORWARD, Rows
from .results import Result

COLOURS = {FORWARD: "#2a9d8f", BOTH: "#264653", "step": "#264653"}
BOUND = "#e76f51"
PAPER = "#fbfaf7"


def draw(result: Result, path: Path) -> Path | None:
    """Speed-up over the reference per network, norm and layer; None if nothing was measured."""
    rows = Rows(result.rows)
    panels = [
        (title, bars)
        for title, bars in (
            ("Whole networks", _bars(rows, "network", (FORWARD, "step"), "plain")),
            ("Region normalization", _bars(rows, "norm", (FORWARD, BOTH), "batch norm")),
            ("Partial convolution by layer", _bars(rows, "layer", (FORWARD, BOTH), "bound")),
        )
        if bars
    ]
    if not panels:
        return None
    heights = [_positions(bars)[-1] + 3.0 for _, bars in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9.5, 0.21 * sum(heights) + 1.3), height_ratios=heights,
        squeeze=False, facecolor=PAPER, layout="constrained",
    )  # fmt: skip
    for axis, (title, bars) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, title, bars)
    headline(
        figure, "How many times faster than the published modules",
        f"{result.where} · {result.date[:10]} · medians · networks: faster layout of each, "
        "others contiguous",
    )  # fmt: skip
    figure.savefig(path, dpi=130, facecolor=PAPER)
    plt.close(figure)
    return path


def headline(figure: Any, title: str, text: str) -> None:
    """A title at the left, and a line under it that says where the numbers come from."""
    figure.suptitle(
        title + "\n", fontsize=14, fontweight="bold", x=0.02, ha="left", linespacing=1.9
    )
    figure.text(
        0.02, 0.995 - 0.42 / figure.get_size_inches()[1], text,
        fontsize=8.5, color="#555555", va="top",
    )  # fmt: skip


Bar = tuple[str, str, float, float | None]
"""Label, mode, speed-up of ours, speed-up of the bound."""


def _bars(rows: Rows, group: str, modes: tuple[str, ...], bound: str) -> list[Bar]:
    bars: list[Bar] = []
    for case in rows.cases(group):
        for mode in modes:
            key = (group, case, mode)
            ours = figures.fair_ratio(rows, key, "reference", "fused")
            if ours is not None:
                bars.append((case, mode, ours, figures.fair_ratio(rows, key, "reference", bound)))
    return bars


def _panel(axis: Any, title: str, bars: list[Bar]) -> None:
    axis.set_facecolor(PAPER)
    right = max(max(ours, bound or 0) for _, _, ours, bound in bars)
    seen: set[str] = set()
    positions = _positions(bars)
    for at, (_, mode, ours, bound) in zip(positions, bars, strict=True):
        label = None if mode in seen else mode
        seen.add(mode)
        axis.barh(at, ours, height=0.9, color=COLOURS[mode], label=label)
        axis.text(
            right * 0.008, at, f"{ours:.1f}x", va="center", fontsize=8, color="white",
            fontweight="bold",
        )  # fmt: skip
        if bound is not None:
            name = "bound: plain operators" if at == 0 else None
            axis.plot([bound, bound], [at - 0.45, at + 0.45], color=BOUND, lw=2.4, label=name)
    axis.axvline(1, color="#888888", lw=0.9, ls=":")
    cases = dict.fromkeys(case for case, *_ in bars)
    middles = [
        sum(at for at, bar in zip(positions, bars, strict=True) if bar[0] == case)
        / sum(bar[0] == case for bar in bars)
        for case in cases
    ]
    axis.set_yticks(middles, list(cases), fontsize=8.5)
    axis.set_ylim(positions[-1] + 0.7, -0.7)
    axis.set_xlim(0, right * 1.1)
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8, frameon=False,
        borderaxespad=0.1,
    )  # fmt: skip


def _positions(bars: list[Bar]) -> list[float]:
    """Where each bar stands: the bars of one case touch, cases keep a distance."""
    positions, at = [], 0.0
    for i, (case, *_) in enumerate(bars):
        if i:
            at += 0.95 if bars[i - 1][0] == case else 1.3
        positions.append(at)
    return positions
