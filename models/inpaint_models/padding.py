"""Any image size for networks that halve it several times."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Repeat the last row and column until height and width are multiples, and at least `least`.

    Repeating, unlike reflecting, goes any distance: one pixel is enough to pad from.

    Args:
        x: (N, C, H, W), an image or a mask.
        multiple: what height and width are to be multiples of.
        least: a multiple of `multiple`, or 1.

    Returns:
        (N, C, H', W'); x itself is its upper left corner. x, if it fits already.
    """
    bottom, right = (
        torch.sym_max(least, (size + multiple - 1) // multiple * multiple) - size
        for size in x.shape[2:]
    )
    if _fits(bottom, right):
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")


def pad_with_holes(image: Tensor, mask: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Enlarge image and mask to the right and below until both sides are multiples of `multiple`.

    What is added is a hole, so that a network treats it as it treats what it does not know.
    """
    below, right = -image.shape[2] % multiple, -image.shape[3] % multiple
    if _fits(below, right):
        return image, mask
    return F.pad(image, (0, right, 0, below)), F.pad(mask, (0, right, 0, below))


def _fits(below: int, right: int) -> bool:
    """Whether there is nothing to pad; an exported program, made for any size, does not ask."""
    return not torch.compiler.is_exporting() and below == 0 and right == 0
