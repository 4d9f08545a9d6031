"""RN_L's operator, values and gradients, against the plain float64 formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import use_backend
from inpaint_ops.functional import attention_region_norm as _attention_region_norm

NCHW, NHWC = torch.contiguous_format, torch.channels_last
DTYPES = [torch.float32, torch.float64]
# A starred list of tensors is beyond mypy.
attention_region_norm: Callable[..., Tensor] = _attention_region_norm
N, C, H, W = 3, 5, 13, 11


def _parameters(dtype: torch.dtype, kernel: int = 7) -> list[Tensor]:
    """Small, so that attention lies around one half."""
    scale = 2.0 / kernel**2
    return [
        torch.randn(1, 2, kernel, kernel, dtype=dtype) * scale,
        torch.randn(1, 1, kernel, kernel, dtype=dtype) * scale,
        torch.randn(1, dtype=dtype),
        torch.randn(1, 1, kernel, kernel, dtype=dtype) * scale,
        torch.randn(1, dtype=dtype),
    ]


def _threshold(attention: Tensor, share: float = 0.4) -> float:
    """In the middle of the widest gap near this quantile: rounding moves no pixel across it."""
    values = attention.detach().flatten().sort().values
    at, span = int(share * len(values)), max(1, len(values) // 10)
    near = values[max(0, at - span) : at + span]
    gap = int(near.diff().argmax())
    return float((near[gap] + near[gap + 1]) / 2)


def _compare(
    plain: Any,
    x: Tensor,
    parameters: list[Tensor],
    order: torch.memory_format = NCHW,
    upstream: Callable[[Tensor], Tensor] = lambda g: g,
    threshold: float | None = None,
    eps: float = 1e-5,
) -> Tensor:
    if threshold is None:
        with torch.no_grad():
            threshold = _threshold(plain.attention_region_norm(x, *parameters)[1])
    source = x.to(memory_format=order) if order is not NCHW else x
    given = [t.detach().requires_grad_() for t in (source, *parameters)]
    exact = [t.detach().double().requires_grad_() for t in (x, *parameters)]
    y = attention_region_norm(*given, threshold=threshold, eps=eps)
    expected, _ = plain.attention_region_norm(*exact, threshold=threshold, eps=eps)
    pixels = x.numel() // x.shape[1]
    plain.close(y, expected, pixels)
    grad = upstream(torch.randn_like(expected).to(x.dtype))
    y.backward(grad)
    expected.backward(grad.double())
    for found, wanted in zip(given, exact, strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        plain.close(found.grad, wanted.grad, pixels * x.shape[1])
    return y


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_both_regions(
    plain: Any, dtype: torch.dtype, order: torch.memory_format, kernel: int
) -> None:
    parameters = _parameters(dtype, kernel)
    x = torch.randn(N, C, H, W, dtype=dtype) + 1
    with torch.no_grad():
        attention = plain.attention_region_norm(x, *parameters)[1]
    share = (attention >= _threshold(attention)).double().mean()
    assert 0.2 < share < 0.8
    y = _compare(plain, x, parameters, order)
    assert y.is_contiguous(memory_format=order)
    assert y.dtype == dtype


@pytest.mark.parametrize("c", [1, 16, 19, 67])
@pytest.mark.parametrize(("h", "w"), [(3, 1), (29, 31), (5, 130)])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_odd_sizes(plain: Any, c: int, h: int, w: int, order: torch.memory_format) -> None:
    _compare(plain, torch.randn(2, c, h, w), _parameters(torch.float32), order, eps=0.1)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_larger_than_one_block_of_the_kernels(plain: Any, order: torch.memory_format) -> None:
    _compare(plain, torch.randn(1, 3, 130, 129), _parameters(torch.float32), order)


@pytest.mark.parametrize("threshold", [0.0, 1.0], ids=["all valid", "all holes"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_one_region_only(plain: Any, threshold: float, order: torch.memory_format) -> None:
    _compare(plain, torch.randn(N, C, H, W), _parameters(torch.float32), order, threshold=threshold)


def test_the_threshold_itself_is_valid() -> None:
    """a >= 0.8: with no weights a is one half everywhere, and a threshold of one half keeps it."""
    x = torch.randn(1, 2, 6, 6)
    zero = [torch.zeros(1, 2, 7, 7), torch.zeros(1, 1, 7, 7), torch.zeros(1)] * 2
    parameters = [zero[0], zero[1], zero[2], zero[1], zero[2]]
    mean, rstd = torch.ops.inpaint_ops.attention_region_norm_forward.default(
        x, *parameters, 0.5, 1e-5
    )[5:]
    assert (mean[0, 1] == 0).all()
    assert (rstd[0, 1] == 0).all()
    assert (rstd[0, 0] > 0).all()


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_means_far_from_zero(plain: Any, order: torch.memory_format) -> None:
    parameters = _parameters(torch.float32)
    parameters[0] = parameters[0] * 1e-3
    _compare(plain, torch.randn(2, C, 40, 37) + 1e3, parameters, order)


def _transposed(t: Tensor) -> Tensor:
    return t.transpose(2, 3).contiguous().transpose(2, 3)


def _stepped(t: Tensor) -> Tensor:
    return t.repeat_interleave(2, 1).repeat_interleave(3, 3)[:, ::2, :, ::3]


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("change", [_transposed, _stepped], ids=["transposed", "stepped"])
def test_strided_input_and_gradient(
    plain: Any, change: Callable[[Tensor], Tensor], order: torch.memory_format
) -> None:
    x, parameters = torch.randn(N, C, H, W), _parameters(torch.float32)
    _compare(plain, change(x), parameters)
    _compare(plain, x, parameters, order, upstream=change)


def test_expanded_gradient(plain: Any) -> None:
    row = torch.randn(1, 1, 1, W)
    _compare(
        plain, torch.randn(N, C, H, W), _parameters(torch.float32),
        upstream=lambda g: row.expand_as(g),
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_ties_give_the_gradient_to_the_first_channel(
    order: torch.memory_format, backend: str
) -> None:
    x = torch.randn(2, 19, 5, 7)
    x[:, 4] = x[:, 11] = x[:, 18] = 9.0
    x[:, :, 0, 0] = 1.0
    with use_backend(backend):
        _, pooled, argmax, *_ = torch.ops.inpaint_ops.attention_region_norm_forward.default(
            x.to(memory_format=order), *_parameters(torch.float32), 0.5, 1e-5
        )
    assert torch.equal(pooled[:, 1], x.max(1).values)
    expected = torch.full((2, 1, 5, 7), 4, dtype=torch.int32)
    expected[:, :, 0, 0] = 0
    assert torch.equal(argmax, expected)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("channel", [0, 7, 18])
def test_the_maximum_of_a_nan_is_nan(
    order: torch.memory_format, channel: int, backend: str
) -> None:
    x = torch.randn(1, 19, 9, 37)
    x[0, channel, 3, 4] = float("nan")
    x[0, :, 8, 36] = -float("inf")
    with use_backend(backend):
        _, pooled, argmax, *_ = torch.ops.inpaint_ops.attention_region_norm_forward.default(
            x.to(memory_format=order), *_parameters(torch.float32), 0.5, 1e-5
        )
    expected = x.max(1).values
    torch.testing.assert_close(pooled[:, 1], expected, equal_nan=True, rtol=0, atol=0)
    assert argmax[0, 0, 3, 4] == channel
    assert argmax[0, 0, 8, 36] == 0
    torch.testing.assert_close(
        pooled[:, 0].double(), x.double().mean(1), equal_nan=True, rtol=1e-5, atol=1e-6
    )


def test_the_reference_backend_too(plain: Any) -> None:
    with use_backend("reference"):
        _compare(plain, torch.randn(N, C, H, W), _parameters(torch.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    leaves = [torch.randn(N, C, H, W).to(dtype), *(p.to(dtype) for p in _parameters(torch.float32))]
    for leaf in leaves:
        leaf.requires_grad_()
    y = attention_region_norm(*leaves, threshold=0.5)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    exact = [t.detach().float().requires_grad_() for t in leaves]
    wide = attention_region_norm(*exact, threshold=0.5)
    # A pixel at the threshold may change sides; the rest agrees to half precision.
    off = (y.float() - wide).abs() > 0.05 * wide.abs().max()
    assert off.double().mean() < 0.05
    for leaf in leaves:
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
