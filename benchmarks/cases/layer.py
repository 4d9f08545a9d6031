"""Cases (a): each layer of the U-Net, as a partial convolution with bias.

The network's own layers have no bias where a norm follows; here every layer has one, because the
bound, ``F.conv2d`` with bias, has one too, and both then do the same work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpaint_ops import ChannelMask, partial_conv2d

from .. import oracle
from ..baselines import LEVELS, FullMaskConv2d, Level, PlaneMaskConv2d
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, Call, Candidate, Case, Outputs, Truth
from .inputs import activations, in_layout, noise

Operator = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""A layer with its mask and parameters bound: features in, output and new mask out."""


def layer_cases(plan: Plan) -> Iterator[Case]:
    """Every layer forward and forward + backward; a few of them also with large holes."""
    light, heavy = HOLE_RATIOS
    for level in LEVELS:
        for ratio in (light, heavy):
            wanted = plan.layers if ratio == light else plan.heavy_layers
            if level.name in wanted:
                for mode in (FORWARD, BOTH):
                    yield _Workload(plan, level, ratio, mode).case()


def describe(level: Level) -> str:
    """Geometry of a layer, as tables show it."""
    inputs = "+".join(str(c) for c in level.channels)
    return f"{inputs} → {level.out}, k{level.kernel} s{level.stride}"


class _Workload:
    """Tensors and candidates of one layer in one mode."""

    def __init__(self, plan: Plan, level: Level, ratio: float, mode: str) -> None:
        self.plan, self.level, self.ratio, self.mode = plan, level, ratio, mode
        # The first layer's input is the picture: nobody asks for its gradient.
        self.input_gradient = level.name != "enc1"

    def case(self) -> Case:
        level, plan = self.level, self.plan
        suffix = "" if self.ratio == HOLE_RATIOS[0] else f"@{self.ratio:.0%}"
        side = plan.size // 2 ** (int(level.name[3:]) - 1)
        candidates = [
            self._candidate("reference", CONTIGUOUS, self._reference),
            self._candidate("one-channel", CONTIGUOUS, self._one_channel),
            self._candidate("fused", CONTIGUOUS, self._fused),
            self._candidate("fused", CHANNELS_LAST, self._fused),
            self._candidate("fused, C-channel mask", CONTIGUOUS, self._fused_full),
            self._candidate("bound", CONTIGUOUS, self._plain, checked=False),
            self._candidate("bound", CHANNELS_LAST, self._plain, checked=False),
        ]
        if level.name in plan.compiled_layers and not suffix and self.mode == BOTH:
            compiled = self._candidate("reference-compiled", CONTIGUOUS, self._compiled)
            candidates.insert(1, compiled)
        return Case(
            group="layer",
            name=level.name + suffix,
            detail=describe(level),
            mode=self.mode,
            shape=(plan.batch, sum(level.channels), side, side),
            candidates=candidates,
            truth=self._truth,
            seconds=plan.layer_seconds,
        )

    def _candidate(
        self,
        name: str,
        layout: str,
        make: Callable[[str], tuple[Operator, nn.Conv2d]],
        checked: bool = True,
    ) -> Candidate:
        return Candidate(name, layout, partial(self._build, make, layout), checked)

    def _build(self, make: Callable[[str], tuple[Operator, nn.Conv2d]], layout: str) -> Call:
        operator, conv = make(layout)
        x = in_layout(self._input()[0], layout)
        if self.mode == FORWARD:
            return partial(_forward, operator, x)
        assert conv.bias is not None, "every layer is measured with a bias"
        leaves: dict[str, Tensor] = {"grad_weight": conv.weight, "grad_bias": conv.bias}
        if self.input_gradient:
            leaves["grad_x"] = x.requires_grad_()
        with torch.no_grad():
            shape = operator(x)[0].shape
        upstream = in_layout(noise(self.plan, *shape, salt=2), layout)
        return partial(_both, operator, x, leaves, upstream)

    def _input(self) -> tuple[Tensor, Tensor]:
        return activations(self.plan, self.ratio)[self.level.name]

    def _full_mask(self) -> Tensor:
        """The mask as the published code carries it: one plane per channel, all in memory."""
        counts = torch.tensor(self.level.channels, device=self.plan.device)
        return self._input()[1].repeat_interleave(counts, 1)

    def _parameters(self) -> tuple[Tensor, Tensor]:
        level, plan = self.level, self.plan
        inputs = sum(level.channels)
        weight = noise(plan, level.out, inputs, level.kernel, level.kernel)
        scale = (2 / (inputs * level.kernel**2)) ** 0.5
        return weight * scale, noise(plan, level.out, salt=1)

    def _load(self, conv: nn.Conv2d, layout: str = CONTIGUOUS) -> nn.Conv2d:
        weight, bias = self._parameters()
        conv.weight = nn.Parameter(in_layout(weight, layout))
        conv.bias = nn.Parameter(bias)
        return conv.to(self.plan.device)

    def _reference(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        lv = self.level
        conv = self._load(
            FullMaskConv2d(sum(lv.channels), lv.out, lv.kernel, lv.stride, lv.padding)
        )
        return partial(_call_module, conv, self._full_mask()), conv

    def _compiled(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        torch._dynamo.reset()
        _, conv = self._reference(layout)
        compiled = torch.compile(conv, dynamic=False)
        return partial(_call_module, compiled, self._full_mask()), conv

    def _one_channel(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        lv = self.level
        conv = self._load(PlaneMaskConv2d(lv.channels, lv.out, lv.kernel, lv.stride, lv.padding))
        return partial(_call_module, conv, self._input()[1]), conv

    def _fused(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        level, planes = self.level, self._input()[1]
        mask = planes if level.encoder else ChannelMask(planes, level.channels)
        return self._functional(mask, False, layout)

    def _fused_full(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        return self._functional(self._full_mask(), True, layout)

    def _functional(
        self, mask: Tensor | ChannelMask, multi_channel: bool, layout: str
    ) -> tuple[Operator, nn.Conv2d]:
        lv = self.level
        conv = self._load(
            nn.Conv2d(sum(lv.channels), lv.out, lv.kernel, lv.stride, lv.padding), layout
        )

        def operator(x: Tensor) -> tuple[Tensor, Tensor | None]:
            y, new_mask = partial_conv2d(
                x,
                mask,
                conv.weight,
                conv.bias,
                conv.stride,
                conv.padding,
                conv.dilation,
                1,
                multi_channel=multi_channel,
            )
            return y, new_mask.planes if isinstance(new_mask, ChannelMask) else new_mask

        return operator, conv

    def _plain(self, layout: str) -> tuple[Operator, nn.Conv2d]:
        lv = self.level
        conv = self._load(
            nn.Conv2d(sum(lv.channels), lv.out, lv.kernel, lv.stride, lv.padding), layout
        )

        def operator(x: Tensor) -> tuple[Tensor, Tensor | None]:
            return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding), None

        return operator, conv

    def _truth(self) -> Mapping[str, Truth]:
        truth = _truth(self.plan, self.level, self.ratio)
        if self.mode == BOTH:
            return truth
        return {name: value for name, value in truth.items() if not name.startswith("grad")}

    def truth_with_gradients(self) -> dict[str, Truth]:
        """Output, new mask and gradients in float64."""
        level = self.level
        x, planes = (t.double() for t in self._input())
        weight, bias = (t.double().requires_grad_() for t in self._parameters())
        x.requires_grad_(self.input_gradient)
        y, new_mask = oracle.partial_conv(
            x, planes, level.channels, weight, bias, level.stride, level.padding
        )
        sums = sum(level.channels) * level.kernel**2
        truth = {
            "y": Truth(y.detach(), oracle.tolerance(sums)),
            # Counts are small integers: the new mask has no rounding to forgive.
            "new_mask": Truth(new_mask, 0.0),
        }
        torch.autograd.backward(y, noise(self.plan, *y.shape, salt=2).double())
        positions = y.shape[0] * y.shape[2] * y.shape[3]
        lengths = {"grad_weight": positions, "grad_bias": positions}
        found = {"grad_weight": weight.grad, "grad_bias": bias.grad}
        if self.input_gradient:
            lengths["grad_x"], found["grad_x"] = level.out * level.kernel**2, x.grad
        for name, gradient in found.items():
            assert gradient is not None
            truth[name] = Truth(gradient, oracle.tolerance(lengths[name]))
        return truth


@lru_cache(maxsize=1)
def _truth(plan: Plan, level: Level, ratio: float) -> dict[str, Truth]:
    """Kept from the forward case for the one with gradients, which follows it."""
    return _Workload(plan, level, ratio, BOTH).truth_with_gradients()


def _call_module(
    module: Callable[..., tuple[Tensor, Tensor]], mask: Tensor, x: Tensor
) -> tuple[Tensor, Tensor | None]:
    return module(x, mask)


def _forward(operator: Operator, x: Tensor) -> Outputs:
    with torch.no_grad():
        y, new_mask = operator(x)
    return _outputs(y, new_mask)


def _both(operator: Operator, x: Tensor, leaves: Mapping[str, Tensor], upstream: Tensor) -> Outputs:
    y, new_mask = operator(x)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {**_outputs(y, new_mask), **dict(zip(leaves, gradients, strict=True))}


def _outputs(y: Tensor, new_mask: Tensor | None) -> Outputs:
    if new_mask is None:
        return {"y": y}
    # A full mask repeats one plane over the channels: a view of the first says it all.
    return {"y": y, "new_mask": new_mask[:, :1]}
