"""Cases (a): each layer of the U-Net, as a partial convolution with bias.

The network's own layers have no bias where a norm follows; here every layer has one, because the
bound, ``F.conv2d`` with bias, has one too, and both then do the same work.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..baselines import LEVELS, Level, peers
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, Case
from .conv import Setting, Workload
from .inputs import activations, rounded

PROVIDERS = (
    ("reference", CONTIGUOUS),
    ("one-channel", CONTIGUOUS),
    (peers.TORCH_PCONV, CONTIGUOUS),
    ("fused", CONTIGUOUS),
    ("fused", CHANNELS_LAST),
    ("fused, C-channel mask", CONTIGUOUS),
    ("bound", CONTIGUOUS),
    ("bound", CHANNELS_LAST),
)


def layer_cases(plan: Plan) -> Iterator[Case]:
    """Every layer forward and forward + backward; a few of them also with large holes."""
    light, heavy = HOLE_RATIOS
    for level in LEVELS:
        for ratio in (light, heavy):
            wanted = plan.layers if ratio == light else plan.heavy_layers
            if level.name in wanted:
                yield from _cases(plan, level, ratio)


def describe(level: Level) -> str:
    """Geometry of a layer, as tables show it."""
    inputs = "+".join(str(c) for c in level.channels)
    return f"{inputs} → {level.out}, k{level.kernel} s{level.stride}"


def _cases(plan: Plan, level: Level, ratio: float) -> Iterator[Case]:
    """Both modes of one layer at one hole ratio."""

    def inputs() -> tuple[Tensor, Tensor]:
        x, planes = rounded(plan, *activations(plan, ratio)[level.name])
        return x, planes

    setting = Setting(
        level.channels,
        level.out,
        level.kernel,
        level.stride,
        level.padding,
        side=plan.size // 2 ** (int(level.name[3:]) - 1),
        inputs=inputs,
        # The first layer's input is the picture: nobody asks for its gradient.
        input_gradient=level.name != "enc1",
    )
    suffix = "" if ratio == HOLE_RATIOS[0] else f"@{ratio:.0%}"
    for mode in (FORWARD, BOTH):
        providers = list(PROVIDERS)
        if level.name in plan.compiled_layers and not suffix and mode == BOTH:
            providers.insert(1, ("reference-compiled", CONTIGUOUS))
        yield Workload(plan, setting, mode).case(
            "layer", level.name + suffix, describe(level), plan.layer_seconds, providers
        )
