"""Cases (e): partial convolution in three dimensions, as for scans and stacks of fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_ops import partial_conv3d

from .. import oracle
from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, Call, Candidate, Case, Outputs, Truth
from .inputs import exactly, in_layout, noise, rounded
from .workload import Workload, with_gradients, without_gradients

# Channels in and out, depth, height and width, stride; 3x3x3 windows.
VOLUMES = (
    (16, 32, (24, 64, 64), 1),
    (32, 64, (16, 48, 48), 2),
    (64, 64, (8, 24, 24), 1),
)
PROVIDERS = tuple(
    (name, layout) for name in ("fused", "bound") for layout in (CONTIGUOUS, CHANNELS_LAST)
)


def volume_cases(plan: Plan) -> Iterator[Case]:
    """Forward + backward, a quarter of the volume missing in blocks."""
    for channels, out, size, stride in VOLUMES[: plan.volumes]:
        work = _Workload(plan, channels, out, size, stride)
        name = f"{channels}x{'x'.join(map(str, size))}"
        detail = f"{channels} → {out}, k3 s{stride}"
        yield work.case("volume", name, detail, plan.layer_seconds, PROVIDERS)


class _Workload(Workload):
    def __init__(
        self, plan: Plan, channels: int, out: int, size: tuple[int, ...], stride: int
    ) -> None:
        super().__init__(plan, BOTH)
        self.channels, self.out, self.size, self.stride = channels, out, size, stride

    @property
    def shape(self) -> tuple[int, ...]:
        """One volume, whatever the plan's batch."""
        return 1, self.channels, *self.size

    def _inputs(self) -> tuple[Tensor, Tensor]:
        blocks = noise(self.plan, 1, 1, 4, 6, 6, salt=5) > -0.67
        (mask,) = rounded(self.plan, F.interpolate(blocks.float(), self.size))
        return noise(self.plan, *self.shape, salt=4), mask

    def _parameters(self) -> tuple[Tensor, Tensor]:
        scale = (2 / (self.channels * 27)) ** 0.5
        weight = noise(self.plan, self.out, self.channels, 3, 3, 3) * scale
        return weight, noise(self.plan, self.out, salt=1)

    def candidate(self, provider: str, layout: str) -> Candidate:
        """Ours, or the plain convolution."""
        build = partial(self._build, provider, layout)
        return Candidate(provider, layout, build, checked=provider != "bound")

    def _build(self, provider: str, layout: str) -> Call:
        (features, mask), (kernel, offset) = self._inputs(), self._parameters()
        x = in_layout(features, layout).requires_grad_()
        weight, bias = in_layout(kernel, layout).requires_grad_(), offset.requires_grad_()

        def run() -> Outputs:
            if provider == "bound":
                return {"y": F.conv3d(x, weight, bias, self.stride, 1)}
            y, new_mask = partial_conv3d(x, mask, weight, bias, self.stride, 1)
            assert isinstance(new_mask, Tensor)
            return {"y": y, "new_mask": new_mask}

        leaves = {"grad_x": x, "grad_weight": weight, "grad_bias": bias}
        shape = without_gradients(run)["y"].shape
        upstream = in_layout(noise(self.plan, *shape, salt=2), layout)
        return partial(with_gradients, run, leaves, upstream)

    def truth(self) -> Mapping[str, Truth]:
        """The definition in float64."""
        x, mask = (t.double() for t in self._inputs())
        weight, bias = (t.double() for t in self._parameters())
        with exactly():
            count = F.conv3d(mask, torch.ones_like(mask[:, :, :3, :3, :3]), None, self.stride, 1)
            new_mask = count.clamp(0, 1)
            ratio = 27 / (count + 1e-8) * new_mask
            results = self._results(x * mask, weight, bias, ratio, new_mask, mask)
        positions = new_mask.numel()
        lengths = {
            "y": self.channels * 27,
            "grad_x": self.out * 27,
            "grad_weight": positions,
            "grad_bias": positions,
        }
        truth = {name: Truth(t, oracle.tolerance(lengths[name])) for name, t in results.items()}
        truth["new_mask"] = Truth(new_mask, 0.0)
        if not self.plan.backends:
            return truth
        leaves = (x * mask, weight, bias)
        own = self._results(*(t.to(self.plan.torch_dtype) for t in leaves))
        with exactly():
            exact = self._results(*leaves)
        return oracle.beside_own(truth, own, exact, self.plan.torch_dtype)

    def _results(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        ratio: Tensor | float = 1.0,
        new_mask: Tensor | float = 1.0,
        mask: Tensor | float = 1.0,
    ) -> dict[str, Tensor]:
        """Output and gradients of a convolution, of a partial one with its ratio and masks."""
        x, weight, bias = (t.detach().requires_grad_() for t in (x, weight, bias))
        offset = bias.view(1, -1, 1, 1, 1)
        y = (F.conv3d(x, weight, None, self.stride, 1) * ratio + offset) * new_mask
        upstream = noise(self.plan, *y.shape, salt=2).to(y.dtype)
        grad_x, grad_weight, grad_bias = torch.autograd.grad(y, [x, weight, bias], upstream)
        return {
            "y": y.detach(),
            "grad_x": grad_x * mask,
            "grad_weight": grad_weight,
            "grad_bias": grad_bias,
        }
