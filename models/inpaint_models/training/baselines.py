"""Baselines that learn nothing: callables (image, mask) -> prediction, as the networks are.

`image` is (N, 3, H, W) with values in [0, 1], not read in the hole; `mask` is (N, 1, H, W) or
(1, 1, H, W), 1 = valid, 0 = hole. A picture without a known pixel becomes mid grey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .extras import require
from .metrics import hole

Fill = Callable[[Tensor, Tensor], Tensor]
"""(image, mask) -> prediction, (N, 3, H, W)."""

RADIUS = 3.0
"""Pixels around a point that OpenCV's algorithms look at: what OpenCV's own example takes."""
GREY = 0.5


def mean_colour(image: Tensor, mask: Tensor) -> Tensor:
    """The mean of each picture's known pixels, by channel, everywhere."""
    known = ~hole(mask, image)
    total = torch.where(known, image.double(), 0.0).sum(dim=(2, 3), keepdim=True)
    count = known.sum(dim=(2, 3), keepdim=True)
    mean = torch.where(count > 0, total / count.clamp(min=1), GREY)
    return mean.to(image.dtype).expand_as(image)


def telea(image: Tensor, mask: Tensor, radius: float = RADIUS) -> Tensor:
    """OpenCV's fast marching method (Telea 2004), on 8-bit pictures; `radius` in pixels."""
    return _opencv(image, mask, "INPAINT_TELEA", radius)


def navier_stokes(image: Tensor, mask: Tensor, radius: float = RADIUS) -> Tensor:
    """OpenCV's method after Bertalmio et al. 2001, on 8-bit pictures; `radius` in pixels."""
    return _opencv(image, mask, "INPAINT_NS", radius)


BASELINES: Mapping[str, Fill] = {
    "mean colour": mean_colour,
    "Telea": telea,
    "Navier-Stokes": navier_stokes,
}


def _opencv(image: Tensor, mask: Tensor, method: str, radius: float) -> Tensor:
    cv2 = require("cv2", "opencv-python-headless")
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    if image.shape[1] != 3:
        raise ValueError(f"image must have shape (N, 3, H, W), got {tuple(image.shape)}")
    gap = hole(mask, image)
    # Whatever lies in the hole (NaN, the truth) must not reach the algorithm.
    pixels = torch.where(gap, GREY, image).clamp(0, 1).mul(255).round().to(torch.uint8)
    filled = []
    for picture, where in zip(pixels.cpu(), gap.cpu(), strict=True):
        if bool(where.all()):
            filled.append(torch.full_like(picture, GREY, dtype=torch.float32))
            continue
        result = cv2.inpaint(
            picture.permute(1, 2, 0).contiguous().numpy(),
            where[0].to(torch.uint8).numpy(), radius, getattr(cv2, method),
        )  # fmt: skip
        filled.append(torch.from_numpy(result).permute(2, 0, 1).float() / 255)
    return torch.stack(filled).to(image)
