"""On an NVIDIA GPU: Triton's convolution as one product, and how it is chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import partial_conv2d, region_norm, use_backend

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("triton_kernels")]

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
MODES = pytest.mark.parametrize("mode", ["library", "gemm"])


@pytest.fixture
def triton_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The backend, asked for by name; full precision, and no choices from before."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with use_backend("triton"):
        yield


def _leaves(
    dtype: torch.dtype, layout: torch.memory_format, *shapes: tuple[int, ...]
) -> tuple[list[Tensor], list[Tensor]]:
    values = [torch.randn(shape).to(dtype) for shape in shapes]
    on_gpu = [v.cuda().to(memory_format=layout) if v.dim() == 4 else v.cuda() for v in values]
    return [v.requires_grad_() for v in on_gpu], [v.double().requires_grad_() for v in values]


def _compare(
    plain: Any,
    y: Tensor,
    expected: Tensor,
    found: list[Tensor],
    wanted: list[Tensor],
    length: float,
) -> None:
    plain.close(y.cpu(), expected, length)
    grad = torch.randn(expected.shape).to(y.dtype)
    one = torch.autograd.grad(y, found, grad.cuda())
    other = torch.autograd.grad(expected, wanted, grad.double())
    for a, b in zip(one, other, strict=True):
        plain.close(a.cpu(), b, expected.numel() / expected.shape[1])


@MODES
@LAYOUTS
@DTYPES
@pytest.mark.parametrize("stride", [1, 2])
def test_partial_conv(
    plain: Any, monkeypatch: pytest.MonkeyPatch, stride: int, dtype: torch.dtype,
    layout: torch.memory_format, mode: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("INPAINT_OPS_CONV", mode)
    mask = plain.blobs(2, 1, 67, 61)
    found, wanted = _leaves(dtype, layout, (2, 40, 67, 61), (72, 40, 3, 3), (72,))
    holed = torch.where(mask.cuda() == 0, torch.nan, found[0].detach()).requires_grad_()
    y, _ = partial_conv2d(holed, mask.bool().cuda(), found[1], found[2], stride, padding=1)
    expected, _ = plain.partial_conv(wanted[0], mask, wanted[1], wanted[2], stride, 1)
    _compare(plain, y, expected, [holed, *found[1:]], wanted, 360)


@MODES
def test_captured_in_a_graph(plain: Any, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("INPAINT_OPS_CONV", mode)
    mask = plain.blobs(2, 1, 33, 29).float().cuda()
    x = torch.randn(2, 32, 33, 29, device="cuda").to(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3, device="cuda", requires_grad=True)

    def step() -> tuple[Tensor, Tensor]:
        y, new_mask = partial_conv2d(x, mask, weight, padding=1)
        assert isinstance(new_mask, Tensor)
        y = region_norm(y, new_mask)
        return y.detach(), torch.autograd.grad(y.square().sum(), weight)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, grad = step()
    x.copy_(torch.randn_like(x))
    graph.replay()
    expected, expected_grad = step()
    assert torch.equal(y, expected)
    if mode == "gemm":  # cuDNN promises no such thing
        assert torch.equal(grad, expected_grad)


def test_measured_choices_are_kept(
    plain: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("INPAINT_OPS_CONV", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    mask = plain.blobs(2, 1, 33, 29).float().cuda()
    x = torch.randn(2, 32, 33, 29, device="cuda", requires_grad=True)
    weight = torch.randn(32, 32, 3, 3, device="cuda", requires_grad=True)
    partial_conv2d(x, mask, weight, padding=1)[0].sum().backward()
    kept = json.loads((tmp_path / "inpaint_ops" / "convolutions.json").read_text())
    assert len(kept) == 3
    assert all(torch.cuda.get_device_name() in key for key in kept)
