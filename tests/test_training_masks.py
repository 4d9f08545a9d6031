"""Masks for training: drawn by seed and by hole ratio, read from folders, kept in a fixed set."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from inpaint_models.training.masks import (
    GENERATORS,
    HOLE_RATIO_BINS,
    Circles,
    Ellipses,
    FixedMasks,
    FreeForm,
    Lines,
    MaskFolder,
    MaskSource,
    OneOf,
    Rectangles,
    all_skipped,
    hole_ratio,
    hole_ratio_bin,
    mask_sheet,
)
from inpaint_models.training.randomness import MASK, random_at
from PIL import Image

every_generator = pytest.mark.parametrize("name", sorted(GENERATORS))


def _dice(number: int, seed: int = 0) -> np.random.Generator:
    return random_at(seed, 0, number, MASK)


@every_generator
def test_a_mask_is_a_function_of_the_seed(name: str) -> None:
    source = GENERATORS[name]()
    holes = [source(_dice(i), 40, 56) for i in range(6)]
    for i, hole in enumerate(holes):
        assert hole.shape == (40, 56)
        assert hole.dtype == bool
        assert 0 < hole_ratio(hole) < 1
        assert np.array_equal(hole, pickle.loads(pickle.dumps(source))(_dice(i), 40, 56))
    assert len({hole.tobytes() for hole in holes}) == 6
    assert not np.array_equal(holes[0], source(_dice(0, seed=1), 40, 56))


@every_generator
@pytest.mark.parametrize(("low", "high"), HOLE_RATIO_BINS)
def test_generators_meet_a_hole_ratio(name: str, low: float, high: float) -> None:
    source = GENERATORS[name](ratio=(low, high))
    ratios = [hole_ratio(source(_dice(i), 64, 48)) for i in range(8)]
    assert all(low < ratio <= high for ratio in ratios), ratios
    assert max(ratios) - min(ratios) > 0.02, "they should be spread over the range"


def test_several_shapes_meet_a_narrow_hole_ratio() -> None:
    for source in (
        Rectangles(count=(2, 4), ratio=(0.30, 0.32)),
        OneOf([Circles(3, ratio=(0.30, 0.32)), Ellipses((1, 3), ratio=(0.30, 0.32))]),
        FreeForm(ratio=(0.30, 0.32)),
    ):
        for i in range(5):
            assert 0.30 < hole_ratio(source(_dice(i), 128, 128)) <= 0.32


@pytest.mark.parametrize(
    ("source", "side"),
    [
        (Rectangles(1, ratio=(0.9, 0.95)), 3),  # 9 pixels: none of their shares is in the range
        (Rectangles(1, ratio=(0.9, 0.95)), 8),  # 58 to 60 pixels: no rectangle has so many
        (Lines(thickness=(9, 9), ratio=(0.0, 0.01)), 32),  # one line is more than that
    ],
)
def test_a_ratio_out_of_reach_is_an_error(source: MaskSource, side: int) -> None:
    with pytest.raises(ValueError, match=rf"ratio=\(.*\] is out of reach of .* in {side}x{side}"):
        source(_dice(0), side, side)


def test_rectangles_of_a_fixed_size_lie_inside_and_anywhere() -> None:
    rows, columns = set(), set()
    for i in range(200):
        hole = Rectangles(1, size=(5, 3))(_dice(i), 8, 8)
        assert hole.sum() == 15
        y, x = np.nonzero(hole)
        assert (y.max() - y.min(), x.max() - x.min()) == (4, 2)
        rows.add(int(y.min()))
        columns.add(int(x.min()))
    assert rows == set(range(4))
    assert columns == set(range(6))
    assert Rectangles(1, size=(8, 8))(_dice(0), 8, 8).all()
    areas = {int(Rectangles((1, 3), size=(2, 2))(_dice(i), 64, 64).sum()) for i in range(50)}
    assert {4, 8, 12} <= areas
    with pytest.raises(ValueError, match=r"size=\(9, 2\) does not fit into a picture of 8x8"):
        Rectangles(1, size=(9, 2))(_dice(0), 8, 8)


def test_circles_are_round_and_ellipses_are_not() -> None:
    for i in range(20):
        y, x = np.nonzero(Circles(radius=(0.1, 0.1))(_dice(i), 100, 100))
        inside = y.min() > 0 and x.min() > 0 and y.max() < 99 and x.max() < 99
        if inside:
            assert abs((y.max() - y.min()) - (x.max() - x.min())) <= 1
            assert abs(len(y) - np.pi * 100) < 40
    drawn = [Ellipses(radius=(0.05, 0.2))(_dice(i), 100, 100) for i in range(20)]
    spans = [(np.ptp(np.nonzero(hole)[0]), np.ptp(np.nonzero(hole)[1])) for hole in drawn]
    assert any(abs(int(h) - int(w)) > 5 for h, w in spans)


def test_lines_are_thin() -> None:
    for i in range(10):
        hole = Lines(count=1, thickness=(1, 1))(_dice(i), 32, 32)
        y, x = np.nonzero(hole)
        assert len(y) == max(np.ptp(y), np.ptp(x)) + 1, "one pixel for each step of the longer side"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Rectangles(0), "count must be at least 1, got 0"),
        (lambda: Circles((3, 1)), r"count must be \(fewest, most\), got \(3, 1\)"),
        (lambda: Ellipses(radius=(0.5, 0.1)), "radius must be .* got"),
        (lambda: Lines(thickness=(0, 2)), "thickness must be at least 1, got 0"),
        (lambda: FreeForm(ratio=(0.5, 0.5)), "ratio must be .* 0 <= low < high <= 1"),
        (lambda: Rectangles(size=(5, 5), ratio=(0.1, 0.2)), "leave out ratio"),
        (lambda: OneOf([]), "at least one mask source"),
        (lambda: FixedMasks(0, Rectangles()), "k must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_bins_are_open_below_and_closed_above() -> None:
    expected = {0.0: None, 0.01: None, 0.0101: 0, 0.1: 0, 0.1001: 1, 0.6: 5, 0.6001: None, 1: None}
    bins = {None: None} | dict(enumerate(HOLE_RATIO_BINS))
    assert {r: hole_ratio_bin(r) for r in expected} == {r: bins[i] for r, i in expected.items()}
    found = [hole_ratio_bin(hole_ratio(np.arange(10) < n)) for n in range(1, 7)]
    assert found == list(HOLE_RATIO_BINS)


def test_a_fixed_set_holds_k_different_masks() -> None:
    masks = FixedMasks(8, FreeForm(ratio=(0.1, 0.2)), seed=3)
    whole = {hole.tobytes() for hole in masks.holes(32, 32)}
    assert len(whole) == 8
    assert {masks(_dice(i), 32, 32).tobytes() for i in range(100)} == whole
    again = FixedMasks(8, FreeForm(ratio=(0.1, 0.2)), seed=3)
    other = FixedMasks(8, FreeForm(ratio=(0.1, 0.2)), seed=4)
    assert {hole.tobytes() for hole in again.holes(32, 32)} == whole
    assert not {hole.tobytes() for hole in other.holes(32, 32)} & whole
    with pytest.raises(ValueError, match=r"k must be at most .* got 5, but .* drew only 4"):
        FixedMasks(5, Rectangles(size=(1, 1)))(_dice(0), 2, 2)


def _save(path: Path, pixels: object, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype)).save(path)


def test_polarity_says_what_white_means_and_has_no_default(tmp_path: Path) -> None:
    _save(tmp_path / "mask.png", [[255, 0], [0, 0]])
    expected = np.array([[True, False], [False, False]])
    assert np.array_equal(MaskFolder(tmp_path, "white=hole")(_dice(0), 2, 2), expected)
    assert np.array_equal(MaskFolder(tmp_path, "white=valid")(_dice(0), 2, 2), ~expected)
    with pytest.raises(TypeError, match="polarity"):
        MaskFolder(tmp_path)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="polarity must be one of 'white=hole', 'white=valid'"):
        MaskFolder(tmp_path, "white")


def test_the_threshold_is_a_share_of_the_range(tmp_path: Path) -> None:
    _save(tmp_path / "eight.png", [[0, 127, 128, 255]])
    half = MaskFolder(tmp_path, "white=hole")
    assert half.read("eight.png").tolist() == [[False, False, True, True]]
    assert MaskFolder(tmp_path, "white=hole", 0).read("eight.png").sum() == 3
    assert MaskFolder(tmp_path, "white=hole", 0.51).read("eight.png").sum() == 1
    _save(tmp_path / "sixteen.png", [[0, 257 * 127, 257 * 128, 65535]], np.uint16)
    assert half.read("sixteen.png").tolist() == [[False, False, True, True]]
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "one_bit.png")
    assert half.read("one_bit.png").tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\), got 1"):
        MaskFolder(tmp_path, "white=hole", 1)


def test_mask_pictures_are_resized_and_turned(tmp_path: Path) -> None:
    quarter = np.zeros((512, 512))
    quarter[:256, 256:] = 255
    _save(tmp_path / "512.png", quarter)
    small = MaskFolder(tmp_path, "white=hole")(_dice(0), 6, 4)
    assert np.array_equal(small, np.arange(6)[:, None] // 3 < np.arange(4) // 2)
    turning = MaskFolder(tmp_path, "white=hole", turn=True)
    corners = [turning(_dice(i), 2, 2) for i in range(40)]
    assert len({hole.tobytes() for hole in corners}) == 4
    assert all(hole.sum() == 1 for hole in corners)


def test_a_folder_is_narrowed_to_a_hole_ratio(tmp_path: Path) -> None:
    for percent in (5, 10, 15, 20, 55):
        _save(tmp_path / f"{percent}.png", np.where(np.arange(100) < percent, 255, 0)[None])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    masks = MaskFolder(tmp_path, "white=hole", ratio=HOLE_RATIO_BINS[1])
    assert masks.names == ["15.png", "20.png"]
    assert list(masks.skipped) == [str(tmp_path / "broken.png")]
    inverse = MaskFolder(tmp_path, "white=valid", ratio=HOLE_RATIO_BINS[4])
    assert inverse.names == ["55.png"]
    with pytest.raises(ValueError, match=r"hole ratio in \(0.3, 0.4\]; .* 0.050, 0.100, .* 0.550"):
        MaskFolder(tmp_path, "white=hole", ratio=(0.3, 0.4))


def test_broken_masks_are_replaced_and_named(tmp_path: Path) -> None:
    _save(tmp_path / "good.png", [[255, 0]])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "list.txt").write_text("good.png")
    masks = MaskFolder(tmp_path, "white=hole")
    assert all(masks(_dice(i), 1, 2).tolist() == [[True, False]] for i in range(10))
    assert set(masks.skipped) == {str(tmp_path / "bad.png"), str(tmp_path / "list.txt")}
    assert all_skipped(FixedMasks(1, OneOf([masks, Lines()]))) == [masks.skipped]
    (tmp_path / "good.png").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"none of the 2 masks in .* can be used"):
        MaskFolder(tmp_path, "white=hole")(_dice(0), 1, 2)
    with pytest.raises(FileNotFoundError, match="root must be a folder"):
        MaskFolder(tmp_path / "none", "white=hole")


def test_a_sheet_shows_masks_with_black_holes() -> None:
    sheet = np.asarray(mask_sheet(Rectangles(size=(16, 16)), count=5, size=64, columns=3))
    assert sheet.shape[1] > 3 * 64
    assert sheet.shape[0] > 2 * 64
    for i in range(5):
        y, x = 8 + i // 3 * 86, 8 + i % 3 * 72
        tile = sheet[y : y + 64, x : x + 64]
        assert (tile == 0).sum() == 256
        assert (tile == 255).sum() == 64 * 64 - 256
