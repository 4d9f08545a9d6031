"""Makes the runs, evaluates their checkpoints, and goes on where it was stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from inpaint_models.training.logs import read_log
from inpaint_models.training.loop import resume, train
from inpaint_models.training.recipe import dump_recipe
from inpaint_models.weights import last_checkpoint, load_generator

from ..machine import describe_commit
from . import measure, split
from .plan import METHODS, Run, runs

CPU = "cpu"


def train_all(work: Path, methods: Collection[str] = tuple(METHODS)) -> None:
    """Whatever has not been trained and evaluated yet, in the order of the plan."""
    note_commit(work)
    baselines = work / "results" / "baselines.json"
    if not baselines.exists():
        write_json(baselines, measure_baselines(work))
    for run in runs():
        result = result_path(work, run)
        if run.method not in methods or result.exists():
            continue
        print(f"{run.name}: training", file=sys.stderr, flush=True)
        train_run(work, run)
        write_json(result, evaluate_run(work, run))


def evaluate_all(work: Path, methods: Collection[str] = tuple(METHODS)) -> None:
    """Every finished run anew, and the baselines, after evaluation has changed."""
    write_json(work / "results" / "baselines.json", measure_baselines(work))
    for run in runs():
        result = result_path(work, run)
        if run.method in methods and result.exists():
            print(f"{run.name}: evaluating", file=sys.stderr, flush=True)
            write_json(result, evaluate_run(work, run))


def measure_baselines(work: Path) -> dict[str, Any]:
    """What learns nothing, over every test set."""
    return {
        name: measure.measure_baselines(measure.load_tests(work, name)) for name in split.MASK_SETS
    }


def note_commit(work: Path) -> None:
    """Add the commit of this checkout, and the threads, to those that have trained below `work`."""
    path = work / "results" / "commits.json"
    commits = read_json(path) if path.exists() else []
    now = {**describe_commit(), "threads": torch.get_num_threads()}
    if now not in commits:
        write_json(path, [*commits, now])


def result_path(work: Path, run: Run) -> Path:
    """The file of what a finished run has come to."""
    return work / "results" / f"{run.name}.json"


def train_run(work: Path, run: Run) -> None:
    """Start a run, or go on with it.

    Raises:
        ValueError: there is one of this name by another recipe.
    """
    folder, recipe = work / "runs" / run.name, run.recipe(work)
    checkpoint = last_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        rmtree(folder, ignore_errors=True)
        train(recipe, folder, CPU)
        return
    if (folder / "recipe.yaml").read_text("utf-8") != dump_recipe(recipe):
        raise ValueError(f"{folder} is of another recipe: remove it, or give another --work")
    if checkpoint.name != step_name(run.total):
        resume(folder, CPU)


def evaluate_run(work: Path, run: Run) -> dict[str, Any]:
    """Every checkpoint over the test sets of its method, and the losses of the log."""
    folder = work / "runs" / run.name
    steps: dict[str, dict[str, Any]] = {}
    for step in run.evaluated:
        net, _ = load_generator(folder / "checkpoints" / step_name(step))
        steps[str(step)] = {
            name: measure.measure(net, measure.load_tests(work, name)) for name in run.tests(step)
        }
    return {
        "method": run.method,
        "seed": run.seed,
        "parameters": sum(p.numel() for p in net.parameters()),
        "recipe": (folder / "recipe.yaml").read_text("utf-8").replace(f"{work}{os.sep}", ""),
        "steps": steps,
        "log": read_log(folder / "log.csv"),
    }


def step_name(step: int) -> str:
    """Of a checkpoint's folder."""
    return f"step-{step:08d}"


def read_json(path: Path) -> Any:
    """The content of a file."""
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """A reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    os.replace(temporary, path)
