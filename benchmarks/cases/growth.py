"""A network's training step as work grows: with more pictures, and with larger ones.

Both lines pass through one picture of the plan's size, which is measured in each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

from ..plan import Plan
from .base import CHANNELS_LAST, STEP, Case, Truth
from .network import Workload

PROVIDERS = ("reference", "fused", "plain")


def growth_cases(plan: Plan) -> Iterator[Case]:
    """Every batch and every size of the plan's growth."""
    if plan.growth is None:
        return
    for batch in plan.growth.batches:
        yield _case(dataclasses.replace(plan, batch=batch), "batch", batch)
    for size in plan.growth.sizes:
        yield _case(dataclasses.replace(plan, size=size), "size", size)


def _case(plan: Plan, axis: str, value: int) -> Case:
    assert plan.growth is not None
    case = _Workload(plan, plan.growth.network, STEP).case()
    return dataclasses.replace(
        case, group="growth", name=f"{case.name} {axis} {value}",
        seconds=plan.growth.seconds, memory=True, sweep=(axis, value),
    )  # fmt: skip


class _Workload(Workload):
    """In channels_last, the faster order of each provider."""

    def providers(self) -> list[tuple[str, str]]:
        """The published modules, ours, and what has no masks."""
        return [(name, CHANNELS_LAST) for name in PROVIDERS]

    def _truth(self) -> Mapping[str, Truth]:
        """The output alone: gradients in float64 would take more time and memory than all else, and
        the full run checks them at the usual size."""
        net = self._net("reference").double()
        images, masks = (t.double() for t in self._pictures())
        with torch.no_grad():
            return {"y": Truth(net(images, masks), self._output_tolerance)}
