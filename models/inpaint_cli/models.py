"""`inpaint models`: what there is, and what is known about it."""

from __future__ import annotations

import argparse
import textwrap


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "models",
        help="list the networks, or describe one",
        description="List the networks; with a name, describe that network and its discriminator: "
        "inputs, options, what was decided where the paper is silent, recipe and losses.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Print the list, or one card."""
    from inpaint_models import list_discriminators, list_models, model_card
    from inpaint_models.errors import MissingPackageError, UsageError, unknown

    if options.name is None:
        width = max(map(len, list_models()))
        for name in list_models():
            card = model_card(name)
            print(f"{name:{width}} {card.parameters:>12,}  {card.title}")
        return
    if options.name not in list_models():
        raise UsageError(unknown("model", options.name, list_models()))
    _print_card(options.name, discriminator=False)
    if options.name in list_discriminators():
        print()
        _print_card(options.name, discriminator=True)
    print()
    try:
        _print_training(options.name)
    except MissingPackageError as error:
        _print_entry("training", str(error))


def _print_training(name: str) -> None:
    """What needs the packages for training; the networks do not."""
    from inpaint_models.training.recipe import FOLDER, list_recipes, load_recipe
    from inpaint_models.training.systems import system_options

    if name not in list_recipes():
        print(f"training of {name}: no recipe")
        return
    recipe = load_recipe(name)
    losses, options = system_options(name)
    print(f"training of {name}")
    _print_entry("about", recipe.about)
    print(f"  recipe: {FOLDER / f'{name}.yaml'}")
    weights = recipe.losses
    _print_entry("losses", ", ".join(f"{loss} {weights.get(loss, 0):g}" for loss in losses))
    for option, default in options.items():
        value = recipe.options.get(option, default)
        _print_entry(f"options.{option}", "none" if value is None else str(value))


def _print_card(name: str, *, discriminator: bool) -> None:
    from inpaint_models import model_card

    card = model_card(name, discriminator=discriminator)
    print(f"{'discriminator of ' if discriminator else ''}{name}: {card.title}")
    _print_entry("paper", f"{card.paper}; {card.source}")
    _print_entry("parameters", f"{card.parameters:,}")
    _print_entry("inputs", card.inputs)
    _print_entry("output", card.output)
    for option, text in card.options.items():
        _print_entry(f"option {option}", text)
    for decision in card.decisions:
        _print_entry("decided", decision)


def _print_entry(label: str, text: str) -> None:
    print(textwrap.fill(text, 100, initial_indent=f"  {label}: ", subsequent_indent="    "))
