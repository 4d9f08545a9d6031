"""Sweeps: one 3x3 layer and one region norm, forward + backward, along one axis at a time.

All lines pass through the plan's centre; there each axis is measured by itself, so how far the
three results are apart says how well a time repeats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import Tensor

from ..baselines import peers
from ..plan import Plan, Sweep
from . import conv, region
from .base import BOTH, CONTIGUOUS, Case
from .inputs import mixed

CONV = tuple((p, CONTIGUOUS) for p in ("reference", peers.TORCH_PCONV, "fused", "bound"))
NORM = tuple((p, CONTIGUOUS) for p in ("reference", "fused", "batch norm", "warm copy"))


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a sweep measures; ``axis`` says which of the three differs from the centre."""

    axis: str
    value: float
    size: int
    hole_ratio: float
    channels: int

    @property
    def label(self) -> str:
        """The axis and the value on it, as ids and tables show it."""
        return f"{self.axis} " + (f"{self.value:.0%}" if self.axis == "holes" else f"{self.value}")


def points(sweep: Sweep) -> Iterator[Point]:
    """The points of the three lines, axis by axis."""
    size, ratio, channels = sweep.size, sweep.hole_ratio, sweep.channel_count
    yield from (Point("size", s, s, ratio, channels) for s in sweep.sizes)
    yield from (Point("holes", r, size, r, channels) for r in sweep.hole_ratios)
    yield from (Point("channels", c, size, ratio, c) for c in sweep.channels)


def sweep_cases(plan: Plan) -> Iterator[Case]:
    """Every point of the plan's sweep, for the layer and for the norm."""
    if plan.sweep is None:
        return
    for point in points(plan.sweep):
        there = dataclasses.replace(plan, size=point.size)
        yield _norm(there, point, plan.sweep.seconds)
        yield _conv(there, point, plan.sweep.seconds)


def _conv(plan: Plan, point: Point, seconds: float) -> Case:
    def inputs() -> tuple[Tensor, Tensor]:
        return mixed(plan, point.hole_ratio, point.channels)

    c = point.channels
    setting = conv.Setting((c,), c, kernel=3, stride=1, padding=1, side=plan.size, inputs=inputs)
    return conv.Workload(plan, setting, BOTH).case(
        "sweep", f"conv {point.label}", _describe(plan, point), seconds, CONV,
        memory=True, sweep=(point.axis, point.value),
    )  # fmt: skip


def _norm(plan: Plan, point: Point, seconds: float) -> Case:
    def inputs() -> tuple[Tensor, Tensor]:
        x, mask = mixed(plan, point.hole_ratio, point.channels)
        return x, 1 - mask

    setting = region.Setting("RN_B", point.channels, plan.size, inputs)
    return region.Workload(plan, setting, BOTH).case(
        "sweep", f"RN_B {point.label}", _describe(plan, point), seconds, NORM,
        memory=True, sweep=(point.axis, point.value),
    )  # fmt: skip


def _describe(plan: Plan, point: Point) -> str:
    side = plan.size
    return f"{plan.batch}x{point.channels}x{side}x{side}, {point.hole_ratio:.0%} holes"
