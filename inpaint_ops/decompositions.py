"""The operators as plain ATen, for programs that run where this package is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

from . import library  # noqa: F401  (registers the ops)
from .backends.reference import OPS


def reference_decompositions() -> dict[OpOverload, Callable[..., Any]]:
    """Each operator's plain PyTorch, as ``ExportedProgram.run_decompositions`` takes them.

    >>> program = torch.export.export(net, (image, mask))
    >>> program = program.run_decompositions(inpaint_ops.reference_decompositions())

    leaves a graph without operators of this package, which ``torch.onnx.export`` takes too.
    """
    return {getattr(torch.ops.inpaint_ops, name).default: plain for name, plain in OPS.items()}
