"""Checkpoints: written whole or not at all, and enough for an exact resume.

    run/checkpoints/
        step-00001000/
            generator.safetensors       weights, and how to rebuild the network
            discriminator.safetensors   if there is one
            state.pt                    optimizers, gradient scaler, random numbers, position
        last                            name of the newest complete one

A checkpoint is written to a temporary folder, flushed to the disk and renamed; then `last` is
replaced, and only then are older ones removed. A kill at any moment leaves `last` naming a complete
checkpoint.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InpaintError, UsageError, one_line
from ..weights import LAST, STATE, last_checkpoint, read_weights

_TEMPORARY = ".tmp-"

FORMAT = 1
"""Version of what a checkpoint holds."""


def write_checkpoint(
    folder: Path,
    step: int,
    networks: Mapping[str, nn.Module],
    metadata: Mapping[str, Mapping[str, str]],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint, make it the last one, remove the oldest.

    Args:
        folder: holds the run's checkpoints; made if it is missing.
        step: names the checkpoint; one of the same step is replaced.
        networks: "generator" and, if there is one, "discriminator".
        metadata: for each network, what goes into its safetensors file.
        state: tensors, numbers, strings and containers of them.
        keep: so many checkpoints stay, at least 1.

    Raises:
        InpaintError: a weight is not finite; nothing is written.
    """
    tensors = {network: _copied(network, module, folder) for network, module in networks.items()}
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{step:08d}"
    temporary = folder / f"{_TEMPORARY}{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for network, copied in tensors.items():
        _write(temporary / f"{network}.safetensors", save(copied, dict(metadata[network])))
    with (temporary / STATE).open("wb") as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # What torch makes of a full disk.
            raise OSError(f"{temporary / STATE} cannot be written: {one_line(error)}") from error
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(temporary)
    target = folder / name
    if target.exists():
        # Only left by a run that was killed before `last` named it: nothing refers to it.
        _remove(target)
    temporary.rename(target)
    _sync_folder(folder)
    _write(folder / f"{_TEMPORARY}{LAST}", name.encode())
    os.replace(folder / f"{_TEMPORARY}{LAST}", folder / LAST)
    _sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        if old != target:
            _remove(old)
    return target


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill has left below `folder`, which no other process may be writing to."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint, on the CPU; nothing but tensors and plain containers is read."""
    path = checkpoint / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise UsageError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UsageError(f"{path} is not a state of format {FORMAT}")
    return state


def load_weights(checkpoint: Path, network: str, module: nn.Module) -> None:
    """Copy a network's weights from a checkpoint into `module`."""
    path = checkpoint / f"{network}.safetensors"
    tensors, _ = read_weights(path)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit its network: {one_line(error)}") from error


def seed_everything(seed: int) -> None:
    """Start every generator of random numbers in this process anew."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for code that uses it


def random_state() -> dict[str, Any]:
    """The states of every generator of random numbers in this process."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - saved for code that uses it
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": (version, torch.tensor(numbers, dtype=torch.int64), gauss),
        "numpy": {
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Go on from what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    legacy = state["numpy"]
    key = legacy["key"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ("MT19937", key, legacy["pos"], legacy["has_gauss"], legacy["gauss"])
    )
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries; without it a rename may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(checkpoint: Path) -> None:
    # Renamed first: a kill halfway must not leave half a checkpoint under a checkpoint's name.
    doomed = checkpoint.with_name(f"{_TEMPORARY}old-{checkpoint.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def _copied(network: str, module: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The weights on the CPU."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InpaintError(
                f"{network}'s weight {name!r} is no longer finite; {where_to_go_back(folder)}"
            )
    return tensors


def where_to_go_back(folder: Path) -> str:
    """What to do when training has failed, for an error's text."""
    last = last_checkpoint(folder)
    saved = "no checkpoint has been written" if last is None else f"the last checkpoint is {last}"
    return f"{saved}: try a lower rate, or precision=32-true"
