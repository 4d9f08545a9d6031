"""From a checkpoint to an evaluation: its network over a folder, by its recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .baselines import Fill
from .checkpoints import load_generator
from .data import InpaintingDataset, make_loader
from .errors import UsageError
from .evaluate import Batch, Evaluation, evaluate
from .recipe import parse_recipe
from .supply import make_dataset


@dataclass(frozen=True)
class TestSet:
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
            yield Batch(batch.names, batch.image.to(self.device), batch.mask.to(self.device))


@dataclass(frozen=True)
class Measured:
    """An evaluation, and what made it."""

    evaluation: Evaluation
    fill: Fill
    batches: TestSet


def measure(
    checkpoint: str | os.PathLike[str],
    data: str,
    overrides: Sequence[str] = (),
    *,
    accelerator: str = "auto",
    colours: str | None = None,
) -> Measured:
    """Evaluate a trained generator.

    Args:
        checkpoint: what `load_generator` takes.
        data: the pictures, of the kind that the recipe names.
        overrides: "key=value" each, of the recipe that the checkpoint holds.
        accelerator: "cpu", "gpu" or "auto".
        colours: adds the network with corrected colours; see `evaluate`.

    Raises:
        UsageError: checkpoint, data or overrides are not usable.
    """
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    net, metadata = load_generator(checkpoint)
    recipe = parse_recipe(metadata["recipe"], f"recipe of {os.fspath(checkpoint)}", overrides)
    recipe.data.root = data
    recipe.data.transform |= {"crop": "center", "flip": False}
    trained_on = make_dataset(recipe)
    dataset = InpaintingDataset(
        trained_on.images, trained_on.masks, trained_on.transform, recipe.seed, broken="drop"
    )
    batches = TestSet(dataset, recipe.batch_size, recipe.data.workers, device)
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
    return Measured(evaluation, fill, batches)
