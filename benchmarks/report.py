"""The tables one reads after a run."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from . import figures, gpu_docs, tables
from .figures import BOTH, FORWARD, Rows
from .results import Result, Row

WIDTH = 114
"""What the widest table needs; used where there is no terminal to ask."""


def console() -> Console:
    """A console wide enough for the tables, also when its output goes to a file."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def show(result: Result, console: Console) -> None:
    """Everything about a run: networks, norms, layers, sweeps, targets, headline."""
    rows = Rows(result.rows)
    if rows.cases("network"):
        console.print(tables.networks(rows))
    if result.arguments["device"] == "cuda":
        _show_gpu(result, console)
    else:
        _show_operators(rows, console)
    if any(figure["measured"] is not None for figure in result.figures):
        console.print(_figures(result))
    for row in result.rows:
        if (row.error and not row.skipped) or row.wrong:
            console.print(problem(row))
    if result.skipped:
        console.print("[yellow]left out, for want of time:[/yellow]")
        console.print("\n".join(f"  {name}" for name in result.skipped), highlight=False)
    if result.disturbed:
        names = ", ".join(result.disturbed)
        console.print(f"[yellow]other processes were busy during: {names}[/yellow]")
    lines = headline(rows)
    if lines:
        console.print(Panel("\n".join(lines), title=result.where, border_style="green"))


def _show_gpu(result: Result, console: Console) -> None:
    """Operators in the precision that nets train in; all the others are in the stored result."""
    for line in gpu_docs.tables(Rows(result.rows)):
        console.print(line, highlight=False, markup=False)


def _show_operators(rows: Rows, console: Console) -> None:
    if rows.cases("patched"):
        console.print(tables.patched(rows))
    if rows.cases("holes"):
        console.print(tables.holes(rows))
    if rows.cases("norm"):
        console.print(tables.norms(rows))
    for mode in (FORWARD, BOTH):
        if rows.cases("layer"):
            console.print(tables.layers(rows, mode))
    if rows.cases("volume"):
        console.print(tables.layers(rows, BOTH, "volume"))
    for group in ("sweep", "growth"):
        if rows.cases(group):
            console.print(tables.sweeps(rows, group))


def headline(rows: Rows) -> list[str]:
    """The outcome in a sentence per network."""
    lines = []
    for case in rows.cases("network"):
        key = ("network", case, "step")
        faster = figures.best_ratio(rows, key, "reference", "fused")
        if faster is None:
            continue
        text = f"training step of [b]{case}[/b]: [b green]{faster:.2f}x[/b green] the speed"
        text += " of the reference"
        plain = figures.best_ratio(rows, key, "fused", "plain")
        memory = figures.memory_ratio(rows, key)
        if memory is not None:
            text += f", {memory:.2f}x its memory"
        if plain is not None:
            text += f"; {plain:.2f}x the time of plain convolutions and batch norm"
        lines.append(text)
    return lines


def _figures(result: Result) -> Table:
    quick = "" if result.complete else " (set for the full run's sizes; this run is smaller)"
    table = tables.empty_table(f"Figures to reach{quick}", "", "target", "measured", "", "where")
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: ""}
    for figure in result.figures:
        measured = "" if figure["measured"] is None else f"{figure['measured']:.2f}"
        table.add_row(
            figure["figure"], figure["target"], measured, marks[figure["reached"]], figure["detail"]
        )
    return table


def problem(row: Row) -> str:
    """What is wrong with a row, in a line."""
    peer = ", a peer's own deviation" if row.peer else ""
    where = f"[red]{row.group}/{row.case}/{row.mode} {row.provider}{tables.suffix(row)}[/red]: "
    if row.error:
        return where + row.error.replace("[", r"\[")
    match = row.match or {}
    if match["error"] is None:
        return f"{where}{match['worst']} is missing, has another shape or is not finite{peer}"
    return (
        f"{where}{match['worst']} is off by {match['error']:.2g}, "
        f"allowed {match['tolerance']:.2g}{peer}"
    )
