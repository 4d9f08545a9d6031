"""Partial convolution of one and three axes, against the plain formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpaint_ops import (
    ChannelMask,
    PartialConv1d,
    PartialConv3d,
    partial_conv1d,
    partial_conv2d,
    partial_conv3d,
    use_backend,
)

CONV: dict[int, Any] = {1: F.conv1d, 3: F.conv3d}
PARTIAL: dict[int, Any] = {1: partial_conv1d, 3: partial_conv3d}
SIZE = {1: (23,), 3: (5, 9, 7)}
N, C, OUT = 2, 4, 6

WINDOWS: dict[str, dict[str, Any]] = {
    "3": {"kernel": 3, "padding": 1},
    "strided": {"kernel": 3, "stride": 2},
    "dilated": {"kernel": 2, "dilation": 2, "padding": 2},
    "groups": {"kernel": 3, "groups": 2, "padding": 1},
    "same": {"kernel": 3, "padding": "same"},
    "same, even": {"kernel": 2, "padding": "same"},
    "1": {"kernel": 1},
}


def _mask(form: str, size: tuple[int, ...], dtype: torch.dtype) -> Any:
    """A mask for the call; ``dense`` says what it means."""
    planes = {"plane": 1, "one image": 1, "channels": C, "groups": 2, "counted plane": 1}[form]
    values = (torch.rand(1 if form == "one image" else N, planes, *size) > 0.4).to(dtype)
    values[:, :, : size[0] // 2] = 0
    return ChannelMask(values, (3, 1)) if form == "groups" else values


def _plain(
    axes: int, x: Tensor, mask: Any, weight: Tensor, bias: Tensor | None, multi: bool, **window: Any
) -> tuple[Tensor, Tensor]:
    m = mask.dense() if isinstance(mask, ChannelMask) else mask
    m = (m if m.is_floating_point() else m != 0).double().expand(N, -1, *x.shape[2:])
    if multi or isinstance(mask, ChannelMask):
        m = m.expand(-1, C, *x.shape[2:])
    ones = torch.ones(1, m.shape[1], *weight.shape[2:], dtype=torch.float64)
    groups = window.pop("groups", 1)
    total = CONV[axes](m, ones, None, **window)
    new = total.clamp(0, 1)
    ratio = ones.numel() / (total + 1e-8) * new
    masked = torch.where(m == 0, 0.0, x.double()) * m
    y = CONV[axes](masked, weight.double(), None, groups=groups, **window) * ratio
    if bias is not None:
        y = (y + bias.double().view(1, -1, *[1] * axes)) * new
    return y, new


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["plane", "one image", "counted plane", "channels", "groups"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("axes", [1, 3])
def test_values_and_gradients(
    plain: Any, axes: int, window: str, form: str, dtype: torch.dtype, backend: str
) -> None:
    options = dict(WINDOWS[window])
    kernel = options.pop("kernel")
    x = torch.randn(N, C, *SIZE[axes], dtype=dtype) + 2
    weight = torch.randn(OUT, C // options.get("groups", 1), *[kernel] * axes, dtype=dtype)
    bias = torch.randn(OUT, dtype=dtype) if window != "1" else None
    leaves = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    mask, multi = _mask(form, SIZE[axes], dtype), form in ("channels", "counted plane")
    with use_backend(backend):
        y, new = PARTIAL[axes](x, mask, weight, bias, multi_channel=multi, **options)
    expected, expected_new = _plain(axes, x, mask, weight, bias, multi, **options)
    plain.close(y, expected, C * kernel**axes)
    found = new.planes if isinstance(new, ChannelMask) else new[:, :1]
    assert torch.equal(found.double().expand(N, *found.shape[1:]), expected_new)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, leaves, grad)
    for a, b in zip(torch.autograd.grad(y, leaves, grad.to(dtype)), wanted, strict=True):
        plain.close(a, b, y.numel() / OUT)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("axes", [1, 3])
def test_padding_modes_pad_the_masked_feature(plain: Any, axes: int, mode: str) -> None:
    x = torch.randn(N, C, *SIZE[axes], dtype=torch.float64)
    mask = _mask("plane", SIZE[axes], torch.float64)
    weight = torch.randn(OUT, C, *[3] * axes, dtype=torch.float64)
    y, new = PARTIAL[axes](x, mask, weight, None, padding=1, padding_mode=mode)
    total = CONV[axes](mask, torch.ones(1, 1, *[3] * axes, dtype=torch.float64), None, padding=1)
    assert torch.equal(new, total.clamp(0, 1))
    padded = F.pad(x * mask, [1] * (2 * axes), mode)
    expected = CONV[axes](padded, weight) * (3**axes / (total + 1e-8) * total.clamp(0, 1))
    plain.close(y, expected, C * 3**axes)


def test_channels_last_3d_runs_in_its_order(plain: Any) -> None:
    x = torch.randn(N, C, *SIZE[3]).to(memory_format=torch.channels_last_3d).requires_grad_()
    weight = torch.randn(OUT, C, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    mask = _mask("plane", SIZE[3], torch.float32)
    y, _ = partial_conv3d(x, mask, weight, torch.randn(OUT), padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("axes", [1, 3])
def test_other_strides_and_expanded_gradients(plain: Any, axes: int) -> None:
    size = SIZE[axes]
    x = torch.randn(N, C, *size[:-1], 2 * size[-1])[..., ::2].requires_grad_()
    mask = _mask("plane", size, torch.float32)
    weight = torch.randn(C, OUT, *[3] * axes).transpose(0, 1).requires_grad_()
    y, _ = PARTIAL[axes](x, mask, weight, None, padding=1)
    expected, _ = _plain(axes, x, mask, weight, None, False, padding=1)
    plain.close(y, expected, C * 3**axes)
    grad = torch.tensor(0.5).expand_as(y)
    found = torch.autograd.grad(y, [x, weight], grad)
    for a, b in zip(found, torch.autograd.grad(expected, [x, weight], grad.double()), strict=True):
        plain.close(a, b, y.numel() / OUT)


@pytest.mark.parametrize("axes", [1, 3])
def test_nan_under_a_hole(axes: int) -> None:
    x = torch.randn(N, C, *SIZE[axes])
    mask = _mask("plane", SIZE[axes], torch.float32)
    weight = torch.randn(OUT, C, *[3] * axes)
    clean, _ = PARTIAL[axes](x, mask, weight, None, padding=1)
    poisoned = x.masked_fill((mask == 0).expand_as(x), torch.nan).requires_grad_()
    y, _ = PARTIAL[axes](poisoned, mask, weight, None, padding=1)
    assert torch.equal(y, clean)
    y.sum().backward()
    assert poisoned.grad is not None
    assert torch.equal(poisoned.grad * (mask == 0), torch.zeros_like(x))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("axes", [1, 3])
def test_gradcheck(axes: int, backend: str) -> None:
    size = (7,) if axes == 1 else (2, 3, 3)
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, *[2] * axes, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 1, *size, dtype=torch.float64)
    mask.view(-1)[1] = 0

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = PARTIAL[axes](x, mask, weight, bias)[0]
        return y

    with use_backend(backend):
        assert torch.autograd.gradcheck(call, (x, weight, bias))
        assert torch.autograd.gradgradcheck(call, (x, weight, bias))


@pytest.mark.parametrize("axes", [1, 3])
def test_opcheck(axes: int) -> None:
    ones = [1] * axes
    torch.library.opcheck(
        torch.ops.inpaint_ops.partial_conv_forward.default,
        (
            torch.randn(N, C, *SIZE[axes]), _mask("plane", SIZE[axes], torch.float32), [C],
            torch.randn(OUT, C, *[3] * axes), torch.randn(OUT), ones, ones, ones, ones, 1, False,
            False, 1e-8,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("axes", [1, 3])
def test_modules_are_torchs_convolutions_with_a_mask(axes: int) -> None:
    make: Any = {1: PartialConv1d, 3: PartialConv3d}[axes]
    base: Any = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
    conv = make(C, OUT, 3, stride=2, padding=1, return_mask=True)
    assert isinstance(conv, base)
    base(C, OUT, 3).load_state_dict(conv.state_dict())
    x, mask = torch.randn(N, C, *SIZE[axes]), _mask("plane", SIZE[axes], torch.float32)
    y, new = conv(x, mask)
    expected, expected_new = PARTIAL[axes](x, mask, conv.weight, conv.bias, 2, 1)
    assert torch.equal(y, expected)
    assert torch.equal(new, expected_new)
    assert "return_mask=True" in repr(conv)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, mask)[0], y)


def test_a_depth_of_one_is_the_form_of_two_axes() -> None:
    x, mask = torch.randn(N, C, 9, 7), _mask("plane", (9, 7), torch.float32)
    weight = torch.randn(OUT, C, 3, 3)
    flat, _ = partial_conv2d(x, mask, weight, None, padding=1)
    deep, _ = partial_conv3d(
        x.unsqueeze(2), mask.unsqueeze(2), weight.unsqueeze(2), None, padding=(0, 1, 1)
    )
    torch.testing.assert_close(deep.squeeze(2), flat)


@pytest.mark.parametrize("axes", [1, 3])
def test_bad_input_is_named(axes: int) -> None:
    layout = {1: r"\(N, C, L\)", 3: r"\(N, C, D, H, W\)"}[axes]
    x, weight = torch.zeros(N, C, *SIZE[axes]), torch.zeros(OUT, C, *[3] * axes)
    call = PARTIAL[axes]
    with pytest.raises(ValueError, match=f"^x: expected {axes + 2} axes {layout}"):
        call(x[..., 0], None, weight)
    with pytest.raises(ValueError, match=r"^mask: .*axes"):
        call(x, torch.ones(N, 1, 4, 4), weight)
    with pytest.raises(ValueError, match=f"^stride: expected one number or {axes}"):
        call(x, None, weight, None, (1, 1))
    with pytest.raises(ValueError, match=r"^x: the window"):
        call(x[..., :2], None, weight)
