"""What a run leaves to look at: log.csv, loss curves, sample pictures; and its progress bar."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..errors import UsageError

FIXED_COLUMNS = (
    "step", "phase", "epoch", "rate_generator", "rate_discriminator", "images_per_s",
    "waiting", "outside",
)  # fmt: skip
"""Columns before the losses. `waiting`: share of the time in which the step had no data;
`outside`: share of the time in steps spent neither there nor in networks, losses and optimizers.
Neither counts checkpoints and pictures."""


class Stopwatch:
    """Seconds by what they were spent on, since the last `restart`.

    Attributes:
        steps: how many were made in that time; the loop counts them.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Set everything to 0."""
        self.spent = {"waiting": 0.0, "computing": 0.0, "saving": 0.0}
        self.steps = 0
        self._start = time.perf_counter()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time inside as spent on `what`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] += time.perf_counter() - start

    def shares(self) -> tuple[float, float, float]:
        """Seconds spent in steps, share of waiting, share of neither waiting nor computing."""
        seconds = time.perf_counter() - self._start - self.spent["saving"]
        waiting = self.spent["waiting"]
        outside = seconds - waiting - self.spent["computing"]
        return seconds, waiting / seconds, outside / seconds


class LossLog:
    """log.csv: one row per interval, the mean of each loss over it.

    Args:
        path: the file; rows after `step` are dropped, so that a resumed run has no row twice.
        losses: columns after the fixed ones; empty where a phase does not compute a loss.
        step: of the checkpoint that the run goes on from.
    """

    def __init__(self, path: Path, losses: Sequence[str], step: int) -> None:
        self.path = path
        self.columns = [*FIXED_COLUMNS, *losses]
        rows: list[dict[str, str]] = []
        if path.exists():
            # A kill may have left half a line, which has fewer columns.
            rows = [r for r in read_log(path) if None not in r.values() and int(r["step"]) <= step]
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row; the file is complete when this returns."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log.csv, values as text."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def draw_curves(log: Path, path: Path) -> None:
    """Plot each loss of a log.csv over the steps; phases are set apart by vertical lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(log)
    losses = [name for name in (rows[0] if rows else {}) if name not in FIXED_COLUMNS]
    if not losses:
        return
    figure = Figure(figsize=(7, 2.2 * len(losses)), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(losses), 1, sharex=True, squeeze=False)[:, 0]
    changes = [int(a["step"]) for a, b in pairwise(rows) if a["phase"] != b["phase"]]
    for axes, loss in zip(all_axes, losses, strict=True):
        points = [(int(row["step"]), float(row[loss])) for row in rows if row[loss]]
        axes.plot([x for x, _ in points], [y for _, y in points], linewidth=1)
        axes.set_ylabel(loss)
        axes.grid(alpha=0.3)
        for change in changes:
            axes.axvline(change, color="grey", linestyle="--", linewidth=0.8)
    all_axes[-1].set_xlabel("step")
    temporary = path.with_name(".new-" + path.name)
    figure.savefig(temporary, dpi=100)
    os.replace(temporary, path)


def draw_samples(columns: Mapping[str, Tensor], path: Path) -> None:
    """One row for each picture of a batch, one column for each entry; (N, 1 or 3, H, W) in [0, 1].

    NaN, which stands for "never measured", is drawn in mid-grey.
    """
    strips = []
    for images in columns.values():
        pixels = images.detach().float().nan_to_num(nan=0.5).clamp(0, 1).cpu()
        rgb = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        strips.append(np.pad(rgb, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1))
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in zip(*strips, strict=True)])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).round().astype(np.uint8)).save(path)


class ProgressBar:
    """A bar with time left and images/s on a terminal; elsewhere a line per row of the log.

    Only the first process shows anything.
    """

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.total, self.shown = total, shown
        self._progress: Progress | None = None
        console = Console(stderr=True)
        if shown and console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.fields[phase]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._task = self._progress.add_task("", total=total, completed=done, phase="", note="")

    def __enter__(self) -> ProgressBar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, step: int, phase: str) -> None:
        """Step `step` is done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step, phase=phase)

    def note(
        self,
        step: int,
        phase: str,
        *,
        images_per_s: float,
        waiting: float,
        loss: float,
        seconds_per_step: float,
    ) -> None:
        """What the newest row of the log says."""
        if not self.shown:
            return
        note = f"{images_per_s:.1f} images/s, {waiting:.0%} waiting for data, loss {loss:.4g}"
        if self._progress is not None:
            self._progress.update(self._task, note=note)
        else:
            left = timedelta(seconds=round((self.total - step) * seconds_per_step))
            print(f"{phase} {step}/{self.total}: {note}, {left} left", file=sys.stderr, flush=True)
