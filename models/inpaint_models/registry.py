"""Names of networks: who builds them, and what is known about them.

A paper's module registers its generator with `register_model` and its discriminator, under the
same name, with `register_discriminator`. A builder is a class or a function whose parameters all
have defaults; those parameters are the options of `create_model` and `create_discriminator`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from .errors import unknown

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class ModelCard:
    """What a user should know before using a network.

    Attributes:
        title: one line.
        paper: authors, title, where the layer table comes from.
        source: the equations or tables that the network implements.
        inputs: what `forward` takes, with shapes and ranges.
        output: what it returns.
        parameters: number of trainable parameters with default options.
        options: each option of the builder, with what it does and which values it takes.
        decisions: choices made here where the paper is silent.
        blind: the network does not look at the mask, and what lies in a hole is part of its input:
            whoever calls it paints the holes. The others never read what lies in a hole.
    """

    title: str
    paper: str
    source: str
    inputs: str
    output: str
    parameters: int
    options: Mapping[str, str]
    decisions: tuple[str, ...]
    blind: bool = False


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., nn.Module]
    card: ModelCard


_models: dict[str, _Entry] = {}
_discriminators: dict[str, _Entry] = {}


def register_model(name: str, card: ModelCard) -> Callable[[Builder], Builder]:
    """Decorator: make a builder available as `create_model(name)`."""
    return _register(_models, "model", name, card)


def register_discriminator(name: str, card: ModelCard) -> Callable[[Builder], Builder]:
    """Decorator: make a builder available as `create_discriminator(name)`.

    `name` is the name of the model that the discriminator is trained against.
    """
    return _register(_discriminators, "discriminator", name, card)


def create_model(name: str, **options: object) -> nn.Module:
    """Build the network registered as `name`, freshly initialized.

    Raises:
        ValueError: unknown name, or an option's value is not allowed.
        TypeError: the network has no such option.
    """
    entry = _look_up(_models, "model", name)
    return _build(entry, f"create_model({name!r})", options)


def create_discriminator(name: str, **options: object) -> nn.Module:
    """Build the discriminator that the model `name` is trained against.

    Discriminators return logits.

    Raises:
        ValueError: unknown name, a model that is trained without a discriminator, or an option's
            value is not allowed.
        TypeError: the discriminator has no such option.
    """
    if name in _models and name not in _discriminators:
        raise ValueError(
            f"model {name!r} is trained without a discriminator; "
            f"discriminators: {', '.join(list_discriminators())}"
        )
    entry = _look_up(_discriminators, "discriminator", name)
    return _build(entry, f"create_discriminator({name!r})", options)


def list_models() -> list[str]:
    """Names that `create_model` takes, sorted."""
    return sorted(_models)


def list_discriminators() -> list[str]:
    """Names that `create_discriminator` takes, sorted."""
    return sorted(_discriminators)


def model_card(name: str, *, discriminator: bool = False) -> ModelCard:
    """The card of the model `name`, or of its discriminator."""
    if discriminator:
        return _look_up(_discriminators, "discriminator", name).card
    return _look_up(_models, "model", name).card


def _register(
    table: dict[str, _Entry], kind: str, name: str, card: ModelCard
) -> Callable[[Builder], Builder]:
    def decorate(build: Builder) -> Builder:
        if name in table:
            raise ValueError(f"{kind} {name!r} is registered already, by {table[name].build!r}")
        if sorted(card.options) != sorted(inspect.signature(build).parameters):
            raise ValueError(f"{kind} {name!r}: its card and its builder differ in their options")
        table[name] = _Entry(build, card)
        return build

    return decorate


def _look_up(table: Mapping[str, _Entry], kind: str, name: str) -> _Entry:
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    if name not in table:
        raise ValueError(unknown(kind, name, table))
    return table[name]


def _build(entry: _Entry, call: str, options: Mapping[str, object]) -> nn.Module:
    parameters = inspect.signature(entry.build).parameters
    for option in options:
        if option not in parameters:
            allowed = ", ".join(f"{p.name}={p.default!r}" for p in parameters.values())
            raise TypeError(
                f"{call}: {unknown('option', option, parameters)}; options and defaults: {allowed}"
            )
    return entry.build(**options)
