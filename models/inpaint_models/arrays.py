"""Filling tensors and arrays: which axis is what, what is known, and what is black and white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .canvas import Canvas, Values
from .checks import check_mask_values
from .levels import Limits, fill_canvas
from .windows import reach_of

Mask = Any
"""What `fill` takes as a mask: a tensor, an array, a picture of Pillow or an xarray.DataArray."""

_WHITE = {"uint8": 255, "uint16": 65535}
_TENSOR_AXES = {2: "HW", 3: "CHW", 4: "NCHW"}
_LONGEST_STEP = 32
"""No network that sees pictures whole halves them more than five times."""


@dataclass(frozen=True)
class Settings:
    """Arguments of `fill`, with the network itself."""

    net: nn.Module
    limits: Limits
    axes: str | None = None
    value_range: tuple[float, float] | str | None = None
    wrap: bool = False


def fill_tensor(image: Tensor, mask: Mask, settings: Settings) -> Tensor:
    """See `fill`; default axes are those of networks."""
    axes = settings.axes or _TENSOR_AXES.get(image.dim())
    if axes is None:
        raise ValueError(
            f"image must have shape (C, H, W), (N, C, H, W) or (H, W), got {tuple(image.shape)}; "
            f"or give axes, one letter for each"
        )
    values = image.detach().cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()  # NumPy has no such dtype
    filled = _fill(values.numpy(), axes, mask, settings)
    return torch.from_numpy(filled).to(image.device, image.dtype)


def fill_array(image: Values, mask: Mask, settings: Settings) -> Values:
    """See `fill`; default axes are those of pictures."""
    axes = settings.axes
    if axes is None:
        if image.ndim == 2:
            axes = "HW"
        elif image.ndim == 3 and image.shape[2] in (1, 3):
            axes = "HWC"
        else:
            raise ValueError(
                f"image must have shape (H, W), (H, W, 1) or (H, W, 3), got {image.shape}; or give "
                f"axes, one letter for each, such as axes='NHW' for times, latitudes, longitudes"
            )
    return _fill(image, axes, mask, settings)


def check_axes(axes: str, dimensions: int) -> None:
    """Raise ValueError unless `axes` names each of so many axes."""
    letters = set(axes)
    unlike = len(letters) != len(axes) or not {"H", "W"} <= letters <= set("NCHW")
    if unlike or len(axes) != dimensions:
        raise ValueError(
            f"axes must have one letter for each of the image's {dimensions} axes, H, W and at "
            f"most one C and one N, got {axes!r}"
        )


def read_mask(mask: Mask, pictures: int, height: int, width: int) -> NDArray[np.bool_]:
    """What a mask says is known, (N, H, W).

    Raises:
        TypeError: it is of another type.
        ValueError: its size or its values are not those of a mask.
    """
    if type(mask).__module__.partition(".")[0] == "PIL":
        mask = np.asarray(mask.convert("L"))
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu()
        mask = mask.float().numpy() if mask.dtype == torch.bfloat16 else mask.numpy()
    if not isinstance(mask, np.ndarray):
        raise TypeError(
            f"mask must be a tensor, a NumPy array or a picture of Pillow, got "
            f"{type(mask).__name__}"
        )
    if mask.dtype.kind not in "buif":
        raise TypeError(f"mask must be of a bool, integer or float dtype, got {mask.dtype}")
    several = (pictures,) if pictures > 1 else ()
    plane = mask
    for shape in ((1, height, width), (height, width, 1)):
        if mask.ndim >= 3 and mask.shape[-3:] == shape:
            plane = mask.reshape(*mask.shape[:-3], height, width)
            break
    if plane.shape not in {(height, width), (1, height, width), (pictures, height, width)}:
        found = f"of {width} x {height} pixels" if not several else f"{pictures} of them"
        allowed = " or ".join(
            str(shape) for shape in dict.fromkeys([(*several, height, width), (height, width)])
        )
        raise ValueError(
            f"mask must have shape {allowed} to go with an image {found}, got {mask.shape}"
        )
    # In this machine's byte order, and of a dtype that torch can count.
    wide = plane.dtype.kind in "ui" and plane.dtype.itemsize > 1
    native = np.int64 if wide else plane.dtype.newbyteorder("=")
    check_mask_values(torch.tensor(np.ascontiguousarray(plane, native)))
    known = plane == 1 if plane.dtype.kind == "f" else plane != 0
    return np.broadcast_to(known.reshape(-1, height, width), (pictures, height, width))


def _fill(image: Values, axes: str, mask: Mask, settings: Settings) -> Values:
    check_axes(axes, image.ndim)
    if 0 in image.shape:
        raise ValueError(f"image must have at least one pixel, got shape {image.shape}")
    floats = image.dtype.kind == "f" and image.dtype.itemsize <= 8  # torch has no longer ones
    if not floats and image.dtype.name not in _WHITE:
        raise TypeError(
            f"image must be of dtype uint8, uint16 or floating-point of up to 64 bits, got "
            f"{image.dtype}"
        )
    filled = image.copy()
    # A view of it, which is what is filled.
    planes = filled.transpose([axes.index(letter) for letter in "NCHW" if letter in axes])
    for axis, letter in enumerate("NC"):
        if letter not in axes:
            planes = np.expand_dims(planes, axis)
    channels, wanted = planes.shape[1], getattr(settings.net, "in_channels", planes.shape[1])
    if channels not in (1, wanted):
        raise ValueError(
            f"image must have {wanted} channels, as many as the model takes, or 1, got {channels}"
        )
    nan_marks = mask is None
    if mask is not None:
        known = read_mask(mask, len(planes), *planes.shape[2:])
    elif image.dtype.kind == "f":
        known = ~np.asarray(np.isnan(planes).any(1))
    else:
        raise ValueError(
            f"mask must be given with an image of dtype {image.dtype}, which cannot hold NaN"
        )
    for i, (values, seen) in enumerate(zip(planes, known, strict=True)):
        name = "image" if len(planes) == 1 else f"image {i}"
        if not seen.all():
            _fill_picture(values, seen, nan_marks, name, settings)
    return filled


def _fill_picture(
    values: Values, known: NDArray[np.bool_], nan_marks: bool, name: str, settings: Settings
) -> None:
    """Fill one picture, (C, H, W), where it lies."""
    if not known.any():
        raise ValueError(f"{name} has no known pixel: there is nothing to fill it from")
    low, high = _black_and_white(values, known, nan_marks, name, settings.value_range)
    if not settings.wrap:
        canvas = Canvas(values, known, low, high, nan_marks)
        fill_canvas(settings.net, canvas, settings.limits)
        return
    width = known.shape[1]
    before, after = _around(settings.net, width)
    columns = np.arange(-before, width + after) % width
    canvas = Canvas(values[:, :, columns], known[:, columns], low, high, nan_marks)
    fill_canvas(settings.net, canvas, settings.limits)
    values[...] = canvas.values[:, :, before : before + width]


def _around(net: nn.Module, width: int) -> tuple[int, int]:
    """How many columns a network has to see beyond the left and the right edge."""
    reach = reach_of(net)
    if reach is None:
        return -(-width // 2 // _LONGEST_STEP) * _LONGEST_STEP, width // 2
    return -(-reach.before // reach.step) * reach.step, reach.after


def _black_and_white(
    values: Values,
    known: NDArray[np.bool_],
    nan_marks: bool,
    name: str,
    value_range: tuple[float, float] | str | None,
) -> tuple[Values, Values]:
    """What the network is to see as 0 and as 1, (C, 1, 1) each."""
    dtype = np.float64 if values.dtype.itemsize > 4 else np.float32
    one = np.ones((len(values), 1, 1), dtype)
    if values.dtype.kind != "f" and value_range is None:
        return 0 * one, _WHITE[values.dtype.name] * one
    seen = values[:, known]
    if not np.isfinite(seen).all():
        raise ValueError(f"{name} must be finite where it is known, got NaN or infinity there")
    lowest, highest = (x.astype(dtype)[:, None, None] for x in (seen.min(1), seen.max(1)))
    with np.errstate(over="ignore"):
        if not np.isfinite(highest - lowest).all():
            raise ValueError(
                f"{name} must hold values whose span its dtype can hold, got values from "
                f"{lowest.min():g} to {highest.max():g}: set what stands for missing to NaN"
            )
    if value_range == "known" or (value_range is None and nan_marks):
        return lowest, highest
    black, white = (0, 1) if value_range is None else _checked_range(value_range)
    if lowest.min() < black or highest.max() > white:
        raise ValueError(
            f"{name} must hold values from {black:g} to {white:g} where it is known, got values "
            f"from {lowest.min():g} to {highest.max():g}: give value_range=(low, high), or 'known'"
        )
    return black * one, white * one


def _checked_range(value_range: tuple[float, float] | str) -> tuple[float, float]:
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise ValueError(
            f"value_range must be two finite numbers, the lower one first, 'known' or None, got "
            f"{value_range!r}"
        )
    return low, high
