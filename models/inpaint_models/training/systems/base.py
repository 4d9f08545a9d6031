"""What the training loop knows of a system: its networks, and its losses by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ...composite import composite
from ...errors import UsageError, unknown
from ...partial_unet import PartialUNet
from ...registry import create_discriminator, create_model
from ..data import Batch
from ..recipe import Optimizer, Recipe, check_losses


@dataclass(frozen=True)
class Outputs:
    """What the generator made of a batch.

    Attributes:
        prediction: the whole image, (N, C, H, W).
        extras: whatever else the losses of the system need, such as attention maps.
    """

    prediction: Tensor
    extras: Mapping[str, Any] = field(default_factory=dict)

    def detached(self) -> Outputs:
        """The same without a gradient; `extras` may hold tensors, or lists and tuples of them."""
        extras = {name: _detached(value) for name, value in self.extras.items()}
        return Outputs(self.prediction.detach(), extras)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return [_detached(v) for v in value] if isinstance(value, (list, tuple)) else value


class System(ABC):
    """A generator, its discriminator if there is one, and their losses.

    The loop sets `generator` and `discriminator` to wrapped modules (precision, data parallelism),
    so a system must call them, and no method of theirs. It steps them in this order: `predict`;
    `discriminator_terms`, backward, step; `generator_terms`, backward, step. During
    `generator_terms` the discriminator's parameters require no gradient.

    Attributes:
        losses: names that `generator_terms` knows.
        discriminator_losses: names that `discriminator_terms` returns; their sum is minimized.
        methods: for a network whose `forward` is not what the losses need, the method that calling
            it runs instead: {"generator": "forward_with_attention"}.
    """

    losses: ClassVar[tuple[str, ...]]
    discriminator_losses: ClassVar[tuple[str, ...]] = ()
    methods: ClassVar[Mapping[str, str]] = {}

    def __init__(self, generator: nn.Module, discriminator: nn.Module | None) -> None:
        """Take the networks. Options of a sub-class follow as keyword arguments with defaults."""
        self.generator = generator
        self.discriminator = discriminator

    def place(self, device: torch.device) -> None:  # noqa: B027 - most systems have nothing to move
        """Move what the losses need, such as a VGG; the loop moves the networks."""

    def check(self, recipe: Recipe, wanted: Collection[str]) -> None:  # noqa: B027 - most have none
        """Raise UsageError if one of these losses cannot be computed with what the recipe says."""

    def encoder_norms(self) -> list[nn.Module]:
        """The norms that `freeze_encoder_norm` freezes; asked of the unwrapped generator."""
        return self.generator.encoder_norms() if isinstance(self.generator, PartialUNet) else []

    def prepare(self, batch: Batch) -> Batch:
        """Add what the losses need of a batch that is still on the CPU.

        What reads values of a mask there makes no step wait for a GPU.
        """
        return batch

    @abstractmethod
    def predict(self, batch: Batch) -> Outputs:
        """Run the generator."""

    @abstractmethod
    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        """The losses called for, each a scalar before its weight.

        Args:
            batch: what `predict` was given.
            outputs: what it returned.
            wanted: names out of `losses`; the result has exactly these.
        """

    def discriminator_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """The discriminator's losses; `outputs` carry no gradient."""
        raise UsageError(f"{type(self).__name__} has no discriminator to train")

    def show(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """What a sample picture shows, by column; images (N, C, H, W)."""
        known = torch.where(batch.mask == 0, 0.5, batch.image)
        return {
            "input": known,
            "output": outputs.prediction,
            "composite": composite(outputs.prediction, batch.image, batch.mask),
            "truth": batch.image,
        }


SystemClass = TypeVar("SystemClass", bound=type[System])

_systems: dict[str, type[System]] = {}


def register_system(*names: str) -> Callable[[SystemClass], SystemClass]:
    """Decorator: train the models of these names by this system."""

    def decorate(cls: SystemClass) -> SystemClass:
        for name in names:
            if name in _systems:
                raise ValueError(f"system {name!r} is registered already, by {_systems[name]!r}")
            _systems[name] = cls
        return cls

    return decorate


def list_systems() -> list[str]:
    """Names that a recipe's `system` may have, sorted."""
    return sorted(_systems)


def system_options(name: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """A system's losses, and its options with their defaults.

    Raises:
        UsageError: unknown system.
    """
    cls = _look_up(name)
    # Behind the two networks.
    parameters = list(inspect.signature(cls).parameters.values())[2:]
    return cls.losses, {option.name: option.default for option in parameters}


def _look_up(name: str) -> type[System]:
    if name not in _systems:
        raise UsageError(unknown("system", name, _systems))
    return _systems[name]


def create_system(recipe: Recipe) -> System:
    """Build the networks of a recipe, freshly initialized, and their system.

    Raises:
        UsageError: unknown system, or options or losses that it does not have.
    """
    name = recipe.system
    cls = _look_up(name)
    check_losses(recipe, cls.losses)
    trains_discriminator = [n for n, p in recipe.phases.items() if "discriminator" in p.train]
    if trains_discriminator and not cls.discriminator_losses:
        raise UsageError(
            f"phases.{trains_discriminator[0]}.train: system {name!r} has no discriminator"
        )
    if not cls.discriminator_losses and recipe.optimizers.discriminator != Optimizer():
        raise UsageError(f"optimizers.discriminator: system {name!r} has no discriminator")
    _, known = system_options(name)
    for option in recipe.options:
        if option not in known:
            raise UsageError(f"options: {unknown('option', option, known)}")
    try:
        generator = create_model(name, **recipe.generator)
        discriminator = None
        if cls.discriminator_losses:
            discriminator = create_discriminator(name, **recipe.discriminator)
        elif recipe.discriminator:
            raise UsageError(f"discriminator: system {name!r} has none, so it has no options")
        system = cls(generator, discriminator, **recipe.options)
    except (TypeError, ValueError, ImportError, FileNotFoundError) as error:
        raise UsageError(f"recipe of {name!r}: {error}") from error
    for phase_name, phase in recipe.phases.items():
        if "generator" in phase.train:
            system.check(recipe, recipe.weights(phase_name))
    return system
