"""Child processes for the memory of candidates, seen from the parent; see ``memory``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .cases import Candidate, Case
from .memory import ending
from .plan import Plan


@contextlib.contextmanager
def children(plan: Plan, threads: int) -> Iterator[Children]:
    """Children that measure a plan's candidates; they end with the context."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        running = Children(plan, threads, errors)
        try:
            yield running
        finally:
            running.end()


class Children:
    """Sends candidates to ``python -m benchmarks.memory``, started when the first is sent."""

    def __init__(self, plan: Plan, threads: int, errors: IO[str]) -> None:
        """What they write to their standard error goes to ``errors``."""
        words = ["--plan", plan.name, "--threads", str(threads)]
        self._command = [sys.executable, "-m", f"{__package__}.memory", *words]
        self._errors = errors
        self._process: subprocess.Popen[str] | None = None

    def measure(self, case: Case, candidate: Candidate) -> dict[str, Any]:
        """What ``memory.measure`` says about a candidate, or ``{"error": ...}``."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = json.dumps([case.id, candidate.provider, candidate.layout])
        try:
            print(request, file=process.stdin, flush=True)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return {"error": self._last_words(self.end())}
        report: dict[str, Any] = json.loads(answer)
        if not report.pop("more"):
            self.end()
        return report

    def end(self) -> int:
        """Let the process go, if there is one; its exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        # Leaving the context closes its input, which ends it; what it never read is lost with it.
        with contextlib.suppress(BrokenPipeError), process:
            pass
        return process.wait()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            self._command,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self._process

    def _last_words(self, code: int) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines and code >= 0 else ending(code)
