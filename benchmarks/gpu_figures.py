"""The figures to reach on a GPU, for each backend, eager and as a replayed graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from .bounds import BYTES
from .cases.region import RELU
from .cases.variants import GRAPH, OURS
from .figures import BOTH, CHANNELS_LAST, STEP, Rows, figure, ratio
from .results import Row

HALF, LAST = "@bf16", CHANNELS_LAST
LARGE_BYTES = 100e6
"""Above it a tensor lies beyond any cache, and a norm should run at the speed of a copy."""


def compute(all_rows: Sequence[Row], backends: Sequence[str]) -> list[dict[str, Any]]:
    """Every target with its measured value, and whether it was reached."""
    rows = Rows(all_rows)
    found: list[dict[str, Any]] = []
    for backend in backends:
        for graph in ("", GRAPH):
            found += _layers(rows, backend, graph)
            found += _norms(rows, backend, graph)
            found += _networks(rows, backend, graph)
        found += _precision(rows, backend)
    return found


def layers(rows: Rows) -> list[str]:
    """Layers in bfloat16 at the usual hole ratio."""
    return [name for name in rows.cases("layer") if name.count("@") == 1 and HALF in name]


def layer_ratio(rows: Rows, layer: str, backend: str, graph: str) -> float | None:
    """Time of ours over that of ``F.conv2d`` with bias, forward and backward, channels_last."""
    key = ("layer", layer, BOTH)
    ours, bound = f"{OURS}-{backend}{graph}", f"bound{graph}"
    return ratio(rows.ms(*key, ours, LAST), rows.ms(*key, bound, LAST))


def norms(rows: Rows) -> list[str]:
    """Norms in bfloat16."""
    return [name for name in rows.cases("norm") if HALF in name]


def norm_ratio(rows: Rows, norm: str, backend: str, graph: str) -> float | None:
    """Time of ours over that of batch norm, each with its ReLU."""
    key = ("norm", norm, BOTH)
    ours, bound = f"{OURS}-{backend}{RELU}{graph}", f"batch norm{RELU}{graph}"
    return ratio(rows.ms(*key, ours, LAST), rows.ms(*key, bound, LAST))


def norm_share(rows: Rows, norm: str, backend: str, graph: str) -> float | None:
    """The share of the measured bandwidth of a copy, for tensors beyond any cache."""
    row = rows.row("norm", norm, BOTH, f"{OURS}-{backend}{graph}", LAST)
    if row is None or row.share is None or _bytes(row) <= LARGE_BYTES:
        return None
    return row.share.get(BYTES)


def step_ratio(
    rows: Rows, network: str, other: str, backend: str, graph: str, others_graph: str
) -> float | None:
    """Time of another's training step over that of ours, each in its faster layout."""
    key = ("network", network + HALF, STEP)
    theirs = rows.best(*key, other + others_graph)
    ours = rows.best(*key, f"{OURS}-{backend}{graph}")
    return ratio(theirs.median if theirs else None, ours.median if ours else None)


def _name(what: str, backend: str, graph: str) -> str:
    return f"{what}, {backend}{graph}"


def _layers(rows: Rows, backend: str, graph: str) -> Iterator[dict[str, Any]]:
    found = [(layer_ratio(rows, x, backend, graph), x) for x in layers(rows)]
    known = [(value, layer) for value, layer in found if value is not None]
    what = _name("partial conv fwd+bwd", backend, graph)
    whole = bool(known) and len(known) == len(found)
    worst = max(known) if whole else (None, "")
    mean = math.exp(sum(math.log(value) for value, _ in known) / len(known)) if whole else None
    where = f"worst: {worst[1]}" if whole else ""
    yield figure(f"{what}: time / conv2d", 1.05, "<=", worst[0], where)
    yield figure(f"{what}: time / conv2d", 1.0, "<=", mean, "mean of layers")


def _norms(rows: Rows, backend: str, graph: str) -> Iterator[dict[str, Any]]:
    what = _name("region norm fwd+bwd", backend, graph)
    for norm in norms(rows):
        value = norm_ratio(rows, norm, backend, graph)
        yield figure(f"{what}, with ReLU: time / batch norm", 1.0, "<=", value, norm)
    for norm in norms(rows):
        share = norm_share(rows, norm, backend, graph)
        if share is not None:
            yield figure(f"{what}: share of a copy's bandwidth", 0.7, ">=", share, norm)


def _networks(rows: Rows, backend: str, graph: str) -> Iterator[dict[str, Any]]:
    """Against what people run today: eager, and compiled. Against plain layers: as ours is run."""
    for case in rows.cases("network"):
        if HALF not in case or not any(r.case == case and r.mode == STEP for r in rows.rows):
            continue
        network = case.removesuffix(HALF)
        what = _name(f"{network} step", backend, graph)
        for other, words, target in (
            ("reference", "the reference", 3.0),
            ("reference-compiled", "the compiled reference", 1.5),
        ):
            value = step_ratio(rows, network, other, backend, graph, "")
            if value is not None or other == "reference" or network == "cgan_pc_rn":
                yield figure(f"{what}: faster than {words}", target, ">=", value, "faster layout")
        value = step_ratio(rows, network, "plain", backend, graph, graph)
        inverse = None if value is None else 1 / value
        yield figure(f"{what}: time / plain network", 1.1, "<=", inverse, "faster layout")


def _precision(rows: Rows, backend: str) -> Iterator[dict[str, Any]]:
    """The worst error in units of PyTorch's own; what is not finite has no error at all."""
    for dtype in ("bfloat16", "float16"):
        ours = [
            (row.match, f"{row.group}/{row.case}/{row.mode}")
            for row in rows.rows
            if row.dtype == dtype and row.provider.startswith(f"{OURS}-{backend}") and row.match
        ]
        lost = sum(match["error"] is None for match, _ in ours)
        count = float(lost) if ours else None
        yield figure(f"results that are not finite, {backend}, {dtype}", 0, "<=", count)
        known = [(match["over_own"], where) for match, where in ours if match["over_own"]]
        value, where = max(known) if known else (None, "")
        name = f"error / PyTorch's own, {backend}, {dtype}"
        yield figure(name, 2.0, "<=", value, f"worst: {where}" if where else "")


def _bytes(row: Row) -> int:
    return math.prod(row.shape) * (4 if row.dtype == "float32" else 2)
