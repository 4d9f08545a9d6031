"""Trained networks from files: those that come with the package, and what training wrote.

>>> net = load_pretrained()               # "compact", in evaluation mode
>>> net = load_pretrained("runs/mine")    # a run's last checkpoint

A .safetensors file holds the weights, and in its metadata "model" and "options" (JSON), which are
what `create_model` takes. Weights may be stored as float16; networks compute in float32.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import UsageError, one_line, unknown
from .registry import create_model, list_models

PRETRAINED = Path(__file__).parent / "pretrained"
"""Where the package keeps the weights that come with it."""

LAST = "last"
"""Beside checkpoints: a file with the name of the newest complete one."""

STATE = "state.pt"
"""What makes a folder a checkpoint, with the weights."""


def list_pretrained() -> list[str]:
    """Names of the networks that come with the package, sorted."""
    return sorted(path.stem for path in PRETRAINED.glob("*.safetensors"))


def load_pretrained(name: str | os.PathLike[str] = "compact") -> nn.Module:
    """A trained network, in evaluation mode on the CPU.

    Args:
        name: one of `list_pretrained()`, or else a path that `load_generator` takes.

    Raises:
        UsageError: neither such a name nor such a path.
    """
    return load_generator(find_pretrained(name))[0]


def find_pretrained(name: str | os.PathLike[str]) -> Path:
    """The path that `load_generator` takes, of what `load_pretrained` takes.

    Raises:
        UsageError: neither such a name nor such a path.
    """
    names = list_pretrained()
    if name in names:
        return PRETRAINED / f"{name}.safetensors"
    if not Path(name).exists():
        untrained = os.fspath(name) in list_models()
        train = f"; train {os.fspath(name)} with `inpaint train`" if untrained else ""
        raise UsageError(
            f"{unknown('pretrained model', os.fspath(name), names)}, and there is no such file or "
            f"folder{train}"
        )
    return Path(name)


def load_generator(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, str]]:
    """Rebuild a generator from what training wrote.

    Args:
        path: a run's folder (its last checkpoint), a checkpoint's folder, or a
            generator.safetensors.

    Returns:
        The network in evaluation mode on the CPU, and the file's metadata: "model" and "options"
        (JSON), "recipe" (YAML), "step", "versions" (JSON).

    Raises:
        UsageError: not such a path, or a file that does not say how to rebuild its network.
    """
    path = Path(path)
    if path.is_dir():
        found = path if (path / STATE).is_file() else None
        for folder in (path / "checkpoints", path):
            found = found or last_checkpoint(folder)
        if found is None:
            raise UsageError(f"{path}: no checkpoint here; give a run, a checkpoint or a file")
        path = found / "generator.safetensors"
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a run, a checkpoint or a file")
    tensors, metadata = read_weights(path)
    if "model" not in metadata or "options" not in metadata:
        raise UsageError(f"{path} was not written by `inpaint train`: it names no model")
    try:
        net = create_model(metadata["model"], **json.loads(metadata["options"]))
        net.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} does not fit this version: {one_line(error)}") from error
    return net.eval(), metadata


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below `folder`, or None if none has been written.

    Raises:
        UsageError: `last` names a folder that is not there.
    """
    pointer = folder / LAST
    if not pointer.is_file():
        return None
    target = folder / pointer.read_text().strip()
    if not (target / STATE).is_file():
        raise UsageError(f"{pointer} names {target.name}, which is not a complete checkpoint")
    return target


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (  # noqa: SIM118 - no mapping
                file.metadata() or {}
            )
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
