"""Picture files: upright pixels to fill, and the filled ones back into a file like the first.

Orientation, EXIF data, colour profile and resolution are kept; a thumbnail in the EXIF data is not,
since it would show what has been removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from .errors import DataError, UsageError
from .files import replacing
from .pil_images import MODES

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is tried. Pillow knows more, some of which start other programs (EPS)."""

EXTENSIONS = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)  # fmt: skip

MAX_PIXELS = 89_478_485
"""The largest picture that is decoded by default, in pixels: Pillow's own figure, a third of a
gigabyte in memory."""

_WRITTEN_AS = {".jpg": "JPEG", ".tif": "TIFF", ".pgm": "PPM"}
_PGM_MODES = ("L", "I;16")
_WRITTEN_MODES = {
    "BMP": ("RGB", "L", "1"),
    "JPEG": ("RGB", "L", "1"),
    "PNG": MODES,
    "PPM": ("RGB", "L", "1", "I;16"),
    "TIFF": MODES,
    "WEBP": ("RGB", "RGBA", "L"),
}
_OPAQUE = {"RGBA": "RGB", "LA": "L"}
_ORIENTATION, _THUMBNAIL = 0x0112, 1
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored under each EXIF orientation."""

_GREY, _MOST_GREY = (64, 191), 0.1
"""Between these values a mask is neither black nor white; this share of it may be so, at edges."""


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes:
        image: upright, of one of `pil_images.MODES`.
        file_format: as Pillow calls it.
        orientation: EXIF's.
        exif: without thumbnail; None if there is none.
        kept: what goes into any format: colour profile, resolution.
        coding: what goes into the same format.
    """

    image: Image.Image
    file_format: str
    orientation: int = 1
    exif: bytes | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    coding: dict[str, Any] = field(default_factory=dict)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a file. Palettes become RGB or RGBA; of a phone's several pictures comes the first.

    Raises:
        DataError: it cannot be read, or is of a kind that cannot be filled; the text says why.
    """
    try:
        with _no_limit_of_pillow(), Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise DataError(
                    f"{opened.width} x {opened.height} pixels are more than {max_pixels=}"
                )
            check_decoding(opened)
            exif = opened.getexif()
            orientation = exif.get(_ORIENTATION, 1)
            upright = ImageOps.exif_transpose(opened)
            return Picture(
                image=_in_known_mode(upright, str(opened.format)),
                file_format=str(opened.format),
                orientation=orientation if orientation in _TURNED_BACK else 1,
                exif=_without_thumbnail(exif) if "exif" in opened.info else None,
                kept={k: opened.info[k] for k in ("icc_profile", "dpi") if opened.info.get(k)},
                coding=_coding(opened),
            )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a picture of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on malformed files
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def check_decoding(opened: Image.Image) -> None:
    """Refuse a file, opened but not decoded, if Pillow would drop some of it without a word.

    Raises:
        DataError: an animation or several pages, or 16 bits per channel in colour. (Of a phone's
            several pictures the first one is the photograph: those are let through.)
    """
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":
        raise DataError(f"{frames} pictures in one file (animation or pages): split it first")
    # "BGR;16" is a BMP with 16 bits for all channels together, none of which are dropped.
    tiles = [str(tile) for tile in getattr(opened, "tile", ())]
    wide = any(";16" in tile and "BGR;16" not in tile for tile in tiles)
    if wide and not opened.mode.startswith("I"):
        raise DataError("16 bits per channel in colour cannot be kept: convert it to 8 bits first")


def read_mask_picture(path: Path, polarity: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """What a mask's file says is known, (H, W), upright.

    Args:
        path: of a black and white picture. Grey at the edges of strokes goes with the nearer one.
        polarity: "white=hole" or "white=valid".
        max_pixels: as of `read_picture`.

    Raises:
        DataError: it cannot be read, is transparent somewhere, is no mask but a photograph, or is
            of one side alone without being wholly black or wholly white, as masks of 0 and 1 are.
    """
    image = read_picture(path, max_pixels).image
    if image.mode in _OPAQUE and image.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path} is transparent: a mask must be black and white, without alpha")
    wide = image.mode == "I;16"
    grey = np.asarray(image) // 257 if wide else np.asarray(image.convert("L"))
    between = np.mean((grey >= _GREY[0]) & (grey <= _GREY[1]))
    if between > _MOST_GREY:
        raise DataError(
            f"{path} is not a mask: {between:.0%} of its pixels are neither black nor white"
        )
    white: NDArray[np.bool_] = grey >= 128
    values = np.asarray(image) if wide else grey
    lowest, highest, most = int(values.min()), int(values.max()), 65535 if wide else 255
    if white.all() == white.any() and (lowest, highest) not in ((0, 0), (most, most)):
        raise DataError(
            f"{path} is not a mask: its values are {lowest} to {highest}: a mask is black and "
            f"white, 0 and {most}"
        )
    return ~white if polarity == "white=hole" else white


def colour_mask(image: Image.Image, colour: tuple[int, ...], tolerance: int) -> NDArray[np.bool_]:
    """What is known where one colour marks the holes, (H, W).

    Args:
        image: of one of `pil_images.MODES`, but not of 16 bits.
        colour: red, green and blue, 0 to 255.
        tolerance: so much may each of them differ.
    """
    difference = np.asarray(image.convert("RGB")).astype(np.int16) - np.array(colour[:3], np.int16)
    known: NDArray[np.bool_] = np.abs(difference).max(2) > tolerance
    return known


def written_format(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        UsageError: it is none that can be written.
    """
    suffix = path.suffix.lower()
    known = ", ".join(sorted(EXTENSIONS))
    if not suffix:
        raise UsageError(
            f"{path} is no folder that exists, and names no file: pictures are written as {known}"
        )
    if suffix not in EXTENSIONS:
        raise UsageError(f"{path}: pictures are written as {known}, got {suffix!r}")
    return _WRITTEN_AS.get(suffix, suffix[1:].upper())


def write_picture(picture: Picture, filled: Image.Image, path: Path) -> None:
    """Write a filled picture with all that was kept of its file; whole or not at all.

    PNG, TIFF, BMP, PPM and WEBP are written without loss. JPEG loses a little everywhere; from a
    JPEG, the tables of that file are taken again.

    Raises:
        DataError: the format cannot hold the picture.
    """
    file_format = written_format(path)
    pgm = path.suffix.lower() == ".pgm"
    modes = _PGM_MODES if pgm else _WRITTEN_MODES[file_format]
    if filled.mode in _OPAQUE and filled.mode not in modes:
        if filled.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{path}: {file_format} holds no transparency: write a .png")
        filled = filled.convert(_OPAQUE[filled.mode])
    if filled.mode not in modes:
        kind = "a .pgm is grey and" if pgm else file_format
        raise DataError(f"{path}: {kind} holds no picture of mode {filled.mode}: use .png")
    options = dict(picture.kept)
    if picture.file_format in (file_format, "MPO"):
        options |= picture.coding
    elif file_format == "JPEG":
        options["quality"] = 95
    if file_format == "WEBP":
        options |= {"lossless": True, "exact": True}  # exact: also where it is transparent
    if picture.exif is not None and file_format in ("JPEG", "PNG", "WEBP"):
        options["exif"] = picture.exif
        if picture.orientation in _TURNED_BACK:
            filled = filled.transpose(_TURNED_BACK[picture.orientation])
    filled.info = {}  # Pillow writes what it finds here
    with replacing(path) as temporary, temporary.open("wb") as file:
        filled.save(file, format=file_format, **options)


@contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    """Pillow has a limit for the whole process, and mostly warns; `max_pixels` is for one file."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _in_known_mode(image: Image.Image, file_format: str) -> Image.Image:
    # Pillow has no mode of 1 or 16 bits with alpha.
    if "transparency" in image.info and image.mode.startswith(("1", "I")):
        raise DataError(
            "transparency in grey of 1 or 16 bits cannot be kept: convert it to 8 bits with alpha "
            "first"
        )
    # Older Pillows open 16-bit PNG and PGM as mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("RGB", "L") and "transparency" in image.info:
        return image.convert(f"{image.mode}A")
    if image.mode not in MODES:
        raise DataError(
            f"pictures of mode {image.mode} cannot be filled: convert it to RGB or grey first"
        )
    image.load()
    return image


def _without_thumbnail(exif: Image.Exif) -> bytes:
    exif.get_ifd(_THUMBNAIL).clear()
    return exif.tobytes()


def _coding(opened: Image.Image) -> dict[str, Any]:
    """How a file was encoded, as far as it can be done so again."""
    if isinstance(opened, JpegImagePlugin.JpegImageFile):
        coding: dict[str, Any] = {"qtables": opened.quantization}
        sampling = JpegImagePlugin.get_sampling(opened)
        return coding if sampling < 0 else coding | {"subsampling": sampling}
    if isinstance(opened, PngImagePlugin.PngImageFile):
        texts = PngImagePlugin.PngInfo()
        for key, value in opened.text.items():
            texts.add_text(key, value)
        return {"pnginfo": texts}
    return {}
