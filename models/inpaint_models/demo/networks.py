"""The networks on offer, and their checkpoints; loaded when they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import UsageError, unknown
from ..weights import LAST, STATE, last_checkpoint, list_pretrained, load_pretrained

_KEPT = 3
"""So many networks stay in memory."""

_WEIGHTS = "generator.safetensors"


class Networks:
    """Names of trained networks: those that come with the package, checkpoints of runs, files.

    Args:
        given: names of `list_pretrained()`, or paths that `load_pretrained` takes; offered first.
            A run is offered with all its checkpoints, the last one first.
        runs: a folder; every run below it is offered, and every .safetensors file in it.
        device: where networks run.

    Raises:
        UsageError: a path that holds no weights, or nothing to offer.
    """

    def __init__(
        self,
        given: Sequence[str] = (),
        runs: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = device
        # From names to what `load_pretrained` takes.
        self._offered: dict[str, str] = {}
        self._loaded: OrderedDict[str, nn.Module] = OrderedDict()
        pretrained = list_pretrained()
        for name in given:
            self._offered |= {name: name} if name in pretrained else _checkpoints(name, Path(name))
        if runs is not None:
            self._offered |= _below(runs)
        for name in pretrained:
            self._offered.setdefault(name, name)
        if not self._offered:
            raise UsageError("no weights come with this version: give --model or --runs")

    @property
    def names(self) -> list[str]:
        """The networks, those that were asked for first."""
        return list(self._offered)

    def load(self, name: str) -> nn.Module:
        """A network in evaluation mode, on its device.

        Raises:
            UsageError: it is not on offer, or its file cannot be read.
        """
        if name not in self._offered:
            raise UsageError(unknown("network", name, self._offered))
        if name not in self._loaded:
            self._loaded[name] = load_pretrained(self._offered[name]).to(self._device)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]


def _checkpoints(name: str, path: Path) -> dict[str, str]:
    """What a path stands for: all checkpoints of a run, or one file or folder by itself."""
    if path.is_dir() and not (path / STATE).is_file():
        for folder in (path / "checkpoints", path):
            last = last_checkpoint(folder)
            if last is not None:
                others = sorted((p for p in folder.iterdir() if _is_complete(p)), reverse=True)
                return {f"{name}, {p.name}": str(p) for p in dict.fromkeys([last, *others])}
        raise UsageError(f"{path}: no checkpoint here; give a run, a checkpoint or a file")
    if not path.exists():
        raise UsageError(
            f"{unknown('pretrained network', name, list_pretrained())}, and there is no such file "
            "or folder"
        )
    return {name: str(path)}


def _is_complete(path: Path) -> bool:
    return path.name.startswith("step-") and all((path / x).is_file() for x in (STATE, _WEIGHTS))


def _below(runs: Path) -> dict[str, str]:
    if not runs.is_dir():
        raise UsageError(f"--runs: {runs} is no folder")
    folders = {pointer.parent.parent for pointer in runs.glob(f"**/checkpoints/{LAST}")}
    files = {path for path in runs.glob("*.safetensors") if path.is_file()}
    if not folders | files:
        raise UsageError(f"--runs: no run and no .safetensors file below {runs}")
    found: dict[str, str] = {}
    for path in sorted(folders | files):
        name = path.relative_to(runs).as_posix() if path != runs else path.resolve().name
        found |= _checkpoints(name, path)
    return found
