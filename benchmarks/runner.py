"""Measuring: check each candidate once, then time them in turns, round after round."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from .cases import Call, Candidate, Case, Truth
from .devices import Device
from .oracle import Match, compare
from .results import SKIPPED, Row, quantiles


@dataclass
class Entry:
    """A candidate on its way through a case: its call, its check, its samples."""

    candidate: Candidate
    call: Call | None = None
    match: Match | None = None
    error: str | None = None
    milliseconds: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    peak_bytes: int | None = None


Progress = Callable[[str], None]

HURRIED_ROUNDS = 3

COMPILE_SECONDS = 120.0
"""What the compilation of a network may take: with less left it is not begun."""


def run_case(
    case: Case,
    device: Device,
    min_rounds: int,
    max_rounds: int,
    progress: Progress = lambda _: None,
    hurry: bool = False,
    left: Callable[[], float] = lambda: math.inf,
) -> list[Row]:
    """Check and time every candidate of a case; failures become rows that carry the error.

    In a ``hurry`` nothing is compiled, and the rounds are as few as allowed. Candidates that find
    no time ``left`` (in seconds) are skipped.
    """
    entries = [Entry(candidate) for candidate in case.candidates]
    if left() <= 0:
        for entry in entries:
            entry.error = SKIPPED
        return [_row(case, entry, None) for entry in entries]
    progress("computing the float64 truth")
    truth = case.truth()
    with device.tuned():
        for entry in entries:
            compiled = entry.candidate.compiled
            if (hurry and compiled) or left() <= (COMPILE_SECONDS if compiled else 0.0):
                entry.error = SKIPPED
                continue
            progress(f"warming up {entry.candidate.provider}")
            _prepare(entry, truth, device)
        del truth
        ready = [entry for entry in entries if entry.call is not None]
        others = Bystanders()
        if hurry:
            time_rounds(ready, 0.0, device, min(min_rounds, HURRIED_ROUNDS), max_rounds, progress)
        else:
            time_rounds(ready, case.seconds, device, min_rounds, max_rounds, progress)
        share = others.share()
    rows = [_row(case, entry, share) for entry in entries]
    for entry in entries:
        entry.call = None
    device.release()
    return rows


class Bystanders:
    """How busy other processes keep the processors, from here on."""

    def __init__(self) -> None:
        """Start watching."""
        self._start = self._now()

    def share(self) -> float | None:
        """Their part of all processor time since the start; None if too little has passed."""
        total, busy, own = (b - a for a, b in zip(self._start, self._now(), strict=True))
        # The system counts in ticks of 10 ms: below a second the difference is mostly rounding.
        return None if total < 1 else round(max(0.0, busy - own) / total, 3)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Linux counts guest time twice: within user time, and by itself.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return total, total - idle, own.user + own.system


def _prepare(entry: Entry, truth: Mapping[str, Truth], device: Device) -> None:
    """Build, run once for the check (this also compiles) and, if it is short, again to warm up.

    A graph is checked by what its replay leaves.
    """
    try:
        call = entry.candidate.build()
        before = device.allocated()
        if entry.candidate.graph:
            call = device.capture(call)
        started = time.perf_counter()
        outputs = call()
        long = time.perf_counter() - started > 1
        if entry.candidate.checked:
            entry.match = compare(outputs, truth)
        del outputs
        if before is not None and entry.candidate.weighed:
            peak = device.peak(call)
            entry.peak_bytes = None if peak is None else max(0, peak - before)
        elif not long:
            call()
    except Exception as failure:  # a provider that cannot run is a result, not the end of the run
        entry.error = one_line(failure)
    else:
        entry.call = call


def time_rounds(
    entries: Sequence[Entry],
    seconds: float,
    device: Device,
    min_rounds: int,
    max_rounds: int,
    progress: Progress = lambda _: None,
) -> None:
    """Time all entries once per round, in a new order every round, until the time is used up.

    Interleaving lets a slow spell of the machine fall on every candidate alike; shuffling keeps
    one from always running in the cache state that another leaves behind.
    """
    if not entries:
        return
    shuffle = random.Random(0).shuffle
    started = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for done in range(max_rounds):
            spent = time.perf_counter() - started
            if done >= min_rounds and spent + spent / done > seconds:
                break
            progress(f"round {done + 1}")
            order = list(entries)
            shuffle(order)
            for entry in order:
                _sample(entry, device)
    finally:
        gc.enable()


def _sample(entry: Entry, device: Device) -> None:
    assert entry.call is not None
    found = device.sample(entry.call)
    entry.milliseconds.append(found.milliseconds)
    if found.faults is not None:
        entry.faults.append(found.faults)


def one_line(failure: BaseException) -> str:
    """An exception as one short line, without the paths of this machine."""
    lines = str(failure).strip().splitlines()
    text = f"{type(failure).__name__}: {lines[0] if lines else ''}"
    return " ".join(w for w in text.split() if not w.strip("'\"(").startswith("/"))[:300]


def _row(case: Case, entry: Entry, foreign_cpu: float | None) -> Row:
    faults = sorted(entry.faults)
    return Row(
        group=case.group,
        case=case.name,
        detail=case.detail,
        provider=entry.candidate.provider,
        mode=case.mode,
        layout=entry.candidate.layout,
        dtype=case.dtype,
        shape=list(case.shape),
        quantiles_ms=quantiles(entry.milliseconds) if entry.milliseconds else None,
        rounds=len(entry.milliseconds),
        page_faults=faults[len(faults) // 2] if faults else None,
        peak_bytes=entry.peak_bytes,
        foreign_cpu=foreign_cpu,
        match=None if entry.match is None else entry.match.to_json(),
        error=entry.error,
        least_bytes=case.least_bytes,
        sweep=None if case.sweep is None else dict(zip(("axis", "value"), case.sweep, strict=True)),
        peer=entry.candidate.peer,
    )
