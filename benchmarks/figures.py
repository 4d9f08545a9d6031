"""The figures this project set out to reach, computed from the rows of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from .baselines import SAME_DECODER
from .results import Row

BIG_B, BIG_L = "RN_B 64x256x256", "RN_L 64x256x256"
FORWARD, BOTH, STEP = "forward", "forward+backward", "step"
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
ENDS = ("enc1", "dec1")
HOLES_ONLY = "fused, holes only"


class Rows:
    """Look-ups in the rows of a run. Whatever was not measured is None, and stays None."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Index the rows by what they measure."""
        self.rows = list(rows)
        self._index = {(r.group, r.case, r.mode, r.provider, r.layout): r for r in self.rows}

    def row(
        self, group: str, case: str, mode: str, provider: str, layout: str = CONTIGUOUS
    ) -> Row | None:
        """One row, if it is there."""
        return self._index.get((group, case, mode, provider, layout))

    def ms(
        self, group: str, case: str, mode: str, provider: str, layout: str = CONTIGUOUS
    ) -> float | None:
        """Its median time."""
        row = self.row(group, case, mode, provider, layout)
        return None if row is None else row.median

    def best(self, group: str, case: str, mode: str, provider: str) -> Row | None:
        """The faster memory layout of a provider."""
        rows = (self.row(group, case, mode, provider, x) for x in (CONTIGUOUS, CHANNELS_LAST))
        timed = [(r.median, r) for r in rows if r is not None and r.median is not None]
        return min(timed, key=lambda pair: pair[0])[1] if timed else None

    def cases(self, group: str) -> list[str]:
        """Names of a group's cases, in the order of the run."""
        return list(dict.fromkeys(r.case for r in self.rows if r.group == group))

    def layers(self) -> list[str]:
        """Layers at the usual hole ratio."""
        return [name for name in self.cases("layer") if "@" not in name]


def ratio(a: float | None, b: float | None) -> float | None:
    """``a / b`` if both are known."""
    return None if a is None or b is None or b == 0 else a / b


def best_ratio(rows: Rows, key: tuple[str, str, str], a: str, b: str) -> float | None:
    """Time of provider ``a`` over that of ``b``, each in its faster layout."""
    first, second = rows.best(*key, a), rows.best(*key, b)
    return ratio(first.median if first else None, second.median if second else None)


def fair_ratio(rows: Rows, key: tuple[str, str, str], a: str, b: str) -> float | None:
    """As best_ratio; operators, whose reference has one layout only, are compared in that one."""
    if key[0] != "network":
        return ratio(rows.ms(*key, a), rows.ms(*key, b))
    return best_ratio(rows, key, a, b)


def layer_mean(rows: Rows, mode: str, a: str, b: str, layout: str = CONTIGUOUS) -> float | None:
    """Geometric mean over the layers of the time of ``a`` over that of ``b``, same layout."""
    found = [
        ratio(rows.ms("layer", x, mode, a, layout), rows.ms("layer", x, mode, b, layout))
        for x in rows.layers()
    ]
    known = [value for value in found if value is not None]
    if not known or len(known) < len(found):
        return None
    return math.exp(sum(map(math.log, known)) / len(known))


def compute(all_rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every target with its measured value, and whether it was reached."""
    rows = Rows(all_rows)
    forward, both = ("norm", BIG_B, FORWARD), ("norm", BIG_B, BOTH)
    learnt = ("norm", BIG_L, BOTH)
    step = ("network", "cgan_pc_rn", STEP)
    found = [
        _faster("RN_B forward: faster than the reference", 15, *_pair(rows, forward)),
        _faster("RN_B forward: faster than batch norm", 1.3, *_pair(rows, forward, "batch norm")),
        _slower("RN_B forward: time / clone", 1.3, *_pair(rows, forward, "clone")),
        _faster("RN_B forward+backward: faster than the reference", 10, *_pair(rows, both)),
        _faster(
            "RN_B forward+backward: faster than batch norm", 1, *_pair(rows, both, "batch norm")
        ),
        _faster("RN_L forward+backward: faster than the reference", 6, *_pair(rows, learnt)),
        _slower(
            "RN_L forward+backward: time / batch norm", 1.5, *_pair(rows, learnt, "batch norm")
        ),
        *_layer_figures(rows, FORWARD, inner=1.15, ends=1.4),
        *_layer_figures(rows, BOTH, inner=1.15, ends=1.25),
        figure(
            "partial conv forward, C-channel mask: faster than the reference",
            2.0,
            ">=",
            layer_mean(rows, FORWARD, "reference", "fused, C-channel mask"),
            "mean of layers",
        ),
    ]
    name, where = "cgan_pc_rn step", "faster layout"
    for provider, words, target in (
        ("reference", "the reference", 3.3),
        ("reference-compiled", "the compiled reference", 2.2),
    ):
        value = best_ratio(rows, step, provider, "fused")
        found.append(figure(f"{name}: faster than {words}", target, ">=", value, where))
    half = ("network", "cgan_pc_rn@bf16", STEP)
    value = best_ratio(rows, half, "fused", "fused, float32")
    found.append(figure(f"{name}: time in bfloat16 / float32", 1.0, "<=", value, where))
    for case in rows.cases("volume"):
        volume = ("volume", case, BOTH)
        value = best_ratio(rows, volume, "fused", "bound")
        what = f"partial conv fwd+bwd, {case}: time / conv3d"
        found.append(figure(what, 1.2, "<=", value, where))
    value = best_ratio(rows, ("holes", "square 10%", FORWARD), "fused", HOLES_ONLY)
    what = "10 % of 512x512 filled: holes only, faster than the whole decoder"
    found.append(figure(what, 2.0, ">=", value, "channels_last"))
    value = best_ratio(rows, step, "fused", "plain")
    found.append(figure(f"{name}: time / plain network", 0.8, "<=", value, where))
    value = best_ratio(rows, step, "fused", SAME_DECODER)
    found.append(figure(f"{name}: time / plain network, same decoder", 1.0, "<=", value, where))
    for other, target in (("reference", 0.62), ("plain", 0.88)):
        value = memory_ratio(rows, step, other)
        words = "reference" if other == "reference" else "plain network"
        found.append(figure(f"{name}: peak memory / {words}", target, "<=", value, where))
    for network, target in (("pconv_unet", 3.0), ("pconv_autoencoder", 2.0), ("rn_net", 3.0)):
        value = best_ratio(rows, ("network", network, STEP), "reference", "fused")
        what = f"{network} step: faster than the reference"
        found.append(figure(what, target, ">=", value, where))
    return found


def memory_ratio(rows: Rows, key: tuple[str, str, str], other: str = "reference") -> float | None:
    """Peak memory of the fused form over that of another, each in its faster layout."""
    ours, theirs = rows.best(*key, "fused"), rows.best(*key, other)
    if ours is None or theirs is None:
        return None
    return ratio(ours.peak_bytes, theirs.peak_bytes)


def _pair(
    rows: Rows, key: tuple[str, str, str], other: str = "reference"
) -> tuple[float | None, float | None]:
    return rows.ms(*key, "fused"), rows.ms(*key, other)


def _faster(name: str, target: float, ours: float | None, theirs: float | None) -> dict[str, Any]:
    return figure(name, target, ">=", ratio(theirs, ours))


def _slower(name: str, target: float, ours: float | None, theirs: float | None) -> dict[str, Any]:
    return figure(name, target, "<=", ratio(ours, theirs))


def _layer_figures(rows: Rows, mode: str, inner: float, ends: float) -> list[dict[str, Any]]:
    """The worst layer in each layout, first and last layer apart."""
    figures = []
    short = "forward" if mode == FORWARD else "fwd+bwd"
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        for place, target in (("inner", inner), ("first and last", ends)):
            worst: tuple[float, str] | None = None
            for layer in rows.layers():
                key = ("layer", layer, mode)
                value = ratio(rows.ms(*key, "fused", layout), rows.ms(*key, "bound", layout))
                if value is not None and (layer in ENDS) == (place == "first and last"):
                    worst = max(worst or (0.0, ""), (value, layer))
            name = f"partial conv {short}, {place}, {layout}: time / conv2d"
            value, layer = worst or (None, "")
            where = f"worst: {layer}" if layer else ""
            figures.append(figure(name, target, "<=", value, where))
    return figures


def figure(
    name: str, target: float, relation: str, measured: float | None, detail: str = ""
) -> dict[str, Any]:
    """A target, what was measured, and whether it is reached (None where nothing was)."""
    reached = None
    if measured is not None:
        reached = measured >= target if relation == ">=" else measured <= target
    return {
        "figure": name,
        "target": f"{relation} {target:g}",
        "measured": None if measured is None else round(measured, 3),
        "reached": reached,
        "detail": detail,
    }
