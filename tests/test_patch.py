"""Published modules compute the same after they are replaced, and keep what is attached to them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import inpaint_ops
from benchmarks.baselines import published
from benchmarks.baselines.published import (
    ClimatePConvBlock,
    LabelRegionNorm,
    MaskedBatchNorm2d,
    MmagicPartialConv2d,
    NaotoPartialConv,
    NvidiaPartialConv2d,
    NvidiaPartialConv3d,
    RegionNormB,
    RegionNormL,
)
from inpaint_ops import PartialConv2d, PatchReport, convert_sync_norms, patch_model

C = 6


def _holes(channels: int, *size: int, share: float = 0.6) -> Tensor:
    mask = (torch.rand(2, channels, *size) > share).float()
    mask[..., :6, :6] = 0  # empty windows
    return mask


def _conv_inputs(channels: int) -> tuple[Tensor, ...]:
    return torch.randn(2, C, 17, 20), _holes(channels, 17, 20)


def _volume_inputs(channels: int) -> tuple[Tensor, ...]:
    return torch.randn(2, C, 5, 9, 8), _holes(channels, 5, 9, 8)


def _norm_inputs() -> tuple[Tensor, ...]:
    return torch.randn(2, C, 9, 11) * 3 + 1, _holes(1, 18, 22)


def _climate(**options: Any) -> ClimatePConvBlock:
    given: dict[str, Any] = {
        "kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "bias": False,
        "activation": nn.LeakyReLU(), "bn": nn.BatchNorm2d(8),
    }  # fmt: skip
    return ClimatePConvBlock(C, 8, **{**given, **options})


Make = Callable[[], nn.Module]
Inputs = Callable[[], tuple[Tensor, ...]]

WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride, padding": {"stride": 2, "padding": 1},
    "no bias": {"padding": 1, "bias": False},
    "dilation": {"dilation": 2, "padding": 2},
}
SCALED_ALIKE: dict[str, dict[str, Any]] = {
    **WINDOWS,
    "groups": {"groups": 2},
    "reflected": {"padding": 2, "padding_mode": "reflect"},
    "same": {"padding": "same", "dilation": 2},
}


def _cases() -> dict[str, tuple[Make, Inputs]]:
    cases: dict[str, tuple[Make, Inputs]] = {}
    for multi in (False, True):
        plane, channels = ("C planes", C) if multi else ("one plane", 1)
        flat, deep = partial(_conv_inputs, channels), partial(_volume_inputs, channels)
        for name, window in SCALED_ALIKE.items():
            options = {"multi_channel": multi, **window}
            nvidia = partial(NvidiaPartialConv2d, C, 8, 3, return_mask=True, **options)
            cases[f"NVIDIA 2-D, {plane}, {name}"] = (nvidia, flat)
            cases[f"mmagic, {plane}, {name}"] = (
                partial(MmagicPartialConv2d, C, 8, 3, **options),
                flat,
            )
        volume = {"stride": (1, 2, 1), "padding": 1, "multi_channel": multi, "return_mask": True}
        cases[f"NVIDIA 3-D, {plane}"] = (
            partial(NvidiaPartialConv3d, C, 4, (2, 3, 3), **volume),
            deep,
        )
    cases["NVIDIA, no mask"] = (
        lambda: NvidiaPartialConv2d(C, 8, 3, padding=1),
        lambda: (torch.randn(2, C, 17, 20),),
    )
    cases["mmagic, no mask"] = (
        lambda: MmagicPartialConv2d(C, 8, 3, padding=1),
        lambda: (torch.randn(2, C, 17, 20),),
    )
    wide = partial(_conv_inputs, C)
    for name, window in WINDOWS.items():
        cases[f"naoto0804, {name}"] = (partial(NaotoPartialConv, C, 8, 3, **window), wide)
    cases["naoto0804, soft mask"] = (
        lambda: NaotoPartialConv(C, 8, 3, padding=1),
        lambda: (torch.randn(2, C, 17, 20), _holes(C, 17, 20) * torch.rand(2, C, 17, 20) * 0.1),
    )
    blocks: dict[str, dict[str, Any]] = {
        "norm": {},
        "masked norm": {"bn": MaskedBatchNorm2d(8)},
        "bare": {"bn": None, "activation": None, "bias": True, "stride": (1, 1)},
        "around the globe": {"global_padding": True},
        "around the globe, 5x5": {
            "global_padding": True, "kernel": (5, 5), "padding": (2, 2), "bias": True,
        },
    }  # fmt: skip
    for name, block in blocks.items():
        cases[f"climate, {name}"] = (partial(_climate, **block), wide)
    cases["RN_B"] = (lambda: RegionNormB(C), _norm_inputs)
    cases["RN_B, soft"] = (
        lambda: RegionNormB(C),
        lambda: (torch.randn(2, C, 9, 11), torch.rand(2, 1, 9, 11)),
    )
    cases["RN_B, no hole"] = (
        lambda: RegionNormB(C),
        lambda: (torch.randn(2, C, 9, 11), torch.zeros(2, 1, 9, 11)),
    )
    cases["RN_L"] = (lambda: RegionNormL(C), lambda: (torch.randn(2, C, 9, 11) * 20,))
    cases["RN_L, threshold"] = (lambda: RegionNormL(C, 0.5), lambda: (torch.randn(2, C, 9, 11),))
    cases["RN_binarylabel"] = (
        lambda: LabelRegionNorm(C),
        lambda: (torch.randn(2, C, 9, 11), _holes(1, 9, 11)),
    )
    return cases


CASES = _cases()


def _perturbed(module: nn.Module) -> nn.Module:
    """Norms begin with zeros, which hide what they do."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "mask_conv" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return module


def _run(module: nn.Module, inputs: tuple[Tensor, ...], **kwargs: Any) -> dict[str, Tensor]:
    """Results, and all gradients."""
    module.zero_grad()
    x = inputs[0].clone().requires_grad_()
    out = module(x, *inputs[1:], **kwargs)
    results = out if isinstance(out, tuple) else (out,)
    upstream = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(3))
    results[0].backward(upstream.to(results[0].dtype))
    found = {f"result {i}": y.detach() for i, y in enumerate(results)}
    found |= {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {**found, "x": x.grad}


def _same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == value.dtype, name
        size = float(value.abs().max())
        assert float((found[name] - value).abs().max()) <= tolerance * max(size, 1e-2), name


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_same_before_and_after(name: str) -> None:
    make, inputs = CASES[name]
    module, given = _perturbed(make()), inputs()
    before = copy.deepcopy(module)
    parameters = {k: p for k, p in module.named_parameters() if "mask_conv" not in k}
    report = patch_model(module)
    assert [row.names for row in report.replaced] == [("",)], str(report)
    assert not report.kept
    _same(_run(module, given), _run(before, given))
    assert all(p is parameters[k] for k, p in module.named_parameters())
    assert dict(module.named_parameters()).keys() == parameters.keys()


@pytest.mark.parametrize("name", ["NVIDIA 2-D, C planes, plain", "climate, norm", "RN_L"])
def test_double_precision_channels_last_and_training_mode_stay(name: str) -> None:
    make, inputs = CASES[name]
    module = _perturbed(make()).double().eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    next(module.parameters()).requires_grad_(False)
    before = copy.deepcopy(module)
    given = tuple(t.double() for t in inputs())
    patch_model(module)
    for after, old in zip(
        module.parameters(),
        [p for n, p in before.named_parameters() if "mask" not in n],
        strict=True,
    ):
        assert after.stride() == old.stride()
        assert after.requires_grad == old.requires_grad
    assert not any(m.training for m in module.modules())
    _same(_run(module, given), _run(before, given), 1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "name", ["NVIDIA 2-D, one plane, no bias", "naoto0804, plain", "climate, norm", "RN_B"]
)
def test_half_precision_is_as_near_to_the_truth_as_before(name: str, dtype: torch.dtype) -> None:
    make, inputs = CASES[name]
    module, given = _perturbed(make()).eval(), inputs()
    with torch.no_grad():
        truth = copy.deepcopy(module).double()(*(t.double() for t in given))
        patch_model(module.to(dtype))
        found = module(*(t.to(dtype) for t in given))
    truth, found = (out[0] if isinstance(out, tuple) else out for out in (truth, found))
    assert found.dtype == dtype
    error = (found.double() - truth).abs().max() / truth.abs().max()
    assert float(error) < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", ["NVIDIA 2-D, one plane, plain", "naoto0804, plain", "RN_B"])
def test_autocast_goes_on(name: str) -> None:
    make, inputs = CASES[name]
    module, given = _perturbed(make()), inputs()
    before = copy.deepcopy(module)
    patch_model(module)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = module(*given), before(*given)
    if isinstance(found, tuple):
        assert torch.equal(found[1].float(), expected[1].float())
        found, expected = found[0], expected[0]
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


class Net(nn.Module):
    """Two families, a module in two places, one in a list, one under a name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = NvidiaPartialConv2d(3, C, 3, padding=1, return_mask=True)
        self.norm = RegionNormB(C)
        shared = NaotoPartialConv(C, C, 3, padding=1, bias=False)
        self.layers = nn.ModuleList([shared, shared])
        self.named = nn.ModuleDict({"last": NaotoPartialConv(C, 3, 3, padding=1)})
        self.tail = nn.Sequential(RegionNormL(3), nn.ReLU())

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x, mask = self.first(image, mask)
        x, wide = self.norm(x, 1 - mask), mask.expand(-1, C, -1, -1)
        for layer in self.layers:
            x, wide = layer(x, wide)
        y: Tensor = self.tail(self.named["last"](x, wide)[0])
        return y


def _net_inputs() -> tuple[Tensor, ...]:
    return torch.rand(2, 3, 16, 18), _holes(1, 16, 18)


def test_a_network_is_patched_in_place_and_shared_modules_stay_shared() -> None:
    net, given = Net(), _net_inputs()
    before, modules = copy.deepcopy(net), dict(net.named_modules())
    report = patch_model(net)
    assert [row.names for row in report.rows] == [
        ("first",), ("norm",), ("layers.0", "layers.1"), ("named.last",), ("tail.0",),
    ]  # fmt: skip
    assert net.layers[0] is net.layers[1]
    assert all(modules[name] is module for name, module in net.named_modules())
    for cls in (PartialConv2d, NvidiaPartialConv2d):  # networks ask for the latter
        assert isinstance(net.get_submodule("first"), cls)
    _same(_run(net, given), _run(before, given))


def test_a_dry_run_says_the_same_and_changes_nothing() -> None:
    net, given = Net(), _net_inputs()
    text, classes = repr(net), [type(m) for m in net.modules()]
    random, state = torch.get_rng_state(), copy.deepcopy(net.state_dict())
    dry = patch_model(net, dry_run=True)
    assert (repr(net), [type(m) for m in net.modules()]) == (text, classes)
    assert net.state_dict().keys() == state.keys()
    assert torch.equal(torch.get_rng_state(), random)
    assert dry.dry_run
    assert dry.summary == "5 would be replaced, 0 left alone"
    assert patch_model(net).rows == dry.rows
    net(*given)


def test_patching_twice_does_nothing_and_says_so() -> None:
    net = Net()
    patch_model(net)
    classes = [type(m) for m in net.modules()]
    again = patch_model(net)
    assert not again.replaced
    assert {row.reason for row in again.kept} == {"replaced already"}
    assert len(again.kept) == 5
    assert again.summary == "0 replaced, 0 left alone, 5 ours already"
    assert [type(m) for m in net.modules()] == classes


def test_the_report_reads_as_a_table() -> None:
    net = nn.Sequential(NaotoPartialConv(2, 3, 3), NaotoPartialConv(2, 4, 3, groups=2))
    text = str(patch_model(net))
    assert text.splitlines() == [
        "module  found            became         note",
        "0       net.PartialConv  PartialConv2d  scale 1/S kept; mask_conv dropped",
        "1       net.PartialConv  -              groups=2: it counts valid pixels for each group "
        "by itself",
        "1 replaced, 1 left alone",
    ]
    root = patch_model(NaotoPartialConv(2, 3, 3))
    assert root.rows[0].name == "(the network itself)"
    nothing = patch_model(nn.Linear(2, 2))
    assert str(nothing) == (
        "no module of a known class found: nothing to replace. Known are, by name, PartialConv2d, "
        "PartialConv3d, PartialConv, PConvBlock, RN_B, RN_L, RN_binarylabel; see docs/patching.md "
        "of the sources"
    )
    mixed = nn.Sequential(PartialConv2d(2, 3, 3), NaotoPartialConv(2, 4, 3, groups=2))
    assert patch_model(mixed).summary == "0 replaced, 1 left alone, 1 ours already"
    assert isinstance(nothing, PatchReport)


def test_something_else_than_a_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"net: expected a torch\.nn\.Module, got dict"):
        patch_model({})  # type: ignore[arg-type]


# What is attached to a module


def test_hooks_go_on_and_can_be_removed() -> None:
    module, seen = NvidiaPartialConv2d(C, 8, 3, return_mask=True), list[str]()
    handles = [
        module.register_forward_pre_hook(lambda *_: seen.append("before")),
        module.register_forward_hook(lambda *_: seen.append("after")),
        module.register_full_backward_hook(lambda *_: seen.append("backward")),
        module.register_state_dict_post_hook(lambda *_: seen.append("saved")),
        module.register_load_state_dict_post_hook(lambda *_: seen.append("loaded")),
    ]
    patch_model(module)
    assert seen == []  # the comparison calls none
    _run(module, _conv_inputs(1))
    module.load_state_dict(module.state_dict())
    assert seen == ["before", "after", "backward", "saved", "loaded"]
    seen.clear()
    for handle in handles:
        handle.remove()
    _run(module, _conv_inputs(1))
    assert seen == []


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral, hook": spectral_norm,
    "spectral, parametrization": parametrizations.spectral_norm,
    "weight, parametrization": parametrizations.weight_norm,
    "weight, hook": weight_norm,
}


WEIGHTED: dict[str, Make] = {
    "NVIDIA": lambda: NvidiaPartialConv2d(C, 8, 3, return_mask=True, multi_channel=True),
    "mmagic": lambda: MmagicPartialConv2d(C, 8, 3, multi_channel=True),
    "naoto0804": lambda: NaotoPartialConv(C, 8, 3),
    "climate": _climate,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["NVIDIA", "mmagic", "naoto0804", "climate"])
def test_norms_of_the_weight_go_on_in_training_and_evaluation(kind: str, norm: str) -> None:
    within = kind in ("naoto0804", "climate")

    def made() -> nn.Module:
        module = WEIGHTED[kind]().double()
        NORMS[norm](module.get_submodule("input_conv") if within else module)
        return module

    module, before, given = made(), made(), tuple(t.double() for t in _conv_inputs(C))
    module(*given)  # a weight that a hook has computed is no leaf: deepcopy would refuse it
    before.load_state_dict(module.state_dict())
    assert not patch_model(module).kept
    for training in (True, False):
        module.train(training)
        before.train(training)
        _same(_run(module, given), _run(before, given), 1e-10)
    buffers = dict(before.named_buffers())
    for name, buffer in module.named_buffers():  # the vectors of the power iteration, too
        torch.testing.assert_close(buffer, buffers[name])


def test_a_parametrization_can_be_removed_afterwards() -> None:
    module = parametrizations.spectral_norm(NvidiaPartialConv2d(C, 8, 3, return_mask=True)).eval()
    patch_model(module)
    given = _conv_inputs(1)
    expected = module(*given)[0]
    nn.utils.parametrize.remove_parametrizations(module, "weight")
    assert isinstance(module, PartialConv2d)
    assert isinstance(module.weight, nn.Parameter)
    torch.testing.assert_close(module(*given)[0], expected)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD], ids=["Adam", "SGD"])
def test_an_optimizer_made_before_takes_the_same_steps(optimizer: Any) -> None:
    def trained(patch: bool) -> dict[str, Tensor]:
        torch.manual_seed(5)
        net, given = Net(), _net_inputs()
        steps = optimizer((p for p in net.parameters() if p.requires_grad), lr=1e-3)
        for step in range(4):
            if patch and step == 2:
                assert not patch_model(net).kept
            steps.zero_grad()
            net(*given).square().mean().backward()
            steps.step()
        return {k: p.detach() for k, p in net.named_parameters() if p.requires_grad}

    _same(trained(patch=True), trained(patch=False), 1e-3)


def test_the_state_dict_fits_in_both_directions() -> None:
    net, other = Net(), Net()
    patch_model(net)
    assert net.load_state_dict(other.state_dict()).missing_keys == []
    missing, unexpected = other.load_state_dict(net.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.endswith("mask_conv.weight") for name in missing)
    kept = NvidiaPartialConv2d(2, 3, 3)
    del kept.weight_maskUpdater
    kept.register_buffer("weight_maskUpdater", torch.ones(1, 1, 3, 3))  # as some copies do
    state = kept.state_dict()
    assert len(patch_model(kept).replaced) == 1
    assert set(kept.state_dict()) == {"weight", "bias"}
    kept.load_state_dict(state)
    mmagic = MmagicPartialConv2d(2, 3, 3)
    patch_model(mmagic)
    assert set(mmagic.state_dict()) == {"weight", "bias"}
    mmagic.load_state_dict(MmagicPartialConv2d(2, 3, 3).state_dict())


def test_counting_weights_that_do_more_than_count_are_not_loaded() -> None:
    module = NaotoPartialConv(2, 3, 3)
    state = {**module.state_dict(), "mask_conv.weight": torch.full((3, 2, 3, 3), 0.5)}
    patch_model(module)
    with pytest.raises(RuntimeError, match=r"mask_conv\.weight: expected ones"):
        module.load_state_dict(state)


def test_patched_networks_can_be_copied_and_pickled() -> None:
    net, given = Net(), _net_inputs()
    patch_model(net)
    expected = net(*given)
    torch.testing.assert_close(copy.deepcopy(net)(*given), expected)
    # The stand-ins cannot be imported by the names that they take, their class can be handed over.
    first: Any = net.first.__reduce_ex__(2)
    assert first[1] == (PartialConv2d, NvidiaPartialConv2d)
    made = first[0](*first[1])
    assert type(made) is type(net.first)
    with pytest.raises(RuntimeError, match="parametrized"):
        pickle.dumps(patched_spectral())


def patched_spectral() -> nn.Module:
    module = parametrizations.spectral_norm(NvidiaPartialConv2d(2, 2, 3))
    patch_model(module)
    return module


def test_a_patched_network_compiles() -> None:
    net, given = NaotoPartialConv(C, 8, 3, padding=1), _conv_inputs(C)
    patch_model(net)
    expected = net(*given)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), expected)


def test_norms_that_were_patched_can_be_synchronized() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        norm, given = _perturbed(RegionNormB(C)), _norm_inputs()
        patch_model(norm)
        expected = norm(*given)
        convert_sync_norms(norm)
        torch.testing.assert_close(norm(*given), expected, atol=1e-5, rtol=1e-5)
    finally:
        torch.distributed.destroy_process_group()


def test_whatever_the_caller_has_switched_on_does_not_disturb() -> None:
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16),
        inpaint_ops.use_backend("triton"),
    ):
        net = Net()
        assert len(patch_model(net, dry_run=True).replaced) == 5
    with torch.device("meta"), torch.no_grad():
        assert len(patch_model(net).replaced) == 5


# Differences, by design


def test_no_mask_of_an_earlier_call_is_used_again() -> None:
    before, (x, mask) = NvidiaPartialConv2d(C, 8, 3, padding=1), _conv_inputs(1)
    after = copy.deepcopy(before)
    patch_model(after)
    fresh = after(x)
    for module in (before, after):
        module(x, mask)
    torch.testing.assert_close(after(x), fresh)
    assert not torch.allclose(before(x), fresh)  # what the note in the report is about


# What must not be replaced


def _renamed(cls: type[nn.Module], name: str) -> type[nn.Module]:
    cls.__name__ = cls.__qualname__ = name
    return cls


class OtherFormula(NvidiaPartialConv2d):
    """The same interface; the ratio is not clamped."""

    def _update(self, input: Tensor, mask: Tensor | None) -> None:
        super()._update(input, mask)
        self.mask_ratio = self.mask_ratio * 1.0001


class OtherGradient(NvidiaPartialConv2d):
    """The same values, and no gradient for x."""

    def forward(self, input: Tensor, mask_in: Tensor | None = None) -> Any:
        return super().forward(input.detach(), mask_in)


class OtherTraining(NvidiaPartialConv2d):
    """The same in evaluation."""

    def forward(self, input: Tensor, mask_in: Tensor | None = None) -> Any:
        return super().forward(input * 2 if self.training else input, mask_in)


class OtherCall(NvidiaPartialConv2d):
    def forward(self, input: Tensor, mask: Tensor) -> Any:  # type: ignore[override]
        return super().forward(input, mask)


class OtherResult(NvidiaPartialConv2d):
    def forward(self, input: Tensor, mask_in: Tensor | None = None) -> Any:
        return super().forward(input, mask_in), None


class Bare(nn.Conv2d):
    def forward(self, input: Tensor, mask_in: Tensor | None = None) -> Tensor:
        return super().forward(input)


class Extended(NvidiaPartialConv2d):
    pass


def _with(change: Callable[[Any], object], module: nn.Module) -> nn.Module:
    change(module)
    return module


def _hooked(module: nn.Module, child: str) -> nn.Module:
    module.get_submodule(child).register_forward_hook(lambda *_: None)
    return module


def _set(**attributes: Any) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for name, value in attributes.items():
            setattr(module, name, value)

    return change


def _eps(module: Any) -> None:
    module.rn.bn_norm.eps = 1e-3


REFUSALS: dict[str, tuple[Make, str]] = {
    "other formula": (
        lambda: _renamed(OtherFormula, "PartialConv2d")(2, 3, 3),
        "it computes something else: result 1 differs by",
    ),
    "other gradient": (
        lambda: _renamed(OtherGradient, "PartialConv2d")(2, 3, 3),
        "it computes something else: the gradient of x differs by",
    ),
    "other training": (
        lambda: _renamed(OtherTraining, "PartialConv2d")(2, 3, 3).eval(),
        "it computes something else: in training, result 1 differs by",
    ),
    "other call": (
        lambda: _renamed(OtherCall, "PartialConv2d")(2, 3, 3),
        "forward(input, mask) is that of no known PartialConv2d",
    ),
    "other result": (
        lambda: _renamed(OtherResult, "PartialConv2d")(2, 3, 3),
        "it could not be called for a comparison: AttributeError",
    ),
    "no attributes": (
        lambda: _renamed(Bare, "PartialConv2d")(2, 3, 3),
        "it has no multi_channel and no return_mask",
    ),
    "subclass": (lambda: Extended(2, 3, 3), "a subclass of PartialConv2d may do other things"),
    "forward on the instance": (
        lambda: _with(_set(forward=lambda *_: None), NaotoPartialConv(2, 3, 3)),
        "its forward is replaced on the instance",
    ),
    "meta": (
        lambda: NvidiaPartialConv2d(2, 3, 3, device="meta"),
        "weight has no values yet, so that nothing can be compared",
    ),
    "groups": (lambda: NaotoPartialConv(2, 4, 3, groups=2), "groups=2: it counts"),
    "trained counts": (
        lambda: _with(
            lambda m: m.mask_conv.weight.data.fill_(2.0), NaotoPartialConv(2, 3, 3)
        ),
        "the weights of mask_conv are not all 1",
    ),
    "hook within": (
        lambda: _hooked(NaotoPartialConv(2, 3, 3), "input_conv"),
        "input_conv has hooks, which would not see its calls any more",
    ),
    "hook in a norm": (lambda: _hooked(RegionNormB(2), "rn.bn_norm"), "rn has hooks"),
    "hook in an attention": (
        lambda: _hooked(RegionNormL(2), "sa.conv1"),
        "sa.conv1 has hooks, which nobody would call",
    ),
    "other padding within": (
        lambda: _with(
            _set(input_conv=nn.Conv2d(2, 3, 3, padding="same")), NaotoPartialConv(2, 3, 3)
        ),
        "input_conv pads by other values than zeros, or by name",
    ),
    "no module within": (
        lambda: _with(_set(input_conv=None), NaotoPartialConv(2, 3, 3)),
        "input_conv is no nn.Conv2d",
    ),
    "no norm within": (lambda: _with(_set(rn=None), RegionNormB(2)), "rn is no module"),
    "no attention within": (lambda: _with(_set(sa=None), RegionNormL(2)), "sa is no module"),
    "one padding": (
        lambda: _with(_set(padding=1), _climate()),
        "padding is 1 instead of four numbers",
    ),
    "uneven padding": (
        lambda: _with(_set(padding=(1, 2, 1, 2)), _climate()),
        "padding (1, 2, 1, 2) differs between two opposite sides",
    ),
    "other padding": (
        lambda: _with(_set(trans_pad=lambda x, p: F.pad(x, p, mode="replicate")), _climate()),
        "it computes something else",
    ),
    "synchronized": (
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(RegionNormL(2)),
        "bn_norm is a SyncBatchNorm",
    ),
    "eps": (lambda: _with(_eps, RegionNormB(2)), "its norm has eps 0.001; ours has 1e-05"),
    "ours": (lambda: PartialConv2d(2, 3, 3), "is ours already"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_the_same_is_left_alone_with_the_reason(name: str) -> None:
    make, reason = REFUSALS[name]
    module = make()
    cls, state = type(module), set(module.__dict__)
    report = patch_model(module)
    assert not report.replaced
    assert report.rows[0].reason.startswith(reason), report.rows[0].reason
    assert type(module) is cls
    assert set(module.__dict__) == state


class OtherEps(NvidiaPartialConv2d):
    """As NVIDIA's comment advises for mixed precision."""

    def _update(self, input: Tensor, mask: Tensor | None) -> None:
        super()._update(input, mask)
        plane = torch.ones_like(input[:, :1]) if mask is None else mask
        count = F.conv2d(plane, torch.ones_like(self.weight[:1, :1]))
        self.mask_ratio = self.slide_winsize / (count + 1e-6) * self.update_mask


def test_another_eps_of_nvidias_module_is_found_out() -> None:
    module = _renamed(OtherEps, "PartialConv2d")(C, 8, 3)
    report = patch_model(module)
    assert len(report.replaced) == 1, str(report)
    assert module.eps == 1e-6


def test_a_convolution_within_that_others_call_too_is_left_alone() -> None:
    inner = NaotoPartialConv(2, 2, 3)
    net = nn.ModuleDict({"whole": inner, "plain": nn.Sequential(inner.input_conv)})
    report = patch_model(net)
    assert not report.replaced
    assert report.rows[0].reason == "another module calls its input_conv as a plain convolution"
    twice = nn.ModuleList([NaotoPartialConv(2, 2, 3), NaotoPartialConv(2, 2, 3)])
    twice[1].input_conv = twice[0].input_conv
    before, given = copy.deepcopy(twice), (torch.randn(2, 2, 8, 9), _holes(2, 8, 9))
    assert len(patch_model(twice).replaced) == 2
    for layer, old in zip(twice, before, strict=True):
        _same(_run(layer, given), _run(old, given))


def test_the_norm_within_a_refused_one_is_replaced_by_itself() -> None:
    norm = _hooked(RegionNormL(C), "sa.gamma_conv")
    norm.rn = LabelRegionNorm(C)
    before, given = copy.deepcopy(norm), (torch.randn(2, C, 9, 11) * 20,)
    report = patch_model(norm)
    assert [(row.names, row.became) for row in report.rows] == [
        (("",), None),
        (("rn",), "region_norm"),
    ]
    _same(_run(norm, given), _run(before, given))


def test_every_published_stand_in_is_known_by_the_name_of_its_class() -> None:
    names = {cls.__name__ for cls in vars(published).values() if isinstance(cls, type)}
    assert {"PartialConv2d", "PartialConv3d", "PartialConv", "PConvBlock", "RN_B", "RN_L"} <= names
