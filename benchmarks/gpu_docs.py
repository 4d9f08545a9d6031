"""The generated part of docs/gpu-results.md."""

from __future__ import annotations

from collections.abc import Callable

from . import gpu_figures
from .cases.variants import GRAPH, OURS
from .docs import FOLDER, table
from .figures import FORWARD, STEP, Rows
from .plan import CUDA
from .results import Result

MISSING = "Not measured on a GPU yet."
COLUMNS = tuple((backend, graph) for backend in CUDA.backends for graph in ("", GRAPH))


def block(result: Result | None, name: str) -> str:
    """What the newest complete run on a GPU measured, with the device's name; or that none is."""
    if result is None:
        return MISSING
    machine, versions = result.machine, result.versions
    copied = f"{machine['copy_gb_s']:.0f} GB/s"
    commit = (result.commit["hash"] or "unknown")[:10]
    parts = [
        f"Measured on {machine['gpu']}, torch {versions['torch']}, Triton {versions['triton']}, "
        f"cuDNN {versions['cudnn']}, on {result.date[:10]} at commit {commit}"
        f"{' with local changes' if result.commit['dirty'] else ''}, in "
        f"{result.seconds:.0f} seconds; a copy of a gibibyte ran at {copied}. "
        f"Everything: [`{name}`]({FOLDER}/{name}).",
        *tables(Rows(result.rows)),
        table(
            ("figure", "target", "measured", "where"),
            [
                [
                    figure["figure"],
                    figure["target"],
                    "-" if figure["measured"] is None else f"{figure['measured']:.2f}",
                    figure["detail"],
                ]
                for figure in result.figures
            ],
        ),
    ]
    if result.failures:
        parts.append(f"Wrong or missing results: {len(result.failures)}, named in the file.")
    if result.skipped:
        parts.append("Left out, for want of time: " + ", ".join(result.skipped) + ".")
    return "\n\n".join(parts)


def tables(rows: Rows) -> list[str]:
    """In bfloat16, channels_last, for each backend, eager and as a graph."""
    heads = [f"{backend}{graph}" for backend, graph in COLUMNS]
    found = []
    for title, cases, value in (
        (
            "partial convolution, forward + backward: time / `F.conv2d` with bias",
            gpu_figures.layers(rows),
            gpu_figures.layer_ratio,
        ),
        (
            "norm and ReLU, forward + backward: time / batch norm and ReLU",
            gpu_figures.norms(rows),
            gpu_figures.norm_ratio,
        ),
        (
            "norm, forward + backward: share of a copy's bandwidth",
            gpu_figures.norms(rows),
            gpu_figures.norm_share,
        ),
    ):
        body = _body(rows, cases, value)
        if body:
            found.append(table((title, *heads), body))
    networks = [
        [f"`{case}`, {words}", *(_best(rows, case, mode, name) for name in _providers())]
        for case in rows.cases("network")
        for mode, words in ((FORWARD, "inference"), (STEP, "training step"))
    ]
    if networks:
        found.append(table(("network, ms", *_providers()), networks))
    return found


def _body(
    rows: Rows, cases: list[str], value: Callable[[Rows, str, str, str], float | None]
) -> list[list[str]]:
    lines = [(case, [value(rows, case, *column) for column in COLUMNS]) for case in cases]
    return [
        [case, *("-" if x is None else f"{x:.2f}" for x in values)]
        for case, values in lines
        if any(x is not None for x in values)
    ]


def _providers() -> list[str]:
    ours = [f"{OURS}-{backend}" for backend in CUDA.backends]
    names = ["reference", "plain", *ours]
    return ["reference-compiled", *names, *(name + GRAPH for name in names)]


def _best(rows: Rows, case: str, mode: str, provider: str) -> str:
    row = rows.best("network", case, mode, provider)
    return "-" if row is None or row.median is None else f"{row.median:.2f}"
