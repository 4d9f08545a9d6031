"""Colour correction (Guo, Zhao): the output's colours are fitted where the truth is known."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice
from .metrics import hole, measured

FITS = ("gain_and_offset", "offset")


def correct_colours(
    prediction: Tensor, image: Tensor, mask: Tensor, fit: str = "gain_and_offset"
) -> Tensor:
    """The prediction in the colours of the picture around the hole.

    The paper compares the output with the known part of the picture, and gives no formula. Here:
    least squares for each picture and channel over the known pixels. Where the prediction is flat
    there, the gain is 1; without any known pixel nothing is changed. A network that copies the
    known pixels into its output shows no error to correct.

    Args:
        prediction: (N, C, H, W), the network's whole output, hole and known part.
        image: (N, C, H, W). Not read in the hole; pixels with NaN count as unknown.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole.
        fit: "gain_and_offset" (gain * prediction + offset), or "offset" for an error "by some
            constant degree", as the paper describes it.

    Returns:
        The corrected prediction everywhere, neither clamped nor composed.
    """
    check_choice("fit", fit, FITS)
    if prediction.shape != image.shape:
        raise ValueError(
            f"prediction must have the shape of image, {tuple(image.shape)}, "
            f"got {tuple(prediction.shape)}"
        )
    known = ~hole(mask, image) & measured(image)
    blank = torch.zeros((), dtype=torch.float64, device=image.device)
    count = known.sum(dim=(2, 3), keepdim=True)
    some = count.clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(known, values, blank).sum(dim=(2, 3), keepdim=True) / some

    wide, target = prediction.double(), image.double()
    centre, goal = mean(wide), mean(target)
    gain = torch.ones_like(centre)
    if fit == "gain_and_offset":
        variance = mean((wide - centre).square())
        covariance = mean((wide - centre) * (target - goal))
        # Less than float32's rounding of values up to 1 is no colour, and no base for a gain.
        flat = variance <= torch.finfo(torch.float32).eps ** 2
        gain = torch.where(flat, gain, covariance / torch.where(flat, gain, variance))
    corrected = (gain * (wide - centre) + goal).to(prediction.dtype)
    return torch.where(count > 0, corrected, prediction)
