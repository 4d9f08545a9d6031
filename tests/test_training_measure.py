"""Evaluating a checkpoint: which pictures, one by one, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from inpaint_models import create_model
from inpaint_models.errors import UsageError
from inpaint_models.training.measure import measure
from inpaint_models.training.recipe import dump_recipe, load_recipe
from inpaint_models.training.report import picture_sheet
from PIL import Image
from safetensors.torch import save_file
from training_runs import NO_VGG, TINY, draw_pictures

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = "cpu"


def _saved(path: Path, name: str, *overrides: str, **metadata: str) -> Path:
    """A generator as `inpaint train` writes it, untrained."""
    recipe = load_recipe(name, [*TINY, *overrides])
    net = create_model(name, **recipe.generator)
    written = {
        "model": name,
        "options": json.dumps(recipe.generator),
        "recipe": dump_recipe(recipe),
        **metadata,
    }
    save_file(net.state_dict(), path, {key: text for key, text in written.items() if text})
    return path


def _cifar(root: Path) -> Path:
    """Six pictures: one in each batch, as CIFAR-10 is published."""
    root.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, 3072, np.uint8)
        (root / f"{name}.bin").write_bytes(b"\0" + pixels.tobytes())
    return root


def _names(checkpoint: Path, data: Path, *overrides: str) -> tuple[set[str], str]:
    found = measure(checkpoint, str(data), overrides, accelerator=CPU)
    return {row.name for row in found.evaluation.rows}, found.part


@pytest.mark.parametrize("trained", ["{}", "{split: [train, 0.6, 0]}"])
def test_cifar_is_evaluated_on_its_test_batch(tmp_path: Path, trained: str) -> None:
    net = _saved(tmp_path / "a.safetensors", "vanilla_autoencoder", f"data.options={trained}",
                 "generator={width: 4}")  # fmt: skip
    data = _cifar(tmp_path / "cifar")
    assert _names(net, data) == ({"test_batch/0"}, f"Measured on the test batch of {data}.")
    names, part = _names(net, data, "data.options={train: true}")
    assert names == {f"data_batch_{i}/0" for i in range(1, 6)}
    assert part == f"Measured on the training batches of {data}."


def test_a_split_is_evaluated_on_its_test_part(tmp_path: Path) -> None:
    data = draw_pictures(tmp_path / "pictures")
    net = _saved(tmp_path / "a.safetensors", "pconv_unet", *NO_VGG,
                 "data.options.split=[train, 0.75, 3]")  # fmt: skip
    test, part = _names(net, data)
    assert part == f"Measured on all pictures, split=['test', 0.75, 3] of {data}."
    train, _ = _names(net, data, "data.options.split=[train, 0.75, 3]")
    assert (len(test), len(train)) == (2, 6)
    assert test.isdisjoint(train)


def test_region_norms_see_one_picture_at_a_time(tmp_path: Path) -> None:
    data = draw_pictures(tmp_path / "pictures", 3)
    net = _saved(tmp_path / "a.safetensors", "cgan_pc_rn", *NO_VGG)
    found = measure(net, str(data), accelerator=CPU)
    assert [len(batch.names) for batch in found.batches] == [1, 1, 1]
    with pytest.raises(UsageError, match="--batch 2: this network's region norms"):
        measure(net, str(data), accelerator=CPU, batch_size=2)

    # The sheet shows what was scored.
    picture_sheet(found.evaluation, found.fill, found.batches, tmp_path / "sheet.png")
    best = max(found.evaluation.of("cgan_pc_rn"), key=lambda row: row.values["psnr"])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(float) / 255
    top, step = 6 + 16 + 16, 96
    composite, truth = (
        sheet[top : top + 32, 6 + i * step : 6 + i * step + 32] for i in (2, 3)
    )  # fmt: skip
    psnr = -10 * np.log10(np.square(composite - truth).mean())
    assert psnr == pytest.approx(best.values["psnr"], abs=0.05)


def test_batches_change_nothing_where_there_is_batch_norm(tmp_path: Path) -> None:
    data = draw_pictures(tmp_path / "pictures", 3)
    net = _saved(tmp_path / "a.safetensors", "pconv_unet", *NO_VGG)
    one, three = (
        measure(net, str(data), accelerator=CPU, batch_size=n).evaluation.rows for n in (1, 3)
    )
    for a, b in zip(one, three, strict=True):
        assert a.name == b.name
        assert a.values == pytest.approx(b.values, rel=1e-5)


def test_foreign_files_and_missing_devices_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(draw_pictures(tmp_path / "pictures", 1))
    bare = _saved(tmp_path / "bare.safetensors", "pconv_unet", *NO_VGG, recipe="")
    with pytest.raises(UsageError, match="the file holds none"):
        measure(bare, data, accelerator=CPU)
    text = "system: pconv_unet\nabout: ${oc.env:HOME}\n"
    curious = _saved(tmp_path / "curious.safetensors", "pconv_unet", *NO_VGG, recipe=text)
    with pytest.raises(UsageError, match="values must be plain"):
        measure(curious, data, accelerator=CPU)
    with pytest.raises(UsageError, match="--batch must be at least 1, got 0"):
        measure(_saved(tmp_path / "c.safetensors", "pconv_unet", *NO_VGG), data, batch_size=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no usable GPU: give --accelerator cpu"):
        measure(bare, data, accelerator="gpu")
