"""Cases (b): region normalization, at the network's sizes and at 64 channels of 256 x 256."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .. import oracle
from ..baselines import LEVELS, Level
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, Case
from .inputs import activations, exactly, mixed, noise, rounded
from .region import RELU, Setting, Workload

BIG = "64x256x256"
"""The size at which memory traffic is all that counts; several target figures are set for it."""

BIG_CHANNELS = 64

PROVIDERS = (
    # In channels_last torch's own batch norm, which the reference calls, loses three digits where
    # means are far from zero: what is wrong is not timed.
    ("reference", CONTIGUOUS),
    ("fused", CONTIGUOUS),
    ("fused", CHANNELS_LAST),
    ("batch norm", CONTIGUOUS),
    ("batch norm", CHANNELS_LAST),
    ("warm copy", CONTIGUOUS),
)


def norm_cases(plan: Plan) -> Iterator[Case]:
    """RN-B (mask given) in the encoder, RN-L (mask learnt) in the decoder."""
    for kind in plan.big_norms:
        setting = Setting(kind, BIG_CHANNELS, plan.size, lambda: _big(plan))
        for mode in (FORWARD, BOTH):
            yield _case(plan, setting, BIG, mode)
    for level in LEVELS:
        if level.name in plan.norm_levels:
            setting = _setting(plan, level)
            for mode in (FORWARD, BOTH):
                yield _case(plan, setting, level.name, mode)


def _case(plan: Plan, setting: Setting, place: str, mode: str) -> Case:
    big = place == BIG
    providers = [*PROVIDERS, *([("clone", CONTIGUOUS)] if big and mode == FORWARD else [])]
    if plan.activations and mode == BOTH:
        layouts = (CONTIGUOUS, CHANNELS_LAST)
        providers += [(f"{name}{RELU}", x) for name in ("fused", "batch norm") for x in layouts]
    return Workload(plan, setting, mode).case(
        "norm",
        f"{setting.kind} {place}",
        f"{plan.batch}x{setting.channels}x{setting.side}x{setting.side}",
        plan.norm_seconds,
        providers,
        memory=big and mode == BOTH and plan.memory_norms,
    )


def _big(plan: Plan) -> tuple[Tensor, Tensor]:
    x, mask = mixed(plan, HOLE_RATIOS[0], BIG_CHANNELS)
    return x, 1 - mask


def _setting(plan: Plan, level: Level) -> Setting:
    """The norm behind a layer of the network."""
    depth = int(level.name[3:])
    side = plan.size // 2 ** (depth if level.encoder else depth - 1)
    kind = "RN_B" if level.encoder else "RN_L"
    return Setting(kind, level.out, side, lambda: _behind(plan, level))


def _behind(plan: Plan, level: Level) -> tuple[Tensor, Tensor]:
    """What that layer makes of what reaches it, and its holes."""
    x, planes = activations(plan, HOLE_RATIOS[0])[level.name]
    fan_in = x.shape[1] * level.kernel**2
    weight = noise(plan, level.out, x.shape[1], level.kernel, level.kernel, salt=4)
    with torch.no_grad(), exactly():
        y, new_mask = oracle.partial_conv(
            x,
            planes,
            level.channels,
            weight.float() * (2 / fan_in) ** 0.5,
            torch.zeros(level.out, device=x.device),
            level.stride,
            level.padding,
        )
    y, holes = rounded(plan, y, 1 - new_mask)
    return y, holes
