"""The comparison of two results, and its gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import compare, results
from benchmarks.results import Result, Row

Spread = tuple[float, float, float]


def _row(provider: str, times: Spread, peak: int | None = None, ok: bool = True) -> Row:
    low, middle, high = times
    return Row(
        group="layer", case="enc1", detail="", provider=provider, mode="forward",
        layout="contiguous", dtype="float32", shape=[1], rounds=5, peak_bytes=peak,
        quantiles_ms={"0.1": low, "0.25": low, "0.5": middle, "0.75": high, "0.9": high},
        match={"ok": ok, "worst": "y", "error": 0.0, "tolerance": 1.0},
    )  # fmt: skip


def _result(*rows: Row, date: str = "2026-01-02T03:04:05Z") -> Result:
    return Result(
        date=date,
        machine={"cpu": "Some CPU", "gpu": None, "threads": 2, "torch_simd": "AVX2"},
        versions={"torch": "2.13.0"},
        commit={"hash": "0123456789abcdef", "dirty": False},
        arguments={"plan": "full", "device": "cpu", "only": None},
        rows=list(rows),
    )


def _run(reference: float, fused: Spread, peak: int | None = None, ok: bool = True) -> Result:
    return _result(
        _row("reference", (reference,) * 3), _row("fused", fused, peak, ok),
        _row("bound", (1, 1, 1)),
    )  # fmt: skip


GB = 10**9
BEFORE = _run(100.0, (49.0, 50.0, 51.0), GB)

CASES = {
    "the same on a machine of half the speed": (_run(200.0, (98.0, 100.0, 102.0), GB), ""),
    "slower": (_run(100.0, (59.0, 60.0, 61.0), GB), "slower"),
    "within the tolerance": (_run(100.0, (53.0, 54.0, 55.0), GB), ""),
    "slower, but within the spread": (_run(100.0, (50.5, 60.0, 70.0), GB), ""),
    "faster": (_run(100.0, (39.0, 40.0, 41.0), GB), "faster"),
    "slower than a slower reference allows": (_run(80.0, (49.0, 50.0, 51.0), GB), "slower"),
    "larger": (_run(100.0, (49.0, 50.0, 51.0), GB * 6 // 5), "larger"),
    "wrong": (_run(100.0, (9.0, 10.0, 11.0), GB, ok=False), "wrong"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    after, verdict = CASES[case]
    (change,) = compare.compare(BEFORE, after)
    assert change.verdict == verdict
    assert change.bad == (verdict in ("slower", "larger", "wrong"))


def test_a_few_megabytes_are_no_growth() -> None:
    small, more = _run(100.0, (50.0,) * 3, 10 << 20), _run(100.0, (50.0,) * 3, 13 << 20)
    (change,) = compare.compare(small, more)
    assert (change.memory, change.verdict) == (1.3, "")


def test_absolute_times_and_tolerance() -> None:
    after = CASES["the same on a machine of half the speed"][0]
    (change,) = compare.compare(BEFORE, after, absolute=True)
    assert (change.before, change.after, change.verdict) == (50.0, 100.0, "slower")
    slower = CASES["slower"][0]
    assert compare.compare(BEFORE, slower, tolerance=0.5)[0].verdict == ""


def test_rows_that_come_and_go() -> None:
    more = _result(*BEFORE.rows, _row("fused, C-channel mask", (1, 1, 1)))
    assert [c.verdict for c in compare.compare(BEFORE, more)] == ["", "new"]
    assert [c.verdict for c in compare.compare(more, BEFORE)] == ["", "gone"]
    # Cases that one run did not select are no loss.
    assert compare.compare(BEFORE, _result()) == []


def test_the_command_prints_and_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = results.store(BEFORE, tmp_path / "a")
    b = results.store(CASES["slower"][0], tmp_path / "b")
    assert command.main(["compare", str(a), str(a)]) == 0
    assert command.main(["compare", str(a), str(b)]) == 1
    assert command.main(["compare", str(a), str(b), "--tolerance", "0.5"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "layer/enc1/forward fused 0.5 0.6 1.2 1 slower" in text
    assert "1 slower" in text
    with pytest.raises(SystemExit):
        command.main(["compare", str(a), str(results.store(_result(), tmp_path / "c"))])
    with pytest.raises(SystemExit):
        command.main(["compare", str(a), str(b), "--tolerance", "-1"])
