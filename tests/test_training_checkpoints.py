"""Checkpoints: whole or absent whatever happens, and enough to go on exactly."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inpaint_models import create_model
from inpaint_models.errors import InpaintError, UsageError
from inpaint_models.training import checkpoints
from inpaint_models.training.checkpoints import (
    read_state,
    write_checkpoint,
)
from inpaint_models.training.loop import resume, train
from inpaint_models.training.recipe import Recipe
from inpaint_models.training.systems import base
from inpaint_models.weights import last_checkpoint, load_generator, read_weights
from torch import Tensor, nn
from training_runs import (
    TinyGan,
    draw_pictures,
    gan_recipe,
    in_processes,
    losses_of,
    pconv_recipe,
)


@pytest.fixture(autouse=True)
def _small_systems(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base._systems, "cgan_pc_rn", TinyGan)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("data") / "pictures")


def _networks(value: float) -> dict[str, nn.Module]:
    layer = nn.Linear(3, 2)
    nn.init.constant_(layer.weight, value)
    return {"generator": layer}


def _write(folder: Path, step: int, keep: int = 2) -> None:
    metadata = {"generator": {"model": "none"}}
    write_checkpoint(folder, step, _networks(step), metadata, {"step": step}, keep)


def _is_whole(checkpoint: Path | None) -> int:
    """The step of a checkpoint of which every part belongs to that step."""
    assert checkpoint is not None
    step = read_state(checkpoint)["step"]
    assert isinstance(step, int)
    assert checkpoint.name == f"step-{step:08d}"
    tensors, _ = read_weights(checkpoint / "generator.safetensors")
    assert torch.equal(tensors["weight"], torch.full((2, 3), float(step)))
    return step


class _Power:
    """Fails at the n-th operation on files, and at every later one."""

    def __init__(self, patch: pytest.MonkeyPatch, fails_at: int) -> None:
        self.fails_at, self.count = fails_at, 0
        for owner, name in (
            (os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "mkdir"), (Path, "open"),
            (shutil, "rmtree"), (torch, "save"), (checkpoints, "save"),
        ):  # fmt: skip
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count >= self.fails_at:
                raise SystemError("no power")
            return function(*arguments, **options)

        return counted


def test_a_crash_between_any_two_operations_leaves_a_whole_last_checkpoint(tmp_path: Path) -> None:
    steps = []
    for fails_at in range(1, 100):
        folder = tmp_path / str(fails_at)
        for step in (1, 2):
            _write(folder, step)
        with pytest.MonkeyPatch.context() as patch:
            power = _Power(patch, fails_at)
            try:
                _write(folder, 3)
            except SystemError:
                crashed = True
            else:
                crashed = False
        steps.append(_is_whole(last_checkpoint(folder)))
        _write(folder, 4)
        assert _is_whole(last_checkpoint(folder)) == 4
        # What the crash has left is gone, or at least not taken for a checkpoint.
        for checkpoint in folder.glob("step-*"):
            _is_whole(checkpoint)
        if not crashed:
            break
    assert not crashed
    assert power.count > 15
    assert set(steps) == {2, 3}
    assert steps == sorted(steps)


def test_so_many_checkpoints_stay_as_were_asked_for(tmp_path: Path) -> None:
    for step in range(1, 6):
        _write(tmp_path, step, keep=3)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["last", "step-00000003", "step-00000004", "step-00000005"]
    _write(tmp_path, 5, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-00000005"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    def write(value: float) -> None:
        write_checkpoint(tmp_path, 2, _networks(value), {"generator": {}}, {"step": 2}, 2)

    with pytest.raises(InpaintError, match=r"'weight' is no longer finite; no checkpoint has been"):
        write(torch.nan)
    _write(tmp_path, 1)
    with pytest.raises(InpaintError, match=r"the last checkpoint is .*step-00000001: try a lower"):
        write(torch.inf)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-00000001"]


def test_what_a_kill_has_left_is_swept_when_the_run_goes_on(tmp_path: Path, data: Path) -> None:
    train(gan_recipe(data, "saving.checkpoint=1"), tmp_path / "run", "cpu")
    folder = tmp_path / "run" / "checkpoints"
    (folder / "last").write_text("step-00000006")
    (folder / ".tmp-step-00000003").mkdir()
    (folder / ".tmp-step-00000003" / "state.pt").touch()
    (folder / ".tmp-last").touch()
    resume(tmp_path / "run", "cpu")
    assert not list(folder.glob(".tmp-*"))


def _train_or_resume(recipe: Recipe, run: Path) -> None:
    torch.set_num_threads(1)
    if last_checkpoint(run / "checkpoints") is None:
        shutil.rmtree(run, ignore_errors=True)
        train(recipe, run, "cpu")
    else:
        resume(run, "cpu")


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, data: Path
) -> None:
    overrides = (
        "saving.checkpoint=1",
        "phases.generator.iterations=30",
        "phases.both.iterations=5",
    )
    recipe = gan_recipe(data, *overrides)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(recipe, whole, "cpu")
    dice = random.Random(3)
    fork = multiprocessing.get_context("fork")
    kills, reached = 0, set()
    while kills < 5:
        before = last_checkpoint(run / "checkpoints")
        child = fork.Process(target=_train_or_resume, args=(recipe, run))
        child.start()
        assert child.pid is not None
        # The clock starts with the first new checkpoint, so that kills meet checkpoints being made.
        while child.is_alive() and last_checkpoint(run / "checkpoints") == before:
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        checkpoint = last_checkpoint(run / "checkpoints")
        assert checkpoint is not None
        reached.add(read_state(checkpoint)["step"])
        load_generator(run)
    assert len(reached) == kills
    resume(run, "cpu")
    assert losses_of(run) == losses_of(whole)
    _assert_same_weights(run, whole)


def _assert_same_weights(one: Path, other: Path) -> None:
    pair = [last_checkpoint(run / "checkpoints") for run in (one, other)]
    assert pair[0] is not None
    assert pair[1] is not None
    assert pair[0].name == pair[1].name
    for path in pair[0].glob("*.safetensors"):
        tensors, _ = read_weights(path)
        wanted, _ = read_weights(pair[1] / path.name)
        assert tensors.keys() == wanted.keys()
        for name, value in tensors.items():
            assert torch.equal(value, wanted[name]), name


def _roll_back(run: Path, step: int, target: Path) -> Path:
    """A copy of a run as it was when it had just saved after `step`."""
    shutil.copytree(run, target)
    (target / "checkpoints" / "last").write_text(f"step-{step:08d}")
    return target


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_resumed_run_has_the_losses_and_weights_of_one_that_never_stopped(
    tmp_path: Path, data: Path, step: int
) -> None:
    # Rows of two steps: step 1 and 3 are halfway. Step 3 is where the second phase begins, step 4
    # where the second epoch does.
    saving = ("saving.checkpoint=1", "saving.keep=9", "saving.log=2")
    # Once with a worker: each loader that is dropped within an epoch takes seconds to end its own.
    recipe = pconv_recipe(data, *saving, f"data.workers={int(step == 3)}")
    recipe.phases["finetune"].schedule = "cosine"
    train(recipe, tmp_path / "whole", "cpu")
    run = _roll_back(tmp_path / "whole", step, tmp_path / "run")
    resume(run, "cpu")
    assert losses_of(run) == losses_of(tmp_path / "whole")
    _assert_same_weights(run, tmp_path / "whole")


class _Dropout(TinyGan):
    """Draws from every generator of random numbers."""

    def predict(self, batch: Any) -> Any:
        outputs = super().predict(batch)
        scale = 0.5 + random.random() / 4 + np.random.rand() / 4  # noqa: NPY002 - what it tests
        dropped = nn.functional.dropout(outputs.prediction, 0.2) * scale
        return type(outputs)(dropped)


def test_random_numbers_go_on_where_they_were(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base._systems, "cgan_pc_rn", _Dropout)
    recipe = gan_recipe(data, "saving.checkpoint=1", "saving.keep=9")
    train(recipe, tmp_path / "whole", "cpu")
    run = _roll_back(tmp_path / "whole", 3, tmp_path / "run")
    resume(run, "cpu")
    assert losses_of(run) == losses_of(tmp_path / "whole")
    _assert_same_weights(run, tmp_path / "whole")


def _resume_on_cpu(run: Path) -> None:
    resume(run, "cpu")


def _train_on_cpu(recipe: Recipe, run: Path) -> None:
    train(recipe, run, "cpu")


def test_two_processes_resume_exactly_and_one_does_not_take_their_place(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base._systems, "cgan_pc_rn", _Dropout)
    recipe = gan_recipe(data, "saving.checkpoint=1", "saving.keep=9", "saving.log=2")
    in_processes(2, _train_on_cpu, recipe, tmp_path / "whole")
    run = _roll_back(tmp_path / "whole", 3, tmp_path / "run")
    with pytest.raises(UsageError, match="written by 2 processes, not 1: start as many"):
        resume(run, "cpu")
    in_processes(2, _resume_on_cpu, run)
    assert losses_of(run) == losses_of(tmp_path / "whole")
    _assert_same_weights(run, tmp_path / "whole")


def _predict(net: nn.Module) -> Tensor:
    image = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    y: Tensor = net(image, torch.ones(1, 1, 32, 32))
    return y.detach()


def test_a_generator_is_rebuilt_from_a_run_a_checkpoint_or_a_file(
    tmp_path: Path, data: Path
) -> None:
    checkpoint = train(pconv_recipe(data), tmp_path / "run", "cpu")
    made = []
    for path in (
        tmp_path / "run",
        checkpoint.parent,
        checkpoint,
        checkpoint / "generator.safetensors",
    ):
        net, metadata = load_generator(path)
        assert not net.training
        assert metadata["model"] == "pconv_unet"
        assert metadata["step"] == "5"
        assert "finetune" in metadata["recipe"]
        assert str(torch.__version__) in metadata["versions"]
        made.append(_predict(net))
    for prediction in made[1:]:
        assert torch.equal(prediction, made[0])
    fresh = create_model("pconv_unet", width=4, levels=3).eval()
    assert not torch.equal(_predict(fresh), made[0])


def test_what_is_no_checkpoint_says_so(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; give a run, a checkpoint or a file"):
        load_generator(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no checkpoint here"):
        load_generator(tmp_path)
    (tmp_path / "generator.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="cannot be read"):
        load_generator(tmp_path / "generator.safetensors")
    with pytest.raises(UsageError, match=r"is not a run: it has no recipe\.yaml"):
        resume(tmp_path, "cpu")

    run = tmp_path / "run"
    checkpoint = train(pconv_recipe(data), run, "cpu")
    with pytest.raises(UsageError, match="has been trained to its end"):
        resume(run, "cpu")
    state = (checkpoint / "state.pt").read_bytes()
    (checkpoint / "state.pt").write_bytes(state[: len(state) // 2])
    with pytest.raises(UsageError, match=r"state\.pt cannot be read"):
        resume(run, "cpu")
    shutil.rmtree(checkpoint)
    with pytest.raises(UsageError, match="which is not a complete checkpoint"):
        resume(run, "cpu")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        resume(run, "cpu")


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save({"format": 1, "step": Evil()}, tmp_path / "state.pt")
    with pytest.raises(UsageError, match="cannot be read"):
        read_state(tmp_path)
    assert not (tmp_path / "evil").exists()


def test_other_data_than_the_run_began_with_is_refused(tmp_path: Path, data: Path) -> None:
    pictures = shutil.copytree(data, tmp_path / "pictures")
    recipe = pconv_recipe(pictures, "saving.checkpoint=2", "saving.keep=9")
    train(recipe, tmp_path / "run", "cpu")
    run = _roll_back(tmp_path / "run", 2, tmp_path / "again")
    next(pictures.glob("*.png")).unlink()
    with pytest.raises(UsageError, match="pictures=8, this one has 7"):
        resume(run, "cpu")
