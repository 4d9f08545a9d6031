"""How well the weights in the box fill photographs that they have not seen, beside what learns
nothing.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inpaint_models import smooth_filling
from inpaint_models.training import evaluate
from inpaint_models.training.baselines import BASELINES
from inpaint_models.training.data import Transform
from inpaint_models.training.sources import ImageFolder
from inpaint_models.weights import PRETRAINED, load_pretrained

from .. import machine
from ..reproduction.measure import TestSet
from ..reproduction.split import MaskSet
from .plan import METRICS, NAME, TEST_SIZE, TESTS

FORMAT = 1
DIGITS = 6


def load_tests(work: Path, masks: MaskSet) -> TestSet:
    """The middles of the test photographs, and the holes of one set."""
    source = ImageFolder(work / "pictures" / "test")
    middle = Transform(TEST_SIZE, crop="center", flip=False, resize=None)
    dice = np.random.default_rng(0)  # not used: middles are not drawn
    images = [torch.from_numpy(middle(source.load(i), dice)) for i in range(len(source))]
    names = [Path(source.name(i)).stem for i in range(len(source))]
    return TestSet(names, torch.stack(images), torch.from_numpy(masks.holes())[:, None], False)


def measure(work: Path, name: str = NAME) -> dict[str, Any]:
    """Means of every metric and method, by hole ratio and by photograph.

    Args:
        work: where `prepare` wrote the copies.
        name: of a network in the box.
    """
    net = load_pretrained(name)
    file = (PRETRAINED / f"{name}.safetensors").read_bytes()
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe_machine("cpu"),
        "versions": {
            "torch": torch.__version__,
            "opencv": machine.version("opencv-python-headless"),
        },
        **machine.describe_commit(),
        "weights": {
            "name": name,
            "bytes": len(file),
            "parameters": sum(p.numel() for p in net.parameters()),
            "sha256": hashlib.sha256(file).hexdigest(),
        },
        "bins": {masks.name: _measure(net, load_tests(work, masks)) for masks in TESTS.values()},
    }


def _measure(net: torch.nn.Module, tests: TestSet) -> dict[str, Any]:
    others = {"smooth filling": smooth_filling, **BASELINES}
    found = evaluate.evaluate(net, tests, model=NAME, metrics=METRICS, baselines=others)
    return {method: _means(found, method) for method in found.methods}


def _means(found: evaluate.Evaluation, method: str) -> dict[str, Any]:
    photographs: dict[str, list[evaluate.Row]] = {}
    for row in found.of(method):
        photographs.setdefault(row.name, []).append(row)
    return {
        "means": {m: round(v, DIGITS) for m, v in found.summary(method).means.items()},
        "by_photograph": {
            name: {m: round(float(np.mean([r.values[m] for r in rows])), DIGITS) for m in METRICS}
            for name, rows in photographs.items()
        },
    }
