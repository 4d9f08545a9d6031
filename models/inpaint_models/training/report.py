"""What an evaluation leaves: JSON, CSV, tables beside published numbers, a sheet of pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..composite import composite
from .baselines import Fill
from .data import Batch
from .evaluate import Evaluation, Row, predict, visible
from .extras import require
from .masks import Range
from .metrics import METRICS, Metric
from .published import PublishedTable

FORMAT_VERSION = 1


def bin_label(ratios: Range | None) -> str:
    """ "10-20 %", or "all"."""
    return "all" if ratios is None else f"{100 * ratios[0]:g}-{100 * ratios[1]:g} %"


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Means by method and bin, and every picture's row.

    Standard JSON: null stands for "nothing to compare", "Infinity" for the PSNR of equal pictures.
    """
    data = {
        "format_version": FORMAT_VERSION,
        "model": evaluation.model,
        "metrics": {m.name: m.label for m in evaluation.metrics},
        "bins": [list(b) for b in evaluation.bins],
        "summaries": [
            {
                "method": s.method,
                "bin": s.bin and list(s.bin),
                "pictures": s.pictures,
                "means": _plain(s.means),
                "counts": dict(s.counts),
                "infinite": dict(s.infinite),
            }
            for s in evaluation.summaries()
        ],
        "rows": [
            {
                "method": row.method,
                "index": row.index,
                "name": row.name,
                "hole_ratio": row.hole_ratio,
                "bin": row.bin and list(row.bin),
                "values": _plain(row.values),
            }
            for row in evaluation.rows
        ],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write(path, text.encode("utf-8"))


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """One line per method and picture; an empty cell is "nothing to compare"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [m.name for m in evaluation.metrics]
    writer.writerow(["method", "index", "name", "hole_ratio", "bin", *names])
    for row in evaluation.rows:
        values = ["" if math.isnan(row.values[n]) else repr(row.values[n]) for n in names]
        label = "" if row.bin is None else bin_label(row.bin)
        writer.writerow([row.method, row.index, row.name, repr(row.hole_ratio), label, *values])
    _write(path, text.getvalue().encode("utf-8"))


def markdown(
    evaluation: Evaluation,
    published: PublishedTable | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The evaluation in a paper's layout, as a Markdown table.

    Where `published` sorts by hole ratio: a group of lines for each of its ratios and a column for
    each method, ours first. Otherwise, and without one: a line for each method and a column for
    each metric, in the order of `published`, ours first; overall, then for each bin. `remarks` come
    first below it.
    """
    if published is not None and published.bins:
        lines = _by_ratio(evaluation, published)
    else:
        lines = _by_method(evaluation, published)
    notes = _notes(evaluation)
    if published is not None:
        notes = [f"Published numbers, in italics: {published.source}.", *published.notes, *notes]
    return "\n".join([*lines, "", *(f"- {note}" for note in (*remarks, *notes))]) + "\n"


def picture_sheet(
    evaluation: Evaluation,
    fill: Fill,
    batches: Iterable[Batch],
    path: Path,
    method: str | None = None,
) -> None:
    """Write a PNG of the best, the median and the worst picture by PSNR.

    Each line has the input with its hole grey, the output, the composite and the truth, pixel for
    pixel; unmeasured pixels of the truth are grey too. The pictures are not kept by `evaluate`:
    `fill`, which made `method` (by default the model), fills these three again, one by one; for
    the corrected model that is `corrected(fill, ...)`.

    Args:
        batches: the data of the evaluation, iterated again, with the same masks.

    Raises:
        ValueError: the evaluation has no PSNR, or `batches` is used up or differs from what was
            evaluated.
    """
    chosen = best_median_worst(evaluation.of(evaluation.model if method is None else method))
    wanted = {row.index for row in chosen.values()}
    found: dict[int, list[Tensor]] = {}
    start = 0
    for batch in batches:
        here = sorted(i - start for i in wanted if start <= i < start + len(batch.names))
        for i in here:
            row = next(r for r in chosen.values() if r.index == start + i)
            found[start + i] = _strip(fill, _one(batch, i), row)
        start += len(batch.names)
        if len(found) == len(wanted):
            break
    if len(found) < len(wanted):
        raise ValueError(
            f"batches must yield the evaluated pictures again, got {start} pictures: hand over "
            "something that can be iterated twice"
        )
    _draw({title: (row, found[row.index]) for title, row in chosen.items()}, path)


def best_median_worst(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows of highest, middle and lowest PSNR; of two middle ones the lower."""
    if not rows or "psnr" not in rows[0].values:
        raise ValueError("the best, median and worst picture need the metric 'psnr'")
    ranked = sorted((r for r in rows if not math.isnan(r.values["psnr"])), key=_psnr)
    if not ranked:
        raise ValueError("no picture has a PSNR: the truth was never measured")
    return {"best": ranked[-1], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[0]}


def _psnr(row: Row) -> float:
    return row.values["psnr"]


def _plain(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: _plain_number(value) for name, value in values.items()}


def _plain_number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "Infinity"


def _write(path: Path, content: bytes) -> None:
    """A reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_bytes(content)
    os.replace(temporary, path)


# The tables ------------------------------------------------------------------------------------


def _cell(metric: Metric, value: float | None, italic: bool = False) -> str:
    if value is None or math.isnan(value):
        return "-"
    # A published number has no digit that was not published.
    return f"*{value:g}*" if italic else f"{value:.{metric.digits}f}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """A Markdown table whose source is aligned too; the first `left` columns are text."""
    cells = [[_escape(c) for c in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = (
            c.ljust(w) if i < left else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )  # fmt: skip
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return [line(cells[0]), "| " + " | ".join(rule) + " |", *map(line, cells[1:])]


def _columns(evaluation: Evaluation, published: PublishedTable | None) -> list[Metric]:
    """The paper's metrics in its order, then the others of the evaluation."""
    ours = {m.name: m for m in evaluation.metrics}
    theirs: dict[str, Metric] = {}
    if published is not None:
        for by_bin in published.values.values():
            for values in by_bin.values():
                theirs |= {name: METRICS[name] for name in values}
    return list((theirs | ours).values())


def _by_method(evaluation: Evaluation, published: PublishedTable | None) -> list[str]:
    columns = _columns(evaluation, published)
    rows = []
    for method in evaluation.methods:
        for summary in evaluation.summaries():
            if summary.method == method:
                values = [_cell(m, summary.means.get(m.name)) for m in columns]
                rows.append([method, bin_label(summary.bin), str(summary.pictures), *values])
    if published is not None:
        for method, by_bin in published.values.items():
            values = [_cell(m, by_bin[None].get(m.name), italic=True) for m in columns]
            rows.append([f"*{method}*", bin_label(None), "", *values])
    return _grid(["", "holes", "pictures", *(m.label for m in columns)], rows, left=2)


def _by_ratio(evaluation: Evaluation, published: PublishedTable) -> list[str]:
    rows = []
    for ratios in sorted({*published.bins, *evaluation.bins}):
        # A bin that the evaluation does not have is not the sum of finer ones: it stays empty.
        ours = [evaluation.summary(method, ratios) for method in evaluation.methods]
        label = f"{bin_label(ratios)} ({ours[0].pictures})"
        theirs = [by_bin.get(ratios, {}) for by_bin in published.values.values()]
        for metric in _columns(evaluation, published):
            cells = [_cell(metric, s.means.get(metric.name)) for s in ours]
            cells += [_cell(metric, values.get(metric.name), italic=True) for values in theirs]
            if any(cell != "-" for cell in cells):
                rows.append([label, metric.label, *cells])
                label = ""
    head = [*evaluation.methods, *(f"*{method}*" for method in published.values)]
    return _grid(["holes (pictures)", "", *head], rows, left=2)


def _notes(evaluation: Evaluation) -> list[str]:
    notes = [
        "On the composite: the prediction in the hole, the picture elsewhere. Metrics are computed "
        "for each picture, then averaged."
    ]
    for method in evaluation.methods:
        summary = evaluation.summary(method)
        for metric in evaluation.metrics:
            infinite = summary.infinite[metric.name]
            empty = summary.pictures - summary.counts[metric.name] - infinite
            if infinite:
                notes.append(
                    f"{method}: {metric.label} leaves out {infinite} of {summary.pictures} "
                    "pictures, which equal the truth."
                )
            if empty:
                notes.append(
                    f"{method}: {metric.label} leaves out {empty} of {summary.pictures} pictures, "
                    "where there is nothing to compare."
                )
    return notes


# The sheet -------------------------------------------------------------------------------------

PAPER = (251, 250, 247)
INK = (38, 70, 83)
UNKNOWN = 0.5
GAP = 6
LINE = 16
PANELS = ("input", "output", "composite", "truth")


def _one(batch: Batch, i: int) -> Batch:
    mask = batch.mask if batch.mask.shape[0] == 1 else batch.mask[i : i + 1]
    return Batch(batch.image[i : i + 1], mask, batch.names[i : i + 1])


def _strip(fill: Fill, batch: Batch, row: Row) -> list[Tensor]:
    """The four pictures of a line, each (H, W, 3) of uint8."""
    given = (batch.mask != 0).double().mean().item()
    if batch.names[0] != row.name or not math.isclose(1 - given, row.hole_ratio, abs_tol=1e-9):
        raise ValueError(
            f"batches must yield the evaluated pictures again, got {batch.names[0]!r} with a hole "
            f"ratio of {1 - given:.4f} for {row.name!r} with {row.hole_ratio:.4f}"
        )
    output = predict(fill, batch)
    filled = composite(output, *visible(batch))
    truth = batch.image.nan_to_num(nan=UNKNOWN)
    seen = torch.where(batch.mask.to(truth.device) != 0, truth, UNKNOWN)
    return [
        p[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu()
        for p in (seen, output, filled, truth)
    ]


def _draw(lines: Mapping[str, tuple[Row, list[Tensor]]], path: Path) -> None:
    image_module = require("PIL.Image", "pillow")
    canvas = require("PIL.ImageDraw", "pillow")
    sizes = [strip[0].shape[:2] for _, strip in lines.values()]
    # Wide enough for the line of text over small pictures.
    step = max(90, *(w for _, w in sizes)) + GAP
    width = GAP + step * len(PANELS)
    height = GAP + LINE + sum(h + LINE + GAP for h, _ in sizes)
    sheet = image_module.new("RGB", (width, height), PAPER)
    pen = canvas.Draw(sheet)
    for i, panel in enumerate(PANELS):
        pen.text((GAP + i * step, GAP), panel, fill=INK)
    top = GAP + LINE
    for (title, (row, strip)), (h, _) in zip(lines.items(), sizes, strict=True):
        caption = f"{title}: {row.values['psnr']:.2f} dB, hole {100 * row.hole_ratio:.0f} %"
        # Pillow's built-in bitmap font knows Latin-1 only.
        name = row.name.encode("latin-1", "replace").decode("latin-1")
        pen.text((GAP, top), f"{caption}, {name}", fill=INK)
        for i, picture in enumerate(strip):
            left = GAP + i * step
            sheet.paste(image_module.fromarray(picture.numpy()), (left, top + LINE))
        top += h + LINE + GAP
    content = io.BytesIO()
    sheet.save(content, "PNG")
    _write(path, content.getvalue())
