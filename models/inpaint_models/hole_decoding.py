"""Filling holes without predicting the pixels that are known anyway.

>>> filled = fill_holes(net, image, mask)   # composite(net(image, mask), image, mask), sooner

The encoder runs wholly, since its deepest features depend on everything. A level of the decoder
runs on the crops that the next finer level reads, one pixel wider on each side, or on the whole map
where that costs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .checks import check_image, prepare_mask
from .composite import composite
from .hole_boxes import Box, Size, find_holes, plan_levels
from .partial_unet import PartialUNet

_EXACT_DOUBLES = 1024
"""Pixels from which on `partial_conv2d_upsampled` gains by a skip twice as large as the deeper map.
Fewer are enlarged before, so that no pixel too many goes in."""


@torch.no_grad()
def fill_holes(net: nn.Module, image: Tensor, mask: Tensor, *, only: Box | None = None) -> Tensor:
    """`composite(net(image, mask), image, mask)` without the prediction that it throws away.

    The same up to rounding: sums of smaller maps may run in another order. The less of the picture
    is missing, the less is computed of the decoder, which in `pconv_unet` is two thirds of the
    whole. Without gradient. What is computed depends on the mask's values, so they are read, which
    waits for a GPU, and `torch.compile` and `torch.export` do not make one graph of it.

    Args:
        net: in evaluation mode; a U-Net of partial convolutions whose decoder has batch norm:
            `pconv_unet` or `pconv_autoencoder`.
        image: (N, in_channels, H, W), as `net` takes it.
        mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, as `net` takes it.
        only: what is missing outside this box is left as it is.

    Returns:
        (N, in_channels, H, W), a new tensor of the image's dtype, not clamped: the image where the
        mask is exactly 1, the prediction everywhere else, see `composite`.

    Raises:
        TypeError: `net` is another network, or an argument is of a wrong type or dtype.
        ValueError: `net` is in training mode or takes statistics from what it is given, or an
            argument has a wrong shape or device.
    """
    unet = _check(net)
    check_image(image, unet.in_channels, unet.unit("enc1").conv.weight)
    mask = prepare_mask(mask, image)
    filled = image.clone()
    hole = mask[:, 0] != 1
    if only is not None:
        wanted = torch.zeros_like(hole)
        wanted.unsqueeze(1)[only.slices] = True
        hole &= wanted
    holes = find_holes(hole)
    if not holes:
        return filled
    x, m, skips = unet.encode(image, mask)
    sizes = [_size(features) for features in (*(skip for skip, _ in skips), x)]
    plan = plan_levels(holes, sizes)
    pieces = [_Piece(Box((0, 0, 0), sizes[-1]), x, m)]
    for level in range(unet.levels, 0, -1):
        block, deep = unet.unit(f"dec{level}"), sizes[level]
        skip = _Piece(Box((0, 0, 0), sizes[level - 1]), *skips.pop())
        pieces = [_decode(block, pieces, deep, skip, box) for box in plan.pop()]
    start = unet.start(image, mask)
    for box, prediction, _ in pieces:
        if start is not None:
            prediction = start[box.slices] + prediction
        prediction = prediction.to(image.dtype)
        filled[box.slices] = composite(prediction, image[box.slices], mask[box.slices])
    return filled


def has_fixed_statistics(norm: nn.Module | None) -> bool:
    """Whether a norm computes each pixel by itself: batch norm in evaluation mode, or none."""
    if norm is None:
        return True
    return isinstance(norm, _BatchNorm) and not norm.training and norm.running_mean is not None


class _Piece(NamedTuple):
    """A part of a map and of its mask."""

    box: Box
    x: Tensor
    mask: Tensor

    def cut(self, box: Box) -> _Piece:
        """A part of this part."""
        inside = box.within(self.box).slices
        return _Piece(box, self.x[inside], self.mask[inside])


def _size(x: Tensor) -> Size:
    return x.shape[0], x.shape[2], x.shape[3]


def _decode(
    block: nn.Module, pieces: Sequence[_Piece], deep: Size, skip: _Piece, box: Box
) -> _Piece:
    """What a level's block makes of the pixels in a box.

    The block pads what it is given. Inside the map, neighbours were due there: so the box goes in
    with what is around it, and what becomes of that is dropped.

    Args:
        block: of the level.
        pieces: what the level below has made; one of them holds what the box needs.
        deep: size of the map that the pieces belong to.
        skip: all of it.
        box: of a map of the skip's size.
    """
    size, needed = skip.box.high, box.below(deep)
    _, x, mask = next(piece for piece in pieces if piece.box.holds(needed)).cut(needed)
    around = needed.enlarged(size)
    if around.volume < _EXACT_DOUBLES:
        large, closer = _size(skip.cut(around).x)[1:], box.grown(size)
        inside = closer.within(around).slices
        x, mask = (F.interpolate(t, size=large, mode="nearest")[inside] for t in (x, mask))
        around = closer
    beside = skip.cut(around)
    y, new_mask = block(x, mask, beside.x, beside.mask, masked_input=True)
    return _Piece(around, y, new_mask).cut(box)


def _check(net: nn.Module) -> PartialUNet:
    """Raise unless a crop of the decoder's map gives the same numbers as the whole."""
    if not isinstance(net, PartialUNet):
        raise TypeError(
            f"net must be a U-Net of partial convolutions, pconv_unet or pconv_autoencoder, got "
            f"{type(net).__name__}"
        )
    if net.training:
        raise ValueError("net must be in evaluation mode, got one in training mode: call .eval()")
    for level in range(1, net.levels + 1):
        norm = net.unit(f"dec{level}").norm
        if not has_fixed_statistics(norm):
            raise ValueError(
                f"net must normalize its decoder by fixed statistics, as pconv_unet does in "
                f"evaluation mode, got {type(norm).__name__} in dec{level}, whose statistics are "
                f"those of the whole map"
            )
    return net
