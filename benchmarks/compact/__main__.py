"""Command line: ``python -m benchmarks.compact prepare | train | ship | measure | report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from inpaint_models.errors import InpaintError

from . import report
from .measure import measure
from .training import prepare, ship, train_run


def main(words: list[str] | None = None) -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compact", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument("--work", type=Path, required=True, help="folder for copies and the run")
    work.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    one = commands.add_parser("prepare", parents=[work], help="scaled copies of the photographs")
    one.add_argument("--data", type=Path, required=True, help="the thirty photographs")
    one = commands.add_parser("train", parents=[work], help="make the run, or go on with it")
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the recipe")
    commands.add_parser("ship", parents=[work], help="put the run's weights into the package")
    commands.add_parser("measure", parents=[work], help="measure the weights in the package")
    one = commands.add_parser("report", help="write the table, the model card and the picture")
    one.add_argument("--work", type=Path, help="draw the picture anew from the copies there")
    one.add_argument("--check", action="store_true", help="exit 1 if pages and JSON disagree")
    args = parser.parse_args(words)
    if args.command == "report":
        return report.write(args.work, check=args.check)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        if args.command == "prepare":
            prepare(args.data, args.work)
        elif args.command == "train":
            train_run(args.work, args.overrides)
        elif args.command == "ship":
            print(ship(args.work))
        else:
            report.store(measure(args.work))
    except (InpaintError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, InpaintError) else 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
