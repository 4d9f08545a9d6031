"""Peak memory of one candidate, in a process that runs nothing else.

In one process with the others, a candidate would live off memory that they have freed, and leave
its own behind. So each gets a child process: build everything, note the resident memory, make a
few calls, read the peak. What the first call allocates for good - gradients, optimizer state -
counts; parameters and inputs do not.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from .cases import Candidate, Case, all_cases
from .plan import PLANS, Plan
from .runner import one_line

LIMIT_SECONDS = 180


def measure_in_child(plan: Plan, threads: int, case: Case, candidate: Candidate) -> dict[str, Any]:
    """Run this module for one candidate; returns its report, or ``{"error": ...}``."""
    words = ["--plan", plan.name, "--device", plan.device, "--threads", str(threads)]
    words += ["--case", case.id, "--provider", candidate.provider, "--layout", candidate.layout]
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.memory", *words],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {LIMIT_SECONDS} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"exit status {done.returncode}"}
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def measure(candidate: Candidate, steps: int, device: str) -> dict[str, Any]:
    """Peak bytes and median milliseconds of ``steps`` calls, in this very process."""
    call = candidate.build()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        _give_back()
        before = psutil.Process().memory_info().rss
        _restart_peak()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident()
    later = sorted(times[1:])
    return {"peak_bytes": max(0, peak - before), "isolated_ms": later[len(later) // 2]}


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


def _restart_peak() -> None:
    """Forget the peak of building the model (Linux); elsewhere it stays an upper bound."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def main() -> int:
    """Entry of the child process: one candidate, one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--plan", choices=sorted(PLANS), required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--layout", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plan = with_device(PLANS[args.plan], args.device)
    case = next(case for case in all_cases(plan) if case.id == args.case)
    wanted = (args.provider, args.layout)
    candidate = next(c for c in case.candidates if (c.provider, c.layout) == wanted)
    try:
        report = measure(candidate, plan.memory_steps, plan.device)
    except Exception as failure:  # reported to the parent, which shows it beside the others
        report = {"error": one_line(failure)}
    print(json.dumps(report))
    return 0


def with_device(plan: Plan, device: str) -> Plan:
    """The same plan on another device."""
    return dataclasses.replace(plan, device=device)


if __name__ == "__main__":
    raise SystemExit(main())
