"""The generated parts of docs/benchmarks.md (shares of the bounds, and the sweeps' picture) and of
docs/patching.md."""

from __future__ import annotations

from pathlib import Path

from .bounds import BYTES
from .figures import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, STEP, Rows, ratio
from .results import Result

FOLDER = "../benchmarks/results"
MODES = {FORWARD: "inference", STEP: "forward and backward of a training step"}


def block(full: Result, full_name: str, sweep: Path | None) -> str:
    """Tables of the full run and the picture of the newest sweep, if there is one."""
    rows = Rows(full.rows)
    modes = ("forward", "forward + backward")
    parts = [
        f"Fused, contiguous · channels-last, from [`{full_name}`]({FOLDER}/{full_name}); "
        "- is not measured.",
        table(("network, of plain operators", "inference", "training step"), _networks(rows)),
        table(
            ("norm", *(f"{mode}, of {bound}" for mode in modes for bound in ("batch norm", BYTES))),
            _norms(rows),
        ),
        table(("partial convolution, of conv2d", *modes), _layers(rows)),
    ]
    if sweep is None:
        parts.append("No sweep is stored yet: `python -m benchmarks --plan sweep` makes one.")
    else:
        picture = f"{FOLDER}/{sweep.stem}-curves.png"
        parts.append(f"![Time and memory against size, holes and channels]({picture})")
    return "\n\n".join(parts)


def patched_block(full: Result, full_name: str) -> str:
    """Networks of public code before and after they are patched, a line each."""
    rows = Rows(full.rows)
    body = []
    for row in rows.rows:
        if row.group != "patched" or row.provider != "fused":
            continue
        before = rows.ms("patched", row.case, row.mode, "reference")
        times = ["-" if ms is None else f"{ms:.0f} ms" for ms in (before, row.median)]
        faster = ratio(before, row.median)
        body.append(
            [f"{row.case}, {MODES[row.mode]}", *times, "-" if faster is None else f"{faster:.2f}x"]
        )
    if not body:
        return f"`{full_name}` holds no patched networks: `python -m benchmarks` measures them."
    machine = full.machine
    return (
        f"{machine['cpu']}, {machine['threads']} threads, torch {full.versions['torch']}, one "
        f"picture of 256x256 with holes, contiguous; from [`{full_name}`]({FOLDER}/{full_name})."
        "\n\n" + table(("modules of", "before", "after", "faster"), body)
    )


def _networks(rows: Rows) -> list[list[str]]:
    return [
        [
            f"`{case}`",
            *(_shares(rows, ("network", case, mode), "plain") for mode in (FORWARD, STEP)),
        ]
        for case in rows.cases("network")
    ]


def _norms(rows: Rows) -> list[list[str]]:
    return [
        [
            case,
            *(
                _shares(rows, ("norm", case, mode), bound)
                for mode in (FORWARD, BOTH)
                for bound in ("batch norm", BYTES)
            ),
        ]
        for case in rows.cases("norm")
    ]


def _layers(rows: Rows) -> list[list[str]]:
    return [
        [case, *(_shares(rows, ("layer", case, mode), "bound") for mode in (FORWARD, BOTH))]
        for case in rows.cases("layer")
    ]


def _shares(rows: Rows, key: tuple[str, str, str], bound: str) -> str:
    """What ours achieves of a bound, in both layouts."""
    texts = []
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        row = rows.row(*key, "fused", layout)
        share = None if row is None or row.share is None else row.share.get(bound)
        texts.append("-" if share is None else f"{share:.0%}")
    return " · ".join(texts)


def table(head: tuple[str, ...], body: list[list[str]]) -> str:
    """In Markdown: first column left, the others right."""
    ruler = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ruler, *body))
