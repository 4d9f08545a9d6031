"""Holes filled smoothly from the pixels around them: nothing learned, nothing invented.

>>> filled = smooth_filling(image, mask)

A pyramid, as in Gortler et al. 1996 (The Lumigraph, "pull-push"): known pixels are averaged level
by level until no hole is left, then holes take the enlarged averages, which a few sweeps of local
means bring close to the membrane that solves Laplace's equation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check_at_least, check_pictures, prepare_mask

_TAPS = (1.0, 3.0, 3.0, 1.0)
"""Of the averages. Even in number, so that a pixel of the deeper level lies amid its four."""


def smooth_filling(image: Tensor, mask: Tensor, levels: int = 7, sweeps: int = 4) -> Tensor:
    """Fill the holes of an image with smooth continuations of what is around them.

    Differentiable with respect to the image. Half precision is computed in float32, also under
    autocast.

    Args:
        image: (N, C, H, W), any floating dtype; what lies in a hole is not read, be it NaN.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole. Soft values weigh a pixel.
        levels: of the pyramid, at least 1. A hole's pixel further than about 2^levels from every
            known pixel takes the mean of the picture.
        sweeps: local means taken of each level's holes, at least 0.

    Returns:
        (N, C, H, W), of the image's dtype: the image where the mask is not 0.

    Raises:
        TypeError: image or mask is no tensor, or of a dtype that is not allowed.
        ValueError: a shape that does not fit, an image without pixels, a number out of range.
    """
    check_at_least("levels", levels, 1)
    check_at_least("sweeps", sweeps, 0)
    check_pictures(image)
    mask = prepare_mask(mask, image)
    device = image.device.type
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):  # it would cast the averages
            return smooth_filling(image, mask, levels, sweeps)
    wide = torch.promote_types(image.dtype, torch.float32)
    weight = mask.to(wide)
    x = torch.where(mask == 0, 0, image).to(wide)
    taps = torch.tensor(_TAPS, dtype=wide, device=image.device) / sum(_TAPS)
    kernel = (taps[:, None] * taps).expand(image.shape[1] + 1, 1, 4, 4)
    finer = []
    for _ in range(levels):
        finer.append((x, weight))
        both = F.pad(torch.cat([x * weight, weight.expand(x.shape[0], 1, -1, -1)], 1), (1, 2, 1, 2))
        sums, total = F.conv2d(both, kernel, stride=2, groups=len(kernel)).split(
            [image.shape[1], 1], 1
        )
        # The smallest share that a known pixel can have is 1/64; rounding leaves less.
        weight = (total > 0).to(wide)
        x = sums / torch.where(total > 0, total, 1)
    known = weight.sum((2, 3), keepdim=True)
    mean = (x * weight).sum((2, 3), keepdim=True) / known.clamp(min=1)
    x = torch.where(weight > 0, x, mean)
    for known_here, weight in reversed(finer):
        # Twice as large exactly, of odd sizes too: a window gives what the whole picture gives.
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = x[..., : known_here.shape[2], : known_here.shape[3]]
        x = torch.where(weight > 0, known_here, x)
        for _ in range(sweeps):
            x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
            x = torch.where(weight > 0, known_here, x)
    return x.to(image.dtype)
