"""Command line: ``python -m benchmarks``, and its commands report, readme and compare."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from rich.console import Console

from . import bounds, compare, curves, growth, plots, readme, report, results, session
from .devices import HOST, Gpu, unusable_gpu
from .plan import CUDA, PLANS


def main(words: list[str] | None = None) -> int:
    """Run a command; 1 if something is wrong with a result, 0 otherwise."""
    words = sys.argv[1:] if words is None else words
    commands = {"report": _report, "readme": readme.main, "compare": compare.main}
    command = commands.get(words[0]) if words else None
    return _run(words) if command is None else command(words[1:])


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the fused operators against the published modules in plain PyTorch, "
        "on photographs and irregular masks. Every number is checked against float64; a mismatch "
        "makes the exit status 1. Other commands: report [--draw] FILE, "
        "compare BEFORE AFTER, readme [--check] [FILE].",
    )
    parser.add_argument(
        "--plan", choices=sorted(PLANS),
        help="on the CPU; full, the default: networks, norms, layers; sweep: size, holes, "
        "channels; growth: a network at more and larger pictures; quick: a little of the rest",
    )  # fmt: skip
    parser.add_argument(
        "--quick", dest="plan", action="store_const", const="quick", help="the same as --plan quick"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu",
        help="cuda: everything on the GPU, in float32, float16 and bfloat16, by each backend",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS",
        help=f"begin nothing after this long, and name what is left out (on a GPU the default is "
        f"{CUDA.budget_seconds:.0f})",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--output", type=Path, default=results.RESULTS, help="folder for results")
    parser.add_argument("--only", metavar="SUBSTR", help="cases whose id contains this")
    parser.add_argument("--list", action="store_true", help="print the cases' ids and stop")
    args = parser.parse_args(words)
    plan = PLANS[args.plan or "full"]
    if args.device == "cuda":
        if args.plan is not None:
            parser.error("--plan and --quick are for the CPU: --device cuda has a plan of its own")
        if not args.list and (reason := unusable_gpu()) is not None:
            parser.error(reason)
        plan = CUDA
    if args.budget is not None:
        if not args.budget > 0:
            parser.error("--budget must be positive")
        plan = dataclasses.replace(plan, budget_seconds=args.budget)
    if args.threads is not None:
        if args.threads < 1:
            parser.error("--threads must be at least 1")
        torch.set_num_threads(args.threads)
    cases = session.select(plan, args.only)
    if not cases:
        parser.error(f"no case contains {args.only!r}; see --list")
    if args.list:
        print("\n".join(case.id for case in cases))
        return 0
    console = report.console()
    result = session.run(plan, args.only, console, Gpu() if plan.device == "cuda" else HOST)
    path = results.store(result, args.output)
    report.show(result, console)
    stored = [path, *_draw(result, path)]
    console.print(f"{result.seconds:.0f} s; stored as " + ", ".join(map(str, stored)))
    return _verdict(result, console)


def _draw(result: results.Result, path: Path) -> list[Path]:
    """The pictures of a result, beside its file; a GPU's is tables only."""
    if result.machine["gpu"] is not None:
        return []
    speed = plots.draw(result, path.with_suffix(".png"))
    sweep = curves.draw(result, path.with_name(f"{path.stem}-curves.png"))
    cost = growth.draw(result, path.with_name(f"{path.stem}-cost.png"))
    return [picture for picture in (speed, sweep, cost) if picture is not None]


def _verdict(result: results.Result, console: Console) -> int:
    if result.failures:
        console.print(f"[red]{len(result.failures)} results are wrong or missing[/red]")
    return 1 if result.failures else 0


def _report(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks report")
    parser.add_argument("result", type=Path)
    parser.add_argument("--draw", action="store_true", help="draw its pictures anew beside it")
    args = parser.parse_args(words)
    console = report.console()
    result = results.load(args.result)
    bounds.fill(result.rows)  # results of format 1 hold no shares
    report.show(result, console)
    if args.draw:
        console.print("drawn: " + ", ".join(map(str, _draw(result, args.result))))
    return _verdict(result, console)


if __name__ == "__main__":
    raise SystemExit(main())
