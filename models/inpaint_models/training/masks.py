"""Masks: drawn from a seed, or read from a folder.

A mask source is called with a random generator and a size, and returns the hole as a bool array,
True where the picture is missing. (Tensors handed to networks are the opposite: 1 = valid.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..checks import check_at_least, check_choice
from ..errors import DataError
from ..pictures import MAX_PIXELS
from .decoding import BrokenPictureError, check_max_pixels, decode
from .randomness import FIXED_MASK, check_seed, random_at
from .sources import NO_PICTURE, list_pictures

Hole = NDArray[np.bool_]
Dice = np.random.Generator
Range = tuple[float, float]
"""Of hole ratios, shares of the picture: above the first and up to the second."""

HOLE_RATIO_BINS: tuple[Range, ...] = (
    (0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6),
)  # fmt: skip
"""The six bins of the NVIDIA irregular masks, (low, high]."""

POLARITIES = ("white=hole", "white=valid")

TRIES = 100
"""How often a generator starts anew before it says that a hole ratio is out of its reach."""


class MaskSource(Protocol):
    """Anything that draws holes."""

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """A hole of (height, width), a function of the state of `dice` only."""
        ...


def hole_ratio(hole: Hole) -> float:
    """The share of pixels that are missing."""
    return np.count_nonzero(hole) / hole.size


def hole_ratio_bin(ratio: float, bins: Sequence[Range] = HOLE_RATIO_BINS) -> Range | None:
    """The bin that holds `ratio`, or None if none does."""
    return next((one for one in bins if one[0] < ratio <= one[1]), None)


@dataclass(frozen=True)
class Rectangles:
    """Upright rectangles.

    Attributes:
        count: how many, or the fewest and the most.
        size: height and width in pixels; None draws them from `side`.
        side: shortest and longest side, as a share of the picture's side.
        ratio: hole ratio to meet, (low, high]; the rectangles are scaled around their centres.
    """

    count: int | tuple[int, int] = 1
    size: tuple[int, int] | None = None
    side: Range = (0.1, 0.5)
    ratio: Range | None = None

    def __post_init__(self) -> None:
        _check_count("count", self.count)
        _check_range("side", self.side)
        _check_ratio(self.ratio)
        if self.size is not None:
            for length in self.size:
                check_at_least("size", length, 1)
            if self.ratio is not None:
                raise ValueError(f"size={self.size} fixes the hole: leave out ratio={self.ratio}")

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        if self.size is not None and (self.size[0] > height or self.size[1] > width):
            raise ValueError(f"size={self.size} does not fit into a picture of {height}x{width}")
        return _scaled(self, self._plan, _paint_rectangles, self.ratio, dice, height, width)

    def _plan(self, dice: Dice, height: int, width: int) -> Shapes:
        """Whole pixels, inside the picture."""
        shapes = []
        for _ in range(_draw_count(self.count, dice)):
            h, w = self.size or (
                max(1, round(dice.uniform(*self.side) * height)),
                max(1, round(dice.uniform(*self.side) * width)),
            )
            y, x = dice.integers(height - h + 1), dice.integers(width - w + 1)
            shapes.append(Shape(x + w / 2, y + h / 2, w / 2, h / 2, 0))
        return shapes


@dataclass(frozen=True)
class Circles:
    """Discs with their centres in the picture.

    Attributes:
        count: how many, or the fewest and the most.
        radius: smallest and largest, as a share of the picture's shorter side.
        ratio: hole ratio to meet, (low, high]; the discs are scaled around their centres.
    """

    count: int | tuple[int, int] = 1
    radius: Range = (0.08, 0.25)
    ratio: Range | None = None

    def __post_init__(self) -> None:
        _check_count("count", self.count)
        _check_range("radius", self.radius)
        _check_ratio(self.ratio)

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        return _scaled(self, self._plan, _paint_ellipses, self.ratio, dice, height, width)

    def _plan(self, dice: Dice, height: int, width: int) -> Shapes:
        shapes = []
        for _ in range(_draw_count(self.count, dice)):
            r = dice.uniform(*self.radius) * min(height, width)
            shapes.append(Shape(dice.uniform(0, width), dice.uniform(0, height), r, r, 0))
        return shapes


@dataclass(frozen=True)
class Ellipses(Circles):
    """Ellipses, turned by any angle, with their centres in the picture.

    Attributes:
        count: how many, or the fewest and the most.
        radius: smallest and largest half axis, as a share of the picture's shorter side.
        ratio: hole ratio to meet, (low, high]; the ellipses are scaled around their centres.
    """

    radius: Range = (0.05, 0.3)

    def _plan(self, dice: Dice, height: int, width: int) -> Shapes:
        shapes = []
        for _ in range(_draw_count(self.count, dice)):
            a, b = dice.uniform(*self.radius, 2) * min(height, width)
            x, y = dice.uniform(0, width), dice.uniform(0, height)
            shapes.append(Shape(x, y, a, b, dice.uniform(0, 180)))
        return shapes


@dataclass(frozen=True)
class Lines:
    """Straight lines between any two points, as OpenCV draws them.

    Attributes:
        count: how many, or the fewest and the most.
        thickness: the thinnest and the thickest, in pixels.
        ratio: hole ratio to meet, (low, high]; as many lines are drawn as that takes, whatever
            `count` says.
    """

    count: int | tuple[int, int] = (1, 9)
    thickness: tuple[int, int] = (1, 2)
    ratio: Range | None = None

    def __post_init__(self) -> None:
        _check_count("count", self.count)
        _check_count("thickness", self.thickness)
        _check_ratio(self.ratio)

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        return _stroked(self, self._stroke, self.count, self.ratio, dice, height, width)

    def _stroke(self, dice: Dice, height: int, width: int) -> Iterator[Segment]:
        x, y = dice.integers(width, size=2), dice.integers(height, size=2)
        thickness = int(dice.integers(self.thickness[0], self.thickness[1] + 1))
        yield (int(x[0]), int(y[0])), (int(x[1]), int(y[1])), thickness


@dataclass(frozen=True)
class FreeForm:
    """Brush strokes that wander: walks of short segments that turn a little at each step.

    Attributes:
        count: how many strokes, or the fewest and the most.
        steps: fewest and most segments of a stroke.
        length: shortest and longest segment, as a share of the picture's shorter side.
        width: thinnest and thickest brush, as a share of the picture's shorter side.
        ratio: hole ratio to meet, (low, high]; as many segments are drawn as that takes, whatever
            `count` says.
    """

    count: int | tuple[int, int] = (1, 5)
    steps: tuple[int, int] = (4, 16)
    length: Range = (0.03, 0.12)
    width: Range = (0.03, 0.09)
    ratio: Range | None = None

    def __post_init__(self) -> None:
        _check_count("count", self.count)
        _check_count("steps", self.steps)
        _check_range("length", self.length)
        _check_range("width", self.width)
        _check_ratio(self.ratio)

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        return _stroked(self, self._stroke, self.count, self.ratio, dice, height, width)

    def _stroke(self, dice: Dice, height: int, width: int) -> Iterator[Segment]:
        side = min(height, width)
        x, y = dice.uniform(0, width - 1), dice.uniform(0, height - 1)
        heading = dice.uniform(0, 2 * math.pi)
        thickness = max(1, round(side * dice.uniform(*self.width)))
        for _ in range(int(dice.integers(self.steps[0], self.steps[1] + 1))):
            heading += dice.normal(0, 0.7)
            step = side * dice.uniform(*self.length)
            # A stroke that would leave the picture goes on along its edge.
            to_x = min(max(x + step * math.cos(heading), 0.0), width - 1.0)
            to_y = min(max(y + step * math.sin(heading), 0.0), height - 1.0)
            yield (round(x), round(y)), (round(to_x), round(to_y)), thickness
            x, y = to_x, to_y


@dataclass(frozen=True)
class OneOf:
    """Each time one of several sources, all as likely."""

    sources: Sequence[MaskSource]

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources must hold at least one mask source, got none")

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        return self.sources[int(dice.integers(len(self.sources)))](dice, height, width)


GENERATORS: dict[str, Callable[..., MaskSource]] = {
    "rectangles": Rectangles,
    "circles": Circles,
    "ellipses": Ellipses,
    "lines": Lines,
    "free-form": FreeForm,
}
"""The generators by name, for configuration files."""


class MaskFolder:
    """Mask pictures of a folder, each as likely, brought to the wanted size by nearest neighbour.

    Args:
        root: the folder; sub-folders are included.
        polarity: "white=hole" or "white=valid". Published sets use both (NVIDIA's training masks
            are the inverse of its test masks), so there is no default.
        threshold: white is what is brighter than this, as a share of the range, in [0, 1).
        ratio: takes only masks whose hole ratio is in (low, high]. Every file is read once for
            that when the folder is opened.
        turn: mirrors and quarter turns at random.
        max_pixels: larger pictures are refused.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: an argument is not allowed, or no mask has the ratio.
    """

    def __init__(
        self,
        root: str | Path,
        polarity: str,
        threshold: float = 0.5,
        ratio: Range | None = None,
        turn: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_choice("polarity", polarity, POLARITIES)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}")
        _check_ratio(ratio)
        check_max_pixels(max_pixels)
        self.root = Path(root)
        self.polarity = polarity
        self.threshold = threshold
        self.turn = turn
        self.max_pixels = max_pixels
        self.names, others = list_pictures(self.root)
        # By whole path: a mask may have the name of the picture that it is laid on.
        self.skipped = {str(self.root / name): NO_PICTURE for name in others}
        if ratio is not None:
            with ThreadPoolExecutor() as pool:
                ratios = list(pool.map(self._ratio, self.names))
            known = [(n, r) for n, r in zip(self.names, ratios, strict=True) if r is not None]
            self.names = [n for n, r in known if ratio[0] < r <= ratio[1]]
            if not self.names:
                there = ", ".join(
                    f"{r:.3f}" for r in sorted(r for _, r in known)[:: len(known) // 8 + 1]
                )
                raise ValueError(
                    f"no mask in {self.root} has a hole ratio in ({ratio[0]}, {ratio[1]}]; with "
                    f"polarity={polarity!r} there are, among others: {there or 'none'}"
                )

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> Hole:
        """The hole of one file, in its own size; raises BrokenPictureError."""
        grey = np.asarray(decode(self.root / name, self.max_pixels).convert("L"))
        white = grey > self.threshold * 255
        return white if self.polarity == "white=hole" else ~white

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource. In place of a broken file comes the next good one.

        Raises:
            DataError: every file is broken.
        """
        first, turns = int(dice.integers(len(self.names))), int(dice.integers(8))
        for step in range(len(self.names)):
            name = self.names[(first + step) % len(self.names)]
            hole = self._try(name)
            if hole is None:
                continue
            if self.turn:
                hole = np.rot90(hole[:, ::-1] if turns >= 4 else hole, turns % 4)
            return _resize(hole, height, width)
        raise DataError(
            f"none of the {len(self.names)} masks in {self.root} can be used: "
            f"{name}: {self.skipped[str(self.root / name)]}"
        )

    def _ratio(self, name: str) -> float | None:
        hole = self._try(name)
        return None if hole is None else hole_ratio(hole)

    def _try(self, name: str) -> Hole | None:
        path = str(self.root / name)
        if path in self.skipped:
            return None
        try:
            return self.read(name)
        except BrokenPictureError as error:
            self.skipped[path] = str(error)
            return None


@dataclass
class FixedMasks:
    """A set of `k` different masks, drawn once from `seed`; each call returns one of them.

    Attributes:
        k: how many.
        source: what draws them.
        seed: another seed, another set.
    """

    k: int
    source: MaskSource
    seed: int = 0
    _drawn: dict[tuple[int, int], list[Hole]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_seed(self.seed)

    def holes(self, height: int, width: int) -> list[Hole]:
        """The whole set in one size.

        Raises:
            ValueError: the source does not have so many different ones.
        """
        if (height, width) not in self._drawn:
            holes: list[Hole] = []
            for i in range(TRIES * self.k):
                hole = self.source(random_at(self.seed, 0, i, FIXED_MASK), height, width)
                if not any(np.array_equal(hole, other) for other in holes):
                    holes.append(hole)
                if len(holes) == self.k:
                    break
            else:
                raise ValueError(
                    f"k must be at most the number of different masks, got {self.k}, but "
                    f"{self.source!r} drew only {len(holes)} in {TRIES * self.k} tries"
                )
            self._drawn[height, width] = holes
        return self._drawn[height, width]

    def __call__(self, dice: Dice, height: int, width: int) -> Hole:
        """See MaskSource."""
        return self.holes(height, width)[int(dice.integers(self.k))]


def all_skipped(source: object) -> list[dict[str, str]]:
    """What a mask source and those in it found unusable, name to reason; generators find nothing.

    The dictionaries themselves, which only grow.
    """
    if isinstance(source, OneOf):
        return [skipped for inner in source.sources for skipped in all_skipped(inner)]
    if isinstance(source, FixedMasks):
        return all_skipped(source.source)
    return [source.skipped] if isinstance(source, MaskFolder) else []


def mask_sheet(
    source: MaskSource, count: int, size: int, seed: int = 0, columns: int = 8
) -> Image.Image:
    """A picture of `count` masks of `size` pixels, holes black, each with its hole ratio below."""
    check_at_least("count", count, 1)
    check_at_least("size", size, 1)
    check_at_least("columns", columns, 1)
    check_seed(seed)
    columns = min(columns, count)
    gap, caption = 8, 14
    across, down = max(size, 40) + gap, size + caption + gap
    sheet = Image.new("L", (columns * across + gap, -(-count // columns) * down + gap), 200)
    pen = ImageDraw.Draw(sheet)
    for i in range(count):
        hole = source(random_at(seed, 0, i, FIXED_MASK), size, size)
        x, y = gap + i % columns * across, gap + i // columns * down
        sheet.paste(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)), (x, y))
        pen.text((x, y + size + 1), f"{100 * hole_ratio(hole):.1f} %", fill=0)
    return sheet


@dataclass(frozen=True)
class Shape:
    """Centre, half axes, and angle in degrees: what scaling keeps and what it changes."""

    x: float
    y: float
    a: float
    b: float
    angle: float


Shapes = list[Shape]
Segment = tuple[tuple[int, int], tuple[int, int], int]
"""From, to, thickness, in pixels."""


def _paint_rectangles(shapes: Shapes, scale: float, height: int, width: int) -> Hole:
    hole = np.zeros((height, width), bool)
    for s in shapes:
        top, left = max(0, round(s.y - scale * s.b)), max(0, round(s.x - scale * s.a))
        hole[top : round(s.y + scale * s.b), left : round(s.x + scale * s.a)] = True
    return hole


def _paint_ellipses(shapes: Shapes, scale: float, height: int, width: int) -> Hole:
    canvas = np.zeros((height, width), np.uint8)
    for s in shapes:
        centre, axes = (round(s.x), round(s.y)), (round(scale * s.a), round(scale * s.b))
        cv2.ellipse(canvas, centre, axes, s.angle, 0, 360, 1, cv2.FILLED)
    return canvas.astype(bool)


def _scaled(
    source: MaskSource,
    plan: Callable[[Dice, int, int], Shapes],
    paint: Callable[[Shapes, float, int, int], Hole],
    ratio: Range | None,
    dice: Dice,
    height: int,
    width: int,
) -> Hole:
    """Shapes as planned, or scaled by bisection until the hole ratio is where it should be."""
    _check_size(height, width)
    if ratio is None:
        return paint(plan(dice, height, width), 1, height, width)
    low, high = _feasible(source, ratio, height, width)
    for _ in range(TRIES):
        shapes, target = plan(dice, height, width), dice.uniform(low, high)
        # Logarithmic: half and twice the size are as far from the plan.
        least, most, best = -8.0, 8.0, None
        for _ in range(16):
            middle = (least + most) / 2
            hole = paint(shapes, 2**middle, height, width)
            now = hole_ratio(hole)
            if low < now <= high and (best is None or abs(now - target) < best[0]):
                best = (abs(now - target), hole)
            least, most = (middle, most) if now < target else (least, middle)
        if best is not None:
            return best[1]
    raise _unreachable(source, ratio, height, width)


def _stroked(
    source: MaskSource,
    stroke: Callable[[Dice, int, int], Iterator[Segment]],
    count: int | tuple[int, int],
    ratio: Range | None,
    dice: Dice,
    height: int,
    width: int,
) -> Hole:
    """So many strokes, or segment by segment until the hole ratio is where it should be."""
    _check_size(height, width)
    canvas = np.zeros((height, width), np.uint8)
    if ratio is None:
        for _ in range(_draw_count(count, dice)):
            for start, end, thickness in stroke(dice, height, width):
                cv2.line(canvas, start, end, 1, thickness)
        return canvas.astype(bool)
    low, high = _feasible(source, ratio, height, width)
    for _ in range(TRIES):
        canvas[:] = 0
        # Not up to `high`: from the target on there must be room for one more segment.
        target = dice.uniform(low, low + 0.9 * (high - low))
        if _fill(canvas, stroke, target, high, dice):
            return canvas.astype(bool)
    raise _unreachable(source, ratio, height, width)


def _fill(
    canvas: NDArray[np.uint8],
    stroke: Callable[[Dice, int, int], Iterator[Segment]],
    target: float,
    high: float,
    dice: Dice,
) -> bool:
    """Draw segments until `target` is passed; those that would pass `high` are left out.

    Gives up after so many strokes, or so many segments left out.
    """
    height, width = canvas.shape
    misses = 0
    for _ in range(100 + 8 * max(height, width)):
        for start, end, thickness in stroke(dice, height, width):
            before = canvas.copy()
            cv2.line(canvas, start, end, 1, thickness)
            now = hole_ratio(canvas != 0)
            if now > high:
                canvas[:] = before
                misses += 1
                if misses == TRIES:
                    return False
            elif now > target:
                return True
    return False


def _feasible(source: MaskSource, ratio: Range, height: int, width: int) -> Range:
    """`ratio`, if any whole number of pixels is in it."""
    low, high = ratio
    pixels = height * width
    if not math.floor(high * pixels) / pixels > low:
        raise _unreachable(source, ratio, height, width)
    return low, high


def _unreachable(source: MaskSource, ratio: Range, height: int, width: int) -> ValueError:
    return ValueError(
        f"ratio=({ratio[0]}, {ratio[1]}] is out of reach of {source!r} in {height}x{width} pixels"
    )


def _resize(hole: Hole, height: int, width: int) -> Hole:
    """Nearest neighbour, by the centres of pixels."""
    rows = (np.arange(height) * 2 + 1) * hole.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * hole.shape[1] // (2 * width)
    resized: Hole = hole[rows[:, None], columns]
    return resized


def _draw_count(count: int | tuple[int, int], dice: Dice) -> int:
    least, most = (count, count) if isinstance(count, int) else count
    return int(dice.integers(least, most + 1))


def _check_count(name: str, count: int | tuple[int, int]) -> None:
    least, most = (count, count) if isinstance(count, int) else count
    check_at_least(name, least, 1)
    check_at_least(name, most, 1)
    if most < least:
        raise ValueError(f"{name} must be (fewest, most), got {count}")


def _check_range(name: str, value: Range) -> None:
    if not _is_pair(value) or not 0 < value[0] <= value[1] <= 1:
        raise ValueError(f"{name} must be (low, high) with 0 < low <= high <= 1, got {value!r}")


def _check_ratio(ratio: Range | None) -> None:
    if ratio is None:
        return
    if not _is_pair(ratio) or not 0 <= ratio[0] < ratio[1] <= 1:
        raise ValueError(f"ratio must be (low, high) with 0 <= low < high <= 1, got {ratio!r}")


def _is_pair(value: Any) -> bool:
    """Whether it is two numbers, which a command line may have given otherwise."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(number, (int, float)) for number in value)
    )


def _check_size(height: int, width: int) -> None:
    check_at_least("height", height, 1)
    check_at_least("width", width, 1)
