"""Checks of what callers hand to a network: each message names argument, given and allowed."""

from __future__ import annotations

import torch
from torch import Tensor


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise TypeError unless `value` is an int, ValueError unless it is at least `least`."""
    # bool is an int to Python, but `levels=True` is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_image(image: Tensor, channels: int, parameter: Tensor, name: str = "image") -> None:
    """Raise unless `image` is (N, channels, H, W), of the device and dtype of `parameter`.

    Under autocast the dtype may differ from the network's: the convolutions cast.
    """
    check_pictures(image, channels, name)
    if image.device != parameter.device:
        raise ValueError(f"{name} is on {image.device}, but the network is on {parameter.device}")
    autocast = torch.is_autocast_enabled(image.device.type)
    if image.dtype != parameter.dtype and not autocast:
        raise TypeError(
            f"{name} must have the network's dtype {parameter.dtype}, got {image.dtype}"
        )


def check_pictures(image: Tensor, channels: int | None = None, name: str = "image") -> None:
    """Raise unless `image` is (N, channels, H, W) of a floating dtype; None: any channels."""
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(image).__name__}")
    if image.dim() != 4 or channels not in (None, image.shape[1]):
        allowed = "C" if channels is None else channels
        raise ValueError(f"{name} must have shape (N, {allowed}, H, W), got {tuple(image.shape)}")
    if any(size == 0 for size in image.shape[1:]):
        raise ValueError(f"{name} must have at least one pixel, got shape {tuple(image.shape)}")
    if not image.is_floating_point():
        raise TypeError(
            f"{name} must be of a floating-point dtype with values in [0, 1], got {image.dtype}"
        )


def prepare_mask(mask: Tensor, image: Tensor) -> Tensor:
    """Check a mask against its image and bring it to (N, 1, H, W) in the image's dtype.

    Args:
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole. Floating-point masks may be soft
            (values in [0, 1]). In bool and integer masks everything but zero is valid, so that a
            0/255 picture means what it shows. Values are not looked at, which would stall a GPU
            and break a compiled graph: `check_mask_values` does, for loaders.
        image: (N, C, H, W), checked before.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a tensor, got {type(mask).__name__}")
    n, _, h, w = image.shape
    if mask.dim() != 4 or mask.shape[1] != 1 or mask.shape[2] != h or mask.shape[3] != w:
        allowed = f"({n}, 1, {h}, {w})" + (f" or (1, 1, {h}, {w})" if n != 1 else "")
        plane = mask.dim() == 4 and mask.shape[1] > 1 and mask.shape[2:] == image.shape[2:]
        hint = ": one plane for all channels, as mask[:, :1]" if plane else ""
        raise ValueError(
            f"mask must have shape {allowed} to go with an image of shape {tuple(image.shape)}, "
            f"got {tuple(mask.shape)}{hint}"
        )
    if mask.shape[0] != n and mask.shape[0] != 1:
        raise ValueError(
            f"mask must have batch size {n}, as the image has, or 1, got {mask.shape[0]}"
        )
    if mask.is_complex():
        raise TypeError(
            f"mask must be of a bool, integer or floating-point dtype, got {mask.dtype}"
        )
    if mask.device != image.device:
        raise ValueError(f"mask is on {mask.device}, but the image is on {image.device}")
    if not mask.is_floating_point():
        mask = mask != 0
    return mask.detach().to(image.dtype).expand(n, 1, h, w)


def check_mask_values(mask: Tensor, name: str = "mask") -> None:
    """Raise ValueError if a mask holds values that it cannot mean.

    For where masks come from (files, users), once for each: reading the values waits for a GPU.
    Bool masks always pass. Floating-point masks must lie in [0, 1]. Integer masks must hold one
    value besides 0 at most, such as 0/1 or 0/255: others are grey levels or labels.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(mask).__name__}")
    if mask.is_complex():
        raise TypeError(
            f"{name} must be of a bool, integer or floating-point dtype, got {mask.dtype}"
        )
    if mask.numel() == 0 or mask.dtype == torch.bool:
        return
    if mask.is_floating_point():
        # Written so that NaN fails.
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError(
                f"{name} must hold values in [0, 1], 1 = valid, 0 = hole; got values from "
                f"{mask.min().item():g} to {mask.max().item():g} (a picture of 0 and 255 can be "
                f"handed over as integers)"
            )
        return
    values = mask[mask != 0].unique()
    if values.numel() > 1:
        raise ValueError(
            f"{name} of dtype {mask.dtype} must hold 0 (hole) and one other value (valid), got "
            f"{values.numel()} other values from {values.min().item()} to {values.max().item()}"
        )
