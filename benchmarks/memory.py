"""Peak memory of one candidate, in a process that runs nothing else.

In one process with the others, a candidate would live off memory that they have freed, and leave
its own behind. So each gets a child process: build everything, note the resident memory, make a
few calls, read the peak. What the first call allocates for good - gradients, optimizer state -
counts; parameters and inputs do not.

The C library's heap keeps and splits what is freed, so the peak of a process is often well above
what was ever alive at once, by jumps that depend on sizes. That is what a user of a network pays,
so networks and norms are measured with it. A sweep asks what an operator needs: there each large
block is mapped by itself, and given back when it is freed.

A process that imports torch takes seconds to start. On Linux only one is started: it imports
everything, computes nothing, and forks a child for each candidate, which is as young as a new
process would be. CUDA does not survive a fork, so there, and elsewhere, each gets a new process.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.fx.experimental.symbolic_shapes  # else autograd imports it within the first step

from .cases import Candidate, Case, all_cases
from .plan import PLANS, Plan
from .runner import one_line

LIMIT_SECONDS = 180
M_MMAP_THRESHOLD = -3  # of mallopt
LARGE_BYTES = 128 << 10


def measure(candidate: Candidate, steps: int) -> dict[str, Any]:
    """Peak bytes and median milliseconds of ``steps`` calls, in this very process."""
    call = candidate.build()
    _give_back()
    before = psutil.Process().memory_info().rss
    _restart_peak()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    later = sorted(times[1:])
    return {"peak_bytes": max(0, peak_resident() - before), "isolated_ms": later[len(later) // 2]}


def peak_resident() -> int:
    """Most resident memory so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _give_back() -> None:
    """Hand memory that building has freed back to the system, where the C library can."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def map_large_blocks() -> None:
    """From here on each large block is a mapping of its own (where the C library knows how)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def _restart_peak() -> None:
    """Forget the peak of building the model (Linux); elsewhere it stays an upper bound."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def main() -> int:
    """Entry of the child process: a candidate on each line of input, one line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--plan", choices=sorted(PLANS), required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    plan = PLANS[args.plan]
    for line in sys.stdin:
        if sys.platform == "linux":
            _answer_in_fork(plan, args.threads, json.loads(line))
        else:
            _answer(plan, args.threads, json.loads(line), more=False)
            break
    return 0


def _answer_in_fork(plan: Plan, threads: int, wanted: list[str]) -> None:
    child = os.fork()
    if child == 0:
        try:
            _answer(plan, threads, wanted, more=True)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        print(json.dumps({"error": ending(code), "more": True}), flush=True)


def _answer(plan: Plan, threads: int, wanted: list[str], more: bool) -> None:
    """Measure, print the report, and say whether this process takes another request."""
    if sys.platform != "win32":
        signal.alarm(LIMIT_SECONDS)
    torch.set_num_threads(threads)
    try:
        case, candidate = _find(plan, *wanted)
        if case.sweep is not None:
            map_large_blocks()
        report = measure(candidate, plan.memory_steps)
    except Exception as failure:  # reported to the parent, which shows it beside the others
        report = {"error": one_line(failure)}
    print(json.dumps({**report, "more": more}), flush=True)


def ending(code: int) -> str:
    """Why a child ended without a report."""
    if sys.platform != "win32" and code == -signal.SIGALRM:
        return f"took more than {LIMIT_SECONDS} s"
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _find(plan: Plan, case_id: str, provider: str, layout: str) -> tuple[Case, Candidate]:
    for case in all_cases(plan):
        for candidate in case.candidates:
            if (case.id, candidate.provider, candidate.layout) == (case_id, provider, layout):
                return case, candidate
    raise ValueError(f"the {plan.name} plan has no {case_id} by {provider} ({layout})")


if __name__ == "__main__":
    raise SystemExit(main())
