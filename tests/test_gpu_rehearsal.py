"""The bodies of the tests for a GPU, on the CPU: what they ask is right, and they run.

Streams, graphs and a second device have nothing here to stand in for them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inpaint_ops import use_backend

BACKENDS = pytest.mark.parametrize("backend", ["cpu", "reference"])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tests as a module whose device is the CPU."""
    path = Path(__file__).with_name("test_gpu.py")
    spec = importlib.util.spec_from_file_location("rehearsed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    monkeypatch.setattr(module, "HUGE", (3, 64))
    return module


@BACKENDS
def test_operators(plain: Any, gpu: ModuleType, backend: str) -> None:
    with use_backend(backend):
        for dtype, layout in (("float32", "nhwc"), ("float16", "nchw"), ("bfloat16", "nhwc")):
            for form in gpu.FORMS:
                gpu.test_partial_convolution(plain, backend, dtype, layout, gpu.SIZES[0], form)
            for form in ("plane", "shared", "soft", "hole", "full"):
                for size in gpu.SIZES[:3]:
                    gpu.test_region_normalization(
                        plain, backend, dtype, layout, size, form, "batch"
                    )
            for form in gpu.BLOCKS:
                for size in gpu.SIZES[:3]:
                    gpu.test_norm_in_a_block(plain, backend, dtype, layout, size, form)
            gpu.test_learned_region_normalization(plain, backend, dtype, layout, gpu.SIZES[2])
            gpu.test_learned_norm_in_a_block(plain, backend, dtype, layout, gpu.SIZES[2])
            gpu.test_three_axes(plain, backend, dtype)
        for order in ("contiguous", "channels last", "expanded", "stepped"):
            gpu.test_mask_update(plain, backend, order, 3, "float32")
        gpu.test_an_empty_batch_and_soft_values_of_three_axes(backend)
        for op in ("partial_conv", "region_norm"):
            gpu.test_offsets_beyond_32_bits(backend, op)
        gpu.test_float64_goes_to_the_reference(plain, "batch")


@BACKENDS
def test_modules(
    plain: Any, gpu: ModuleType, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with use_backend(backend):
        gpu.test_the_same_bits_every_time(plain, backend, "nchw", monkeypatch)
        gpu.test_opcheck(plain, backend, "nhwc")


def test_a_whole_network(plain: Any, gpu: ModuleType) -> None:
    with use_backend("cpu"):
        gpu.test_whole_networks(plain, "cpu", "nhwc", "cgan_pc_rn")
