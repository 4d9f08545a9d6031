"""Sweeps and their curves, shares of the bounds, and the generated page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import bounds, curves, docs, report, results
from benchmarks.__main__ import main
from benchmarks.cases import BOTH, CHANNELS_LAST, CONTIGUOUS, FORWARD, all_cases
from benchmarks.cases.inputs import pictures
from benchmarks.cases.sweep import points
from benchmarks.plan import QUICK, SWEEP
from benchmarks.results import Result, Row


def _row(
    group: str,
    case: str,
    mode: str,
    provider: str,
    ms: float,
    layout: str = CONTIGUOUS,
    **more: object,
) -> Row:
    checked = provider in ("reference", "fused", "torch-pconv")
    fields = {
        "group": group, "case": case, "detail": "1x64x256x256", "provider": provider, "mode": mode,
        "layout": layout, "dtype": "float32", "shape": [1, 64, 256, 256], "rounds": 1,
        "quantiles_ms": results.quantiles([ms]), "match": {"ok": True} if checked else None,
    }  # fmt: skip
    return Row(**{**fields, **more})  # type: ignore[arg-type]


def _result(rows: list[Row], plan: str = "sweep") -> Result:
    return Result(
        date="2026-01-02T03:04:05Z",
        machine={"cpu": "Some CPU", "gpu": None, "threads": 2, "torch_simd": "AVX2"},
        versions={"torch": "2.13.0"},
        commit={"hash": "0123456789abcdef", "dirty": False},
        arguments={"plan": plan, "device": "cpu", "only": None},
        rows=rows,
    )


def test_a_sweep_varies_one_axis_and_keeps_the_other_two() -> None:
    assert SWEEP.sweep is not None
    centre = (SWEEP.sweep.size, SWEEP.sweep.hole_ratio, SWEEP.sweep.channel_count)
    names = ("size", "holes", "channels")
    seen = dict.fromkeys(names, 0)
    for point in points(SWEEP.sweep):
        there = (point.size, point.hole_ratio, point.channels)
        for name, value, middle in zip(names, there, centre, strict=True):
            assert value == (point.value if name == point.axis else middle)
        # Every line passes through the centre.
        seen[point.axis] += there == centre
    assert seen == {"size": 1, "holes": 1, "channels": 1}


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_holes_reach_from_none_to_all(ratio: float) -> None:
    masks = pictures(QUICK, ratio)[1]
    assert masks.shape == (1, 1, 256, 256)
    assert float(1 - masks.mean()) == pytest.approx(ratio, abs=0.03 if 0 < ratio < 1 else 0)


@pytest.mark.parametrize(
    ("case", "mode", "planes"),
    [
        ("RN_B", FORWARD, 64 * 2 + 1), ("RN_B", BOTH, 64 * 5 + 2),
        ("RN_L", FORWARD, 64 * 3), ("RN_L", BOTH, 64 * 8),
    ],
)  # fmt: skip
def test_least_bytes_of_a_norm(case: str, mode: str, planes: int) -> None:
    found = next(c for c in all_cases(QUICK) if c.id == f"norm/{case} 64x256x256/{mode}")
    assert found.least_bytes == planes * 256 * 256 * 4


def test_shares_of_practical_bounds() -> None:
    layer, net = ("layer", "enc1", FORWARD), ("network", "cgan_pc_rn", "step")
    rows = [
        _row(*layer, "fused", 10.0), _row(*layer, "fused", 8.0, CHANNELS_LAST),
        _row(*layer, "bound", 9.0), _row(*layer, "bound", 4.0, CHANNELS_LAST),
        _row(*net, "fused", 50.0), _row(*net, "reference", 100.0, CHANNELS_LAST),
        _row(*net, "plain", 60.0), _row(*net, "plain", 40.0, CHANNELS_LAST),
        _row(*layer, "torch-pconv", 18.0, match={"ok": False}),
    ]  # fmt: skip
    bounds.fill(rows)
    assert [row.share for row in rows] == [
        {"bound": 0.9}, {"bound": 0.5}, None, None, {"plain": 0.8}, {"plain": 0.4}, None, None,
        None,
    ]  # fmt: skip


def test_the_share_of_the_bytes_is_that_of_a_copy_of_as_many() -> None:
    key = ("norm", "RN_B 64x256x256", BOTH)
    map_bytes = math.prod((1, 64, 256, 256)) * 4
    rows = [
        _row(*key, "fused", 40.0, least_bytes=5 * map_bytes),
        _row(*key, "warm copy", 8.0),  # reads one map and writes one
        _row(*key, "batch norm", 30.0),
    ]
    bounds.fill(rows)
    assert rows[0].share == {"batch norm": 0.75, "bytes": 0.5}


def _sweep_rows() -> list[Row]:
    rows = []
    for operator, bound in (("conv", "bound"), ("RN_B", "batch norm")):
        for axis, values in (("size", (64, 128)), ("holes", (0.0, 1.0)), ("channels", (8, 64))):
            for value in values:
                for provider, ms in (("reference", 9.0), ("fused", 3.0), (bound, 2.0)):
                    at = {"axis": axis, "value": value}
                    name = f"{operator} {axis} {value}"
                    ms_here, peak = ms * (1 + value), int(ms * 1e6)
                    rows.append(
                        _row("sweep", name, BOTH, provider, ms_here, sweep=at, peak_bytes=peak)
                    )
    return rows


def test_curves_are_sorted_and_hold_time_and_memory(tmp_path: Path) -> None:
    rows = _sweep_rows()
    times, peaks = curves.QUANTITIES.values()
    found = {line.provider: line for line in curves.lines(rows[::-1], "conv", "holes", times)}
    assert list(found) == ["reference", "bound", "fused"]
    assert found["fused"].at == [0.0, 100.0]
    assert found["fused"].low == found["fused"].middle == [3.0, 6.0]
    (line,) = curves.lines(rows[1:2], "conv", "size", peaks)
    assert line.middle == [3.0]
    picture = curves.draw(_result(rows), tmp_path / "curves.png")
    assert picture is not None
    assert picture.stat().st_size > 20_000
    assert curves.draw(_result([]), tmp_path / "none.png") is None


def test_a_stored_sweep_is_reported_and_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results.store(_result(_sweep_rows()), tmp_path)
    assert main(["report", str(path)]) == 0
    assert not list(tmp_path.glob("*.png"))
    text = " ".join(capsys.readouterr().out.split())
    assert "conv size 64 1x64x256x256" in text
    assert "fused 195 195-195 3.00x 67% 3 ✓" in text
    assert main(["report", "--draw", str(path)]) == 0
    assert [p.name for p in tmp_path.glob("*.png")] == [f"{path.stem}-curves.png"]


def test_the_page_shows_shares_and_the_newest_sweep() -> None:
    key = ("norm", "RN_B 64x256x256", FORWARD)
    rows = [
        _row(*key, "fused", 10.0, share={"batch norm": 1.5, "bytes": 0.8}),
        _row(*key, "fused", 10.0, CHANNELS_LAST, share={"batch norm": 1.25}),
    ]
    text = docs.block(_result(rows, "full"), "x.json", Path("y-sweep.json"))
    assert "| RN_B 64x256x256 | 150% · 125% | 80% · - | - · - | - · - |" in text
    assert "](../benchmarks/results/y-sweep-curves.png)" in text
    assert "No sweep is stored yet" in docs.block(_result(rows, "full"), "x.json", None)


def test_a_run_without_figures_prints_no_table_of_figures(tmp_path: Path) -> None:
    console = Console(width=report.WIDTH, record=True, file=(tmp_path / "out").open("w"))
    report.show(_result(_sweep_rows()), console)
    assert "Figures to reach" not in console.export_text()
