"""The candidates of a case on a device with several backends, and with graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from inpaint_ops import use_backend

from ..baselines import peers
from ..plan import Plan
from .base import Call, Candidate, Case, Outputs

OURS = "fused"
GRAPH = ", graph"
EAGER_ONLY = ("one-channel", "clone", "warm copy", *peers.PACKAGES)
"""Who is there to be compared with once: no graph of it would tell more."""


def expand(plan: Plan, case: Case) -> Case:
    """Ours on each of the plan's backends; then everybody's graph, where the device has graphs."""
    if not plan.backends:
        return case
    eager = [made for c in case.candidates for made in _by_backend(plan, case, c)]
    graphs = [
        dataclasses.replace(c, provider=c.provider + GRAPH, graph=True)
        for c in eager
        if not c.compiled and c.provider not in EAGER_ONLY
    ]
    return dataclasses.replace(case, candidates=[*eager, *graphs])


def _by_backend(plan: Plan, case: Case, candidate: Candidate) -> Iterator[Candidate]:
    """A candidate of ours for each backend; the published form, excused in half precision.

    float16 holds neither its epsilon nor its sums over a map, so it can be NaN there.
    """
    name = candidate.provider
    if not name.startswith(OURS):
        excused = name.startswith(("reference", "one-channel")) and case.dtype != "float32"
        yield dataclasses.replace(candidate, peer=candidate.peer or excused)
        return
    for backend in plan.backends:
        yield dataclasses.replace(
            candidate,
            provider=f"{OURS}-{backend}{name.removeprefix(OURS)}",
            build=_Bound(backend, candidate),
        )


@dataclasses.dataclass(frozen=True)
class _Bound:
    """Builds a candidate, and its call, under one backend."""

    backend: str
    candidate: Candidate

    def __call__(self) -> Call:
        with use_backend(self.backend):
            call = self.candidate.build()

        def run() -> Outputs:
            with use_backend(self.backend):
                return call()

        return run
