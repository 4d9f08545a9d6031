"""Command line: ``python -m benchmarks.reproduction prepare | train | evaluate | ...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from inpaint_models.errors import InpaintError

from . import draw
from .backends import compare
from .collect import collect, load, store
from .page import PAGE, page
from .pictures import prepare
from .plan import METHODS
from .training import evaluate_all, train_all, write_json


def main(words: list[str] | None = None) -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduction", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument(
        "--work", type=Path, required=True, help="folder for copies, runs and evaluations"
    )
    work.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    one = commands.add_parser("prepare", parents=[work], help="scaled copies of the photographs")
    one.add_argument("--data", type=Path, required=True, help="the thirty photographs")
    one.add_argument(
        "--names-only", action="store_true", help="take any photographs of the listed names"
    )
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument(
        "--methods", nargs="+", choices=METHODS, default=tuple(METHODS), help="these runs only"
    )
    commands.add_parser("train", parents=[work, some], help="make every run, or go on with it")
    commands.add_parser(
        "evaluate", parents=[work, some], help="measure every finished run anew, by this checkout"
    )
    commands.add_parser(
        "backends", parents=[work], help="train a few steps on the reference and the fused backend"
    )
    report = commands.add_parser("report", help="write docs/reproduction.md")
    report.add_argument("--work", type=Path, help="collect and draw what is finished there first")
    report.add_argument("--check", action="store_true", help="exit 1 if page and JSON disagree")
    args = parser.parse_args(words)
    if args.command == "report":
        return _report(args.work, check=args.check)
    torch.set_num_threads(args.threads)
    try:
        if args.command == "prepare":
            prepare(args.data, args.work, names_only=args.names_only)
        elif args.command == "train":
            train_all(args.work, args.methods)
        elif args.command == "evaluate":
            evaluate_all(args.work, args.methods)
        else:
            write_json(args.work / "results" / "backends.json", compare(args.work))
    except (InpaintError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, InpaintError) else 2
    return 0


def _report(work: Path | None, *, check: bool) -> int:
    """Write the page; with `check` compare it only."""
    if work is not None:
        store(collect(work))
    results = load()
    if work is not None:
        draw.sheets(work, results)
        draw.curves(results)
    text = page(results)
    if not check:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        print(f"{PAGE.name} disagrees: python -m benchmarks.reproduction report", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
