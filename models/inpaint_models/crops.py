"""Square crops for local discriminators: around a hole of the completed image, anywhere in the
real one (M_d, the random mask in the paper's objective, section 2.5 of "Image Inpainting",
Bernikov, Pelekh, Kononenko).

>>> fake = crop(completed, hole_corners(mask, 128, generator), 128)
>>> n, _, height, width = image.shape
>>> real = crop(image, random_corners(n, height, width, 128, generator), 128)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_at_least


def hole_corners(mask: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Where to crop so that a hole lies in the middle.

    A hole is a set of pixels with mask 0 that touch each other, by a side or by a corner. Of
    several holes in a mask, each is as likely as the others. Its bounding box is enlarged evenly
    to the crop's size, then moved into the image. Of a hole that is larger than the crop, the
    middle is cropped. A mask without a hole gives a crop from anywhere.

    Args:
        mask: (N, 1, H, W), 1 = valid, 0 = hole.
        size: side of the crop in pixels, at most H and W.
        generator: on the CPU; None: torch's own.

    Returns:
        Top and left of each crop, (N, 2), int64, on the CPU.
    """
    if mask.dim() != 4 or mask.shape[1] != 1:
        raise ValueError(f"mask must have shape (N, 1, H, W), got {tuple(mask.shape)}")
    n, _, height, width = mask.shape
    corners = random_corners(n, height, width, size, generator)
    labels = _label_holes((mask == 0)[:, 0]).cpu()
    for i in range(n):
        holes = labels[i][labels[i] >= 0].unique()
        if len(holes) == 0:
            continue
        chosen = holes[torch.randint(len(holes), (1,), generator=generator)]
        for axis, side in enumerate((height, width)):
            inside = (labels[i] == chosen).any(1 - axis).nonzero()
            middle = int(inside.min() + inside.max() + 1) // 2
            corners[i, axis] = min(max(middle - size // 2, 0), side - size)
    return corners


def random_corners(
    n: int, height: int, width: int, size: int, generator: torch.Generator | None = None
) -> Tensor:
    """Corners of `n` crops anywhere in images of height x width; else as `hole_corners`."""
    check_at_least("size", size, 1)
    if size > height or size > width:
        raise ValueError(f"size must be at most the image's {height} x {width}, got {size}")
    tops = torch.randint(height - size + 1, (n,), generator=generator)
    lefts = torch.randint(width - size + 1, (n,), generator=generator)
    return torch.stack([tops, lefts], dim=1)


def crop(image: Tensor, corners: Tensor, size: int) -> Tensor:
    """Cut one square out of each image.

    Args:
        image: (N, C, H, W).
        corners: (N, 2), top and left of each crop.
        size: side of the crop in pixels.

    Returns:
        (N, C, size, size). Gradients flow back to the image.
    """
    n, _, height, width = image.shape
    if corners.shape != (n, 2):
        raise ValueError(f"corners must have shape ({n}, 2), got {tuple(corners.shape)}")
    crops = []
    for one, (top, left) in zip(image, corners.tolist(), strict=True):
        if not (0 <= top <= height - size and 0 <= left <= width - size):
            raise ValueError(
                f"corners must leave a crop of {size} x {size} inside the image of "
                f"{height} x {width}, got ({top}, {left})"
            )
        crops.append(one[:, top : top + size, left : left + size])
    return torch.stack(crops)


def _label_holes(hole: Tensor) -> Tensor:
    """Number the holes of (N, H, W) bool: equal numbers >= 0 within a hole, -1 elsewhere.

    Each pixel points at a pixel of its hole, at itself to begin with. In each round the pixel that
    is pointed at takes over the largest number next to any pixel that points at it, then every
    pointer is followed one step further. Numbers only grow, and when none does, all pixels of a
    hole point at the same one; long holes take few rounds, because chains of pointers halve.
    """
    flat = hole.reshape(-1)
    labels = torch.arange(flat.numel(), device=hole.device)
    while True:
        # max_pool2d takes no integers; float64 holds them exactly.
        own = torch.where(flat, labels, -1).reshape(hole.shape).double()
        near = F.max_pool2d(own.unsqueeze(1), 3, stride=1, padding=1).long().reshape(-1)
        near = torch.where(flat, near, labels)
        hooked = labels.scatter_reduce(0, labels, near, "amax")
        hooked = hooked[hooked]
        if torch.equal(hooked, labels):
            return torch.where(flat, labels, -1).reshape(hole.shape)
        labels = hooked
