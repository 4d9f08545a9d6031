"""The photographs and masks that are for testing: a list that is committed before any training.

The photographs are thirty desktop backgrounds of three Debian packages; `split.json` names each
with the SHA-256 of its file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inpaint_models.training.masks import FixedMasks
from inpaint_models.training.supply import make_masks
from numpy.typing import NDArray

LIST = Path(__file__).with_name("split.json")
FIRST, EVERY = 1, 4
"""Of the sorted names, the test set is this one and every fourth after it."""


@dataclass(frozen=True)
class MaskSet:
    """Different masks that are drawn once; `kind` and `options` as in a recipe."""

    name: str
    size: int
    kind: str
    options: dict[str, Any]
    count: int
    seed: int

    def holes(self) -> NDArray[np.bool_]:
        """(count, size, size), True in the hole."""
        part = {"kind": self.kind, "options": self.options}
        masks = make_masks("fixed", {"k": self.count, "seed": self.seed, "source": part})
        assert isinstance(masks, FixedMasks)
        return np.stack(masks.holes(self.size, self.size))


SEEN, UNSEEN, LINES, SQUARES = "seen", "unseen", "lines", "squares"
IN_BATCHES = "seen-in-batches"
"""The set "seen" again, with as many pictures at once as in training."""
MASK_SETS = {
    masks.name: masks
    for masks in (
        # The masks that the recipes of the U-Nets train with: seed 0.
        MaskSet(SEEN, 256, "free-form", {"ratio": [0.1, 0.2]}, 8, 0),
        MaskSet(UNSEEN, 256, "free-form", {"ratio": [0.1, 0.2]}, 8, 1000),
        MaskSet(LINES, 32, "lines", {"count": [1, 9], "thickness": [1, 2]}, 64, 1000),
        MaskSet(SQUARES, 128, "rectangles", {"count": 1, "size": [25, 25]}, 4, 1000),
    )
}


def choose_tests(names: Sequence[str]) -> list[str]:
    """The test photographs among all names, by the fixed rule."""
    return sorted(names)[FIRST::EVERY]


def make_split(data: Path) -> dict[str, Any]:
    """What `split.json` holds, from a folder of photographs."""
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.glob("*.jpg"))
    }
    tests = choose_tests(list(digests))
    return {
        "test": {name: digests[name] for name in tests},
        "train": {name: digest for name, digest in digests.items() if name not in tests},
        "masks": {name: describe_masks(masks) for name, masks in MASK_SETS.items()},
    }


def describe_masks(masks: MaskSet) -> dict[str, Any]:
    """How a set is drawn, and what it must come out as."""
    holes = masks.holes()
    return {
        "size": masks.size,
        "kind": masks.kind,
        "options": masks.options,
        "count": masks.count,
        "seed": masks.seed,
        "hole_ratios": [round(float(hole.mean()), 4) for hole in holes],
        "sha256": hashlib.sha256(np.packbits(holes).tobytes()).hexdigest(),
    }


def load_split() -> dict[str, Any]:
    """The committed list."""
    split: dict[str, Any] = json.loads(LIST.read_text("utf-8"))
    return split


def check_photographs(data: Path, *, names_only: bool = False) -> None:
    """Raise ValueError unless `data` holds the photographs of the list, and no other.

    With `names_only`, photographs of those names, whatever their bytes.
    """
    found, wanted = make_split(data), load_split()
    for part in ("test", "train"):
        a, b = (
            set(listed[part] if names_only else listed[part].items()) for listed in (found, wanted)
        )
        if a != b:
            wrong = sorted({entry if names_only else entry[0] for entry in a ^ b})
            raise ValueError(
                f"{data} does not hold the photographs of {LIST.name}: {', '.join(wrong)}"
                + ("" if names_only else " (--names-only takes any bytes under their names)")
            )
