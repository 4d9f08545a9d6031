"""The dtype that half precision is computed in."""

from __future__ import annotations

import torch


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Counts, ratios, statistics and maps: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
