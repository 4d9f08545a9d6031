"""Fixtures: the plain float64 formulas that the operators are held against, and poisoned memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_ops import ChannelMask, core, region_norm
from inpaint_ops.backends import dispatch
from inpaint_ops.backends.cpu import scratch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="torch finds no usable NVIDIA GPU")
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20)


# The package exports functions of the same names, which hide these modules from an import.
_ALLOCATING = [
    importlib.import_module(f"inpaint_ops.backends.cpu.{op}")
    for op in ("mask_update", "partial_conv")
]
_empty_planes = _ALLOCATING[0].empty_planes
_scratch_empty_like = scratch.empty_like


def _poisoned_scratch(x: Tensor, slot: str) -> Tensor:
    """Scratch memory holds what the call before left there: numbers, and often the right ones."""
    with torch.no_grad():
        return _scratch_empty_like(x, slot).fill_(torch.nan)


def _poisoned_planes(
    mask: Tensor, spatial: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A new mask of bools: neither value may stand for all that was not written."""
    new_mask, ratio = _empty_planes(mask, spatial, dtype)
    if new_mask.dtype == torch.bool:
        new_mask.view(-1)[::2] = False
    return new_mask, ratio


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Whatever memory is handed out uninitialized holds NaN, in every test.

    torch fills its own (integers with their largest value, bools with True) where deterministic
    algorithms are asked for. Processes that a test forks have all of this; those that it starts
    afresh have glibc's malloc fill what it hands out with 0x7f: about 3e38 as a float32.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "empty_like", _poisoned_scratch)
        for module in _ALLOCATING:
            patch.setattr(module, "empty_planes", _poisoned_planes)
        patch.setenv("MALLOC_PERTURB_", "128")
        # Without it cuBLAS warns of every product under deterministic algorithms.
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        yield
    torch.use_deterministic_algorithms(before, warn_only=warn_only)


@pytest.fixture
def restored_simd() -> Iterator[None]:
    """Whatever instruction set a test selects, the next one runs on the machine's own."""
    before = core.load().build_info()["simd"]
    yield
    core.load().select_simd(before)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(restored_threads: None) -> None:
    """Small networks lose by threads, above all where other processes want the cores too."""
    torch.set_num_threads(1)


@pytest.fixture
def fresh_dispatch() -> Iterator[None]:
    """No function chosen earlier is remembered, and none chosen by this test is afterwards."""
    dispatch._cache.clear()
    yield
    dispatch._cache.clear()


class Plain:
    """The definitions, written down once more: dense masks, dense ones kernels, autograd."""

    @staticmethod
    def dense_mask(mask: Tensor | ChannelMask | None, x: Tensor, multi_channel: bool) -> Tensor:
        """Any accepted mask as float64 values of one plane, or of one for each channel of x."""
        if isinstance(mask, ChannelMask):
            parts = [
                mask.planes[:, g : g + 1].expand(-1, count, -1, -1)
                for g, count in enumerate(mask.channels)
            ]
            mask, multi_channel = torch.cat(parts, 1), True
        if mask is None:
            mask = torch.ones(1, 1, *x.shape[2:])
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        mask = mask.to(wide) if mask.is_floating_point() else mask != 0
        mask = mask.double().expand(x.shape[0], -1, -1, -1)
        return mask.expand(-1, x.shape[1], -1, -1) if multi_channel else mask

    @classmethod
    def partial_conv(
        cls,
        x: Tensor,
        mask: Tensor | ChannelMask | None,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        multi_channel: bool = False,
        eps: float = 1e-8,
        padding_mode: str = "zeros",
    ) -> tuple[Tensor, Tensor]:
        """y and the new mask (N, 1, H', W') in float64; x, weight and bias may have any dtype."""
        m = cls.dense_mask(mask, x, multi_channel)
        kernel = weight.shape[2:]
        ones = torch.ones(1, m.shape[1], *kernel, dtype=torch.float64)
        total = F.conv2d(m, ones, None, stride, padding, dilation)
        new = total.clamp(0, 1)
        ratio = ones.numel() / (total + eps) * new
        if eps == 0:
            ratio = torch.where(total == 0, torch.zeros_like(ratio), ratio)
        x, weight = x.double(), weight.double()
        masked = torch.where(m == 0, torch.zeros_like(x), x) * m
        if padding_mode != "zeros" and padding != "valid":
            steps = [dilation] * 2 if isinstance(dilation, int) else list(dilation)
            if padding == "same":
                spans = [d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
                pairs = [(s // 2, s - s // 2) for s in spans]
            else:
                pads = [padding] * 2 if isinstance(padding, int) else list(padding)
                pairs = [(p, p) for p in pads]
            masked = F.pad(masked, [*pairs[1], *pairs[0]], padding_mode)
            padding = 0
        y = F.conv2d(masked, weight, None, stride, padding, dilation, groups) * ratio
        if bias is not None:
            y = (y + bias.double().view(1, -1, 1, 1)) * new
        return y, new

    @staticmethod
    def region_norm(
        x: Tensor,
        mask: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        stats: str = "batch",
        scale_eps: bool = True,
    ) -> Tensor:
        """Float64; each region gathered by indices, normalized, and put back. Binary masks."""
        x = x.double()
        valid = (mask != 0).expand(x.shape[0], 1, *x.shape[2:])[:, 0]
        y = torch.zeros_like(x).movedim(1, -1)
        groups = (
            [valid]
            if stats == "batch"
            else [
                valid & (torch.arange(len(x)) == n).view(-1, *[1] * (x.dim() - 2))
                for n in range(len(x))
            ]
        )
        holes = (
            [~valid]
            if stats == "batch"
            else [
                ~valid & (torch.arange(len(x)) == n).view(-1, *[1] * (x.dim() - 2))
                for n in range(len(x))
            ]
        )
        last = x.movedim(1, -1)
        for group, hole in zip(groups, holes, strict=True):
            pixels = int(group.sum()) + int(hole.sum())
            for r, where in enumerate((group, hole)):
                values = last[where]
                if len(values) == 0:
                    continue
                mean = values.mean(0)
                var = (values - mean).square().mean(0)
                n = (values - mean) / (
                    var + (eps * pixels / len(values) if scale_eps else eps)
                ).sqrt()
                if weight is not None:
                    n = n * weight[r].double()
                if bias is not None:
                    n = n + bias[r].double()
                y = y.masked_scatter(where.unsqueeze(-1).expand_as(y), n)
        return y.movedim(-1, 1)

    @staticmethod
    def soft_region_norm(
        x: Tensor,
        mask: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        stats: str = "batch",
        scale_eps: bool = True,
    ) -> Tensor:
        """The published sequence: multiply by the label, batch-normalize the whole, rescale.

        With share = sum of labels / pixels: the mean over the region fills the other pixels, so
        that batch normalization sees the region's mean, and a variance smaller by the share.
        """
        x, total = x.double(), torch.zeros_like(x, dtype=torch.float64)
        axes = [0, 2, 3] if stats == "batch" else [2, 3]
        m = mask.double().expand(x.shape[0], 1, *x.shape[2:])
        for label in (m, 1 - m):
            share = label.mean([0, 2, 3] if stats == "batch" else [2, 3], keepdim=True)
            mean = (x * label).mean(axes, keepdim=True) / share
            filled = x * label + (1 - label) * mean
            centre = filled.mean(axes, keepdim=True)
            var = (filled - centre).square().mean(axes, keepdim=True)
            eps_here = eps if scale_eps else eps * share
            total = total + (filled - centre) / (var + eps_here).sqrt() * share.sqrt()
        if weight is not None:
            w = weight.double()
            total = total * (m * w[0].view(1, -1, 1, 1) + (1 - m) * w[1].view(1, -1, 1, 1))
        if bias is not None:
            b = bias.double()
            total = total + m * b[0].view(1, -1, 1, 1) + (1 - m) * b[1].view(1, -1, 1, 1)
        return total

    @classmethod
    def attention_region_norm(
        cls,
        x: Tensor,
        attention: Tensor,
        gamma_weight: Tensor,
        gamma_bias: Tensor,
        beta_weight: Tensor,
        beta_bias: Tensor,
        threshold: float = 0.8,
        eps: float = 1e-5,
    ) -> tuple[Tensor, Tensor]:
        """y in float64, and the attention map."""
        x = x.double()

        def conv(source: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            pads = [k // 2 for k in weight.shape[2:]]
            return F.conv2d(
                source, weight.double(), None if bias is None else bias.double(), 1, pads
            )

        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        a = torch.sigmoid(conv(pooled, attention, None))
        n = cls.region_norm(x, a.detach() >= threshold, eps=eps)
        return n * (1 + conv(a, gamma_weight, gamma_bias)) + conv(a, beta_weight, beta_bias), a

    @staticmethod
    def close(
        actual: Tensor,
        expected: Tensor,
        length: float,
        dtype: torch.dtype | None = None,
        scale: float = 1e-30,
    ) -> None:
        """Equal up to what rounding sums of ``length`` terms in the tensor's dtype may leave.

        Rounding errors of a sum grow like the square root of its length; twice that, and a few
        roundings for what follows the sum, relative to the largest expected value, or to ``scale``
        where terms of that size cancel.
        """
        assert actual.shape == expected.shape, (actual.shape, expected.shape)
        if expected.numel() == 0:
            return
        eps = torch.finfo(dtype or actual.dtype).eps
        allowed = (8 + 2 * length**0.5) * eps * max(float(expected.detach().abs().max()), scale)
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=allowed)

    @staticmethod
    def blobs(n: int, c: int, h: int, w: int) -> Tensor:
        """Binary (N, C, H, W) float64 masks: blocks and single pixels, each region in each plane.

        The first plane has a corner block of holes wide enough for empty windows.
        """
        mask = (torch.rand(n, c, h, w) > 0.3).double()
        block = (torch.rand(n, c, (h + 3) // 4, (w + 3) // 4) > 0.3).double()
        block = block.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :h, :w]
        mask = mask * block
        mask[:, :, : h // 2, : w // 2] = 0
        mask[:, :, -1, -1] = 1
        return mask

    @classmethod
    def nan_stays_in_its_region(cls, channels: int, kept: int, order: torch.memory_format) -> None:
        """With NaN in the other region, a region's values and gradients are what they were."""
        mask = cls.blobs(2, 1, 9, 11).float()
        clean = torch.randn(2, channels, 9, 11).to(memory_format=order)
        inside = (mask == 1 - kept).expand_as(clean)  # row 0 belongs to the valid pixels
        affine, grad = torch.randn(2, 2, channels), torch.randn(clean.shape)
        results = []
        for x in (clean, torch.where(inside, clean, torch.nan)):
            leaves = [t.detach().clone().requires_grad_() for t in (x, *affine)]
            y = region_norm(leaves[0], mask, *leaves[1:])
            results.append([y, *torch.autograd.grad(y, leaves, grad)])
        for a, b in zip(results[0][:2], results[1][:2], strict=True):
            assert torch.equal(a[inside], b[inside])
        for a, b in zip(results[0][2:], results[1][2:], strict=True):
            assert torch.equal(a[kept], b[kept])


@pytest.fixture(scope="session")
def plain() -> Plain:
    return Plain()
