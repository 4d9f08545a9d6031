"""The project's own kernels give the same bits for any number of threads and instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from inpaint_ops import core
from inpaint_ops.backends.precision import compute_dtype

pytestmark = pytest.mark.usefixtures("restored_threads", "restored_simd")

N, C, H, W = 3, 19, 67, 61
NCHW, NHWC = torch.contiguous_format, torch.channels_last
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
_ops = torch.ops.inpaint_ops

Case = Callable[[torch.dtype, torch.memory_format], Iterator[Tensor]]


def _x(dtype: torch.dtype, order: torch.memory_format, mean: float = 0) -> Tensor:
    return (torch.randn(N, C, H, W, dtype=dtype) + mean).to(memory_format=order)


def _mask(dtype: torch.dtype, groups: int = 1) -> Tensor:
    mask = (torch.rand(N, groups, H, W) > 0.3).to(dtype)
    mask[:, :, : H // 2, : W // 2] = 0
    mask[:, :, H // 2 :, W // 2 :] = 1
    return mask


def _mask_update(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    window = [7, 7], [2, 2], [3, 3], [1, 1], 1e-8, compute_dtype(dtype)
    yield from _ops.mask_update.default(_mask(dtype), [3], *window)
    soft = _mask(dtype, 5) * torch.rand(N, 5, H, W, dtype=dtype)
    yield from _ops.mask_update.default(soft.to(memory_format=order), [1, 2, 3, 4, 9], *window)
    yield from _ops.mask_update.default(_mask(torch.bool, 5), [1] * 5, *window)


def _apply_mask(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    x = _x(dtype, order)
    yield _ops.apply_mask.default(x, _mask(dtype), [C])
    yield _ops.apply_mask.default(x, _mask(torch.bool, 2), [3, 16])
    yield _ops.apply_mask.default(x, _mask(dtype, C), [1] * C)


def _epilogue(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    native = core.load()
    wide = compute_dtype(dtype)
    ratio, new_mask = torch.rand(N, 1, H, W, dtype=wide), _mask(wide)
    bias = torch.randn(C, dtype=dtype)
    for b in (bias, None):
        y = _x(dtype, order)
        native.partial_conv_epilogue(
            core.view(y), core.view(ratio), core.view(new_mask), None if b is None else core.view(b)
        )
        yield y


def _epilogue_backward(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    native = core.load()
    wide = compute_dtype(dtype)
    ratio, new_mask = torch.rand(N, 1, H, W, dtype=wide), _mask(wide)
    for with_bias in (True, False):
        grad = _x(dtype, order, 0.3)
        raw, grad_bias = torch.empty_like(grad), torch.empty(C, dtype=dtype)
        native.partial_conv_epilogue_backward(
            core.view(grad), core.view(ratio), core.view(new_mask), core.view(raw),
            core.view(grad_bias) if with_bias else None,
        )  # fmt: skip
        yield raw
        if with_bias:
            yield grad_bias


def _region_norm(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    x, grad = _x(dtype, order, 3), _x(dtype, order)
    weight, bias = torch.randn(2, 2, C, dtype=compute_dtype(dtype))
    for instance in (False, True):
        mask = _mask(torch.bool if instance else dtype)
        y, mean, rstd = _ops.region_norm_forward.default(
            x, mask, weight, bias, 1e-5, True, instance
        )
        yield from (y, mean, rstd)
        yield from _ops.region_norm_backward.default(grad, x, mask, weight, mean, rstd, instance)


def _soft_region_norm(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    x, grad = _x(dtype, order, 3), _x(dtype, order)
    mask = torch.rand(N, 1, H, W, dtype=dtype)
    y, mean, rstd = _ops.region_norm_forward.default(x, mask, None, None, 1e-5, True, False)
    yield from (y, mean, rstd)
    yield from _ops.region_norm_backward.default(grad, x, mask, None, mean, rstd, False)


def _attention(dtype: torch.dtype, order: torch.memory_format) -> Iterator[Tensor]:
    x, grad = _x(dtype, order), _x(dtype, order)
    wide = compute_dtype(dtype)
    aw, gw, bw = (torch.randn(1, p, 7, 7, dtype=wide) * 0.05 for p in (2, 1, 1))
    gb, bb = torch.randn(2, 1, dtype=wide)
    y, *rest = _ops.attention_region_norm_forward.default(x, aw, gw, gb, bw, bb, 0.5, 1e-5)
    yield from (y, *rest)
    yield from _ops.attention_region_norm_backward.default(grad, x, aw, gw, bw, *rest, 0.5)


CASES: dict[str, Case] = {
    "mask update": _mask_update,
    "apply mask": _apply_mask,
    "epilogue": _epilogue,
    "epilogue backward": _epilogue_backward,
    "region norm": _region_norm,
    "soft region norm": _soft_region_norm,
    "attention region norm": _attention,
}


def _bits(case: str, dtype: torch.dtype, order: torch.memory_format) -> list[Tensor]:
    torch.manual_seed(5)
    return list(CASES[case](dtype, order))


def _assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert not a.is_floating_point() or torch.isfinite(a).all()
        assert torch.equal(a, b)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_same_bits_for_any_number_of_threads(
    case: str, dtype: torch.dtype, order: torch.memory_format
) -> None:
    torch.set_num_threads(1)
    expected = _bits(case, dtype, order)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        _assert_same(_bits(case, dtype, order), expected)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_same_bits_on_every_instruction_set(
    case: str, dtype: torch.dtype, order: torch.memory_format
) -> None:
    native = core.load()
    native.select_simd("baseline")
    expected = _bits(case, dtype, order)
    for level in native.build_info()["simd_available"]:
        native.select_simd(level)
        assert native.build_info()["simd"] == level
        _assert_same(_bits(case, dtype, order), expected)
