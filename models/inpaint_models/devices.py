"""CPU or GPU."""

from __future__ import annotations

import torch

from .errors import UsageError


def choose_accelerator(accelerator: str) -> str:
    """ "cpu" or "gpu" for "cpu", "gpu" or "auto".

    Raises:
        UsageError: "gpu", but there is none.
    """
    there = torch.cuda.is_available()
    if accelerator == "auto":
        return "gpu" if there else "cpu"
    if accelerator == "gpu" and not there:
        raise UsageError("torch finds no usable GPU: give --accelerator cpu")
    return accelerator
