"""The tables one reads after a run."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from . import figures
from .figures import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, Rows, ratio
from .results import Result, Row

WIDTH = 106
"""What the widest table needs; used where there is no terminal to ask."""


def console() -> Console:
    """A console wide enough for the tables, also when its output goes to a file."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def show(result: Result, console: Console) -> None:
    """Everything about a run: networks, norms, layers, targets, headline."""
    rows = Rows(result.rows)
    if rows.cases("network"):
        console.print(_networks(rows))
    if rows.cases("norm"):
        console.print(_norms(rows))
    for mode in (FORWARD, BOTH):
        if rows.cases("layer"):
            console.print(_layers(rows, mode))
    console.print(_figures(result))
    for row in result.rows:
        if row.error or row.failed:
            console.print(problem(row))
    if result.disturbed:
        names = ", ".join(result.disturbed)
        console.print(f"[yellow]other processes were busy during: {names}[/yellow]")
    lines = headline(rows)
    if lines:
        console.print(Panel("\n".join(lines), title=_where(result), border_style="green"))


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


def _where(result: Result) -> str:
    machine = result.machine
    device = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    return f"{device} · torch {result.versions['torch']} · {result.arguments['plan']} run"


def empty_table(title: str, *columns: str) -> Table:
    """An empty table in the report's style: first column left, the others right."""
    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return made


def _networks(rows: Rows) -> Table:
    table = empty_table(
        "Networks",
        *("", "median\nms", "middle\nhalf", "vs\nref.", "vs\nplain", "peak\nMB", "alone\nms"),
        *("page\nfaults", ""),
    )
    for case in rows.cases("network"):
        for mode in (FORWARD, "step"):
            mine = [r for r in rows.rows if (r.group, r.case, r.mode) == ("network", case, mode)]
            if not mine:
                continue
            key = ("network", case, mode)
            reference, plain = rows.best(*key, "reference"), rows.best(*key, "plain")
            table.add_section()
            table.add_row(f"[b]{case}[/b] {mode}  [dim]{mine[0].detail}[/dim]")
            for row in mine:
                bound = None if plain is None else plain.median
                table.add_row(
                    f"  {row.provider}{_suffix(row)}",
                    _ms(row.median),
                    _spread(row),
                    _faster(ratio(reference.median if reference else None, row.median)),
                    _times(ratio(row.median, bound)),
                    _megabytes(row.peak_bytes),
                    _ms(row.isolated_ms),
                    "" if row.page_faults is None else f"{row.page_faults:,}",
                    _mark(row),
                )
    return table


def _norms(rows: Rows) -> Table:
    table = empty_table(
        "Region normalization (ms; cl = channels_last)",
        *("", "ref.", "fused", "fused\ncl", "batch\nnorm", "b.n.\ncl", "clone"),
        *("vs\nref.", "vs\nb.n.", "vs\nb.n. cl", "peak MB\nref. → fused", ""),
    )
    for case in rows.cases("norm"):
        for mode in (FORWARD, BOTH):
            key = ("norm", case, mode)
            fused, last = rows.row(*key, "fused"), rows.row(*key, "fused", CHANNELS_LAST)
            reference = rows.row(*key, "reference")
            if fused is None or last is None or reference is None:
                continue
            bound = [rows.ms(*key, "batch norm", x) for x in (CONTIGUOUS, CHANNELS_LAST)]
            peaks = [_megabytes(r.peak_bytes) for r in (reference, fused)]
            table.add_row(
                f"{case} {_short(mode)}",
                _ms(reference.median), _ms(fused.median),
                _ms(last.median), _ms(bound[0]), _ms(bound[1]), _ms(rows.ms(*key, "clone")),
                _faster(ratio(reference.median, fused.median)),
                _times(ratio(fused.median, bound[0])), _times(ratio(last.median, bound[1])),
                " → ".join(peaks) if all(peaks) else "", _mark(reference, fused, last),
            )  # fmt: skip
    return table


def _layers(rows: Rows, mode: str) -> Table:
    table = empty_table(
        f"Partial convolution, {mode} (ms; cl = channels_last)",
        *("", "ref.", "one-\nch.", "fused", "fused\ncl", "C-\nmask", "conv\n2d", "conv\ncl"),
        *("vs\nref.", "C-mask\nvs ref.", "vs\nconv", "vs\nconv cl", ""),
    )
    for case in rows.cases("layer"):
        key = ("layer", case, mode)
        mine = [r for r in rows.rows if (r.group, r.case, r.mode) == key]
        if not mine:
            continue
        ref, one, full, conv, ours = (
            rows.ms(*key, provider)
            for provider in ("reference", "one-channel", "fused, C-channel mask", "bound", "fused")
        )
        last, conv_last = (rows.ms(*key, name, CHANNELS_LAST) for name in ("fused", "bound"))
        table.add_row(
            f"{case} [dim]{mine[0].detail}[/dim]",
            *map(_ms, (ref, one, ours, last, full, conv, conv_last)),
            *(_faster(ratio(ref, ours)), _faster(ratio(ref, full))),
            *(_times(ratio(ours, conv)), _times(ratio(last, conv_last))),
            _mark(*mine),
        )
        compiled = rows.ms(*key, "reference-compiled")
        if compiled is not None:
            table.add_row("[dim]  reference, compiled[/dim]", f"[dim]{_ms(compiled)}[/dim]")
    return table


def _figures(result: Result) -> Table:
    quick = "" if result.complete else " (set for the full run's sizes; this run is smaller)"
    table = empty_table(f"Figures to reach{quick}", "", "target", "measured", "", "where")
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: ""}
    for figure in result.figures:
        measured = "" if figure["measured"] is None else f"{figure['measured']:.2f}"
        table.add_row(
            figure["figure"], figure["target"], measured, marks[figure["reached"]], figure["detail"]
        )
    return table


def problem(row: Row) -> str:
    """What is wrong with a row, in a line."""
    where = f"[red]{row.group}/{row.case}/{row.mode} {row.provider}{_suffix(row)}[/red]: "
    if row.error:
        return where + row.error.replace("[", r"\[")
    match = row.match or {}
    if match["error"] is None:
        return f"{where}{match['worst']} is missing, has another shape or is not finite"
    return (
        f"{where}{match['worst']} is off by {match['error']:.2g}, allowed {match['tolerance']:.2g}"
    )


def _suffix(row: Row) -> str:
    return "" if row.layout == CONTIGUOUS else " (channels_last)"


def _short(mode: str) -> str:
    return {FORWARD: "fwd", BOTH: "fwd+bwd"}.get(mode, mode)


def _ms(value: float | None) -> str:
    if value is None:
        return "[dim]-[/dim]"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _spread(row: Row) -> str:
    q = row.quantiles_ms
    return "" if q is None else f"[dim]{_ms(q['0.25'])}-{_ms(q['0.75'])}[/dim]"


def _faster(value: float | None) -> str:
    """A speed-up: green where it is one."""
    if value is None:
        return ""
    colour = "green" if value > 1.05 else "red" if value < 0.95 else "default"
    return f"[{colour}]{value:.2f}x[/{colour}]"


def _times(value: float | None) -> str:
    """Time relative to a bound: red where it is well above."""
    if value is None:
        return ""
    colour = "green" if value <= 1.0 else "yellow" if value <= 1.15 else "red"
    return f"[{colour}]{value:.2f}[/{colour}]"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:,.0f}"


def _mark(*rows: Row) -> str:
    if any(row.failed for row in rows):
        return "[red]✗[/red]"
    return "[green]✓[/green]" if any(row.match for row in rows) else "[dim]·[/dim]"
