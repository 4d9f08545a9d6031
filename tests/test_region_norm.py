"""Region normalization, values and gradients, against formulas of its own in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import region_norm, use_backend

DTYPES = [torch.float32, torch.float64]
NCHW, NHWC = torch.contiguous_format, torch.channels_last
N, C, H, W = 3, 5, 13, 11

MASKS: dict[str, Callable[[Any, torch.dtype], Tensor]] = {
    "plane": lambda p, d: p.blobs(N, 1, H, W).to(d),
    "for the batch": lambda p, d: p.blobs(1, 1, H, W).to(d),
    "expanded over the batch": lambda p, d: p.blobs(1, 1, H, W).to(d).expand(N, -1, -1, -1),
    "bool": lambda p, d: p.blobs(N, 1, H, W).bool(),
    "uint8, 255": lambda p, d: (p.blobs(N, 1, H, W) * 255).to(torch.uint8),
    "int64": lambda p, d: -p.blobs(N, 1, H, W).long(),
    "float64": lambda p, d: p.blobs(N, 1, H, W),
    "float32": lambda p, d: p.blobs(N, 1, H, W).float(),
    "transposed": lambda p, d: p.blobs(N, 1, W, H).to(d).transpose(2, 3),
    "every third": lambda p, d: p.blobs(2 * N, 1, H, 3 * W).to(d)[::2, :, :, ::3],
    "an image without holes": lambda p, d: torch.cat(
        [torch.ones(1, 1, H, W), p.blobs(N - 2, 1, H, W), torch.zeros(1, 1, H, W)]).to(d),
    "no holes": lambda p, d: torch.ones(N, 1, H, W, dtype=d),
    "holes only": lambda p, d: torch.zeros(1, 1, H, W, dtype=d),
    "one pixel": lambda p, d: torch.nn.functional.one_hot(
        torch.tensor([40]), H * W).view(1, 1, H, W).to(d).repeat(N, 1, 1, 1),
}  # fmt: skip


def _compare(
    oracle: Callable[..., Tensor],
    close: Callable[..., None],
    x: Tensor,
    mask: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    order: torch.memory_format = NCHW,
    upstream: Callable[[Tensor], Tensor] = lambda g: g,
    **options: Any,
) -> Tensor:
    source = x.to(memory_format=order) if order is not NCHW else x
    given = [None if t is None else t.detach().requires_grad_() for t in (source, weight, bias)]
    exact = [None if t is None else t.detach().double().requires_grad_() for t in (x, weight, bias)]
    assert given[0] is not None
    y = region_norm(given[0], mask, given[1], given[2], **options)
    expected = oracle(exact[0], mask, exact[1], exact[2], **options)
    pixels = x.numel() // x.shape[1]
    assert y.dtype == x.dtype
    close(y, expected, pixels)
    grad = upstream(torch.randn_like(expected).to(x.dtype))
    y.backward(grad)
    expected.backward(grad.double())
    for found, wanted in zip(given, exact, strict=True):
        if found is not None:
            assert found.grad is not None
            assert wanted is not None
            assert wanted.grad is not None
            close(found.grad, wanted.grad, pixels)
    return y


def _affine(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(2, C, dtype=dtype), torch.randn(2, C, dtype=dtype)


@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", MASKS)
def test_every_form_of_mask(
    plain: Any, form: str, dtype: torch.dtype, order: torch.memory_format, stats: str
) -> None:
    x = torch.randn(N, C, H, W, dtype=dtype) + 3
    mask, affine = MASKS[form](plain, dtype), _affine(dtype)
    y = _compare(plain.region_norm, plain.close, x, mask, *affine, order, stats=stats)
    assert y.is_contiguous(memory_format=order)


@pytest.mark.parametrize("affine", ["both", "weight", "bias", "neither"])
@pytest.mark.parametrize("scale_eps", [True, False])
@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_options(
    plain: Any, affine: str, scale_eps: bool, stats: str, order: torch.memory_format
) -> None:
    x, mask = torch.randn(N, C, H, W) * 0.1, plain.blobs(N, 1, H, W).float()
    weight, bias = _affine(x.dtype)
    _compare(
        plain.region_norm, plain.close, x, mask, weight if affine in ("both", "weight") else None,
        bias if affine in ("both", "bias") else None, order, stats=stats, scale_eps=scale_eps,
        eps=1e-2,
    )  # fmt: skip


@pytest.mark.parametrize("c", [1, 3, 16, 67])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (29, 31), (53, 49)])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_odd_sizes(plain: Any, c: int, h: int, w: int, order: torch.memory_format) -> None:
    x, mask = torch.randn(2, c, h, w), plain.blobs(2, 1, h, w).float()
    affine = torch.randn(2, c), torch.randn(2, c)
    # With a small eps the gradient of two pixels is all cancellation.
    _compare(plain.region_norm, plain.close, x, mask, *affine, order, eps=0.5)


@pytest.mark.parametrize("size", [(40,), (3, 5, 7)], ids=["1 axis", "3 axes"])
def test_one_and_three_axes(plain: Any, size: tuple[int, ...]) -> None:
    x, mask = torch.randn(2, C, *size), (torch.rand(2, 1, *size) > 0.4).float()
    y = _compare(plain.region_norm, plain.close, x, mask, *_affine(x.dtype))
    if len(size) == 3:
        last = _compare(
            plain.region_norm, plain.close, x, mask, *_affine(x.dtype), torch.channels_last_3d
        )
        assert last.is_contiguous(memory_format=torch.channels_last_3d)
    assert y.is_contiguous()


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_large_planes(plain: Any, order: torch.memory_format) -> None:
    x = torch.randn(1, 2, 301, 257)
    mask = plain.blobs(1, 1, 301, 257).float()
    _compare(plain.region_norm, plain.close, x, mask, torch.randn(2, 2), torch.randn(2, 2), order)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("mean", [1e3, -1e5])
def test_means_far_from_zero(
    plain: Any, mean: float, stats: str, order: torch.memory_format
) -> None:
    """One pass of E[x^2] - E[x]^2 in float32 has no digit left here."""
    x = torch.randn(N, C, 40, 37) + mean
    mask = plain.blobs(N, 1, 40, 37).float()
    _compare(plain.region_norm, plain.close, x, mask, *_affine(x.dtype), order, stats=stats)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_regions_far_from_each_other(plain: Any, order: torch.memory_format) -> None:
    """A region's sums are its own, never the total less the other's."""
    mask = plain.blobs(N, 1, 40, 37).float()
    x = torch.randn(N, C, 40, 37) + 1e4 * (1 - mask)
    _compare(plain.region_norm, plain.close, x, mask, *_affine(x.dtype), order)


def test_small_activations_need_the_growing_eps(plain: Any) -> None:
    """Parity with the published code at scale 1e-3, in its own words (label times input, bn)."""
    x, mask = torch.randn(N, C, H, W) * 1e-3, plain.blobs(N, 1, H, W).float()
    y = region_norm(x, mask)
    plain.close(y, plain.soft_region_norm(x, mask), x[:, 0].numel())
    without = region_norm(x, mask, scale_eps=False)
    assert (without - y).abs().max() > 0.1
    plain.close(without, plain.soft_region_norm(x, mask, scale_eps=False), x[:, 0].numel())


@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("scale_eps", [True, False])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, N])
def test_soft_labels(
    plain: Any, stats: str, scale_eps: bool, order: torch.memory_format, dtype: torch.dtype,
    batch: int,
) -> None:  # fmt: skip
    mask = (plain.blobs(batch, 1, H, W) * torch.rand(batch, 1, H, W)).to(dtype)
    x = torch.randn(N, C, H, W, dtype=dtype) + 1
    _compare(
        plain.soft_region_norm, plain.close, x, mask, *_affine(dtype), order, stats=stats,
        scale_eps=scale_eps,
    )  # fmt: skip


def test_the_two_oracles_agree(plain: Any) -> None:
    x, mask = torch.randn(N, C, H, W).double(), plain.blobs(N, 1, H, W)
    for options in ({"stats": "batch"}, {"stats": "instance"}, {"scale_eps": False}):
        torch.testing.assert_close(
            plain.region_norm(x, mask, **options), plain.soft_region_norm(x, mask, **options)
        )


def _transposed(t: Tensor) -> Tensor:
    return t.transpose(2, 3).contiguous().transpose(2, 3)


def _stepped(t: Tensor) -> Tensor:
    return t.repeat_interleave(2, 1).repeat_interleave(3, 3)[:, ::2, :, ::3]


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("change", [_transposed, _stepped], ids=["transposed", "stepped"])
def test_strided_input_and_gradient(
    plain: Any, change: Callable[[Tensor], Tensor], order: torch.memory_format
) -> None:
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    affine = _affine(x.dtype)
    _compare(plain.region_norm, plain.close, change(x), mask, *affine)
    _compare(plain.region_norm, plain.close, x, mask, *affine, order, upstream=change)


def test_expanded_gradient_and_strided_parameters(plain: Any) -> None:
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    affine = torch.randn(C, 2).t(), torch.randn(2, 3 * C)[:, ::3]
    row = torch.randn(1, 1, 1, W)
    _compare(plain.region_norm, plain.close, x, mask, *affine, upstream=lambda g: row.expand_as(g))


@pytest.mark.parametrize("valid", [True, False], ids=["no holes", "holes only"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_an_empty_region_contributes_exactly_nothing(
    valid: bool, stats: str, order: torch.memory_format
) -> None:
    x = torch.randn(N, C, H, W).to(memory_format=order).requires_grad_()
    mask = torch.full((N, 1, H, W), valid)
    weight, bias = (t.requires_grad_() for t in _affine(x.dtype))
    y = region_norm(x, mask, weight, bias, stats=stats)
    y.backward(torch.randn_like(y))
    empty = 1 if valid else 0
    for t in (weight, bias):
        assert t.grad is not None
        assert (t.grad[empty] == 0).all()
        assert (t.grad[1 - empty] != 0).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    # The other region is the whole image: a plain batch or instance normalization.
    axes = [0, 2, 3] if stats == "batch" else [2, 3]
    mean, var = (
        x.double().mean(axes, keepdim=True),
        x.double().var(axes, keepdim=True, correction=0),
    )
    n = (x.double() - mean) / (var + 1e-5).sqrt()
    row = 1 - empty
    expected = n * weight[row].view(1, -1, 1, 1) + bias[row].view(1, -1, 1, 1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_a_region_of_equal_values(order: torch.memory_format) -> None:
    x = torch.full((2, 3, 9, 9), 7.7).to(memory_format=order).requires_grad_()
    mask = torch.ones(2, 1, 9, 9)
    mask[:, :, :4] = 0
    y = region_norm(x, mask)
    # 7.7 in float32 is kept apart from its mean by nothing but rounding.
    assert y.abs().max() < 1e-3
    y.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_nan_stays_in_its_region_and_channel() -> None:
    x = torch.randn(2, 3, 8, 8)
    mask = torch.ones(2, 1, 8, 8)
    mask[:, :, :, :3] = 0
    clean = region_norm(x, mask)
    for order in (NCHW, NHWC):
        dirty = x.clone(memory_format=order)
        dirty[0, 1, 2, 1] = float("nan")
        y = region_norm(dirty, mask)
        holes = (mask == 0).expand_as(y).clone()
        holes[:, [0, 2]] = False
        assert torch.isnan(y[holes]).all()
        torch.testing.assert_close(y[~holes], clean[~holes])


@pytest.mark.parametrize("needs", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=str)
def test_only_the_gradients_asked_for(plain: Any, needs: tuple[int, ...]) -> None:
    leaves = [torch.randn(N, C, H, W), *_affine(torch.float32)]
    for need, t in zip(needs, leaves, strict=True):
        t.requires_grad_(bool(need))
    exact = [t.detach().double().requires_grad_() for t in leaves]
    mask = plain.blobs(N, 1, H, W).float().requires_grad_()
    y = region_norm(leaves[0], mask, leaves[1], leaves[2])
    grad = torch.randn_like(y)
    y.backward(grad)
    plain.region_norm(exact[0], mask, exact[1], exact[2]).backward(grad.double())
    assert mask.grad is None
    for need, t, e in zip(needs, leaves, exact, strict=True):
        assert (t.grad is not None) == bool(need)
        if t.grad is not None:
            plain.close(t.grad, e.grad, y[:, 0].numel())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["plane", "bool", "no holes", "holes only", "float32"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_half_precision(plain: Any, dtype: torch.dtype, form: str, stats: str) -> None:
    x = torch.randn(N, C, H, W).to(dtype)
    _compare(
        plain.region_norm, plain.close, x, MASKS[form](plain, dtype), *_affine(dtype), stats=stats
    )


def test_sums_beyond_the_range_of_half_precision(plain: Any) -> None:
    x = (torch.randn(4, 2, 64, 64) * 100 + 200).half()
    mask = plain.blobs(4, 1, 64, 64)
    assert x.double().sum() > torch.finfo(torch.float16).max
    plain.close(region_norm(x, mask), plain.region_norm(x, mask), x[:, 0].numel())


@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_the_reference_backend_too(plain: Any, form: str, stats: str) -> None:
    x = torch.randn(N, C, H, W)
    with use_backend("reference"):
        _compare(
            plain.region_norm, plain.close, x, MASKS[form](plain, x.dtype), *_affine(x.dtype),
            stats=stats,
        )  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_bool_masks_made_of_other_bytes(plain: Any, backend: str) -> None:
    """A 0/255 picture viewed as bool: every byte but 0 is valid."""
    x, mask = torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8) > 0.5
    odd = (mask.to(torch.uint8) * 255).view(torch.bool)
    with use_backend(backend):
        plain.close(region_norm(x, odd), plain.region_norm(x, mask), 128)


@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("kept", [0, 1], ids=["valid", "hole"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_nan_in_one_region_stays_there(
    plain: Any, backend: str, channels: int, kept: int, order: torch.memory_format
) -> None:
    with use_backend(backend):
        plain.nan_stays_in_its_region(channels, kept, order)
