"""The suite checks results, interleaves providers and fails when it must. Nothing is timed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import figures, memory, oracle, results, runner, session, tables
from benchmarks.__main__ import main
from benchmarks.cases import BOTH, CONTIGUOUS, Candidate, Case, Truth, all_cases
from benchmarks.children import children
from benchmarks.devices import HOST
from benchmarks.memory import measure
from benchmarks.plan import FULL, QUICK, SWEEP, Plan


@pytest.mark.parametrize(
    ("found", "ok"),
    [
        ([1.0, 2.0, 4.0], True),
        ([1.0, 2.0, 4.0 + 3e-6], True),
        ([1.0, 2.0, 4.1], False),
        ([1.0, float("nan"), 4.0], False),
        ([1.0, 2.0], False),
        (None, False),
    ],
)
def test_comparison(found: list[float] | None, ok: bool) -> None:
    truth = {"y": Truth(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64), 1e-6)}
    outputs = {} if found is None else {"y": torch.tensor(found, dtype=torch.float64)}
    match = oracle.compare(outputs, truth)
    assert match.ok is ok
    assert match.worst == "y"


def test_comparison_reports_the_worst_and_admits_no_error_where_none_is_allowed() -> None:
    truth = {
        "mask": Truth(torch.ones(4), 0.0),
        "y": Truth(torch.ones(4), 1e-3),
        "gradient": Truth(torch.zeros(4), 1e-3),
    }
    good = {"mask": torch.ones(4), "y": torch.ones(4) + 1e-4, "gradient": torch.zeros(4)}
    assert oracle.compare(good, truth).worst == "y"
    assert oracle.compare(good, truth).ok
    bad = {**good, "mask": torch.ones(4) - 1e-6}
    assert oracle.compare(bad, truth).worst == "mask"
    assert not oracle.compare(bad, truth).ok


def test_rounds_interleave_every_provider() -> None:
    calls: list[str] = []

    def recorder(name: str) -> Callable[[], Mapping[str, Tensor]]:
        return lambda: calls.append(name) or {}  # type: ignore[func-returns-value]

    names = ["a", "b", "c", "d"]
    entries = [
        runner.Entry(Candidate(name, CONTIGUOUS, lambda: dict), recorder(name)) for name in names
    ]
    runner.time_rounds(entries, seconds=60, device=HOST, min_rounds=3, max_rounds=12)
    rounds = [calls[i : i + 4] for i in range(0, len(calls), 4)]
    assert len(rounds) == 12
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) > 3
    assert all(len(entry.milliseconds) == len(entry.faults) == 12 for entry in entries)


def test_rounds_stop_when_the_time_is_used_up_but_not_too_early() -> None:
    entry = runner.Entry(Candidate("a", CONTIGUOUS, lambda: dict), dict)
    runner.time_rounds([entry], seconds=0.0, device=HOST, min_rounds=4, max_rounds=9)
    assert len(entry.milliseconds) == 4


@pytest.mark.parametrize(
    ("later", "share"), [((20.0, 9.0, 5.0), 0.2), ((20.0, 5.0, 5.2), 0.0), ((0.5, 0.5, 0.0), None)]
)
def test_busy_neighbours_are_noticed(
    later: tuple[float, float, float], share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([(0.0, 0.0, 0.0), later])
    monkeypatch.setattr(runner.Bystanders, "_now", staticmethod(lambda: next(moments)))
    assert runner.Bystanders().share() == share


def _fake_case(fused: Callable[[], Mapping[str, Tensor]]) -> Case:
    def reference() -> Mapping[str, Tensor]:
        return {"y": torch.ones(3)}

    return Case(
        group="layer",
        name="enc1",
        detail="fake",
        mode="forward",
        shape=(3,),
        candidates=[
            Candidate("reference", CONTIGUOUS, lambda: reference),
            Candidate("fused", CONTIGUOUS, lambda: fused),
            Candidate("bound", CONTIGUOUS, lambda: dict, checked=False),
        ],
        truth=lambda: {"y": Truth(torch.ones(3, dtype=torch.float64), 1e-6)},
        seconds=0.01,
    )


def _broken() -> Mapping[str, Tensor]:
    raise RuntimeError("no kernel in /some/where for this")


@pytest.mark.parametrize(
    ("fused", "status"),
    [
        (lambda: {"y": torch.ones(3)}, 0),
        (lambda: {"y": torch.ones(3) * 1.01}, 1),
        (_broken, 1),
    ],
    ids=["right", "wrong", "broken"],
)
def test_a_wrong_or_missing_result_fails_the_run(
    fused: Callable[[], Mapping[str, Tensor]],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def select(plan: Plan, only: str | None) -> list[Case]:
        return [_fake_case(fused)]

    monkeypatch.setattr(session, "select", select)
    assert main(["--quick", "--output", str(tmp_path)]) == status
    (path,) = tmp_path.glob("*.json")
    assert main(["report", str(path)]) == status
    stored = results.load(path)
    assert [row.provider for row in stored.rows] == ["reference", "fused", "bound"]
    assert "/some/where" not in path.read_text("utf-8")


def test_a_broken_baseline_is_shown_but_does_not_fail_the_run() -> None:
    case = _fake_case(lambda: {"y": torch.ones(3)})
    broken = Candidate("reference", CONTIGUOUS, lambda: _broken)
    rows = runner.run_case(
        dataclasses.replace(case, candidates=[broken, *case.candidates[1:]]), HOST, 1, 1
    )
    assert rows[0].error is not None
    assert rows[0].median is None
    assert not any(row.failed for row in rows)


def test_memory_counts_what_a_call_allocates() -> None:
    kept: list[Tensor] = []

    def call() -> Mapping[str, Tensor]:
        kept[:] = [torch.ones(24 << 20)]
        return {}

    found = measure(Candidate("fused", CONTIGUOUS, lambda: call), 2)
    assert found["peak_bytes"] > 90e6
    assert found["isolated_ms"] > 0


def test_memory_of_real_cases_in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_PERTURB_")  # it would touch pages that the case never does
    cases = {case.id: case for case in all_cases(QUICK)}
    known = cases[f"sweep/conv size 64/{BOTH}"]
    unknown = dataclasses.replace(known, name="nothing")
    fused = next(c for c in known.candidates if c.provider == "fused")
    with children(QUICK, 1) as running:
        first = running.measure(known, fused)
        assert "ValueError" in running.measure(unknown, fused)["error"]
        again = running.measure(known, fused)
    # y, x without its holes, and its gradient are alive at once: 512 KiB each.
    assert 1.5e6 < first["peak_bytes"] < 50e6
    assert abs(again["peak_bytes"] - first["peak_bytes"]) < 2e6


def test_a_child_that_dies_is_an_error_and_the_next_one_lives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = _fake_case(lambda: {"y": torch.ones(3)})
    with children(QUICK, 1) as running:
        monkeypatch.setattr(
            running, "_command", [sys.executable, "-c", "raise OSError('no torch')"]
        )
        assert running.measure(case, case.candidates[1]) == {"error": "OSError: no torch"}
        reply = 'input(); print(\'{"peak_bytes": 1, "more": false}\')'
        monkeypatch.setattr(running, "_command", [sys.executable, "-c", reply])
        assert running.measure(case, case.candidates[1]) == {"peak_bytes": 1}
        assert running.measure(case, case.candidates[1]) == {"peak_bytes": 1}


@pytest.mark.parametrize(("code", "words"), [(-14, "180 s"), (-9, "signal 9"), (1, "status 1")])
def test_how_a_child_ended_is_said(code: int, words: str) -> None:
    assert words in memory.ending(code)


@pytest.mark.parametrize(
    "wanted",
    [
        f"norm/RN_B enc2/{BOTH}",
        f"norm/RN_L dec2/{BOTH}",
        f"layer/enc6/{BOTH}",
        "patched/naoto0804, five levels/forward",
        f"sweep/conv holes 100%/{BOTH}",
        f"sweep/RN_B holes 0%/{BOTH}",
    ],
)
def test_real_cases_match_the_oracle(wanted: str) -> None:
    case = next(c for c in all_cases(QUICK) if c.id == wanted)
    rows = runner.run_case(dataclasses.replace(case, seconds=0.0), HOST, 1, 1)
    assert [row.error for row in rows] == [None] * len(rows)
    checked = [row.match["ok"] for row in rows if row.match is not None]
    assert checked == [True] * sum(c.checked for c in case.candidates)


def test_holes_alone_match_the_whole_network_in_float64() -> None:
    plan = dataclasses.replace(FULL, filled_size=64, hole_seconds=0.0)
    cases = [case for case in all_cases(plan) if case.group == "holes"]
    assert [case.name for case in cases] == [
        *(f"square {share}%" for share in (1, 5, 10, 25, 50)), "strokes 15%",
    ]  # fmt: skip
    rows = runner.run_case(cases[2], HOST, 1, 1)
    assert [row.provider for row in rows] == ["fused", "fused, holes only", "fused, encoder"]
    assert [row.error for row in rows] == [None] * 3
    assert [row.match and row.match["ok"] for row in rows] == [True, True, None]
    (line,) = tables.holes(figures.Rows(rows)).columns[1].cells
    assert float(str(line)) > 0


@pytest.mark.parametrize("plan", [FULL, QUICK, SWEEP], ids=lambda plan: plan.name)
def test_case_ids_and_candidates_are_unique(plan: Plan) -> None:
    cases = list(all_cases(plan))
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        keys = [(c.provider, c.layout) for c in case.candidates]
        assert len(set(keys)) == len(keys)
        # Volumes are held against the plain convolution alone, holes against the whole network.
        first = "fused" if case.group in ("volume", "holes") else "reference"
        assert first in case.candidates[0].provider


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "layer/enc1/"]) == 0
    assert capsys.readouterr().out.split() == ["layer/enc1/forward", f"layer/enc1/{BOTH}"]
    assert main(["--plan", "sweep", "--list", "--only", "conv size"]) == 0
    sizes = [f"sweep/conv size {size}/{BOTH}" for size in (64, 128, 256, 512)]
    assert capsys.readouterr().out.splitlines() == sizes
    with pytest.raises(SystemExit):
        main(["--only", "no such case"])
    with pytest.raises(SystemExit):
        main(["--threads", "0"])
