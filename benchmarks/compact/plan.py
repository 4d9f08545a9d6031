"""What the weights in the box learn from and are measured on; both are fixed before training.

Photographs are split as in the small reproduction (`benchmarks/reproduction/split.json`): 22 to
learn from, 8 to measure on. `masks.json` names the test masks with their SHA-256.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..reproduction.split import MaskSet

NAME = "compact"
LIST = Path(__file__).with_name("masks.json")
RECIPE = Path(__file__).with_name("compact.yaml")

TRAIN_SIDES = (288, 384, 512, 720)
"""Shorter sides of the copies to learn from: holes are of one size in pixels, and what surrounds
them is not."""
TEST_SIDE, TEST_SIZE = 384, 256
"""Shorter side of the copies to measure on, and the side of the square from their middle."""
BINS = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4))
"""Hole ratios, above and up to."""
MASKS_PER_BIN = 8
"""Each photograph meets all of them."""

METRICS = ("l1_percent", "psnr", "ssim", "l1_hole_percent")

TESTS = {
    bin_: MaskSet(
        f"{bin_[0]}-{bin_[1]}", TEST_SIZE, "free-form", {"ratio": list(bin_)}, MASKS_PER_BIN, seed
    )
    for bin_, seed in zip(BINS, (2010, 2020, 2030), strict=True)
}


def load_list() -> dict[str, Any]:
    """The committed list of test masks, by the names of their sets."""
    listed: dict[str, Any] = json.loads(LIST.read_text("utf-8"))
    return listed
