"""How well a network, or a baseline, fills the holes of the test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inpaint_models.training import evaluate
from inpaint_models.training.baselines import BASELINES, Fill
from inpaint_models.training.data import Batch, Transform
from inpaint_models.training.sources import ImageFolder
from torch import Tensor

from . import pictures, split
from .plan import BATCH

METRICS = ("l1_percent", "l1_hole_percent", "psnr", "ssim", "mse", "mse_hole")
KINDS = {split.SEEN: "large", split.UNSEEN: "large", split.LINES: "tiles", split.SQUARES: "small"}
"""The pictures that a mask set is tested on."""


@dataclass(frozen=True)
class TestSet:
    """Pictures (N, 3, H, W) in [0, 1] with names, and holes (K, 1, H, W), True in the hole.

    Photographs meet every hole; tiles, of which there are many, one each. Pictures come alone, or
    so many `at_once`: region norms take their statistics from a whole batch.
    """

    names: list[str]
    images: Tensor
    holes: Tensor
    tiles: bool
    at_once: int = 1

    def __iter__(self) -> Iterator[Batch]:
        """Each picture with its masks, in a fixed order."""
        rounds = 1 if self.tiles else len(self.holes)
        for first in range(rounds):
            for start in range(0, len(self.names), self.at_once):
                part = slice(start, start + self.at_once)
                images = self.images[part]
                which = (first + torch.arange(start, start + len(images))) % len(self.holes)
                yield Batch(images, (~self.holes[which]).float(), self.names[part])


def load_tests(work: Path, masks: str) -> TestSet:
    """The test pictures of a mask set, cropped at their centres, and its holes."""
    if masks == split.IN_BATCHES:
        return replace(load_tests(work, split.SEEN), at_once=BATCH)
    kind, size = KINDS[masks], split.MASK_SETS[masks].size
    source = ImageFolder(pictures.folder(work, kind, "test"))
    middle = Transform(size, crop="center", flip=False, resize=None)
    dice = np.random.default_rng(0)  # not used: centres are not drawn, and nothing is mirrored
    images = [torch.from_numpy(middle(source.load(i), dice)) for i in range(len(source))]
    names = [Path(source.name(i)).stem for i in range(len(source))]
    holes = torch.from_numpy(split.MASK_SETS[masks].holes())[:, None]
    return TestSet(names, torch.stack(images), holes, kind == "tiles")


def measure(fill: Fill, tests: TestSet) -> dict[str, Any]:
    """Means over the test set, and by photograph.

    All are of the composite, but for `mse_output`, that of the network's whole output.
    """
    metrics = (*METRICS, "mse_output")
    found = evaluate.evaluate(fill, tests, model="network", metrics=metrics, baselines={})
    return _means(found, "network")


def measure_baselines(tests: TestSet) -> dict[str, dict[str, Any]]:
    """The same for the methods that learn nothing."""
    first, *others = BASELINES
    found = evaluate.evaluate(
        BASELINES[first], tests, model=first, metrics=METRICS,
        baselines={name: BASELINES[name] for name in others},
    )  # fmt: skip
    return {name: _means(found, name) for name in BASELINES}


def _means(found: evaluate.Evaluation, method: str) -> dict[str, Any]:
    rows = found.of(method)
    by_photograph: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        by_photograph.setdefault(_photograph(row.name), []).append(row.values)
    return {
        "means": dict(found.summary(method).means),
        "by_photograph": {
            name: {m: float(np.mean([values[m] for values in some])) for m in METRICS}
            for name, some in by_photograph.items()
        },
    }


def _photograph(name: str) -> str:
    """The photograph of a picture: tiles have a number after it."""
    stem, _, number = name.rpartition("-")
    return stem if stem and number.isdigit() else name
