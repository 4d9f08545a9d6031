"""One partial convolution in every form it is measured in: what layers and sweeps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpaint_ops import ChannelMask, partial_conv2d

from .. import oracle
from ..baselines import FullMaskConv2d, PlaneMaskConv2d, peers
from ..plan import Plan
from . import workload
from .base import BOTH, FORWARD, Call, Candidate, Outputs, Truth
from .inputs import exactly, in_layout, noise
from .workload import with_gradients, without_gradients

Operator = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""A layer with its mask and parameters bound: features in, output and new mask out."""

Made = tuple[Operator, Tensor, Tensor]
"""An operator, and the weight and bias whose gradients are wanted."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Geometry of a partial convolution, and the function that makes its features and planes.

    ``channels`` are the input channels, by the mask plane they share.
    """

    channels: tuple[int, ...]
    out: int
    kernel: int
    stride: int
    padding: int
    side: int
    inputs: Callable[[], tuple[Tensor, Tensor]]
    input_gradient: bool = True


class Workload(workload.Workload):
    """Tensors and candidates of one setting in one mode."""

    def __init__(self, plan: Plan, setting: Setting, mode: str) -> None:
        """Bind what the candidates share."""
        super().__init__(plan, mode)
        self.setting = setting

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features."""
        side = self.setting.side
        return self.plan.batch, sum(self.setting.channels), side, side

    def candidate(self, provider: str, layout: str) -> Candidate | None:
        """One of the makers below; torch-pconv knows one mask plane only, in float32."""
        peer = provider in peers.PACKAGES
        beyond = len(self.setting.channels) > 1 or self.plan.dtype != "float32"
        if peer and (beyond or peers.version(provider) is None):
            return None
        makers: Mapping[str, Callable[[str], Made]] = {
            "reference": self._reference,
            "reference-compiled": self._compiled,
            "one-channel": self._one_channel,
            peers.TORCH_PCONV: self._torch_pconv,
            "fused": self._fused,
            "fused, C-channel mask": self._fused_full,
            "bound": self._plain,
        }
        build = partial(self._build, makers[provider], layout)
        return Candidate(provider, layout, build, checked=provider != "bound", peer=peer)

    def _build(self, make: Callable[[str], Made], layout: str) -> Call:
        operator, weight, bias = make(layout)
        x = in_layout(self.setting.inputs()[0], layout)
        run = partial(_outputs, operator, x)
        if self.mode == FORWARD:
            return partial(without_gradients, run)
        leaves = {"grad_weight": weight, "grad_bias": bias}
        if self.setting.input_gradient:
            leaves["grad_x"] = x.requires_grad_()
        shape = without_gradients(run)["y"].shape
        upstream = in_layout(noise(self.plan, *shape, salt=2), layout)
        return partial(with_gradients, run, leaves, upstream)

    def _full_mask(self) -> Tensor:
        """The mask as the published code carries it: one plane per channel, all in memory."""
        counts = torch.tensor(self.setting.channels, device=self.plan.device)
        return self.setting.inputs()[1].repeat_interleave(counts, 1)

    def parameters(self) -> tuple[Tensor, Tensor]:
        """Weight and bias, the same for every candidate and for the truth."""
        setting, plan = self.setting, self.plan
        inputs = sum(setting.channels)
        weight = noise(plan, setting.out, inputs, setting.kernel, setting.kernel)
        scale = (2 / (inputs * setting.kernel**2)) ** 0.5
        return weight * scale, noise(plan, setting.out, salt=1)

    def _load(self, conv: nn.Conv2d) -> nn.Conv2d:
        weight, bias = self.parameters()
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        return conv.to(self.plan.device, self.plan.torch_dtype)

    def _module(self, conv: nn.Conv2d, mask: Tensor, compiled: bool = False) -> Made:
        call = torch.compile(conv, dynamic=False) if compiled else conv
        assert conv.bias is not None, "everything is measured with a bias"
        return partial(_call_module, call, mask), conv.weight, conv.bias

    def _reference(self, layout: str, compiled: bool = False) -> Made:
        s = self.setting
        conv = FullMaskConv2d(sum(s.channels), s.out, s.kernel, s.stride, s.padding)
        return self._module(self._load(conv), self._full_mask(), compiled)

    def _compiled(self, layout: str) -> Made:
        torch._dynamo.reset()
        return self._reference(layout, compiled=True)

    def _one_channel(self, layout: str) -> Made:
        s = self.setting
        conv = PlaneMaskConv2d(s.channels, s.out, s.kernel, s.stride, s.padding)
        return self._module(self._load(conv), s.inputs()[1])

    def _torch_pconv(self, layout: str) -> Made:
        mask = self.setting.inputs()[1][:, 0]
        setting = self.setting
        layer, weight, bias = peers.torch_pconv(*self.parameters(), setting.stride, setting.padding)

        def operator(x: Tensor) -> tuple[Tensor, Tensor | None]:
            y, new_mask = layer(x, mask)
            return y, new_mask.unsqueeze(1)

        return operator, weight, bias

    def _fused(self, layout: str) -> Made:
        channels, planes = self.setting.channels, self.setting.inputs()[1]
        mask = planes if len(channels) == 1 else ChannelMask(planes, channels)
        return self._functional(mask, False, layout)

    def _fused_full(self, layout: str) -> Made:
        return self._functional(self._full_mask(), True, layout)

    def _leaves(self, layout: str) -> tuple[Tensor, Tensor]:
        weight, bias = self.parameters()
        return in_layout(weight, layout).requires_grad_(), bias.requires_grad_()

    def _functional(self, mask: Tensor | ChannelMask, multi_channel: bool, layout: str) -> Made:
        weight, bias = self._leaves(layout)
        stride, padding = self.setting.stride, self.setting.padding

        def operator(x: Tensor) -> tuple[Tensor, Tensor | None]:
            y, new_mask = partial_conv2d(
                x, mask, weight, bias, stride, padding, multi_channel=multi_channel
            )
            return y, new_mask.planes if isinstance(new_mask, ChannelMask) else new_mask

        return operator, weight, bias

    def _plain(self, layout: str) -> Made:
        weight, bias = self._leaves(layout)
        stride, padding = self.setting.stride, self.setting.padding

        def operator(x: Tensor) -> tuple[Tensor, Tensor | None]:
            return F.conv2d(x, weight, bias, stride, padding), None

        return operator, weight, bias

    def truth(self) -> Mapping[str, Truth]:
        """Output and new mask, in the other mode also the gradients."""
        truth = _truth(self.plan, self.setting)
        if self.mode == BOTH:
            return truth
        return {name: value for name, value in truth.items() if not name.startswith("grad")}


@lru_cache(maxsize=1)
def _truth(plan: Plan, setting: Setting) -> dict[str, Truth]:
    """Output, new mask and gradients in float64.

    Kept from the forward case for the one with gradients, which follows it.
    """
    x, planes = (t.double() for t in setting.inputs())
    weight, bias = (t.double() for t in Workload(plan, setting, BOTH).parameters())
    new_masks: list[Tensor] = []

    def definition(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y, new_mask = oracle.partial_conv(
            x, planes, setting.channels, weight, bias, setting.stride, setting.padding
        )
        new_masks[:] = [new_mask]
        return y

    with exactly():
        results = _with_gradients(plan, setting, definition, x, weight, bias)
    sums = sum(setting.channels) * setting.kernel**2
    positions = results["y"][:, 0].numel()
    lengths = {
        "y": sums,
        "grad_weight": positions,
        "grad_bias": positions,
        "grad_x": setting.out * setting.kernel**2,
    }
    truth = {name: Truth(t, oracle.tolerance(lengths[name])) for name, t in results.items()}
    # Counts are small integers: the new mask has no rounding to forgive.
    truth["new_mask"] = Truth(new_masks[0], 0.0)
    if not plan.backends:
        return truth

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, setting.stride, setting.padding)

    counts = torch.tensor(setting.channels, device=planes.device)
    leaves = (x * planes.repeat_interleave(counts, 1), weight, bias)
    own = _with_gradients(plan, setting, plain, *(t.to(plan.torch_dtype) for t in leaves))
    with exactly():
        exact = _with_gradients(plan, setting, plain, *leaves)
    return oracle.beside_own(truth, own, exact, plan.torch_dtype)


def _with_gradients(
    plan: Plan,
    setting: Setting,
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
    *tensors: Tensor,
) -> dict[str, Tensor]:
    """Output and gradients of a function of x, weight and bias."""
    x, weight, bias = (t.detach().requires_grad_() for t in tensors)
    y = function(x, weight, bias)
    leaves = {"grad_weight": weight, "grad_bias": bias}
    if setting.input_gradient:
        leaves["grad_x"] = x
    upstream = noise(plan, *y.shape, salt=2).to(y.dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def _call_module(
    module: Callable[..., tuple[Tensor, Tensor]], mask: Tensor, x: Tensor
) -> tuple[Tensor, Tensor | None]:
    return module(x, mask)


def _outputs(operator: Operator, x: Tensor) -> Outputs:
    y, new_mask = operator(x)
    # A full mask repeats one plane over the channels: a view of the first says it all.
    return {"y": y} if new_mask is None else {"y": y, "new_mask": new_mask[:, :1]}
