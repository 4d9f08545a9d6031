"""From a recipe to batches: picture sources and masks by name, and an endless stream of batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch

from ..errors import DataError, UsageError, unknown
from .data import Batch, InpaintingDataset, Loader, Transform, make_loader
from .masks import GENERATORS, FixedMasks, MaskFolder, MaskSource, OneOf
from .randomness import MASK, random_at
from .recipe import Recipe
from .sources import CIFAR10, ImageFolder, TarShards

T = TypeVar("T")

SOURCES: dict[str, Callable[..., Any]] = {
    "folder": ImageFolder,
    "cifar10": CIFAR10,
    "shards": TarShards,
}


def make_masks(kind: str, options: Mapping[str, Any], where: str = "masks") -> MaskSource:
    """The mask source of a recipe.

    Args:
        kind: a generator's name, see `masks.GENERATORS`; "folder", masks of a folder; "fixed", `k`
            masks drawn once from `source`; "one-of", each time one of `sources`. `source` and each
            of `sources` are a kind and options again.
        options: arguments of that source.
        where: the key that errors name.

    Raises:
        UsageError: unknown kind, or options that it does not take.
    """
    if kind == "fixed":
        inner = _inner(options.get("source"), f"{where}.options.source")
        return _make(FixedMasks, {**options, "source": inner}, where)
    if kind == "one-of":
        listed = options.get("sources")
        if not isinstance(listed, list):
            raise UsageError(f"{where}.options.sources must be a list of kinds with options")
        sources = [_inner(entry, f"{where}.options.sources[{i}]") for i, entry in enumerate(listed)]
        return _make(OneOf, {**options, "sources": sources}, where)
    makers: dict[str, Callable[..., MaskSource]] = {**GENERATORS, "folder": MaskFolder}
    if kind not in makers:
        raise UsageError(f"{where}.kind: {unknown('kind', kind, [*makers, 'fixed', 'one-of'])}")
    return _make(makers[kind], options, where)


def _inner(part: Any, where: str) -> MaskSource:
    if not isinstance(part, dict) or not {"kind"} <= part.keys() <= {"kind", "options"}:
        raise UsageError(f"{where} must have kind and options, got {part!r}")
    return make_masks(part["kind"], part.get("options", {}), where)


def make_dataset(recipe: Recipe) -> InpaintingDataset:
    """The pictures and masks that a recipe trains on.

    Raises:
        UsageError: no data folder, or anything wrong with it, the masks or their options.
    """
    data = recipe.data
    if data.root is None:
        raise UsageError("no data: give --data DIR")
    if data.kind not in SOURCES:
        raise UsageError(f"data.kind: {unknown('kind', data.kind, SOURCES)}")
    transform = _make(Transform, {"size": recipe.image_size, **data.transform}, "data.transform")
    masks = make_masks(recipe.masks.kind, recipe.masks.options)
    # One mask now: a hole that does not fit the picture would be found by the first sample only.
    try:
        masks(random_at(recipe.seed, 0, 0, MASK), *transform.shape)
    except (ValueError, DataError) as error:
        raise UsageError(f"masks: {error}") from error
    source = _make(SOURCES[data.kind], data.options, "data", data.root)
    return InpaintingDataset(source, masks, transform, recipe.seed)


def _make(maker: Callable[..., T], options: Mapping[str, Any], where: str, *first: Any) -> T:
    """Call `maker`; what it does not like becomes a UsageError that names the key."""
    known = list(inspect.signature(maker).parameters)[len(first) :]
    for option in options:
        if option not in known:
            raise UsageError(f"{where}: {unknown('option', option, known)}")
    try:
        return maker(*first, **{name: _tuples(value) for name, value in options.items()})
    except (TypeError, ValueError, OSError) as error:
        raise UsageError(f"{where}: {error}") from error


def _tuples(value: Any) -> Any:
    """Lists of a YAML file as tuples, which the sources compare with and unpack."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


class Supply:
    """Batches without end, on a device; knows where it is.

    Args:
        recipe: says what, how many and by how many workers.
        rank: number of this process.
        world_size: number of processes.
        device: where batches go.
        prepare: what a batch goes through before; see `System.prepare`.
    """

    def __init__(
        self,
        recipe: Recipe,
        rank: int,
        world_size: int,
        device: torch.device,
        prepare: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        self.device = device
        self.prepare = prepare
        self.dataset = make_dataset(recipe)
        try:
            self.loader: Loader = make_loader(
                self.dataset,
                recipe.batch_size,
                recipe.data.workers,
                rank=rank,
                world_size=world_size,
                pin_memory=device.type == "cuda",
            )
        except ValueError as error:
            raise UsageError(f"data: {error}") from error
        self.batches_per_epoch: int | None = (
            None if isinstance(self.dataset.images, TarShards) else len(self.loader)
        )
        self._batches = self._endless()

    @property
    def epoch(self) -> int:
        """The number of the epoch that the next batch belongs to, from 0."""
        return self.loader.sampler.epoch

    def next(self) -> Batch:
        """The next batch."""
        return self._batches.__next__()

    def state_dict(self) -> dict[str, int | None]:
        """Where the next batch comes from."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Go on where `state` was taken.

        Raises:
            UsageError: the data or the number of pictures per step are not what they were.
        """
        try:
            self.loader.load_state_dict(state)
        except ValueError as error:
            raise UsageError(f"data: {error}") from error
        self._batches = self._endless()

    def first(self, count: int) -> Batch:
        """The same few pictures and masks each time and in each process, for sample pictures."""
        loader = make_loader(self.dataset, count, shuffle=False, drop_last=False)
        return self._placed(next(iter(loader)))

    def _endless(self) -> Iterator[Batch]:
        while True:
            for batch in self.loader:
                yield self._placed(self.prepare(batch))

    def _placed(self, batch: Batch) -> Batch:
        return batch._replace(
            image=batch.image.to(self.device, non_blocking=True),
            mask=batch.mask.to(self.device, non_blocking=True),
        )
