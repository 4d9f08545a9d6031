"""Prediction and image in one picture, and what a network may see of an image.

Both select (`torch.where`): a product would keep the NaN that a hole may hold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import prepare_mask


def composite(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The image where it is known, the prediction everywhere else.

    A pixel is known where the mask is exactly 1 (bool and integer masks: not zero). What a soft
    mask leaves between 0 and 1 is blended with a hole already, so the prediction is taken there.
    No value of the image in a hole, nor of the prediction outside, reaches the result or a
    gradient, be it NaN.

    Args:
        prediction: (N, C, H, W), a network's output; under autocast its dtype may differ from the
            image's, and the result has the wider of both.
        image: (N, C, H, W).
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole; see `checks.prepare_mask`.

    Returns:
        (N, C, H, W), not clamped.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: shapes or devices do not go together.
    """
    for name, x in (("prediction", prediction), ("image", image)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if x.dim() != 4:
            raise ValueError(f"{name} must have shape (N, C, H, W), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"{name} must be of a floating-point dtype, got {x.dtype}")
    if prediction.shape != image.shape:
        raise ValueError(
            f"prediction and image must have the same shape, got {tuple(prediction.shape)} and "
            f"{tuple(image.shape)}"
        )
    if prediction.device != image.device:
        raise ValueError(
            f"prediction is on {prediction.device}, but the image is on {image.device}"
        )
    return torch.where(prepare_mask(mask, image) == 1, image, prediction)


def blend(known: Tensor, mask: Tensor, other: Tensor | float) -> Tensor:
    """`known` where the mask is 1, `other` where it is 0, their mean weighted by it in between.

    Args:
        known: (N, C, H, W); never read where the mask is 0.
        mask: (N, 1, H, W), values in [0, 1], without gradient, as `prepare_mask` returns it.
        other: of a shape that broadcasts to `known`'s; never read where the mask is 1.
    """
    mixed = mask * known + (1 - mask) * other
    return torch.where(mask == 1, known, torch.where(mask == 0, other, mixed))


def known_part(image: Tensor, mask: Tensor) -> Tensor:
    """image * mask, with holes that are 0 whatever the image holds there; as `blend` with 0."""
    return torch.where(mask == 0, 0, image) * mask
