"""`fill`: the holes of a picture or a grid of numbers, of any size, in the kind that came in.

>>> filled = fill(image, mask)      # mask: 1 (True, 255) = known, 0 (False) = hole
>>> filled = fill(temperatures)     # NaN = hole
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor, nn

from .arrays import Mask, Settings, fill_array, fill_tensor
from .canvas import Values
from .checks import check_at_least
from .levels import Limits
from .weights import find_pretrained, list_pretrained, load_pretrained

if TYPE_CHECKING:
    import PIL.Image
    import xarray

    Image = TypeVar("Image", Tensor, Values, PIL.Image.Image, xarray.DataArray)


def fill(
    image: Image,
    mask: Mask = None,
    *,
    model: str | os.PathLike[str] | nn.Module = "compact",
    axes: str | None = None,
    value_range: tuple[float, float] | str | None = None,
    wrap: bool = False,
    window: int = Limits.window,
    depth: int = Limits.depth,
    shrink: bool = False,
) -> Image:
    """Fill the holes of a picture; what is known comes back bit by bit.

    A network that works in windows (a U-Net of partial convolutions with batch norm, as "compact"
    is) gives what it would give on the whole picture, up to rounding, in memory that depends on
    `window` alone. Deep inside holes it is helped by a smaller copy of the picture, see `depth`.
    Other networks see the picture whole, and pictures of more than `window` squared pixels are
    refused.

    Args:
        image: One of
            a tensor: (C, H, W), (N, C, H, W) or (H, W);
            an array: (H, W, C) or (H, W);
            a picture of Pillow, of mode RGB, L, 1, I;16, RGBA or LA;
            an xarray.DataArray: see `grids.fill_data_array`.
            Tensors and arrays are of uint8, uint16 or a floating-point dtype.
        mask: 1 (True, 255, white) = known, 0 (False, black) = HOLE, as everywhere in this package;
            many other tools have it the other way round. A tensor or array of (H, W), also with
            axes of size 1 for the channels, and one more in front where there are several
            pictures; or a picture of Pillow of the same size. A float mask lies in [0, 1]; every
            pixel below 1 is a hole, and nothing of it is used. None: NaN is missing; in pictures
            of mode RGBA or LA all that is not fully opaque is.
        model: one of `list_pretrained()`, a path that `load_pretrained` takes, or a network in
            evaluation mode, on any device. A picture of one channel goes into a network of several
            as so many copies, and the mean of what comes out is taken.
        axes: what the axes of a tensor or array are, one letter for each: H, W, at most one C
            (channels) and at most one N (pictures, times: each is filled by itself). "HWC" for
            arrays of three axes whose last one has 1 or 3 entries.
        value_range: what the network is to see as 0 and 1, the range that it was trained on. Filled
            values lie between. None: 0 to 255 and 0 to 65535 for integers, 0 to 1 for floats; where
            NaN marks the holes, "known". "known": from the lowest to the highest known value of
            each channel of each picture.
        wrap: the right edge continues at the left one, as longitudes do.
        window: side, in pixels, of the largest part that a network sees at once.
        depth: so far from what is known, in pixels, at least 8, a U-Net of partial convolutions has
            no share in the prediction; up to three eighths of it, it predicts alone. In between and
            beyond, a copy of half the size is filled first, in the same way, and enlarged. Take as
            much as the network was trained for: more is sharper, or wrong.
        shrink: if a network has to see the picture whole and it is too large, let it see a smaller
            copy and enlarge what it predicts, instead of an error.

    Returns:
        What came in with its holes filled: the same type, shape, dtype and device. A copy where
        there is no hole. Pixels filled in pictures with alpha are opaque.

    Raises:
        TypeError: `image`, `mask` or `model` is of another type.
        ValueError: shapes do not go together, values are out of range, nothing is known, or the
            picture is too large for the network.
        UsageError: there is no such model.
    """
    check_at_least("window", window, 1)
    check_at_least("depth", depth, 8)
    limits = Limits(window, depth, shrink)
    settings = Settings(_network(model), limits, axes, value_range, wrap)
    given: Any = image  # which branch takes which type is more than a type checker sees
    kind = type(given).__module__.partition(".")[0]
    filled: Any
    if kind == "xarray":
        from .grids import fill_data_array

        filled = fill_data_array(given, mask, settings)
    elif kind == "PIL":
        from .pil_images import fill_picture

        filled = fill_picture(given, mask, settings)
    elif isinstance(given, np.ndarray):
        filled = fill_array(given, mask, settings)
    elif isinstance(given, Tensor):
        filled = fill_tensor(given, mask, settings)
    else:
        raise TypeError(
            "image must be a tensor, a NumPy array, a picture of Pillow or an xarray.DataArray, "
            f"got {type(given).__name__}"
        )
    return filled  # type: ignore[no-any-return]


def _network(model: str | os.PathLike[str] | nn.Module) -> nn.Module:
    if isinstance(model, nn.Module):
        if model.training:
            raise ValueError(
                "model must be in evaluation mode, got one in training mode: call .eval()"
            )
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a name, a path or a network, got {type(model).__name__}")
    if model in list_pretrained():
        return _shipped(find_pretrained(model))
    return load_pretrained(model)


@functools.cache
def _shipped(path: Path) -> nn.Module:
    return load_pretrained(path)
