"""The small reproduction: its list of test photographs and masks, its runs, its page."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from inpaint_models.training.recipe import Recipe
from inpaint_models.weights import load_generator
from PIL import Image, ImageChops
from training_runs import draw_pictures

from benchmarks.reproduction import (
    backends,
    collect,
    draw,
    measure,
    pictures,
    plan,
    split,
    training,
)
from benchmarks.reproduction.__main__ import main
from benchmarks.reproduction.collect import Results
from benchmarks.reproduction.page import page, summary
from benchmarks.reproduction.plan import CGAN, HOLE, METHODS, PARTIAL, PC, RN, WHOLE, Method, Run

BASE = {
    "l1_percent": 5.0, "l1_hole_percent": 30.0, "psnr": 20.0, "ssim": 0.5, "mse": 0.01,
    "mse_hole": 0.05,
}  # fmt: skip
GOOD = {
    "l1_percent": 1.0, "l1_hole_percent": 6.0, "psnr": 30.0, "ssim": 0.9, "mse": 0.001,
    "mse_hole": 0.01,
}  # fmt: skip


# The list --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(split.MASK_SETS))
def test_the_test_masks_are_those_of_the_committed_list(name: str) -> None:
    assert split.describe_masks(split.MASK_SETS[name]) == split.load_split()["masks"][name]


def test_the_test_photographs_are_chosen_by_the_rule_and_not_trained_on() -> None:
    listed = split.load_split()
    names = [*listed["test"], *listed["train"]]
    assert len(names) == len(set(names)) == 30
    assert list(listed["test"]) == split.choose_tests(names)
    assert not set(listed["test"].values()) & set(listed["train"].values())


def test_every_photograph_that_is_shown_is_a_test_photograph() -> None:
    assert {f"{name}.jpg" for name in draw.SHOWN} <= split.load_split()["test"].keys()


def test_other_photographs_than_the_listed_ones_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mate_Dune.jpg")
    for names_only in (False, True):
        with pytest.raises(ValueError, match=r"does not hold .* split\.json: .*mate_Storm"):
            pictures.prepare(tmp_path, tmp_path / "work", names_only=names_only)


def test_photographs_of_other_bytes_are_taken_if_asked_for(tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    listed = split.load_split()
    for part in pictures.PARTS:
        for name in listed[part]:
            Image.new("RGB", (4, 4)).save(data / name)
    with pytest.raises(ValueError, match="--names-only takes any bytes"):
        pictures.prepare(data, work)
    pictures.prepare(data, work, names_only=True)
    made = list(pictures.folder(work, "small", "test").iterdir())
    assert {path.stem for path in made} == {Path(name).stem for name in listed["test"]}


# The runs --------------------------------------------------------------------------------------


def test_all_unets_are_trained_with_equal_settings(tmp_path: Path) -> None:
    pc, cgan, rn = (Run(method, 1).recipe(tmp_path) for method in (PC, CGAN, RN))
    for other in (cgan, rn):
        for same in ("data", "masks", "image_size", "batch_size", "accumulate", "precision"):
            assert getattr(pc, same) == getattr(other, same), same
        assert pc.seed == other.seed == 1
        assert pc.generator == other.generator
        assert pc.optimizers.generator == other.optimizers.generator
        assert {k: v for k, v in other.losses.items() if k != "adversarial"} == pc.losses
        assert pc.phases["main"].schedule == other.phases["main"].schedule == "constant"
    assert cgan.system == rn.system
    assert (cgan.losses["adversarial"], rn.losses["adversarial"]) == (1, 0)
    assert (cgan.phases["main"].train, rn.phases["main"].train) == (
        ["generator", "discriminator"],
        ["generator"],
    )
    assert plan.ITERATIONS in Run(PC, 1).evaluated
    assert [Run(method, 1).total for method in (PC, CGAN, RN)] == [5250, 3000, 3000]


def test_the_seen_masks_are_the_ones_that_the_recipes_train_with(tmp_path: Path) -> None:
    masks = Run(PC, 0).recipe(tmp_path).masks
    seen = split.MASK_SETS[split.SEEN]
    assert masks.kind == "fixed"
    assert masks.options.get("seed", 0) == seen.seed
    assert masks.options["k"] == seen.count
    assert masks.options["source"] == {"kind": seen.kind, "options": seen.options}


def test_runs_are_made_seed_by_seed() -> None:
    seeds = [run.seed for run in plan.runs()]
    assert seeds == sorted(seeds)
    assert {run.method for run in plan.runs()} == METHODS.keys()


def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iterations: int = 4) -> Run:
    """A run of a few iterations over drawn pictures."""
    for part in pictures.PARTS:
        folder = pictures.folder(tmp_path, "tiles", part)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            draw_pictures(folder, 4)
    tiny = Method(
        "pconv_autoencoder", "tiles",
        ("data.kind=folder", "generator.width=2", "batch_size=2", "data.transform.resize=36"),
        {"main": iterations}, 2, (split.LINES,),
    )  # fmt: skip
    monkeypatch.setitem(METHODS, PARTIAL, tiny)
    return Run(PARTIAL, 0)


def _weights(work: Path, run: Run) -> dict[str, torch.Tensor]:
    return load_generator(work / "runs" / run.name)[0].state_dict()


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _tiny(tmp_path, monkeypatch)
    training.train_run(tmp_path, run)
    whole = _weights(tmp_path, run)
    saved = tmp_path / "runs" / run.name / "checkpoints"
    shutil.rmtree(saved / training.step_name(4))
    (saved / "last").write_text(training.step_name(2))
    training.train_run(tmp_path, run)
    again = _weights(tmp_path, run)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    result = training.evaluate_run(tmp_path, run)
    assert list(result["steps"]) == ["2", "4"]
    assert str(tmp_path) not in json.dumps(result)
    assert len(result["steps"]["4"][split.LINES]["by_photograph"]) == 4


def test_a_run_of_another_recipe_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.train_run(tmp_path, _tiny(tmp_path, monkeypatch))
    with pytest.raises(ValueError, match="is of another recipe"):
        training.train_run(tmp_path, _tiny(tmp_path, monkeypatch, iterations=6))


def test_only_the_methods_asked_for_are_trained_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _tiny(tmp_path, monkeypatch)
    monkeypatch.setattr(plan, "SEEDS", (0,))
    monkeypatch.setattr(training, "measure_baselines", lambda work: {})
    training.train_all(tmp_path, [PARTIAL])
    found = training.read_json(training.result_path(tmp_path, run))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name]
    stale = training.result_path(tmp_path, Run(PC, 0))
    for path in (stale, training.result_path(tmp_path, run)):
        training.write_json(path, "stale")
    training.evaluate_all(tmp_path, [PARTIAL])
    assert training.read_json(training.result_path(tmp_path, run)) == found
    assert training.read_json(stale) == "stale"


@pytest.mark.parametrize("at_once", [1, 2])
def test_photographs_meet_every_hole_and_tiles_one_each(at_once: int) -> None:
    names = ["a", "b", "c"]
    holes = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    holes[1] = True
    for tiles, count in ((False, 6), (True, 3)):
        tests = measure.TestSet(names, torch.zeros(3, 3, 4, 4), holes, tiles, at_once)
        assert max(len(batch.names) for batch in tests) == at_once
        met = [
            (name, int(mask.sum() == 0))
            for batch in tests
            for name, mask in zip(batch.names, batch.mask, strict=True)
        ]
        assert len(met) == len(set(met)) == count


def test_both_backends_train_from_equal_seeds(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures")
    recipe: Recipe = Run(CGAN, 0).recipe(tmp_path)
    recipe.data.root = str(tmp_path / "pictures")
    recipe.data.transform = {}
    recipe = replace(
        recipe, image_size=32, generator={"width": 2, "levels": 3}, precision="64-true"
    )
    found = backends.compare_recipe(recipe, backends.WARM_UP + 2)
    reference, fused = (torch.tensor(losses) for losses in found["losses"].values())
    assert reference.shape == (backends.WARM_UP + 2, len(found["names"]))
    torch.testing.assert_close(reference, fused, rtol=1e-7, atol=0)
    assert found["ratio"] > 0


# The page --------------------------------------------------------------------------------------


def _tests(values: dict[str, float], which: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: {
            "means": {**values, "mse_output": values["mse"]},
            "by_photograph": {"a": values, "b": values},
        }
        for name in which
    }


def _run(method: str, seed: int, values: dict[str, float]) -> dict[str, Any]:
    run = Run(method, seed)
    losses = ("valid", "hole", "tv", "mse", "mse_hole", "adversarial", "discriminator")
    log = {"step": list(run.evaluated), **{n: [values["mse"]] * len(run.evaluated) for n in losses}}
    steps = {str(step): _tests(values, run.tests(step)) for step in run.evaluated}
    return {"method": method, "seed": seed, "parameters": 1, "steps": steps, "log": log}


def _results(
    seeds: int = 3, baseline: dict[str, float] = BASE, **good: dict[str, float]
) -> Results:
    """Made-up results: every method is `BASE`, but for those given."""
    case = {
        "names": ["hole"],
        "seconds": {"reference": [0.2, 0.3, 0.4], "cpu": [0.1, 0.1, 0.1]},
        "ratio": 3.0,
        "difference": [1e-7] * 12,
        "rounding": [1e-7] * 12,
    }
    stored: dict[str, Any] = {
        "format": collect.FORMAT,
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "Some CPU"},
        "versions": {"torch": "2.13.0"},
        "commits": [{"hash": "0123456789abcdef", "dirty": False, "threads": 1}],
        "planned_seeds": 3,
        "baselines": {
            test: {name: {"means": baseline} for name in ("mean colour", "Telea", "Navier-Stokes")}
            for test in split.MASK_SETS
        },
        "backends": {
            m: dict.fromkeys(("float32", "float64", "width 64"), case) for m in (PC, CGAN)
        },
        "runs": [
            _run(method, seed, good.get(method, BASE))
            for method in METHODS
            for seed in range(seeds)
        ],
    }
    return Results(stored)


def test_a_baseline_that_is_better_is_said_first() -> None:
    first = summary(_results(baseline=GOOD))[0]
    assert "Telea is better than every network trained here in L1 (%), PSNR (dB), SSIM" in first
    first = summary(_results(pc=GOOD, cgan=GOOD))[0]
    assert "Telea is better than every network trained here in no metric" in first


def test_a_network_that_is_worse_than_the_mean_colour_is_named() -> None:
    worse = {**BASE, "ssim": 0.4}
    first = summary(_results(cgan=worse))[0]
    assert "mean colour of a picture's known part is better than CGAN+PC+RN after 3,000" in first
    assert "iterations in SSIM (test" in first
    assert "mean colour" not in summary(_results())[0]


def test_training_is_unstable_where_most_seeds_end_worse_than_the_generator_alone() -> None:
    def line(*grown: tuple[str, int]) -> str:
        results = _results()
        for run in results.stored["runs"]:
            if (run["method"], run["seed"]) in grown:
                run["steps"]["600"]["squares"]["means"]["mse_output"] *= 2
        return next(line for line in summary(results) if line.startswith("Bernikov"))

    of = "adversarial weight of 0.0004 this"
    assert f"{of} does not hold" in line((HOLE, 0))
    assert "in 1/3 seeds when trained on the hole, in 0/3 when" in line((HOLE, 0))
    assert f"{of} holds" in line((HOLE, 0), (HOLE, 1))
    assert f"{of} does not hold" in line((HOLE, 0), (HOLE, 1), (WHOLE, 0), (WHOLE, 2))


def test_filling_in_batches_is_set_beside_filling_alone() -> None:
    results = _results()
    for run in results.of(CGAN):
        run["steps"]["3000"][split.IN_BATCHES]["means"]["psnr"] = 25.0
    text = page(results)
    assert "CGAN+PC+RN from 20.00 to 25.00; PC+RN from 20.00 to 20.00" in text
    assert "CGAN+PC+RN is then better than PC in PSNR (dB)." in text


def test_an_ordering_holds_or_does_not_as_the_numbers_say() -> None:
    equal = "at equal iterations CGAN+PC+RN is better than PC"
    lines = summary(_results(cgan=GOOD))
    assert any(equal in line and "holds in L1 (%), PSNR (dB), SSIM" in line for line in lines)
    lines = summary(_results(pc=GOOD))
    assert any(equal in line and "does not hold, neither" in line for line in lines)
    mixed = {**BASE, "psnr": 30.0}
    lines = summary(_results(cgan=mixed))
    assert any(
        equal in line and "holds in PSNR (dB); does not in L1 (%), SSIM" in line for line in lines
    )


def test_the_page_counts_the_seeds_that_agree() -> None:
    results = _results(cgan=GOOD)
    worse = {**BASE, "l1_percent": 6.0}
    results.stored["runs"] = [
        _run(CGAN, 2, worse) if (run["method"], run["seed"]) == (CGAN, 2) else run
        for run in results.stored["runs"]
    ]
    assert "holds, 2/3 seeds, 2/2 photographs" in page(results)


def test_the_page_says_what_is_not_finished() -> None:
    assert "All 3 seeds of every run are finished" in page(_results())
    results = _results(seeds=1)
    assert "Finished so far, of 3 seeds: PC 1, CGAN+PC+RN 1" in page(results)
    results.stored["runs"] = [run for run in results.stored["runs"] if run["method"] != CGAN]
    assert "Not finished yet." in page(results)


def test_curves_are_drawn_from_the_stored_numbers(tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    draw.curves(_results(), first)
    draw.curves(_results(partial=GOOD), second)
    with Image.open(first) as picture, Image.open(second) as other:
        assert ImageChops.difference(picture.convert("RGB"), other.convert("RGB")).getbbox()


def test_a_sheet_has_every_picture_in_its_place(tmp_path: Path) -> None:
    images = torch.linspace(0, 1, len(draw.SHOWN)).reshape(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    tests = measure.TestSet(
        list(draw.SHOWN), images, torch.zeros(8, 1, 32, 32, dtype=torch.bool), tiles=False
    )
    draw.sheet(tests, {"black": lambda image, mask: 0 * image}, tmp_path / "s.png", filled=False)
    with Image.open(tmp_path / "s.png") as sheet:
        step = draw.CELL + draw.GAP
        top = sheet.height - len(draw.SHOWN) * step - draw.FONT - 2 * draw.GAP
        found = [
            [sheet.getpixel((draw.GAP + x * step + 9, top + y * step + 9)) for x in range(3)]
            for y in range(len(draw.SHOWN))
        ]
    greys = [tuple(3 * [round(255 * float(image[0, 0, 0]))]) for image in images]
    assert found == [[grey, (0, 0, 0), grey] for grey in greys]


def test_the_stored_results_name_no_folder_of_the_machine_that_made_them() -> None:
    text = collect.STORED.read_text("utf-8")
    assert "root: pictures/" in text
    assert re.findall(r"(?:root: |[\"' ])(?:/|[A-Z]:\\)\w+/", text) == []


def test_the_page_is_what_the_stored_results_say() -> None:
    assert main(["report", "--check"]) == 0
