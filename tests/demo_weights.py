"""Weights that no training has seen, as files that the demo takes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from inpaint_models import create_model
from safetensors.torch import save_file


def write_weights(file: Path, seed: int) -> Path:
    """A small `pconv_unet` with random weights."""
    options = {"width": 4, "levels": 4}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = create_model("pconv_unet", **options)
    save_file(net.state_dict(), file, {"model": "pconv_unet", "options": json.dumps(options)})
    return file
