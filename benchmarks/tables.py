"""The tables of a run, one for each kind of case, and how their cells look."""

from __future__ import annotations

from rich import box
from rich.table import Table

from .bounds import BYTES, PRACTICAL
from .figures import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, HOLES_ONLY, Rows, ratio
from .results import Row


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


def networks(rows: Rows) -> Table:
    """Every provider of every network, in both layouts."""
    table = empty_table(
        "Networks",
        *("", "median\nms", "middle\nhalf", "vs\nref.", "of\nplain", "peak\nMB", "alone\nms"),
        *("page\nfaults", ""),
    )
    for case in rows.cases("network"):
        for mode in (FORWARD, "step"):
            mine = [r for r in rows.rows if (r.group, r.case, r.mode) == ("network", case, mode)]
            if not mine:
                continue
            key = ("network", case, mode)
            reference = rows.best(*key, "reference")
            table.add_section()
            table.add_row(f"[b]{case}[/b] {mode}  [dim]{mine[0].detail}[/dim]")
            for row in mine:
                table.add_row(
                    f"  {row.provider}{suffix(row)}",
                    _ms(row.median),
                    _spread(row),
                    _faster(ratio(reference.median if reference else None, row.median)),
                    _share(row, "plain"),
                    _megabytes(row.peak_bytes),
                    _ms(row.isolated_ms),
                    "" if row.page_faults is None else f"{row.page_faults:,}",
                    _mark(row),
                )
    return table


def norms(rows: Rows) -> Table:
    """A line for each norm and mode."""
    table = empty_table(
        "Region normalization (ms; cl = channels_last)",
        *("", "ref.", "fused", "fused\ncl", "batch\nnorm", "b.n.\ncl"),
        *("vs\nref.", "of\nb.n.", "cl of\nb.n.", "of\nbytes", "cl of\nbytes"),
        *("peak MB\nref. → fused", ""),
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
                _ms(last.median), _ms(bound[0]), _ms(bound[1]),
                _faster(ratio(reference.median, fused.median)),
                _share(fused, "batch norm"), _share(last, "batch norm"),
                _share(fused, BYTES), _share(last, BYTES),
                " → ".join(peaks) if all(peaks) else "", _mark(reference, fused, last),
            )  # fmt: skip
    return table


def layers(rows: Rows, mode: str, group: str = "layer") -> Table:
    """A line for each layer or volume; others who were measured at it below."""
    where = ", three dimensions" if group == "volume" else ""
    table = empty_table(
        f"Partial convolution{where}, {mode} (ms; cl = channels_last)",
        *("", "ref.", "one-\nch.", "fused", "fused\ncl", "C-\nmask", "conv\n2d", "conv\ncl"),
        *("vs\nref.", "C-mask\nvs ref.", "of\nconv", "cl of\nconv", ""),
    )
    for case in rows.cases(group):
        key = (group, case, mode)
        mine = [r for r in rows.rows if (r.group, r.case, r.mode) == key]
        if not mine:
            continue
        ref, one, full, conv, conv_last = (
            rows.ms(*key, "reference"),
            rows.ms(*key, "one-channel"),
            rows.ms(*key, "fused, C-channel mask"),
            rows.ms(*key, "bound"),
            rows.ms(*key, "bound", CHANNELS_LAST),
        )
        fused, last = rows.row(*key, "fused"), rows.row(*key, "fused", CHANNELS_LAST)
        ours, ours_last = (None if row is None else row.median for row in (fused, last))
        table.add_row(
            f"{case} [dim]{mine[0].detail}[/dim]",
            *map(_ms, (ref, one, ours, ours_last, full, conv, conv_last)),
            *(_faster(ratio(ref, ours)), _faster(ratio(ref, full))),
            *(_share(fused, "bound"), _share(last, "bound")),
            _mark(*(row for row in mine if not row.peer)),
        )
        for row in mine:
            if row.peer or row.provider == "reference-compiled":
                cells = ["[dim]-[/dim]"] * 6
                table.add_row(
                    f"[dim]  {row.provider}[/dim]", _ms(row.median), *cells,
                    _faster(ratio(ref, row.median)), "", _share(row, "bound"), "", _mark(row),
                )  # fmt: skip
    return table


def holes(rows: Rows) -> Table:
    """A line for each hole: the whole network, holes alone, and the encoder, which always runs."""
    table = empty_table(
        "Filling holes, inference (ms, channels_last)",
        *("", "whole", "holes\nonly", "encoder", "vs\nwhole", "possible", ""),
    )
    for case in rows.cases("holes"):
        key = ("holes", case, FORWARD)
        providers = ("fused", HOLES_ONLY, "fused, encoder")
        whole, alone, encoder = (rows.ms(*key, name, CHANNELS_LAST) for name in providers)
        mine = [row for row in rows.rows if (row.group, row.case, row.mode) == key]
        table.add_row(
            f"{case} [dim]{mine[0].detail}[/dim]", *map(_ms, (whole, alone, encoder)),
            _faster(ratio(whole, alone)), _faster(ratio(whole, encoder)), _mark(*mine),
        )  # fmt: skip
    return table


def patched(rows: Rows) -> Table:
    """A line for each network of public code: as it was, and patched."""
    table = empty_table(
        "Networks of public code, patched (ms)", *("", "before", "after", "faster", "")
    )
    for row in rows.rows:
        if row.group != "patched" or row.provider != "fused":
            continue
        before = rows.row("patched", row.case, row.mode, "reference")
        found = [row] if before is None else [before, row]
        table.add_row(
            f"{row.case}, {row.mode} [dim]{row.detail}[/dim]",
            _ms(found[0].median if before else None), _ms(row.median),
            _faster(ratio(before.median if before else None, row.median)), _mark(*found),
        )  # fmt: skip
    return table


def sweeps(rows: Rows, group: str = "sweep") -> Table:
    """A line for each point and provider."""
    table = empty_table(
        {"sweep": "Sweeps, forward+backward", "growth": "As work grows, training step"}[group],
        *("", "median\nms", "middle\nhalf", "vs\nref.", "of plain\noperator", "of\nbytes"),
        *("peak\nMB", ""),
    )
    for case in rows.cases(group):
        mine = [row for row in rows.rows if (row.group, row.case) == (group, case)]
        reference = next((row.median for row in mine if row.provider == "reference"), None)
        table.add_section()
        table.add_row(f"[b]{case}[/b]  [dim]{mine[0].detail}[/dim]")
        for row in mine:
            table.add_row(
                f"  {row.provider}", _ms(row.median), _spread(row),
                _faster(ratio(reference, row.median)) if row.match else "",
                "".join(_share(row, name) for name in PRACTICAL), _share(row, BYTES),
                _megabytes(row.peak_bytes), _mark(row),
            )  # fmt: skip
    return table


def suffix(row: Row) -> str:
    """The layout behind a provider's name, unless it is the usual one."""
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


def _share(row: Row | None, bound: str) -> str:
    """The achieved share of a bound: red where it is well below."""
    value = None if row is None or row.share is None else row.share.get(bound)
    if value is None:
        return ""
    colour = "green" if value >= 1.0 else "yellow" if value >= 0.87 else "red"
    return f"[{colour}]{value:.0%}[/{colour}]"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:,.0f}"


def _mark(*rows: Row) -> str:
    if any(row.wrong or row.failed for row in rows):
        return "[red]✗[/red]"
    return "[green]✓[/green]" if any(row.match for row in rows) else "[dim]·[/dim]"
