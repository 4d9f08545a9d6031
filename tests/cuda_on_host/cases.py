"""The CUDA kernels and the backend around them, on the host, against float64.

Run by tests/test_cuda_on_host.py in a process of its own, with a core whose CUDA kernels were
compiled for the host (INPAINT_HOST_CORE).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

_spec = importlib.util.spec_from_file_location("inpaint_ops._core", os.environ["INPAINT_HOST_CORE"])
assert _spec is not None
assert _spec.loader is not None
_core = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_core)
sys.modules["inpaint_ops._core"] = _core

from inpaint_ops import (  # noqa: E402
    RN_L,
    ChannelMask,
    PartialConv3d,
    partial_conv2d,
    region_norm,
    update_mask,
    use_backend,
)
from inpaint_ops.backends import cuda, dispatch  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
# Vectors and scalar tails, several units of pixels, one pixel, more channels than a warp has lanes.
SIZES = [(2, 5, 7, 9), (2, 16, 16, 24), (1, 34, 33, 31), (3, 8, 1, 1), (2, 66, 4, 4)]

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
layouts = pytest.mark.parametrize("layout", LAYOUTS)
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))


@pytest.fixture(autouse=True)
def _cuda_takes_cpu_tensors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The backend as it is, but for the device and the stream."""
    for name, module in list(sys.modules.items()):
        if name.startswith("inpaint_ops.backends.cuda") and hasattr(module, "where"):
            monkeypatch.setattr(module, "where", lambda _: (0, 0))
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(cuda, "unsupported", lambda *_: None)
    dispatch._cache.clear()
    with use_backend("cuda"):
        yield
    dispatch._cache.clear()


def _laid_out(x: Tensor, layout: str) -> Tensor:
    return x.contiguous(memory_format=LAYOUTS[layout])


def _compare(plain: Any, found: list[Tensor], wanted: list[Tensor], length: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.isfinite().all()
        plain.close(a, b, length, scale=1.0)


def _run(y: Tensor, grad: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.to(y.dtype))]


FORMS = [
    "none", "plane", "shared", "bool", "groups", "channels", "bool channels", "float32 channels",
    "soft", "float32", "hole",
]  # fmt: skip


def _mask(plain: Any, form: str, size: tuple[int, ...], dtype: torch.dtype) -> Any:
    n, c, h, w = size
    if form == "none":
        return None, False
    if form == "hole":
        return torch.zeros(n, 1, h, w).to(dtype), False
    if form == "groups":
        return ChannelMask(plain.blobs(n, 2, h, w).to(dtype), (c - 3, 3)), True
    if form.endswith("channels"):
        kind = {"bool channels": torch.bool, "float32 channels": torch.float32}.get(form, dtype)
        return plain.blobs(n, c, h, w).to(kind), True
    mask = plain.blobs(1 if form == "shared" else n, 1, h, w)
    if form == "soft":
        mask = mask * torch.rand_like(mask)
    if form == "bool":
        return mask != 0, False
    return mask.to(torch.float32 if form == "float32" else dtype), False


@dtypes
@layouts
@sizes
@pytest.mark.parametrize("form", FORMS)
def test_partial_convolution(
    plain: Any, dtype: torch.dtype, layout: str, size: tuple[int, ...], form: str
) -> None:
    bias = form not in ("plane", "channels", "hole", "float32")
    # oneDNN's weight gradient of one pixel in half precision is wrong with a stride of 2.
    stride = 2 if form == "none" and size[2] > 1 else 1
    mask, multi = _mask(plain, form, size, dtype)
    x = _laid_out(torch.randn(size).to(dtype), layout)
    dense = plain.dense_mask(mask, x, multi)
    if form == "plane":  # NaN under a hole
        x = torch.where(dense == 0, torch.nan, x).to(dtype)
    if form.endswith("channels"):
        mask = _laid_out(mask, layout)
    out = 5 if form in ("soft", "float32") else 8
    weight = torch.randn(out, size[1], 3, 3).to(dtype)
    leaves = [
        t.requires_grad_() for t in (x, weight, torch.randn(out).to(dtype)) if bias or t.dim() > 1
    ]
    arguments = (mask, leaves[1], leaves[2] if bias else None, stride, 1)
    y, new = partial_conv2d(leaves[0], *arguments, multi_channel=multi)
    expected, expected_new = plain.partial_conv(leaves[0], *arguments, multi_channel=multi)
    planes = new.planes if isinstance(new, ChannelMask) else new
    plain.close(planes[:, :1].double().expand_as(expected_new), expected_new, 9, dtype)
    grad = torch.randn_like(expected).to(dtype)
    length = max(size[1] * 9, y[:, 0].numel()) * 4
    _compare(plain, _run(y, grad, leaves), _run(expected, grad, leaves), length)


@dtypes
@layouts
@sizes
@pytest.mark.parametrize("form", ["plane", "shared", "soft", "hole", "none"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_normalization(
    plain: Any, dtype: torch.dtype, layout: str, size: tuple[int, ...], form: str, stats: str
) -> None:
    n, c, h, w = size
    mask = (
        torch.ones(1, 1, h, w).to(dtype) if form == "none" else _mask(plain, form, size, dtype)[0]
    )
    mean = 0 if form == "soft" else 30
    x = _laid_out((torch.randn(size) * 2 + mean).to(dtype), layout).requires_grad_()
    affine = form != "shared"
    leaves, weight, bias = [x], None, None
    if affine:
        weight, bias = (torch.randn(2, c).to(dtype).requires_grad_() for _ in range(2))
        leaves += [weight, bias]
    y = region_norm(x, mask, weight, bias, stats=stats)
    formula = plain.soft_region_norm if form == "soft" else plain.region_norm
    expected = formula(x, mask, weight, bias, stats=stats)
    condition = 1e5  # a region of one pixel divides its rounding by sqrt(eps)
    plain.close(y, expected, 64 if h > 1 else condition, scale=30.0)
    grad = torch.randn_like(expected).to(dtype)
    found, wanted = _run(y, grad, leaves), _run(expected, grad, leaves)
    length = n * h * w * (1 if h > 4 else condition)
    _compare(plain, found[1:], wanted[1:], length)


@layouts
@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("kept", [0, 1], ids=["valid", "hole"])
def test_nan_in_one_region_stays_there(plain: Any, layout: str, channels: int, kept: int) -> None:
    plain.nan_stays_in_its_region(channels, kept, LAYOUTS[layout])


@dtypes
@layouts
@sizes
def test_learned_region_normalization(
    dtype: torch.dtype, layout: str, size: tuple[int, ...], plain: Any
) -> None:
    x = _laid_out((torch.randn(size) * 2 + 1).to(dtype), layout).requires_grad_()
    net = RN_L(size[1], threshold=0.5)
    y = net(x)
    wide, exact = x.detach().double().requires_grad_(), RN_L(size[1], threshold=0.5).double()
    exact.load_state_dict(net.state_dict())
    with use_backend("reference"):
        expected = exact(wide)
    grad = torch.randn_like(expected).to(dtype)
    found = _run(y, grad, [x, *net.parameters()])
    wanted = _run(expected, grad, [wide, *exact.parameters()])
    if size[2] > 1:
        _compare(plain, found, wanted, 49 * x.numel())


# What follows the convolution in a block --------------------------------------------------------

BLOCK_SIZES = [SIZES[0], SIZES[1], SIZES[4]]
# The regions of the statistics, and the activation's slope. fixed: statistics are given.
BLOCKS = {"plane": 0.0, "shared": 0.2, "soft": 0.2, "hole": 1.0, "one region": 0.0, "fixed": 0.2}
REFERENCE = dispatch.BACKENDS["reference"].OPS

block_sizes = pytest.mark.parametrize(
    "size", BLOCK_SIZES, ids=["x".join(map(str, size)) for size in BLOCK_SIZES]
)


def _surround(plain: Any, size: tuple[int, ...], shared: bool) -> tuple[Tensor, Tensor]:
    """Ratio and new mask: zero where a window saw nothing."""
    n, _, h, w = size
    new_mask = plain.blobs(1 if shared else n, 1, h, w).float()
    return (1 + torch.rand_like(new_mask)) * new_mask, new_mask


def _wide(*values: Any) -> list[Any]:
    """In float64, what of it is floating point."""
    return [v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in values]


def _both(name: str, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The op's results, statistics as what they are known to, and the formula's in float64."""
    found, wanted = cuda.OPS[name](*arguments), REFERENCE[name](*_wide(*arguments))
    found, wanted = (list(r) if isinstance(r, tuple) else [r] for r in (found, wanted))
    return [t.float() if t.dtype == torch.float64 else t for t in found], wanted


@dtypes
@layouts
@block_sizes
@pytest.mark.parametrize("form", BLOCKS)
def test_norm_in_a_block(
    plain: Any, dtype: torch.dtype, layout: str, size: tuple[int, ...], form: str
) -> None:
    n, c, h, w = size
    regions = form not in ("one region", "fixed")
    mask = _mask(plain, form, size, torch.float32)[0] if regions else None
    x = _laid_out((torch.randn(size) * 2 + (0 if form == "soft" else 3)).to(dtype), layout)
    planes = _surround(plain, size, form == "shared")
    around = (*planes, BLOCKS[form])
    rows = 2 if regions else 1
    weight, bias = torch.randn(2, rows, c).unbind()
    condition = n * h * w * (1 if h > 4 else 1e5)  # a region of one pixel
    if form == "fixed":
        mean, rstd = torch.randn(1, 1, c).double(), torch.rand(1, 1, c).double()
        given = (x, *around, weight, bias, mean, rstd)
        _compare(plain, *_both("block_norm_fixed", *given), 64)
        for target in (x.clone(), torch.stack([x, x], -1)[..., 0]):  # gaps between its elements
            cuda.OPS["block_norm_fixed_"](target, *given[1:])
            assert torch.equal(target, cuda.OPS["block_norm_fixed"](*given))
    else:
        forward = (x, *around, mask, weight, bias, 1e-5, form != "one region")
        found, wanted = _both("block_norm_forward", *forward)
        _compare(plain, found, wanted, condition)
        mean, rstd = wanted[1:]
    grad = torch.stack([torch.randn(size), torch.full(size, torch.nan)], -1)[..., 0].to(dtype)
    backward = (grad, x, *around, mask, weight, bias, mean, rstd, form == "fixed")
    found, wanted = _both("block_norm_backward", *backward, True)
    _compare(plain, found, wanted, condition)
    grad_x, *nothing = cuda.OPS["block_norm_backward"](*backward, False)
    assert torch.equal(grad_x, found[0])
    assert all(t.shape == (0, c) for t in nothing)


@dtypes
@layouts
@block_sizes
def test_learned_norm_in_a_block(
    plain: Any, dtype: torch.dtype, layout: str, size: tuple[int, ...]
) -> None:
    x = _laid_out((torch.randn(size) * 2 + 1).to(dtype), layout)
    around = (*_surround(plain, size, shared=size[0] == 3), 0.2)
    parameters = [
        torch.randn(1, 2, 7, 7) * 0.1, torch.randn(1, 1, 7, 7), torch.randn(1),
        torch.randn(1, 1, 7, 7), torch.randn(1),
    ]  # fmt: skip
    name = "attention_block_norm_forward"
    attention = REFERENCE[name](*_wide(x, *around, *parameters), 0.5, 1e-5)[3]
    middle = attention.unique()[attention.unique().numel() // 4 : -2]
    widest = int(middle.diff().argmax())  # no pixel changes its region by rounding
    threshold = float(middle[widest : widest + 2].mean())
    found, wanted = _both(name, x, *around, *parameters, threshold, 1e-5)
    length = 49 * x.numel()
    _compare(plain, [found[0], found[4]], [wanted[0], wanted[4]], length)
    by_products = [t.float() if t.dtype == torch.float64 else t for t in wanted[1:5]]
    kept = [parameters[0], parameters[1], parameters[3], *by_products, *wanted[5:], threshold]
    grad = torch.randn(size).to(dtype)
    found, wanted = _both("attention_block_norm_backward", grad, x, *around, *kept)
    _compare(plain, found, wanted, length)


def test_planes_may_lie_anywhere_in_memory(plain: Any) -> None:
    """Not at a multiple of sixteen bytes, as packs of pixels want them."""
    size = (2, 5, 16, 24)
    x, planes = torch.randn(size), _surround(plain, size, False)
    affine = torch.randn(2, 2, 5).unbind()

    def moved(t: Tensor) -> Tensor:
        return torch.cat([t.new_ones(1), t.flatten()])[1:].view(t.shape)

    results = []
    for place in (moved, torch.clone):
        ratio, new_mask = (place(t) for t in planes)
        results.append(
            cuda.OPS["block_norm_forward"](x, ratio, new_mask, 0.0, new_mask, *affine, 1e-5, True)
        )
    torch.testing.assert_close(*results)


def test_a_norm_in_a_block_says_what_it_was_given(plain: Any) -> None:
    x, ones = torch.randn(2, 4, 5, 6), torch.ones(2, 1, 5, 6)
    for wrong in (ones[..., :5], ones[:, :, None], ones.expand(2, 4, 5, 6)):
        with pytest.raises(RuntimeError, match="ratio: expected"):
            cuda.OPS["block_norm_forward"](x, wrong, ones, 0.0, None, None, None, 1e-5, True)


def test_three_axes(plain: Any) -> None:
    net, x = PartialConv3d(3, 4, 3, padding=1), torch.randn(2, 3, 5, 6, 7)
    mask = (torch.rand(2, 1, 5, 6, 7) > 0.5).float()
    y = net(x, mask)
    with use_backend("reference"):
        plain.close(y, net.double()(x.double(), mask.double()), 81)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64, *DTYPES], ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_mask_update(plain: Any, dtype: torch.dtype, groups: int) -> None:
    mask = plain.blobs(2, groups, 23, 19).to(dtype)
    for source in (mask, mask.to(memory_format=torch.channels_last), mask[:, :, ::2, ::3]):
        given = ChannelMask(source, tuple(range(1, groups + 1))) if groups > 1 else source
        found = update_mask(given, (5, 3), 2, (2, 0))
        with use_backend("reference"):
            wanted = update_mask(given, (5, 3), 2, (2, 0))
        pair = [m.planes if isinstance(m, ChannelMask) else m for m in (found, wanted)]
        assert torch.equal(*pair)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64, *DTYPES], ids=str)
@pytest.mark.parametrize("ratio_dtype", [torch.float32, torch.float64], ids=str)
def test_ratios_of_every_dtype(plain: Any, dtype: torch.dtype, ratio_dtype: torch.dtype) -> None:
    mask = plain.blobs(2, 3, 9, 11).to(dtype)
    window = [1, 2, 3], [3, 3], [1, 1], [1, 1], [1, 1], 1e-8, ratio_dtype
    found = dispatch.BACKENDS["cuda"].OPS["mask_update"](mask, *window)
    wanted = dispatch.BACKENDS["reference"].OPS["mask_update"](mask, *window)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b)


def test_the_order_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for order in ("forward", "reverse"):
        monkeypatch.setenv("INPAINT_HOST_ORDER", order)
        torch.manual_seed(3)
        for layout in LAYOUTS:
            x = _laid_out(torch.randn(2, 34, 33, 31), layout).requires_grad_()
            mask = (torch.rand(2, 1, 33, 31) > 0.4).float()
            y = RN_L(34, threshold=0.5)(region_norm(x, mask))
            results.append(_run(y, torch.randn_like(y), [x]))
    half = len(results) // 2
    for a, b in zip(results[:half], results[half:], strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
