"""Padding that the operators do not do themselves: by a feature's own values, and around the globe.

The operators pad feature and mask with holes, equally on both sides. Everything else is prepared
here, as plain PyTorch: the feature is masked first, so that no hole is copied to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .autograd.apply_mask import apply_mask
from .masks import Planes

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
MASK_PADDING_MODES = ("zeros", "circular")


class Padded(NamedTuple):
    """Feature and planes as the operator takes them, and what is left for it to pad."""

    x: Tensor
    planes: Tensor | None
    masked_input: bool  # holes of x are zero already
    padding: tuple[int, ...]  # of the feature
    mask_padding: tuple[int, ...]


def check_padding_mode(mode: str) -> None:
    """Raise unless ``mode`` is one of the feature's."""
    if mode not in PADDING_MODES:
        raise ValueError(f"padding_mode: expected one of {PADDING_MODES}, got {mode!r}")


def wrapped_axes(mode: str | Sequence[str], axes: int) -> tuple[bool, ...]:
    """Which axes wrap: ``mode`` is one of MASK_PADDING_MODES, or one for each axis."""
    if mode == "zeros":
        return (False,) * axes
    modes = (mode,) * axes if isinstance(mode, str) else mode
    if not isinstance(modes, Sequence):
        raise TypeError(f"mask_padding_mode: expected text, or one for each axis, got {mode!r}")
    if len(modes) != axes or any(m not in MASK_PADDING_MODES for m in modes):
        raise ValueError(
            f"mask_padding_mode: expected one of {MASK_PADDING_MODES}, or {axes} of them, "
            f"got {mode!r}"
        )
    return tuple(m == "circular" for m in modes)


def pad(
    x: Tensor,
    form: Planes,
    before: tuple[int, ...],
    extra: tuple[int, ...],
    padding_mode: str,
    wrapped: tuple[bool, ...],
    masked_input: bool,
) -> Padded:
    """Prepare x and its planes for ``before`` cells on both sides and ``extra`` at the far one.

    Axes that wrap take the cells of both from the other end. On the others the mask is padded with
    holes, as the published code does, and the feature by ``padding_mode``.
    """
    planes = form.planes
    if padding_mode == "zeros" and True not in wrapped and not any(extra):  # nearly every call
        return Padded(x, planes, masked_input, before, before)
    wraps = any(w and (b or e) for w, b, e in zip(wrapped, before, extra, strict=True))
    own_values = padding_mode != "zeros" and (any(before) or any(extra))
    if not wraps and not own_values and not any(extra):
        return Padded(x, planes, masked_input, before, before)

    masked = masked_input
    if planes is None:
        planes = x.new_ones(()).expand(1, 1, *x.shape[2:])
    elif not masked and (wraps or own_values):
        x, masked = apply_mask(x, planes, form.channels), True
    left, mask_left = list(before), list(before)
    for axis, (b, e) in enumerate(zip(before, extra, strict=True)):
        if wrapped[axis] and (b or e):
            planes = _wrap(planes, axis, b, b + e)  # says it if there are too few cells
            x = F.pad(x, _argument(len(before), axis, b, b + e), "circular")
            left[axis] = mask_left[axis] = 0
            continue
        if own_values and (b or e):
            x = F.pad(x, _argument(len(before), axis, b, b + e), padding_mode)
            left[axis] = 0
        elif e:
            x = F.pad(x, _argument(len(before), axis, 0, e))
        if e:
            planes = F.pad(planes, _argument(len(before), axis, 0, e))
    return Padded(x, planes, masked or form.planes is None, tuple(left), tuple(mask_left))


def wrap_planes(
    planes: Tensor, before: tuple[int, ...], extra: tuple[int, ...], wrapped: tuple[bool, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """A mask alone: padded where it wraps and at the far side; and what is left to pad."""
    left = list(before)
    for axis, (b, e) in enumerate(zip(before, extra, strict=True)):
        if wrapped[axis] and (b or e):
            planes, left[axis] = _wrap(planes, axis, b, b + e), 0
        elif e:
            planes = F.pad(planes, _argument(len(before), axis, 0, e))
    return planes, tuple(left)


def _argument(axes: int, axis: int, before: int, after: int) -> list[int]:
    """The argument of F.pad, last axis first, for one axis."""
    pairs = [(0, 0)] * axes
    pairs[axis] = (before, after)
    return [p for pair in reversed(pairs) for p in pair]


def _wrap(planes: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Circular padding of one axis, for every dtype."""
    dim, size = axis + 2, planes.shape[axis + 2]
    if max(before, after) > size:
        raise ValueError(
            f"padding: {max(before, after)} cells of axis {axis} cannot wrap around its {size}"
        )
    parts = (planes.narrow(dim, size - before, before), planes, planes.narrow(dim, 0, after))
    return torch.cat(parts, dim)
