"""Blocks: the fused operators against float64, and the modules against their separate parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from inpaint_ops import (
    RN_B,
    RN_L,
    ChannelMask,
    PartialConv2d,
    PartialConvBlock,
    RegionNorm2d,
    UpsampledPartialConv2d,
    UpsampledPartialConvBlock,
    core,
    norm_activation,
    use_backend,
)
from inpaint_ops.autograd.attention_block_norm import attention_block_norm
from inpaint_ops.autograd.block_norm import (
    Surround,
    block_activation,
    block_norm,
    block_norm_fixed,
)
from inpaint_ops.backends.precision import compute_dtype

NCHW, NHWC = torch.contiguous_format, torch.channels_last
KINDS = ("regions", "one region", "given statistics", "no norm", "attention")
SHAPES = {"odd": (2, 5, 9, 7), "many channels": (1, 35, 33, 41), "one pixel": (3, 4, 1, 1)}


class _Problem:
    """A block's norm on random values whose mean is far from zero."""

    def __init__(
        self, kind: str, shape: tuple[int, ...], dtype: torch.dtype, soft: bool = False
    ) -> None:
        n, c, *spatial = shape
        self.kind, self.x = kind, (torch.randn(shape, dtype=torch.float64) + 5).to(dtype)
        mask = (torch.rand(n, 1, *spatial) > 0.4).double()
        self.mask = mask * (0.5 + torch.rand_like(mask) / 2) if soft else mask
        self.ratio = (1 + torch.rand_like(mask)) * mask
        rows = 2 if kind == "regions" else 1
        wide = compute_dtype(dtype)
        self.parameters = [
            torch.randn(rows, c, dtype=wide) + 1,
            torch.randn(rows, c, dtype=wide),
        ]
        if kind == "no norm":
            del self.parameters[0]
        if kind == "attention":
            shapes = ((1, 2, 3, 3), (1, 1, 3, 3), (1,), (1, 1, 3, 3), (1,))
            self.parameters = [torch.randn(s, dtype=wide) * 0.1 for s in shapes]
        self.mean, self.rstd = torch.randn(1, 1, c).double(), torch.rand(1, 1, c).double() + 0.5

    def run(self, x: Tensor, parameters: list[Tensor], slope: float) -> Tensor:
        """y in the dtype of x."""
        wide = compute_dtype(x.dtype)
        surround = Surround(self.ratio.to(wide), self.mask.to(wide), slope)
        if self.kind == "attention":
            return attention_block_norm(x, surround, tuple(parameters), 0.55, 1e-5)
        if self.kind == "no norm":
            return block_activation(x * 1, surround, parameters[0])
        weight, bias = parameters
        if self.kind == "given statistics":
            return block_norm_fixed(x * 1, surround, weight, bias, self.mean, self.rstd)
        regions = self.mask.to(wide).clone() if self.kind == "regions" else None
        return block_norm(x, surround, regions, weight, bias, 1e-5, regions is not None)[0]

    def gradients(
        self, x: Tensor, parameters: list[Tensor], slope: float, order: Any = NCHW
    ) -> list[Tensor]:
        """y, and the gradients of x and the parameters for a random upstream gradient."""
        leaves = [t.detach().clone().requires_grad_() for t in (x, *parameters)]
        y = self.run(leaves[0].to(memory_format=order), leaves[1:], slope)
        generator = torch.Generator().manual_seed(1)
        grad = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad.transpose(2, 3).contiguous()
                                                 .transpose(2, 3))]  # fmt: skip


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "soft"])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_against_float64(kind: str, shape: str, slope: float, soft: bool, order: Any) -> None:
    # Of a handful of values the variance, and with it float32's error, may be anything.
    bounds = {torch.float64: 1e-9} if shape == "one pixel" else {torch.float64: 1e-11,
                                                                  torch.float32: 5e-5}  # fmt: skip
    for dtype, bound in bounds.items():
        problem = _Problem(kind, SHAPES[shape], dtype, soft)
        found = problem.gradients(problem.x, problem.parameters, slope, order)
        with use_backend("reference"):
            wanted = problem.gradients(
                problem.x.double(), [p.double() for p in problem.parameters], slope
            )
        for f, w in zip(found, wanted, strict=True):
            assert float((f.double() - w).abs().max()) <= bound * max(float(w.abs().max()), 1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_as_exact_as_the_separate_operators(
    kind: str, dtype: torch.dtype
) -> None:
    problem = _Problem(kind, SHAPES["many channels"], dtype)
    found = problem.gradients(problem.x, problem.parameters, 0.2)
    with use_backend("reference"):
        plain = problem.gradients(problem.x, problem.parameters, 0.2)
        wanted = problem.gradients(
            problem.x.double(), [p.double() for p in problem.parameters], 0.2
        )
    eps = torch.finfo(dtype).eps
    for f, p, w in zip(found, plain, wanted, strict=True):
        error, own = (float((t.double() - w).square().mean().sqrt()) for t in (f, p))
        assert torch.isfinite(f).all()
        assert error <= 2 * own + eps * float(w.square().mean().sqrt())


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_and_double_backward(kind: str) -> None:
    problem = _Problem(kind, (2, 3, 3, 4), torch.float64)
    leaves = [t.clone().requires_grad_() for t in (problem.x, *problem.parameters)]

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        return problem.run(x, list(parameters), 0.2)

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_full_holes_and_none(kind: str, value: float) -> None:
    problem = _Problem(kind, SHAPES["odd"], torch.float32)
    problem.mask, problem.ratio = (torch.full_like(problem.mask, value) for _ in range(2))
    found = problem.gradients(problem.x, problem.parameters, 0.2)
    assert all(torch.isfinite(f).all() for f in found)
    if value == 0:
        assert not found[0].any()
        assert not found[1].any()


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_for_every_thread_count(kind: str, order: Any) -> None:
    problem = _Problem(kind, (2, 35, 64, 80), torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = problem.gradients(problem.x, problem.parameters, 0.2, order)
        torch.set_num_threads(3)
        three = problem.gradients(problem.x, problem.parameters, 0.2, order)
    finally:
        torch.set_num_threads(before)
    # The attention's small convolutions are the separate operator's, tested there.
    for a, b in zip(one[:2], three[:2], strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("restored_simd")
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_values_on_every_instruction_set(kind: str) -> None:
    problem = _Problem(kind, SHAPES["many channels"], torch.float32)
    results = []
    for level in core.load().build_info()["simd_available"]:
        core.load().select_simd(level)
        for order in (NCHW, NHWC):
            results.append(problem.gradients(problem.x, problem.parameters, 0.2, order))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_without_a_gradient_the_raw_result_is_overwritten() -> None:
    problem = _Problem("given statistics", SHAPES["odd"], torch.float32)
    surround = Surround(problem.ratio.float(), problem.mask.float(), 0.2)
    weight, bias = problem.parameters
    x = problem.x.clone()
    y = block_norm_fixed(x, surround, weight, bias, problem.mean, problem.rstd)
    assert y.data_ptr() == x.data_ptr()
    assert not torch.equal(x, problem.x)
    found = block_norm_fixed(  # of no native memory order
        problem.x[:1].transpose(2, 3).contiguous().transpose(2, 3),
        Surround(surround.ratio[:1], surround.new_mask[:1], surround.slope),
        weight, bias, problem.mean, problem.rstd,
    )  # fmt: skip
    torch.testing.assert_close(found, y[:1])


# Modules ----------------------------------------------------------------------------------------

NORMS: dict[str, Callable[[], nn.Module | None]] = {
    "none": lambda: None,
    "batch": lambda: nn.BatchNorm2d(8),
    "batch, cumulative": lambda: nn.BatchNorm2d(8, momentum=None),
    "batch, bare": lambda: nn.BatchNorm2d(8, affine=False, track_running_stats=False),
    "RN_B": lambda: RN_B(8),
    "RN_L": lambda: RN_L(8, threshold=0.5),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module | None]] = {
    "none": lambda: None,
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.3),
    "sigmoid": nn.Sigmoid,
}


def _block(norm: str, activation: str, **options: Any) -> PartialConvBlock:
    conv = PartialConv2d(
        6, 8, 3, stride=2, padding=1, bias=norm == "none", return_mask=True, **options
    )
    block = PartialConvBlock(conv, NORMS[norm](), ACTIVATIONS[activation]())
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return block.double()


def _inputs(size: tuple[int, int] = (13, 10)) -> tuple[Tensor, Tensor]:
    mask = (torch.rand(2, 1, *size) > 0.4).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64) + 2
    return x.masked_fill(mask == 0, torch.nan), mask


def _hooked(block: nn.Module) -> nn.Module:
    """Somebody looks at every module: they are called one by one."""
    hooked = copy.deepcopy(block)
    for module in hooked.children():
        module.register_forward_hook(lambda *_: None)
    return hooked


def _everything(block: Any, x: Tensor, *rest: Any, **options: Any) -> list[Tensor]:
    leaf = x.detach().clone().requires_grad_()
    y, new_mask = block(leaf, *rest, **options)
    generator = torch.Generator().manual_seed(2)
    y.backward(torch.randn(y.shape, generator=generator, dtype=y.dtype))
    grads = [p.grad for p in block.parameters() if p.grad is not None]
    assert leaf.grad is not None
    return [y.detach(), new_mask, leaf.grad, *grads, *block.buffers()]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_equals_its_modules(norm: str, activation: str) -> None:
    block = _block(norm, activation)
    assert block._fuses() == (activation != "sigmoid")
    hooked = _hooked(block)
    assert not hooked._fuses()  # type: ignore[operator]
    for mode in (True, True, False):
        block.train(mode)
        hooked.train(mode)
        x, mask = _inputs()
        found, wanted = _everything(block, x, mask), _everything(hooked, x, mask)
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            torch.testing.assert_close(f, w, rtol=1e-9, atol=1e-9)
        block.zero_grad()
        hooked.zero_grad()
        with torch.no_grad():
            torch.testing.assert_close(block(x, mask)[0], hooked(x, mask)[0])


@pytest.mark.parametrize("norm", ["none", "batch", "RN_B", "RN_L"])
def test_an_output_is_an_input_already_masked(norm: str) -> None:
    block, following = _block(norm, "leaky"), _block("batch", "relu")
    following.conv = PartialConv2d(8, 8, 3, padding=1, bias=False, return_mask=True).double()
    x, mask = _inputs()
    y, new_mask = block(x, mask)
    assert not y[(new_mask == 0).expand_as(y)].any()
    y, hooked = y.detach(), _hooked(following)
    found = _everything(following, y, new_mask, masked_input=True)
    wanted = _everything(hooked, y, new_mask)
    # The gradient is masked where y came from.
    found[2] = found[2] * new_mask
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w)


@pytest.mark.parametrize("norm", ["none", "RN_B"])
def test_soft_masks_are_applied_once(norm: str) -> None:
    block = _block(norm, "leaky")
    x, mask = _inputs()
    mask = mask * (torch.rand_like(mask) > 0.7) * 0.1  # windows that sum to less than 1
    x = x.nan_to_num()
    for given in (x, x * mask):
        wanted = _everything(_hooked(block), given, mask, masked_input=given is not x)
        found = _everything(block, given, mask, masked_input=given is not x)
        for f, w in zip(found, wanted, strict=True):
            torch.testing.assert_close(f, w)
        block.zero_grad()


@pytest.mark.parametrize("region", ["as the output", "of another size", "bool"])
def test_regions_of_rn_b(region: str) -> None:
    block = _block("RN_B", "leaky")
    x, mask = _inputs()
    size = (7, 5) if region != "of another size" else (14, 11)
    regions = torch.rand(2, 1, *size) > 0.5
    given = regions if region == "bool" else regions.double()
    found = _everything(block, x, mask, given)
    for f, w in zip(found, _everything(_hooked(block), x, mask, given), strict=True):
        torch.testing.assert_close(f, w)


@pytest.mark.parametrize("given", [False, True])
def test_a_clean_region_norm_gets_its_regions(given: bool) -> None:
    conv = PartialConv2d(6, 8, 3, stride=2, padding=1, bias=False, return_mask=True)
    norm = RegionNorm2d(8, stats="instance")
    block = PartialConvBlock(conv, norm, nn.ReLU()).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    x, mask = _inputs()
    region = (torch.rand(2, 1, 14, 10) > 0.5).double() if given else None
    y, new_mask = block(x, mask, region)
    raw, updated = conv(x, mask)
    regions = updated if region is None else region[:, :, ::2, ::2]
    wanted = torch.relu(norm(raw, regions)) * updated
    torch.testing.assert_close(y, wanted)
    assert torch.equal(new_mask, updated)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_dtype_and_form(dtype: torch.dtype) -> None:
    block = _block("batch", "relu")
    x, mask = _inputs()
    wanted, new = block(x, mask)
    y, new_mask = block(x, mask.to(dtype))
    assert new_mask.dtype == dtype
    assert torch.equal(new_mask.double(), new)
    torch.testing.assert_close(y, wanted)
    planes = ChannelMask(torch.cat([mask, mask], 1), (2, 4))
    torch.testing.assert_close(block(x, planes)[0], _hooked(block)(x, planes)[0])


def test_batch_norm_that_keeps_its_statistics_and_empty_batches() -> None:
    block = _block("batch", "relu")
    assert isinstance(block.norm, nn.BatchNorm2d)
    x, mask = _inputs()
    y, _ = block(x[:0], mask[:0])
    assert y.shape == (0, 8, 7, 5)
    block.norm.track_running_stats = False
    block(x, mask)
    assert block.norm.num_batches_tracked == 0
    assert not block.norm.running_mean.any()  # type: ignore[union-attr]
    bare = _block("batch, bare", "relu").eval()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        bare(x[:1, :, :2, :2], mask[:1, :, :2, :2])


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_infinite_values_spoil_their_own_gradient_only(norm: str) -> None:
    block = _block(norm, "relu").eval()
    hooked = _hooked(block)
    x, mask = _inputs()
    x = x.nan_to_num()
    x[0, 0, 3, 3] = torch.inf
    grads = []
    for net in (block, hooked):
        leaf = x.clone().requires_grad_()
        y = net(leaf, torch.ones_like(mask))[0]
        (grad,) = torch.autograd.grad(y.nan_to_num(posinf=1, neginf=-1).sum(), leaf)
        grads.append(grad)
    torch.testing.assert_close(*grads)
    assert torch.isfinite(grads[0]).all()


@pytest.mark.parametrize("norm", ["none", "batch", "RN_B"])
def test_under_functorch_and_selective_checkpointing(norm: str) -> None:
    block = _block(norm, "relu").eval()
    x, mask = _inputs()
    x = x.nan_to_num()
    wanted = block(x, mask)[0]

    def loss(x: Tensor) -> Tensor:
        out: Tensor = block(x, mask)[0].square().sum()
        return out

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    with torch.no_grad():
        many = torch.func.vmap(lambda x: block(x, mask)[0])(torch.stack([x, x * 2]))
    torch.testing.assert_close(many[0], wanted)

    def save(*_: Any, **__: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE

    y = checkpoint(
        block, leaf, mask, use_reentrant=False,
        context_fn=partial(create_selective_checkpoint_contexts, save),
    )  # fmt: skip
    (found,) = torch.autograd.grad(y[0].square().sum(), leaf)
    torch.testing.assert_close(found, expected)


def test_batch_norm_counts_and_refuses_a_single_value() -> None:
    block = _block("batch", "relu")
    x, mask = _inputs((2, 2))
    block(x, mask)
    assert isinstance(block.norm, nn.BatchNorm2d)
    assert block.norm.num_batches_tracked == 1
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        block(x[:1], mask[:1])


@pytest.mark.parametrize("options", [
    {"padding_mode": "reflect"}, {"mask_padding_mode": "circular"},
])  # fmt: skip
def test_what_has_no_fused_form_is_called_one_by_one(options: dict[str, Any]) -> None:
    block = _block("batch", "relu", **options)
    assert not block._fuses()
    x, mask = _inputs()
    y, new_mask = block(x, mask)
    wanted = torch.relu(_norm_of(block)(block.conv(x, mask)[0])) * new_mask
    torch.testing.assert_close(y, wanted.detach(), rtol=1e-6, atol=1e-6)


def test_hooks_on_every_module_see_them_all() -> None:
    block, seen = _block("batch", "relu"), []
    x, mask = _inputs()
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        block(x, mask)
    finally:
        handle.remove()
    assert seen == [PartialConv2d, nn.BatchNorm2d, nn.ReLU, PartialConvBlock]


def _norm_of(block: PartialConvBlock) -> nn.Module:
    norm = copy.deepcopy(block.norm)
    assert isinstance(norm, nn.BatchNorm2d)
    norm.reset_running_stats()
    return norm


@pytest.mark.parametrize("size", [(8, 8, 16, 16), (5, 6, 9, 11)], ids=["even", "odd"])
@pytest.mark.parametrize("norm", ["none", "batch", "RN_B", "RN_L"])
def test_upsampled_blocks(norm: str, size: tuple[int, ...]) -> None:
    h, w, large_h, large_w = size
    n = 1024 // (large_h * large_w) + 1  # enough pixels for the transposed form
    conv = UpsampledPartialConv2d(5, 3, 8, bias=norm == "none")
    block = UpsampledPartialConvBlock(conv, NORMS[norm](), nn.LeakyReLU(0.2)).double()
    mask, skip_mask = ((torch.rand(n, 1, *s) > 0.4).double() for s in (size[:2], size[2:]))
    x = torch.randn(n, 5, h, w, dtype=torch.float64)
    skip = torch.randn(n, 3, large_h, large_w, dtype=torch.float64)
    given = (mask, skip, skip_mask)
    hooked, plain = _hooked(block), copy.deepcopy(block)
    found = _everything(block, x, *given)
    for f, v in zip(found, _everything(hooked, x, *given), strict=True):
        torch.testing.assert_close(f, v, rtol=1e-7, atol=1e-9)
    with use_backend("reference"):
        for f, v in zip(found, _everything(plain, x, *given), strict=True):
            torch.testing.assert_close(f, v, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("norm", ["none", "batch", "RN_B", "RN_L"])
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_compiles_without_graph_breaks(norm: str, mode: bool, dynamic: bool | None) -> None:
    torch._dynamo.reset()
    block = _block(norm, "leaky").train(mode)
    x, mask = _inputs()
    compiled = torch.compile(
        copy.deepcopy(block), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for f, w in zip(
        _everything(compiled, x, mask), _everything(block, x, mask), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(f, w)


def test_the_state_dict_is_that_of_the_parts() -> None:
    block = _block("batch", "relu")
    assert set(block.state_dict()) == {"conv.weight", *(
        f"norm.{k}" for k in nn.BatchNorm2d(8).state_dict())}  # fmt: skip


def test_only_the_raw_result_is_kept() -> None:
    block = PartialConvBlock(
        PartialConv2d(4, 8, 3, padding=1, bias=False, return_mask=True), RN_L(8), nn.LeakyReLU(0.2)
    )
    x, mask = torch.randn(2, 4, 32, 32, requires_grad=True), torch.ones(2, 1, 32, 32)
    kept: set[int] = set()

    def pack(t: Tensor) -> Tensor:
        if t.numel() >= 2 * 8 * 32 * 32:
            kept.add(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y, _ = block(x, mask, masked_input=True)
    assert len(kept) == 1
    assert y.data_ptr() not in kept


@pytest.mark.parametrize("activation", ["relu", "leaky", "sigmoid"])
@pytest.mark.parametrize("norm", ["RN_B", "RN_L"])
def test_norm_and_activation_behind_any_convolution(norm: str, activation: str) -> None:
    parts = nn.ModuleList(m for m in (NORMS[norm](), ACTIVATIONS[activation]()) if m).double()
    x = torch.randn(2, 8, 7, 5, dtype=torch.float64) + 1
    valid = (torch.rand(1, 1, 14, 10) > 0.5).double() if norm == "RN_B" else None

    def call(parts: Any) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        y = norm_activation(parts[0], parts[1], leaf, valid)
        generator = torch.Generator().manual_seed(2)
        grad = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        return [y.detach(), *torch.autograd.grad(y, [leaf, *parts.parameters()], grad)]

    for f, w in zip(call(parts), call(_hooked(parts)), strict=True):
        torch.testing.assert_close(f, w)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="conv: expected a PartialConv2d"):
        PartialConvBlock(nn.Conv2d(3, 3, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="return_mask=True"):
        PartialConvBlock(PartialConv2d(3, 3, 3))
    with pytest.raises(TypeError, match="conv: expected UpsampledPartialConv2d"):
        UpsampledPartialConvBlock(PartialConv2d(3, 3, 3))  # type: ignore[arg-type]
    for norm, region in ((RN_B(8), None), (RN_L(8), torch.ones(1, 1, 4, 4))):
        with pytest.raises(TypeError, match="region: expected"):
            norm_activation(norm, nn.ReLU(), torch.ones(1, 8, 4, 4), region)
    block = _block("RN_B", "relu")
    x, mask = _inputs()
    with pytest.raises(ValueError, match="mask"):
        block(x, mask[:, :, :4])
    with pytest.raises(ValueError, match="region"):
        block(x, mask, mask.expand(-1, 2, -1, -1))
