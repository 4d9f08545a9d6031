"""Filling pictures of Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .arrays import Mask, Settings, fill_array, read_mask

MODES = ("RGB", "L", "1", "I;16", "RGBA", "LA")
"""What can be filled and come back as it was."""


def fill_picture(image: Image.Image, mask: Mask, settings: Settings) -> Image.Image:
    """See `fill`."""
    if image.mode not in MODES:
        raise ValueError(
            f"image must be of mode {', '.join(MODES)}, got {image.mode}: convert it first"
        )
    if settings.axes is not None:
        raise ValueError(f"axes={settings.axes!r}: pictures of Pillow have theirs, leave it out")
    pixels = np.asarray(image)
    alpha = pixels[:, :, -1] if image.mode in ("RGBA", "LA") else None
    if mask is None:
        if alpha is None:
            raise ValueError(
                f"mask must be given with a picture of mode {image.mode}, without alpha"
            )
        mask = alpha == 255
    if image.mode == "1":
        pixels = pixels.astype(np.uint8) * 255
    if alpha is not None:
        pixels = pixels[:, :, :-1]
    filled = fill_array(pixels, mask, settings)
    if alpha is not None:
        known = read_mask(mask, 1, *alpha.shape)[0]
        filled = np.dstack([filled, np.where(known, alpha, 255).astype(np.uint8)])
    result = Image.fromarray(filled)
    if image.mode == "1":
        result = result.convert("1", dither=Image.Dither.NONE)
    result.info = dict(image.info)
    return result
