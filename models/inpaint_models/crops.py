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
    picture, top, bottom, left, right = _hole_boxes((mask == 0)[:, 0].cpu())
    for i, boxes in enumerate(picture.bincount(minlength=n).cumsum(0).tolist()):
        first = int(torch.searchsorted(picture, i))
        if first == boxes:
            continue
        chosen = first + int(torch.randint(boxes - first, (1,), generator=generator))
        for axis, (low, high, side) in enumerate(((top, bottom, height), (left, right, width))):
            middle = int(low[chosen] + high[chosen] + 1) // 2
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


def _hole_boxes(hole: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The bounding boxes of all holes of (N, H, W) bool, on the CPU.

    Returns:
        Picture, top, bottom, left and right of each hole, inclusive, (holes,) each; sorted by
        picture, and within a picture by the hole's last pixel.
    """
    height, width = hole.shape[1:]
    # With a blank column and row at the end, what touches in the flat order touches in a picture.
    stride = width + 1
    pixels = F.pad(hole, (0, 1, 0, 1)).flatten().nonzero().squeeze(1)
    breaks = pixels.diff() > 1
    edge = breaks.new_ones(min(1, len(pixels)))
    first, last = pixels[torch.cat([edge, breaks])], pixels[torch.cat([breaks, edge])]
    labels = _label_runs(first, last, stride)
    roots, hole_of_run = labels.unique(return_inverse=True)

    def extreme(values: Tensor, reduce: str) -> Tensor:
        start = values.new_zeros(len(roots))
        return start.scatter_reduce(0, hole_of_run, values, reduce, include_self=False)

    row = first // stride % (height + 1)
    return (
        first[roots] // (stride * (height + 1)),
        extreme(row, "amin"),
        extreme(row, "amax"),
        extreme(first % stride, "amin"),
        extreme(last % stride, "amax"),
    )


def _label_runs(first: Tensor, last: Tensor, stride: int) -> Tensor:
    """Number the connected parts of runs of pixels, (runs,): by the number of their last run.

    Each run points at a run of its part, at itself to begin with. In each round the runs that two
    neighbours point at take over the larger of both numbers, then every pointer is followed one
    step further. Numbers only grow, and when none does, all runs of a part point at the same one;
    long parts take few rounds, because chains of pointers halve.

    Args:
        first, last: flat positions of each run's ends, sorted.
        stride: what lies between a pixel and the one below.
    """
    labels = torch.arange(len(first))
    # Runs below a run that touch it, by a side or by a corner, are those from `low` to `high`.
    low = torch.searchsorted(last, first + stride - 1)
    high = torch.searchsorted(first, last + stride + 1, right=True)
    count = (high - low).clamp(min=0)
    above = labels.repeat_interleave(count)
    below = low[above] + torch.arange(len(above)) - (count.cumsum(0) - count)[above]
    while True:
        larger = torch.maximum(labels[above], labels[below])
        hooked = labels.scatter_reduce(0, labels[above], larger, "amax")
        hooked = hooked.scatter_reduce(0, labels[below], larger, "amax")
        hooked = hooked[hooked]
        if torch.equal(hooked, labels):
            return labels
        labels = hooked
