"""Result files, target figures, report, plot and the README's table."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import figures, plots, readme, report, results
from benchmarks.cases import CONTIGUOUS
from benchmarks.results import Result, Row


def _row(
    group: str, case: str, mode: str, provider: str, ms: float, peak: int | None = None
) -> Row:
    return Row(
        group=group,
        case=case,
        detail="",
        provider=provider,
        mode=mode,
        layout=CONTIGUOUS,
        dtype="float32",
        shape=[1],
        quantiles_ms=results.quantiles([ms]),
        rounds=1,
        peak_bytes=peak,
        match=None if provider == "bound" else {"ok": True},
    )


def _result(rows: list[Row]) -> Result:
    return Result(
        date="2026-01-02T03:04:05Z",
        machine={"cpu": "Some(R) CPU @ 1 GHz", "gpu": None, "threads": 2, "torch_simd": "AVX2"},
        versions={"torch": "2.13.0"},
        commit={"hash": "0123456789abcdef", "dirty": False},
        arguments={"plan": "full", "device": "cpu", "only": None},
        rows=rows,
        figures=figures.compute(rows),
    )


def _step_rows(fused: float) -> list[Row]:
    key = ("network", "cgan_pc_rn", "step")
    return [
        _row(*key, "reference", 300.0, 1000),
        _row(*key, "fused", fused, 500),
        _row(*key, "plain", 90.0, 450),
    ]


def test_results_survive_a_round_trip(tmp_path: Path) -> None:
    result = _result(_step_rows(100.0))
    path = results.store(result, tmp_path / "new")
    assert path.name == "2026-01-02T030405Z-some-cpu-1-ghz-full.json"
    assert results.load(path) == result
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    text = path.read_text("utf-8")
    path.write_text(text.replace('"format_version": 3', '"format_version": 99'), "utf-8")
    with pytest.raises(ValueError, match="format 99"):
        results.load(path)


def test_results_of_the_first_format_are_read(tmp_path: Path) -> None:
    path = results.store(_result(_step_rows(100.0)), tmp_path)
    data = json.loads(path.read_text("utf-8")) | {"format_version": 1}
    for row in data["rows"]:
        for later in ("least_bytes", "share", "sweep", "peer"):
            del row[later]
    path.write_text(json.dumps(data), "utf-8")
    old = results.load(path)
    assert [(row.share, row.sweep, row.peer) for row in old.rows] == [(None, None, False)] * 3
    assert results.load(results.store(old, tmp_path / "again")) == old


def test_the_newest_complete_run_is_found(tmp_path: Path) -> None:
    assert results.newest("full", tmp_path) is None
    old, new = _result([]), dataclasses.replace(_result([]), date="2026-02-01T00:00:00Z")
    quick = dataclasses.replace(
        new, date="2026-03-01T00:00:00Z", arguments={**new.arguments, "plan": "quick"}
    )
    paths = [results.store(result, tmp_path) for result in (new, old, quick)]
    assert results.newest("full", tmp_path) == paths[0]
    assert results.newest("quick", tmp_path) == paths[2]
    assert results.newest("sweep", tmp_path) is None


def test_quantiles() -> None:
    samples = list(np.random.default_rng(0).normal(size=11))
    found = results.quantiles(samples)
    for q in results.QUANTILES:
        assert found[str(q)] == pytest.approx(float(np.quantile(samples, q)))


@pytest.mark.parametrize(("fused", "reached"), [(73.0, False), (72.0, True), (200.0, False)])
def test_figures_are_computed_from_the_rows(fused: float, reached: bool) -> None:
    found = {f["figure"]: f for f in figures.compute(_step_rows(fused))}
    bound = found["cgan_pc_rn step: time / plain network"]
    assert bound["measured"] == pytest.approx(fused / 90, abs=1e-3)
    assert bound["reached"] is reached
    assert found["cgan_pc_rn step: faster than the reference"]["reached"] is (fused <= 300 / 3.3)
    assert found["cgan_pc_rn step: peak memory / reference"]["measured"] == 0.5
    assert found["RN_B forward: time / clone"]["reached"] is None


def test_report_and_plot(tmp_path: Path) -> None:
    result = _result(_step_rows(100.0))
    console = Console(width=report.WIDTH, record=True, file=(tmp_path / "out").open("w"))
    report.show(result, console)
    text = " ".join(console.export_text().split())
    assert "training step of cgan_pc_rn: 3.00x the speed of the reference, 0.50x its" in text
    picture = plots.draw(result, tmp_path / "plot.png")
    assert picture is not None
    assert picture.stat().st_size > 5000
    assert plots.draw(_result([]), tmp_path / "none.png") is None


def test_readme_block_shows_losses() -> None:
    block = readme.block(_result(_step_rows(100.0)), "x.json")
    (line,) = [line for line in block.splitlines() if "`cgan_pc_rn`, training step" in line]
    assert "**3.00x**" in line
    assert "| 1.11 |" in line
    assert "cgan_pc_rn step: time / plain network 1.111 (target <= 0.8)" in block
    assert "Targets not measured in this run: RN_B forward: faster than the reference" in block
    text = f"a\n{readme.BEGIN}\nold\n{readme.END}\nb"
    assert readme.replace_block(text, "new") == f"a\n{readme.BEGIN}\nnew\n{readme.END}\nb"
    with pytest.raises(ValueError, match="once each"):
        readme.replace_block("no markers", "new")


def test_readme_agrees_with_the_stored_result() -> None:
    assert results.newest("full") is not None, "run: python -m benchmarks"
    assert readme.main(["--check"]) == 0, "run: python -m benchmarks readme"


def test_stored_results_name_no_host_and_no_path() -> None:
    for path in results.RESULTS.glob("*.json"):
        text = path.read_text("utf-8")
        assert not re.search(r"""(^|["'\s(])/\w+/""", text), "an absolute path"
        assert str(results.RESULTS.parent.parent) not in text
        node = platform.node()
        assert len(node) < 4 or node not in text
