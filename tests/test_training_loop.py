"""The training loop: steps, phases, processes, logs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from inpaint_models import composite, create_discriminator, create_model
from inpaint_models.errors import InpaintError, InterruptedRunError, UsageError
from inpaint_models.losses import AdversarialLoss, hole_l1, valid_l1
from inpaint_models.training.logs import read_log
from inpaint_models.training.loop import Trainer, make_fabric, resume, schedule_factor, train
from inpaint_models.training.recipe import Recipe, load_recipe, with_absolute_paths
from inpaint_models.training.supply import Supply
from inpaint_models.training.systems import base, pconv_unet
from inpaint_models.weights import read_weights
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from PIL import Image
from torch import Tensor, nn
from training_runs import (
    Attentive,
    Plain,
    TinyGan,
    draw_pictures,
    gan_recipe,
    in_processes,
    losses_of,
    pconv_recipe,
    plain_recipe,
    train_on_cpu,
)


@pytest.fixture(autouse=True)
def _small_systems(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base._systems, "cgan_pc_rn", TinyGan)
    monkeypatch.setitem(base._systems, "vanilla_autoencoder", Plain)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("data") / "pictures")


def _weights(checkpoint: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in checkpoint.glob("*.safetensors"):
        tensors, _ = read_weights(path)
        found |= {f"{path.stem}.{name}": value for name, value in tensors.items()}
    return found


def _last(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "last").read_text()


def test_a_step_of_both_networks_is_what_plain_pytorch_makes(tmp_path: Path, data: Path) -> None:
    recipe = gan_recipe(data, "phases.generator.iterations=1", "phases.discriminator.iterations=1")
    supply = Supply(recipe, 0, 1, torch.device("cpu"))
    torch.manual_seed(recipe.seed)
    net = create_model("cgan_pc_rn", **recipe.generator)
    judge = create_discriminator("cgan_pc_rn", **recipe.discriminator)
    follow = torch.optim.Adam(net.parameters(), recipe.optimizers.generator.rate)
    resist = torch.optim.Adam(judge.parameters(), recipe.optimizers.discriminator.rate)
    loss = AdversarialLoss("nsgan")
    for step in range(5):
        image, mask, *_ = supply.next()
        corrupted = torch.where(mask == 0, 0, image)
        net.train(step != 1)
        prediction = net(image, mask)
        fake = composite(prediction, image, mask)
        if step > 0:
            resist.zero_grad()
            real_logits = judge(corrupted, image)
            loss.discriminator(real_logits, judge(corrupted, fake.detach())).backward()
            resist.step()
        if step != 1:
            follow.zero_grad()
            total = valid_l1(prediction, image, mask) + 6 * hole_l1(prediction, image, mask)
            if step > 1:
                total = total + 0.5 * loss.generator(judge(corrupted, fake))
            total.backward()
            follow.step()

    found = _weights(train(recipe, tmp_path / "run", "cpu"))
    for prefix, network in (("generator", net), ("discriminator", judge)):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(found[f"{prefix}.{name}"], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "accumulate"),
    [(pconv_recipe, 1), (gan_recipe, 1), (gan_recipe, 2)],
    ids=["batch norm", "region and batch norm, two networks", "the same, accumulating"],
)
def test_two_processes_are_one_with_the_doubled_batch(
    tmp_path: Path, data: Path, make: Callable[..., Recipe], accumulate: int
) -> None:
    # In float64: Adam turns what rounding leaves of a zero gradient into steps of full length.
    common = (f"accumulate={accumulate}", "precision=64-true", "data.transform.flip=true")
    in_processes(2, train_on_cpu, make(data, *common), tmp_path / "two")
    train(make(data, *common, "batch_size=4"), tmp_path / "one", "cpu")
    two, one = _weights(_last(tmp_path / "two")), _weights(_last(tmp_path / "one"))
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-7, atol=1e-9)
    for a, b in zip(losses_of(tmp_path / "two"), losses_of(tmp_path / "one"), strict=True):
        assert a.keys() == b.keys()
        for name in ("valid", "hole"):
            assert not b[name] or float(a[name]) == pytest.approx(float(b[name]), rel=1e-6)


def test_a_system_may_call_another_method_than_forward(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = gan_recipe(data, "precision=bf16-mixed")
    train(recipe, tmp_path / "forward", "cpu")
    monkeypatch.setitem(base._systems, "cgan_pc_rn", Attentive)
    train(recipe, tmp_path / "method", "cpu")
    assert losses_of(tmp_path / "method") == losses_of(tmp_path / "forward")
    in_processes(2, train_on_cpu, recipe, tmp_path / "two")


def test_accumulated_batches_are_one_large_batch(tmp_path: Path, data: Path) -> None:
    parts = train(plain_recipe(data, "accumulate=2"), tmp_path / "parts", "cpu")
    whole = train(plain_recipe(data, "batch_size=4"), tmp_path / "whole", "cpu")
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], value, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def breaks(*arguments: Any, **options: Any) -> Tensor:
        calls.append(1)
        value = hole_l1(*arguments, **options)
        return value * torch.nan if len(calls) == 3 else value

    monkeypatch.setattr(pconv_unet, "hole_l1", breaks)
    recipe = pconv_recipe(data, "phases.main.iterations=8", "saving.log=5", "saving.checkpoint=2")
    with pytest.raises(InpaintError, match=r"loss 'hole' is nan at step 3;"):
        train(recipe, tmp_path / "run", "cpu")
    assert _last(tmp_path / "run").name == "step-00000002"
    assert all(value.isfinite().all() for value in _weights(_last(tmp_path / "run")).values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run_and_it_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    recipe = gan_recipe(data, "saving.log=2")
    train(recipe, tmp_path / "whole", "cpu")
    before = signal.getsignal(number)

    class Interrupted(TinyGan):
        steps = 0

        def predict(self, batch: Any) -> Any:
            Interrupted.steps += 1
            if Interrupted.steps == 5:
                os.kill(os.getpid(), number)
            return super().predict(batch)

    with monkeypatch.context() as patch:
        patch.setitem(base._systems, "cgan_pc_rn", Interrupted)
        with pytest.raises(InterruptedRunError, match=f"{number.name} after step 5;") as caught:
            train(recipe, tmp_path / "run", "cpu")
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert _last(tmp_path / "run").name == "step-00000005"
    resume(tmp_path / "run", "cpu")
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    whole = _weights(_last(tmp_path / "whole"))
    for name, value in _weights(_last(tmp_path / "run")).items():
        assert torch.equal(value, whole[name]), name


def _interrupted_at(rank: int, recipe: Recipe, run: Path) -> None:
    """Trains until the signal that the process `rank` gets in its second step."""

    class Interrupted(TinyGan):
        steps = 0

        def predict(self, batch: Any) -> Any:
            Interrupted.steps += 1
            if Interrupted.steps == 2 and os.environ["RANK"] == str(rank):
                os.kill(os.getpid(), signal.SIGTERM)
            return super().predict(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base._systems, "cgan_pc_rn", Interrupted)
        with pytest.raises(InterruptedRunError) as caught:
            train(recipe, run, "cpu")
    (run / f"{os.environ['RANK']}.txt").write_text(str(caught.value))


def test_processes_stop_after_the_same_step_long_before_a_row_of_the_log(
    tmp_path: Path, data: Path
) -> None:
    recipe = gan_recipe(data, "phases.generator.iterations=100000", "saving.log=100000")
    in_processes(2, _interrupted_at, 1, recipe, tmp_path)
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert "stopped by SIGTERM after step" in said[0]
    assert _last(tmp_path).name == f"step-{int(said[0].split(';')[0].split()[-1]):08d}"


def test_a_run_leaves_a_log_curves_and_sample_pictures(tmp_path: Path, data: Path) -> None:
    recipe = gan_recipe(data, "saving.log=2", "saving.samples=2")
    recipe.phases["both"].schedule = "linear"
    train(recipe, tmp_path / "run", "cpu")
    rows = read_log(tmp_path / "run" / "log.csv")
    assert [row["step"] for row in rows] == ["2", "4", "6", "7"]
    assert [row["phase"] for row in rows] == ["generator", "discriminator", "both", "both"]
    assert [row["epoch"] for row in rows] == ["1", "1", "2", "2"]
    assert [row["adversarial"] != "" for row in rows] == [False, False, True, True]
    assert [row["judge"] != "" for row in rows] == [False, True, True, True]
    assert [row["rate_generator"] for row in rows[:2]] == ["0.0001", ""]
    assert float(rows[2]["rate_generator"]) == pytest.approx(1e-4 * 2 / 3)
    for row in rows:
        assert 0 <= float(row["waiting"]) <= 1
        assert 0 <= float(row["outside"]) <= 1
        assert float(row["images_per_s"]) > 0
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert curves.size == (700, 4 * 220)
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["000002.png", "000004.png", "000006.png"]
    with Image.open(tmp_path / "run" / "samples" / "000006.png") as sheet:
        assert sheet.size == (4 * 34, 4 * 34)
        assert len(sheet.getcolors(10**6) or []) > 100


def test_sample_pictures_do_not_change_the_training(tmp_path: Path, data: Path) -> None:
    train(gan_recipe(data, "saving.samples=1"), tmp_path / "drawn", "cpu")
    train(gan_recipe(data), tmp_path / "plain", "cpu")
    assert losses_of(tmp_path / "drawn") == losses_of(tmp_path / "plain")


def test_bfloat16_reaches_networks_and_not_weights(tmp_path: Path, data: Path) -> None:
    seen = set()

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if type(module) is nn.Conv2d:
            seen.add(output.dtype)

    recipe = gan_recipe(data, "precision=bf16-mixed")
    with torch.nn.modules.module.register_module_forward_hook(note):
        checkpoint = train(recipe, tmp_path / "run", "cpu")
    assert seen == {torch.bfloat16}
    floating = [v for v in _weights(checkpoint).values() if v.is_floating_point()]
    assert {v.dtype for v in floating} == {torch.float32}


def test_float16_and_its_gradient_scaler_resume_exactly(tmp_path: Path, data: Path) -> None:
    def fabric() -> Fabric:
        # `make_fabric` leaves float16 to GPUs; its arithmetic runs on a CPU too.
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        made = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
        made.launch()
        return made

    recipe = gan_recipe(data, "saving.checkpoint=1", "saving.keep=9")
    whole = Trainer(recipe, tmp_path / "whole", fabric())
    checkpoint = whole.train()
    scale = whole.fabric.strategy.precision.state_dict()["scale"]
    assert scale > 1024
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last").write_text("step-00000003")
    run = Trainer(recipe, tmp_path / "run", fabric())
    run.load(tmp_path / "run" / "checkpoints" / "step-00000003")
    again = run.train()
    assert run.fabric.strategy.precision.state_dict()["scale"] == scale
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
    found = _weights(again)
    for name, value in _weights(checkpoint).items():
        assert value.isfinite().all()
        assert torch.equal(found[name], value), name


def test_what_cannot_run_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="16-mixed needs a GPU"):
        make_fabric("16-mixed", "cpu")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").touch()
    with pytest.raises(UsageError, match="is there already: give another --output"):
        train(pconv_recipe(data), tmp_path / "run", "cpu")
    with pytest.raises(UsageError, match="do not fill a round of batch_size=100"):
        train(pconv_recipe(data, "batch_size=100"), tmp_path / "new", "cpu")
    with pytest.raises(UsageError, match="root must be a folder"):
        train(pconv_recipe(tmp_path / "nothing"), tmp_path / "new", "cpu")
    with pytest.raises(UsageError, match="not supported for 'vanilla_autoencoder'"):
        train(plain_recipe(data, "phases.main.freeze_encoder_norm=true"), tmp_path / "new", "cpu")


def test_a_system_must_return_the_losses_it_was_asked_for(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Plain):
        losses = ("mse", "other")

    monkeypatch.setitem(base._systems, "vanilla_autoencoder", Wrong)
    with pytest.raises(RuntimeError, match="must return mse, other, got mse"):
        train(plain_recipe(data, "losses.other=1"), tmp_path / "run", "cpu")


def test_a_run_means_the_same_files_from_any_folder(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    masks = "masks.options={k: 2, source: {kind: folder, options: {root: ., polarity: white=hole}}}"
    recipe = pconv_recipe(Path(data.name), "phases.main.iterations=1", masks)
    benchmark = torch.backends.cudnn.benchmark
    train(recipe, tmp_path / "run", "cpu")
    assert torch.backends.cudnn.benchmark == benchmark
    written = load_recipe(str(tmp_path / "run" / "recipe.yaml"))
    assert written.data.root == str(data)
    assert written.masks.options["source"]["options"]["root"] == str(data.parent)
    assert recipe.data.root == data.name
    recipe.options["vgg"] = "vgg.pth"
    recipe.data.root = "https://example.com/a.tar"
    absolute = with_absolute_paths(recipe)
    assert absolute.options["vgg"] == str(data.parent / "vgg.pth")
    assert absolute.data.root == recipe.data.root


def test_schedules_lead_from_one_to_zero() -> None:
    assert [schedule_factor("constant", share) for share in (0, 0.9)] == [1, 1]
    assert [schedule_factor("linear", share) for share in (0, 0.25, 1)] == [1, 0.75, 0]
    assert schedule_factor("cosine", 0) == 1
    assert schedule_factor("cosine", 0.5) == pytest.approx(0.5)
    assert schedule_factor("cosine", 1) == pytest.approx(0)
