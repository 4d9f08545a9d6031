"""Partial convolution, values and gradients, against the dense float64 formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import ChannelMask, partial_conv2d, use_backend

DTYPES = [torch.float32, torch.float64]
NCHW, NHWC = torch.contiguous_format, torch.channels_last
N, C, H, W = 2, 6, 13, 11
Mask = Tensor | ChannelMask | None


def _groups(plain: Any, dtype: torch.dtype, channels: tuple[int, ...], n: int = N) -> ChannelMask:
    return ChannelMask(plain.blobs(n, len(channels), H, W).to(dtype), channels)


def _soft(mask: Tensor) -> Tensor:
    return mask * torch.rand_like(mask)


# name -> the mask for x of this dtype, and whether it counts channels.
FORMS: dict[str, Callable[[Any, torch.dtype], tuple[Mask, bool]]] = {
    "none": lambda p, d: (None, False),
    "none, counting channels": lambda p, d: (None, True),
    "plane": lambda p, d: (p.blobs(N, 1, H, W).to(d), False),
    "plane for the batch": lambda p, d: (p.blobs(1, 1, H, W).to(d), False),
    "plane, counting channels": lambda p, d: (p.blobs(N, 1, H, W).to(d), True),
    "plane expanded over the batch": lambda p, d: (
        p.blobs(1, 1, H, W).to(d).expand(N, -1, -1, -1), False),
    "channels": lambda p, d: (p.blobs(N, C, H, W).to(d), True),
    "channels for the batch": lambda p, d: (p.blobs(1, C, H, W).to(d), True),
    "channels, channels last": lambda p, d: (
        p.blobs(N, C, H, W).to(d).to(memory_format=NHWC), True),
    "expanded": lambda p, d: (p.blobs(N, 1, H, W).to(d).expand(-1, C, -1, -1), True),
    "1 group": lambda p, d: (_groups(p, d, (6,)), False),
    "2 groups": lambda p, d: (_groups(p, d, (2, 4)), False),
    "3 groups for the batch": lambda p, d: (_groups(p, d, (1, 2, 3), 1), False),
    "a group for each channel": lambda p, d: (_groups(p, d, (1,) * 6), False),
    "2 bool groups": lambda p, d: (
        ChannelMask(p.blobs(N, 2, H, W).bool(), (5, 1)), False),
    "2 soft groups": lambda p, d: (
        ChannelMask(_soft(p.blobs(N, 2, H, W)).to(d), (3, 3)), False),
    "soft": lambda p, d: (_soft(p.blobs(N, 1, H, W)).to(d), False),
    "soft channels": lambda p, d: (_soft(p.blobs(N, C, H, W)).to(d), True),
    "bool": lambda p, d: (p.blobs(N, 1, H, W).bool(), False),
    "bool channels": lambda p, d: (p.blobs(N, C, H, W).bool(), True),
    "uint8, 255": lambda p, d: ((p.blobs(N, 1, H, W) * 255).to(torch.uint8), False),
    "int64, negative": lambda p, d: ((p.blobs(N, C, H, W) * -7).long(), True),
    "float64": lambda p, d: (_soft(p.blobs(N, 1, H, W)), False),
    "float32": lambda p, d: (p.blobs(N, 1, H, W).float(), False),
    "float16": lambda p, d: (_soft(p.blobs(N, 1, H, W)).half(), False),
    "transposed": lambda p, d: (p.blobs(N, 1, W, H).to(d).transpose(2, 3), False),
    "transposed channels": lambda p, d: (p.blobs(N, C, W, H).to(d).transpose(2, 3), True),
    "every third": lambda p, d: (p.blobs(2 * N, 1, H, 3 * W).to(d)[::2, :, :, ::3], False),
    "all valid": lambda p, d: (torch.ones(N, 1, H, W, dtype=d), False),
    "all holes": lambda p, d: (torch.zeros(N, 1, H, W, dtype=d), False),
    "all channels holes": lambda p, d: (torch.zeros(N, C, H, W, dtype=d), True),
}  # fmt: skip


def _leaves(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def _compare(
    plain: Any,
    x: Tensor,
    mask: Mask,
    weight: Tensor,
    bias: Tensor | None,
    multi_channel: bool = False,
    order: torch.memory_format = NCHW,
    upstream: Callable[[Tensor], Tensor] = lambda g: g,
    **options: Any,
) -> Tensor:
    """Values, new mask and all gradients; ``upstream`` changes the strides of the gradient."""
    source = x.to(memory_format=order) if order is not NCHW else x
    given = [source.detach().requires_grad_(), weight.detach().clone().requires_grad_()]
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    if bias is not None:
        given.append(bias.detach().clone().requires_grad_())
        exact.append(bias.detach().double().requires_grad_())
    y, new_mask = partial_conv2d(
        given[0], mask, given[1], given[2] if bias is not None else None,
        multi_channel=multi_channel, **options,
    )  # fmt: skip
    dense = plain.dense_mask(mask, x, multi_channel)
    expected, expected_mask = plain.partial_conv(
        exact[0], dense, exact[1], exact[2] if bias is not None else None, **options
    )
    fan_in = weight[0].numel()
    plain.close(y, expected, fan_in)
    planes = new_mask.planes if isinstance(new_mask, ChannelMask) else new_mask
    assert planes.shape[0] in (1, x.shape[0])
    low = planes.dtype if planes.is_floating_point() else x.dtype
    coarse = max((low, x.dtype), key=lambda d: torch.finfo(d).eps)
    plain.close(
        planes[:, :1].double().expand(x.shape[0], -1, -1, -1),
        expected_mask if planes.is_floating_point() else (expected_mask > 0).double(),
        fan_in,
        coarse,
    )
    grad = upstream(torch.randn_like(expected).to(x.dtype))
    y.backward(grad)
    expected.backward(grad.double())
    pixels = y.numel() // max(1, y.shape[1])
    lengths = [fan_in * weight.shape[0] / max(1, weight.shape[1]), pixels, pixels]
    for found, wanted, length in zip(given, exact, lengths, strict=False):
        assert found.grad is not None
        assert wanted.grad is not None
        assert found.grad.dtype == x.dtype
        plain.close(found.grad, wanted.grad, length)
    return y


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mask(
    plain: Any, form: str, dtype: torch.dtype, order: torch.memory_format, bias: bool
) -> None:
    mask, multi_channel = FORMS[form](plain, dtype)
    x, weight, b = _leaves(dtype, (N, C, H, W), (4, C, 3, 3), (4,))
    y = _compare(
        plain, x, mask, weight, b if bias else None, multi_channel, order, padding=1, stride=(1, 2)
    )
    assert y.is_contiguous(memory_format=order)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "1x1": {"kernel": (1, 1)},
    "7x7, stride 2": {"kernel": (7, 7), "stride": 2, "padding": 3},
    "asymmetric": {"kernel": (3, 5), "stride": (2, 1), "padding": (1, 4), "dilation": (1, 2)},
    "even": {"kernel": (2, 4), "padding": (1, 0)},
    "dilated beyond the padding": {"kernel": (3, 3), "padding": 1, "dilation": 3},
    "stride larger than the window": {"kernel": (2, 2), "stride": 5},
    "windows in padding only": {"kernel": (2, 2), "padding": 4, "stride": 1},
    "one window": {"kernel": (H, W)},
    "2 groups": {"kernel": (3, 3), "padding": 1, "groups": 2},
    "depthwise": {"kernel": (3, 3), "padding": 1, "groups": 6},
    "same": {"kernel": (3, 3), "padding": "same"},
    "same, even": {"kernel": (4, 2), "padding": "same"},
    "same, even, dilated": {"kernel": (2, 4), "padding": "same", "dilation": (3, 1)},
    "valid": {"kernel": (3, 2), "padding": "valid", "stride": 2},
    "reflect": {"kernel": (3, 5), "padding": (1, 2), "padding_mode": "reflect"},
    "replicate": {"kernel": (3, 3), "padding": 2, "padding_mode": "replicate", "stride": 2},
    "circular": {"kernel": (5, 3), "padding": (2, 1), "padding_mode": "circular"},
    "circular, same, even": {"kernel": (4, 2), "padding": "same", "padding_mode": "circular"},
    "reflect, valid": {"kernel": (3, 3), "padding": "valid", "padding_mode": "reflect"},
    "eps": {"kernel": (3, 3), "padding": 1, "eps": 0.5},
    "no eps": {"kernel": (3, 3), "padding": 1, "eps": 0.0},
}


@pytest.mark.parametrize("form", ["none", "plane", "2 groups", "soft channels", "bool"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_window(plain: Any, geometry: str, order: torch.memory_format, form: str) -> None:
    options = dict(GEOMETRIES[geometry])
    kernel = options.pop("kernel")
    mask, multi_channel = FORMS[form](plain, torch.float32)
    groups = options.get("groups", 1)
    x, weight, bias = _leaves(torch.float32, (N, C, H, W), (6, C // groups, *kernel), (6,))
    _compare(plain, x, mask, weight, bias, multi_channel, order, **options)


@pytest.mark.parametrize(("c", "h", "w"), [(1, 1, 1), (3, 1, 9), (1, 17, 33), (5, 40, 67)])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_odd_sizes(
    plain: Any, c: int, h: int, w: int, order: torch.memory_format, bias: bool
) -> None:
    x, weight, b = _leaves(torch.float32, (3, c, h, w), (7, c, 3, 3), (7,))
    mask = plain.blobs(3, 1, h, w).float()
    _compare(plain, x, mask, weight, b if bias else None, order=order, padding=1)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_planes_larger_than_one_block_of_the_kernels(
    plain: Any, order: torch.memory_format, bias: bool
) -> None:
    x, weight, b = _leaves(torch.float32, (1, 2, 131, 257), (3, 2, 3, 3), (3,))
    mask = plain.blobs(1, 1, 131, 257).float()
    _compare(plain, x, mask, weight, b if bias else None, order=order, padding=1)


def _transposed(t: Tensor) -> Tensor:
    return t.transpose(2, 3).contiguous().transpose(2, 3)


def _stepped(t: Tensor) -> Tensor:
    wide = t.repeat_interleave(2, 1).repeat_interleave(3, 3)
    return wide[:, ::2, :, ::3]


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("change", [_transposed, _stepped], ids=["transposed", "stepped"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_strided_input_and_gradient(
    plain: Any, change: Callable[[Tensor], Tensor], order: torch.memory_format, bias: bool
) -> None:
    x, weight, b = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3), (4,))
    mask = plain.blobs(N, 1, H, W).float()
    chosen = b if bias else None
    _compare(plain, change(x), mask, weight, chosen, upstream=change, padding=1)
    _compare(plain, x, mask, weight, chosen, order=order, upstream=change, padding=1)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_expanded_input_and_gradient(plain: Any, bias: bool) -> None:
    x, weight, b = _leaves(torch.float32, (1, C, H, W), (4, C, 3, 3), (4,))
    mask = plain.blobs(N, 1, H, W).float()
    one = torch.randn(1, 1, 1, 1)
    _compare(
        plain, x.expand(N, -1, -1, -1), mask, weight, b if bias else None,
        upstream=lambda g: one.expand_as(g), padding=1,
    )  # fmt: skip


def test_strided_weight_and_bias(plain: Any) -> None:
    x, weight, bias = _leaves(torch.float32, (N, C, H, W), (3, 3, C, 8), (8,))
    mask = plain.blobs(N, 1, H, W).float()
    w = weight.permute(3, 2, 0, 1)[::2]
    y, _ = partial_conv2d(x, mask, w, bias[::2], padding=1)
    expected, _ = plain.partial_conv(x, mask, w, bias[::2], padding=1)
    plain.close(y, expected, w[0].numel())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", ["plane", "channels", "2 groups", "soft", "bool", "expanded"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_what_lies_under_a_hole_stays_there(
    plain: Any, value: float, form: str, order: torch.memory_format, padding_mode: str
) -> None:
    mask, multi_channel = FORMS[form](plain, torch.float32)
    clean, weight, bias = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3), (4,))
    holes = plain.dense_mask(mask, clean, True) == 0
    assert holes.any()
    dirty = clean.masked_fill(holes, value)
    results = []
    for x in (clean, dirty):
        leaves = [t.clone().requires_grad_() for t in (x.to(memory_format=order), weight, bias)]
        y, _ = partial_conv2d(
            leaves[0], mask, leaves[1], leaves[2], padding=1, multi_channel=multi_channel,
            padding_mode=padding_mode,
        )  # fmt: skip
        y.square().sum().backward()
        results.append([y.detach(), *(t.grad for t in leaves)])
    for a, b in zip(*results, strict=True):
        assert a is not None
        assert b is not None
        assert torch.isfinite(b).all()
        torch.testing.assert_close(a, b)
    grad_x = results[1][1]
    assert grad_x is not None
    assert (grad_x[holes] == 0).all()


@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.bool], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_whole_blocks_of_holes_and_of_valid_pixels(
    order: torch.memory_format, groups: int, mask_dtype: torch.dtype
) -> None:
    """Kernels copy or clear blocks that are all alike; none of it may let a NaN through."""
    planes = torch.ones(2, groups, 131, 140)
    planes[0, :, :90] = 0
    planes[1, 0, 30:] = 0
    planes[:, -1, 100, 17:23] = 0
    counts = {1: (5,), 2: (2, 3), 5: (1,) * 5}[groups]
    mask = ChannelMask(planes.to(mask_dtype), counts)
    x = torch.randn(2, 5, 131, 140).masked_fill(mask.dense() == 0, float("nan"))
    leaf = x.to(memory_format=order).requires_grad_()
    weight = torch.eye(5).view(5, 5, 1, 1).requires_grad_()
    y, _ = partial_conv2d(leaf, mask, weight)
    clean = x.nan_to_num(0.0)
    total = mask.dense().sum(1, keepdim=True)
    expected = torch.where(total > 0, clean * 5 / total, torch.zeros(()))
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert leaf.grad is not None
    wanted = mask.dense() * torch.where(total > 0, 5 / total, torch.zeros(()))
    torch.testing.assert_close(leaf.grad, wanted.to(leaf.grad.dtype))
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()


def test_nan_at_a_valid_pixel_is_not_hidden() -> None:
    x, weight = _leaves(torch.float32, (1, 2, 5, 5), (1, 2, 3, 3))
    x[0, 1, 2, 2] = float("nan")
    y, _ = partial_conv2d(x, torch.ones(1, 1, 5, 5), weight, padding=0)
    assert torch.isnan(y).all()


def test_padded_cells_count_as_holes() -> None:
    x, weight = torch.ones(1, 1, 5, 6), torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    for mask in (None, torch.ones(1, 1, 5, 6)):
        y, new_mask = partial_conv2d(x, mask, weight, padding=1)
        expected = torch.ones(5, 6)
        expected[[0, -1]] = 1.5
        expected[:, [0, -1]] = 1.5
        expected[[0, 0, -1, -1], [0, -1, 0, -1]] = 2.25
        torch.testing.assert_close(y[0, 0], expected)
        assert isinstance(new_mask, Tensor)
        assert (new_mask == 1).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_soft_masks_keep_their_values(dtype: torch.dtype) -> None:
    x, weight = torch.ones(1, 1, 5, 5, dtype=dtype), torch.zeros(1, 1, 3, 3, dtype=dtype)
    weight[0, 0, 1, 1] = 1
    mask = torch.full((1, 1, 5, 5), 0.05, dtype=dtype)
    y, new_mask = partial_conv2d(x, mask, weight)
    assert isinstance(new_mask, Tensor)
    expected = torch.full_like(y, 0.05 * 9.0 / (0.45 + 1e-8) * 0.45)
    torch.testing.assert_close(y, expected)  # ratio 9 times the pixel's 0.05
    torch.testing.assert_close(new_mask, torch.full_like(new_mask, 0.45))


def test_groups_do_not_change_the_window_count() -> None:
    x, weight = torch.ones(1, 4, 3, 3), torch.ones(2, 2, 3, 3)
    mask = torch.zeros(1, 4, 3, 3)
    mask[0, 0] = 1
    y, _ = partial_conv2d(x, mask, weight, groups=2, multi_channel=True)
    # Group 0 sees nine ones, group 1 none; ratio 36 / 9 in both.
    torch.testing.assert_close(y[0, :, 0, 0], torch.tensor([36.0, 0.0]))


def test_only_zero_is_a_hole_in_integer_masks(plain: Any) -> None:
    x, weight = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3))
    zero_one = plain.blobs(N, 1, H, W)
    expected, _ = partial_conv2d(x, zero_one.float(), weight)
    for mask in (
        (zero_one * 255).to(torch.uint8), (zero_one * 256).to(torch.int16), -zero_one.long()
    ):  # fmt: skip
        y, new_mask = partial_conv2d(x, mask, weight)
        assert torch.equal(y, expected)
        assert isinstance(new_mask, Tensor)
        assert set(new_mask.unique().tolist()) == {0, 1}


# The new mask's form ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32,
     torch.float64],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
def test_new_mask_has_the_dtype_of_the_mask(
    plain: Any, dtype: torch.dtype, x_dtype: torch.dtype
) -> None:
    x, weight = _leaves(x_dtype, (N, C, H, W), (4, C, 3, 3))
    plane = plain.blobs(N, 1, H, W).to(dtype)
    _, new_mask = partial_conv2d(x, plane, weight)
    assert isinstance(new_mask, Tensor)
    assert new_mask.dtype == dtype
    _, groups = partial_conv2d(x, ChannelMask(plane, (C,)), weight)
    assert isinstance(groups, ChannelMask)
    assert groups.planes.dtype == dtype


@pytest.mark.parametrize("batch", [1, N])
def test_new_mask_of_one_plane(plain: Any, batch: int) -> None:
    x, weight = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3))
    _, new_mask = partial_conv2d(x, plain.blobs(batch, 1, H, W).float(), weight)
    assert isinstance(new_mask, Tensor)
    assert new_mask.shape == (batch, 1, H - 2, W - 2)
    assert not new_mask.requires_grad


@pytest.mark.parametrize("form", ["channels", "expanded", "plane, counting channels"])
def test_new_mask_of_all_channels_is_a_view_of_one_plane(plain: Any, form: str) -> None:
    mask, _ = FORMS[form](plain, torch.float32)
    x, weight = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3))
    _, new_mask = partial_conv2d(x, mask, weight, multi_channel=True)
    assert isinstance(new_mask, Tensor)
    assert new_mask.shape == (N, 4, H - 2, W - 2)
    assert new_mask.stride(1) == 0


def test_new_mask_without_a_mask() -> None:
    x, weight = _leaves(torch.float64, (N, C, H, W), (4, C, 3, 3))
    _, one = partial_conv2d(x, None, weight)
    _, all_channels = partial_conv2d(x, None, weight, multi_channel=True)
    assert isinstance(one, Tensor)
    assert isinstance(all_channels, Tensor)
    assert one.shape == (1, 1, H - 2, W - 2)
    assert all_channels.shape == (N, 4, H - 2, W - 2)
    assert one.dtype == all_channels.dtype == torch.float64


def test_a_channel_mask_in_gives_a_channel_mask_out(plain: Any) -> None:
    x, weight = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3))
    mask = _groups(plain, torch.float32, (2, 4))
    y, new_mask = partial_conv2d(x, mask, weight)
    assert isinstance(new_mask, ChannelMask)
    assert new_mask.channels == (4,)
    assert new_mask.planes.shape == (N, 1, H - 2, W - 2)
    dense, dense_mask = partial_conv2d(x, mask.dense(), weight, multi_channel=True)
    assert isinstance(dense_mask, Tensor)
    torch.testing.assert_close(y, dense)
    assert torch.equal(new_mask.dense(), dense_mask)
    # It feeds the next layer as it is.
    again, _ = partial_conv2d(y, new_mask, torch.randn(2, 4, 3, 3))
    assert again.shape == (N, 2, H - 4, W - 4)


def test_channel_mask_dense() -> None:
    planes = torch.arange(8.0).view(2, 2, 1, 2)
    dense = ChannelMask(planes, (1, 2)).dense()
    assert torch.equal(dense, planes[:, [0, 1, 1]])


def test_no_gradient_goes_to_the_mask(plain: Any) -> None:
    x, weight = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3))
    mask = plain.blobs(N, 1, H, W).float().requires_grad_()
    y, new_mask = partial_conv2d(x, mask, weight.requires_grad_())
    y.sum().backward()
    assert mask.grad is None
    assert isinstance(new_mask, Tensor)
    assert not new_mask.requires_grad


def test_the_arguments_are_left_as_they_were(plain: Any) -> None:
    x, weight, bias = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3), (4,))
    mask = plain.blobs(N, 1, H, W).float()
    kept = [t.clone() for t in (x, mask, weight, bias)]
    leaf = x.requires_grad_()
    y, _ = partial_conv2d(leaf, mask, weight, bias)
    grad = torch.randn_like(y)
    kept_grad = grad.clone()
    y.backward(grad)
    assert torch.equal(grad, kept_grad)
    for t, before in zip((leaf, mask, weight, bias), kept, strict=True):
        assert torch.equal(t, before)


@pytest.mark.parametrize("needs", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)], ids=str)
def test_only_the_gradients_asked_for(plain: Any, needs: tuple[int, ...]) -> None:
    leaves = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3), (4,))
    exact = [t.double() for t in leaves]
    for need, t, e in zip(needs, leaves, exact, strict=True):
        t.requires_grad_(bool(need))
        e.requires_grad_(bool(need))
    mask = plain.blobs(N, 1, H, W).float()
    y, _ = partial_conv2d(leaves[0], mask, leaves[1], leaves[2])
    expected, _ = plain.partial_conv(exact[0], mask, exact[1], exact[2])
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.double())
    for need, t, e in zip(needs, leaves, exact, strict=True):
        assert (t.grad is not None) == bool(need)
        if t.grad is not None:
            plain.close(t.grad, e.grad, y[:, 0].numel())


def test_two_layers_share_the_scratch_memory(plain: Any) -> None:
    """What one call left in scratch is not what the next one's backward needs."""
    x = torch.randn(N, 3, H, W)
    mask = plain.blobs(N, 1, H, W).float()
    weights = [torch.randn(5, 3, 3, 3), torch.randn(2, 5, 3, 3)]
    given = [t.clone().requires_grad_() for t in (x, *weights)]
    exact = [t.double().requires_grad_() for t in (x, *weights)]
    h, m = partial_conv2d(given[0], mask, given[1], padding=1)
    y, _ = partial_conv2d(torch.tanh(h), m, given[2], padding=1)
    eh, em = plain.partial_conv(exact[0], mask, exact[1], padding=1)
    ey, _ = plain.partial_conv(torch.tanh(eh), em, exact[2], padding=1)
    plain.close(y, ey, 5 * 9)
    grad = torch.randn_like(y)
    y.backward(grad)
    ey.backward(grad.double())
    for t, e in zip(given, exact, strict=True):
        assert t.grad is not None
        plain.close(t.grad, e.grad, 4 * y[:, 0].numel())


# Half precision, which the reference runs -------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["none", "plane", "2 groups", "channels", "bool", "all holes"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_half_precision(plain: Any, dtype: torch.dtype, form: str, bias: bool) -> None:
    mask, multi_channel = FORMS[form](plain, dtype)
    x, weight, b = _leaves(dtype, (N, C, H, W), (4, C, 3, 3), (4,))
    y = _compare(plain, x, mask, weight, b if bias else None, multi_channel, padding=1)
    assert y.dtype == dtype


# Both backends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_the_reference_backend_too(plain: Any, form: str, bias: bool) -> None:
    mask, multi_channel = FORMS[form](plain, torch.float32)
    x, weight, b = _leaves(torch.float32, (N, C, H, W), (4, C, 3, 3), (4,))
    with use_backend("reference"):
        _compare(plain, x, mask, weight, b if bias else None, multi_channel, padding=1)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["plane", "counted plane", "channels", "groups"])
@pytest.mark.parametrize("last", [None, (0, 0, -1, -1)], ids=["valid", "one hole at the end"])
def test_masks_without_holes(
    plain: Any, last: tuple[int, ...] | None, form: str, dtype: torch.dtype
) -> None:
    """They are not read twice; one hole in the last cell is seen all the same."""
    planes = {"plane": 1, "counted plane": 1, "channels": 6, "groups": 2}[form]
    values = torch.ones(2, planes, 37, 41, dtype=dtype)
    if last is not None:
        values[1, -1, -1, -1] = 0
    mask = ChannelMask(values, (4, 2)) if form == "groups" else values
    x = torch.randn(2, 6, 37, 41, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    weight, bias = torch.randn(5, 6, 3, 3, dtype=x.dtype), torch.randn(5, dtype=x.dtype)
    multi = form in ("counted plane", "channels")
    y, new = partial_conv2d(x, mask, weight, bias, 2, 1, multi_channel=multi)
    expected, expected_new = plain.partial_conv(x, mask, weight, bias, 2, 1, multi_channel=multi)
    plain.close(y, expected, 54)
    found = new.planes if isinstance(new, ChannelMask) else new[:, :1]
    assert torch.equal(found.double(), expected_new)
