"""From the bytes of a picture to RGB, or a reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ..checks import check_at_least
from ..pictures import FORMATS, MAX_PIXELS


class BrokenPictureError(Exception):
    """A picture that cannot be used; the text says why."""


def check_max_pixels(max_pixels: int) -> None:
    """Raise unless `max_pixels` is at least 1 and not above Pillow's own limit."""
    check_at_least("max_pixels", max_pixels, 1)
    own = Image.MAX_IMAGE_PIXELS
    if own is not None and max_pixels > own:
        raise ValueError(
            f"max_pixels must be at most PIL.Image.MAX_IMAGE_PIXELS={own} (raise that first), "
            f"got {max_pixels}"
        )


def decode(
    file: Path | BinaryIO, max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> Image.Image:
    """The picture in mode RGB, upright as its EXIF orientation says.

    Grey and palette pictures become RGB, alpha is dropped, 16 bits are rounded to 8. Pictures of
    32 bits per channel (integer or float TIFF) are refused: they have no white.

    Args:
        file: a path, or an open binary file.
        max_pixels: pictures with more pixels are refused before they are decoded.
        at_least: the picture will be made smaller than this later, so it may come at a half, a
            quarter or an eighth of its size, with both sides at least twice this. JPEG decodes
            faster then.

    Raises:
        BrokenPictureError: whatever Pillow says against it.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            # Pillow only warns up to twice its limit.
            if opened.width * opened.height > max_pixels:
                raise BrokenPictureError(
                    f"{opened.width}x{opened.height} pixels are more than max_pixels={max_pixels}"
                )
            if at_least is not None:
                opened.draft("RGB", (2 * at_least, 2 * at_least))
            ImageOps.exif_transpose(opened, in_place=True)
            return _to_rgb(opened, opened.format)
    except (BrokenPictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on malformed files
        raise BrokenPictureError(f"{type(error).__name__}: {error}") from error


def _to_rgb(picture: Image.Image, file_format: str | None) -> Image.Image:
    mode = picture.mode
    # Older Pillows open 16-bit PNG and PGM as mode I.
    if mode.startswith("I;16") or (mode == "I" and file_format in ("PNG", "PPM")):
        wide = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise BrokenPictureError(f"32 bits per channel (mode {mode}) have no defined white")
    if mode in ("P", "PA", "RGBa"):
        picture = picture.convert("RGBA")  # a palette may hold alpha
    return picture.convert("RGB")
