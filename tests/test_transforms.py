"""Copies, pickles, hooks, reparametrization, torch.func and torch.export, for every module."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from inpaint_ops import (
    RN_B,
    RN_L,
    ChannelMask,
    PartialConv1d,
    PartialConv2d,
    PartialConv3d,
    RegionNorm2d,
    UpsampledPartialConv2d,
    partial_conv2d,
    region_norm,
)


def _mask(*size: int) -> Tensor:
    return (torch.rand(size) > 0.4).float()


MODULES: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "PartialConv1d": lambda: (
        PartialConv1d(4, 3, 3, padding=1), (torch.randn(2, 4, 16), _mask(2, 1, 16))),
    "PartialConv2d": lambda: (
        PartialConv2d(4, 3, 3, padding=1, return_mask=True),
        (torch.randn(2, 4, 16, 12), _mask(2, 1, 16, 12))),
    "PartialConv3d": lambda: (
        PartialConv3d(4, 3, 3, padding=1), (torch.randn(2, 4, 5, 6, 7), _mask(2, 1, 5, 6, 7))),
    "UpsampledPartialConv2d": lambda: (
        UpsampledPartialConv2d(4, 3, 5),
        (torch.randn(2, 4, 16, 16), _mask(2, 1, 16, 16), torch.randn(2, 3, 32, 32),
         _mask(2, 1, 32, 32))),
    "RegionNorm2d": lambda: (
        RegionNorm2d(4), (torch.randn(2, 4, 16, 12) + 2, _mask(2, 1, 16, 12))),
    "RN_B": lambda: (RN_B(4), (torch.randn(2, 4, 16, 12) + 2, _mask(2, 1, 16, 12))),
    "RN_L": lambda: (RN_L(4, threshold=0.5), (torch.randn(2, 4, 16, 12) + 2,)),
}  # fmt: skip

every = pytest.mark.parametrize("name", MODULES)


def _features(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


@every
def test_copies_and_pickles(name: str) -> None:
    module, given = MODULES[name]()
    expected = _features(module(*given))
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(buffer, weights_only=False),
    ):
        assert torch.equal(_features(other(*given)), expected)
        assert repr(other) == repr(module)


def test_channel_masks_are_copied_and_pickled() -> None:
    mask = ChannelMask(_mask(2, 2, 4, 4), (3, 1))
    for other in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert other.channels == mask.channels
        assert torch.equal(other.planes, mask.planes)


@every
def test_functional_call_and_func_grad(name: str) -> None:
    module, given = MODULES[name]()
    parameters = {k: torch.randn_like(p) for k, p in module.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return _features(functional_call(module, parameters, given)).square().mean()

    found = torch.func.grad(loss)(parameters)
    leaves = {k: p.clone().requires_grad_() for k, p in parameters.items()}
    wanted = torch.autograd.grad(loss(leaves), list(leaves.values()))
    for a, b in zip(found.values(), wanted, strict=True):
        torch.testing.assert_close(a, b)


@every
def test_forward_mode_is_refused_not_ignored(name: str) -> None:
    """A tangent that is dropped in silence would be a derivative of zero."""
    module, given = MODULES[name]()
    module.requires_grad_(False)
    x, *rest = given
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda x: _features(module(x, *rest)), (x,), (torch.ones_like(x),))
    with torch.no_grad(), pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda x: _features(module(x, *rest)), (x,), (torch.ones_like(x),))


@every
def test_vmap_without_gradients(name: str) -> None:
    module, given = MODULES[name]()
    stacked = tuple(torch.stack([t, t.flip(0)]) for t in given)
    with torch.no_grad():
        found = torch.func.vmap(lambda *a: _features(module(*a)))(*stacked)
        for one, row in zip(found, range(2), strict=True):
            torch.testing.assert_close(one, _features(module(*(t[row] for t in stacked))))


@every
def test_hooks_see_input_output_and_gradient(name: str) -> None:
    module, given = MODULES[name]()
    seen: list[str] = []
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("gradient"))
    x, *rest = given
    y = _features(module(x.requires_grad_(), *rest))
    torch.autograd.backward(y.sum())
    assert seen == ["before", "after", "gradient"]


@every
@pytest.mark.parametrize("dynamic", [False, True])
def test_export_save_and_load(name: str, dynamic: bool) -> None:
    module, given = MODULES[name]()
    batch = torch.export.Dim("batch", min=2, max=16)
    shapes = tuple({0: batch} for _ in given) if dynamic else None
    program = torch.export.export(module, given, dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    if dynamic:
        given = tuple(torch.cat([t, t.flip(0), t]) for t in given)
    for exported in (program.module(), loaded):
        torch.testing.assert_close(
            _features(exported(*given)), _features(module(*given)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    "spectral_norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm]
)
@pytest.mark.parametrize("name", [n for n in MODULES if "Conv" in n])
def test_spectral_norm_in_both_forms(name: str, spectral_norm: Callable[..., nn.Module]) -> None:
    module, given = MODULES[name]()
    normed = spectral_norm(module).train()
    for _ in range(30):  # one power iteration a call
        y = _features(normed(*given))
    weight = normed.weight
    assert isinstance(weight, Tensor)
    largest = torch.linalg.svdvals(weight.detach().flatten(1))[0]
    torch.testing.assert_close(largest, torch.tensor(1.0), rtol=1e-2, atol=1e-2)
    torch.autograd.backward(y.sum())
    assert all(p.grad is not None for p in normed.parameters())


@pytest.mark.parametrize("run", [
    lambda x: partial_conv2d(x, _mask(2, 1, 8, 8), torch.ones(2, 3, 3, 3))[0],
    lambda x: region_norm(x, _mask(2, 1, 8, 8)),
])  # fmt: skip
def test_functions_refuse_forward_mode_too(run: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(run, (x,), (x,))
