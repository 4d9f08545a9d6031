"""All that the page says, in one JSON: evaluations, losses, settings, and where they come from."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import machine
from .backends import difference
from .plan import METHODS, SEEDS, Run, runs
from .training import read_json, result_path

FOLDER = machine.ROOT / "benchmarks" / "results" / "reproduction"
STORED = FOLDER / "reproduction.json"
FORMAT = 1
DIGITS = 6
"""Of stored numbers: seeds differ in the second."""


def collect(work: Path) -> dict[str, Any]:
    """What is finished below `work`.

    Raises:
        FileNotFoundError: the baselines or the two backends have not been measured yet.
    """
    results = work / "results"
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": _without(machine.describe_machine("cpu"), "threads"),
        # Not how the package was built here and now: that may be another build than the runs'.
        "versions": _without(machine.describe_versions(), "build", "backends"),
        "commits": read_json(results / "commits.json"),
        "planned_seeds": len(SEEDS),
        "baselines": _rounded(read_json(results / "baselines.json")),
        "backends": _differences(read_json(results / "backends.json")),
        "runs": [_run(work, run) for run in runs() if result_path(work, run).exists()],
    }


def _run(work: Path, run: Run) -> dict[str, Any]:
    """A run's result, its log as columns."""
    found = read_json(result_path(work, run))
    if run.seed != SEEDS[0]:
        del found["recipe"]  # it differs in the seed
    log = found.pop("log")
    names = [name for name in log[0] if name not in ("epoch", "waiting", "outside")]
    found["log"] = {
        name: [row[name] if name == "phase" else _number(row[name]) for row in log]
        for name in names
    }
    last = str(run.total)
    for step, tests in found["steps"].items():
        for test in tests.values():
            if step != last and METHODS[run.method].every < 500:
                del test["by_photograph"]
    return {name: value if name == "recipe" else _rounded(value) for name, value in found.items()}


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _rounded(value: Any) -> Any:
    """The same with `DIGITS` significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _differences(found: dict[str, Any]) -> dict[str, Any]:
    """The comparison of the backends, with the largest relative difference of any loss by step."""
    for cases in found.values():
        for name, case in cases.items():
            case["difference"] = difference(*case["losses"].values())
            if name != "float32":
                del case["losses"]
    return found


@dataclass(frozen=True)
class Results:
    """Look-ups in what is stored."""

    stored: dict[str, Any]

    def seeds(self, method: str) -> list[int]:
        """The seeds that are finished."""
        return [run["seed"] for run in self.stored["runs"] if run["method"] == method]

    def of(self, method: str) -> list[dict[str, Any]]:
        """The runs of a method, by seed."""
        return [run for run in self.stored["runs"] if run["method"] == method]

    def values(self, method: str, step: int, test: str, metric: str) -> dict[int, float]:
        """A mean over the test set, by seed."""
        return {
            run["seed"]: run["steps"][str(step)][test]["means"][metric] for run in self.of(method)
        }

    def photographs(self, method: str, step: int, test: str, metric: str) -> dict[str, float]:
        """The mean over the seeds, by photograph."""
        by_seed = [run["steps"][str(step)][test]["by_photograph"] for run in self.of(method)]
        return {
            name: sum(one[name][metric] for one in by_seed) / len(by_seed) for name in by_seed[0]
        }

    def baseline(self, test: str, name: str, metric: str) -> float:
        """A mean of a method that learns nothing."""
        value: float = self.stored["baselines"][test][name]["means"][metric]
        return value


def store(found: dict[str, Any]) -> None:
    """Write the JSON of the page; a list of numbers is one line."""
    text = json.dumps(found, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text)
    FOLDER.mkdir(parents=True, exist_ok=True)
    STORED.write_text(text + "\n", "utf-8")


def load() -> Results:
    """What is stored.

    Raises:
        ValueError: it is of another format.
    """
    stored = read_json(STORED)
    if stored.get("format") != FORMAT:
        raise ValueError(f"{STORED.name} has format {stored.get('format')}, this reads {FORMAT}")
    return Results(stored)
