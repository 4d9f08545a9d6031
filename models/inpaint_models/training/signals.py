"""Ctrl-C and SIGTERM end a run after the step that is under way."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


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
            # A data loader's worker that was forked with this handler: Ctrl-C reaches the whole
            # group, but when to stop is its parent's to say.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
