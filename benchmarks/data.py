"""What the benchmarks run on: three photographs, and irregular masks drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

SAMPLES = Path(__file__).parent / "samples"
HOLE_RATIOS = (0.15, 0.45)
"""A light and a heavy mask: the share of pixels that are missing."""


def load_images(count: int, size: int) -> Tensor:
    """``count`` square crops of the sample photographs, (count, 3, size, size) in [0, 1].

    Crop ``i`` comes from photograph ``i`` modulo their number; every further turn is mirrored and
    cut from another corner, so that no two crops are the same.
    """
    paths = sorted(SAMPLES.glob("*.jpg"))
    if not paths:
        raise FileNotFoundError("benchmarks/samples holds no photographs: run from a full checkout")
    crops = []
    for i in range(count):
        turn = i // len(paths)
        with Image.open(paths[i % len(paths)]) as opened:
            picture = opened.convert("RGB")
        if min(picture.size) < size:
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        left = (picture.width - size) // 2 if turn % 2 == 0 else 0
        top = (picture.height - size) // 2 if turn % 3 == 0 else picture.height - size
        pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32) / 255
        crops.append(pixels[:, ::-1] if turn % 2 else pixels)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def load_masks(count: int, size: int, hole_ratio: float, seed: int = 0) -> Tensor:
    """``count`` irregular masks, (count, 1, size, size), 1 = valid, each with its own holes."""
    masks = [irregular_mask(size, hole_ratio, seed * 1000 + i) for i in range(count)]
    return torch.from_numpy(np.stack(masks)).unsqueeze(1)


def irregular_mask(size: int, hole_ratio: float, seed: int) -> np.ndarray:
    """One mask (size, size) of 0 (hole) and 1: brush strokes and blots are missing.

    Drawn segment by segment until the target is passed, so that the ratio is met to within one
    segment's area.
    """
    if not 0 <= hole_ratio < 1:
        raise ValueError(f"hole_ratio must be in [0, 1), got {hole_ratio}")
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (size, size), 1)
    draw = ImageDraw.Draw(canvas)
    wanted = hole_ratio * size * size
    for start, end, width in _segments(rng, size):
        if size * size - np.count_nonzero(np.asarray(canvas)) >= wanted:
            break
        draw.line(start + end, fill=0, width=round(width))
        for x, y in (start, end):  # round caps
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=0)
    return np.asarray(canvas).astype(np.float32)


Point = tuple[float, float]


def _segments(rng: np.random.Generator, size: int) -> Iterator[tuple[Point, Point, float]]:
    """Endless wandering strokes, with a short fat blot now and then: (from, to, width) each.

    Widths are 3 to 9 per cent of the picture: some holes close after the first strided layer,
    some reach the third level of the network, as with the papers' masks.
    """
    while True:
        x, y = rng.uniform(0, size, 2)
        heading = rng.uniform(0, 2 * math.pi)
        blot = rng.random() < 0.25
        width = max(1.0, size * rng.uniform(0.05, 0.13) if blot else size * rng.uniform(0.03, 0.09))
        for _ in range(1 if blot else int(rng.integers(4, 16))):
            heading += rng.normal(0, 0.7)
            length = size * rng.uniform(0.02, 0.06)
            # A stroke that would leave the picture goes on along its edge.
            to_x = min(max(x + length * math.cos(heading), 0.0), float(size))
            to_y = min(max(y + length * math.sin(heading), 0.0), float(size))
            yield (x, y), (to_x, to_y), width
            x, y = to_x, to_y
