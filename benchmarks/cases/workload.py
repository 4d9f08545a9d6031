"""What layers, norms and sweeps share: from a workload in one mode to its case."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..plan import Plan
from .base import Call, Candidate, Case, Outputs, Truth


class Workload(abc.ABC):
    """The candidates and the truth of one operator at one place, in one mode."""

    def __init__(self, plan: Plan, mode: str) -> None:
        """Nothing is allocated before a candidate is built."""
        self.plan, self.mode = plan, mode

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the features."""

    @property
    def least_bytes(self) -> int | None:
        """What any implementation must move, where that is the bound."""
        return None

    @abc.abstractmethod
    def candidate(self, provider: str, layout: str) -> Candidate | None:
        """One way to compute it; None for a peer that cannot, or is not installed."""

    @abc.abstractmethod
    def truth(self) -> Mapping[str, Truth]:
        """What the candidates must return."""

    def case(
        self,
        group: str,
        name: str,
        detail: str,
        seconds: float,
        providers: Sequence[tuple[str, str]],
        memory: bool = False,
        sweep: tuple[str, float] | None = None,
    ) -> Case:
        """The case of these (provider, layout)."""
        found = [self.candidate(*pair) for pair in providers]
        return Case(
            group=group,
            name=name + self.plan.suffix,
            detail=detail,
            mode=self.mode,
            shape=self.shape,
            candidates=[candidate for candidate in found if candidate is not None],
            truth=self.truth,
            seconds=seconds,
            memory=memory,
            dtype=self.plan.dtype,
            least_bytes=self.least_bytes,
            sweep=sweep,
        )


def without_gradients(run: Call) -> Outputs:
    """What ``run`` computes when nobody will ask for gradients."""
    with torch.no_grad():
        return run()


def with_gradients(run: Call, leaves: Mapping[str, Tensor], upstream: Tensor) -> Outputs:
    """What ``run`` computes, and the gradients of ``leaves`` for that gradient of its ``y``."""
    outputs = run()
    gradients = torch.autograd.grad(outputs["y"], list(leaves.values()), upstream)
    return {**outputs, **dict(zip(leaves, gradients, strict=True))}
