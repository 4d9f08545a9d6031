"""The command `inpaint`: what it prints, writes and returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from inpaint_cli import main
from inpaint_models import create_model, list_models, weights
from inpaint_models.training import checkpoints
from inpaint_models.training.recipe import FOLDER, dump_recipe, list_recipes, load_recipe
from inpaint_models.training.systems import base, pconv_unet
from PIL import Image
from training_runs import TINY, Plain, TinyGan, draw_pictures, losses_of

SMALL = [*TINY, "losses.perceptual=0", "losses.style=0", "phases.main.iterations=3",
         "phases.finetune.iterations=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_systems(one_thread: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(base._systems, "cgan_pc_rn", TinyGan)
    monkeypatch.setitem(base._systems, "vanilla_autoencoder", Plain)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_pictures(tmp_path_factory.mktemp("data") / "pictures"))


def _fails(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The one line that a command line ends with."""
    capsys.readouterr()
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[-1].startswith("inpaint: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_help_teaches_and_does_not_wait_for_torch() -> None:
    code = (
        "import sys, inpaint_cli\n"
        "try: inpaint_cli.main(sys.argv[1:])\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    for command in (
        [], ["train"], ["evaluate"], ["export"], ["fill"], ["demo"], ["models"], ["masks"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "inpaint" in done.stdout
        if command:
            assert f"usage: inpaint {command[0]}" in done.stdout
        else:
            assert "exit codes: 0 done, 1 failed, 2 wrong usage, 130" in done.stdout


def test_a_run_is_trained_resumed_and_evaluated(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = ("--accelerator", "cpu")
    assert main(["train", "pconv_unet", "--data", data, "--output", "whole", *cpu, *SMALL]) == 0
    assert capsys.readouterr().out.strip().endswith("step-00000004")

    steps = []
    predict = pconv_unet.PartialConvSystem.predict

    def interrupted(self: Any, batch: Any) -> Any:
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return predict(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(pconv_unet.PartialConvSystem, "predict", interrupted)
        line = _fails(capsys, 130, "train", "pconv_unet", "--data", data, *cpu, *SMALL)
    run = "runs/pconv_unet"
    assert line.endswith(f"by SIGINT after step 2; go on with: inpaint train --resume {run}")
    assert main(["train", "--resume", run, *cpu]) == 0
    assert losses_of(Path(run)) == losses_of(Path("whole"))

    results = ("--output", "results", "--colours", "offset", "--beside", "shi-1")
    capsys.readouterr()
    assert main(["evaluate", run, "--data", data, "data.workers=0", *results, *cpu]) == 0
    printed = capsys.readouterr().out
    for word in ("pconv_unet", "colour-corrected", "PSNR", "PC 80k iters"):
        assert word in printed
    small = ("image_size=32", "data.workers=0", "metrics=[psnr]")
    assert main(["evaluate", "compact", "--data", data, *small, *cpu]) == 0
    assert "Navier-Stokes" in capsys.readouterr().out
    names = sorted(path.name for path in Path("results").iterdir())
    assert names == ["evaluation.json", "pictures.png", "rows.csv", "table.md"]
    assert Path("results/table.md").read_text() == printed
    rows = Path("results/rows.csv").read_text().splitlines()
    assert sum(row.startswith("pconv_unet,") for row in rows) == 8


def test_a_failed_training_returns_1(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pconv_unet, "hole_l1", lambda *a, **k: torch.tensor(torch.inf))
    cpu = ("--accelerator", "cpu")
    line = _fails(capsys, 1, "train", "pconv_unet", "--data", data, *cpu, *SMALL)
    assert "loss 'hole' is inf at step 1" in line


def test_wrong_usage_returns_2_with_a_mend(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").mkdir()
    Path("taken/file").touch()
    train = ("train", "pconv_unet", "--accelerator", "cpu", *SMALL)
    for arguments, message in (
        (("train",), "give a recipe or --resume RUN"),
        (("train", "pconv"), "did you mean 'pconv_unet'?"),
        (train, "no data: give --data DIR"),
        ((*train, "--data", "nowhere"), "root must be a folder"),
        ((*train, "--data", data, "--output", "taken"), "give another --output, or --resume taken"),
        ((*train, "--data", data, "batch=2"), "Did you mean: 'batch_size'?"),
        ((*train, "--data", data, "losses.style=1"), "options.vgg=vgg16-397923af.pth"),
        (("train", "--resume", "taken"), "is not a run"),
        (("train", "pconv_unet", "--resume", "taken"), "give nothing else with it"),
        (("train", "pconv_unet", "batch"), "'batch' after 'pconv_unet': give key=value"),
        (("models", "pconv"), "did you mean 'pconv_unet'?"),
        (("masks",), "give either a kind of masks or --recipe"),
        (("masks", "rectangle"), "did you mean 'rectangles'?"),
        (("masks", "rectangles", "count=0"), "count"),
        (("masks", "rectangles", "--output", "no/masks.png"), "no/masks.png"),
        (("masks", "rectangles", "ratio=3"), "ratio must be (low, high)"),
        (("masks", "rectangles", "--size", "0"), "size must be at least 1, got 0"),
        (("masks", "rectangles", "--output", "taken/file"), "give another --output, or --force"),
        ((*train, "--data", data, "--output", "taken/file/run"), "--output taken/file/run: "),
        (
            (*train, "--data", data, "masks.kind=rectangles", "masks.options.size=[40, 40]"),
            "masks: size=(40, 40) does not fit into a picture of 32x32",
        ),
        ((*train, "--data", data, "optimizers.generator.betas=[2, 3]"), "two numbers in [0, 1)"),
        (("evaluate", "taken", "--data", data), "no checkpoint here"),
        (("evaluate", "taken", "--data", data, "--beside", "9"), "unknown table '9'"),
    ):
        assert message in _fails(capsys, 2, *arguments), arguments
    for arguments in (
        (),
        ("trane",),
        ("train", "--batch", "3"),
        ("evaluate", "x"),
        ("models", "a", "b"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        printed = capsys.readouterr().err
        assert printed.startswith("inpaint: ")
        assert printed.count("\n") == 1


def test_what_stops_a_run_from_outside_is_one_line(
    data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", "pconv_unet", "--accelerator", "cpu", *SMALL, "--data")

    for free, end in ((0, "start anew"), (2, "go on with: inpaint train --resume full-2")):
        saved: list[int] = []

        def save(*arguments: Any, saved: list[int] = saved, free: int = free) -> bytes:
            if len(saved) == free:
                raise OSError(28, "No space left on device")
            saved.append(1)
            return safetensors.torch.save(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", save)
            full = ("saving.checkpoint=1", "--output", f"full-{free}")
            line = _fails(capsys, 1, *train, data, *full)
        assert line.endswith(f"No space left on device; mend that, then {end}")
    broken = draw_pictures(Path("broken"), 4)
    for path in broken.iterdir():
        path.write_bytes(b"broken")
    for workers in (0, 1):
        output = ("--output", f"broken-{workers}", f"data.workers={workers}")
        line = _fails(capsys, 1, *train, "broken", *output)
        assert line.startswith("inpaint: 4 pictures in a row cannot be used")
    masks = ("masks.kind=folder", "masks.options={root: broken, polarity: white=hole}")
    line = _fails(capsys, 2, *train, data, *masks)
    assert "masks: none of the 4 masks in" in line


def test_ctrl_c_speaks_of_checkpoints_only_where_there_are_any(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inpaint_models.list_models", interrupted)
    monkeypatch.setattr("inpaint_models.training.recipe.load_recipe", interrupted)
    assert _fails(capsys, 130, "models") == "inpaint: stopped"
    line = _fails(capsys, 130, "train", "pconv_unet")
    assert line == "inpaint: stopped, nothing saved since the last checkpoint"


def test_models_are_described_without_the_packages_for_training() -> None:
    code = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'omegaconf' else find(name)\n"
        "import inpaint_cli\n"
        "sys.exit(inpaint_cli.main(sys.argv[1:]))\n"
    )
    for arguments, status, words in (
        (["models"], 0, "pconv_unet"),
        (["models", "pconv_unet"], 0, "training: inpaint_models.training needs omegaconf: pip"),
        (["train", "pconv_unet"], 1, "needs omegaconf: pip install 'inpaint_ops[train]'"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert done.returncode == status
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_shown_recipe_is_a_file_to_start_from(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "pconv_unet", "batch_size=5", "--data", data, "--show"]) == 0
    Path("mine.yaml").write_text(capsys.readouterr().out)
    mine = load_recipe("mine.yaml")
    assert (mine.batch_size, mine.data.root) == (5, data)
    mine.batch_size, mine.data.root = 16, None
    assert mine == load_recipe("pconv_unet")


def test_models_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    *lines, trained = capsys.readouterr().out.splitlines()
    assert trained == f"trained, for --model: {', '.join(weights.list_pretrained())}"
    assert [line.split()[0] for line in lines] == list_models()
    assert list_recipes() == list_models()
    assert len({line.index(line.split()[2]) for line in lines}) == 1
    assert main(["models", "cgan_pc_rn"]) == 0
    printed = capsys.readouterr().out
    assert "25,781,880" in printed
    assert "discriminator of cgan_pc_rn: 70x70 PatchGAN" in printed
    assert "losses: valid 1, hole 6, adversarial 1" in printed  # of TinyGan
    recipe, *others = sorted(printed.splitlines(), key=lambda line: ".yaml" not in line)
    assert recipe == f"  recipe: {FOLDER / 'cgan_pc_rn.yaml'}"
    assert max(map(len, others)) <= 100
    assert main(["models", "pconv_unet"]) == 0
    assert "options.tv_region: hole" in capsys.readouterr().out


def test_trained_networks_are_listed_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "trained, for --model: none"
    net = create_model("unet_mse", width=4)
    stored = {"model": "unet_mse", "options": '{"width": 4}'}
    safetensors.torch.save_file(net.state_dict(), tmp_path / "bare.safetensors", stored)
    recipe = dump_recipe(load_recipe("unet_mse", ["about=for this test", "batch_size=7"]))
    safetensors.torch.save_file(
        net.state_dict(), tmp_path / "small.safetensors", stored | {"recipe": recipe}
    )
    (tmp_path / "small.md").write_text("# small\n")

    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "trained, for --model: bare, small"
    assert main(["models", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "small: trained weights of unet_mse",
        "  options: width 4",
        f"  parameters: {sum(p.numel() for p in net.parameters()):,}",
        f"  weights: {tmp_path / 'small.safetensors'}",
        f"  model card: {tmp_path / 'small.md'}",
        "  training: for this test",
    ]
    assert any(line.startswith("  pictures: ") and "7 a step" in line for line in lines)
    assert main(["models", "bare"]) == 0
    printed = capsys.readouterr().out
    assert "model card" not in printed
    assert printed.splitlines()[-1] == "  training: the file holds no recipe"
    assert "did you mean 'small'?" in _fails(capsys, 2, "models", "smal")


def test_masks_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["masks", "free-form", "ratio=[0.1,0.2]", "--count", "3", "--size", "48"]) == 0
    assert capsys.readouterr().out == "masks.png\n"
    with Image.open("masks.png") as sheet:
        histogram = sheet.convert("L").histogram()
    assert 3 * 48 * 48 * 0.1 < histogram[0] < 3 * 48 * 48 * 0.25
    arguments = ["masks", "--recipe", "pconv_unet", "--count", "1", "--size", "32"]
    assert main([*arguments, "--output", "other.png"]) == 0
    assert Path("other.png").is_file()
    assert main(["masks", "circles", "--count", "1", "--output", "other.png", "--force"]) == 0


def test_a_signal_to_the_whole_group_saves_the_run(data: str) -> None:
    # As schedulers and torchrun send it: to the worker process of the loader too.
    run = Path("runs/pconv_unet")
    endless = (*SMALL, "data.workers=1", "phases.main.iterations=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "inpaint_cli", "train", "pconv_unet", "--data", data,
         "--accelerator", "cpu", *endless],
        start_new_session=True, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("main 2/"):
                break
        os.killpg(process.pid, signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 143, rest
    assert "stopped by SIGTERM after step" in rest.splitlines()[-1]
    assert (run / "checkpoints/last").is_file()
