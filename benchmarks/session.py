"""One run from start to end: cases, memory in child processes, figures."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import bounds, figures, gpu_figures
from .baselines import peers
from .cases import Case, all_cases
from .children import Children, children
from .devices import Device
from .machine import describe_commit, describe_machine, describe_versions
from .plan import CUDA, Plan
from .report import problem
from .results import BUSY, Result, Row
from .runner import run_case

NOTES = [
    "Times are medians of rounds in which the providers take turns in shuffled order; ratios are "
    "of medians of the same run.",
    "Networks: forward is evaluation mode without gradients; step is forward, L1 loss, backward "
    "and Adam, with gradients reset to None.",
    "Peak memory is the peak resident memory of a child process that runs this candidate only, "
    "less what was resident before its first step (model, optimizer and inputs already built).",
    "Compilation happens before timing starts and is not part of any time.",
    "Peak memory in sweeps: as above, but each large block is a mapping of its own and given back "
    "when freed, so that it is what was alive at once.",
    "Share of the bound: time of plain operators (bound, batch norm, plain) over the row's; bytes: "
    "time to move least_bytes at the speed of the warm copy in the same rounds, over the row's.",
    "Layers have a bias in all providers; their inputs are activations of the network on the "
    "sample photographs, their masks the holes that reach that layer.",
]


OURS = ("fused", *(f"fused-{name}" for name in CUDA.backends))
"""Whose speed-up is told in passing."""

GPU_NOTES = [
    NOTES[0],
    NOTES[1] + " Adam's rate is zero, so that every call has the same result.",
    "Times are those of CUDA events around one call, after a write of 256 MiB that flushes the L2 "
    "cache; torch.backends.cudnn.benchmark is on, TF32 as torch sets it.",
    "Graphs are captured after three calls on a stream of their own, and replayed; reference, "
    "fused and plain operators have one each.",
    "Peak memory is torch.cuda.max_memory_allocated during a warm call, less what was allocated "
    "before the candidate's first.",
    "Half precision: networks under autocast, operators on tensors of the dtype; what a result may "
    "be off is twice what PyTorch's plain operator is, and one rounding (over_own: the error in "
    "units of PyTorch's own). The published forms are shown, but excused.",
    *NOTES[3:4],
    *NOTES[5:],
]


def select(plan: Plan, only: str | None) -> list[Case]:
    """Cases whose id contains ``only``."""
    return [case for case in all_cases(plan) if only is None or only in case.id]


def run(plan: Plan, only: str | None, console: Console, device: Device) -> Result:
    """Measure every selected case and return the result, figures included."""
    started = time.perf_counter()
    absent = missing_peers()
    for line in absent:
        console.print(f"[yellow]{escape(line)}[/yellow]", highlight=False)
    result = Result(
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=describe_machine(plan.device),
        versions=describe_versions(),
        commit=describe_commit(),
        arguments={"plan": plan.name, "device": plan.device, "only": only},
        notes=[*(GPU_NOTES if plan.backends else NOTES), *absent],
    )
    result.machine["copy_gb_s"] = device.copy_gigabytes_per_second()

    def left() -> float:
        return plan.budget_seconds - (time.perf_counter() - started)

    cases = select(plan, only)
    columns = (
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    # Where the device can tell a candidate's memory, no child has to.
    weighing = children(plan, torch.get_num_threads()) if device.allocated() is None else None
    with (
        weighing or contextlib.nullcontext() as running,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        task = progress.add_task("", total=len(cases))
        for case in cases:

            def tell(what: str, case: Case = case) -> None:
                progress.update(task, description=f"{case.id} [dim]{what}[/dim]")

            hurry = time.perf_counter() - started > plan.deadline_seconds
            rows = run_case(case, device, plan.min_rounds, plan.max_rounds, tell, hurry, left)
            # Of a sweep, memory is one half, and the cheaper one.
            if running and case.memory and (not hurry or case.sweep is not None):
                _add_memory(running, case, rows, tell)
            result.rows += rows
            console.print(_line(case, rows), highlight=False)
            for row in rows:
                if row.wrong or (row.error is not None and not row.skipped):
                    console.print("   " + problem(row), highlight=False)
            progress.advance(task)
    bounds.fill(result.rows)
    result.figures = (
        gpu_figures.compute(result.rows, plan.backends)
        if plan.backends
        else figures.compute(result.rows)
    )
    result.seconds = round(time.perf_counter() - started, 1)
    return result


def missing_peers() -> list[str]:
    """A line for each peer that is not installed here, and so not measured."""
    return [
        f"{name} is not installed and not measured: pip install -c constraints.txt -e '.[peers]'"
        for name in peers.PACKAGES
        if peers.version(name) is None
    ]


def _add_memory(
    running: Children, case: Case, rows: Sequence[Row], tell: Callable[[str], None]
) -> None:
    for candidate, row in zip(case.candidates, rows, strict=True):
        if row.error is None and candidate.weighed:
            tell(f"memory of {candidate.provider}")
            report = running.measure(case, candidate)
            row.error = report.get("error")
            row.peak_bytes = report.get("peak_bytes")
            row.isolated_ms = report.get("isolated_ms")


def _line(case: Case, rows: Sequence[Row]) -> str:
    """What one finished case says in passing."""
    known = figures.Rows(rows)
    key = (case.group, case.name, case.mode)
    mark = "[red]✗[/red]" if any(row.failed for row in rows) else "[green]✓[/green]"
    text = f" {mark} {case.id}"
    for ours in dict.fromkeys(row.provider for row in rows if row.provider in OURS):
        faster = figures.fair_ratio(known, key, "reference", ours)
        if faster is not None:
            text += f"  {'' if ours == OURS[0] else ours + ' '}{faster:.2f}x the reference"
    skipped = sum(row.skipped for row in rows)
    if skipped:
        text += f"  [yellow]{skipped} of {len(rows)} skipped: out of time[/yellow]"
    busy = max((row.foreign_cpu or 0.0 for row in rows), default=0.0)
    if busy > BUSY:
        text += f"  [yellow]other processes took {busy:.0%} of the processors[/yellow]"
    return text
