"""Two results side by side, and a gate: did the fused operators become slower, larger or wrong?

Times of two runs do not compare: another machine, or the same one at another hour, is faster as a
whole. So each time is taken relative to the reference of the same case and run, unless absolute
times are asked for. A row counts as slower only if it lies beyond the tolerance and beyond the
spread of both runs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from . import report, results, tables
from .figures import CONTIGUOUS
from .results import Result, Row

ANCHOR = "reference"
OURS = "fused"
SLACK_BYTES = 4 << 20
"""Peaks hold a few megabytes of code and thread stacks, which come and go."""

Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Change:
    """One row of ours in both runs; values are relative to the anchor or milliseconds."""

    key: Key
    before: float | None
    after: float | None
    verdict: str  # "", "faster", "slower", "larger", "wrong", "gone" or "new"
    memory: float | None = None  # peak after / before

    @property
    def bad(self) -> bool:
        """Whether the gate closes."""
        return self.verdict in ("slower", "larger", "wrong", "gone")


def main(words: list[str]) -> int:
    """Print the comparison; 1 if something became worse, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--tolerance", type=float, default=0.1, help="relative slow-down that is let pass"
    )
    parser.add_argument(
        "--absolute", action="store_true", help="compare milliseconds (same quiet machine only)"
    )
    args = parser.parse_args(words)
    if args.tolerance < 0:
        parser.error("--tolerance must not be negative")
    before, after = results.load(args.before), results.load(args.after)
    changes = compare(before, after, args.tolerance, args.absolute)
    if not changes:
        parser.error("the two results have no case in common")
    console = report.console()
    show(before, after, changes, args.absolute, console)
    return int(any(change.bad for change in changes))


def compare(
    before: Result, after: Result, tolerance: float = 0.1, absolute: bool = False
) -> list[Change]:
    """Every row of ours that either run has, where a case of its name ran in both."""
    old, new = _ours(before), _ours(after)
    shared = {k[:3] for k in old} & {k[:3] for k in new}
    keys = [k for k in dict.fromkeys([*old, *new]) if k[:3] in shared]
    return [
        _change(key, old.get(key), new.get(key), before, after, tolerance, absolute) for key in keys
    ]


def _ours(result: Result) -> dict[Key, Row]:
    return {_key(r): r for r in result.rows if r.provider.startswith(OURS)}


def _key(row: Row) -> Key:
    return row.group, row.case, row.mode, row.provider, row.layout


def _change(
    key: Key,
    old: Row | None,
    new: Row | None,
    before: Result,
    after: Result,
    tolerance: float,
    absolute: bool,
) -> Change:
    first = _interval(old, None if absolute else before)
    second = _interval(new, None if absolute else after)
    a, b = (None if x is None else x[1] for x in (first, second))
    memory, grown = None, 0
    if old is not None and new is not None and old.peak_bytes and new.peak_bytes:
        memory, grown = new.peak_bytes / old.peak_bytes, new.peak_bytes - old.peak_bytes
    if old is None:
        return Change(key, a, b, "new")
    if new is None:
        return Change(key, a, b, "gone")
    if new.failed:
        return Change(key, a, b, "" if old.failed else "wrong", memory)
    verdict = ""
    if first is not None and second is not None:
        if second[0] > first[2] and second[1] > first[1] * (1 + tolerance):
            verdict = "slower"
        elif second[2] < first[0] and second[1] < first[1] / (1 + tolerance):
            verdict = "faster"
    larger = memory is not None and memory > 1 + tolerance and grown > SLACK_BYTES
    if larger and verdict != "slower":
        verdict = "larger"
    return Change(key, a, b, verdict, memory)


def _interval(row: Row | None, result: Result | None) -> tuple[float, float, float] | None:
    """Lower quartile, median, upper quartile, over the anchor's median if there is a result."""
    if row is None or row.quantiles_ms is None:
        return None
    unit = 1.0
    if result is not None:
        anchors = [
            r.median
            for r in result.rows
            if _key(r) == (*_key(row)[:3], ANCHOR, CONTIGUOUS) and r.median is not None
        ]
        if not anchors:
            return None
        unit = anchors[0]
    low, middle, high = (row.quantiles_ms[q] / unit for q in ("0.25", "0.5", "0.75"))
    return low, middle, high


def show(
    before: Result, after: Result, changes: list[Change], absolute: bool, console: Console
) -> None:
    """The table, what the two runs are, and a line that counts the verdicts."""
    unit = "ms" if absolute else "of the reference"
    table = tables.empty_table(
        f"Time in {unit}" if absolute else f"Time as a part {unit}", *COLUMNS
    )
    for change in changes:
        group, case, mode, provider, layout = change.key
        colour = "red" if change.bad else "green" if change.verdict == "faster" else "dim"
        ratio = change.after / change.before if change.after and change.before else None
        table.add_row(
            f"{group}/{case}/{mode} {provider}" + ("" if layout == CONTIGUOUS else " (cl)"),
            _number(change.before),
            _number(change.after),
            _number(ratio),
            _number(change.memory),
            f"[{colour}]{change.verdict or '='}[/{colour}]",
        )
    console.print(table)
    for name, result in (("before", before), ("after", after)):
        commit = (result.commit["hash"] or "unknown")[:10]
        console.print(f"{name}: {result.date}, commit {commit}, {result.machine['cpu']}")
    counts = {v: sum(c.verdict == v for c in changes) for v in dict.fromkeys(VERDICTS)}
    console.print(", ".join(f"{n} {v or 'unchanged'}" for v, n in counts.items() if n))


COLUMNS = ("", "before", "after", "after /\nbefore", "memory", "")
VERDICTS = ("", "faster", "slower", "larger", "wrong", "gone", "new")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
