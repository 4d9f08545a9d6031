"""Recipes: what a training run is made of, as YAML files checked against dataclasses.

A recipe is read with `load_recipe`: defaults, then the file, then `key=value` overrides. A key that
does not exist, a value of the wrong type, a loss that the system does not know: each is a
`UsageError` of one line.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..errors import UsageError, unknown
from .metrics import METRICS

FOLDER = Path(__file__).parent / "recipes"

NETWORKS = ("generator", "discriminator")


@dataclass
class Part:
    """Something chosen by name, with its options.

    Attributes:
        kind: which.
        options: keyword arguments for it; see its documentation for names and defaults.
    """

    kind: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Optimizer:
    """How the parameters of one network follow their gradients; torch.optim's arguments.

    Attributes:
        name: the algorithm.
        rate: learning rate.
        betas: of Adam.
        momentum: of SGD.
        weight_decay: of all.
    """

    name: Literal["adam", "adadelta", "sgd"] = "adam"
    rate: float = 1e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass
class Phase:
    """A stretch of training with one set of networks, rates and weights.

    Attributes:
        train: the networks whose parameters change.
        epochs: its length in passes over the data; give this or `iterations`.
        iterations: its length in steps of the optimizers.
        losses: weights that differ from the recipe's in this phase; 0 switches a loss off.
        rates: learning rates that differ from the optimizers', by network.
        schedule: how rates go from their value to 0 over the phase: not at all, along a line, or
            along half a cosine.
        freeze_encoder_norm: the encoder's norms keep their statistics and parameters, as in the
            second stage of Liu et al.; for U-Nets of partial convolutions.
    """

    train: list[str] = field(default_factory=lambda: ["generator"])
    epochs: int | None = None
    iterations: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    freeze_encoder_norm: bool = False


@dataclass
class Optimizers:
    """One for each network; `discriminator` is not used where there is none."""

    generator: Optimizer = field(default_factory=Optimizer)
    discriminator: Optimizer = field(default_factory=Optimizer)


@dataclass
class Data:
    """Where pictures come from.

    Attributes:
        kind: "folder", "cifar10" or "shards".
        root: the folder or the shards; the command line's --data.
        options: of `ImageFolder`, `CIFAR10` or `TarShards`.
        transform: options of `Transform`, such as crop and flip.
        workers: processes that load; 0 loads in the training process.
    """

    kind: str = "folder"
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    workers: int = 2


@dataclass
class Saving:
    """How often what is written, in steps.

    Attributes:
        log: a row of log.csv, the mean over the steps since the last one.
        samples: a picture in samples/, and the loss curves; 0: never.
        checkpoint: a checkpoint; there is always one at the end.
        keep: so many checkpoints stay.
    """

    log: int = 50
    samples: int = 1000
    checkpoint: int = 1000
    keep: int = 2


@dataclass
class Recipe:
    """All that a run depends on.

    Attributes:
        system: name of the registered system, that is of its generator.
        about: one line: which paper, which variant.
        generator: options of `create_model`.
        discriminator: options of `create_discriminator`.
        options: options of the system, such as the kind of an adversarial loss.
        losses: weight of each loss of the generator; what is not named, or 0, is not computed.
        optimizers: one for each network.
        phases: by name, in order.
        data: where pictures come from.
        masks: how holes are drawn.
        image_size: pictures are resized and cropped to this many pixels, a square.
        batch_size: pictures in a batch of one process.
        accumulate: batches whose gradients make one step.
        precision: "32-true"; "bf16-mixed" and "16-mixed" run networks under autocast; "64-true" is
            for tests of numerics.
        seed: of weights, order of data, crops and masks.
        metrics: what evaluation reports.
        saving: how often what is written.
    """

    system: str = MISSING
    about: str = MISSING
    generator: dict[str, Any] = field(default_factory=dict)
    discriminator: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    optimizers: Optimizers = field(default_factory=Optimizers)
    phases: dict[str, Phase] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    masks: Part = field(default_factory=Part)
    image_size: int = 256
    batch_size: int = 16
    accumulate: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    seed: int = 0
    metrics: list[str] = field(default_factory=lambda: ["l1_percent", "psnr", "ssim"])
    saving: Saving = field(default_factory=Saving)

    def weights(self, phase: str) -> dict[str, float]:
        """The losses of a phase that are not switched off, with their weights."""
        merged = {**self.losses, **self.phases[phase].losses}
        return {name: weight for name, weight in merged.items() if weight != 0}

    def rate(self, phase: str, network: str) -> float:
        """The learning rate that a phase starts with."""
        optimizer: Optimizer = getattr(self.optimizers, network)
        return self.phases[phase].rates.get(network, optimizer.rate)


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of a recipe in the package, or the path of a file that ends in .yaml.
        overrides: "key=value" each, as "optimizers.generator.rate=1e-4" or "phases.main.epochs=3";
            values are read as YAML. A new `kind` drops the options of the old one; a mapping for
            `options` replaces it.

    Raises:
        UsageError: no such recipe, or anything wrong in it.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in list_recipes():
            raise UsageError(f"{unknown('recipe', name, list_recipes())}, or give a .yaml file")
        path = FOLDER / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {str(path)!r} cannot be read: {error}") from error
    return parse_recipe(text, str(path), overrides)


def parse_recipe(text: str, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from YAML; `source` is what errors call it."""
    try:
        given = OmegaConf.create(text)
        if not isinstance(given, DictConfig):
            raise UsageError(f"{source}: a recipe must be keys and values")
        config = OmegaConf.merge(OmegaConf.structured(Recipe), given)
    except YAMLError as error:
        raise UsageError(f"{source}: not YAML: {_joined(error)}") from error
    except OmegaConfBaseException as error:
        raise UsageError(f"{source}: {_reason(error)}") from error
    assert isinstance(config, DictConfig)
    values = parse_values(overrides)
    # A new kind drops the options of the old one, so it comes before those that are given with it.
    for key in sorted(values, key=lambda key: not key.endswith(".kind")):
        _override(config, key, values[key])
    try:
        recipe = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UsageError(f"{source}: {_reason(error)}") from error
    assert isinstance(recipe, Recipe)
    _check(recipe, source)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with all its values; `parse_recipe` reads it."""
    return OmegaConf.to_yaml(OmegaConf.structured(copy.deepcopy(recipe)))


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """A copy that means the same files from any folder: data, masks, weights of a VGG."""
    recipe = copy.deepcopy(recipe)
    recipe.data.root = _absolute(recipe.data.root)
    _make_roots_absolute(recipe.masks.options)
    if "vgg" in recipe.options:
        recipe.options["vgg"] = _absolute(recipe.options["vgg"])
    return recipe


def _make_roots_absolute(options: Any) -> None:
    """Of a source of masks, and of the sources in it."""
    if isinstance(options, dict):
        if isinstance(options.get("root"), str):
            options["root"] = _absolute(options["root"])
        for inner in options.values():
            _make_roots_absolute(inner)
    elif isinstance(options, list):
        for inner in options:
            _make_roots_absolute(inner)


def _absolute(path: str | None) -> str | None:
    return path if path is None or "://" in path else os.path.abspath(path)


def parse_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Read "key=value" each, values as YAML.

    Raises:
        UsageError: not of this form.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"{override!r} must be key=value, as batch_size=8")
        try:
            holder = OmegaConf.create(f"value: {text or 'null'}")
            assert isinstance(holder, DictConfig)
            values[key] = OmegaConf.to_container(holder)["value"]  # type: ignore[index, call-overload]  # a mapping
        except (YAMLError, OmegaConfBaseException) as error:
            raise UsageError(f"{override!r}: not YAML: {_joined(error)}") from error
    return values


def _override(config: DictConfig, key: str, value: Any) -> None:
    names = key.split(".")
    if names[0] == "phases" and len(names) > 1 and names[1] not in config.phases:
        raise UsageError(f"override {key}: {unknown('phase', names[1], config.phases)}")
    try:
        kind = value.get("kind") if isinstance(value, dict) else None
        if names[-1] == "kind":
            _drop_options(config, ".".join(names[:-1]), value)
        elif kind is not None:
            _drop_options(config, key, kind)
        replaces = isinstance(value, list) or names[-1] == "options"
        OmegaConf.update(config, key, value, merge=not replaces)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(f"override {key}={value}: {_reason(error)}") from error


def _drop_options(config: DictConfig, part: str, kind: Any) -> None:
    """Of `part`, whose kind is about to be `kind`, if that is another one."""
    if OmegaConf.select(config, f"{part}.kind") not in (None, kind):
        OmegaConf.update(config, f"{part}.options", {}, merge=False)


def _check(recipe: Recipe, source: str) -> None:
    """What types alone do not say."""

    def require(holds: bool, text: str) -> None:
        if not holds:
            raise UsageError(f"{source}: {text}")

    for key in ("image_size", "batch_size", "accumulate"):
        require(getattr(recipe, key) >= 1, f"{key} must be at least 1, got {getattr(recipe, key)}")
    for key in ("log", "checkpoint", "keep"):
        value = getattr(recipe.saving, key)
        require(value >= 1, f"saving.{key} must be at least 1, got {value}")
    require(recipe.saving.samples >= 0, "saving.samples must be at least 0")
    require(recipe.data.workers >= 0, "data.workers must be at least 0")
    require(0 <= recipe.seed < 2**32, f"seed must be in [0, 2**32), got {recipe.seed}")
    _require_known(f"{source}: metrics", "metric", recipe.metrics, METRICS)
    for network in NETWORKS:
        optimizer: Optimizer = getattr(recipe.optimizers, network)
        key = f"optimizers.{network}"
        _require_rate(f"{source}: {key}.rate", optimizer.rate)
        betas = optimizer.betas
        require(
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            f"{key}.betas must be two numbers in [0, 1), got {betas}",
        )
        require(
            0 <= optimizer.momentum < 1,
            f"{key}.momentum must be in [0, 1), got {optimizer.momentum}",
        )
        decay = optimizer.weight_decay
        require(0 <= decay < math.inf, f"{key}.weight_decay must be at least 0, got {decay}")
    _require_weights(f"{source}: losses", recipe.losses)
    require(bool(recipe.phases), "phases must name at least one phase")
    for name, phase in recipe.phases.items():
        key = f"phases.{name}"
        given = [v for v in (phase.epochs, phase.iterations) if v is not None]
        require(len(given) == 1, f"{key} must have either epochs or iterations")
        require(given[0] >= 1, f"{key} must last at least 1 epoch or iteration, got {given[0]}")
        require(bool(phase.train), f"{key}.train must name at least one network")
        _require_known(f"{source}: {key}.train", "network", phase.train, NETWORKS)
        _require_known(f"{source}: {key}.rates", "network", phase.rates, NETWORKS)
        for network, rate in phase.rates.items():
            _require_rate(f"{source}: {key}.rates.{network}", rate)
            require(network in phase.train, f"{key}.rates.{network}: the phase does not train it")
        _require_weights(f"{source}: {key}.losses", phase.losses)
        if "generator" in phase.train:
            require(bool(recipe.weights(name)), f"{key} trains the generator without a loss")
        else:
            require(not phase.losses, f"{key}.losses are the generator's, which it does not train")


def _require_rate(where: str, rate: float) -> None:
    if not 0 < rate < math.inf:
        raise UsageError(f"{where} must be more than 0 and finite, got {rate}")


def _require_weights(where: str, losses: Mapping[str, float]) -> None:
    for name, weight in losses.items():
        if not 0 <= weight < math.inf:
            raise UsageError(f"{where}.{name} must be at least 0 and finite, got {weight}")


def _require_known(where: str, kind: str, words: Iterable[str], known: Iterable[str]) -> None:
    for word in words:
        if word not in known:
            raise UsageError(f"{where}: {unknown(kind, word, known)}")


def check_losses(recipe: Recipe, known: Sequence[str]) -> None:
    """Raise UsageError for a loss that the recipe's system does not have."""
    _require_known("losses", "loss", recipe.losses, known)
    for name, phase in recipe.phases.items():
        _require_known(f"phases.{name}.losses", "loss", phase.losses, known)


def _reason(error: Exception) -> str:
    """OmegaConf's message in one line, with the whole key in front where it knows it."""
    key = getattr(error, "full_key", None)
    text = _joined(error)
    return f"{key}: {text}" if key else text


def _joined(error: Exception) -> str:
    """A message in one line, without the lines that OmegaConf adds on types."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [
        line
        for line in lines
        if line and not line.startswith(("full_key:", "object_type=", "reference_type="))
    ]
    return " ".join(kept)
