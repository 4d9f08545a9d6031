"""Proof by numbers: a published module and its replacement compute the same, or it is not replaced.

Both are copied to the CPU in float64 with random parameters (what a network holds may be zero, and
hide a difference), and called with holes, empty windows and soft masks. In float64 a wrong formula,
even another eps, stands out from rounding.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..backends.dispatch import use_backend

Call = tuple[tuple[Tensor, ...], dict[str, Any]]
"""Arguments of one call."""

TOLERANCE = 1e-10
"""Of the largest value, in float64: sums of some thousand terms, in two orders."""

_HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip


def computes_weight(hook: object) -> bool:
    """Whether a forward pre-hook is torch's own that computes the weight from others."""
    return isinstance(hook, (SpectralNorm, WeightNorm))


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody watches calls of the module, hooks that compute its weight not counted."""
    return any(
        not computes_weight(hook) for name in _HOOKS for hook in module.__dict__[name].values()
    )


def twin(module: nn.Module, constants: Collection[str], seed: int) -> nn.Module:
    """A copy on the CPU in float64 and evaluation mode, without hooks, its parameters random.

    Tensors named in ``constants`` keep their values, as buffers do. Not ``copy.deepcopy``, which
    fails on weights that hooks have computed, and copies hooks.
    """

    def parameter(name: str, found: nn.Parameter) -> nn.Parameter:
        if name in constants:
            return nn.Parameter(_exact(found), requires_grad=False)
        return nn.Parameter(noise(found.shape, zlib.crc32(f"{seed} {name}".encode())).mul_(0.1))

    return _copy(module, _exact, parameter, "")


def _copy(
    module: nn.Module,
    tensor: Callable[[Tensor], Tensor],
    parameter: Callable[[str, nn.Parameter], nn.Parameter],
    prefix: str,
) -> nn.Module:
    made = type(module).__new__(type(module))
    state = made.__dict__
    state |= module.__dict__
    state |= {k: tensor(v) for k, v in module.__dict__.items() if isinstance(v, Tensor)}
    for name in _HOOKS:
        hooks = module.__dict__[name].items()
        state[name] = OrderedDict((k, hook) for k, hook in hooks if computes_weight(hook))
    state["_is_full_backward_hook"] = None
    state["training"] = False
    state["_buffers"] = {k: None if t is None else tensor(t) for k, t in module._buffers.items()}
    state["_parameters"] = {
        k: None if p is None else parameter(prefix + k, p) for k, p in module._parameters.items()
    }
    state["_modules"] = {
        k: None if child is None else _copy(child, tensor, parameter, f"{prefix}{k}.")
        for k, child in module._modules.items()
    }
    return made


def _exact(tensor: Tensor) -> Tensor:
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype, copy=True)


def noise(shape: Sequence[int], seed: int) -> Tensor:
    """float64 numbers in [-1, 1) that leave the global generator alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(tuple(shape), dtype=torch.float64).uniform_(-1, 1, generator=generator)


def difference(
    module: nn.Module,
    convert: Callable[[nn.Module], None],
    calls: Sequence[Call],
    constants: Collection[str],
) -> str | None:
    """Why the converted module cannot stand in for it; None: it can. Within `undisturbed`."""
    for seed, (args, kwargs) in enumerate(calls):
        theirs = twin(module, constants, seed)
        # Parameters are shared, buffers are not: training moves them.
        ours = _copy(theirs, torch.clone, lambda _, parameter: parameter, "")
        convert(ours)
        for mode, run in (("", _results), ("in training, ", _values_in_training)):
            try:
                expected = run(theirs, args, kwargs)
            except Exception as error:
                return f"it could not be called for a comparison: {mode}{_one_line(error)}"
            try:
                found = run(ours, args, kwargs)
            except Exception as error:
                return f"the replacement does not take its call: {mode}{_one_line(error)}"
            for name, value in expected.items():
                text = _unequal(name, value, found.get(name))
                if text is not None:
                    return f"it computes something else: {mode}{text}"
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Gradients and float64 on the CPU, whatever the caller has switched on."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.device("cpu"),
        use_backend("auto"),
    ):
        yield


def _results(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Everything that a call returns, and the gradients of x and of the parameters."""
    x = args[0].detach().requires_grad_()
    out = module(x, *args[1:], **kwargs)
    found, outputs = _named(out), out if isinstance(out, tuple) else (out,)
    leaves = {"x": x, **{k: p for k, p in module.named_parameters() if p.requires_grad}}
    loss = sum((y * noise(y.shape, 7)).sum() for y in outputs if y.requires_grad)
    if not isinstance(loss, Tensor):
        return found
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        found[f"the gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return found


@torch.no_grad()
def _values_in_training(
    module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """What a call in training returns."""
    for part in module.modules():
        part.training = True
    return _named(module(*args, **kwargs))


def _named(out: Any) -> dict[str, Any]:
    outputs = out if isinstance(out, tuple) else (out,)
    found: dict[str, Any] = {"the number of results": (type(out) is tuple, len(outputs))}
    return found | {f"result {i + 1}": value for i, value in enumerate(outputs)}


def _unequal(name: str, expected: Any, found: Any) -> str | None:
    if not isinstance(expected, Tensor):
        return None if expected == found else f"{name} is {found} instead of {expected}"
    if not isinstance(found, Tensor):
        return f"{name} is missing"
    if found.shape != expected.shape:
        return f"{name} has shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    a, b = expected.detach(), found.detach()
    size, error = (float(torch.linalg.vector_norm(t, torch.inf)) for t in (a, a - b))
    if error <= TOLERANCE * max(size, 1e-3):
        return None
    return f"{name} differs by {error:.2g}, where values reach {size:.2g}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
