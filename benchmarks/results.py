"""Result files: one JSON per run, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT_VERSION = 3
READABLE = (1, 2, 3)
"""Format 1 knew no sweeps, peers and shares, format 2 no skipped candidates and no graphs: there
they are absent, as where none is measured."""
SKIPPED = "skipped: the run was past its time"
RESULTS = Path(__file__).parent / "results"
BUSY = 0.05
"""Share of the processors that other processes may take before a case is called disturbed."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass
class Row:
    """One candidate of one case.

    ``page_faults`` is the median per call. ``peak_bytes`` is the peak resident memory of a process
    that runs nothing else, less what was resident just before the first call, and
    ``isolated_ms`` the median time of a later call in that process; on a GPU ``peak_bytes`` is the
    peak of torch's allocator in one warm call, less what was allocated before the first.
    ``match`` is empty for bounds.
    ``foreign_cpu`` is the share of the processors that other processes took while the case was
    timed: above a few per cent, the times are not to be trusted. ``least_bytes`` is what any
    implementation must move, ``share`` the achieved share of each bound (see ``bounds``),
    ``sweep`` the axis and the value that a sweep was at, ``peer`` somebody else's package.
    """

    group: str
    case: str
    detail: str
    provider: str
    mode: str
    layout: str
    dtype: str
    shape: list[int]
    quantiles_ms: dict[str, float] | None
    rounds: int
    page_faults: int | None = None
    peak_bytes: int | None = None
    isolated_ms: float | None = None
    foreign_cpu: float | None = None
    match: dict[str, Any] | None = None
    error: str | None = None
    least_bytes: int | None = None
    share: dict[str, float] | None = None
    sweep: dict[str, Any] | None = None
    peer: bool = False

    @property
    def median(self) -> float | None:
        """Median milliseconds, if the candidate ran."""
        return None if self.quantiles_ms is None else self.quantiles_ms["0.5"]

    @property
    def wrong(self) -> bool:
        """Whether it differs from the definition by more than rounding."""
        return self.match is not None and not self.match["ok"]

    @property
    def skipped(self) -> bool:
        """Whether there was no time for it."""
        return self.error == SKIPPED

    @property
    def failed(self) -> bool:
        """Whether this row must fail the run: a wrong result, or ours not running at all.

        A peer may deviate by its own design: that is shown, and no failure of ours.
        """
        if self.peer or self.skipped:
            return False
        return self.wrong or (self.error is not None and self.provider.startswith("fused"))


@dataclass
class Result:
    """A run: where and how it was made, its rows, and the target figures computed from them."""

    date: str
    machine: dict[str, Any]
    versions: dict[str, Any]
    commit: dict[str, Any]
    arguments: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    format_version: int = FORMAT_VERSION

    @property
    def failures(self) -> list[Row]:
        """Rows that make the run exit with an error."""
        return [row for row in self.rows if row.failed]

    @property
    def skipped(self) -> list[str]:
        """Every candidate that the run had no time for."""
        return [
            f"{r.group}/{r.case}/{r.mode} {r.provider} ({r.layout})" for r in self.rows if r.skipped
        ]

    @property
    def disturbed(self) -> list[str]:
        """Cases during which other processes were busy."""
        busy = [r for r in self.rows if (r.foreign_cpu or 0.0) > BUSY]
        return list(dict.fromkeys(f"{r.case} {r.mode}" for r in busy))

    @property
    def complete(self) -> bool:
        """Whether it is a full run of every case, as published tables need."""
        return self.arguments["plan"] == "full" and not self.arguments["only"]

    @property
    def where(self) -> str:
        """Device, torch and plan in a few words."""
        machine = self.machine
        device = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
        return f"{device} · torch {self.versions['torch']} · {self.arguments['plan']} run"

    def file_name(self) -> str:
        """``<date>-<machine>-<plan>.json``."""
        name = self.machine["gpu"] or self.machine["cpu"]
        slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", " ", name.lower())).strip("-")
        plan = self.arguments["plan"] + ("-partial" if self.arguments["only"] else "")
        return f"{self.date.replace(':', '')}-{slug}-{plan}.json"


def quantiles(samples: Sequence[float]) -> dict[str, float]:
    """Quantiles by linear interpolation, keyed "0.1" to "0.9"."""
    ordered = sorted(samples)
    found = {}
    for q in QUANTILES:
        position = q * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        found[str(q)] = ordered[low] + (ordered[high] - ordered[low]) * (position - low)
    return found


def store(result: Result, folder: Path) -> Path:
    """Write a result under its own name; a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result.file_name()
    temporary = path.with_suffix(".json.partial")
    temporary.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(temporary, path)
    return path


def load(path: Path) -> Result:
    """Read a result file, of this format or an older one."""
    data = json.loads(path.read_text("utf-8"))
    version = data.get("format_version")
    if version not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise ValueError(f"{path.name} has format {version}, this version reads {known}")
    names = {f.name for f in fields(Result)}
    if unknown := set(data) - names:
        raise ValueError(f"{path.name} has unknown fields: {', '.join(sorted(unknown))}")
    rows = [Row(**row) for row in data["rows"]]
    return Result(**{**data, "rows": rows, "format_version": FORMAT_VERSION})


def newest(plan: str, folder: Path = RESULTS, device: str = "cpu") -> Path | None:
    """The latest run of every case of a plan in a folder, by the date inside the file."""
    found = [(load(path), path) for path in sorted(folder.glob("*.json"))]
    whole = [
        (result.date, path)
        for result, path in found
        if (result.arguments["plan"], result.arguments["only"]) == (plan, None)
        and result.arguments["device"] == device
    ]
    return max(whole)[1] if whole else None
