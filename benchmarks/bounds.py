"""The share of the bound: how much of what the machine allows each candidate achieves.

A bound is a time, and the share is that time over the candidate's. Two kinds:

- practical: plain operators of the same shapes, without masks, in the same rounds, and replayed
  as a graph beside a graph. A share above 1 is possible; the masked operator is then the faster;
- bytes: the least that any implementation must move (the case says how much), at the speed at which
  a warm copy of the case's own features ran in the same rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .cases.variants import GRAPH
from .figures import CONTIGUOUS, Rows
from .results import Row

PRACTICAL = ("bound", "batch norm", "plain")
BYTES = "bytes"
COPY = "warm copy"


def fill(rows: Sequence[Row]) -> None:
    """Give every row with a right result its shares, by the name of the bound."""
    known = Rows(rows)
    for row in rows:
        if row.median is not None and row.match is not None and row.match["ok"]:
            bounds = {name: _practical_ms(known, row, name) for name in PRACTICAL}
            bounds[BYTES] = _bytes_ms(known, row)
            row.share = {
                name: round(ms / row.median, 3) for name, ms in bounds.items() if ms is not None
            }


def _practical_ms(rows: Rows, row: Row, name: str) -> float | None:
    """Of operators in the row's layout; of whole networks in the faster one, as users choose."""
    key = (row.group, row.case, row.mode)
    if row.provider.endswith(GRAPH):
        name += GRAPH
    if row.group == "network":
        best = rows.best(*key, name)
        return None if best is None else best.median
    return rows.ms(*key, name, row.layout)


def _bytes_ms(rows: Rows, row: Row) -> float | None:
    copy = rows.ms(row.group, row.case, row.mode, COPY, CONTIGUOUS)
    if copy is None or row.least_bytes is None:
        return None
    dtype: torch.dtype = getattr(torch, row.dtype)
    read_and_written = 2 * math.prod(row.shape) * dtype.itemsize
    return copy * row.least_bytes / read_and_written
