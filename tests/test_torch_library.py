"""The operators under torch's own checks, and under torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from inpaint_ops import (
    RN_B,
    RN_L,
    ChannelMask,
    PartialConv2d,
    RegionNorm2d,
    library,
    partial_conv2d,
    region_norm,
    update_mask,
)

N, C, H, W = 2, 4, 6, 5
NCHW, NHWC = torch.contiguous_format, torch.channels_last
_ops = torch.ops.inpaint_ops


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _x(order: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape or (N, C, H, W), dtype=dtype)
    if order == "nhwc":
        return x.to(memory_format=NHWC)
    return x.transpose(2, 3).contiguous().transpose(2, 3) if order == "transposed" else x


def _mask(n: int = N, g: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(n, g, H, W) > 0.4).to(dtype)


def _conv_arguments(
    order: str, form: str, dtype: torch.dtype
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Of the forward and of the backward op."""
    mask, channels, multi = {
        "none": (None, [C], False),
        "plane": (_mask(dtype=dtype), [C], False),
        "groups": (_mask(1, 2), [1, 3], True),
        "bool channels": (_mask(N, C).bool(), [1] * C, True),
    }[form]
    x, weight, bias = _x(order, dtype=dtype), torch.randn(6, C, 3, 3), torch.randn(6)
    weight, bias = weight.to(dtype), bias.to(dtype)
    geometry = [1, 2], [1, 1], [1, 1], [1, 1], 1
    has_bias = form != "none"
    forward = (x, mask, channels, weight, bias if has_bias else None, *geometry, multi, False, 1e-8)
    y, new_mask, ratio = _ops.partial_conv_forward.default(*forward)
    stride, padding, _, dilation, groups = geometry
    backward = (
        _x(order, *y.shape, dtype=dtype), x, mask, channels, weight, new_mask, ratio, has_bias,
        stride, padding, dilation, groups, False, [True, form != "groups", True],
    )  # fmt: skip
    return forward, backward


def _attention_arguments(
    order: str, dtype: torch.dtype, surround: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """In a block, if it has a surround."""
    x = _x(order, dtype=dtype)
    parameters = [
        torch.randn(1, 2, 3, 3), torch.randn(1, 1, 3, 3), torch.randn(1), torch.randn(1, 1, 3, 3),
        torch.randn(1),
    ]  # fmt: skip
    forward = (x, *surround, *parameters, 0.5, 1e-5)
    kind = "block" if surround else "region"
    _, *by_products = getattr(_ops, f"attention_{kind}_norm_forward").default(*forward)
    aw, gw, _, bw, _ = parameters
    return forward, (_x(order, dtype=dtype), x, *surround, aw, gw, bw, *by_products, 0.5)


def _block_arguments(name: str, order: str, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    for regions in (True, False):
        x, mask, rows = _x(order, dtype=dtype), _mask(), 2 if regions else 1
        weight = torch.randn(rows, C) if regions else None
        surround = (mask * 1.5, mask, 0.2)
        given = (x, *surround, _mask() if regions else None, weight, weight)
        _, mean, rstd = _ops.block_norm_forward.default(*given, 1e-5, regions)
        if name == "block_norm_forward":
            yield (*given, 1e-5, regions)
        elif name == "block_norm_backward":
            yield (_x(order, dtype=dtype), *given, mean, rstd, False, True)
            if not regions:
                yield (_x(order, dtype=dtype), *given, mean, rstd, True, False)
        elif not regions:
            yield (x, *surround, weight, torch.randn(1, C), mean, rstd)


def _upsampled_weight_arguments(
    name: str, order: str, dtype: torch.dtype
) -> Iterator[tuple[Any, ...]]:
    weight = _x(order, 5, C, 3, 3, dtype=dtype)
    if name.endswith("forward"):
        yield weight, 3
    else:
        yield _x(order, 3, 5, 4, 4, dtype=dtype), weight


def _samples(name: str, order: str, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    if name == "mask_update":
        window = [3, 2], [1, 2], [1, 0], [1, 1], 1e-8
        yield (_mask(dtype=dtype), [1], *window, torch.float32)
        yield (_x(order) > 0, [1] * C, *window, torch.float64)
    elif name == "apply_mask":
        yield _x(order, dtype=dtype), _mask(dtype=dtype), [C]
        yield _x(order, dtype=dtype), _mask(1, 2).bool(), [1, 3]
        yield _x(order, dtype=dtype), _mask(N, C), [1] * C
    elif name.startswith("partial_conv"):
        for form in ("none", "plane", "groups", "bool channels"):
            yield _conv_arguments(order, form, dtype)[name.endswith("backward")]
    elif name.startswith("region_norm"):
        for instance in (False, True):
            weight = torch.randn(2, C) if instance else None
            x, mask = _x(order, dtype=dtype), _mask()
            forward = (x, mask, weight, weight, 1e-5, True, instance)
            _, mean, rstd = _ops.region_norm_forward.default(*forward)
            backward = (_x(order, dtype=dtype), x, mask, weight, mean, rstd, instance)
            yield backward if name.endswith("backward") else forward
    elif name.startswith("block_norm"):
        yield from _block_arguments(name, order, dtype)
    elif name.startswith("upsampled_weight"):
        yield from _upsampled_weight_arguments(name, order, dtype)
    else:
        surround = (_mask() * 1.5, _mask(), 0.2) if "block" in name else ()
        yield _attention_arguments(order, dtype, surround)[name.endswith("backward")]


@pytest.mark.parametrize("order", ["nchw", "nhwc", "transposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", library.SCHEMAS)
def test_opcheck(name: str, dtype: torch.dtype, order: str) -> None:
    op = getattr(_ops, name).default
    for arguments in _samples(name, order, dtype):
        done = torch.library.opcheck(op, arguments)
        assert set(done.values()) == {"SUCCESS"}


class _Everything(nn.Module):
    """Each module once, the mask handed on."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = PartialConv2d(3, 8, 3, padding=1, return_mask=True, **options)
        self.norm = RegionNorm2d(8)
        self.down = PartialConv2d(8, 8, 3, stride=2, padding=1, return_mask=True, bias=False)
        self.basic = RN_B(8)
        self.learned = RN_L(8, threshold=0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h, m = self.conv(x, mask)
        h = torch.relu(self.norm(h, m))
        h, m = self.down(h, m)
        h = torch.relu(self.basic(h, 1 - m))
        out: Tensor = self.learned(h)
        return out


def _gradients(
    net: Callable[..., Tensor], parameters: list[nn.Parameter], x: Tensor, mask: Any
) -> list[Tensor]:
    leaf = x.detach().requires_grad_()
    y = net(leaf, mask)
    generator = torch.Generator().manual_seed(3)
    grad = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *parameters], grad)]


def _picture(n: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    mask = (torch.rand(n, 1, h, w) > 0.3).float()
    return torch.randn(n, 3, h, w), mask


def test_compiled_under_autocast() -> None:
    """Features in bfloat16, parameters of the norms in float32."""
    net = _Everything()
    x, mask = _picture(2, 16, 12)
    compiled = torch.compile(net, fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        expected = _gradients(net, list(net.parameters()), x, mask)
        found = _gradients(compiled, list(net.parameters()), x, mask)
    assert found[0].dtype == torch.bfloat16
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert float((a - b).norm()) <= 0.05 * float(b.norm()) + 1e-3


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_modules_forward_and_backward(backend: str) -> None:
    net = _Everything()
    x, mask = _picture(2, 16, 12)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    expected = _gradients(net, list(net.parameters()), x, mask)
    found = _gradients(compiled, list(net.parameters()), x, mask)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, mask), net(x, mask), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_inductor_agrees_on_the_memory_order(order: torch.memory_format) -> None:
    """The compiler's code asserts the strides that the fake kernels promise."""
    net = PartialConv2d(4, 6, 3, padding=1)
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(2, 4, 6, 5).to(memory_format=order).requires_grad_()
    y, expected = compiled(x, _mask()), net(x)
    assert y.stride() == expected.stride()
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=order)


def test_dynamic_shapes_do_not_recompile() -> None:
    net = _Everything()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter, dynamic=True)
    first = 0  # how often the first compilation calls the backend is dynamo's own affair
    for n, h, w in ((2, 16, 12), (3, 20, 28), (5, 33, 18), (2, 16, 30)):
        x, mask = _picture(n, h, w)
        found = _gradients(compiled, list(net.parameters()), x, mask)
        expected = _gradients(net, list(net.parameters()), x, mask)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        first = first or counter.frame_count
    assert counter.frame_count == first


def test_automatic_dynamic_shapes_recompile_at_most_once() -> None:
    net = _Everything()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter)
    counts = []
    for n, h, w in ((2, 16, 12), (3, 20, 28), (5, 33, 18), (4, 24, 30), (6, 17, 40)):
        x, mask = _picture(n, h, w)
        compiled(x, mask).sum().backward()
        counts.append(counter.frame_count)
    assert counts[1:] == [counts[1]] * 4


def test_many_layers_of_one_kind_share_their_compilation_units() -> None:
    """Constants of the layers (stride, padding, eps) do not make the second call compile again."""
    net = nn.Sequential(*(PartialConv2d(3, 3, 3, padding=p, eps=e)
                          for p, e in ((0, 1e-8), (1, 1e-6), (2, 1e-8))))  # fmt: skip
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter, dynamic=True)
    first = 0
    for size in (9, 12, 17):
        x = torch.randn(2, 3, size, size + 1).requires_grad_()
        y = compiled(x)
        y.sum().backward()
        torch.testing.assert_close(y, net(x))
        first = first or counter.frame_count
    assert counter.frame_count == first


CALLS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "no mask": lambda x, m, w: partial_conv2d(x, None, w, padding=1)[0],
    "plane": lambda x, m, w: partial_conv2d(x, m[:, :1], w, stride=2)[0],
    "channels": lambda x, m, w: partial_conv2d(x, m, w, multi_channel=True)[0],
    "expanded": lambda x, m, w: partial_conv2d(
        x, m[:, :1].expand(-1, 3, -1, -1), w, multi_channel=True)[0],
    "groups": lambda x, m, w: partial_conv2d(x, ChannelMask(m[:, :2], (1, 2)), w)[0],
    "bool": lambda x, m, w: partial_conv2d(x, m[:, :1] > 0, w, padding="same")[0],
    "uint8": lambda x, m, w: partial_conv2d(x, (m[:, :1] * 255).to(torch.uint8), w)[0],
    "reflect": lambda x, m, w: partial_conv2d(
        x, m[:, :1], w, padding=1, padding_mode="reflect")[0],
    "channels last": lambda x, m, w: partial_conv2d(
        x.contiguous(memory_format=NHWC), m[:, :1], w)[0],
    "update": lambda x, m, w: x * update_mask(m, 3, padding=1),
    "norm, bool": lambda x, m, w: region_norm(x, m[:, :1] > 0),
    "norm, instance": lambda x, m, w: region_norm(x, m[:, :1], stats="instance", scale_eps=False),
    "norm, transposed": lambda x, m, w: region_norm(x.transpose(2, 3), m[:, :1].transpose(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_compiled_functions(call: str) -> None:
    function = CALLS[call]
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, backend=counter, dynamic=True)
    weight, first = torch.randn(4, 3, 3, 3).requires_grad_(), 0
    for n, h, w in ((2, 9, 11), (3, 12, 8), (4, 13, 10)):
        x = torch.randn(n, 3, h, w).requires_grad_()
        mask = (torch.rand(n, 3, h, w) > 0.3).float()
        y, expected = compiled(x, mask, weight), function(x, mask, weight)
        assert y.stride() == expected.stride()
        grad = torch.randn_like(expected)
        leaves = [x, weight] if "norm" not in call and call != "update" else [x]
        found = torch.autograd.grad(y, leaves, grad)
        wanted = torch.autograd.grad(expected, leaves, grad)
        for a, b in zip([y, *found], [expected, *wanted], strict=True):
            torch.testing.assert_close(a, b)
        first = first or counter.frame_count
    assert counter.frame_count == first


def test_export() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = PartialConv2d(3, 4, 3, padding=1, return_mask=True)
            self.norm = RegionNorm2d(4)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            y, new_mask = self.conv(x, mask)
            out: Tensor = self.norm(y, new_mask)
            return out

    net = Net().eval()
    x, mask = _picture(2, 8, 9)
    with torch.no_grad():
        program = torch.export.export(net, (x, mask))
        torch.testing.assert_close(program.module()(x, mask), net(x, mask))


def test_fake_and_meta_tensors_have_the_right_shapes() -> None:
    x, weight = torch.empty(2, 3, 9, 8, device="meta"), torch.empty(5, 3, 3, 3, device="meta")
    mask = torch.empty(2, 1, 9, 8, device="meta")
    y, new_mask = partial_conv2d(x, mask, weight, stride=2, padding=1)
    assert isinstance(new_mask, Tensor)
    assert y.shape == (2, 5, 5, 4)
    assert new_mask.shape == (2, 1, 5, 4)
    assert y.device.type == "meta"
    assert region_norm(x, mask).shape == x.shape
