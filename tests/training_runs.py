"""Small runs for the tests of training: pictures, recipes, and systems that no paper has."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.multiprocessing as mp
from inpaint_models import composite
from inpaint_models.losses import AdversarialLoss, hole_l1, valid_l1, whole_mse
from inpaint_models.training.data import Batch
from inpaint_models.training.logs import FIXED_COLUMNS, read_log
from inpaint_models.training.loop import train
from inpaint_models.training.recipe import Recipe, load_recipe, parse_recipe
from inpaint_models.training.systems import Outputs, System
from PIL import Image
from torch import Tensor, nn

TINY = (
    "image_size=32", "batch_size=2", "data.workers=0", "generator={width: 4, levels: 3}",
    "saving={log: 1, samples: 0, checkpoint: 1000}",
)  # fmt: skip

SAVED = ("phases.main.iterations=3", "phases.finetune.iterations=2")
NO_VGG = ("losses.perceptual=0", "losses.style=0")


def draw_pictures(folder: Path, count: int = 8) -> Path:
    """Small colourful pictures."""
    folder.mkdir()
    dice = np.random.default_rng(0)
    y, x = np.mgrid[:36, :40]
    for i in range(count):
        waves = [np.sin(x * a + y * b) for a, b in dice.uniform(0.05, 0.4, (3, 2))]
        pixels = (127 + 120 * np.stack(waves, -1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def pconv_recipe(data: Path, *overrides: str) -> Recipe:
    """The recipe `pconv_unet`, small and short."""
    recipe = load_recipe("pconv_unet", [*TINY, *SAVED, *NO_VGG, *overrides])
    recipe.data.root = str(data)
    return recipe


class TinyGan(System):
    """Region norms in the generator, batch norms in the discriminator."""

    losses = ("valid", "hole", "adversarial")
    discriminator_losses = ("judge",)

    def predict(self, batch: Batch) -> Outputs:
        return Outputs(self.generator(batch.image, batch.mask))

    def _judge(self, batch: Batch, image: Tensor) -> Tensor:
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(torch.where(batch.mask == 0, 0, batch.image), image)
        return logits

    def discriminator_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        fake = composite(outputs.prediction, batch.image, batch.mask)
        loss = AdversarialLoss("nsgan")
        real = self._judge(batch, batch.image)
        return {"judge": loss.discriminator(real, self._judge(batch, fake))}

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        prediction = outputs.prediction
        terms = {
            "valid": valid_l1(prediction, batch.image, batch.mask),
            "hole": hole_l1(prediction, batch.image, batch.mask),
        }
        if "adversarial" in wanted:
            fake = composite(prediction, batch.image, batch.mask)
            terms["adversarial"] = AdversarialLoss("nsgan").generator(self._judge(batch, fake))
        return terms


class Attentive(TinyGan):
    """Calls a method of its generator that is not `forward`."""

    methods: ClassVar[dict[str, str]] = {"generator": "forward_twice"}

    def __init__(self, generator: nn.Module, discriminator: nn.Module | None) -> None:
        super().__init__(generator, discriminator)

        def twice(image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
            output = generator(image, mask)
            return output, [output, output]

        generator.forward_twice = twice  # type: ignore[assignment]

    def predict(self, batch: Batch) -> Outputs:
        prediction, maps = self.generator(batch.image, batch.mask)
        return Outputs(prediction, {"maps": maps})


GAN = """
system: cgan_pc_rn
about: a test
losses: {valid: 1.0, hole: 6.0, adversarial: 0.5}
discriminator: {width: 4}
optimizers: {discriminator: {rate: 1.0e-3}}
phases:
  generator: {train: [generator], iterations: 2, losses: {adversarial: 0}}
  discriminator: {train: [discriminator], iterations: 2}
  both: {train: [generator, discriminator], iterations: 3}
masks: {kind: rectangles, options: {side: [0.3, 0.6]}}
"""


def gan_recipe(data: Path, *overrides: str) -> Recipe:
    """Three phases of `TinyGan`, which the caller registers as "cgan_pc_rn"."""
    recipe = parse_recipe(GAN, "test", [*TINY, *overrides])
    recipe.data.root = str(data)
    return recipe


class Plain(System):
    """No norm at all."""

    losses: ClassVar[tuple[str, ...]] = ("mse",)

    def predict(self, batch: Batch) -> Outputs:
        return Outputs(self.generator(torch.where(batch.mask == 0, 0, batch.image), batch.mask))

    def generator_terms(
        self, batch: Batch, outputs: Outputs, wanted: Collection[str]
    ) -> dict[str, Tensor]:
        return {"mse": whole_mse(outputs.prediction, batch.image)}


PLAIN = """
system: vanilla_autoencoder
about: a test
losses: {mse: 1.0}
phases: {main: {iterations: 3}}
masks: {kind: rectangles}
"""


def plain_recipe(data: Path, *overrides: str) -> Recipe:
    """One phase of `Plain`, which the caller registers as "vanilla_autoencoder"."""
    recipe = parse_recipe(PLAIN, "test", [*TINY, "generator={width: 4}", *overrides])
    recipe.data.root = str(data)
    return recipe


def losses_of(run: Path) -> list[dict[str, str]]:
    """What a log says, but for times."""
    timed = {"images_per_s", "waiting", "outside"}
    assert timed < set(FIXED_COLUMNS)
    rows = read_log(run / "log.csv")
    return [{name: text for name, text in row.items() if name not in timed} for row in rows]


def in_processes(world: int, body: Callable[..., Any], *arguments: Any) -> None:
    """Run `body(*arguments)` in processes that see themselves started by torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_started, (world, port, body, arguments), nprocs=world, start_method="fork")


def _started(
    rank: int, world: int, port: int, body: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0", WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip
    body(*arguments)


def train_on_cpu(recipe: Recipe, run: Path) -> None:
    """`train`, as the body of a process."""
    train(recipe, run, "cpu")
