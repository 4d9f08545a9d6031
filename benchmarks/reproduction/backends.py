"""What the fused operators do to training: equal runs on both backends, step by step in turns."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from inpaint_models.training.loop import Trainer, make_fabric
from inpaint_models.training.recipe import Recipe
from inpaint_models.training.steps import PhaseSteps

from inpaint_ops import use_backend

from .plan import CGAN, PC, Run

REFERENCE, FUSED = "reference", "cpu"
STEPS = 50
WARM_UP = 5
"""Steps whose times do not count: memory and caches are new."""
WIDE = 64
WIDE_STEPS = 12


class _Side:
    """A training run on one backend; its steps are made one at a time."""

    def __init__(self, recipe: Recipe, folder: Path, backend: str) -> None:
        self.backend = backend
        self.losses: list[list[float]] = []
        self.seconds: list[float] = []
        fabric = make_fabric(recipe.precision, "cpu")
        self.trainer = trainer = Trainer(recipe, folder, fabric)
        self.steps = PhaseSteps(
            fabric,
            recipe,
            "main",
            trainer.system,
            trainer.networks,
            trainer.trainable,
            trainer.encoder_norms,
            trainer.optimizers,
            trainer.watch,
        )

    def step(self) -> None:
        batch = self.trainer.supply.next()
        if self.trainer.recipe.precision == "64-true":
            batch = batch._replace(image=batch.image.double(), mask=batch.mask.double())
        with use_backend(self.backend):
            # Processor time of this thread, the only one that computes: other processes on the
            # machine do not count.
            start = time.thread_time()
            losses = self.steps.run([batch])
            self.seconds.append(time.thread_time() - start)
        self.losses.append(losses.tolist())


def compare(work: Path) -> dict[str, Any]:
    """Losses and times of both U-Nets; see `compare_recipe`.

    Raises:
        ValueError: torch has more than one thread, whose time could not be told from others'.
    """
    if torch.get_num_threads() != 1:
        raise ValueError("backends must be compared with --threads 1: processor time is measured")
    found: dict[str, Any] = {}
    for method in (PC, CGAN):
        recipe = Run(method, 0).recipe(work)
        found[method] = {
            "float32": compare_recipe(recipe, STEPS) | {"rounding": rounding(recipe, STEPS)},
            "float64": compare_recipe(replace(recipe, precision="64-true"), STEPS),
            f"width {WIDE}": compare_recipe(_widened(recipe), WIDE_STEPS),
        }
    return found


def compare_recipe(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Train from equal seeds on both backends, one step each in turns.

    Returns:
        Names of the losses; for each backend its losses by step, and the quartiles of the seconds
        of a step; `ratio`, the median over the steps of reference / fused.
    """
    with TemporaryDirectory() as folder:
        sides = [_Side(recipe, Path(folder) / name, name) for name in (REFERENCE, FUSED)]
        for i in range(steps):
            # Neither of them always comes first.
            for side in sides if i % 2 == 0 else reversed(sides):
                side.step()
    reference, fused = (side.seconds[WARM_UP:] for side in sides)
    return {
        "names": sides[0].steps.names,
        "losses": {side.backend: side.losses for side in sides},
        "seconds": {
            side.backend: statistics.quantiles(side.seconds[WARM_UP:], n=4, method="inclusive")
            for side in sides
        },
        "ratio": statistics.median(a / b for a, b in zip(reference, fused, strict=True)),
    }


def rounding(recipe: Recipe, steps: int) -> list[float]:
    """What a rounding alone does: two runs on the reference backend, weights one rounding apart.

    Returns:
        The largest relative difference of any loss, by step.
    """
    with TemporaryDirectory() as folder:
        sides = [_Side(recipe, Path(folder) / name, REFERENCE) for name in ("first", "second")]
        with torch.no_grad():
            for weight in sides[1].trainer.networks["generator"].parameters():
                weight.copy_(weight.nextafter(torch.full_like(weight, torch.inf)))
        for side in sides:
            for _ in range(steps):
                side.step()
    return difference(*(side.losses for side in sides))


def difference(a: list[list[float]], b: list[list[float]]) -> list[float]:
    """The largest relative difference of any loss, by step."""
    first, second = (torch.tensor(losses, dtype=torch.float64) for losses in (a, b))
    found: list[float] = ((first - second).abs() / first.abs()).amax(1).tolist()
    return found


def _widened(recipe: Recipe) -> Recipe:
    """With the published number of channels."""
    discriminator = {**recipe.discriminator, "width": WIDE} if recipe.discriminator else {}
    return replace(
        recipe, generator={**recipe.generator, "width": WIDE}, discriminator=discriminator
    )
