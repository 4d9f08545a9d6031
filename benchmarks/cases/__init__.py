"""The workloads: layers, norms, whole networks of the paper's U-Net, networks of public code before
and after they are patched, holes, volumes, sweeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..plan import Plan
from .base import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, STEP, Call, Candidate, Case, Truth
from .growth import growth_cases
from .holes import hole_cases
from .layer import layer_cases
from .network import network_cases
from .norm import norm_cases
from .patched import patched_cases
from .sweep import sweep_cases
from .variants import expand
from .volume import volume_cases

__all__ = [
    "BOTH",
    "CHANNELS_LAST",
    "CONTIGUOUS",
    "FORWARD",
    "STEP",
    "Call",
    "Candidate",
    "Case",
    "Truth",
    "all_cases",
]


def all_cases(plan: Plan) -> Iterator[Case]:
    """Every case of a plan. Cheap: tensors are made when a candidate or a truth is asked for.

    Norms come first, in a young process: there a large output is fresh memory. Later the allocator
    has freed pieces at hand that are as large, and a copy without page faults is another bound.
    """
    makers = (
        norm_cases, network_cases, patched_cases, hole_cases, layer_cases, volume_cases,
        sweep_cases, growth_cases,
    )  # fmt: skip
    for dtype in plan.dtypes:
        there = dataclasses.replace(plan, dtype=dtype)
        for maker in makers:
            yield from (expand(plan, case) for case in maker(there))
