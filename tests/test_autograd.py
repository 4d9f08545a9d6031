"""Gradients and their gradients by finite differences, in float64: the native kernels run them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from inpaint_ops import ChannelMask, partial_conv2d, region_norm, use_backend
from inpaint_ops.backends import cpu, reference
from inpaint_ops.functional import attention_region_norm as _attention_region_norm

pytestmark = pytest.mark.usefixtures("one_thread")

# A starred list of tensors is beyond mypy.
attention_region_norm: Callable[..., Tensor] = _attention_region_norm
N, C, H, W = 2, 2, 4, 3
NCHW, NHWC = torch.contiguous_format, torch.channels_last


@pytest.fixture
def one_thread(restored_threads: None) -> None:
    """Thousands of tiny calls: waking a second thread costs more than they do."""
    torch.set_num_threads(1)


ORDERS = pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])


def _leaf(*shape: int, order: torch.memory_format = NCHW) -> Tensor:
    t = torch.randn(shape, dtype=torch.float64)
    return (t if order is NCHW else t.to(memory_format=order)).requires_grad_()


MASKS: dict[str, Callable[[Any], tuple[Any, bool]]] = {
    "none": lambda p: (None, False),
    "plane": lambda p: (p.blobs(N, 1, H, W), False),
    "bool channels": lambda p: (p.blobs(N, C, H, W).bool(), True),
    "2 groups": lambda p: (ChannelMask(p.blobs(1, 2, H, W), (1, 1)), False),
    "soft": lambda p: (p.blobs(N, 1, H, W) * 0.3, False),
}


@ORDERS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("form", MASKS)
def test_partial_conv(plain: Any, form: str, bias: bool, order: torch.memory_format) -> None:
    mask, multi_channel = MASKS[form](plain)
    inputs = [_leaf(N, C, H, W, order=order), _leaf(2, C, 3, 2)] + ([_leaf(2)] if bias else [])

    def run(x: Tensor, weight: Tensor, b: Tensor | None = None) -> Tensor:
        return partial_conv2d(
            x, mask, weight, b, stride=(1, 2), padding=1, multi_channel=multi_channel
        )[0]

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_partial_conv_with_other_padding(plain: Any, mode: str) -> None:
    mask = plain.blobs(N, 1, H, W)
    inputs = [_leaf(N, C, H, W), _leaf(2, C, 2, 3), _leaf(2)]

    def run(x: Tensor, weight: Tensor, b: Tensor) -> Tensor:
        return partial_conv2d(x, mask, weight, b, padding="same", padding_mode=mode)[0]

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


@ORDERS
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "neither"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
@pytest.mark.parametrize("form", ["binary", "soft", "no holes"])
def test_region_norm(
    plain: Any, form: str, stats: str, affine: str, order: torch.memory_format
) -> None:
    mask = torch.ones(1, 1, H, W) if form == "no holes" else plain.blobs(N, 1, H, W)
    mask = mask.double() * (torch.rand(N, 1, H, W) if form == "soft" else 1)
    x = _leaf(N, C, H, W, order=order)
    weight = _leaf(2, C) if affine in ("both", "weight") else None
    bias = _leaf(2, C) if affine in ("both", "bias") else None

    def run(x: Tensor, *rest: Tensor) -> Tensor:
        return region_norm(
            x, mask, rest[0] if weight is not None else None,
            rest[-1] if bias is not None else None, eps=0.1, stats=stats,
        )  # fmt: skip

    inputs = [t for t in (x, weight, bias) if t is not None]
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


@ORDERS
def test_attention_region_norm(order: torch.memory_format) -> None:
    inputs = [
        _leaf(N, C, H, W, order=order), _leaf(1, 2, 3, 3), _leaf(1, 1, 3, 3), _leaf(1),
        _leaf(1, 1, 3, 3), _leaf(1),
    ]  # fmt: skip
    with torch.no_grad():
        attention = torch.ops.inpaint_ops.attention_region_norm_forward.default(*inputs, 0.5, 0.1)[
            3
        ]
        values = attention.flatten().sort().values
        middle = values[10:-10]
        at = int(middle.diff().argmax())
        threshold = float((middle[at] + middle[at + 1]) / 2)

    def run(*tensors: Tensor) -> Tensor:
        return attention_region_norm(*tensors, threshold=threshold, eps=0.1)

    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


def test_double_backward_of_partial_conv_equals_the_plain_one(plain: Any) -> None:
    """A gradient penalty, as critics are trained with."""
    mask = plain.blobs(N, 1, H, W)
    given = [_leaf(N, C, H, W), _leaf(2, C, 3, 3), _leaf(2)]
    exact = [t.detach().clone().requires_grad_() for t in given]
    for leaves, run in ((given, partial_conv2d), (exact, plain.partial_conv)):
        y, _ = run(leaves[0], mask, leaves[1], leaves[2], padding=1)
        (g,) = torch.autograd.grad(y.tanh().sum(), leaves[0], create_graph=True)
        g.square().sum().backward()
    for found, wanted in zip(given, exact, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


def test_backward_twice_and_accumulation(plain: Any) -> None:
    mask = plain.blobs(N, 1, H, W)
    x, weight = _leaf(N, C, H, W), _leaf(2, C, 3, 3)
    y, _ = partial_conv2d(x, mask, weight)
    y.sum().backward(retain_graph=True)
    once = weight.grad
    assert once is not None
    once = once.clone()
    y.sum().backward()
    assert torch.equal(weight.grad, 2 * once)  # type: ignore[arg-type]


# name -> a differentiable call, and the op of its backward
CALLS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "partial_conv": (
        lambda x: partial_conv2d(x, torch.ones(1, 1, H, W), torch.randn(2, C, 2, 2))[0],
        "partial_conv_backward",
    ),
    "region_norm": (lambda x: region_norm(x, torch.ones(1, 1, H, W)), "region_norm_backward"),
    "attention": (
        lambda x: attention_region_norm(
            x, torch.randn(1, 2, 3, 3), torch.randn(1, 1, 3, 3), torch.zeros(1),
            torch.randn(1, 1, 3, 3), torch.zeros(1),
        ),
        "attention_region_norm_backward",
    ),
    "padded": (
        lambda x: partial_conv2d(
            x, torch.ones(1, 1, H, W), torch.randn(2, C, 2, 2), padding=1, padding_mode="reflect"
        )[0],
        "apply_mask",
    ),
}  # fmt: skip


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("thread", [False, True], ids=["same thread", "other thread"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("fresh_dispatch")
def test_the_backward_runs_on_the_backend_of_the_forward(
    call: str, backend: str, thread: bool, create_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, op = CALLS[call]
    seen = []
    for module in (reference, cpu):
        original = module.OPS[op]

        def counted(*args: Any, _original: Any = original, _name: str = module.NAME) -> Any:
            seen.append(_name)
            return _original(*args)

        monkeypatch.setitem(module.OPS, op, counted)
    x = torch.randn(N, C, H, W).requires_grad_()
    with use_backend(backend):
        y = function(x)
    seen.clear()
    other = "cpu" if backend == "reference" else "reference"

    def backward() -> None:
        with use_backend(other):
            torch.autograd.grad(y.sum(), x, create_graph=create_graph)

    if thread:
        worker = threading.Thread(target=backward)
        worker.start()
        worker.join()
    else:
        backward()
    assert seen == [backend]


def test_no_graph_is_kept_without_gradients(plain: Any) -> None:
    x, weight = torch.randn(N, C, H, W), torch.randn(2, C, 3, 3).requires_grad_()
    assert partial_conv2d(x, None, weight)[0].requires_grad
    with torch.no_grad():
        assert not partial_conv2d(x, None, weight)[0].requires_grad
    assert not partial_conv2d(x, None, weight.detach())[0].requires_grad
    assert not region_norm(x, torch.ones(1, 1, H, W)).requires_grad
