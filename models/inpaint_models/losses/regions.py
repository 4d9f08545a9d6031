"""What all losses share: the two regions of a mask, unmeasured truth, and sums in float32.

Rules that hold for every loss of this package:

- A pixel is valid where the mask is exactly 1, and hole elsewhere, as for `composite`. There is no
  blending.
- NaN in the truth means "never measured". Such values are left out of sums and of counts; a count
  says "measured values" where this matters.
- Values are selected (`torch.where`), never multiplied by a mask, so that what a loss does not
  measure, NaN and Inf included, reaches neither its value nor its gradient.
- float16 and bfloat16 are widened to float32 before differences, products and sums; float64 stays.
  The result is a scalar of that wide dtype. It is 0 where nothing is measured.
- No gradient flows to the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import prepare_mask


def hole_only(prediction: Tensor, mask: Tensor) -> Tensor:
    """I_pred * (1 - M) of Li et al. (ISNet), eq. 3: what its discriminator sees of a prediction.

    Args:
        prediction: (N, C, H, W); may hold NaN at valid pixels.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid.

    Returns:
        (N, C, H, W), the prediction in the hole and 0 elsewhere.
    """
    check_image(prediction, "prediction")
    return torch.where(hole_of(mask, prediction), prediction, 0)


def without_unmeasured(image: Tensor, truth: Tensor, value: float = 0.0) -> Tensor:
    """An image for a discriminator: `value` wherever the truth is NaN, so that no network sees it.

    Give the discriminator its real and its generated images both through this: then unmeasured
    values neither tell them apart nor pass a gradient.

    Args:
        image: (N, C, H, W), the truth itself, a prediction or a composite.
        truth: (N, C, H, W), may hold NaN.
        value: what to put there.
    """
    check_pair(image, truth, "image")
    return torch.where(truth.isnan(), value, image)


def check_image(image: Tensor, name: str) -> None:
    """Raise unless `image` is a floating-point tensor (N, C, H, W), not empty."""
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(image).__name__}")
    if image.dim() != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {tuple(image.shape)}")
    if image.numel() == 0:
        raise ValueError(f"{name} must have at least one pixel, got shape {tuple(image.shape)}")
    if not image.is_floating_point():
        raise TypeError(f"{name} must be of a floating-point dtype, got {image.dtype}")


def check_pair(prediction: Tensor, truth: Tensor, name: str = "prediction") -> None:
    """Raise unless both are images of one shape on one device; dtypes may differ."""
    check_image(prediction, name)
    check_image(truth, "truth")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"truth must have the shape of {name}, {tuple(prediction.shape)}, got "
            f"{tuple(truth.shape)}"
        )
    if prediction.device != truth.device:
        raise ValueError(f"truth is on {truth.device}, but {name} is on {prediction.device}")


def hole_of(mask: Tensor, image: Tensor) -> Tensor:
    """Check a mask against its image; bool (N, 1, H, W), True in the hole."""
    return prepare_mask(mask, image) != 1


def wide(x: Tensor) -> Tensor:
    """`x` in float32 if it is of half precision, else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def difference(prediction: Tensor, truth: Tensor, selected: Tensor) -> Tensor:
    """Wide prediction - truth where `selected`, 0 elsewhere.

    The gradient of a subtraction does not read its operands: selecting afterwards is enough.
    """
    return torch.where(selected, wide(prediction) - wide(truth.detach()), 0)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count; `total` is 0 where `count` is 0, and so is the result."""
    return total / count.clamp(min=1)
