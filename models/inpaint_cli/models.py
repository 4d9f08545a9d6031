"""`inpaint models`: what there is, and what is known about it."""

from __future__ import annotations

import argparse
import json
import textwrap


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "models",
        help="list the networks, or describe one",
        description="List the networks; with a name, describe that network and its discriminator: "
        "inputs, options, what was decided where the paper is silent, recipe and losses; or a "
        "trained one: its network and how it was trained.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a network")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Print the list, or one card."""
    from inpaint_models import list_discriminators, list_models, list_pretrained, model_card
    from inpaint_models.errors import MissingPackageError, UsageError, unknown

    if options.name is None:
        width = max(map(len, list_models()))
        for name in list_models():
            card = model_card(name)
            print(f"{name:{width}} {card.parameters:>12,}  {card.title}")
        print(f"trained, for --model: {', '.join(list_pretrained()) or 'none'}")
        return
    if options.name not in list_models():
        if options.name not in list_pretrained():
            raise UsageError(unknown("model", options.name, [*list_models(), *list_pretrained()]))
        _print_pretrained(options.name)
        return
    _print_card(options.name, discriminator=False)
    if options.name in list_discriminators():
        print()
        _print_card(options.name, discriminator=True)
    print()
    try:
        _print_training(options.name)
    except MissingPackageError as error:
        _print_entry("training", str(error))


def _print_pretrained(name: str) -> None:
    """What a file that comes with the package says of itself."""
    from inpaint_models.errors import MissingPackageError
    from inpaint_models.weights import find_pretrained, load_generator

    path = find_pretrained(name)
    net, stored = load_generator(path)
    chosen = json.loads(stored["options"])
    with_options = ", ".join(f"{option} {json.dumps(value)}" for option, value in chosen.items())
    print(f"{name}: trained weights of {stored['model']}")
    _print_entry("options", with_options or "none")
    _print_entry("parameters", f"{sum(p.numel() for p in net.parameters()):,}")
    print(f"  weights: {path}")
    card = path.with_suffix(".md")
    if card.is_file():
        print(f"  model card: {card}")
    if "recipe" not in stored:
        _print_entry("training", "the file holds no recipe")
        return
    try:
        _print_recipe(stored["recipe"], str(path))
    except MissingPackageError as error:
        _print_entry("training", str(error))


def _print_recipe(text: str, source: str) -> None:
    from inpaint_models.training.recipe import parse_recipe

    recipe = parse_recipe(text, source)
    _print_entry("training", recipe.about)
    lengths = [
        f"{name} {phase.epochs} epochs"
        if phase.iterations is None
        else f"{name} {phase.iterations} steps"
        for name, phase in recipe.phases.items()
    ]
    _print_entry("phases", ", ".join(lengths))
    _print_entry("losses", ", ".join(f"{k} {weight:g}" for k, weight in recipe.losses.items()))
    _print_entry(
        "pictures", f"{recipe.image_size} pixels wide and high, {recipe.batch_size} a step"
    )
    _print_entry("masks", recipe.masks.kind)


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
