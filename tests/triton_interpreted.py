"""The Triton backend under Triton's interpreter, on CPU tensors, against the float64 formulas.

Not collected with the others: ``test_triton.py`` starts it in a process of its own, because Triton
reads TRITON_INTERPRET when a kernel is decorated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import opcheck

from inpaint_ops import (
    RN_L,
    ChannelMask,
    partial_conv1d,
    partial_conv2d,
    partial_conv3d,
    region_norm,
    update_mask,
    use_backend,
)
from inpaint_ops.backends import triton as backend
from inpaint_ops.backends.reference import OPS as REFERENCE
from inpaint_ops.backends.reference.mask_update import mask_update
from inpaint_ops.backends.reference.region_norm import region_statistics
from inpaint_ops.backends.triton import gemm
from inpaint_ops.backends.triton.kernels import conv_forward as conv_forward_kernels
from inpaint_ops.backends.triton.kernels import region_norm as region_norm_kernels
from inpaint_ops.backends.triton.kernels.region_norm import row

NHWC = torch.channels_last
HALF_AND_SINGLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
LAYOUTS = pytest.mark.parametrize("layout", ["nchw", "nhwc", "transposed"])


@pytest.fixture(autouse=True)
def _interpreted(
    monkeypatch: pytest.MonkeyPatch, fresh_dispatch: None, poison: None
) -> Iterator[None]:
    assert triton.knobs.runtime.interpret
    monkeypatch.setattr(backend, "unavailable", lambda: None)
    monkeypatch.setattr(backend, "unsupported", lambda op, tensor: None)
    with use_backend("triton"):
        yield


def laid(x: Tensor, layout: str) -> Tensor:
    """The same values, in another memory order."""
    if layout == "nchw":
        return x.contiguous()
    return x.contiguous(memory_format=NHWC) if layout == "nhwc" else x.mT.contiguous().mT


def leaves(dtype: torch.dtype, *shapes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Random tensors of a dtype, and the same values in float64; both want gradients."""
    values = [torch.randn(shape).to(dtype) for shape in shapes]
    return [v.clone().requires_grad_() for v in values], [
        v.double().requires_grad_() for v in values
    ]


def same_gradients(
    plain: Any,
    y: Tensor,
    expected: Tensor,
    found: list[Tensor],
    wanted: list[Tensor],
    length: float,
) -> None:
    """y, and what a random gradient of y leaves in the leaves."""
    plain.close(y, expected, length)
    grad = torch.randn(expected.shape).to(y.dtype)
    a = torch.autograd.grad(y, found, grad)
    b = torch.autograd.grad(expected, wanted, grad.double())
    for one, other in zip(a, b, strict=True):
        plain.close(one, other, expected.numel() / expected.shape[1])


# Masks --------------------------------------------------------------------------------------------

WINDOWS: dict[str, tuple[Any, Any, Any, Any]] = {
    "3x3": (3, 1, 1, 1),
    "strided": ((5, 3), (2, 3), (2, 0), (1, 2)),
    "even": (4, 2, 1, 1),
    "wider than the image": (7, 1, 6, 2),
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.float32, torch.float16, torch.float64], ids=str
)
def test_mask_update(window: str, dtype: torch.dtype) -> None:
    kernel, stride, padding, dilation = (
        [v, v] if isinstance(v, int) else list(v) for v in WINDOWS[window]
    )
    for channels in ([1], [1, 4, 2, 1], [1] * 6, [2, 1, 3, 1, 1]):
        mask = torch.rand(2, len(channels), 15, 17) > 0.6
        mask[:, :, :8, :8] = False
        given = mask if dtype == torch.bool else (mask * torch.rand(mask.shape)).to(dtype)
        for form in (given, laid(given, "nhwc")[:, :, ::2], given[:1].expand(2, -1, -1, -1)):
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            arguments = (form, channels, kernel, stride, padding, dilation, 1e-8)
            new_mask, ratio = torch.ops.inpaint_ops.mask_update(*arguments, wide)
            expected, scale = mask_update(form.double(), *arguments[1:], torch.float64)
            assert new_mask.dtype == dtype
            assert ratio.dtype == wide
            if dtype == torch.bool:
                assert torch.equal(new_mask, expected != 0)
            torch.testing.assert_close(new_mask.double(), expected, rtol=1e-3, atol=1e-7)
            torch.testing.assert_close(ratio.double(), scale, rtol=2e-6, atol=0)


def test_mask_update_of_one_and_three_axes() -> None:
    line, volume = torch.rand(2, 1, 37) > 0.7, torch.rand(2, 1, 5, 7, 6) > 0.8
    found = update_mask(line, 5, stride=2, padding=2), update_mask(volume, 3, padding=1)
    with use_backend("reference"):
        expected = update_mask(line, 5, stride=2, padding=2), update_mask(volume, 3, padding=1)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@LAYOUTS
@HALF_AND_SINGLE
def test_apply_mask_selects_holes_away(layout: str, dtype: torch.dtype) -> None:
    for channels in ([7], [3, 4], [1, 2, 3, 1], [1] * 7, [1, 1, 1, 2, 2]):
        x = laid(torch.randn(2, 7, 9, 13).to(dtype), layout)
        hard = torch.rand(2, len(channels), 9, 13) > 0.5
        soft = torch.where(hard, torch.rand(hard.shape), 0.0)
        for mask in (hard, soft, soft.to(dtype), hard[:1]):
            dense = mask.repeat_interleave(torch.tensor(channels), 1).expand(2, -1, -1, -1)
            holed = torch.where(dense == 0, torch.nan, x)
            found = torch.ops.inpaint_ops.apply_mask(holed, mask, channels)
            plainly = (torch.where(dense == 0, 0, x).double() * dense.double()).to(dtype)
            assert torch.equal(found, plainly)


# Partial convolution ------------------------------------------------------------------------------

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "3x3": {"padding": 1},
    "strided": {"stride": (2, 3), "padding": (2, 1)},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2, "padding": 1},
    "reflected": {"padding": 2, "padding_mode": "reflect"},
}
MASKS = ("none", "plane", "one for all", "bool", "soft", "channels", "groups")


def masks(plain: Any, form: str, dtype: torch.dtype) -> tuple[Tensor | ChannelMask | None, bool]:
    """A mask of some form for (2, 6, 13, 11), and whether it counts channels."""
    if form == "none":
        return None, False
    if form == "channels":
        return plain.blobs(2, 6, 13, 11).float(), True
    if form == "groups":
        return ChannelMask(plain.blobs(2, 2, 13, 11).to(dtype), (2, 4)), False
    mask: Tensor = plain.blobs(1 if form == "one for all" else 2, 1, 13, 11)
    if form == "soft":
        mask = mask * torch.rand(mask.shape, dtype=torch.float64)
    return (mask > 0 if form == "bool" else mask.to(dtype)), False


MODES = pytest.mark.parametrize("mode", ["library", "gemm"])


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch, mode: str) -> list[str]:
    """Runs the convolutions one way; names of the implicit matrix products that were formed."""
    monkeypatch.setenv("INPAINT_OPS_CONV", mode)
    seen: list[str] = []
    for name in ("forward", "grad_input", "grad_weight"):
        original = getattr(gemm, name)

        def counted(*args: Any, _original: Any = original, _name: str = name) -> Any:
            seen.append(_name)
            return _original(*args)

        monkeypatch.setattr(gemm, name, counted)
    return seen


@MODES
@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_partial_conv(plain: Any, products: list[str], case: str, form: str, mode: str) -> None:
    """Each case and form once, in one of both dtypes and memory orders."""
    options, number = CONVOLUTIONS[case], list(CONVOLUTIONS).index(case) + MASKS.index(form)
    dtype = (torch.float32, torch.float16)[number % 2]
    layout = ("nchw", "nhwc")[number // 2 % 2]
    mask, multi_channel = masks(plain, form, dtype)
    weight = (4, 6 // options.get("groups", 1), 3, 3)
    found, wanted = leaves(dtype, (2, 6, 13, 11), weight, (4,))
    count = 2 if form == MASKS[0] else 3
    bias = [None, None] if count == 2 else [found[2], wanted[2]]
    y, new_mask = partial_conv2d(
        laid(found[0], layout), mask, found[1], bias[0], multi_channel=multi_channel, **options
    )
    expected, new = plain.partial_conv(
        wanted[0], mask, wanted[1], bias[1], multi_channel=multi_channel, **options
    )
    plane = (new_mask.planes if isinstance(new_mask, ChannelMask) else new_mask)[:, :1]
    torch.testing.assert_close(plane.double(), new[: len(plane)], rtol=1e-3, atol=1e-6)
    same_gradients(plain, y, expected, found[:count], wanted[:count], 54)
    if mode == "library" or case == "grouped":
        assert products == []
    else:
        assert products == ["forward", "grad_input", "grad_weight"]


@MODES
@HALF_AND_SINGLE
@LAYOUTS
@pytest.mark.usefixtures("products")
def test_nan_under_holes_reaches_nothing(plain: Any, layout: str, dtype: torch.dtype) -> None:
    mask = plain.blobs(2, 1, 13, 11)
    found, wanted = leaves(dtype, (2, 6, 13, 11), (4, 6, 3, 3), (4,))
    holed = torch.where(mask == 0, torch.nan, found[0].detach()).requires_grad_()
    y, _ = partial_conv2d(laid(holed, layout), mask.bool(), found[1], found[2], padding=1)
    expected, _ = plain.partial_conv(wanted[0], mask, *wanted[1:], padding=1)
    same_gradients(plain, y, expected, [holed, *found[1:]], wanted, 54)


@MODES
@pytest.mark.parametrize("fill", [0.0, 1.0])
@pytest.mark.usefixtures("products")
def test_all_holes_and_no_holes(plain: Any, fill: float) -> None:
    mask = torch.full((2, 1, 13, 11), fill)
    found, wanted = leaves(torch.float32, (2, 6, 13, 11), (4, 6, 3, 3), (4,))
    y, _ = partial_conv2d(found[0], mask, found[1], found[2], padding=1)
    expected, _ = plain.partial_conv(wanted[0], mask, *wanted[1:], padding=1)
    same_gradients(plain, y, expected, found, wanted, 54)


def test_statistics_of_a_matrix_product(plain: Any) -> None:
    """Mean and rstd come with the result, and are those of a pass over it."""
    x = laid(torch.randn(3, 6, 13, 11) + 100, "nhwc")
    weight, bias, window = (
        torch.randn(20, 6, 3, 3),
        torch.randn(20),
        gemm.Window([1, 1], [1, 1], [1, 1]),
    )
    for mask in (plain.blobs(3, 1, 13, 11).float(), torch.rand(3, 1, 13, 11)):
        y, new_mask, _, found = gemm.forward(
            x, mask, [6], weight, bias, window, [1, 1], False, False, 1e-8, gemm.CONFIGS[1],
            (1e-5, True),
        )  # fmt: skip
        assert found is not None
        mean, rstd = region_statistics(y.double(), new_mask, 1e-5, True, False)
        torch.testing.assert_close(found[0], mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], rstd, rtol=1e-5, atol=0)


def test_a_window_that_counts_nothing_is_caught(
    plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @triton.jit
    def uncounted(total, cells, eps):  # type: ignore[no-untyped-def]
        new = tl.minimum(total, 1.0)
        return new, new

    monkeypatch.setattr(conv_forward_kernels, "window", uncounted)
    monkeypatch.setenv("INPAINT_OPS_CONV", "gemm")
    with pytest.raises(AssertionError):
        test_all_holes_and_no_holes(plain, 1.0)


def test_one_and_three_axes(plain: Any) -> None:
    for function, size in ((partial_conv1d, (19,)), (partial_conv3d, (5, 6, 7))):
        kernel = (3,) * len(size)
        found, wanted = leaves(torch.float32, (2, 3, *size), (4, 3, *kernel), (4,))
        mask = torch.rand(2, 1, *size) > 0.5
        y, _ = function(found[0], mask, found[1], found[2], stride=2, padding=1)
        with use_backend("reference"):
            expected, _ = function(wanted[0], mask, wanted[1], wanted[2], stride=2, padding=1)
        same_gradients(plain, y, expected, found, wanted, 81)


# Region normalization -----------------------------------------------------------------------------


@HALF_AND_SINGLE
@LAYOUTS
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_norm(plain: Any, stats: str, layout: str, dtype: torch.dtype) -> None:
    hard = plain.blobs(3, 1, 13, 11)
    for mask in (hard.bool(), hard.to(dtype), hard[:1], torch.zeros(1, 1, 13, 11)):
        found, wanted = leaves(dtype, (3, 5, 13, 11), (2, 5), (2, 5))
        y = region_norm(laid(found[0], layout), mask, found[1], found[2], stats=stats)
        expected = plain.region_norm(wanted[0], mask, *wanted[1:], stats=stats)
        same_gradients(plain, y, expected, found, wanted, 3 * 13 * 11)


@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("scale_eps", [True, False])
def test_region_norm_of_soft_labels(plain: Any, scale_eps: bool, stats: str) -> None:
    mask = torch.rand(3, 1, 13, 11)
    found, wanted = leaves(torch.float32, (3, 5, 13, 11), (2, 5), (2, 5))
    options: dict[str, Any] = {"stats": stats, "scale_eps": scale_eps}
    y = region_norm(found[0], mask, found[1], found[2], **options)
    expected = plain.soft_region_norm(wanted[0], mask, *wanted[1:], **options)
    same_gradients(plain, y, expected, found, wanted, 3 * 13 * 11)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_statistics_far_from_zero(layout: str) -> None:
    """Many chunks of several tiles, and a mean of ten thousand standard deviations."""
    x = laid(torch.randn(2, 3, 96, 100) + 1e4, layout)
    for mask in (torch.rand(2, 1, 96, 100) > 0.4, torch.rand(2, 1, 96, 100)):
        arguments = (mask, None, None, 1e-5, True, False)
        _, mean, rstd = torch.ops.inpaint_ops.region_norm_forward(x, *arguments)
        centre, scale = region_statistics(x.double(), mask, 1e-5, True, False)
        torch.testing.assert_close(mean, centre, rtol=1e-9, atol=0)
        torch.testing.assert_close(rstd, scale, rtol=1e-5, atol=0)


@HALF_AND_SINGLE
@LAYOUTS
def test_nan_in_one_region_stays_there(plain: Any, layout: str, dtype: torch.dtype) -> None:
    hole = (plain.blobs(2, 1, 13, 11) == 0).expand(2, 5, -1, -1)
    x, grad = torch.randn(2, 5, 13, 11).to(dtype), torch.randn(2, 5, 13, 11).to(dtype)
    found = []
    for values in (x, x.masked_fill(hole, torch.nan)):
        leaf, weight = laid(values, layout).requires_grad_(), torch.ones(2, 5).requires_grad_()
        y = region_norm(leaf, ~hole[:, :1], weight)
        found.append((y, *torch.autograd.grad(y, [leaf, weight], grad)))
    (y, grad_x, grad_weight), (holed_y, holed_grad_x, holed_grad_weight) = found
    assert torch.equal(y[~hole], holed_y[~hole])
    assert torch.equal(grad_x[~hole], holed_grad_x[~hole])
    assert torch.equal(grad_weight[0], holed_grad_weight[0])


def test_a_kernel_that_multiplies_by_zero_is_caught(
    plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @triton.jit
    def multiplied(x, w0, w1, mean, rstd, group, c, C, ONE):  # type: ignore[no-untyped-def]
        d0 = w0 * (x - row(mean, group, 0, c, C))
        d1 = w1 * (x - row(mean, group, 1, c, C))
        return d0 * row(rstd, group, 0, c, C) + d1 * row(rstd, group, 1, c, C)

    monkeypatch.setattr(region_norm_kernels, "normalized", multiplied)
    with pytest.raises(AssertionError):
        test_nan_in_one_region_stays_there(plain, "nchw", torch.float32)


def test_statistics_without_a_shift_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def unshifted(x, w, count, square, shift, first, weighted, second):  # type: ignore[no-untyped-def]
        d = w * x
        return count + tl.sum(w), square, shift, first + d, weighted, second + d * d

    monkeypatch.setattr(region_norm_kernels, "gather", unshifted)
    with pytest.raises(AssertionError):
        test_statistics_far_from_zero("nchw")


@HALF_AND_SINGLE
@LAYOUTS
def test_rn_l(plain: Any, layout: str, dtype: torch.dtype) -> None:
    module = RN_L(9, threshold=0.5)
    names = ["conv1.weight", "gamma_conv.weight", "gamma_conv.bias",
             "beta_conv.weight", "beta_conv.bias"]  # fmt: skip
    parameters = [module.sa.get_parameter(name) for name in names]
    wanted = [p.detach().double().requires_grad_() for p in parameters]
    values = torch.randn(2, 9, 13, 11).to(dtype)
    x, exact = values.clone().requires_grad_(), values.double().requires_grad_()
    y = module(laid(x, layout))
    expected, attention = plain.attention_region_norm(exact, *wanted, threshold=0.5)
    assert 0 < (attention >= 0.5).double().mean() < 1
    plain.close(y, expected, 286, dtype)
    grad = torch.randn(expected.shape).to(dtype)
    found = torch.autograd.grad(y, [x, *parameters], grad)
    for a, b in zip(
        found, torch.autograd.grad(expected, [exact, *wanted], grad.double()), strict=True
    ):
        plain.close(a, b, 286 * 9, dtype)


# What follows the convolution in a block --------------------------------------------------------

# The regions of the statistics, and the activation's slope. fixed: statistics are given.
BLOCKS = {"plane": 0.0, "bool": 0.2, "soft": 0.2, "hole": 1.0, "one region": 0.0, "fixed": 0.2}


def both(name: str, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The op's results, statistics as what they are known to, and the formula's in float64."""
    wide = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    results = backend.OPS[name](*arguments), REFERENCE[name](*wide)
    found, wanted = (list(r) if isinstance(r, tuple) else [r] for r in results)
    return [t.float() if t.dtype == torch.float64 else t for t in found], wanted


def close(plain: Any, found: list[Tensor], wanted: list[Tensor], length: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        plain.close(a, b, length, scale=1.0)


def surround(plain: Any, batch: int) -> tuple[Tensor, Tensor]:
    """Ratio and new mask: zero where a window saw nothing."""
    new_mask = plain.blobs(batch, 1, 13, 11).float()
    return (1 + torch.rand_like(new_mask)) * new_mask, new_mask


@HALF_AND_SINGLE
@LAYOUTS
@pytest.mark.parametrize("form", BLOCKS)
def test_norm_in_a_block(plain: Any, form: str, layout: str, dtype: torch.dtype) -> None:
    size, pixels = (2, 5, 13, 11), 2 * 13 * 11
    x, grad = (laid(torch.randn(size).to(dtype) + 1, layout) for _ in range(2))
    around = (*surround(plain, 1 if form == "bool" else 2), BLOCKS[form])
    mask = None
    if form not in ("one region", "fixed"):
        mask = plain.blobs(2, 1, 13, 11) * {"soft": torch.rand(2, 1, 13, 11), "hole": 0}.get(
            form, 1
        )
        mask = mask > 0 if form == "bool" else mask.float()
    weight, bias = torch.randn(2, 1 if mask is None else 2, 5).unbind()
    if form == "fixed":
        mean, rstd = torch.randn(1, 1, 5).double(), torch.rand(1, 1, 5).double()
        given = (x, *around, weight, bias, mean, rstd)
        close(plain, *both("block_norm_fixed", *given), 64)
        target = x.clone()
        backend.OPS["block_norm_fixed_"](target, *given[1:])
        assert torch.equal(target, backend.OPS["block_norm_fixed"](*given))
    else:
        forward = (x, *around, mask, weight, bias, 1e-5, form != "one region")
        found, wanted = both("block_norm_forward", *forward)
        close(plain, found, wanted, pixels)
        mean, rstd = wanted[1:]
    backward = (grad, x, *around, mask, weight, bias, mean, rstd, form == "fixed")
    found, wanted = both("block_norm_backward", *backward, True)
    close(plain, found, wanted, pixels)
    grad_x, *nothing = backend.OPS["block_norm_backward"](*backward, False)
    assert torch.equal(grad_x, found[0])
    assert all(t.shape == (0, 5) for t in nothing)


@HALF_AND_SINGLE
@LAYOUTS
def test_learned_norm_in_a_block(plain: Any, layout: str, dtype: torch.dtype) -> None:
    x, grad = (laid(torch.randn(2, 9, 13, 11).to(dtype), layout) for _ in range(2))
    around = (*surround(plain, 2), 0.2)
    shapes = [(1, 2, 7, 7), (1, 1, 7, 7), (1,), (1, 1, 7, 7), (1,)]
    parameters = [torch.randn(shape) * 0.1 for shape in shapes]
    forward = (x, *around, *parameters, 0.5, 1e-5)
    found, wanted = both("attention_block_norm_forward", *forward)
    assert 0 < (wanted[3] >= 0.5).double().mean() < 1
    close(plain, [found[0], found[4]], [wanted[0], wanted[4]], 286)
    by_products = [t.float() if t.dtype == torch.float64 else t for t in wanted[1:5]]
    kept = [parameters[0], parameters[1], parameters[3], *by_products, *wanted[5:], 0.5]
    found, wanted = both("attention_block_norm_backward", grad, x, *around, *kept)
    close(plain, found, wanted, 286 * 9)


# The contract -------------------------------------------------------------------------------------


@MODES
@LAYOUTS
@pytest.mark.usefixtures("products")
def test_outputs_are_what_the_fake_kernels_promise(plain: Any, layout: str) -> None:
    ops, x = torch.ops.inpaint_ops, laid(torch.randn(2, 6, 13, 11), layout)
    mask, weight, bias = plain.blobs(2, 1, 13, 11).float(), torch.randn(4, 6, 3, 3), torch.ones(4)
    window = ([1, 1], [1, 1])
    forward = (x, mask, [6], weight, bias, *window, [1, 1], [1, 1], 1, False, False, 1e-8)
    y, new_mask, ratio = ops.partial_conv_forward(*forward)
    made = (x, mask, [6], weight, new_mask, ratio, True)
    backward = (torch.randn_like(y), *made, *window, [1, 1], 1, False, [True] * 3)
    norm = (x, mask, torch.randn(2, 6), torch.randn(2, 6), 1e-5, True, True)
    _, mean, rstd = ops.region_norm_forward(*norm)
    small = [torch.randn(1, k, 7, 7) * 0.1 for k in (2, 1, 1)]
    learned = (x, small[0], small[1], torch.zeros(1), small[2], torch.zeros(1), 0.5, 1e-5)
    _, *products = ops.attention_region_norm_forward(*learned)
    around = (ratio, new_mask, 0.2)
    block = (x, *around, mask, *norm[2:4], 1e-5, True)
    _, *kept = ops.block_norm_forward(*block)
    fixed = (x, *around, None, None, kept[0][:, :1], kept[1][:, :1])
    learned_block = (x, *around, *learned[1:])
    _, *block_products = ops.attention_block_norm_forward(*learned_block)
    cut = ops.upsampled_weight_forward(weight, 2)
    calls: dict[str, tuple[Any, ...]] = {
        "block_norm_forward": block,
        "block_norm_fixed": fixed,
        "block_norm_fixed_": fixed,
        "block_norm_backward": (x, x, *around, mask, *norm[2:4], *kept, False, True),
        "attention_block_norm_forward": learned_block,
        "attention_block_norm_backward": (x, x, *around, *small, *block_products, 0.5),
        "upsampled_weight_forward": (weight, 2),
        "upsampled_weight_backward": cut,
        "mask_update": (mask, [1], [3, 3], *window, [1, 1], 1e-8, torch.float32),
        "apply_mask": (x, mask, [6]),
        "partial_conv_forward": forward,
        "partial_conv_backward": backward,
        "region_norm_forward": norm,
        "region_norm_backward": (x, x, mask, norm[2], mean, rstd, True),
        "attention_region_norm_forward": learned,
        "attention_region_norm_backward": (x, x, *small, *products, 0.5),
    }
    assert set(calls) == set(backend.OPS)
    for name, arguments in calls.items():
        opcheck(
            getattr(ops, name).default, arguments, test_utils=["test_faketensor", "test_schema"]
        )


def test_empty_batches() -> None:
    x, mask = torch.ones(0, 3, 5, 5), torch.ones(0, 1, 5, 5)
    assert partial_conv2d(x, mask, torch.ones(2, 3, 3, 3))[0].shape == (0, 2, 3, 3)
    assert region_norm(x, mask).shape == x.shape
    assert update_mask(mask, 3).shape == (0, 1, 3, 3)


@MODES
@pytest.mark.usefixtures("products")
def test_the_same_bits_twice(plain: Any) -> None:
    mask = plain.blobs(2, 1, 13, 11)
    (x, weight, bias), _ = leaves(torch.float32, (2, 6, 13, 11), (4, 6, 3, 3), (4,))

    def run() -> list[Tensor]:
        y, _ = partial_conv2d(x, mask.bool(), weight, bias, padding=1)
        y = region_norm(y, mask)
        return [y, *torch.autograd.grad(y, [x, weight, bias], torch.ones_like(y))]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)
