"""What networks of plain convolutions do with holes: fill them, pad with them, write them.

All of it selects with `torch.where`: what lies in a hole, NaN included, reaches neither a result
nor a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blend(known: Tensor, mask: Tensor, other: Tensor) -> Tensor:
    """`known` where the mask is 1, `other` where it is 0, their mean weighted by it in between.

    Args:
        known: (N, C, H, W); never read where the mask is 0.
        mask: (N, 1, H, W), values in [0, 1], without gradient, as `prepare_mask` returns it.
        other: of a shape that broadcasts to `known`'s; never read where the mask is 1.
    """
    mixed = mask * known + (1 - mask) * other
    return torch.where(mask == 1, known, torch.where(mask == 0, other, mixed))


def pad_with_holes(image: Tensor, mask: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Enlarge image and mask to the right and below until both sides are multiples of `multiple`.

    What is added is a hole, so that a network treats it as it treats what it does not know.
    """
    below, right = -image.shape[2] % multiple, -image.shape[3] % multiple
    if below == 0 and right == 0:
        return image, mask
    return F.pad(image, (0, right, 0, below)), F.pad(mask, (0, right, 0, below))
