"""Memory that nobody wrote does not pass for a result (``poison`` in conftest.py)."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import RN_L, core, partial_conv2d, region_norm, update_mask, use_backend
from inpaint_ops.backends.cpu import scratch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_torch_hands_out_is_nan(dtype: torch.dtype) -> None:
    x = torch.zeros(3, 5, dtype=dtype)
    for fresh in (
        torch.empty(4, dtype=dtype), x.new_empty(2), torch.empty_like(x),
        torch.empty_strided((2, 3), (3, 1), dtype=dtype), x.new_empty_strided((2, 3), (3, 1)),
    ):  # fmt: skip
        assert fresh.isnan().all()


def test_integers_are_far_from_any_index() -> None:
    fresh = torch.empty(4, dtype=torch.int32)
    assert torch.equal(fresh, torch.full_like(fresh, 2**31 - 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scratch_is_nan_at_every_use(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)
    scratch.release()
    first = scratch.empty_like(x, scratch.INPUT)
    assert first.isnan().all()
    first.zero_()
    again = scratch.empty_like(x, scratch.INPUT)
    assert again.data_ptr() == first.data_ptr()
    assert again.isnan().all()


def test_in_every_thread() -> None:
    x = torch.zeros(7)
    with ThreadPoolExecutor(1) as pool:
        for fresh in (pool.submit(torch.empty_like, x), pool.submit(scratch.empty_like, x, "grad")):
            assert fresh.result().isnan().all()


class _Idle:
    """A core whose functions do nothing."""

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_: name == "partial_conv_prologue"  # there are holes


X, MASK = torch.randn(2, 18, 6, 5), torch.ones(2, 1, 6, 5)
MASK[:, :, 1:3] = 0
WEIGHT = torch.randn(4, 18, 3, 3)


def _gradient(call: Callable[[Tensor], Tensor]) -> Tensor:
    """Of the input, after a forward that ran and a backward that wrote nothing."""
    x = X.clone().requires_grad_()
    y = call(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "load", _Idle)
        return torch.autograd.grad(y, x, torch.ones_like(y))[0]


FORWARD: dict[str, Callable[[], Any]] = {
    "update_mask": lambda: update_mask(MASK, 3),
    "partial_conv2d": lambda: partial_conv2d(X, MASK, WEIGHT),
    "partial_conv2d, native convolution": lambda: partial_conv2d(X, None, WEIGHT[:3].clone()),
    "region_norm": lambda: region_norm(X, MASK),
    "RN_L": lambda: RN_L(18)(X),
}
BACKWARD: dict[str, Callable[[Tensor], Tensor]] = {
    "partial_conv2d": lambda x: partial_conv2d(x, MASK, WEIGHT)[0],
    "region_norm": lambda x: region_norm(x, MASK),
    "RN_L": lambda x: RN_L(18)(x),
}


@pytest.mark.parametrize("call", FORWARD)
def test_a_kernel_that_writes_nothing_is_caught(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with use_backend("cpu"), torch.no_grad():
        found = FORWARD[call]()
        for t in found if isinstance(found, tuple) else (found,):
            assert t.isfinite().all()
        monkeypatch.setattr(core, "load", _Idle)
        found = FORWARD[call]()
    for t in found if isinstance(found, tuple) else (found,):
        assert t.isnan().all()


@pytest.mark.parametrize("call", BACKWARD)
def test_a_backward_kernel_that_writes_nothing_is_caught(call: str) -> None:
    with use_backend("cpu"):
        assert _gradient(BACKWARD[call]).isnan().all()


def test_a_mask_of_bools_that_nobody_wrote_is_neither_valid_nor_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "load", _Idle)
    with use_backend("cpu"):
        unwritten = update_mask(MASK != 0, 3)
    assert unwritten.any()
    assert not unwritten.all()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_processes_that_tests_start_have_poison_too() -> None:
    code = "import torch; print(float(torch.empty(5).min()), float(torch.empty(10**6).min()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(float(value) > 3e38 for value in done.stdout.split())
