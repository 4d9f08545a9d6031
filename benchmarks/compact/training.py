"""Makes the weights in the box: copies of the photographs, a run by the recipe, the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from inpaint_models.errors import UsageError
from inpaint_models.training.loop import resume, train
from inpaint_models.training.recipe import dump_recipe, load_recipe
from inpaint_models.weights import PRETRAINED, last_checkpoint, read_weights
from PIL import Image
from safetensors.torch import save

from ..reproduction import pictures, split
from .plan import NAME, RECIPE, TEST_SIDE, TRAIN_SIDES

LIMIT = 8_000_000
"""Bytes that the file in the box may have."""


def prepare(data: Path, work: Path) -> None:
    """Write the copies of the photographs, as uncompressed pictures.

    Raises:
        ValueError: `data` does not hold the photographs of the list.
    """
    split.check_photographs(data)
    shutil.rmtree(work / "pictures", ignore_errors=True)
    listed = split.load_split()
    for part, sides in (("train", TRAIN_SIDES), ("test", (TEST_SIDE,))):
        (work / "pictures" / part).mkdir(parents=True)
        for name in listed[part]:
            with Image.open(data / name) as opened:
                photograph = opened.convert("RGB")
            for side in sides:
                copy = pictures.scale(photograph, side)
                suffix = f"-{side}" if part == "train" else ""
                copy.save(work / "pictures" / part / f"{Path(name).stem}{suffix}.bmp")


def train_run(work: Path, overrides: list[str]) -> None:
    """Start the run, or go on with it."""
    run = work / "run"
    recipe = load_recipe(str(RECIPE), overrides)
    recipe.data.root = str(work / "pictures" / "train")
    if last_checkpoint(run / "checkpoints") is None:
        shutil.rmtree(run, ignore_errors=True)
        train(recipe, run, "cpu")
    elif (run / "recipe.yaml").read_text("utf-8") != dump_recipe(recipe):
        raise UsageError(f"{run} is of another recipe: remove it, or give another --work")
    else:
        resume(run, "cpu")


def ship(work: Path) -> Path:
    """Copy the run's last weights into the package.

    The recipe goes along without the folder that it was trained from.

    Raises:
        ValueError: the file would be larger than `LIMIT`.
    """
    checkpoint = last_checkpoint(work / "run" / "checkpoints")
    if checkpoint is None:
        raise UsageError(f"{work} holds no run yet: train first")
    tensors, metadata = read_weights(checkpoint / "generator.safetensors")
    recipe = metadata["recipe"].replace(str(work / "pictures" / "train"), "PHOTOGRAPHS")
    kept = {"model": metadata["model"], "options": metadata["options"], "recipe": recipe}
    kept |= {"step": metadata["step"], "versions": json.dumps(json.loads(metadata["versions"]))}
    content = save(tensors, kept)
    if len(content) > LIMIT:
        raise ValueError(f"{len(content):,} bytes are more than the {LIMIT:,} allowed")
    target = PRETRAINED / f"{NAME}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".partial")
    temporary.write_bytes(content)
    temporary.replace(target)
    return target
