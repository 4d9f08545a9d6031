"""Networks as their authors publish them, before and after `patch_model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from inpaint_ops import patch_model

from ..baselines import AUTOENCODER, UNet
from ..baselines.conv import FullMaskConv2d
from ..baselines.norm import AttentionRegionNorm, MaskedRegionNorm
from ..baselines.published import (
    NaotoPartialConv,
    NvidiaPartialConv2d,
    RegionNormB,
    RegionNormL,
)
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import CONTIGUOUS, FORWARD, STEP, Call, Candidate, Case, Outputs, Truth
from .inputs import pictures
from .network import OUTPUT_TOLERANCE, VANISHING, gradient_tolerance

BEFORE, AFTER = "reference", "fused"

SMALL = "naoto0804, five levels"
NETWORKS = {
    SMALL: AUTOENCODER,
    "naoto0804": "pconv_unet",
    "NVIDIA + RN": "cgan_pc_rn",
}
"""U-Nets by whose modules they are made of (naoto0804's convolutions and batch norm; NVIDIA's and
the norms of Yu et al.), and the networks of ours that have the same layers."""


def patched_cases(plan: Plan) -> Iterator[Case]:
    """One picture, as the plan asks: a forward pass in evaluation, and a training step's passes."""
    for name, mode in plan.patched:
        yield _Workload(plan, name, mode).case()


@dataclass(frozen=True)
class _Workload:
    plan: Plan
    name: str
    mode: str

    def case(self) -> Case:
        size = self.plan.patched_size
        return Case(
            group="patched",
            name=self.name,
            detail=f"1x3x{size}x{size}",
            mode=self.mode,
            shape=(1, 3, size, size),
            candidates=[
                Candidate(provider, CONTIGUOUS, partial(self._build, provider))
                for provider in (BEFORE, AFTER)
            ],
            truth=self._truth,
            seconds=self.plan.patched_seconds,
        )

    def _net(self) -> UNet:
        """The network with the authors' modules; the same parameters every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            net = UNet(NETWORKS[self.name], "reference")
            for layer in net.children():
                conv = layer.conv
                assert isinstance(conv, FullMaskConv2d)
                layer.conv = self._conv(conv)
                if isinstance(layer.norm, MaskedRegionNorm):
                    layer.norm = RegionNormB(conv.out_channels)
                elif isinstance(layer.norm, AttentionRegionNorm):
                    layer.norm = RegionNormL(conv.out_channels)
        return net.train(self.mode == STEP)

    def _conv(self, like: FullMaskConv2d) -> nn.Module:
        bias = like.bias is not None
        kernel, stride = like.kernel_size[0], like.stride[0]
        geometry = (kernel, stride, kernel // 2)
        if not self.name.startswith("naoto0804"):
            return NvidiaPartialConv2d(
                like.in_channels, like.out_channels, *geometry, bias=bias,
                multi_channel=True, return_mask=True,
            )  # fmt: skip
        made = NaotoPartialConv(like.in_channels, like.out_channels, *geometry, bias=bias)
        with torch.no_grad():
            # Their scale: no factor for the number of cells in a window.
            made.input_conv.weight.mul_(like.window)
        return made

    def _pictures(self) -> tuple[Tensor, Tensor]:
        images, masks = pictures(self.plan, HOLE_RATIOS[0])
        size = self.plan.patched_size
        return images[:1, :, :size, :size].contiguous(), masks[:1, :, :size, :size].contiguous()

    def _build(self, provider: str) -> Call:
        net = self._net()
        if provider == AFTER:
            report = patch_model(net)
            if report.kept:
                raise RuntimeError(f"not replaced: {report.kept[0].name}: {report.kept[0].reason}")
        return partial(_forward if self.mode == FORWARD else _passes, net, *self._pictures())

    def _truth(self) -> Mapping[str, Truth]:
        """The network before, in float64."""
        net = self._net().double()
        images, masks = (t.double() for t in self._pictures())
        if self.mode == FORWARD:
            return {"y": Truth(_forward(net, images, masks)["y"], OUTPUT_TOLERANCE)}
        outputs = _passes(net, images, masks)
        truth = {"y": Truth(outputs["y"], OUTPUT_TOLERANCE)}
        for name, value in outputs.items():
            if name != "y" and value.abs().max() >= VANISHING:
                bound = gradient_tolerance(1, value.numel())
                truth[name] = Truth(value, bound, mean_square=True)
        return truth


def _forward(net: nn.Module, images: Tensor, masks: Tensor) -> Outputs:
    with torch.no_grad():
        return {"y": net(images, masks)}


def _passes(net: nn.Module, images: Tensor, masks: Tensor) -> Outputs:
    """Forward and backward; no optimizer, which is the same before and after."""
    net.zero_grad(set_to_none=True)
    y = net(images, masks)
    torch.autograd.backward((y - images).abs().mean())
    gradients = {f"grad {n}": p.grad for n, p in net.named_parameters() if p.grad is not None}
    return {"y": y.detach(), **gradients}
