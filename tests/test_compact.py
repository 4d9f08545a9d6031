"""The weights in the box: what they were measured on, what is said of them, how they are made."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from inpaint_models import composite, fill, load_pretrained, weights
from inpaint_models.errors import UsageError
from inpaint_models.training.recipe import load_recipe, parse_recipe
from PIL import Image
from training_runs import draw_pictures

from benchmarks.compact import measure, plan, report, training
from benchmarks.compact.__main__ import main
from benchmarks.reproduction import split

FILE = weights.PRETRAINED / f"{plan.NAME}.safetensors"


def test_the_test_masks_are_those_of_the_committed_list() -> None:
    described = {masks.name: split.describe_masks(masks) for masks in plan.TESTS.values()}
    assert described == plan.load_list()
    for (low, high), masks in plan.TESTS.items():
        assert all(low < ratio <= high for ratio in described[masks.name]["hole_ratios"])


def test_the_file_in_the_box_is_small_and_the_measured_one() -> None:
    content = FILE.read_bytes()
    assert len(content) <= training.LIMIT
    measured = report.load()["weights"]
    assert not report.load()["dirty"], "commit the weights first: the result names a commit"
    assert measured["sha256"] == hashlib.sha256(content).hexdigest()
    assert measured["bytes"] == len(content)
    net = load_pretrained()
    assert measured["parameters"] == sum(p.numel() for p in net.parameters())


def test_the_file_holds_the_committed_recipe_and_no_path() -> None:
    _, metadata = weights.read_weights(FILE)
    committed = load_recipe(str(plan.RECIPE))
    committed.data.root = "PHOTOGRAPHS"
    assert parse_recipe(metadata["recipe"], "the file") == committed
    steps = sum(phase.iterations or 0 for phase in committed.phases.values())
    assert int(metadata["step"]) == steps
    assert not re.search(r"""["'\s]/\w+/""", json.dumps(metadata)), "an absolute path"


def test_it_is_better_than_opencv_everywhere_and_the_pages_say_what_was_measured() -> None:
    for methods in report.load()["bins"].values():
        for rival in report.RIVALS:
            for metric in report.COLUMNS:
                assert report.better(methods, rival, metric)[0], (rival, metric)
    assert report.write(None, check=True) == 0


def test_a_loss_is_told() -> None:
    measured: dict[str, Any] = report.load()
    rival = measured["bins"]["0.2-0.3"]["Telea"]
    rival["means"]["psnr"] = 99.0
    next(iter(rival["by_photograph"].values()))["psnr"] = 99.0
    text = report.table(measured)
    assert "of the 8 photographs, on 7 in the closest of these comparisons and on 8" in text
    assert "It is not better than OpenCV's methods in: psnr of 0.2-0.3 against Telea" in text
    assert "**99.00**" in text


def test_filling_works_right_after_installing() -> None:
    sample = Path(__file__).parent.parent / "benchmarks" / "samples" / "seeding.jpg"
    with Image.open(sample) as opened:
        photo = opened.convert("RGB").resize((192, 160))
    image = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8)
    image = image.view(160, 192, 3).permute(2, 0, 1).float() / 255
    mask = torch.ones(1, 160, 192)
    mask[:, 60:72, 20:150] = 0
    filled = fill(torch.where(mask == 0, torch.nan, image), mask)
    known = (mask == 1).expand_as(image)
    assert torch.equal(filled[known], image[known])
    grey = composite(torch.full_like(image, 0.5)[None], image[None], mask[None])[0]
    assert (filled - image)[~known].abs().mean() < 0.5 * (grey - image)[~known].abs().mean()


def _work(tmp_path: Path) -> Path:
    """Copies of drawn pictures, in place of the photographs."""
    (tmp_path / "pictures").mkdir()
    for part in ("train", "test"):
        draw_pictures(tmp_path / "pictures" / part, 4)
    return tmp_path


def test_a_run_is_trained_shipped_measured_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _work(tmp_path)
    monkeypatch.setattr(training, "PRETRAINED", tmp_path / "box")
    with pytest.raises(UsageError, match="holds no run yet"):
        training.ship(work)
    tiny = [
        "image_size=32", "batch_size=2", "data.workers=0", "generator.width=2",
        "generator.levels=3", "phases.main.iterations=2", "phases.finetune.iterations=1",
        "saving={log: 1, samples: 0, checkpoint: 10}",
    ]  # fmt: skip
    assert main(["train", "--work", str(work), "--threads", "1", *tiny]) == 0
    assert main(["train", "--work", str(work), *tiny[:-1]]) == 2  # by another recipe
    assert main(["ship", "--work", str(work)]) == 0
    shipped = tmp_path / "box" / "compact.safetensors"
    _, metadata = weights.read_weights(shipped)
    assert metadata["step"] == "3"
    assert str(work) not in json.dumps(metadata)

    monkeypatch.setattr(training, "LIMIT", 1000)
    with pytest.raises(ValueError, match="bytes are more than the 1,000 allowed"):
        training.ship(work)

    monkeypatch.setattr(measure, "TEST_SIZE", 32)
    monkeypatch.setattr(measure, "PRETRAINED", shipped.parent)
    monkeypatch.setattr(weights, "PRETRAINED", shipped.parent)
    small = {
        bin_: split.MaskSet(masks.name, 32, masks.kind, masks.options, 1, masks.seed)
        for bin_, masks in plan.TESTS.items()
    }
    monkeypatch.setattr(measure, "TESTS", small)
    monkeypatch.setattr(report, "STORED", tmp_path / "measured.json")
    assert main(["measure", "--work", str(work)]) == 0
    measured = report.load()
    assert measured["weights"]["sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    for methods in measured["bins"].values():
        assert methods.keys() == report.METHODS.keys()
        assert len(methods["compact"]["by_photograph"]) == 4
    text = report.card(measured)
    assert measured["weights"]["sha256"] in text


def test_other_photographs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_pictures(tmp_path / "data")
    words = ["prepare", "--data", str(tmp_path / "data"), "--work", str(tmp_path / "work")]
    assert main(words) == 2
    assert "does not hold the photographs of split.json" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_copies_are_made_in_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = draw_pictures(tmp_path / "data", 3)
    listed = {"train": {"00.png": "", "01.png": ""}, "test": {"02.png": ""}}
    monkeypatch.setattr(split, "check_photographs", lambda folder: None)
    monkeypatch.setattr(split, "load_split", lambda: listed)
    training.prepare(data, tmp_path)
    train = sorted(path.name for path in (tmp_path / "pictures" / "train").iterdir())
    assert train == sorted(f"{n}-{side}.bmp" for n in ("00", "01") for side in plan.TRAIN_SIDES)
    with Image.open(tmp_path / "pictures" / "test" / "02.bmp") as test:
        assert min(test.size) == plan.TEST_SIDE
