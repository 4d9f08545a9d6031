"""``pytest benchmarks``: the same cases under pytest-benchmark, in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from benchmarks import test_cases
from benchmarks.cases import BOTH, CONTIGUOUS, FORWARD, Candidate, Case, Truth, all_cases
from benchmarks.plan import QUICK

ROOT = Path(__file__).parent.parent
CASE = f"sweep/conv size 64/{BOTH}"


def _python(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    # pytest-benchmark measures nothing where it takes itself for one of several workers.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True,
        timeout=300, env=alone,
    )  # fmt: skip


def test_a_case_is_checked_stored_compared_and_drawn(tmp_path: Path) -> None:
    storage = f"--benchmark-storage={tmp_path.as_uri()}"
    short = ("--benchmark-min-rounds=1", "--benchmark-max-time=0.001")
    done = _python(
        "pytest",
        "benchmarks", "-k", "conv_size_64 and not torch", *short, storage, "--benchmark-save=one",
        f"--benchmark-histogram={tmp_path / 'histogram'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (stored,) = tmp_path.glob("*/0001_one.json")
    data = json.loads(stored.read_text("utf-8"))
    assert "node" not in data["machine_info"]
    found = {row["params"]["provider"]: row for row in data["benchmarks"]}
    case = next(case for case in all_cases(QUICK) if case.id == CASE)
    assert set(found) == {c.provider for c in case.candidates if not c.peer}
    assert {row["group"] for row in found.values()} == {CASE}
    assert found["fused"]["extra_info"]["match"]["ok"]
    assert found["fused"]["extra_info"]["memory"]["peak_bytes"] > 0
    assert "match" not in found["bound"]["extra_info"]
    (histogram,) = tmp_path.glob("histogram*.svg")
    assert "conv_size_64" in histogram.read_text("utf-8")

    compared = _python("pytest_benchmark", "--storage", tmp_path.as_uri(), "compare")
    assert compared.returncode == 0, compared.stderr
    assert "fused" in compared.stdout


@pytest.mark.parametrize("peer", [False, True])
def test_a_wrong_result_fails_unless_it_is_a_peers(peer: bool) -> None:
    wrong = Candidate("x", CONTIGUOUS, lambda: lambda: {"y": torch.ones(3)}, peer=peer)
    case = Case(
        group="layer",
        name="enc1",
        detail="fake",
        mode=FORWARD,
        shape=(3,),
        candidates=[wrong],
        truth=lambda: {"y": Truth(torch.zeros(3, dtype=torch.float64), 1e-6)},
        seconds=0.0,
    )
    benchmark: Any = Mock(extra_info={}, enabled=False)
    with nullcontext() if peer else pytest.raises(AssertionError, match="worst='y'"):
        test_cases.test_case("a", "x", CONTIGUOUS, {"a": case}, Mock(), benchmark)
    assert benchmark.extra_info["match"]["ok"] is False
    assert benchmark.called is peer


def test_pytest_alone_collects_no_benchmark(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("testpaths") == ["tests"]
