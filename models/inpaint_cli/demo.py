"""`inpaint demo`: the interactive page in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """\
Show a page in the browser: upload a picture, paint over what is to be filled, see the result beside
it; confirm it, revert, or save it in full size. Ctrl-C ends it, and nothing is kept.

  inpaint demo                                     the networks that come with the package
  inpaint demo --model runs/pconv_unet             a run, a checkpoint or a .safetensors file
  inpaint demo --runs runs/                        every run below a folder

Listens on this machine only, unless --host says otherwise.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "demo",
        help="fill pictures in the browser",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        nargs="+",
        default=[],
        help="networks to choose from: names, runs, checkpoints or .safetensors files",
    )
    parser.add_argument("--runs", metavar="DIR", type=Path, help="choose from all runs below it")
    parser.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1, this machine)")
    parser.add_argument(
        "--port", metavar="N", type=_port, default=7860, help="0 for a free one (default: 7860)"
    )
    parser.add_argument(
        "--max-size",
        metavar="MB",
        type=_positive,
        default=20.0,
        help="largest file to upload, in megabytes (default: 20)",
    )
    parser.add_argument(
        "--max-megapixels",
        metavar="N",
        type=_positive,
        default=25.0,
        help="largest picture, in millions of pixels (default: 25)",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="(default: auto)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the default browser")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Serve the page until a signal ends it."""
    from inpaint_models.demo.desk import Limits
    from inpaint_models.demo.networks import Networks
    from inpaint_models.demo.server import serve
    from inpaint_models.devices import choose_accelerator

    device = "cuda" if choose_accelerator(options.accelerator) == "gpu" else "cpu"
    networks = Networks(options.model, options.runs, device)
    # Whatever is wrong with the first one is said now, not on the page.
    networks.load(networks.names[0])
    limits = Limits(round(options.max_size * 2**20), round(options.max_megapixels * 1e6))
    serve(networks, limits, options.host, options.port, options.open)


def _positive(text: str) -> float:
    number = float(text) if text.replace(".", "", 1).isdecimal() else 0.0
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return number


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, got {text}")
    return int(text)
