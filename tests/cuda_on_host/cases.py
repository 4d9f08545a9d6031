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
