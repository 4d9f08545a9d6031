"""A training step as work grows: its cases, its picture and its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import growth, readme, results, runner
from benchmarks.__main__ import main
from benchmarks.cases import CHANNELS_LAST, STEP, all_cases
from benchmarks.devices import HOST
from benchmarks.plan import GROWTH, Growth
from benchmarks.results import Result, Row

TINY = dataclasses.replace(
    GROWTH, size=32, growth=Growth("pconv_autoencoder", batches=(4,), sizes=(), seconds=0.0)
)


def _result(cost: dict[tuple[str, str], float]) -> Result:
    """Milliseconds and MiB in proportion to the pixels, by (provider, axis)."""
    rows = []
    for axis, values in (("batch", (1, 2, 4)), ("size", (256, 512))):
        for value in values:
            shape = [value, 3, 256, 256] if axis == "batch" else [1, 3, value, value]
            pictures = shape[0] * (shape[2] // 256) ** 2
            for provider in ("reference", "fused", "plain"):
                if (provider, axis) not in cost:
                    continue
                ms = cost[provider, axis] * pictures
                row = Row(
                    group="growth", case=f"cgan_pc_rn {axis} {value}", detail="x", mode=STEP,
                    provider=provider, layout=CHANNELS_LAST, dtype="float32", shape=shape,
                    quantiles_ms=results.quantiles([ms]), rounds=1, match={"ok": True},
                    peak_bytes=int((100 + ms) * 2**20), sweep={"axis": axis, "value": value},
                )  # fmt: skip
                rows.append(row)
    return Result(
        date="2026-01-02T03:04:05Z",
        machine={
            "cpu": "Some CPU", "gpu": None, "threads": 2, "torch_simd": "AVX2", "ram_gb": 16.0,
        },
        versions={"torch": "2.13.0"},
        commit={"hash": "0123456789abcdef", "dirty": False},
        arguments={"plan": "growth", "device": "cpu", "only": None},
        rows=rows,
    )  # fmt: skip


COST = {
    ("reference", "batch"): 512.0, ("fused", "batch"): 256.0, ("plain", "batch"): 320.0,
    ("reference", "size"): 512.0, ("fused", "size"): 256.0, ("plain", "size"): 320.0,
}  # fmt: skip


def test_growth_is_over_batches_and_sizes_by_the_same_three_providers() -> None:
    cases = list(all_cases(GROWTH))
    assert len({case.id for case in cases}) == len(cases)
    shapes = [case.shape for case in cases]
    assert shapes[:5] == [(n, 3, 256, 256) for n in (1, 2, 4, 8, 16)]
    assert shapes[5:] == [(1, 3, side, side) for side in (192, 256, 512, 1024)]
    for case in cases:
        assert case.memory
        assert {(c.provider, c.layout) for c in case.candidates} == {
            (name, CHANNELS_LAST) for name in ("reference", "fused", "plain")
        }


def test_a_grown_case_matches_the_published_form() -> None:
    (case,) = all_cases(TINY)
    rows = runner.run_case(case, HOST, 1, 1)
    assert [(row.provider, row.error) for row in rows] == [
        ("reference", None), ("fused", None), ("plain", None),
    ]  # fmt: skip
    assert [row.match and row.match["ok"] for row in rows] == [True, True, None]
    assert rows[0].sweep == {"axis": "batch", "value": 4}


def test_growth_is_reported_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results.store(_result(COST), tmp_path)
    assert main(["report", "--draw", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "As work grows, training step" in text
    assert "fused 1024 1024-1024 2.00x 125%" in text
    (picture,) = tmp_path.glob("*.png")
    assert picture.name == f"{path.stem}-cost.png"
    assert picture.stat().st_size > 20_000


def test_growth_along_one_axis_is_drawn_and_none_is_not(tmp_path: Path) -> None:
    half = {key: ms for key, ms in COST.items() if key[1] == "size"}
    assert growth.draw(_result(half), tmp_path / "half.png") is not None
    assert growth.draw(_result({}), tmp_path / "none.png") is None


def test_the_table_tells_time_per_picture_and_what_a_further_one_takes() -> None:
    text = growth.block(_result(COST), "x-growth.json")
    times, peaks = "0.51 | 0.26 | 0.32 | 2.00x | 0.80", "2.10 | 1.10 | 1.35 | 0.52"
    assert f"| 4x3x256x256 | {times} | {peaks} |" in text
    assert "| 1x3x512x512 | 2.05 | 1.02 | 1.28 | 2.00x | 0.80 |" in text
    # A quarter of a GiB for each picture, and a tenth beside them: (16 - 0.1) / 0.25.
    assert "reference 512 MiB (32 pictures)" in text
    assert "fused 256 MiB (64 pictures)" in text
    assert "](../benchmarks/results/x-growth-cost.png)" in text
    assert "Other processes" not in text
    assert "--plan growth" in growth.block(None, "")


def test_the_table_owns_up_to_busy_neighbours() -> None:
    result = _result(COST)
    result.rows[0].foreign_cpu = 0.08
    text = growth.block(result, "x-growth.json")
    assert "Other processes took up to 8% of the processors." in text


def test_the_notes_have_a_place_for_the_table() -> None:
    page = readme.NOTES.read_text("utf-8")
    assert "new table" in readme.replace_block(page, "new table")
