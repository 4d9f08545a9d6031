"""The mask update of one to three axes, alone and as the native op with its ratio."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_ops import ChannelMask, update_mask, use_backend

_op = torch.ops.inpaint_ops.mask_update.default

WINDOWS: dict[str, dict[str, Any]] = {
    "3": {"kernel_size": 3},
    "3, padding 1": {"kernel_size": 3, "padding": 1},
    "7, stride 2": {"kernel_size": 7, "padding": 3, "stride": 2},
    "2, dilation 3": {"kernel_size": 2, "padding": 2, "dilation": 3},
    "in padding only": {"kernel_size": 2, "padding": 3},
    "same, even": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 2, "padding": "valid", "stride": 3},
}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _expected(mask: Tensor, kernel_size: int, **options: Any) -> Tensor:
    axes = mask.dim() - 2
    ones = torch.ones(1, mask.shape[1], *[kernel_size] * axes, dtype=torch.float64)
    total: Tensor = _CONV[axes](mask.double(), ones, **options)
    return total.clamp(0, 1)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_against_a_dense_convolution(window: str, axes: int, channels: int, backend: str) -> None:
    size = (9, 7, 8)[:axes]
    mask = (torch.rand(2, channels, *size) > 0.8).float()
    mask[0] = 0
    with use_backend(backend):
        new_mask = update_mask(mask, **WINDOWS[window])
    assert new_mask.dtype == mask.dtype
    assert torch.equal(new_mask.double(), _expected(mask, **WINDOWS[window]))


def test_a_number_for_each_axis() -> None:
    mask = (torch.rand(1, 1, 12, 15) > 0.9).double()
    new_mask = update_mask(mask, (1, 5), stride=(2, 3), padding=(0, 2), dilation=(1, 2))
    ones = torch.ones(1, 1, 1, 5, dtype=torch.float64)
    total = F.conv2d(mask, ones, None, (2, 3), (0, 2), (1, 2))
    assert torch.equal(new_mask, total.clamp(0, 1))
    assert torch.equal(update_mask(mask, [3]), update_mask(mask, 3))


def test_channel_mask_equals_its_dense_form(plain: Any) -> None:
    mask = ChannelMask(plain.blobs(2, 2, 9, 9) * 0.1, (1, 4))
    grouped = update_mask(mask, 2)
    torch.testing.assert_close(grouped, update_mask(mask.dense(), 2), rtol=1e-14, atol=0)
    assert grouped.shape == (2, 1, 8, 8)
    # A group counts as often as it has channels: nothing but the first of the two is valid here.
    one = ChannelMask(torch.tensor([0.1, 0.0]).view(1, 2, 1, 1), (4, 1))
    torch.testing.assert_close(update_mask(one, 1), torch.full((1, 1, 1, 1), 0.4))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int32, torch.float16, torch.bfloat16, torch.float64],
    ids=str,
)  # fmt: skip
def test_dtype_of_the_mask_is_kept(dtype: torch.dtype) -> None:
    mask = torch.zeros(1, 1, 6, 6, dtype=dtype)
    mask[0, 0, 0, 0] = 1
    new_mask = update_mask(mask, 3, padding=1)
    assert new_mask.dtype == dtype
    assert new_mask.sum() == 4
    assert new_mask[0, 0, :2, :2].all()


def test_integers_other_than_one() -> None:
    mask = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    mask[0, 0, 2, 2] = 255
    assert update_mask(mask, 3).unique().tolist() == [1]
    assert update_mask(-mask.int() * 4, 2).unique().tolist() == [0, 1]


def test_holes_shrink_until_nothing_is_left() -> None:
    mask = torch.ones(1, 1, 33, 33)
    mask[:, :, 8:25, 8:25] = 0
    for _ in range(8):
        assert (mask == 0).any()
        mask = update_mask(mask, 3, padding=1)
    assert (mask == 0).sum() == 1
    assert (update_mask(mask, 3, padding=1) == 1).all()


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("order", ["contiguous", "channels last", "transposed", "stepped"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64], ids=str)
def test_the_op_on_any_strides(order: str, groups: int, dtype: torch.dtype) -> None:
    mask = (torch.rand(2, groups, 11, 14) > 0.5).to(dtype)
    if order == "channels last":
        mask = mask.to(memory_format=torch.channels_last)
    elif order == "transposed":
        mask = mask.transpose(0, 3).contiguous().transpose(0, 3)
    elif order == "stepped":
        mask = mask.repeat_interleave(2, 0).repeat_interleave(3, 2)[::2, :, ::3]
    counts = list(range(1, groups + 1))
    new_mask, ratio = _op(mask, counts, [3, 2], [2, 1], [1, 0], [1, 3], 1e-8, torch.float64)
    dense = mask.double().repeat_interleave(torch.tensor(counts), 1)
    ones = torch.ones(1, sum(counts), 3, 2, dtype=torch.float64)
    total = F.conv2d(dense, ones, None, (2, 1), (1, 0), (1, 3))
    assert torch.equal(new_mask.double(), total.clamp(0, 1))
    expected = ones.numel() / (total + 1e-8) * total.clamp(0, 1)
    torch.testing.assert_close(ratio, expected, rtol=1e-14, atol=0)


def test_a_count_of_many_cells_is_exact() -> None:
    mask = torch.ones(1, 1, 64, 64)
    mask[0, 0, 5, 7] = 0
    _, ratio = _op(mask, [512], [64, 64], [1, 1], [0, 0], [1, 1], 0.0, torch.float32)
    exact = torch.tensor(4096 * 512 / (4095 * 512), dtype=torch.float64).float()
    assert ratio.item() == exact.item()


def test_eps_of_the_op_and_an_empty_window() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    for eps in (0.0, 1e-8):
        new_mask, ratio = _op(mask, [1], [2, 2], [1, 1], [0, 0], [1, 1], eps, torch.float32)
        assert (new_mask == 0).all()
        assert (ratio == 0).all()
    mask[:] = 1
    _, ratio = _op(mask, [1], [2, 2], [1, 1], [0, 0], [1, 1], 4.0, torch.float32)
    assert (ratio == 0.5).all()


def test_empty_batch() -> None:
    assert update_mask(torch.ones(0, 1, 5, 6), 3).shape == (0, 1, 3, 4)
    assert update_mask(torch.ones(0, 4, 5, 6), 3).shape == (0, 1, 3, 4)


def test_planes_are_summed_alike_for_any_number_of_axes() -> None:
    planes = torch.rand(2, 7, 5, 6)
    flat = update_mask(planes, (3, 3), padding=1)
    deep = update_mask(planes.unsqueeze(2), (1, 3, 3), padding=(0, 1, 1))
    line = update_mask(planes[:, :, 0], 3, padding=1)
    assert torch.equal(flat, deep.squeeze(2))
    assert torch.equal(line, update_mask(planes[:, :, :1], (1, 3), padding=(0, 1)).squeeze(2))
