"""`inpaint masks`: a sheet of holes, to see what a recipe draws."""

from __future__ import annotations

import argparse
from pathlib import Path

from .words import add_words, split_words

_DESCRIPTION = """\
Draw a sheet of masks, holes in black with their share of the picture below.

  inpaint masks free-form ratio=[0.1,0.2]       a generator with its options
  inpaint masks folder root=masks polarity=white=hole
  inpaint masks --recipe pconv_unet             what a recipe trains with, key=value its keys
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "masks",
        help="draw a sheet of masks",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_words(parser, "KIND", "rectangles, free-form, ...; options of the kind")
    parser.add_argument("--recipe", metavar="RECIPE", help="a recipe's masks and image size")
    parser.add_argument("--count", type=int, default=32, help="how many (default: 32)")
    parser.add_argument("--size", type=int, help="pixels (default: the recipe's, or 128)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--output", type=Path, default=Path("masks.png"), help="(default: masks.png)"
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Draw and save the sheet."""
    from inpaint_models.errors import DataError, UsageError
    from inpaint_models.training.masks import mask_sheet
    from inpaint_models.training.recipe import load_recipe, parse_values
    from inpaint_models.training.supply import make_masks

    kind, values = split_words(options)
    if (kind is None) == (options.recipe is None):
        raise UsageError("give either a kind of masks or --recipe RECIPE")
    if kind is not None:
        source = make_masks(kind, parse_values(values))
        size = 128
    else:
        recipe = load_recipe(options.recipe, values)
        source = make_masks(recipe.masks.kind, recipe.masks.options)
        size = recipe.image_size
    if options.size is not None:
        size = options.size
    if options.output.exists() and not options.force:
        raise UsageError(f"{options.output} is there already: give another --output, or --force")
    try:
        mask_sheet(source, options.count, size, options.seed).save(options.output)
    except (OSError, ValueError, DataError) as error:
        raise UsageError(f"masks: {error}") from error
    print(options.output)
