"""The arithmetic of windows that every backend needs."""

from __future__ import annotations

from collections.abc import Sequence


def output_size(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """Spatial size of a convolution's output."""
    return [
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(size, kernel_size, stride, padding, dilation, strict=True)
    ]
