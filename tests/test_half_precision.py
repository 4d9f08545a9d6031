"""bfloat16 and float16 on the native kernels: no NaN, and errors held against PyTorch's own.

The truth is the definition in float64 on the same half-precision numbers. PyTorch's own error is
that of the published module, in plain PyTorch and the same dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.norm import AttentionRegionNorm, MaskedRegionNorm
from inpaint_ops import (
    RN_B,
    RN_L,
    PartialConv1d,
    PartialConv2d,
    PartialConv3d,
    core,
    partial_conv2d,
    region_norm,
    update_mask,
    use_backend,
)

N, C, OUT, H, W = 2, 37, 9, 33, 29
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}

half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def _mask(plain: Any, kind: str) -> Tensor:
    """(N, 1, H, W) in float64."""
    if kind in ("valid", "hole"):
        return torch.full((N, 1, H, W), float(kind == "valid"), dtype=torch.float64)
    mask: Tensor = plain.blobs(N, 1, H, W)
    return mask * torch.rand_like(mask) if kind == "soft" else mask


def _gradients(y: Tensor, grad: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(y, leaves, grad.to(y.dtype)))


def _no_worse(ours: Tensor, theirs: Tensor, truth: Tensor) -> None:
    """Finite, and at most twice as far from the truth as PyTorch is, at worst and on average."""
    assert ours.isfinite().all()
    ours, theirs, truth = ours.detach(), theirs.detach(), truth.detach()
    seen = theirs.isfinite()
    assert bool(seen.any())
    error, own = ((t.double() - truth)[seen] for t in (ours, theirs))
    scale = float(truth.abs().max())
    # Where PyTorch happens to be exact, the last bit of the result is allowed.
    least = torch.finfo(ours.dtype).eps * scale / 4
    assert float(error.abs().max()) <= max(2 * float(own.abs().max()), least)
    assert float(error.square().mean()) ** 0.5 <= 2 * max(float(own.square().mean()) ** 0.5, least)


# Conversion -------------------------------------------------------------------------------------


@half
@layouts
@pytest.mark.parametrize("simd", ["avx512", "avx2", "baseline"])
@pytest.mark.usefixtures("restored_simd")
def test_every_number_is_widened_and_rounded_as_torch_does(
    dtype: torch.dtype, layout: str, simd: str
) -> None:
    """All 65,536 of them, times factors that need rounding, overflow or end as subnormals."""
    if simd not in core.load().build_info()["simd_available"]:
        simd = "baseline"
    core.load().select_simd(simd)
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).view(1, 16, 64, 64).contiguous(memory_format=LAYOUTS[layout])
    for factor in (1 / 3, 1.0009765625, 0.99951171875, 2.0**-9, 1e-20, 300.0, 1e30):
        mask = torch.full((1, 1, 64, 64), factor)
        found = torch.ops.inpaint_ops.apply_mask.default(x, mask, [16])
        expected = (x.float() * factor).to(dtype)
        assert torch.equal(found.isnan(), expected.isnan())
        real = ~expected.isnan()
        assert torch.equal(found[real].view(torch.int16), expected[real].view(torch.int16))


# Partial convolution ----------------------------------------------------------------------------


def _plain_pytorch(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The definition, every step in the dtype of x.

    The published module as it stands has NaN in empty windows in float16, and in all gradients.
    """
    ones = torch.ones_like(weight)
    count = F.conv2d(mask, ones, None, 1, 1)
    ratio = torch.where(count == 0, 0, ones[0].numel() / count * count.clamp(0, 1))
    y = F.conv2d(x * mask, weight, None, 1, 1) * ratio
    return y if bias is None else (y + bias.view(1, -1, 1, 1)) * count.clamp(0, 1)


@half
@layouts
@pytest.mark.parametrize("kind", ["blobs", "valid", "soft"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_partial_convolution(
    plain: Any,
    dtype: torch.dtype,
    layout: str,
    kind: str,
    bias: bool,
) -> None:
    x = torch.randn(N, C, H, W).to(dtype, memory_format=LAYOUTS[layout]).requires_grad_()
    mask = _mask(plain, kind).to(dtype)
    ours = PartialConv2d(C, OUT, 3, padding=1, bias=bias, multi_channel=True).to(dtype)
    wide = mask.expand(-1, C, -1, -1)
    exact = [t.detach().double().requires_grad_() for t in (x, *ours.parameters())]
    truth, _ = plain.partial_conv(
        exact[0], wide, exact[1], exact[2] if bias else None, 1, 1, 1, 1, True
    )
    grad = torch.randn_like(truth).to(dtype)
    with use_backend("cpu"):
        y = ours(x, wide)
    other = _plain_pytorch(x, wide, *ours.parameters())
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    _no_worse(y, other, truth)
    wanted = _gradients(truth, grad, exact)
    found = _gradients(y, grad, [x, *ours.parameters()])
    own = _gradients(other, grad, [x, *ours.parameters()])
    for a, b, t in zip(found, own, wanted, strict=True):
        assert a.dtype == dtype
        _no_worse(a, b, t)


@half
@layouts
@pytest.mark.parametrize("planes", [1, C], ids=["plane", "channels"])
def test_empty_windows_and_nan_under_holes(
    plain: Any, dtype: torch.dtype, layout: str, planes: int
) -> None:
    """Where float16 turns eps into 0, and where 0 * NaN is NaN."""
    for kind in ("blobs", "hole"):
        mask = _mask(plain, kind).expand(-1, planes, -1, -1).contiguous()
        x = torch.where(mask == 0, torch.nan, torch.randn(N, C, H, W, dtype=torch.float64))
        x = x.to(dtype, memory_format=LAYOUTS[layout]).requires_grad_()
        weight = torch.randn(OUT, C, 3, 3).to(dtype).requires_grad_()
        bias = torch.randn(OUT).to(dtype).requires_grad_()
        y, new = partial_conv2d(x, mask.to(dtype), weight, bias, 1, 1, multi_channel=planes > 1)
        assert isinstance(new, Tensor)
        expected, _ = plain.partial_conv(x, mask, weight, bias, 1, 1, 1, 1, planes > 1)
        plain.close(y, expected, 9 * C)
        empty = new[:, :1].expand_as(y) == 0
        assert empty.any()
        assert not y[empty].any()
        grads = _gradients(y, torch.randn_like(y), (x, weight, bias))
        assert all(g.isfinite().all() for g in grads)
        assert not grads[0][mask.expand_as(x) == 0].any()


@half
def test_ratios_and_counts_are_float32(plain: Any, dtype: torch.dtype) -> None:
    """2,304 cells: float16 counts them no better than to 2, bfloat16 to 16."""
    cells = 256 * 9
    mask = (torch.rand(N, 256, 9, 9) > 0.5).to(dtype)
    ones = [1] * 256
    geometry = [3, 3], [1, 1], [1, 1], [1, 1], 1e-8, torch.float32
    new, ratio = torch.ops.inpaint_ops.mask_update.default(mask, ones, *geometry)
    wide, expected = torch.ops.inpaint_ops.mask_update.default(
        mask.double(), ones, *geometry[:-1], torch.float64
    )
    assert new.dtype == dtype
    assert torch.equal(new.double(), wide)
    torch.testing.assert_close(ratio.double(), expected, rtol=1e-6, atol=0)
    assert float(ratio.max()) < cells


@half
@pytest.mark.parametrize(
    "form", [torch.float32, torch.float16, torch.bfloat16, torch.bool], ids=str
)
@layouts
@pytest.mark.parametrize("planes", [1, C], ids=["plane", "channels"])
def test_masks_of_other_dtypes(
    plain: Any, dtype: torch.dtype, form: torch.dtype, layout: str, planes: int
) -> None:
    """A float32 mask is not rounded to the features' dtype; the new mask has the mask's."""
    kind = "blobs" if form == torch.bool else "soft"
    mask = _mask(plain, kind).expand(-1, planes, -1, -1).to(form, memory_format=LAYOUTS[layout])
    x = torch.randn(N, C, H, W).to(dtype, memory_format=LAYOUTS[layout])
    weight = torch.randn(OUT, C, 3, 3).to(dtype)
    y, new = partial_conv2d(x, mask, weight, None, 1, 1, multi_channel=planes > 1)
    expected, expected_new = plain.partial_conv(
        x, mask.double(), weight, None, 1, 1, 1, 1, planes > 1
    )
    assert isinstance(new, Tensor)
    assert new.dtype == form
    plain.close(
        new[:, :1].double(), expected_new, 9 * C, torch.float32 if form == torch.bool else form
    )
    plain.close(y, expected, 9 * C)


@half
@pytest.mark.parametrize("module", [PartialConv1d, PartialConv2d, PartialConv3d])
def test_one_to_three_axes(dtype: torch.dtype, module: Callable[..., nn.Module]) -> None:
    axes = [PartialConv1d, PartialConv2d, PartialConv3d].index(module) + 1  # type: ignore[arg-type]
    size = [7, 11, 6][:axes]
    net = module(5, 4, 3, stride=2, padding=1).to(dtype)
    x = torch.randn(2, 5, *size).to(dtype).requires_grad_()
    mask = (torch.rand(2, 1, *size) > 0.5).to(dtype)
    results = []
    for backend in ("cpu", "reference"):
        with use_backend(backend):
            y = net(x, mask)
        torch.manual_seed(5)
        results.append([y, *_gradients(y, torch.randn_like(y), [x, *net.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=4e-2, atol=4e-2)


# Region normalization ---------------------------------------------------------------------------


def _norm_no_worse(
    ours: nn.Module, theirs: nn.Module, exact: nn.Module, x: Tensor, mask: Tensor | None
) -> None:
    """A module of ours, the published one, and ours in float64, all with the parameters of ours."""
    for net in (theirs.to(x.dtype), exact.double()):
        net.load_state_dict(ours.state_dict())
    wide = x.detach().double().requires_grad_()
    with use_backend("reference"):
        truth = exact(wide, *([] if mask is None else [mask.double()]))
    given = [] if mask is None else [mask.to(x.dtype)]
    with use_backend("cpu"):
        y = ours(x, *given)
    other = theirs(x, *given)
    assert y.dtype == x.dtype
    _no_worse(y, other, truth)
    grad = torch.randn_like(truth).to(x.dtype)
    gradients = (
        _gradients(result, grad, [leaf, *net.parameters()])
        for result, leaf, net in ((y, x, ours), (other, x, theirs), (truth, wide, exact))
    )
    for found, own, wanted in zip(*gradients, strict=True):
        _no_worse(found, own, wanted)


@half
@layouts
@pytest.mark.parametrize("kind", ["blobs", "valid", "hole"])
@pytest.mark.parametrize("mean", [0, 30])
def test_basic_region_normalization(
    plain: Any, dtype: torch.dtype, layout: str, kind: str, mean: float
) -> None:
    x = (torch.randn(N, C, H, W) + mean).to(dtype, memory_format=LAYOUTS[layout]).requires_grad_()
    ours = RN_B(C)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    hole = 1 - _mask(plain, kind)
    _norm_no_worse(ours.to(dtype), MaskedRegionNorm(C), RN_B(C), x, hole)


@half
@layouts
def test_learned_region_normalization(dtype: torch.dtype, layout: str) -> None:
    x = (torch.randn(N, C, H, W) * 2 + 1).to(dtype, memory_format=LAYOUTS[layout]).requires_grad_()
    ours = RN_L(C)
    with torch.no_grad():
        # Far from the threshold on either side, so that rounding moves no pixel across it.
        ours.sa.conv1.weight.zero_()[0, 0, 3, 3] = 40
        ours.sa.conv1.weight[0, 1, 3, 3] = -8
    _norm_no_worse(ours.to(dtype), AttentionRegionNorm(C), RN_L(C), x, None)


@half
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "soft"])
def test_float32_parameters_beside_half_precision_features(
    plain: Any, dtype: torch.dtype, soft: bool
) -> None:
    """As batch norm takes them under mixed precision; their gradients are float32."""
    x = torch.randn(N, C, H, W).to(dtype).requires_grad_()
    mask = _mask(plain, "soft" if soft else "blobs").to(dtype)
    weight, bias = (torch.randn(2, C, requires_grad=True) for _ in range(2))
    y = region_norm(x, mask, weight, bias)
    formula = plain.soft_region_norm if soft else plain.region_norm
    expected = formula(x, mask, weight, bias)
    plain.close(y, expected, 16)
    grad = torch.randn_like(y)
    leaves = [x, weight, bias]
    for found, wanted in zip(
        _gradients(y, grad, leaves), _gradients(expected, grad, leaves), strict=True
    ):
        length = 1 if found.dtype == dtype else y[:, 0].numel()
        plain.close(found, wanted, length)


@half
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_other_parameters_are_refused(dtype: torch.dtype, name: str) -> None:
    x, mask = torch.randn(2, 3, 4, 4).to(dtype), torch.ones(1, 1, 4, 4)
    text = rf"{name}: expected {dtype} \(as x\) or torch.float32, got torch.float64"
    wrong: dict[str, Any] = {name: torch.ones(2, 3, dtype=torch.float64)}
    with pytest.raises(TypeError, match=text):
        region_norm(x, mask, **wrong)


# What surrounds the operators -------------------------------------------------------------------


@half
def test_the_native_kernels_take_it(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINT_OPS_BACKEND", "cpu")
    mask = (torch.rand(1, 1, 8, 8) > 0.5).to(dtype)
    with use_backend("cpu"):
        assert update_mask(mask, 3, padding=1).dtype == dtype
        assert RN_L(4).to(dtype)(torch.randn(1, 4, 8, 8).to(dtype)).dtype == dtype


@half
def test_second_derivatives(plain: Any, dtype: torch.dtype) -> None:
    x = (torch.randn(1, 3, 9, 8) / 8).to(dtype).requires_grad_()
    mask = plain.blobs(1, 1, 9, 8)
    weight = (torch.randn(4, 3, 3, 3) / 8).to(dtype).requires_grad_()

    def twice(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Tensor:
        y = run(x, weight)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    found = twice(lambda a, b: partial_conv2d(a, mask.to(dtype), b)[0], x, weight)
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    wanted = twice(lambda a, b: plain.partial_conv(a, mask, b)[0], exact[0], exact[1])
    assert found.isfinite().all()
    assert (
        float((found.double() - wanted).norm() / wanted.norm()) < 4 * torch.finfo(dtype).eps ** 0.5
    )
