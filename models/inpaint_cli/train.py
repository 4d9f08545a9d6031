"""`inpaint train`: a recipe from the start, or a run from its last checkpoint."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from .words import add_words, split_words

_DESCRIPTION = """\
Train a recipe, or go on with a run.

A recipe is the name of one that comes with the package (`inpaint models` lists them) or the path of
a .yaml file. Any of its keys can be given anew behind it as key=value, with dots between levels:

  inpaint train pconv_unet --data photos/ batch_size=8 image_size=128 \\
      losses.perceptual=0 losses.style=0 phases.main.iterations=2000

`inpaint train RECIPE --show` prints the recipe with all its keys: copy it to a file of your own.

Several GPUs, on one machine or many: put torchrun in front.

  torchrun --standalone --nproc-per-node 4 -m inpaint_cli train pconv_unet --data photos/
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "train",
        help="train a recipe, or resume a run",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_words(parser, "RECIPE", "a name or a .yaml file; keys of it given anew")
    parser.add_argument("--data", metavar="DIR", help="pictures: sets data.root")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where to write (default: runs/RECIPE)"
    )
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run")
    parser.add_argument("--show", action="store_true", help="print the recipe and stop")
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="(default: auto)"
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Train, resume, or print a recipe."""
    from inpaint_models.errors import UsageError
    from inpaint_models.training.recipe import dump_recipe, load_recipe

    name, overrides = split_words(options)
    if options.resume is not None:
        if options.words or options.data or options.output or options.show:
            raise UsageError("--resume takes everything from the run: give nothing else with it")
        from inpaint_models.training.loop import resume

        _print_once(resume(options.resume, options.accelerator))
        return
    if name is None:
        raise UsageError("give a recipe or --resume RUN; `inpaint models` lists recipes")
    recipe = load_recipe(name, overrides)
    if options.data is not None:
        recipe.data.root = options.data
    if options.show:
        print(dump_recipe(recipe), end="")
        return
    from inpaint_models.training.loop import train

    _print_once(train(recipe, options.output or _default_run(name), options.accelerator))


def _print_once(checkpoint: Path) -> None:
    """Of several processes that torchrun has started, the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        print(checkpoint)


def _default_run(recipe: str) -> Path:
    return Path("runs") / re.sub(r"\.ya?ml$", "", Path(recipe).name)
