"""Where pictures come from: folders, CIFAR-10, tar shards.

A source opens a picture by key. Keys of `ImageFolder` and `CIFAR10` are the numbers below
`len(source)`; those of `TarShards`, which is read from front to back, are the packed pictures.
`skipped` holds what was found unusable, name to reason.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from ..checks import check_at_least
from ..pictures import EXTENSIONS, MAX_PIXELS
from .decoding import check_max_pixels, decode
from .randomness import ORDER, check_seed, random_at

log = logging.getLogger(__name__)

NO_PICTURE = "not a picture by its extension"


class Split(NamedTuple):
    """One of two parts of a set; which part a picture is in depends on its name and the seed only.

    Attributes:
        part: "train" or "test".
        fraction: what goes to "train", in (0, 1).
        seed: another seed, another split.
    """

    part: str
    fraction: float
    seed: int = 0


class Packed(NamedTuple):
    """A picture still encoded, with its name."""

    name: str
    data: bytes


class PictureSet(Protocol):
    """Pictures by number."""

    skipped: dict[str, str]

    def __len__(self) -> int: ...

    def name(self, key: int) -> str:
        """What to call the picture in logs and results."""
        ...

    def load(self, key: int, at_least: int | None = None) -> Image.Image:
        """The picture in RGB, see `decoding.decode`; raises BrokenPictureError."""
        ...


class ImageFolder:
    """The pictures below a folder, sub-folders included, sorted by name.

    Places2, Places205 and CelebA are read as unpacked. Files that are not pictures by their
    extension are left out and listed in `skipped`.

    Args:
        root: the folder.
        categories: sub-folders to take, as "airfield" or "a/airfield"; None takes everything.
        split: which part of the set; each folder is split by itself.
        per_category: at most so many pictures of each folder, drawn by the split's seed (0 without
            a split).
        max_pixels: larger pictures are refused.

    Raises:
        FileNotFoundError: no such folder or category, or no picture in it.
    """

    def __init__(
        self,
        root: str | Path,
        categories: Sequence[str] | None = None,
        split: Split | tuple[str, float, int] | None = None,
        per_category: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.root = Path(root)
        self.max_pixels = max_pixels
        check_max_pixels(max_pixels)
        if per_category is not None:
            check_at_least("per_category", per_category, 1)
        names, others = list_pictures(self.root, categories)
        self.skipped = dict.fromkeys(others, NO_PICTURE)
        if split is not None or per_category is not None:
            names = _choose(names, _checked_split(split), per_category)
        if not names:
            raise ValueError(f"split={split}, per_category={per_category} leave no picture")
        # One block of bytes: a list of a million strings would be copied into every worker, page by
        # page, as their reference counts change.
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self._names)

    def name(self, key: int) -> str:
        """The path below the root."""
        return os.fsdecode(bytes(self._names[key]))

    def load(self, key: int, at_least: int | None = None) -> Image.Image:
        """The picture in RGB; raises BrokenPictureError."""
        return decode(self.root / self.name(key), self.max_pixels, at_least)


class CIFAR10:
    """CIFAR-10 in one of its published layouts, cifar-10-batches-bin or cifar-10-batches-py.

    The Python layout is a pickle; it is read by an unpickler that knows arrays of bytes, strings,
    numbers and lists, and can create or call nothing else.

    Args:
        root: the unpacked folder, or the one that holds it.
        train: the five training batches (50,000 pictures), or the test batch (10,000).
        split: a part of those, to hold some training pictures out for validation.

    Raises:
        FileNotFoundError: neither layout is there, or a batch is missing.
        ValueError: a batch is not what was published.
    """

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        split: Split | tuple[str, float, int] | None = None,
    ) -> None:
        from .cifar import read_batches

        batches = read_batches(Path(root), train)
        self.skipped: dict[str, str] = {}
        self._pixels = np.concatenate(list(batches.values()))  # (N, 3, 32, 32) uint8
        self._names = [
            f"{batch}/{i}" for batch, pixels in batches.items() for i in range(len(pixels))
        ]
        if split is not None:
            number = {name: i for i, name in enumerate(self._names)}
            self._names = sorted(
                _choose(self._names, _checked_split(split), None), key=number.__getitem__
            )
            self._pixels = self._pixels[[number[name] for name in self._names]]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, key: int) -> str:
        """Batch and number in it, "data_batch_1/0"."""
        return self._names[key]

    def load(self, key: int, at_least: int | None = None) -> Image.Image:
        """The picture, 32x32."""
        return Image.fromarray(np.ascontiguousarray(self._pixels[key].transpose(1, 2, 0)))


class TarShards:
    """Pictures packed in tar files, read from front to back by the webdataset library.

    Every process of a distributed run reads all shards and decodes its share. Broken shards are
    listed in `skipped`, and reading goes on with the next; one that was cut off between two members
    reads like a shorter one.

    Args:
        urls: paths or http(s) addresses, one or several, with braces: "places-{000..099}.tar".
        split: which part of the set, by the name of each picture; sizes are met on average.
        categories: first folders of the names inside the shards; None takes everything.
        shuffle_buffer: so many encoded pictures are held in memory and drawn at random; the order
            of shards is shuffled too.
        max_pixels: larger pictures are refused.

    Raises:
        FileNotFoundError: a local shard is not there.
        ValueError: an address of another kind.
    """

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        split: Split | tuple[str, float, int] | None = None,
        categories: Sequence[str] | None = None,
        shuffle_buffer: int = 1000,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        from webdataset.shardlists import expand_urls

        listed = [urls] if isinstance(urls, (str, Path)) else urls
        self.urls: list[str] = [one for url in listed for one in expand_urls(str(url))]
        if not self.urls:
            raise ValueError("urls must name at least one shard, got none")
        for url in self.urls:
            _check_url(url)
        check_at_least("shuffle_buffer", shuffle_buffer, 1)
        check_max_pixels(max_pixels)
        self.split = None if split is None else _checked_split(split)
        self.categories = None if categories is None else frozenset(categories)
        self.shuffle_buffer = shuffle_buffer
        self.max_pixels = max_pixels
        self.skipped: dict[str, str] = {}

    def stream(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Packed]:
        """The pictures of an epoch, still encoded, in an order that depends on the arguments only.

        Without `shuffle` they come as they lie in the shards.
        """
        if not shuffle:
            return self._read(self.urls)
        from webdataset import filters

        dice = random_at(seed, epoch, 0, ORDER)
        pictures = self._read([self.urls[i] for i in dice.permutation(len(self.urls))])
        python_dice = random.Random(int(dice.integers(2**63)))
        mixed: Iterator[Packed] = filters.shuffle(
            self.shuffle_buffer, initial=self.shuffle_buffer, rng=python_dice
        )(pictures)
        return mixed

    def name(self, key: Packed) -> str:
        """Shard and path in it."""
        return key.name

    def load(self, key: Packed, at_least: int | None = None) -> Image.Image:
        """The picture in RGB; raises BrokenPictureError."""
        return decode(io.BytesIO(key.data), self.max_pixels, at_least)

    def _read(self, urls: Iterable[str]) -> Iterator[Packed]:
        from webdataset.tariterators import tarfile_samples

        for url in urls:
            samples = tarfile_samples(
                [{"url": url}], handler=self._note(url), select_files=_is_picture
            )
            for sample in samples:
                key = str(sample["__key__"])
                if self._wants(key):
                    suffix = _picture_suffix(sample)
                    yield Packed(f"{url}/{key}.{suffix}", sample[suffix])

    def _note(self, url: str) -> Callable[[Exception], bool]:
        def note(error: Exception) -> bool:
            self.skipped.setdefault(url, f"the rest of the shard: {type(error).__name__}: {error}")
            return True  # go on

        return note

    def _wants(self, key: str) -> bool:
        if self.categories is not None:
            folder, slash, _ = key.removeprefix("./").partition("/")
            if not slash or folder not in self.categories:
                return False
        if self.split is None:
            return True
        share = int.from_bytes(_digest(self.split.seed, key)[:8], "big") / 2**64
        return (share < self.split.fraction) == (self.split.part == "train")


def list_pictures(
    root: Path, categories: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Paths below `root`, sorted: files that are pictures by their extension, and the others.

    The others go into one line of the log. Links to folders are followed, each folder once.

    Raises:
        FileNotFoundError: no such folder or category, or no picture in it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"root must be a folder, got {str(root)!r}")
    tops = [root]
    if categories is not None:
        tops = [_category(root, name) for name in categories]
        if not tops:
            raise ValueError("categories must name at least one sub-folder, or be None for all")
    names: set[str] = set()
    others: set[str] = set()
    seen: set[str] = set()
    for top in tops:
        for folder, below, files in os.walk(top, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            below.sort()
            prefix = Path(folder).relative_to(root)
            for file in files:
                name = (prefix / file).as_posix()
                (names if _is_picture(file) else others).add(name)
    if not names:
        raise FileNotFoundError(f"no picture in {root} ({len(others)} other files)")
    if others:
        some = ", ".join(sorted(others)[:20]) + (", ..." if len(others) > 20 else "")
        log.warning("%s: skipped %d files that are not pictures: %s", root, len(others), some)
    return sorted(names), sorted(others)


def _category(root: Path, name: str) -> Path:
    folder = root / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not name or not inside or not folder.is_dir():
        there = sorted(p.name for p in root.iterdir() if p.is_dir())
        some = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
        raise FileNotFoundError(
            f"categories must be sub-folders of {root} ({some or 'it has none'}), got {name!r}"
        )
    return folder


def _checked_split(split: Split | tuple[str, float, int] | None) -> Split:
    """`split` as a Split; None is a draw with seed 0 that leaves nothing out."""
    if split is None:
        return Split("train", 1.0, 0)
    part, fraction, seed = split
    if part not in ("train", "test"):
        raise ValueError(f"split's part must be 'train' or 'test', got {part!r}")
    if not 0 < fraction < 1:
        raise ValueError(f"split's fraction must be in (0, 1), got {fraction}")
    check_seed(seed)
    return Split(part, fraction, seed)


def _choose(names: Sequence[str], split: Split, most: int | None) -> list[str]:
    """The split's part of each folder, sorted; of that, the first `most` in the split's order."""
    chosen: list[str] = []
    by_folder = sorted(names, key=lambda name: (name.rpartition("/")[0], name))
    for _, group in groupby(by_folder, key=lambda name: name.rpartition("/")[0]):
        drawn = sorted(group, key=lambda name: _digest(split.seed, name))
        cut = round(split.fraction * len(drawn))
        part = drawn[:cut] if split.part == "train" else drawn[cut:]
        chosen += part[:most]
    return sorted(chosen)


def _digest(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _check_url(url: str) -> None:
    scheme, colon, _ = url.partition("://")
    if colon and scheme in ("http", "https"):
        return
    # webdataset would run "pipe:command" in a shell, and read "-" from the terminal.
    if colon or url.startswith("pipe:") or url == "-":
        raise ValueError(f"urls must be paths or http(s) addresses of tar files, got {url!r}")
    if not Path(url).is_file():
        raise FileNotFoundError(f"urls: there is no shard {url!r}")


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _picture_suffix(sample: dict[str, Any]) -> str:
    """Of several pictures under one key the one with the shortest suffix: "jpg", not "seg.png"."""
    suffixes = [suffix for suffix in sample if not suffix.startswith("__")]
    return min(suffixes, key=lambda suffix: (suffix.count("."), suffix))
