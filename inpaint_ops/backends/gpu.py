"""What both GPU backends ask of torch and of the machine."""

from __future__ import annotations

import torch


def no_gpu() -> str | None:
    """Why torch cannot use a GPU here and what helps, or None. Never starts one."""
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} is a build without CUDA; install one with it "
            "(https://pytorch.org/get-started)"
        )
    if not torch.cuda.is_available():
        return (
            "torch finds no usable NVIDIA GPU; nvidia-smi says whether the driver sees one, and "
            f"which CUDA it supports: torch {torch.__version__} needs {torch.version.cuda}"
        )
    return None
