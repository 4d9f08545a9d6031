"""`inpaint fill`: a picture, a folder of pictures, or a grid of numbers, without its holes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

_DESCRIPTION = """\
Fill the holes of a picture and write the result to OUT; no input is ever written to.

  inpaint fill photo.jpg mask.png -o filled.jpg    white in the mask is the hole
  inpaint fill cutout.png -o filled.png            the hole is what is not fully opaque
  inpaint fill marked.png -o filled.png --hole-colour '#ff00ff'
  inpaint fill photos/ masks/ -o filled/           masks/NAME.* for photos/NAME.*
  inpaint fill field.nc -o filled.nc --variable tas --wrap
  inpaint fill field.npy -o filled.npy --axes NHW   NaN is the hole

MASK is a black and white picture of the same size. White is the hole; with --polarity white=valid,
white is what is known. In a folder, pictures that cannot be filled are named and left out, and the
exit code is 1.
"""

_GRIDS = (".nc", ".nc4", ".npy")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "fill",
        help="fill the holes of pictures",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("picture", metavar="PICTURE", type=Path, help="a file or a folder")
    parser.add_argument(
        "mask", metavar="MASK", type=Path, nargs="?", help="a file or a folder (default: alpha)"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True)
    parser.add_argument("--force", action="store_true", help="replace results that are there")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        default="compact",
        help="compact, a run, a checkpoint or a .safetensors (default: compact)",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="(default: auto)"
    )
    masks = parser.add_argument_group("what is missing")
    masks.add_argument(
        "--polarity",
        choices=("white=hole", "white=valid"),
        default="white=hole",
        help="what white means in MASK (default: white=hole)",
    )
    masks.add_argument("--hole-colour", metavar="COLOUR", help="'#ff00ff' or a name; no MASK then")
    masks.add_argument(
        "--tolerance",
        metavar="N",
        type=int,
        default=0,
        help="by so much red, green and blue may each differ from COLOUR; a JPEG needs about 30 "
        "(default: 0)",
    )
    sizes = parser.add_argument_group("large pictures")
    sizes.add_argument(
        "--window", metavar="PIXELS", type=int, help="side of what the network sees at once"
    )
    sizes.add_argument(
        "--depth", metavar="PIXELS", type=int, help="where a smaller copy takes over in deep holes"
    )
    sizes.add_argument(
        "--shrink",
        action="store_true",
        help="let a network that must see pictures whole see smaller copies of large ones",
    )
    sizes.add_argument(
        "--max-pixels", metavar="N", type=int, help="refuse larger pictures (default: 89478485)"
    )
    grids = parser.add_argument_group("grids")
    grids.add_argument("--variable", metavar="NAME", help="of a NetCDF file")
    grids.add_argument(
        "--axes", help="one letter for each axis of a .npy: H, W, C (channels), N (times)"
    )
    parser.add_argument(
        "--wrap", action="store_true", help="the right edge continues at the left one: longitudes"
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Fill, and say what was done."""
    from inpaint_models import load_pretrained
    from inpaint_models.devices import choose_accelerator
    from inpaint_models.errors import UsageError

    if not options.picture.exists():
        raise UsageError(f"{options.picture}: no such file or folder")
    if options.mask is not None and not options.mask.exists():
        raise UsageError(f"{options.mask}: no such file or folder")
    if options.mask is not None and options.hole_colour is not None:
        raise UsageError("give either MASK or --hole-colour")
    if not 0 <= options.tolerance <= 255:
        raise UsageError(f"--tolerance must be from 0 to 255, got {options.tolerance}")
    jobs = _folder_jobs(options) if options.picture.is_dir() else [_single_job(options)]
    _check_inputs_stay(jobs)
    device = "cuda" if choose_accelerator(options.accelerator) == "gpu" else "cpu"
    net = load_pretrained(options.model).to(device)
    if not options.picture.is_dir():
        print(_fill_file(options, net, jobs[0]))
        return
    _fill_all(options, net, jobs)


class _Job(NamedTuple):
    """One file to fill.

    Attributes:
        picture: it.
        masks: MASK itself, or all files of the mask folder that have the picture's name.
        out: where it goes.
    """

    picture: Path
    masks: Sequence[Path]
    out: Path


def _single_job(options: argparse.Namespace) -> _Job:
    from inpaint_models.errors import UsageError

    if options.mask is not None and options.mask.is_dir():
        raise UsageError(f"{options.mask} is a folder, but {options.picture} is a file")
    out = options.output
    masks = [] if options.mask is None else [options.mask]
    return _Job(options.picture, masks, out / options.picture.name if out.is_dir() else out)


def _folder_jobs(options: argparse.Namespace) -> list[_Job]:
    """Pictures below the folder, and where each goes; not those of OUT or of MASK inside it."""
    from inpaint_models.errors import UsageError
    from inpaint_models.pictures import EXTENSIONS

    folder, out = options.picture, options.output
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, but {folder} is a folder")
    if out.resolve() == folder.resolve():
        raise UsageError(f"{out} is the folder of the pictures: give another OUT")
    if options.mask is not None and options.mask.resolve() == folder.resolve():
        raise UsageError(f"{folder} is given for the pictures and for the masks")
    given = [x.resolve() for x in (out, options.mask) if x is not None]
    inner = [x for x in given if x.is_relative_to(folder.resolve())]
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not any(path.resolve().is_relative_to(other) for other in inner)
    ]
    if not found:
        raise UsageError(f"{folder}: no picture here")
    inside = [path.relative_to(folder) for path in found]
    masks = _masks_named(options.mask, inside)
    return [_Job(folder / name, near, out / name) for name, near in zip(inside, masks, strict=True)]


def _masks_named(mask: Path | None, names: Sequence[Path]) -> list[Sequence[Path]]:
    """MASK itself, or all files of the mask folder that have the name, for each of the names."""
    from inpaint_models.pictures import EXTENSIONS

    if mask is None or not mask.is_dir():
        return [[] if mask is None else [mask] for _ in names]
    listed: dict[Path, dict[str, list[Path]]] = {}  # each folder is read once
    for parent in {(mask / name).parent for name in names}:
        by_stem = listed.setdefault(parent, {})
        for path in sorted(parent.glob("*")):
            if path.suffix.lower() in EXTENSIONS:
                by_stem.setdefault(path.stem, []).append(path)
    return [listed[(mask / name).parent].get(name.stem, []) for name in names]


def _fill_all(options: argparse.Namespace, net: nn.Module, jobs: Sequence[_Job]) -> None:
    from inpaint_models.errors import DataError, InpaintError
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    failed = 0
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for job in progress.track(jobs):
            try:
                job.out.parent.mkdir(parents=True, exist_ok=True)
                print(_fill_file(options, net, job))
            except (InpaintError, OSError) as error:
                failed += 1
                print(f"inpaint: {' '.join(str(error).split())}", file=sys.stderr)
    if failed:
        raise DataError(f"{failed} of {len(jobs)} pictures could not be filled, see above")


def _fill_file(options: argparse.Namespace, net: nn.Module, job: _Job) -> str:
    """Fill one file; returns the line that says so."""
    from inpaint_models.errors import DataError

    picture, _, out = job
    mask = None if options.mask is None else _only_mask(options, job)
    _check_target(options, out)
    grid = picture.suffix.lower() in _GRIDS
    try:
        missing = (_fill_grid if grid else _fill_picture)(options, net, picture, mask, out)
    except ValueError as error:
        raise DataError(f"{picture}: {error}") from error
    return f"{out}: {missing} filled" if missing else f"{out}: a copy, there is no hole"


def _only_mask(options: argparse.Namespace, job: _Job) -> Path:
    from inpaint_models.errors import DataError

    if len(job.masks) != 1:
        wanted = (options.mask / job.picture.relative_to(options.picture)).with_suffix(".*")
        names = ", ".join(path.name for path in job.masks) or "none"
        raise DataError(f"{job.picture}: expected one mask {wanted}, found {names}")
    return job.masks[0]


def _check_inputs_stay(jobs: Sequence[_Job]) -> None:
    """Refuse to write to any input, be it another picture's."""
    from inpaint_models.errors import UsageError

    def identity(path: Path) -> tuple[int, int]:
        # Device and number of the file: the same through links of either kind.
        status = path.stat()
        return status.st_dev, status.st_ino

    inputs: dict[tuple[int, int], Path] = {}
    for job in jobs:
        inputs |= {identity(path): path for path in (*job.masks, job.picture) if path.exists()}
    for job in jobs:
        path = inputs.get(identity(job.out)) if job.out.exists() else None
        if path is not None:
            raise UsageError(f"{job.out} is {path}, an input, which is never written to")


def _check_target(options: argparse.Namespace, out: Path) -> None:
    from inpaint_models.errors import UsageError

    if out.is_dir():
        raise UsageError(f"{out} is a folder")
    if out.exists() and not options.force:
        raise UsageError(f"{out} is there already: give another OUT, or --force")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder")


def _fill_picture(
    options: argparse.Namespace, net: nn.Module, path: Path, mask: Path | None, out: Path
) -> str:
    """Fill a picture's file; returns how much was missing, "" for nothing."""
    from inpaint_models import fill
    from inpaint_models.errors import DataError, UsageError
    from inpaint_models.pictures import (
        MAX_PIXELS,
        read_mask_picture,
        read_picture,
        write_picture,
        written_format,
    )

    if options.variable is not None or options.axes is not None:
        raise UsageError(f"--variable and --axes are for grids ({', '.join(_GRIDS)})")
    written_format(out)
    most = MAX_PIXELS if options.max_pixels is None else options.max_pixels
    picture = read_picture(path, most)
    image = picture.image
    known: NDArray[np.bool_]
    if mask is not None:
        known = read_mask_picture(mask, options.polarity, most)
        if known.shape != (image.height, image.width):
            raise DataError(
                f"{mask} has {known.shape[1]} x {known.shape[0]} pixels, but {path} has "
                f"{image.width} x {image.height}, upright"
            )
    else:
        known = _marked(options, image, path)
    filled = fill(image, known, model=net, wrap=options.wrap, **_limits(options))
    write_picture(picture, filled, out)
    missing = 1 - known.mean()
    if mask is not None and missing > 0.5:
        _hint(f"{missing:.1%} of {path} is hole: is white the hole? see --polarity")
    if options.hole_colour is not None and known.all():
        _hint(f"{path} has no pixel of {options.hole_colour}: near ones need --tolerance")
    return f"{missing:.2%}" if missing else ""


def _hint(text: str) -> None:
    print(f"inpaint: {text}", file=sys.stderr)


def _marked(options: argparse.Namespace, image: Image.Image, path: Path) -> NDArray[np.bool_]:
    """What is known by the hole's colour, or by alpha."""
    import numpy as np
    from inpaint_models.errors import UsageError
    from inpaint_models.pictures import colour_mask
    from PIL import ImageColor

    if options.hole_colour is None:
        if image.mode not in ("RGBA", "LA"):
            raise UsageError(f"{path} has no alpha channel: give MASK or --hole-colour")
        opaque: NDArray[np.bool_] = np.asarray(image.getchannel("A")) == 255
        return opaque
    if image.mode == "I;16":
        raise UsageError(f"{path} has 16 bits: --hole-colour is for pictures of 8 bits; give MASK")
    try:
        colour = ImageColor.getrgb(options.hole_colour)
    except ValueError as error:
        raise UsageError(f"--hole-colour: {error}") from error
    return colour_mask(image, colour, options.tolerance)


def _fill_grid(
    options: argparse.Namespace, net: nn.Module, path: Path, mask: Path | None, out: Path
) -> str:
    """Fill a grid's file; returns how much was missing, "" for nothing."""
    from inpaint_models import grids
    from inpaint_models.errors import UsageError

    if mask is not None or options.hole_colour is not None:
        raise UsageError(f"{path}: in grids NaN is missing, give no MASK and no --hole-colour")
    if out.suffix.lower() != path.suffix.lower():
        raise UsageError(f"{out}: {path.name} is written as {path.suffix}, got {out.suffix!r}")
    arguments = {"model": net, "wrap": options.wrap, **_limits(options)}
    if path.suffix.lower() == ".npy":
        if options.variable is not None:
            raise UsageError("--variable is for NetCDF files")
        missing = grids.fill_npy(path, out, axes=options.axes, **arguments)
    else:
        if options.axes is not None:
            raise UsageError("--axes is for .npy files: NetCDF names its dimensions")
        missing = grids.fill_netcdf(path, out, options.variable, **arguments)
    return f"{missing} values" if missing else ""


def _limits(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `fill` that were given."""
    given = {"window": options.window, "depth": options.depth, "shrink": options.shrink}
    return {name: value for name, value in given.items() if value is not None}
