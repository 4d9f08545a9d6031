"""Which convolution a shape gets: an implicit matrix product, or the library's and our passes.

INPAINT_OPS_CONV=library takes the library's always, =gemm the product wherever it applies. =auto,
the default, takes what was measured to be faster for this shape on this device, and the library's
where nothing was. It is measured where the user lets PyTorch measure its own convolutions
(``torch.backends.cudnn.benchmark = True``), at a shape's first call, never while a CUDA graph is
captured; the results are kept in ``inpaint_ops/convolutions.json`` in the user's cache folder.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from .gemm import Config

MODES = ("auto", "gemm", "library")
_WARM, _RUNS = 3, 7

Times = list[tuple[float, Config | None]]  # in milliseconds, the fastest first

_known: dict[tuple[Any, ...], Times] = {}


def mode() -> str:
    """INPAINT_OPS_CONV.

    Raises:
        ValueError: it holds something else than ``MODES``.
    """
    found = os.environ.get("INPAINT_OPS_CONV", "auto")
    if found not in MODES:
        raise ValueError(f"INPAINT_OPS_CONV: expected one of {', '.join(MODES)}, got {found!r}")
    return found


def path() -> Path:
    """Where measurements are kept."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "inpaint_ops" / "convolutions.json"


@functools.cache
def machine(device: torch.device) -> str:
    """Everything beside the shape that a measurement holds for."""
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return f"{name}, sm_{major}{minor}, torch {torch.__version__}, triton {triton.__version__}"


def choose(
    what: tuple[Any, ...],
    configs: Sequence[Config],
    run: Callable[[Config | None], Any],
    x: Tensor,
) -> Config | None:
    """The product's tile, or None for the library's convolution.

    Args:
        what: op, shapes, dtype and layout: a measurement is good for calls that have the same.
        configs: the tiles to choose from, the one to take unmeasured first.
        run: makes the call with a tile, or with the library's convolution; called repeatedly where
            it is measured.
        x: a tensor of the call.
    """
    wanted = mode()
    if wanted == "library":
        return None
    key = (*what, x.device)
    if key not in _known and x.is_cuda:
        found = _stored(key)
        if found is None and may_measure():
            found = _measure(configs, run, x)
            _store(key, found)
        if found is not None:
            _known[key] = found
    measured = [config for _, config in _known.get(key, [])]
    if wanted == "gemm":
        return next((config for config in measured if config is not None), configs[0])
    return measured[0] if measured else None


def may_measure() -> bool:
    """Whether the user asked for it, and no graph is being captured or traced."""
    return (
        torch.backends.cudnn.benchmark
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )


def _text(key: tuple[Any, ...]) -> str:
    *what, device = key
    return f"{machine(device)}: {', '.join(map(str, what))}"


def milliseconds(run: Callable[[], Any], x: Tensor) -> float:
    """The median time of a call on the device of x; waits for the device."""
    for _ in range(_WARM):
        run()
    times: list[float] = []
    with torch.cuda.device_of(x):
        for _ in range(_RUNS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def _measure(configs: Sequence[Config], run: Callable[[Config | None], Any], x: Tensor) -> Times:
    times: Times = []
    for config in (None, *configs):
        try:
            times.append((milliseconds(functools.partial(run, config), x), config))
        except triton.runtime.errors.OutOfResources:
            continue  # a tile that needs more shared memory than this device has is no candidate
    return sorted(times, key=lambda entry: entry[0])


def _read() -> dict[str, Any]:
    try:
        found = json.loads(path().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(f"{path()} cannot be read, and is written anew: {error}", stacklevel=2)
        return {}
    return found if isinstance(found, dict) else {}


def _stored(key: tuple[Any, ...]) -> Times | None:
    entry = _file().get(_text(key))
    return None if entry is None else [(ms, Config(*c) if c else None) for ms, c in entry]


@functools.cache
def _file() -> dict[str, Any]:
    """The file as this process found it."""
    return _read()


def _store(key: tuple[Any, ...], entry: Times) -> None:
    """Add an entry; others may have written since, and a reader never sees half a file."""
    target = path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False) as file:
            json.dump({**_read(), _text(key): entry}, file)
        os.replace(file.name, target)
    except OSError as error:
        warnings.warn(f"{target} cannot be written, measurements are lost: {error}", stacklevel=2)
