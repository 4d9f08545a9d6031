"""Pictures for training: sources, transform, order, loader; broken files never stop an epoch."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inpaint_models.training.data import (
    Batch,
    InpaintingDataset,
    Item,
    Loader,
    ResumableSampler,
    Transform,
    make_loader,
    read_ahead,
)
from inpaint_models.training.decoding import BrokenPictureError, decode
from inpaint_models.training.masks import FixedMasks, MaskFolder, OneOf, Rectangles
from inpaint_models.training.randomness import random_at
from inpaint_models.training.sources import CIFAR10, ImageFolder, Split, TarShards
from PIL import Image
from torch.testing import assert_close

RECTANGLES = Rectangles(count=(1, 3))


def _picture(number: int, height: int = 20, width: int = 24) -> Image.Image:
    pixels = random_at(7, 0, number, 0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def _bytes(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _folder(root: Path, names: Iterable[str]) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_bytes(_picture(i)))
    return root


def _shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def _shards(root: Path, count: int = 3, each: int = 8) -> list[Path]:
    return [
        _shard(
            root / f"{s}.tar",
            {f"{s}{i:02}.png": _bytes(_picture(100 * s + i)) for i in range(each)},
        )
        for s in range(count)
    ]


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    return _folder(tmp_path / "pictures", [f"{i:02}.png" for i in range(20)])


def _loader(
    images: ImageFolder | CIFAR10 | TarShards,
    workers: int = 0,
    broken: str = "replace",
    **options: Any,
) -> Loader:
    data = InpaintingDataset(images, RECTANGLES, Transform(16), seed=5, broken=broken)
    options = {"batch_size": 4, **options}
    return make_loader(data, workers=workers, **options)


def _names(batches: Iterable[Batch]) -> list[str]:
    return [Path(name).name for batch in batches for name in batch.names]


def _same(a: Sequence[Batch], b: Sequence[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.names == y.names and torch.equal(x.image, y.image) and torch.equal(x.mask, y.mask)
        for x, y in zip(a, b, strict=True)
    )


# ---- decoding and transform


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
        assert picture.mode == mode
    else:
        picture = Image.fromarray(grey).convert("RGB").convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(0)  # dropped, not painted on anything
    path = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    picture.save(path)
    decoded = decode(path)
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.stack([grey] * 3, 2))


def test_sixteen_bits_are_rounded_to_eight() -> None:
    wide = np.array([[0, 128, 129, 257 * 200 + 128, 257 * 200 + 129, 65535]], np.uint16)
    decoded = np.asarray(decode(io.BytesIO(_bytes(Image.fromarray(wide)))))
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 200, 201, 255]


def test_pictures_stand_upright_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    buffer = io.BytesIO()
    lying = np.zeros((8, 16, 3), np.uint8)
    lying[:, :8] = 255
    Image.fromarray(lying).save(buffer, "JPEG", exif=exif)
    upright = np.asarray(decode(buffer))
    assert upright.shape == (16, 8, 3)
    assert upright[:8].min() > 200
    assert upright[8:].max() < 50


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size() -> None:
    data = _bytes(Image.linear_gradient("L").convert("RGB").resize((400, 800)), "JPEG")
    assert decode(io.BytesIO(data)).size == (400, 800)
    small = decode(io.BytesIO(data), at_least=50)
    assert small.size == (100, 200)
    expected = np.asarray(decode(io.BytesIO(data)).resize((100, 200)), int)
    assert np.abs(np.asarray(small, int) - expected).max() <= 3


def test_what_is_no_usable_picture_is_refused_with_a_reason(tmp_path: Path) -> None:
    good = _bytes(_picture(0, 60, 60), "JPEG")
    floats = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(floats, "TIFF")
    gif = _bytes(_picture(0).convert("P"), "GIF")
    for data, said in (
        (b"", "cannot identify"),
        (b"hello", "cannot identify"),
        (good[: len(good) // 2], "truncated"),
        (gif, "cannot identify"),  # a picture, but of no known training set
        (floats.getvalue(), "32 bits per channel"),
    ):
        with pytest.raises(BrokenPictureError, match=said):
            decode(io.BytesIO(data))
    with pytest.raises(BrokenPictureError, match="FileNotFoundError"):
        decode(tmp_path / "gone.png")


def _header(side: int) -> bytes:
    """A grey PNG as far as its pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BrokenPictureError, match="DecompressionBombError"):
        decode(io.BytesIO(_header(20000)))
    with (
        pytest.warns(Image.DecompressionBombWarning),  # all that Pillow does
        pytest.raises(BrokenPictureError, match="10000x10000 pixels are more than max_pixels="),
    ):
        decode(io.BytesIO(_header(10000)))
    with pytest.raises(BrokenPictureError, match="4x4 pixels are more than max_pixels=15"):
        decode(io.BytesIO(_bytes(Image.new("L", (4, 4)))), max_pixels=15)
    assert decode(io.BytesIO(_bytes(Image.new("L", (4, 4)))), max_pixels=16).size == (4, 4)


def test_max_pixels_is_bounded_by_what_pillow_refuses(twenty: Path) -> None:
    with pytest.raises(ValueError, match=r"PIL.Image.MAX_IMAGE_PIXELS=.* first\), got 10000"):
        ImageFolder(twenty, max_pixels=10**9)


def _dice() -> np.random.Generator:
    return random_at(0, 0, 0, 0)


def test_the_crop_is_cut_from_the_resized_picture() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (32, 64, 3))
    picture = Image.fromarray(np.ascontiguousarray(ramp))
    whole = np.asarray(picture.resize((32, 16), Image.Resampling.BICUBIC), np.float32) / 255
    cut = Transform(16, "center", flip=False)(picture, _dice())
    assert cut.shape == (3, 16, 16)
    assert cut.dtype == np.float32
    assert_close(cut, np.ascontiguousarray(whole[:, 8:24].transpose(2, 0, 1)), rtol=0, atol=0.005)
    kept = Transform((10, 20), "center", flip=False, resize=None)(picture, _dice())
    assert np.array_equal(kept[0] * 255, ramp[11:21, 22:42, 0])
    to_24 = Transform(16, "center", flip=False, resize=24)(picture, _dice())
    assert_close(to_24[0, 0, 15] - to_24[0, 0, 0], (15 * 64 / 48 * 4) / 255, rtol=0.05, atol=0)
    enlarged = Transform(128, "center")(picture, _dice())
    assert enlarged.shape == (3, 128, 128)
    assert Transform(8, grey=True)(picture, _dice()).shape == (1, 8, 8)


def test_crops_and_flips_reach_everywhere() -> None:
    ramp = Image.fromarray(np.tile(np.arange(20, dtype=np.uint8) * 10, (20, 1)))
    transform = Transform(17, resize=None, grey=True)
    corners = set()
    for i in range(100):
        row = np.rint(transform(ramp, random_at(0, 0, i, 0))[0, 0] * 25.5).astype(int)
        step = row[1] - row[0]
        assert np.array_equal(np.diff(row), np.full(16, step))
        corners.add((int(row.min()), int(step)))
    assert corners == {(left, step) for left in range(4) for step in (-1, 1)}


def test_pictures_smaller_than_the_crop_are_skipped_unless_resized(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["large.png"])
    (root / "small.png").write_bytes(_bytes(_picture(1, 8, 8)))
    for resize, skipped in ((None, ["small.png"]), ("short", [])):
        data = InpaintingDataset(ImageFolder(root), RECTANGLES, Transform(16, resize=resize))
        loader = make_loader(data, batch_size=2)
        (batch,) = loader
        assert batch.image.shape == (2, 3, 16, 16)
        assert list(loader.skipped) == skipped
        assert all("are less than the crop of 16x16" in why for why in loader.skipped.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 8, "crop": "left"}, "crop must be one of 'random', 'center', got 'left'"),
        ({"size": 8, "resize": "long"}, "resize must be one of 'short', got 'long'"),
        ({"size": 8, "resize": 7}, "resize must be at least 8, got 7"),
    ],
)
def test_wrong_transforms_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Transform(**options)


# ---- folders


def test_categories_are_sub_folders(tmp_path: Path) -> None:
    names = ["top.png", "a/airfield/1.jpg", "a/alley/2.PNG", "lobby/deep/3.webp"]
    root = _folder(tmp_path, names)

    def found(categories: Sequence[str] | None) -> list[str]:
        images = ImageFolder(root, categories)
        return [images.name(i) for i in range(len(images))]

    assert found(None) == sorted(names)
    assert found(["a"]) == ["a/airfield/1.jpg", "a/alley/2.PNG"]
    assert found(["lobby", "a/airfield"]) == ["a/airfield/1.jpg", "lobby/deep/3.webp"]
    for wrong in ("beach", "..", str(root / "a"), ""):
        with pytest.raises(FileNotFoundError, match=r"sub-folders of .* \(a, lobby\), got"):
            ImageFolder(root, [wrong])
    with pytest.raises(FileNotFoundError, match="root must be a folder"):
        ImageFolder(root / "top.png")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root = _folder(tmp_path / "set", ["a/1.png"])
    (root / "a" / "loop").symlink_to(root)
    _folder(tmp_path / "elsewhere", ["2.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    images = ImageFolder(root)
    assert [images.name(i) for i in range(len(images))] == ["a/1.png", "b/2.png"]


def test_foreign_files_are_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _folder(tmp_path, ["1.png"])
    (root / "list.txt").write_text("1.png")
    (root / ".DS_Store").write_text("")
    with caplog.at_level(logging.WARNING):
        images = ImageFolder(root)
    assert len(images) == 1
    assert set(images.skipped) == {".DS_Store", "list.txt"}
    assert "skipped 2 files that are not pictures: .DS_Store, list.txt" in caplog.text
    (root / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no picture in .* \(2 other files\)"):
        ImageFolder(root)


def test_splits_follow_from_name_and_seed(tmp_path: Path) -> None:
    root = _folder(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(20)])

    def part(name: str, seed: int = 1, per_category: int | None = None) -> list[str]:
        images = ImageFolder(root, split=(name, 0.9, seed), per_category=per_category)
        return [images.name(i) for i in range(len(images))]

    train, test = part("train"), part("test")
    assert sorted(train + test) == sorted(f"{c}/{i}.png" for c in "ab" for i in range(20))
    assert [name[0] for name in train] == ["a"] * 18 + ["b"] * 18
    assert part("train") == train
    assert part("test", seed=2) != test
    few = part("train", per_category=5)
    assert [name[0] for name in few] == ["a"] * 5 + ["b"] * 5
    assert set(few) < set(train)
    for split, said in (
        (("val", 0.9, 1), "part must be 'train' or 'test', got 'val'"),
        (("train", 1.0, 1), r"fraction must be in \(0, 1\), got 1.0"),
        (("train", 0.5, -1), "seed must be in"),
    ):
        with pytest.raises(ValueError, match=said):
            ImageFolder(root, split=split)
    with pytest.raises(ValueError, match="leave no picture"):
        ImageFolder(_folder(root / "c", ["1.png"]), split=("test", 0.9, 1))


# ---- CIFAR-10


def _cifar(root: Path, layout: str, each: int = 3) -> np.ndarray:
    """Small batches in a published layout; their pixels, (N, 3, 32, 32), test batch last."""
    pixels = random_at(3, 0, 0, 0).integers(0, 256, (6, each, 3072), np.uint8)
    folder = root / f"cifar-10-batches-{layout}"
    folder.mkdir(parents=True)
    for name, batch in zip(
        [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], pixels, strict=True
    ):
        if layout == "bin":
            labels = np.full((each, 1), 9, np.uint8)
            (folder / f"{name}.bin").write_bytes(np.hstack([labels, batch]).tobytes())
        else:
            content = {b"batch_label": b"x", b"labels": [0] * each, b"data": batch}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return pixels.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize("layout", ["bin", "py"])
def test_cifar_is_read_in_both_layouts(layout: str, tmp_path: Path) -> None:
    pixels = _cifar(tmp_path, layout)
    transform = Transform(32, "center", flip=False)
    for root in (tmp_path, tmp_path / f"cifar-10-batches-{layout}"):
        for train, expected in ((True, pixels[:15]), (False, pixels[15:])):
            data = InpaintingDataset(CIFAR10(root, train), RECTANGLES, transform)
            assert len(data) == len(expected)
            for i, wanted in enumerate(expected):
                assert_close(data[i].image, torch.from_numpy(wanted) / 255, rtol=0, atol=1e-6)
            assert data[2].name == ("data_batch_1/2" if train else "test_batch/2")
    held_out = CIFAR10(tmp_path, split=Split("test", 0.67, 1))
    kept = CIFAR10(tmp_path, split=Split("train", 0.67, 1))
    assert len(held_out) == 5
    assert {s.name(i) for s in (held_out, kept) for i in range(len(s))} == {
        f"data_batch_{b}/{i}" for b in range(1, 6) for i in range(3)
    }
    number = 3 * (int(held_out.name(0)[11]) - 1) + int(held_out.name(0)[13:])
    assert np.array_equal(np.asarray(held_out.load(0)).transpose(2, 0, 1), pixels[number])


def test_a_pickle_written_by_python_2_is_read(tmp_path: Path) -> None:
    """As numpy 1 under Python 2 left it: bytes are plain strings, the names are old."""
    pixels = bytes(range(256)) * 12
    data = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K"
        b"\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00"
        b"\x00" + pixels + b"tbs."
    )
    (tmp_path / "test_batch").write_bytes(data)
    loaded = np.asarray(CIFAR10(tmp_path, train=False).load(0))
    assert np.array_equal(loaded.transpose(2, 0, 1).ravel(), np.frombuffer(pixels, np.uint8))


class _Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_cifar_pickle_cannot_call_anything(tmp_path: Path) -> None:
    _cifar(tmp_path, "py")
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    trace = tmp_path / "trace"
    batch.write_bytes(pickle.dumps({b"data": _Malice(trace)}, protocol=2))
    with pytest.raises(
        ValueError, match=r"test_batch: UnpicklingError: asks for .*, which no CIFAR"
    ):
        CIFAR10(tmp_path, train=False)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({b"data": np.zeros((2, 3071), np.uint8)}, r"must have shape \(N, 3072\), got \(2, 3071\)"),
        ({b"data": np.zeros((2, 3072), np.float32)}, "must be of dtype uint8"),
        ({b"labels": [1]}, "holds no array 'data'"),
        ([1, 2], "holds no array 'data'"),
    ],
)
def test_a_cifar_pickle_of_something_else_is_an_error(
    content: object, said: str, tmp_path: Path
) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=said):
        CIFAR10(tmp_path, train=False)


def test_broken_cifar_files_are_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="root must hold cifar-10-batches-bin or"):
        CIFAR10(tmp_path)
    _cifar(tmp_path, "bin")
    folder = tmp_path / "cifar-10-batches-bin"
    whole = (folder / "test_batch.bin").read_bytes()
    for data, said in (
        (whole[:-1], "9218 bytes are not a multiple of 3073"),
        (b"", "0 bytes are not"),
        (b"\x0a" + whole[1:], r"labels must be in \[0, 9\], found 10"),
    ):
        (folder / "test_batch.bin").write_bytes(data)
        with pytest.raises(ValueError, match=said):
            CIFAR10(tmp_path, train=False)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3"):
        CIFAR10(tmp_path)
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "test_batch").write_bytes(b"\x80\x02}q\x00")
    with pytest.raises(ValueError, match="test_batch: "):
        CIFAR10(tmp_path / "py", train=False)


# ---- the loader


def test_samples_have_the_conventional_form(twenty: Path, tmp_path: Path) -> None:
    (batch, *_) = _loader(ImageFolder(twenty))
    assert batch.image.shape == (4, 3, 16, 16)
    assert batch.mask.shape == (4, 1, 16, 16)
    assert batch.image.dtype == batch.mask.dtype == torch.float32
    assert 0 <= batch.image.min() < 0.2
    assert 0.8 < batch.image.max() <= 1
    assert set(batch.mask.unique().tolist()) == {0, 1}
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (16, 16), 255).save(masks / "all.png")
    sample = InpaintingDataset(
        ImageFolder(twenty), MaskFolder(masks, "white=valid"), Transform(16)
    )[3]
    assert sample.mask.eq(1).all(), "1 is valid"
    assert sample.name == "03.png"


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_batches_do_not_depend_on_the_number_of_workers(
    form: str, twenty: Path, tmp_path: Path
) -> None:
    """Two epochs in a row: none, one, two workers; and a dataset that went through pickle."""

    def images() -> ImageFolder | TarShards:
        if form == "folder":
            return ImageFolder(twenty)
        return TarShards(sorted(tmp_path.glob("*.tar")), shuffle_buffer=5)

    _shards(tmp_path)
    plain = _loader(images())
    first, second = list(plain), list(plain)
    assert len(first) == (5 if form == "folder" else 6)
    assert sorted(_names(first)) == sorted(_names(second))
    assert len(set(_names(first))) == 4 * len(first)
    assert _names(first) != _names(second)
    for workers in (1, 2):
        loader = _loader(images(), workers)
        assert _same(list(loader), first)
        assert _same(list(loader), second)
    copy = pickle.loads(pickle.dumps(plain.dataset))
    assert _same(list(make_loader(copy, 4)), first)


def test_crop_and_mask_change_with_epoch_and_picture(twenty: Path) -> None:
    loader = _loader(ImageFolder(twenty))
    epochs = [
        {n: s for b in loader for n, *s in zip(b.names, b.image, b.mask, strict=True)}
        for _ in range(2)
    ]
    assert len({mask.numpy().tobytes() for epoch in epochs for _, mask in epoch.values()}) == 40
    moved = [not torch.equal(epochs[0][n][0], epochs[1][n][0]) for n in epochs[0]]
    assert sum(moved) > 10
    other = InpaintingDataset(ImageFolder(twenty), RECTANGLES, Transform(16), seed=6)
    assert not torch.equal(other[0].mask, loader.dataset[0].mask)
    assert _names(make_loader(other, 4)) != list(epochs[0])


@pytest.mark.parametrize("form", ["folder", "shards"])
def test_a_run_resumes_in_the_middle_of_an_epoch(form: str, twenty: Path, tmp_path: Path) -> None:
    def images() -> ImageFolder | TarShards:
        return ImageFolder(twenty) if form == "folder" else TarShards(_shards(tmp_path))

    whole = _loader(images())
    expected = [*whole, *whole, *whole]
    each = len(expected) // 3
    interrupted = _loader(images(), workers=2)
    list(interrupted)
    list(islice(interrupted, 2))  # workers are further ahead by then
    state = interrupted.state_dict()
    assert state["epoch"] == 1
    assert state["position"] == 8
    resumed = _loader(images(), workers=1)
    resumed.load_state_dict(state)
    torch.manual_seed(0)  # torch's own generator has no part in it, and is left alone
    before = torch.get_rng_state()
    assert _same([*resumed, *resumed], expected[each + 2 :])
    assert torch.equal(torch.get_rng_state(), before)
    assert resumed.state_dict()["epoch"] == 3


def test_a_state_after_the_last_batch_goes_on_with_the_next_epoch(twenty: Path) -> None:
    loader = _loader(ImageFolder(twenty))
    states = [(batch, loader.state_dict()) for batch in loader]
    resumed = _loader(ImageFolder(twenty))
    resumed.load_state_dict(states[-1][1])
    assert list(resumed) == []
    assert _same(list(resumed), list(loader))


def test_a_state_of_another_run_is_refused(twenty: Path, tmp_path: Path) -> None:
    state = _loader(ImageFolder(twenty)).state_dict()
    with pytest.raises(ValueError, match="a run with round=4, this one has 5"):
        _loader(ImageFolder(twenty), batch_size=5).load_state_dict(state)
    with pytest.raises(ValueError, match="a run with pictures=20, this one has None"):
        _loader(TarShards(_shards(tmp_path))).load_state_dict(state)
    with pytest.raises(ValueError, match="a run with seed=4, this one has 5"):
        _loader(ImageFolder(twenty)).load_state_dict({**state, "seed": 4})
    with pytest.raises(ValueError, match="position must be at least 0, got -4"):
        _loader(ImageFolder(twenty)).load_state_dict({**state, "position": -4})
    with pytest.raises(ValueError, match="state must hold epoch, position, seed, round, pictures"):
        _loader(ImageFolder(twenty)).load_state_dict({"epoch": 1})
    _loader(ImageFolder(twenty), batch_size=2, world_size=2).load_state_dict(state)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("form", ["folder", "shards"])
def test_processes_share_each_epoch_without_overlap(
    form: str, world: int, twenty: Path, tmp_path: Path
) -> None:
    images = ImageFolder(twenty) if form == "folder" else TarShards(_shards(tmp_path))
    total = 20 if form == "folder" else 24
    for drop_last in (True, False):
        alone = _names(_loader(images, batch_size=2 * world, drop_last=drop_last))
        ranks = [
            _loader(images, batch_size=2, rank=r, world_size=world, drop_last=drop_last)
            for r in range(world)
        ]
        shares = [[_names([batch]) for batch in loader] for loader in ranks]
        seen = [name for share in shares for batch in share for name in batch]
        assert len(set(seen)) == len(seen)
        assert sorted(seen) == sorted(alone)
        assert len(seen) == (total // (2 * world) * 2 * world if drop_last else total)
        if drop_last:
            assert len({len(share) for share in shares}) == 1
        if form == "folder":
            assert [len(loader) for loader in ranks] == [len(share) for share in shares]


def test_order_and_rank_are_checked(twenty: Path, tmp_path: Path) -> None:
    images = ImageFolder(twenty)
    in_order = ResumableSampler(images, 3, shuffle=False, drop_last=False)
    assert [[item.key for item in batch] for batch in in_order] == [
        list(range(i, min(i + 3, 20))) for i in range(0, 20, 3)
    ]
    with pytest.raises(ValueError, match="rank must be below world_size=2, got 2"):
        ResumableSampler(images, 4, rank=2, world_size=2)
    with pytest.raises(ValueError, match="20 pictures do not fill a round of batch_size=21 times"):
        ResumableSampler(images, 21)
    with pytest.raises(TypeError, match="their length is not known"):
        len(_loader(TarShards(_shards(tmp_path))))
    with pytest.raises(IndexError, match=r"index must be in \[0, 20\), got 20"):
        _loader(images).dataset[20]


# ---- signals


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_leave_signals_to_their_parent(twenty: Path, start_method: str) -> None:
    data = InpaintingDataset(ImageFolder(twenty), RECTANGLES, Transform(16), seed=5)
    loader = make_loader(data, 4, workers=1, prefetch=1, start_method=start_method)
    before = multiprocessing.active_children()
    batches = iter(loader)
    next(batches)
    (worker,) = [child for child in multiprocessing.active_children() if child not in before]
    assert worker.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    assert len(list(batches)) == 4
    assert worker.is_alive()


# ---- broken files


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_replaced_named_once_and_counted(
    workers: int, twenty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("03.png", "04.png", "19.png"):
        (twenty / name).write_bytes(b"broken")
    loader = _loader(ImageFolder(twenty), workers)
    with caplog.at_level(logging.WARNING):
        epochs = [list(loader) for _ in range(3)]
    assert all(batch.image.shape[0] == 4 for epoch in epochs for batch in epoch)
    counts = {name: _names(epochs[0]).count(name) for name in _names(epochs[0])}
    assert counts.pop("05.png") == 3, "the next good one"
    assert counts.pop("00.png") == 2, "after the last comes the first"
    assert set(counts.values()) == {1}
    assert set(loader.skipped) == {"03.png", "04.png", "19.png"}
    assert caplog.text.count("skipped ") == 3
    assert "(3 so far)" in caplog.text
    assert _same(epochs[0], list(_loader(ImageFolder(twenty), 1)))


def test_a_batch_tells_only_of_what_it_has_found_itself(twenty: Path, tmp_path: Path) -> None:
    masks = _folder(tmp_path / "masks", ["00.png", "01.png"])
    for path in (twenty / "01.png", twenty / "06.png", masks / "01.png"):
        path.write_bytes(b"broken")
    source = FixedMasks(1, OneOf([MaskFolder(masks, "white=hole")]))
    data = InpaintingDataset(ImageFolder(twenty), source, Transform(16), seed=5, broken="drop")
    told = [set(data.__getitems__([Item(0, i, i) for i in range(j, j + 4)]).skipped)
            for j in (0, 4, 0)]  # fmt: skip
    assert told[0] - {str(masks / "01.png")} == {"01.png"}
    assert told[1:] == [{"06.png"}, set()]


def test_evaluation_leaves_broken_files_out(twenty: Path) -> None:
    for name in ("00.png", "01.png", "02.png", "03.png", "06.png"):
        (twenty / name).write_bytes(b"broken")
    loader = _loader(ImageFolder(twenty), broken="drop", shuffle=False)
    batches = list(loader)
    assert [len(batch.names) for batch in batches] == [3, 4, 4, 4]
    assert len(loader.skipped) == 5


def test_an_epoch_without_a_usable_picture_is_an_error(twenty: Path, tmp_path: Path) -> None:
    for path in twenty.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(RuntimeError, match="20 pictures in a row cannot be used"):
        list(_loader(ImageFolder(twenty)))
    with pytest.raises(RuntimeError, match="20 pictures in a row cannot be used"):
        list(_loader(ImageFolder(twenty), workers=1))
    with pytest.raises(RuntimeError, match="no batch in the whole epoch: 20 files could not be"):
        list(_loader(ImageFolder(twenty), broken="drop"))
    shard = _shard(tmp_path / "bad.tar", {f"{i}.png": b"broken" for i in range(4)})
    with pytest.raises(RuntimeError, match="no batch in the whole epoch: 4 files could not be"):
        list(_loader(TarShards(shard)))
    with pytest.raises(RuntimeError, match="no picture of a batch can be used"):
        list(_loader(TarShards(shard), batch_size=2, world_size=2))


def test_broken_masks_found_by_workers_are_counted(twenty: Path, tmp_path: Path) -> None:
    masks = _folder(tmp_path / "masks", ["00.png", "01.png"])
    (masks / "01.png").write_bytes(b"broken")
    data = InpaintingDataset(
        ImageFolder(twenty), MaskFolder(masks, "white=hole"), Transform(16), seed=5
    )
    loader = make_loader(data, 4, workers=2)
    assert len(list(loader)) == 5
    assert set(loader.skipped) == {str(masks / "01.png")}


# ---- tar shards


def test_shards_are_read_by_name_pattern_split_and_category(tmp_path: Path) -> None:
    for s in range(2):
        members = {f"{c}/{s}{i}.png": _bytes(_picture(i)) for c in "ab" for i in range(20)}
        members |= {f"a/{s}0.json": b"{}", "a/none.txt": b""}
        _shard(tmp_path / f"set-{s}.tar", members)
    pattern = str(tmp_path / "set-{0..1}.tar")

    def names(shards: TarShards, shuffle: bool = False) -> list[str]:
        return [packed.name for packed in shards.stream(1, 0, shuffle)]

    everything = names(TarShards(pattern))
    assert len(set(everything)) == 80
    assert everything[0] == f"{tmp_path / 'set-0.tar'}/a/00.png"
    assert [name for name in everything if "/b/" in name] == names(
        TarShards(pattern, categories=["b"])
    )
    parts = [names(TarShards(pattern, Split(part, 0.7, 3))) for part in ("train", "test")]
    assert sorted(parts[0] + parts[1]) == sorted(everything)
    assert 40 < len(parts[0]) < 70
    assert sorted(names(TarShards(pattern, shuffle_buffer=10), shuffle=True)) == sorted(everything)


def test_addresses_that_run_programs_are_refused(tmp_path: Path) -> None:
    for url in ("pipe:touch x", "-", "file://x.tar", "gs://bucket/x.tar"):
        with pytest.raises(ValueError, match="must be paths or http"):
            TarShards(url)
    with pytest.raises(FileNotFoundError, match=r"there is no shard .*1\.tar"):
        TarShards([_shards(tmp_path, 1)[0], tmp_path / "1.tar"])
    with pytest.raises(ValueError, match="urls must name at least one shard"):
        TarShards([])


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_shards_and_pictures_are_skipped_and_named(
    workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, cut, garbage = _shards(tmp_path)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: 3 * 2048 + 700])  # three pictures and a part of the fourth
    garbage.write_bytes(b"no tar" * 1000)
    broken = _shard(tmp_path / "3.tar", {"bad.png": b"bad", "ok.png": _bytes(_picture(9))})
    loader = _loader(TarShards([good, cut, garbage, broken]), workers, batch_size=3)
    with caplog.at_level(logging.WARNING):
        batches = [*loader, *loader]
    assert all(len(batch.names) == 3 for batch in batches)
    assert len(batches) == 8, "8 + 3 + 1 good ones and a replaced one, of which 12 fill batches"
    assert set(loader.skipped) == {str(cut), str(garbage), f"{broken}/bad.png"}
    assert caplog.text.count("skipped ") == 3


def test_the_next_of_the_batch_replaces_a_broken_picture_of_a_shard(tmp_path: Path) -> None:
    members = {f"{i}.png": _bytes(_picture(i)) for i in range(8)}
    members |= {"1.png": b"broken", "7.png": b"broken"}
    first, second = _loader(TarShards(_shard(tmp_path / "0.tar", members)), shuffle=False)
    assert _names([first]) == ["0.png", "2.png", "2.png", "3.png"]
    assert _names([second]) == ["4.png", "5.png", "6.png", "4.png"]
    assert not torch.equal(first.mask[1], first.mask[2]), "each place has its own mask"


def test_reading_ahead_hands_over_errors_and_ends_its_thread() -> None:
    assert list(read_ahead(range(10))) == list(range(10))
    started = []

    def endless() -> Iterator[int]:
        while True:
            started.append(1)
            yield len(started)

    ahead = iter(read_ahead(endless(), depth=2))
    assert [next(ahead), next(ahead)] == [1, 2]
    assert any(thread.name == "read ahead" for thread in threading.enumerate())
    del ahead
    assert not any(thread.name == "read ahead" for thread in threading.enumerate())
    assert len(started) <= 6

    def failing() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    ahead = iter(read_ahead(failing()))
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


# ---- without the extra


def test_the_networks_need_none_of_it_and_training_says_what_it_needs() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['cv2', 'webdataset', 'PIL']))\n"
        "import inpaint_models\n"
        "assert 'pconv_unet' in inpaint_models.list_models()\n"
        "import inpaint_models.training\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip().splitlines()[-1] == (
        "inpaint_models.errors.MissingPackageError: "
        "inpaint_models.training needs opencv-python-headless, pillow, webdataset: "
        "pip install 'inpaint_ops[train]'"
    )
