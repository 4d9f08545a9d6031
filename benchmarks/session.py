"""One run from start to end: cases, memory in child processes, figures."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import figures
from .cases import Case, all_cases
from .machine import describe_commit, describe_machine, describe_versions
from .memory import measure_in_child
from .plan import Plan
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
    "Layers have a bias in all providers; their inputs are activations of the network on the "
    "sample photographs, their masks the holes that reach that layer.",
]


def select(plan: Plan, only: str | None) -> list[Case]:
    """Cases whose id contains ``only``."""
    return [case for case in all_cases(plan) if only is None or only in case.id]


def run(plan: Plan, only: str | None, console: Console) -> Result:
    """Measure every selected case and return the result, figures included."""
    started = time.perf_counter()
    result = Result(
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=describe_machine(plan.device),
        versions=describe_versions(),
        commit=describe_commit(),
        arguments={"plan": plan.name, "device": plan.device, "only": only},
        notes=NOTES,
    )
    cases = select(plan, only)
    columns = (
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:

            def tell(what: str, case: Case = case) -> None:
                progress.update(task, description=f"{case.id} [dim]{what}[/dim]")

            hurry = time.perf_counter() - started > plan.deadline_seconds
            rows = run_case(case, plan.device, plan.min_rounds, plan.max_rounds, tell, hurry)
            if case.memory and not hurry:
                _add_memory(plan, case, rows, tell)
            result.rows += rows
            console.print(_line(case, rows), highlight=False)
            for row in rows:
                if row.failed or row.error is not None:
                    console.print("   " + problem(row), highlight=False)
            progress.advance(task)
    result.figures = figures.compute(result.rows)
    result.seconds = round(time.perf_counter() - started, 1)
    return result


def _add_memory(plan: Plan, case: Case, rows: Sequence[Row], tell: Callable[[str], None]) -> None:
    for candidate, row in zip(case.candidates, rows, strict=True):
        # Compiling once more would take longer than it tells; the trick is there for its time.
        if row.error is not None or candidate.compiled or candidate.provider == "one-channel":
            continue
        tell(f"memory of {candidate.provider}")
        report = measure_in_child(plan, torch.get_num_threads(), case, candidate)
        row.error = report.get("error")
        row.peak_bytes = report.get("peak_bytes")
        row.isolated_ms = report.get("isolated_ms")


def _line(case: Case, rows: Sequence[Row]) -> str:
    """What one finished case says in passing."""
    known = figures.Rows(rows)
    key = (case.group, case.name, case.mode)
    faster = figures.fair_ratio(known, key, "reference", "fused")
    mark = "[red]✗[/red]" if any(row.failed for row in rows) else "[green]✓[/green]"
    text = f" {mark} {case.id}"
    if faster is not None:
        text += f"  {faster:.2f}x the reference"
    busy = max((row.foreign_cpu or 0.0 for row in rows), default=0.0)
    if busy > BUSY:
        text += f"  [yellow]other processes took {busy:.0%} of the processors[/yellow]"
    return text
