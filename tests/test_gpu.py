"""On an NVIDIA GPU: the CUDA kernels, and the operators on CUDA tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import (
    RN_L,
    ChannelMask,
    available_backends,
    partial_conv2d,
    region_norm,
    update_mask,
    use_backend,
)

pytestmark = pytest.mark.gpu

_op = torch.ops.inpaint_ops.mask_update.default


@pytest.fixture(autouse=True)
def _full_precision() -> Any:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def cuda_kernels() -> None:
    reason = available_backends()["cuda"]
    assert reason is None, f"there is a GPU, but the CUDA backend cannot run: {reason}"


@pytest.mark.usefixtures("cuda_kernels")
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("order", ["contiguous", "channels last", "expanded", "stepped"])
def test_mask_update_kernel(order: str, groups: int, dtype: torch.dtype) -> None:
    mask = (torch.rand(2, groups, 67, 61) > 0.7).to(dtype)
    mask[:, :, :30, :30] = 0
    mask = mask.cuda()
    if order == "channels last":
        mask = mask.contiguous(memory_format=torch.channels_last)
    elif order == "expanded":
        mask = mask[:1].expand(4, -1, -1, -1)
    elif order == "stepped":
        mask = mask[:, :, ::2, ::3]
    ratio_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    arguments = (
        mask,
        list(range(1, groups + 1)),
        [7, 3],
        [2, 1],
        [3, 1],
        [1, 2],
        1e-8,
        ratio_dtype,
    )
    with use_backend("cuda"):
        new_mask, ratio = _op(*arguments)
    with use_backend("reference"):
        expected_mask, expected = _op(*arguments)
    assert new_mask.dtype == dtype
    assert torch.equal(new_mask, expected_mask)
    torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("cuda_kernels")
def test_soft_values_three_axes_and_another_stream() -> None:
    mask = torch.rand(2, 2, 9, 11, 13, device="cuda") * 0.1
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with use_backend("cuda"), torch.cuda.stream(stream):
        found = update_mask(mask, 2, stride=(1, 2, 1))
    stream.synchronize()
    with use_backend("reference"):
        expected = update_mask(mask, 2, stride=(1, 2, 1))
    torch.testing.assert_close(found, expected)
    with use_backend("cuda"):
        assert update_mask(mask[:0], 2).shape == (0, 1, 8, 10, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("form", ["none", "plane", "channels", "groups"])
def test_partial_conv(plain: Any, form: str, dtype: torch.dtype) -> None:
    masks: dict[str, tuple[Tensor | ChannelMask | None, bool]] = {
        "none": (None, False),
        "plane": (plain.blobs(2, 1, 33, 29).to(dtype), False),
        "channels": (plain.blobs(2, 6, 33, 29).to(dtype), True),
        "groups": (ChannelMask(plain.blobs(2, 2, 33, 29).to(dtype), (2, 4)), False),
    }
    mask, multi_channel = masks[form]
    on_gpu: Tensor | ChannelMask | None = mask
    if isinstance(mask, Tensor):
        on_gpu = mask.cuda()
    elif isinstance(mask, ChannelMask):
        on_gpu = ChannelMask(mask.planes.cuda(), mask.channels)
    leaves = [torch.randn(2, 6, 33, 29), torch.randn(4, 6, 3, 3), torch.randn(4)]
    given = [t.to(dtype).cuda().requires_grad_() for t in leaves]
    exact = [t.to(dtype).double().requires_grad_() for t in leaves]
    y, _ = partial_conv2d(
        given[0], on_gpu, given[1], given[2], padding=1, multi_channel=multi_channel
    )
    expected, _ = plain.partial_conv(
        exact[0], mask, exact[1], exact[2], padding=1, multi_channel=multi_channel
    )
    plain.close(y.cpu(), expected, 54)
    grad = torch.randn(expected.shape).to(dtype)
    y.backward(grad.cuda())
    expected.backward(grad.double())
    for found, wanted in zip(given, exact, strict=True):
        assert found.grad is not None
        plain.close(found.grad.cpu(), wanted.grad, 2 * 33 * 29)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_norm(plain: Any, stats: str, dtype: torch.dtype) -> None:
    mask = plain.blobs(3, 1, 33, 29)
    leaves = [torch.randn(3, 5, 33, 29), torch.randn(2, 5), torch.randn(2, 5)]
    given = [t.to(dtype).cuda().requires_grad_() for t in leaves]
    exact = [t.to(dtype).double().requires_grad_() for t in leaves]
    y = region_norm(given[0], mask.cuda(), given[1], given[2], stats=stats)
    expected = plain.region_norm(exact[0], mask, exact[1], exact[2], stats=stats)
    plain.close(y.cpu(), expected, 3 * 33 * 29)
    grad = torch.randn(expected.shape).to(dtype)
    y.backward(grad.cuda())
    expected.backward(grad.double())
    for found, wanted in zip(given, exact, strict=True):
        assert found.grad is not None
        plain.close(found.grad.cpu(), wanted.grad, 3 * 33 * 29)


def test_rn_l_on_both_devices() -> None:
    module, x = RN_L(5, threshold=0.5).double(), torch.randn(2, 5, 33, 29).double()
    expected = module(x)
    torch.testing.assert_close(module.cuda()(x.cuda()).cpu(), expected)


def test_the_cpu_backend_refuses_cuda_tensors() -> None:
    with use_backend("cpu"), pytest.raises(RuntimeError, match="runs on the CPU only"):
        region_norm(torch.ones(1, 1, 3, 3).cuda(), torch.ones(1, 1, 3, 3).cuda())
