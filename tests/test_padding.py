"""Data that wraps: feature and mask continue at the other end of an axis."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import (
    ChannelMask,
    PartialConv2d,
    partial_conv1d,
    partial_conv2d,
    partial_conv3d,
    update_mask,
)

WRAP = ("zeros", "circular")  # latitude ends, longitude does not


def _globe(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    mask = (torch.rand(2, 1, 7, 12) > 0.5).to(dtype)
    mask[..., :2] = 0
    x = (torch.randn(2, 3, 7, 12, dtype=torch.float64)).to(
        dtype if dtype.is_floating_point else torch.float64
    )
    return x, mask, torch.randn(4, 3, 3, 3, dtype=x.dtype)


@pytest.mark.parametrize("form", ["plane", "channels", "groups", "none"])
def test_the_long_way_round(plain: Any, form: str) -> None:
    """As if both were continued by hand, and the added part were real."""
    x, mask, weight = _globe()
    given: Any = mask
    if form == "channels":
        given = (torch.rand(2, 3, 7, 12) > 0.5).double()
    elif form == "groups":
        given = ChannelMask((torch.rand(2, 2, 7, 12) > 0.5).double(), (2, 1))
    elif form == "none":
        given = None
    multi = form == "channels"

    def around(t: Tensor) -> Tensor:
        return torch.cat([t[..., -2:], t, t[..., :2]], -1)

    dense = torch.ones_like(mask) if given is None else given
    by_hand = (
        ChannelMask(around(dense.planes), dense.channels)
        if isinstance(dense, ChannelMask)
        else around(dense)
    )
    bias = torch.randn(4, dtype=torch.float64)
    leaves = [x.requires_grad_(), weight.requires_grad_()]
    y, new = partial_conv2d(x, given, weight, bias, 1, (1, 2), 1, 1, multi, mask_padding_mode=WRAP)
    expected, expected_new = plain.partial_conv(
        around(x), by_hand, weight, bias, 1, (1, 0), multi_channel=multi
    )
    plain.close(y, expected, 27)
    found = new.planes if isinstance(new, ChannelMask) else new[:, :1]
    assert torch.equal(found.double().expand_as(expected_new), expected_new)
    grad = torch.randn_like(y)
    wanted = torch.autograd.grad(expected, leaves, grad)
    for a, b in zip(torch.autograd.grad(y, leaves, grad), wanted, strict=True):
        plain.close(a, b, 200)


@pytest.mark.parametrize("padding", [1, "same"])
def test_turning_the_globe_turns_the_result(padding: int | str) -> None:
    x, mask, weight = _globe()
    y, new = partial_conv2d(x, mask, weight, None, 1, padding, mask_padding_mode=WRAP)
    turned, turned_new = partial_conv2d(
        x.roll(5, -1), mask.roll(5, -1), weight, None, 1, padding, mask_padding_mode=WRAP
    )
    assert isinstance(new, Tensor)
    torch.testing.assert_close(turned, y.roll(5, -1))
    assert torch.equal(torch.as_tensor(turned_new), new.roll(5, -1))
    plain_y, _ = partial_conv2d(x, mask, weight, None, 1, padding)
    assert not torch.allclose(plain_y, y)


def test_even_windows_of_the_same_size_wrap_too() -> None:
    x, mask, _ = _globe()
    weight = torch.randn(4, 3, 2, 4, dtype=torch.float64)
    y, new = partial_conv2d(x, mask, weight, None, 1, "same", mask_padding_mode=WRAP)
    assert y.shape[2:] == x.shape[2:]
    turned, _ = partial_conv2d(
        x.roll(3, -1), mask.roll(3, -1), weight, None, 1, "same", mask_padding_mode=WRAP
    )
    torch.testing.assert_close(turned, y.roll(3, -1))
    assert torch.equal(
        torch.as_tensor(new), update_mask(mask, (2, 4), 1, "same", mask_padding_mode=WRAP)
    )


def test_a_full_globe_is_counted_full_across_the_seam() -> None:
    ones = torch.ones(1, 1, 5, 8)
    y, new = partial_conv2d(ones, ones, torch.ones(1, 1, 3, 3), None, 1, 1, mask_padding_mode=WRAP)
    assert torch.equal(torch.as_tensor(new), ones)
    torch.testing.assert_close(y, torch.full_like(ones, 9.0))


def test_nan_under_a_hole_does_not_travel_round() -> None:
    x, mask, weight = _globe(torch.float32)
    clean, _ = partial_conv2d(x, mask, weight, None, 1, 1, mask_padding_mode="circular")
    poisoned = x.masked_fill((mask == 0).expand_as(x), torch.nan)
    y, _ = partial_conv2d(poisoned, mask, weight, None, 1, 1, mask_padding_mode="circular")
    assert torch.equal(y, clean)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_every_dtype_wrap(dtype: torch.dtype) -> None:
    mask = (torch.rand(1, 1, 4, 9) > 0.7).to(dtype)
    new = update_mask(mask, 3, 1, 1, mask_padding_mode="circular")
    by_hand = torch.cat([mask[..., -1:], mask, mask[..., :1]], -1)
    by_hand = torch.cat([by_hand[..., -1:, :], by_hand, by_hand[..., :1, :]], -2)
    assert new.dtype == dtype
    assert torch.equal(new, update_mask(by_hand, 3))


def test_one_and_three_axes() -> None:
    line, mask = torch.randn(2, 3, 11), (torch.rand(2, 1, 11) > 0.4).float()
    weight = torch.randn(2, 3, 3)
    y, _ = partial_conv1d(line, mask, weight, None, 1, 1, mask_padding_mode="circular")
    turned, _ = partial_conv1d(
        line.roll(4, -1), mask.roll(4, -1), weight, None, 1, 1, mask_padding_mode="circular"
    )
    torch.testing.assert_close(turned, y.roll(4, -1))
    box, mask = torch.randn(1, 3, 4, 5, 6), (torch.rand(1, 1, 4, 5, 6) > 0.4).float()
    weight, modes = torch.randn(2, 3, 3, 3, 3), ("zeros", "circular", "zeros")
    y, _ = partial_conv3d(box, mask, weight, None, 1, 1, mask_padding_mode=modes)
    turned, _ = partial_conv3d(
        box.roll(2, 3), mask.roll(2, 3), weight, None, 1, 1, mask_padding_mode=modes
    )
    torch.testing.assert_close(turned, y.roll(2, 3))


def test_module_and_compilation() -> None:
    x, mask, _ = _globe(torch.float32)
    conv = PartialConv2d(3, 4, 3, padding=1, mask_padding_mode=WRAP)
    expected, _ = partial_conv2d(x, mask, conv.weight, conv.bias, 1, 1, mask_padding_mode=WRAP)
    assert torch.equal(conv(x, mask), expected)
    assert "mask_padding_mode=('zeros', 'circular')" in repr(conv)
    assert "mask_padding_mode" not in repr(PartialConv2d(3, 4, 3))
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, mask), expected)


@pytest.mark.parametrize("mode", ["reflect", ("zeros",), ("zeros", "wrap"), ["circular"] * 3])
def test_bad_modes_are_named(mode: Any) -> None:
    x, mask, weight = _globe()
    for call in (
        lambda: partial_conv2d(x, mask, weight, None, 1, 1, mask_padding_mode=mode),
        lambda: update_mask(mask, 3, 1, 1, mask_padding_mode=mode),
        lambda: PartialConv2d(3, 4, 3, mask_padding_mode=mode),
    ):
        with pytest.raises(ValueError, match=r"^mask_padding_mode: expected one of"):
            call()


def test_more_cells_than_there_are_cannot_wrap() -> None:
    x, mask, weight = _globe()
    with pytest.raises(ValueError, match=r"^padding: 8 cells of axis 0 cannot wrap around its 7"):
        partial_conv2d(x, mask, weight, None, 1, 8, mask_padding_mode="circular")
