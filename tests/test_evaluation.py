"""Evaluation over a small test set: rows, means by hole ratio, files, tables and the sheet."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inpaint_models.training import metrics, report
from inpaint_models.training.baselines import mean_colour
from inpaint_models.training.data import Batch
from inpaint_models.training.evaluate import Evaluation, corrected, evaluate
from inpaint_models.training.metrics import METRICS
from inpaint_models.training.published import PUBLISHED
from PIL import Image
from torch import Tensor

SIZE = 20


def _mask(rows: int) -> Tensor:
    """A hole of so many whole rows: 5 % of the picture each."""
    mask = torch.ones(1, 1, SIZE, SIZE)
    mask[:, :, 4 : 4 + rows] = 0
    return mask


def _batches() -> list[Batch]:
    """Five pictures with holes of 10, 15, 15, 50 and 80 %, in batches of two shapes."""
    images = torch.rand(5, 3, SIZE, SIZE)
    first = Batch(images[:2], torch.cat([_mask(2), _mask(3)]), ["a", "b"])
    shared = Batch(images[2:3], _mask(3), ["c"])
    return [first, shared, Batch(images[3:], torch.cat([_mask(10), _mask(16)]), ["d", "e"])]


def _dark(image: Tensor, mask: Tensor) -> Tensor:
    """Writes outside of [0, 1] and all over the known part."""
    return torch.full_like(image, -3.0)


QUICK = ("l1_percent", "mse_hole", "psnr")


def _evaluated(batches: list[Batch] | None = None, **options: Any) -> Evaluation:
    options = {"metrics": QUICK, "baselines": {"mean colour": mean_colour}} | options
    return evaluate(_dark, _batches() if batches is None else batches, model="dark", **options)


def test_rows_hold_the_metrics_of_the_clamped_composite() -> None:
    batches = _batches()
    rows = _evaluated(batches, metrics=tuple(METRICS)).of("dark")
    assert [(row.index, row.name) for row in rows] == list(enumerate("abcde"))
    assert [row.hole_ratio for row in rows] == pytest.approx([0.1, 0.15, 0.15, 0.5, 0.8])
    image, mask = batches[2].image, batches[2].mask
    composite = image * mask  # 0 in the hole
    for i, row in enumerate(rows[3:]):
        for name, metric in METRICS.items():
            given = torch.zeros_like(image) if metric.of_output else composite
            expected = metric.compute(given, image, mask)[i].item()
            assert row.values[name] == pytest.approx(expected), name


def test_the_mean_of_a_bin_is_over_its_pictures_and_all_of_them_count_overall() -> None:
    evaluation = _evaluated()
    values = [row.values["psnr"] for row in evaluation.of("dark")]
    found = {s.bin: s for s in evaluation.summaries() if s.method == "dark"}
    assert list(found) == [None, (0.01, 0.1), (0.1, 0.2), (0.4, 0.5)]
    for ratios, pictures in {
        None: [0, 1, 2, 3, 4], (0.01, 0.1): [0], (0.1, 0.2): [1, 2], (0.4, 0.5): [3],
    }.items():  # fmt: skip
        summary = found[ratios]
        assert summary.pictures == summary.counts["psnr"] == len(pictures)
        assert summary.means["psnr"] == pytest.approx(np.mean([values[i] for i in pictures]))


def test_the_methods_see_no_pixel_of_the_truth_in_the_hole() -> None:
    batches = _batches()
    batches[1].image[0, 0, 12, 7] = torch.nan
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(image: Tensor, mask: Tensor) -> Tensor:
        seen.append((image, mask))
        return image

    evaluate(spy, batches, baselines={}, metrics=QUICK)
    for image, mask in seen:
        assert image[(mask == 0).expand_as(image)].eq(0).all()
        assert image.isfinite().all()
    assert seen[1][1][0, 0, 12, 7] == 0


def test_unmeasured_pixels_are_left_out_and_do_not_count_as_hole() -> None:
    batches = _batches()
    clean = _evaluated(batches, metrics=tuple(METRICS))
    marked = [Batch(b.image.clone(), b.mask, b.names) for b in batches]
    marked[2].image[0, :, :2] = torch.nan
    rows = _evaluated(marked, metrics=tuple(METRICS)).of("dark")
    assert [r.hole_ratio for r in rows] == [r.hole_ratio for r in clean.of("dark")]
    known = np.s_[:, :, 2:]
    image, mask = batches[2].image[:1][known], batches[2].mask[:1][known]
    for name, metric in METRICS.items():
        given = torch.zeros_like(image) if metric.of_output else image * mask
        expected = metric.compute(given, image, mask).item()
        assert rows[3].values[name] == pytest.approx(expected), name


def test_a_picture_without_a_hole_is_left_out_of_what_it_cannot_be_measured_by() -> None:
    batches = _batches()
    batches.append(Batch(torch.rand(1, 3, SIZE, SIZE), torch.ones(1, 1, SIZE, SIZE), ["whole"]))
    evaluation = _evaluated(batches)
    row = evaluation.of("dark")[-1]
    assert row.values["psnr"] == math.inf
    assert math.isnan(row.values["mse_hole"])
    assert row.bin is None
    summary = evaluation.summary("dark")
    assert summary.pictures == 6
    assert summary.counts == {"l1_percent": 6, "mse_hole": 5, "psnr": 5}
    assert summary.infinite == {"l1_percent": 0, "mse_hole": 0, "psnr": 1}
    assert summary.means["psnr"] == pytest.approx(
        _evaluated(batches[:-1]).summary("dark").means["psnr"]
    )
    text = report.markdown(evaluation)
    assert "dark: PSNR (dB) leaves out 1 of 6 pictures, which equal the truth." in text
    assert "dark: MSE in the hole leaves out 1 of 6 pictures, where there is nothing" in text


def test_colour_correction_is_a_method_of_its_own() -> None:
    batches = _batches()
    images = iter([b.image for b in batches])  # a second call for a batch would run out

    def faded(image: Tensor, mask: Tensor) -> Tensor:
        return 0.5 * next(images) + 0.4

    evaluation = evaluate(
        faded, batches, metrics=QUICK, baselines={}, colour_correction="gain_and_offset"
    )
    assert evaluation.methods == ("model", "model, colour-corrected")
    assert evaluation.summary("model").means["mse_hole"] > 0.01
    assert evaluation.summary("model, colour-corrected").means["mse_hole"] < 1e-10


def test_a_perceptual_distance_adds_its_column_and_progress_is_told() -> None:
    done: list[int] = []
    evaluation = _evaluated(
        perceptual=lambda a, b: (a - b).square().mean(dim=(1, 2, 3)), progress=done.append,
        metrics=("mse",),
    )  # fmt: skip
    assert done == [2, 3, 5]
    for row in evaluation.rows:
        assert row.values["perceptual"] == pytest.approx(row.values["mse"], rel=1e-5)


def test_evaluation_names_the_argument_that_is_wrong() -> None:
    batches = _batches()
    with pytest.raises(ValueError, match=r"metrics must be one of 'l1_percent', .*, got 'fid'"):
        _evaluated(metrics=("fid",))
    with pytest.raises(ValueError, match="bins must not overlap"):
        _evaluated(bins=((0.1, 0.3), (0.2, 0.4)))
    with pytest.raises(ValueError, match="bins must have 0 <= above < up to <= 1"):
        _evaluated(bins=((10, 20),))
    with pytest.raises(ValueError, match="at least one picture"):
        _evaluated([])
    with pytest.raises(ValueError, match="names must have one entry per picture, 2, got 1"):
        _evaluated([batches[0]._replace(names=["a"])])
    with pytest.raises(ValueError, match=r"image must have values in \[0, 1\], got .* in 'c'"):
        _evaluated([batches[1]._replace(image=255 * batches[1].image)])
    with pytest.raises(ValueError, match="other names than the model, got 'dark' twice"):
        _evaluated(baselines={"dark": _dark})
    with pytest.raises(ValueError, match="fill must return a tensor of shape"):
        evaluate(lambda image, mask: mask, batches, baselines={}, metrics=QUICK)
    with pytest.raises(ValueError, match="model on 'a', 'b': prediction holds NaN or infinity"):
        evaluate(lambda image, mask: image / 0, batches, baselines={}, metrics=QUICK)
    with pytest.raises(ValueError, match="colour_correction must be one of"):
        _evaluated(colour_correction="scale")


def test_json_and_csv_hold_every_row_and_are_written_whole(tmp_path: Path) -> None:
    batches = _batches()
    batches.append(Batch(torch.rand(1, 3, SIZE, SIZE), torch.ones(1, 1, SIZE, SIZE), ['w,"1"']))
    evaluation = _evaluated(batches)
    report.write_json(evaluation, tmp_path / "new" / "result.json")
    report.write_csv(evaluation, tmp_path / "new" / "result.csv")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["result.csv", "result.json"]

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not standard JSON")

    text = (tmp_path / "new" / "result.json").read_text("utf-8")
    data = json.loads(text, parse_constant=refuse)
    assert len(data["rows"]) == len(evaluation.rows) == 12
    for stored, row in zip(data["rows"], evaluation.rows, strict=True):
        assert (stored["method"], stored["name"]) == (row.method, row.name)
        assert stored["hole_ratio"] == row.hole_ratio
        assert stored["values"]["l1_percent"] == row.values["l1_percent"]
    assert data["rows"][5]["values"] == {"l1_percent": 0.0, "mse_hole": None, "psnr": "Infinity"}
    overall = data["summaries"][0]
    assert (overall["method"], overall["bin"], overall["pictures"]) == ("dark", None, 6)
    assert overall["means"]["psnr"] == evaluation.summary("dark").means["psnr"]

    with (tmp_path / "new" / "result.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row.name for row in evaluation.rows]
    assert lines[1]["bin"] == "10-20 %"
    assert float(lines[1]["psnr"]) == evaluation.rows[1].values["psnr"]
    assert (lines[5]["mse_hole"], lines[5]["psnr"], lines[5]["bin"]) == ("", "inf", "")


def _cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_by_method_has_the_papers_columns_first_and_its_lines_below() -> None:
    evaluation = _evaluated(metrics=("mse", "ssim", "psnr", "l1_percent"))
    text = report.markdown(evaluation, PUBLISHED["shi-1"])
    head, _, *rows = _cells(text)
    assert head == ["", "holes", "pictures", "L1 (%)", "PSNR (dB)", "SSIM", "MSE"]
    means = evaluation.summary("dark").means
    assert rows[0] == [
        "dark", "all", "5", f"{means['l1_percent']:.3f}", f"{means['psnr']:.3f}",
        f"{means['ssim']:.4f}", f"{means['mse']:.6f}",
    ]  # fmt: skip
    assert [row[1] for row in rows[1:4]] == ["1-10 %", "10-20 %", "40-50 %"]
    assert rows[4][0] == "mean colour"
    assert rows[-3] == ["*CGAN+PC+RN 80k iters*", "all", "", "*4.371*", "*22.605*", "*0.776*", "-"]
    assert "Shi et al., table 1" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_table_by_ratio_sets_each_l1_beside_its_own_definition() -> None:
    metrics_ = ("psnr", "ssim", "l1_percent", "l1_edgeconnect_grey_percent")
    evaluation = _evaluated(metrics=metrics_)
    head, _, *rows = _cells(report.markdown(evaluation, PUBLISHED["isnet-3"]))
    assert head == [
        "holes (pictures)", "", "dark", "mean colour",
        "*CA*", "*GLCIC*", "*PConv*", "*EdgeCnt*", "*ISNet*",
    ]  # fmt: skip
    start = next(i for i, row in enumerate(rows) if row[0] == "10-20 % (2)")
    found = {row[1]: row[2:] for row in rows[start : start + 4]}
    means = evaluation.summary("dark", (0.1, 0.2)).means
    assert found["PSNR (dB)"][0] == f"{means['psnr']:.3f}"
    assert found["PSNR (dB)"][2:] == ["*24.36*", "*23.49*", "*28.02*", "*27.95*", "*31.41*"]
    assert found["L1 (%)"][2:] == ["-", "-", "*1.14*", "-", "*0.63*"]
    assert found["L1, EdgeConnect's script (%)"][2:] == ["*2.41*", "*2.66*", "-", "*1.5*", "-"]
    # Published, but without a picture of ours.
    start = next(i for i, row in enumerate(rows) if row[0] == "20-30 % (0)")
    assert rows[start][2:4] == ["-", "-"]
    assert rows[start][-1] == "*26.88*"


@pytest.mark.parametrize("key", list(PUBLISHED))
def test_published_numbers_stand_under_metrics_that_are_computed_here(key: str) -> None:
    table = PUBLISHED[key]
    for by_bin in table.values.values():
        expected: set[tuple[float, float] | None] = set(table.bins) or {None}
        assert set(by_bin) == expected
        for values in by_bin.values():
            assert set(values) <= set(METRICS)
    text = report.markdown(_evaluated(), table)
    for method in table.values:
        assert f"*{method}*" in text


def test_the_sheet_shows_input_output_composite_and_truth_of_three_pictures(tmp_path: Path) -> None:
    batches = _batches()
    batches[2].image[0, :, 19, 19] = torch.nan
    evaluation = _evaluated(batches)
    ranked = sorted(evaluation.of("dark"), key=lambda row: -row.values["psnr"])
    chosen = report.best_median_worst(evaluation.of("dark"))
    assert [row.name for row in chosen.values()] == [ranked[i].name for i in (0, 2, 4)]
    path = tmp_path / "sheet.png"
    report.picture_sheet(evaluation, _dark, batches, path)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    sheet = np.asarray(Image.open(path)).astype(int)
    truths = {n: image for b in batches for n, image in zip(b.names, b.image, strict=True)}
    step = 90 + report.GAP
    top = report.GAP + report.LINE
    for row in chosen.values():
        holes = slice(4, 4 + round(row.hole_ratio * SIZE))
        truth = np.rint(255 * truths[row.name].nan_to_num(0.5).permute(1, 2, 0).numpy()).astype(int)
        panels = {"truth": truth, "output": np.zeros_like(truth)}
        panels["input"], panels["composite"] = truth.copy(), truth.copy()
        panels["input"][holes], panels["composite"][holes] = 128, 0
        if row.name == "d":
            panels["composite"][19, 19] = 0
        for i, title in enumerate(report.PANELS):
            left = report.GAP + i * step
            found = sheet[top + report.LINE : top + report.LINE + SIZE, left : left + SIZE]
            np.testing.assert_array_equal(found, panels[title], err_msg=f"{row.name} {title}")
        top += SIZE + report.LINE + report.GAP


def test_the_sheet_of_the_corrected_model_shows_the_corrected_output(tmp_path: Path) -> None:
    batches = [Batch(torch.linspace(0, 1, SIZE).expand(1, 3, SIZE, SIZE), _mask(4), ["ramp"])]

    def faded(image: Tensor, mask: Tensor) -> Tensor:
        return 0.5 * batches[0].image + 0.25

    evaluation = evaluate(
        faded, batches, metrics=QUICK, baselines={}, colour_correction="gain_and_offset"
    )
    path = tmp_path / "sheet.png"
    fill = corrected(faded, "gain_and_offset")
    report.picture_sheet(evaluation, fill, batches, path, "model, colour-corrected")
    sheet = np.asarray(Image.open(path)).astype(int)
    top, left, step = 2 * report.LINE + report.GAP, report.GAP, 90 + report.GAP
    output, truth = (
        sheet[top : top + SIZE, left + i * step : left + i * step + SIZE] for i in (1, 3)
    )
    np.testing.assert_allclose(output, truth, atol=1)
    assert np.ptp(truth) == 255


def test_the_sheet_refuses_other_pictures_than_were_evaluated(tmp_path: Path) -> None:
    batches = _batches()
    evaluation = _evaluated(batches)
    with pytest.raises(ValueError, match="got 0 pictures: hand over something that can be iterat"):
        report.picture_sheet(evaluation, _dark, iter([]), tmp_path / "sheet.png")
    others = [Batch(b.image, torch.ones_like(b.mask), b.names) for b in batches]
    with pytest.raises(ValueError, match=r"with a hole ratio of 0\.0000 for"):
        report.picture_sheet(evaluation, _dark, others, tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="need the metric 'psnr'"):
        report.picture_sheet(
            _evaluated(batches, metrics=("mse",)), _dark, batches, tmp_path / "sheet.png"
        )
    assert not list(tmp_path.iterdir())


def test_the_default_baselines_and_metrics_run_on_a_picture() -> None:
    evaluation = evaluate(_dark, _batches()[1:2])
    assert evaluation.methods == ("model", "mean colour", "Telea", "Navier-Stokes")
    assert all(math.isfinite(v) for row in evaluation.rows for v in row.values.values())
    assert set(evaluation.rows[0].values) == set(metrics.METRICS)
