"""Pictures with masks, batch by batch: transform, dataset, order, loader.

>>> data = InpaintingDataset(
...     ImageFolder("places", ["airfield", "lobby"]), Rectangles(), Transform(256), seed=1
... )
>>> loader = make_loader(data, batch_size=16, workers=4)
>>> for batch in loader:   # an epoch; the next loop is the next epoch
...     step(batch.image, batch.mask)
...     state = loader.state_dict()   # resume: make_loader(...).load_state_dict(state)
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from ctypes import c_bool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..checks import check_at_least, check_choice
from ..errors import DataError, one_line
from .decoding import BrokenPictureError
from .masks import MaskSource, all_skipped
from .randomness import CROP, MASK, ORDER, check_seed, random_at
from .signals import ignore_signals
from .sources import Packed, PictureSet, TarShards

log = logging.getLogger(__name__)

T = TypeVar("T")

CROPS = ("random", "center")
RUN_OF_BROKEN = 1000
"""So many unusable pictures in a row are no accident: the loader stops with an error."""


class Sample(NamedTuple):
    """One picture.

    Attributes:
        image: (3, H, W), or (1, H, W) in grey; float32 in [0, 1].
        mask: (1, H, W), float32, 1 = valid, 0 = hole.
        name: where the picture comes from.
    """

    image: Tensor
    mask: Tensor
    name: str


class Batch(NamedTuple):
    """Several pictures: image (N, C, H, W), mask (N, 1, H, W), N names; see Sample.

    For evaluation the mask may be (1, 1, H, W), and the image NaN where it was never measured.
    `corners` (N, 2), on the CPU, say where a local discriminator looks at filled pictures; see
    `System.prepare`.
    """

    image: Tensor
    mask: Tensor
    names: list[str]
    corners: Tensor | None = None


class Item(NamedTuple):
    """What to load, and the address of its random numbers."""

    epoch: int
    number: int
    key: int | Packed


class Delivery(NamedTuple):
    """What a worker hands over.

    Attributes:
        batch: None if nothing in it was usable.
        skipped: what this batch has found unusable.
        error: why the loader must stop, or None. As an exception a worker would wrap it.
    """

    batch: Batch | None
    skipped: dict[str, str]
    error: str | None = None


@dataclass(frozen=True)
class Transform:
    """Resize, crop, mirror, and bring to floating point.

    Attributes:
        size: of the result: one side, or height and width.
        crop: "random" or "center".
        flip: mirrors every other picture, left to right.
        resize: "short" scales the picture, up or down, so that the crop just fits; a number scales
            its shorter side to so many pixels; None keeps the scale, and pictures that are smaller
            than the crop are skipped.
        grey: one channel instead of three.
    """

    size: int | tuple[int, int]
    crop: str = "random"
    flip: bool = True
    resize: str | int | None = "short"
    grey: bool = False

    def __post_init__(self) -> None:
        for side in self.shape:
            check_at_least("size", side, 1)
        check_choice("crop", self.crop, CROPS)
        if isinstance(self.resize, str):
            check_choice("resize", self.resize, ("short",))
        elif self.resize is not None:
            check_at_least("resize", self.resize, max(self.shape))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def at_least(self) -> int | None:
        """The length that no side is scaled above, if every large picture is scaled down."""
        if self.resize is None:
            return None
        return max(self.shape) if isinstance(self.resize, str) else self.resize

    def __call__(self, picture: Image.Image, dice: np.random.Generator) -> NDArray[np.float32]:
        """(C, H, W) in [0, 1]; raises BrokenPictureError if the picture is too small."""
        height, width = self.shape
        scale = 1.0
        if self.resize == "short":
            scale = max(height / picture.height, width / picture.width)
        elif isinstance(self.resize, int):
            scale = self.resize / min(picture.height, picture.width)
        # Of the whole picture as if it were scaled; only the crop is.
        tall, wide = round(scale * picture.height), round(scale * picture.width)
        if tall < height or wide < width:
            raise BrokenPictureError(
                f"{picture.width}x{picture.height} pixels are less than the crop of "
                f"{width}x{height}, and resize is None"
            )
        down, right, mirror = dice.random(3) if self.crop == "random" else (0.5, 0.5, dice.random())
        top, left = int(down * (tall - height + 1)), int(right * (wide - width + 1))
        y, x = picture.height / tall, picture.width / wide
        # Rounding must not carry the box over the edge, which Pillow refuses.
        right_edge = min((left + width) * x, picture.width)
        box = (left * x, top * y, right_edge, min((top + height) * y, picture.height))
        cut = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(cut.convert("L") if self.grey else cut, np.float32) / 255
        pixels = pixels.reshape(height, width, -1).transpose(2, 0, 1)
        if self.flip and mirror < 0.5:
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(pixels)


class InpaintingDataset(Dataset[Sample]):
    """Pictures with masks; crop, mirroring and mask follow from (seed, epoch, number) alone.

    Pictures that cannot be used are listed in `images.skipped`. With `broken="replace"` another one
    takes the place, with the crop and the mask of that place, so that batches keep their size: the
    next usable one of the source, or, from tar shards, of the same batch. With "drop" the place
    stays empty and the batch is smaller: for evaluation, where no picture may count twice.

    Args:
        images: an ImageFolder, CIFAR10 or TarShards.
        masks: a generator or folder of masks.
        transform: how pictures are brought to their size.
        seed: another seed, other crops, masks and order.
        broken: "replace" or "drop".
    """

    def __init__(
        self,
        images: PictureSet | TarShards,
        masks: MaskSource,
        transform: Transform,
        seed: int = 0,
        broken: str = "replace",
    ) -> None:
        check_seed(seed)
        check_choice("broken", broken, ("replace", "drop"))
        self.images = images
        self.masks = masks
        self.transform = transform
        self.seed = seed
        self.broken = broken

    def __len__(self) -> int:
        if isinstance(self.images, TarShards):
            raise TypeError("tar shards are read from front to back: their length is not known")
        return len(self.images)

    def __getitem__(self, item: int | Item) -> Sample:
        """One sample; a plain number stands for epoch 0.

        Raises:
            BrokenPictureError: the picture cannot be used, and none takes its place.
        """
        if isinstance(item, int):
            if not 0 <= item < len(self):
                raise IndexError(f"index must be in [0, {len(self)}), got {item}")
            item = Item(0, item, item)
        if isinstance(item.key, Packed) or self.broken == "drop":
            return self._load(item, item.key)
        return self._load_or_next(item, item.key)

    def __getitems__(self, items: Sequence[Item]) -> Delivery:
        """What DataLoader asks a worker for: a whole batch."""
        before = [len(skipped) for skipped in self._all_skipped()]
        try:
            samples = self._usable(items)
            batch, error = _stack(samples) if samples else None, None
        except DataError as caught:
            batch, error = None, str(caught)
        new: dict[str, str] = {}
        for count, skipped in zip(before, self._all_skipped(), strict=True):
            if len(skipped) > count:
                # A copy first: a thread that reads tar shards may be adding to it.
                new |= list(skipped.items())[count:]
        return Delivery(batch, new, error)

    def _usable(self, items: Sequence[Item]) -> list[Sample]:
        places: list[Sample | None] = []
        for item in items:
            try:
                places.append(self[item])
            except BrokenPictureError:
                places.append(None)
        if self.broken == "replace":
            usable = [i for i, sample in enumerate(places) if sample is not None]
            for i, sample in enumerate(places):
                if sample is None and usable:
                    other = next((j for j in usable if j > i), usable[0])
                    places[i] = self._load(items[i], items[other].key)
        return [sample for sample in places if sample is not None]

    def _all_skipped(self) -> list[dict[str, str]]:
        """The dictionaries themselves, which only grow."""
        return [self.images.skipped, *all_skipped(self.masks)]

    def _load(self, item: Item, key: Any) -> Sample:
        """The picture of `key` with the random numbers of `item`."""
        name = self.images.name(key)
        if name in self.images.skipped:
            raise BrokenPictureError(self.images.skipped[name])
        try:
            picture = self.images.load(key, self.transform.at_least)
            image = self.transform(picture, random_at(self.seed, item.epoch, item.number, CROP))
        except BrokenPictureError as error:
            self.images.skipped[name] = str(error)
            raise
        height, width = self.transform.shape
        hole = self.masks(random_at(self.seed, item.epoch, item.number, MASK), height, width)
        valid = (~hole[None]).astype(np.float32)
        return Sample(torch.from_numpy(image), torch.from_numpy(valid), name)

    def _load_or_next(self, item: Item, first: int) -> Sample:
        tries = min(len(self), RUN_OF_BROKEN)
        for step in range(tries):
            try:
                return self._load(item, (first + step) % len(self))
            except BrokenPictureError as error:
                last = error
        raise DataError(
            f"{tries} pictures in a row cannot be used, from number {first} on; the last: {last}"
        )


def _stack(samples: Sequence[Sample]) -> Batch:
    return Batch(
        torch.stack([s.image for s in samples]),
        torch.stack([s.mask for s in samples]),
        [s.name for s in samples],
    )


class ResumableSampler(Sampler[list[Item]]):
    """The order of an epoch, a function of (seed, epoch), in batches for one process of several.

    An epoch is cut into rounds of `batch_size * world_size` pictures. Each process takes every
    `world_size`-th picture of a round, so a state can be resumed by any number of processes as
    long as the rounds stay as large.

    `position` counts pictures, of all processes, that are done with in this epoch; iterating starts
    there and does not move it, because a loader reads ahead: `advance` does.

    Args:
        images: what is ordered; tar shards come in their own shuffled order.
        batch_size: pictures in a batch of one process.
        seed: another seed, another order.
        shuffle: False keeps the source's order.
        rank: number of this process, below `world_size`.
        world_size: number of processes.
        drop_last: leaves out a last round that is not full. Otherwise each picture comes exactly
            once, and the last batch may be smaller in some processes, or missing.
    """

    def __init__(
        self,
        images: PictureSet | TarShards,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> None:
        check_at_least("batch_size", batch_size, 1)
        check_at_least("world_size", world_size, 1)
        check_at_least("rank", rank, 0)
        check_seed(seed)
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size={world_size}, got {rank}")
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = 0
        self.position = 0
        if not isinstance(images, TarShards) and drop_last and len(images) < self.round:
            raise ValueError(
                f"{len(images)} pictures do not fill a round of batch_size={batch_size} times "
                f"world_size={world_size}: lower it, or drop_last=False"
            )

    @property
    def round(self) -> int:
        """Pictures in one batch of every process."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches of a whole epoch in this process; TypeError for tar shards."""
        if isinstance(self.images, TarShards):
            raise TypeError("tar shards are read from front to back: their length is not known")
        full, rest = divmod(len(self.images), self.round)
        return full + (not self.drop_last and rest > self.rank)

    def __iter__(self) -> Iterator[list[Item]]:
        """The batches from `position` on."""
        rounds = self._rounds()
        if isinstance(self.images, TarShards):
            return read_ahead(rounds)
        return rounds

    def advance(self) -> None:
        """A round is done."""
        self.position += self.round

    def next_epoch(self) -> None:
        """The epoch is done."""
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int | None]:
        """Plain numbers, to be stored with the checkpoint."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "seed": self.seed,
            "round": self.round,
            "pictures": None if isinstance(self.images, TarShards) else len(self.images),
        }

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Go on where `state` was taken.

        Raises:
            ValueError: seed, round or number of pictures differ: the order would be another.
        """
        mine = self.state_dict()
        if state.keys() != mine.keys():
            raise ValueError(f"state must hold {', '.join(mine)}, got {', '.join(state)}")
        for name in ("seed", "round", "pictures"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"the state is of a run with {name}={state[name]}, this one has {mine[name]}"
                )
        epoch, position = state["epoch"], state["position"]
        if epoch is None or position is None:
            raise ValueError(f"state's epoch and position must be ints, got {epoch}, {position}")
        check_at_least("epoch", epoch, 0)
        check_at_least("position", position, 0)
        self.epoch, self.position = epoch, position

    def _rounds(self) -> Iterator[list[Item]]:
        epoch, position = self.epoch, self.position
        keys = islice(self._keys(epoch), position, None)
        while chunk := list(islice(keys, self.round)):
            if len(chunk) < self.round and self.drop_last:
                return
            mine = range(self.rank, len(chunk), self.world_size)
            # A stream's pictures have no number of their own: their place in the epoch is taken.
            items = [
                Item(epoch, position + i if isinstance(chunk[i], Packed) else chunk[i], chunk[i])
                for i in mine
            ]
            if items:
                yield items
            position += len(chunk)

    def _keys(self, epoch: int) -> Iterator[Any]:
        if isinstance(self.images, TarShards):
            return self.images.stream(self.seed, epoch, self.shuffle)
        if not self.shuffle:
            return iter(range(len(self.images)))
        order = random_at(self.seed, epoch, 0, ORDER).permutation(len(self.images))
        return (int(i) for i in order)


class _End(NamedTuple):
    """The last thing that a reading thread hands over."""

    error: Exception | None


def read_ahead(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The items of `source`, read by a thread that stays up to `depth` of them ahead."""
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()

    def hand_over(item: T | _End) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def read() -> None:
        end = _End(None)
        try:
            for item in source:
                hand_over(item)
                if stop.is_set():
                    return
        except Exception as error:
            end = _End(error)
        hand_over(end)

    thread = threading.Thread(target=read, name="read ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join(timeout=5)  # it may be waiting for a network that does not answer


class Loader:
    """Batches, epoch by epoch: each `for` loop is what is left of one epoch.

    Attributes:
        sampler: holds epoch and position.
        skipped: every file that could not be used so far, in any process of this loader, name to
            reason. Each is logged once.
    """

    def __init__(
        self, dataset: InpaintingDataset, sampler: ResumableSampler, **options: Any
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        # Sources have logged what they found when they were opened.
        self.skipped: dict[str, str] = {}
        for skipped in dataset._all_skipped():
            self.skipped |= skipped
        self._noted = len(dataset.images.skipped)
        # Workers that ignore signals would be waited for forever when the process ends. Finalizers
        # with a priority run before that.
        ending = multiprocessing.RawValue(c_bool, False)
        Finalize(self, setattr, (ending, "value", True), exitpriority=0)
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=_as_it_is,
            worker_init_fn=_WorkerStart(ending),
            # Otherwise each epoch would draw from torch's global generator.
            generator=torch.Generator(),
            **options,
        )

    def __len__(self) -> int:
        """Batches of a whole epoch; TypeError for tar shards."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch.

        Raises:
            DataError: no picture of the epoch can be used, or in a distributed run none of a
                batch: the other processes would wait for this one. Or a worker has died.
        """
        whole = self.sampler.position == 0
        some = False
        for delivery in self._deliveries():
            self.sampler.advance()
            self._note(delivery.skipped)
            self._note_here()
            if delivery.error is not None:
                raise DataError(delivery.error)
            if delivery.batch is not None:
                some = True
                yield delivery.batch
            elif self.sampler.world_size > 1:
                raise DataError("no picture of a batch can be used; see the warnings before this")
        self._note_here()
        if whole and not some:
            raise DataError(
                f"no batch in the whole epoch: {len(self.skipped)} files could not be used"
                + "".join(f"; {name}: {why}" for name, why in list(self.skipped.items())[:5])
            )
        self.sampler.next_epoch()

    def state_dict(self) -> dict[str, int | None]:
        """Where the next batch comes from; all that an exact resume needs."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Go on after the batch that was the last when `state` was taken; see the sampler."""
        self.sampler.load_state_dict(state)

    def _deliveries(self) -> Iterator[Delivery]:
        try:
            yield from self._loader
        except RuntimeError as error:
            # What torch says of a worker that was killed, most often for want of memory.
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataError(f"{one_line(error)}: fewer data.workers need less memory") from error

    def _note_here(self) -> None:
        """What this process has found: it reads tar shards, in a thread that may be adding."""
        skipped = self.dataset.images.skipped
        if len(skipped) > self._noted:
            new = list(skipped.items())[self._noted :]
            self._noted += len(new)
            self._note(dict(new))

    def _note(self, skipped: dict[str, str]) -> None:
        for name, why in skipped.items():
            if name not in self.skipped:
                self.skipped[name] = why
                log.warning("skipped %s: %s (%d so far)", name, why, len(self.skipped))


@dataclass(frozen=True)
class _WorkerStart:
    """What a worker does first; picklable, for workers that are not forked."""

    ending: c_bool

    def __call__(self, worker: int) -> None:
        ignore_signals(self.ending)


def make_loader(
    dataset: InpaintingDataset,
    batch_size: int,
    workers: int = 0,
    *,
    shuffle: bool = True,
    drop_last: bool = True,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 4,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> Loader:
    """A loader over `dataset`, whose samples do not depend on `workers`.

    Args:
        dataset: pictures, masks and seed.
        batch_size: pictures in a batch of one process.
        workers: processes that decode; 0 decodes in this one.
        shuffle: False keeps the source's order.
        drop_last: leaves out the last round if it is not full; see ResumableSampler.
        rank: number of this process, below `world_size`.
        world_size: number of processes that train together.
        prefetch: batches that each worker prepares ahead.
        pin_memory: page-locked batches, which a GPU fetches faster.
        start_method: how workers start: "fork", "spawn", "forkserver"; None leaves it to Python.
    """
    check_at_least("workers", workers, 0)
    check_at_least("prefetch", prefetch, 1)
    sampler = ResumableSampler(
        dataset.images, batch_size, dataset.seed, shuffle, rank, world_size, drop_last
    )
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin_memory}
    if workers:
        options |= {
            "prefetch_factor": prefetch,
            "persistent_workers": True,
            "multiprocessing_context": start_method,
        }
    return Loader(dataset, sampler, **options)


def _as_it_is(delivery: Any) -> Any:
    """The dataset hands over whole batches."""
    return delivery
