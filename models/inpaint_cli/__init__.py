"""The command `inpaint`.

A package of its own: importing `inpaint_models` imports torch, which `inpaint --help` need not wait
for. Sub-commands import what they run when they run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import demo, evaluate, export, fill, masks, models, train

_EPILOG = """\
first steps:
  inpaint fill photo.jpg mask.png -o filled.jpg    white in the mask is the hole
  inpaint models                                   what there is to train
  inpaint masks rectangles --output masks.png      what holes look like
  inpaint train pconv_unet --data photos/ options.vgg=vgg16-397923af.pth
  inpaint train --resume runs/pconv_unet           go on after Ctrl-C, or a power cut
  inpaint evaluate runs/pconv_unet --data test/    metrics beside the baselines
  inpaint export runs/pconv_unet -o unet.onnx      a file that runs without this package
  inpaint demo --model runs/pconv_unet             fill pictures in the browser

exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as all errors of this command are."""
        self.exit(2, f"inpaint: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="inpaint",
        description="Fill holes in pictures; train, measure and export the papers' networks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (fill, demo, train, evaluate, export, models, masks):
        module.add_to(commands)
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; SystemExit if it has others than there are."""
    parser = make_parser()
    # Words between options end up in `more`: argparse takes them in one place only.
    options, more = parser.parse_known_args(arguments)
    if "words" not in options or any(word.startswith("-") for word in more):
        if more:
            parser.error(f"unrecognized arguments: {' '.join(more)}")
    else:
        options.words += more
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; errors are one line on stderr. Returns the exit code."""
    options = parse(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        saved = ", nothing saved since the last checkpoint"
        training = options.run_command is train.run
        print(f"inpaint: stopped{saved if training else ''}", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from inpaint_models.errors import InpaintError

    try:
        options.run_command(options)
    except InpaintError as error:
        return _say(error, error.exit_code)
    except OSError as error:
        return _say(error, 1)
    return 0


def _say(what: object, exit_code: int) -> int:
    print(f"inpaint: {' '.join(str(what).split())}", file=sys.stderr)
    return exit_code
