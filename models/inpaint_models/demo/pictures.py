"""Uploads, strokes, and what a browser is shown of a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import DataError, UsageError, one_line
from ..pictures import check_decoding

EDGE = 800
"""The longer side, in pixels, of what a browser is shown; strokes are as fine as this."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_KEPT = ("L", "LA", "RGB", "RGBA")


def read_upload(path: str | os.PathLike[str], max_pixels: int) -> Image.Image:
    """A picture in full size, upright, of mode L, LA, RGB or RGBA.

    Those modes keep every value; palettes become RGB or RGBA, CMYK becomes RGB.

    Raises:
        UsageError: no picture, or several in one file, one of more than `max_pixels`, or of more
            than 8 bits per channel.
    """
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            # Before anything is decoded: a small file may hold a huge picture.
            if opened.width * opened.height > max_pixels:
                raise UsageError(
                    f"the picture has {opened.width} x {opened.height} pixels, more than "
                    f"{max_pixels / 1e6:g} million"
                )
            check_decoding(opened)
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (UsageError, MemoryError):
        raise
    except DataError as error:
        raise UsageError(f"the picture cannot be used: {error}") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on malformed files
        raise UsageError(f"this is no picture that can be read: {one_line(error)}") from error
    if picture.mode in _KEPT:
        return picture
    if picture.mode[0] in "IF":
        raise UsageError(
            f"the picture has more than 8 bits per channel (mode {picture.mode}): save it with 8"
        )
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def shown(picture: Image.Image) -> Image.Image:
    """A copy for the browser, at most `EDGE` pixels wide and high."""
    copy = picture.convert("RGBA" if picture.mode.endswith("A") else "RGB")
    copy.thumbnail((EDGE, EDGE))
    return copy


def painted(layers: Iterable[Image.Image], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where strokes are, at the size of the picture that they were painted on a copy of.

    Args:
        layers: of mode RGBA, as large as the copy; every pixel that is not wholly transparent is
            painted.
        size: of the picture, (width, height).

    Returns:
        (height, width), true where something is painted.
    """
    hole = np.zeros((size[1], size[0]), np.bool_)
    for layer in layers:
        # A pixel of the copy stands for the pixels that it was made of: nothing in between.
        alpha = layer.getchannel("A").resize(size, Image.Resampling.NEAREST)
        hole |= np.asarray(alpha) > 0
    return hole


def to_png(picture: Image.Image) -> bytes:
    """A picture as a PNG file, with its colour profile."""
    file = BytesIO()
    picture.save(file, "PNG", icc_profile=picture.info.get("icc_profile"))
    return file.getvalue()
