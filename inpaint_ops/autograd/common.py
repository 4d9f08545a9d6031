"""What the ops' autograd functions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..backends import dispatch


def differentiates(*tensors: Tensor | None) -> bool:
    """Whether a call needs its autograd function: for a gradient, or for a tangent.

    There is no forward-mode rule yet. The autograd function says so; the bare op would return a
    value without a tangent, which counts as zero.
    """
    given = [t for t in tensors if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):
        return True
    return not torch.compiler.is_compiling() and any(
        forward_ad.unpack_dual(t).tangent is not None for t in given
    )


def remember_backend(ctx: Any) -> None:
    """Keep the backend asked for at the forward call; its gradient runs there too."""
    ctx.backend = None if torch.compiler.is_compiling() else dispatch.current()


@contextmanager
def same_backend(ctx: Any) -> Iterator[None]:
    """The backend of the forward call: autograd may run the backward in another thread."""
    if ctx.backend is None or ctx.backend == dispatch.current():
        yield
    else:
        with dispatch.use_backend(ctx.backend):
            yield


def wants_graph() -> bool:
    """Whether the backward is itself to be differentiated (``create_graph=True``)."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def second_order(
    forward: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    grad: Tensor,
    grads_of_grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of the backward pass, by the plain formula of the forward pass.

    Args:
        forward: differentiable plain PyTorch, called with ``inputs``.
        inputs: tensors to differentiate by; None is passed on and gets no gradient.
        grad: the gradient that the backward pass received.
        grads_of_grads: what arrived for the gradient of each of ``inputs``.

    Returns:
        Gradients of ``grad`` and of every input.
    """
    with torch.enable_grad():
        leaves = [None if t is None else t.detach().requires_grad_() for t in inputs]
        upstream = grad.detach().requires_grad_()
        y = forward(*leaves)
        pairs = [
            (leaf, gg) for leaf, gg in zip(leaves, grads_of_grads, strict=True)
            if leaf is not None and gg is not None
        ]  # fmt: skip
        firsts = torch.autograd.grad(y, [leaf for leaf, _ in pairs], upstream, create_graph=True)
    wanted = [t for t in (upstream, *leaves) if t is not None]
    found = iter(torch.autograd.grad(firsts, wanted, [gg for _, gg in pairs], allow_unused=True))
    return [None if t is None else next(found) for t in (upstream, *leaves)]
