"""From a checkpoint to an evaluation: its network over a folder, by its recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from inpaint_ops import RN_B, RN_L, RegionNorm2d

from ..devices import choose_accelerator
from ..errors import UsageError
from ..weights import find_pretrained, load_generator
from .baselines import Fill
from .data import Batch, InpaintingDataset, make_loader
from .evaluate import Evaluation, evaluate
from .recipe import Data, parse_recipe, parse_values
from .supply import make_dataset


@dataclass(frozen=True)
class Pictures:
    """Batches of a dataset, the same at each iteration."""

    dataset: InpaintingDataset
    batch_size: int
    workers: int
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        """One pass: each usable picture once."""
        loader = make_loader(
            self.dataset, self.batch_size, self.workers, shuffle=False, drop_last=False
        )
        for batch in loader:
            yield Batch(batch.image.to(self.device), batch.mask.to(self.device), batch.names)


@dataclass(frozen=True)
class Measured:
    """An evaluation, what made it, and which pictures it is of, in words."""

    evaluation: Evaluation
    fill: Fill
    batches: Pictures
    part: str


def measure(
    checkpoint: str | os.PathLike[str],
    data: str,
    overrides: Sequence[str] = (),
    *,
    accelerator: str = "auto",
    colours: str | None = None,
    batch_size: int = 1,
) -> Measured:
    """Evaluate a trained generator.

    A recipe that trains on a part of the data is evaluated on the other one: the test part of a
    split, CIFAR-10's test batch. `overrides` may say otherwise.

    Args:
        checkpoint: what `load_pretrained` takes.
        data: the pictures, of the kind that the recipe names.
        overrides: "key=value" each, of the recipe that the checkpoint holds.
        accelerator: "cpu", "gpu" or "auto".
        colours: adds the network with corrected colours; see `evaluate`.
        batch_size: pictures that are filled at once: faster, and for networks without region norms
            the same.

    Raises:
        UsageError: checkpoint, data, overrides or another argument are not usable.
    """
    device = torch.device("cuda" if choose_accelerator(accelerator) == "gpu" else "cpu")
    net, metadata = load_generator(find_pretrained(checkpoint))
    _check_batch_size(batch_size, net)
    source = f"recipe of {os.fspath(checkpoint)}"
    if "recipe" not in metadata:
        raise UsageError(f"{source}: the file holds none, so its data and masks are not known")
    # The file may be anybody's, and what stands in these braces can read the environment.
    if "${" in metadata["recipe"]:
        raise UsageError(f"{source}: values must be plain, but one refers to others by '${{'")
    recipe = parse_recipe(metadata["recipe"], source, overrides)
    recipe.data.root = data
    part = _take_test_part(recipe.data, overrides)
    recipe.data.transform |= {"crop": "center", "flip": False}
    trained_on = make_dataset(recipe)
    dataset = InpaintingDataset(
        trained_on.images, trained_on.masks, trained_on.transform, recipe.seed, broken="drop"
    )
    batches = Pictures(dataset, batch_size, recipe.data.workers, device)
    fill = net.to(device)
    try:
        evaluation = evaluate(
            fill,
            batches,
            model=recipe.system,
            metrics=recipe.metrics,
            colour_correction=colours,
        )
    except ValueError as error:
        raise UsageError(f"evaluation: {error}") from error
    return Measured(evaluation, fill, batches, part)


def _check_batch_size(batch_size: int, net: nn.Module) -> None:
    if batch_size < 1:
        raise UsageError(f"--batch must be at least 1, got {batch_size}")
    shared = any(
        isinstance(module, (RN_B, RN_L))
        or (isinstance(module, RegionNorm2d) and module.stats == "batch")
        for module in net.modules()
    )
    if batch_size > 1 and shared:
        raise UsageError(
            f"--batch {batch_size}: this network's region norms take their statistics from the "
            f"whole batch, so that a picture's result would depend on the others: leave it out"
        )


def _take_test_part(data: Data, overrides: Sequence[str]) -> str:
    """Turn to what was not trained on, unless `overrides` choose; the part in words."""
    given = parse_values(overrides)
    chosen = {key.removeprefix("data.options.") for key in given}
    chosen |= set(given.get("data.options") or ())
    options, what = data.options, "all pictures"
    if data.kind == "cifar10":
        if "train" not in chosen:
            options["train"] = False
            if "split" not in chosen:
                # Of the training batches, to hold some of them out.
                options.pop("split", None)
        what = "the training batches" if options["train"] else "the test batch"
    elif isinstance(options.get("split"), list) and "split" not in chosen:
        options["split"] = ["test", *options["split"][1:]]
    if options.get("split") is not None:
        what += f", split={options['split']}"
    return f"Measured on {what} of {data.root}."
