"""Chooses the backend of each call: explicit, and never silent.

``auto`` takes the first backend in the device's order that supports the call. A backend that was
asked for by name (:func:`use_backend`, ``INPAINT_OPS_BACKEND``) runs the call or raises with the
reason. On a CPU a native core that cannot be loaded is an error, not a reason to be slow.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor

from . import cpu, cuda, reference, triton

BACKENDS: dict[str, ModuleType] = {b.NAME: b for b in (reference, cpu, cuda, triton)}
AUTO = "auto"
_ORDER: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("cuda", "triton", "reference"),
}
_OTHER_DEVICES = ("reference",)

_chosen = threading.local()
_cache: dict[tuple[Any, ...], Callable[..., Any]] = {}


def check_name(name: str) -> str:
    """``name`` if it is a backend or "auto".

    Raises:
        ValueError: it is neither.
    """
    if name != AUTO and name not in BACKENDS:
        names = ", ".join([AUTO, *BACKENDS])
        raise ValueError(f"backend: expected one of {names}, got {name!r}")
    return name


def current() -> str:
    """The backend asked for in this thread: a name, or "auto"."""
    name: str | None = getattr(_chosen, "name", None)
    if name is None:
        name = check_name(os.environ.get("INPAINT_OPS_BACKEND", AUTO))
        _chosen.name = name
    return name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the calls of this block, and their gradients, on the backend ``name``.

    Args:
        name: "reference", "cpu", "cuda", "triton" or "auto". Holds for the current thread. An
            output's gradient is computed by the backend that computed the output, wherever
            ``backward()`` is called.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: (at the call) the backend cannot run it; the message says why.
    """
    before = current()
    _chosen.name = check_name(name)
    try:
        yield
    finally:
        _chosen.name = before


def available_backends() -> dict[str, str | None]:
    """Every backend by name; None if it can run on this machine, else the reason why not."""
    return {name: backend.unavailable() for name, backend in BACKENDS.items()}


def why_not(backend: ModuleType, op: str, tensor: Tensor) -> str | None:
    """The reason why ``backend`` cannot run ``op`` on ``tensor``, or None."""
    reason: str | None = backend.unavailable() or backend.unsupported(op, tensor)
    return reason


def resolve(op: str, tensor: Tensor) -> Callable[..., Any]:
    """The function that runs ``op`` on tensors of this device and dtype."""
    key = (op, tensor.device, tensor.dtype, current())
    function = _cache.get(key)
    if function is None:
        function = _cache[key] = _select(op, tensor)
    return function


def _select(op: str, tensor: Tensor) -> Callable[..., Any]:
    wanted, device = current(), tensor.device.type
    names = _ORDER.get(device, _OTHER_DEVICES) if wanted == AUTO else (wanted,)
    reasons = {}
    for name in names:
        backend = BACKENDS[name]
        reason = why_not(backend, op, tensor)
        if reason is None:
            function: Callable[..., Any] = backend.OPS[op]
            return function
        if name == "cpu" and backend.unavailable() is not None:
            raise RuntimeError(
                f"{op}: {reason} (or ask for the slow one: use_backend('reference'))"
            )
        reasons[name] = reason
    text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    message = f"{op}: no backend can run this call on {device} {tensor.dtype}: {text}"
    if wanted != AUTO:
        message += (
            f" ({wanted} was asked for by use_backend or INPAINT_OPS_BACKEND; 'auto' takes "
            "whatever can run it)"
        )
    raise RuntimeError(message)
