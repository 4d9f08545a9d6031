"""Down-scaled copies of the photographs, so that no training step waits for a large JPEG."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from . import split

SHORT_SIDES = {"large": 384, "small": 192, "tiles": 128}
"""Copies by the length of their shorter side, in pixels."""
TILE, STRIDE = 64, 32
"""Of "tiles", squares are cut at this distance: batches need more pictures than photographs."""
PARTS = ("train", "test")


def folder(work: Path, kind: str, part: str) -> Path:
    """Where the copies of one kind ("large", "small", "tiles") and part lie."""
    return work / "pictures" / kind / part


def prepare(data: Path, work: Path, *, names_only: bool = False) -> None:
    """Write the copies, as uncompressed pictures; those of an earlier call are replaced.

    `names_only` as in `split.check_photographs`.

    Raises:
        ValueError: `data` does not hold the photographs of the list.
    """
    split.check_photographs(data, names_only=names_only)
    shutil.rmtree(work / "pictures", ignore_errors=True)
    listed = split.load_split()
    for part in PARTS:
        for kind in SHORT_SIDES:
            folder(work, kind, part).mkdir(parents=True)
        for name in listed[part]:
            with Image.open(data / name) as opened:
                photograph = opened.convert("RGB")
            for kind, side in SHORT_SIDES.items():
                copy = scale(photograph, side)
                target = folder(work, kind, part) / f"{Path(name).stem}.bmp"
                if kind == "tiles":
                    for i, tile in enumerate(cut(copy)):
                        tile.save(target.with_stem(f"{target.stem}-{i:02}"))
                else:
                    copy.save(target)


def scale(picture: Image.Image, side: int) -> Image.Image:
    """A copy whose shorter side has this many pixels."""
    factor = side / min(picture.size)
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS)


def cut(picture: Image.Image) -> list[Image.Image]:
    """Overlapping squares, row by row."""
    return [
        picture.crop((left, top, left + TILE, top + TILE))
        for top in range(0, picture.height - TILE + 1, STRIDE)
        for left in range(0, picture.width - TILE + 1, STRIDE)
    ]
