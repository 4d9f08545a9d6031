"""Cases (b): region normalization, at the network's sizes and at 64 channels of 256 x 256."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpaint_ops import RN_B, RN_L

from .. import oracle
from ..baselines import LEVELS, AttentionRegionNorm, Level, MaskedRegionNorm
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, Call, Candidate, Case, Outputs, Truth
from .inputs import activations, in_layout, noise, pictures

BIG = "64x256x256"
"""The size at which memory traffic is all that counts; several target figures are set for it."""


def norm_cases(plan: Plan) -> Iterator[Case]:
    """RN-B (mask given) in the encoder, RN-L (mask learnt) in the decoder."""
    wanted = [level for level in LEVELS if level.name in plan.norm_levels]
    places: list[tuple[str, Level | None]] = [("RN_B", None), ("RN_L", None)]
    places += [("RN_B" if level.encoder else "RN_L", level) for level in wanted]
    for kind, place in places:
        for mode in (FORWARD, BOTH):
            yield _Workload(plan, kind, place, mode).case()


class _Workload:
    """Tensors and candidates of one norm at one place, in one mode."""

    def __init__(self, plan: Plan, kind: str, level: Level | None, mode: str) -> None:
        self.plan, self.kind, self.level, self.mode = plan, kind, level, mode
        self.channels = 64 if level is None else level.out

    def case(self) -> Case:
        plan, level = self.plan, self.level
        side = plan.size
        if level is not None:
            depth = int(level.name[3:])
            side = plan.size // 2 ** (depth if level.encoder else depth - 1)
        candidates = [
            # In channels_last torch's own batch norm, which the reference calls, loses three digits
            # where means are far from zero: what is wrong is not timed.
            Candidate("reference", CONTIGUOUS, partial(self._build, self._reference, CONTIGUOUS)),
            Candidate("fused", CONTIGUOUS, partial(self._build, self._fused, CONTIGUOUS)),
            Candidate("fused", CHANNELS_LAST, partial(self._build, self._fused, CHANNELS_LAST)),
            *(
                Candidate("batch norm", layout, partial(self._build, self._plain, layout), False)
                for layout in (CONTIGUOUS, CHANNELS_LAST)
            ),
        ]
        if level is None and self.mode == FORWARD:
            candidates.append(Candidate("clone", CONTIGUOUS, self._clone, False))
            candidates.append(Candidate("warm copy", CONTIGUOUS, self._copy, False))
        place = BIG if level is None else level.name
        return Case(
            group="norm",
            name=f"{self.kind} {place}",
            detail=f"{plan.batch}x{self.channels}x{side}x{side}",
            mode=self.mode,
            shape=(plan.batch, self.channels, side, side),
            candidates=candidates,
            truth=self._truth,
            seconds=plan.norm_seconds,
            memory=level is None and self.mode == BOTH and plan.memory_norms,
        )

    def _input(self) -> tuple[Tensor, Tensor]:
        """Features and the mask of holes (1 = hole) that goes with them."""
        plan, ratio = self.plan, HOLE_RATIOS[0]
        if self.level is None:
            images, mask = pictures(plan, ratio)
            mixing = noise(plan, self.channels, 3, 1, 1, salt=3)
            return F.conv2d(images, mixing), 1 - mask
        level = self.level
        x, planes = activations(plan, ratio)[level.name]
        fan_in = x.shape[1] * level.kernel**2
        weight = noise(plan, level.out, x.shape[1], level.kernel, level.kernel, salt=4)
        bias = torch.zeros(level.out, device=x.device)
        with torch.no_grad():
            y, new_mask = oracle.partial_conv(
                x,
                planes,
                level.channels,
                weight * (2 / fan_in) ** 0.5,
                bias,
                level.stride,
                level.padding,
            )
        return y, 1 - new_mask

    def _build(self, make: Callable[[Tensor], nn.Module], layout: str) -> Call:
        features, holes = self._input()
        x = in_layout(features, layout)
        norm = make(x).to(self.plan.device)
        inputs = (
            (x, holes) if self.kind == "RN_B" and not isinstance(norm, nn.BatchNorm2d) else (x,)
        )
        if self.mode == FORWARD:
            return partial(_forward, norm, inputs)
        x.requires_grad_()
        upstream = in_layout(noise(self.plan, *x.shape, salt=5), layout)
        return partial(_both, norm, inputs, upstream)

    def _reference(self, x: Tensor) -> nn.Module:
        norm: nn.Module
        if self.kind == "RN_B":
            norm = MaskedRegionNorm(self.channels)
            salts = {name: i for i, (name, _) in enumerate(norm.named_parameters())}
            for name, parameter in norm.named_parameters():
                parameter.data = 0.3 * noise(self.plan, self.channels, salt=10 + salts[name])
            return norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            norm = AttentionRegionNorm(self.channels).to(self.plan.device)
        norm.threshold = _clear_threshold(norm, x)
        return norm

    def _fused(self, x: Tensor) -> nn.Module:
        reference = self._reference(x)
        norm: nn.Module
        if isinstance(reference, AttentionRegionNorm):
            norm = RN_L(self.channels, threshold=reference.threshold)
        else:
            norm = RN_B(self.channels)
        norm.load_state_dict(reference.state_dict())
        return norm

    def _plain(self, x: Tensor) -> nn.Module:
        return nn.BatchNorm2d(self.channels)

    def _clone(self) -> Call:
        x = self._input()[0]
        return lambda: {"y": x.clone()}

    def _copy(self) -> Call:
        x = self._input()[0]
        warm = x.clone()
        return lambda: {"y": warm.copy_(x)}

    def _truth(self) -> Mapping[str, Truth]:
        truth = _truth(self.plan, self.kind, self.level)
        return truth if self.mode == BOTH else {"y": truth["y"]}

    def truth_with_gradients(self) -> dict[str, Truth]:
        """Output and gradients in float64."""
        features, holes = self._input()
        reference = self._reference(features).double()
        x = features.double().requires_grad_()
        if isinstance(reference, AttentionRegionNorm):
            y = _attention_truth(reference, x)
        else:
            y = _masked_truth(dict(reference.named_parameters()), x, holes.double())
        positions = x.numel() // self.channels
        # Element-wise results inherit the error of two statistics, which are averages: it does
        # not grow with the region. Gradients of parameters are sums.
        close, sums = oracle.tolerance(256), oracle.tolerance(positions)
        truth = {"y": Truth(y.detach(), close)}
        leaves = {"grad_x": x} | {f"grad_{n}": p for n, p in reference.named_parameters()}
        upstream = noise(self.plan, *x.shape, salt=5).double()
        gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
        for name, gradient in zip(leaves, gradients, strict=True):
            truth[name] = Truth(gradient, close if name == "grad_x" else sums)
        return truth


@lru_cache(maxsize=1)
def _truth(plan: Plan, kind: str, level: Level | None) -> dict[str, Truth]:
    """Kept from the forward case for the one with gradients, which follows it."""
    return _Workload(plan, kind, level, BOTH).truth_with_gradients()


def _clear_threshold(norm: AttentionRegionNorm, x: Tensor) -> float:
    """A threshold that labels about a third of the pixels, with no attention value close to it.

    At its initialization no pixel reaches the published 0.8. And were a value as close to the
    threshold as rounding is large, two correct implementations could label it differently.
    """
    with torch.no_grad():
        attention = norm.double().sa(x.double())[0].flatten().sort().values
    norm.float()
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


def _forward(norm: nn.Module, inputs: tuple[Tensor, ...]) -> Outputs:
    with torch.no_grad():
        return {"y": norm(*inputs)}


def _both(norm: nn.Module, inputs: tuple[Tensor, ...], upstream: Tensor) -> Outputs:
    y = norm(*inputs)
    leaves = {"grad_x": inputs[0]} | {f"grad_{n}": p for n, p in norm.named_parameters()}
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {"y": y, **dict(zip(leaves, gradients, strict=True))}
