"""Evaluation: a network and the baselines over a test set, one row per picture and method."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_choice, prepare_mask
from ..composite import composite
from .baselines import BASELINES, Fill
from .colour import FITS, correct_colours
from .data import Batch
from .masks import HOLE_RATIO_BINS, Range, hole_ratio_bin
from .metrics import METRICS, Metric, Perceptual, hole, measured, perceptual_metric

CORRECTED = ", colour-corrected"


@dataclass(frozen=True)
class Row:
    """One method on one picture; `index` is the picture's place in the data.

    A value is NaN where there was nothing to compare.
    """

    method: str
    index: int
    name: str
    hole_ratio: float
    bin: Range | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """The mean over pictures of one method, in one bin or overall (bin None).

    `counts` has the pictures that each mean is over: those with a finite value. `infinite` has
    those left out because their PSNR is infinite.
    """

    method: str
    bin: Range | None
    pictures: int
    means: Mapping[str, float]
    counts: Mapping[str, int]
    infinite: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """The rows of a run, the metrics in the order of the report, and the bins asked for."""

    model: str
    metrics: tuple[Metric, ...]
    bins: tuple[Range, ...]
    rows: tuple[Row, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The model first, then the baselines."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def of(self, method: str) -> tuple[Row, ...]:
        """The rows of one method, in the order of the data."""
        check_choice("method", method, self.methods)
        return tuple(row for row in self.rows if row.method == method)

    def summary(self, method: str, ratios: Range | None = None) -> Summary:
        """Means over the pictures of one bin, by default over all, those outside every bin too.

        Every metric is computed for each picture and then averaged: PSNR too, so that it is not the
        PSNR of the mean MSE. A picture whose value is NaN (nothing to compare) or infinite (PSNR of
        equal pictures) is left out of that mean, and of its count. Without any, the mean is NaN.
        """
        rows = [row for row in self.of(method) if ratios is None or row.bin == ratios]
        means, counts, infinite = {}, {}, {}
        for metric in self.metrics:
            values = [row.values[metric.name] for row in rows]
            finite = [value for value in values if math.isfinite(value)]
            means[metric.name] = math.fsum(finite) / len(finite) if finite else math.nan
            counts[metric.name] = len(finite)
            infinite[metric.name] = sum(map(math.isinf, values))
        return Summary(method, ratios, len(rows), means, counts, infinite)

    def summaries(self) -> list[Summary]:
        """For each method: overall, then the bins that hold pictures."""
        found = []
        for method in self.methods:
            found.append(self.summary(method))
            binned = (self.summary(method, ratios) for ratios in self.bins)
            found += [summary for summary in binned if summary.pictures]
        return found


def evaluate(
    fill: Fill,
    batches: Iterable[Batch],
    *,
    model: str = "model",
    metrics: Sequence[str] = tuple(METRICS),
    perceptual: Perceptual | None = None,
    bins: Sequence[Range] = HOLE_RATIO_BINS,
    baselines: Mapping[str, Fill] = BASELINES,
    colour_correction: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Fill every picture by every method and compare the composites with the truth.

    (Metrics `of_output` compare the whole prediction.)
    Pixels of the truth that hold NaN are hole to the methods, and left out of every metric. The
    hole ratio is that of the mask as given. Predictions are clamped to [0, 1], as pictures are.

    Args:
        fill: (image, mask) -> prediction, called without gradient; put networks into eval mode.
            What it gets is the image with 0 in the hole, not the truth.
        batches: the test set. For `picture_sheet`, something that can be iterated again.
        model: what to call `fill` in the report.
        metrics: names from `METRICS`.
        perceptual: a distance (N, 3, H, W), (N, 3, H, W) -> (N,), for a column of its own.
        bins: (above, up to) hole ratios. A picture in none of them counts in the overall row only.
        baselines: methods to compare with, by name; an empty mapping for none.
        colour_correction: "gain_and_offset" or "offset" adds the model with its colours corrected
            (`correct_colours`) as a method of its own; the model still runs once.
        progress: called with the number of pictures done, after each batch.

    Raises:
        ValueError: a batch or a prediction has the wrong shape or is not finite where it is
            compared, there is no picture, or bins overlap.
    """
    for name in metrics:
        check_choice("metrics", name, tuple(METRICS))
    chosen = [METRICS[name] for name in metrics]
    if perceptual is not None:
        chosen.append(perceptual_metric(perceptual))
    if not chosen:
        raise ValueError("metrics must name at least one metric, or perceptual be given")
    _check_bins(bins)
    methods = _names(model, baselines, colour_correction)
    rows: list[Row] = []
    done = 0
    for batch in batches:
        _check_batch(batch)
        mask = prepare_mask(batch.mask, batch.image)
        ratios = hole(mask, batch.image).double().mean(dim=(1, 2, 3)).tolist()
        image, seen = visible(batch)
        predictions = _predictions(fill, baselines, colour_correction, image, seen)
        for method, prediction in zip(methods, predictions, strict=True):
            output = prediction.clamp(0, 1)
            filled = composite(output, image, seen)
            try:
                columns = {
                    m.name: m.compute(output if m.of_output else filled, batch.image, mask).tolist()
                    for m in chosen
                }
            except ValueError as error:
                raise ValueError(f"{method} on {_some(batch.names)}: {error}") from error
            for i, (name, ratio) in enumerate(zip(batch.names, ratios, strict=True)):
                values = {metric: column[i] for metric, column in columns.items()}
                rows.append(Row(method, done + i, name, ratio, hole_ratio_bin(ratio, bins), values))
        done += len(batch.names)
        if progress is not None:
            progress(done)
    if not rows:
        raise ValueError("batches must hold at least one picture, got none")
    order = {method: i for i, method in enumerate(methods)}
    rows.sort(key=lambda row: (order[row.method], row.index))
    return Evaluation(model, tuple(chosen), tuple(bins), tuple(rows))


def predict(fill: Fill, batch: Batch) -> Tensor:
    """One method's prediction of a batch, clamped to [0, 1] and on the batch's device."""
    return _call(fill, *visible(batch)).clamp(0, 1)


def corrected(fill: Fill, fit: str) -> Fill:
    """`fill` with the colours of its prediction corrected; `fit` as in `correct_colours`."""
    check_choice("fit", fit, FITS)

    def filled(image: Tensor, mask: Tensor) -> Tensor:
        return correct_colours(_call(fill, image, mask), image, mask, fit)

    return filled


def visible(batch: Batch) -> tuple[Tensor, Tensor]:
    """What a method may see: the image with 0 in the hole, and the mask.

    Pixels without truth are hole in this mask.
    """
    mask = prepare_mask(batch.mask, batch.image)
    mask = mask.masked_fill(~measured(batch.image), 0)
    return torch.where(hole(mask, batch.image), 0.0, batch.image), mask


def _predictions(
    fill: Fill, baselines: Mapping[str, Fill], fit: str | None, image: Tensor, mask: Tensor
) -> Iterator[Tensor]:
    """The model's, its corrected one if asked for, and the baselines', in this order."""
    prediction = _call(fill, image, mask)
    yield prediction
    if fit is not None:
        yield correct_colours(prediction, image, mask, fit)
    for baseline in baselines.values():
        yield _call(baseline, image, mask)


def _call(fill: Fill, image: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        prediction = fill(image, mask)
    if not isinstance(prediction, Tensor) or prediction.shape != image.shape:
        got = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction)
        raise ValueError(f"fill must return a tensor of shape {tuple(image.shape)}, got {got}")
    return prediction.to(image)


def _names(model: str, baselines: Mapping[str, Fill], fit: str | None) -> list[str]:
    if fit is not None:
        check_choice("colour_correction", fit, FITS)
    names = [model] if fit is None else [model, model + CORRECTED]
    for name in baselines:
        if name in names:
            raise ValueError(f"baselines must have other names than the model, got {name!r} twice")
    return [*names, *baselines]


def _check_bins(bins: Sequence[Range]) -> None:
    ordered = sorted(bins)
    for low, high in ordered:
        if not 0 <= low < high <= 1:
            raise ValueError(f"bins must have 0 <= above < up to <= 1, got ({low}, {high})")
    for (low, high), (after, _) in itertools.pairwise(ordered):
        if after < high:
            raise ValueError(f"bins must not overlap, got ({low}, {high}) and one from {after}")


def _check_batch(batch: Batch) -> None:
    image = batch.image
    if not isinstance(image, Tensor) or image.dim() != 4 or image.shape[1] != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image must have shape (N, 3, H, W), got {got}")
    if not image.is_floating_point():
        raise TypeError(
            f"image must be of a floating-point dtype with values in [0, 1], got {image.dtype}"
        )
    if len(batch.names) != image.shape[0]:
        raise ValueError(
            f"names must have one entry per picture, {image.shape[0]}, got {len(batch.names)}"
        )
    finite = image[~image.isnan()]
    if finite.numel() and not (finite.min() >= 0 and finite.max() <= 1):
        raise ValueError(
            f"image must have values in [0, 1], got {finite.min().item():g} to "
            f"{finite.max().item():g} in {_some(batch.names)}"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
