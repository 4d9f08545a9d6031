"""Ctrl-C and SIGTERM end a run after the step that is under way."""

from __future__ import annotations

import os
import signal
import threading
import time
from ctypes import c_bool
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    # Workers of the loader import this module and need no Fabric.
    from lightning_fabric import Fabric

_CAUGHT = (signal.SIGINT, signal.SIGTERM)

LOOK_EVERY = 2.0
"""Seconds between two looks of several processes at each other's signals."""


class Signals:
    """While active, notes the first SIGINT or SIGTERM; a second SIGINT is a KeyboardInterrupt.

    Attributes:
        received: the signal's number, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._process = os.getpid()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        # Python lets only the main thread have handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _CAUGHT}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker that was forked with this handler and has not got to `ignore_signals` yet.
            return
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class StopCheck:
    """Asks after each step for the signal that any process has received, 0 if none has.

    All processes must stop after the same step. They look at each other's signals every so many
    steps, as many as take about `LOOK_EVERY` seconds.
    """

    def __init__(self, fabric: Fabric, signals: Signals) -> None:
        self._fabric, self._signals = fabric, signals
        self._interval, self._steps, self._start = 1, 0, time.perf_counter()

    def __call__(self) -> int:
        """The signal's number; the same in every process."""
        if self._fabric.world_size == 1:
            return self._signals.received
        self._steps += 1
        if self._steps < self._interval:
            return 0
        seconds = time.perf_counter() - self._start
        mine = torch.tensor([float(self._signals.received), seconds], device=self._fabric.device)
        found = self._fabric.all_reduce(mine, reduce_op="max")
        assert isinstance(found, torch.Tensor)
        received, seconds = found.tolist()
        steps = int(self._steps * LOOK_EVERY / seconds)
        # Not much more than before: the first steps are no measure of those that follow.
        self._interval = max(1, min(steps, 2 * self._interval))
        self._steps, self._start = 0, time.perf_counter()
        return int(received)


def ignore_signals(ending: c_bool) -> None:
    """In a loader's worker: leave SIGINT and SIGTERM, which reach the whole group, to the parent.

    The parent saves the run and ends its workers. Once it has set `ending`, in shared memory,
    SIGTERM comes from itself.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if ending.value:
            os._exit(128 + number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
