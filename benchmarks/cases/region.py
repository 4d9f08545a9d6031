"""One region norm in every form it is measured in: what the norms' cases and sweeps share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpaint_ops import RN_B, RN_L

from .. import oracle
from ..baselines import AttentionRegionNorm, MaskedRegionNorm
from ..plan import Plan
from . import workload
from .base import BOTH, FORWARD, Call, Candidate, Outputs, Truth
from .inputs import exactly, in_layout, noise
from .workload import with_gradients, without_gradients

MAPS = {("RN_B", FORWARD): 2, ("RN_B", BOTH): 5, ("RN_L", FORWARD): 3, ("RN_L", BOTH): 8}
"""How many maps of x's size any implementation must move, if a cache holds a channel, not a map.

Forward reads x and writes y; backward reads x and the gradient and writes another. RN_L finds its
regions in the mean and the maximum over all channels, so all of x is read before its first sum by
region, and all of x and the gradient before the first value of grad_x: each is read twice.
"""


RELU = ", relu"
"""Behind a provider's name: with the activation that follows it. Checked without it."""

LEARNT_TOLERANCE = 0.1
"""Root mean square, of RN_L in less than single precision: its 7x7 convolution is rounded, or TF32,
and moves pixels that are close to the threshold to the other region."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Kind and size of a norm, and the function that makes its features and holes (1 = hole)."""

    kind: str
    channels: int
    side: int
    inputs: Callable[[], tuple[Tensor, Tensor]]


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
        return self.plan.batch, self.setting.channels, side, side

    @property
    def least_bytes(self) -> int:
        """MAPS, and in either direction the mask that RN_B is given."""
        batch, channels, height, width = self.shape
        planes = channels * MAPS[self.setting.kind, self.mode]
        if self.setting.kind == "RN_B":
            planes += 1 if self.mode == FORWARD else 2
        return planes * batch * height * width * self.plan.torch_dtype.itemsize

    def candidate(self, provider: str, layout: str) -> Candidate:
        """One of the makers below."""
        copies: Mapping[str, Callable[[], Call]] = {"clone": self._clone, "warm copy": self._copy}
        if provider in copies:
            return Candidate(provider, layout, copies[provider], checked=False)
        makers: Mapping[str, Callable[[Tensor], nn.Module]] = {
            "reference": self._reference,
            "fused": self._fused,
            "batch norm": self._plain,
        }
        name = provider.removesuffix(RELU)
        relu = name != provider
        build = partial(self._build, makers[name], layout, relu)
        return Candidate(provider, layout, build, checked=name != "batch norm" and not relu)

    def _build(self, make: Callable[[Tensor], nn.Module], layout: str, relu: bool) -> Call:
        features, holes = self.setting.inputs()
        x = in_layout(features, layout)
        norm = make(x).to(self.plan.device)
        masked = self.setting.kind == "RN_B" and not isinstance(norm, nn.BatchNorm2d)
        run = partial(_outputs, norm, (x, holes) if masked else (x,), relu)
        if self.mode == FORWARD:
            return partial(without_gradients, run)
        leaves = {"grad_x": x.requires_grad_()}
        leaves |= {f"grad_{name}": p for name, p in norm.named_parameters()}
        upstream = in_layout(noise(self.plan, *x.shape, salt=5), layout)
        return partial(with_gradients, run, leaves, upstream)

    def _reference(self, x: Tensor) -> nn.Module:
        norm: nn.Module
        if self.setting.kind == "RN_B":
            norm = MaskedRegionNorm(self.setting.channels)
            for i, parameter in enumerate(norm.parameters()):
                parameter.data = 0.3 * noise(self.plan, self.setting.channels, salt=10 + i)
            return norm.to(self.plan.torch_dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            norm = AttentionRegionNorm(self.setting.channels)
        norm.to(self.plan.device, self.plan.torch_dtype)
        with exactly():
            norm.threshold = clear_threshold(norm, x)
        return norm

    def _fused(self, x: Tensor) -> nn.Module:
        reference = self._reference(x)
        norm: nn.Module
        if isinstance(reference, AttentionRegionNorm):
            norm = RN_L(self.setting.channels, threshold=reference.threshold)
        else:
            norm = RN_B(self.setting.channels)
        norm.to(self.plan.torch_dtype).load_state_dict(reference.state_dict())
        return norm

    def _plain(self, x: Tensor) -> nn.Module:
        """Its parameters stay float32, which is what cuDNN wants beside half precision."""
        return nn.BatchNorm2d(self.setting.channels)

    def _clone(self) -> Call:
        x = self.setting.inputs()[0]
        return lambda: {"y": x.clone()}

    def _copy(self) -> Call:
        x = self.setting.inputs()[0]
        warm = x.clone()
        return lambda: {"y": warm.copy_(x)}

    def truth(self) -> Mapping[str, Truth]:
        """Output, in the other mode also the gradients."""
        truth = _truth(self.plan, self.setting)
        return truth if self.mode == BOTH else {"y": truth["y"]}

    def truth_with_gradients(self) -> dict[str, Truth]:
        """Output and gradients in float64."""
        features, holes = self.setting.inputs()
        reference = self._reference(features).to(self.plan.device).double()
        x = features.double().requires_grad_()
        learnt = isinstance(reference, AttentionRegionNorm)
        with exactly():
            if isinstance(reference, AttentionRegionNorm):
                y = _attention_truth(reference, x)
            else:
                y = _masked_truth(dict(reference.named_parameters()), x, holes.double())
            leaves = {"grad_x": x} | {f"grad_{n}": p for n, p in reference.named_parameters()}
            upstream = noise(self.plan, *x.shape, salt=5)
            gradients = torch.autograd.grad(y, list(leaves.values()), upstream.double())
        positions = x.numel() // self.setting.channels
        # Element-wise results inherit the error of two statistics, which are averages: it does
        # not grow with the region. Gradients of parameters are sums.
        close, sums = oracle.tolerance(256), oracle.tolerance(positions)
        results = {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}
        if learnt and self.plan.backends:
            return {n: Truth(t, LEARNT_TOLERANCE, mean_square=True) for n, t in results.items()}
        truth = {
            name: Truth(value, close if name in ("y", "grad_x") else sums)
            for name, value in results.items()
        }
        if not self.plan.backends:
            return truth
        own = self._batch_norm(features, upstream)
        exact = self._batch_norm(features.double(), upstream.double())
        for name in list(truth)[2:]:  # of parameters: all are sums such as batch norm's two
            worst = "grad_bias" if name.endswith("beta") else "grad_weight"
            own[name], exact[name] = own[worst], exact[worst]
        return oracle.beside_own(truth, own, exact, self.plan.torch_dtype)

    def _batch_norm(self, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
        """Batch norm's output and gradients for this x, in its dtype."""
        leaf = x.detach().requires_grad_()
        norm = nn.BatchNorm2d(self.setting.channels).to(x.device, x.dtype)
        y = norm(leaf)
        grad, *sums = torch.autograd.grad(y, [leaf, *norm.parameters()], upstream)
        return {"y": y.detach(), "grad_x": grad, "grad_weight": sums[0], "grad_bias": sums[1]}


@lru_cache(maxsize=1)
def _truth(plan: Plan, setting: Setting) -> dict[str, Truth]:
    """Kept from the forward case for the one with gradients, which follows it."""
    return Workload(plan, setting, BOTH).truth_with_gradients()


def clear_threshold(norm: AttentionRegionNorm, x: Tensor) -> float:
    """A threshold that labels about a third of the pixels, with no attention value close to it.

    At its initialization no pixel reaches the published 0.8. And were a value as close to the
    threshold as rounding is large, two correct implementations could label it differently.
    """
    with torch.no_grad():
        attention = copy.deepcopy(norm).double().sa(x.double())[0].flatten().sort().values
    count = attention.numel()
    middle = attention[int(0.60 * count) : max(int(0.75 * count), int(0.60 * count) + 2)]
    gaps = middle.diff()
    widest = int(gaps.argmax())
    return float(middle[widest] + gaps[widest] / 2)


def _masked_truth(parameters: Mapping[str, Tensor], x: Tensor, holes: Tensor) -> Tensor:
    row = {name: p.view(1, -1, 1, 1) for name, p in parameters.items()}
    core = oracle.region_core(x, holes)
    shift = row["foreground_beta"] + row["background_beta"]
    gain = holes * (1 + row["foreground_gamma"]) + (1 - holes) * (1 + row["background_gamma"])
    return core * gain + shift


def _attention_truth(norm: AttentionRegionNorm, x: Tensor) -> Tensor:
    attention, gamma, beta = norm.sa(x)
    label = (attention.detach() >= norm.threshold).to(x.dtype)
    y: Tensor = oracle.region_core(x, label) * (1 + gamma) + beta
    return y


def _outputs(norm: nn.Module, inputs: tuple[Tensor, ...], relu: bool) -> Outputs:
    y: Tensor = norm(*inputs)
    return {"y": F.relu(y, inplace=True) if relu else y}
