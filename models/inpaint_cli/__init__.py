"""The command `inpaint`.

A package of its own: importing `inpaint_models` imports torch, which `inpaint --help` need not wait
for. Sub-commands import what they run when they run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import evaluate, masks, models, train

_EPILOG = """\
first steps:
  inpaint models                                   what there is to train
  inpaint masks rectangles --output masks.png      what holes look like
  inpaint train pconv_unet --data photos/ options.vgg=vgg16-397923af.pth
  inpaint train --resume runs/pconv_unet           go on after Ctrl-C, or a power cut
  inpaint evaluate runs/pconv_unet --data test/    metrics beside the baselines

exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="inpaint",
        description="Train and measure the inpainting networks of the papers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (train, evaluate, models, masks):
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; errors are one line on stderr. Returns the exit code."""
    parser = make_parser()
    # Words between options end up in `more`: argparse takes them in one place only.
    options, more = parser.parse_known_args(arguments)
    if "words" not in options or any(word.startswith("-") for word in more):
        if more:
            parser.error(f"unrecognized arguments: {' '.join(more)}")
    else:
        options.words += more
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("inpaint: stopped, nothing saved since the last checkpoint", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    try:
        from inpaint_models.training.errors import InpaintError
    except ImportError as error:
        print(f"inpaint: {error}", file=sys.stderr)
        return 1
    try:
        options.run_command(options)
    except InpaintError as error:
        print(f"inpaint: {error}", file=sys.stderr)
        return error.exit_code
    return 0
