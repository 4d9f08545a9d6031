"""The same cases under pytest-benchmark, for its storage, comparison and histograms.

Here one candidate is timed after the other, so a slow spell of the machine falls on one of them:
``python -m benchmarks``, where they take turns, is what published figures come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import Case, Truth
from benchmarks.children import Children
from benchmarks.oracle import compare


def test_case(
    case: str,
    provider: str,
    layout: str,
    cases: dict[str, Case],
    weighing: Children,
    benchmark: BenchmarkFixture,
) -> None:
    """Right, and this fast; a peer may deviate by its own design, which its match then shows."""
    workload = cases[case]
    candidate = next(c for c in workload.candidates if (c.provider, c.layout) == (provider, layout))
    benchmark.extra_info.update(shape=list(workload.shape), dtype=workload.dtype)
    call = candidate.build()
    if candidate.checked:
        match = compare(call(), _truth(workload))
        benchmark.extra_info["match"] = match.to_json()
        assert match.ok or candidate.peer, match
    benchmark(call)
    if workload.memory and candidate.weighed and benchmark.enabled:
        benchmark.extra_info["memory"] = weighing.measure(workload, candidate)


@lru_cache(maxsize=1)
def _truth(case: Case) -> Mapping[str, Truth]:
    """Kept for the case's other candidates, which follow."""
    return case.truth()
