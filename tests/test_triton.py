"""The Triton backend without a GPU: what it says, and its kernels in the interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inpaint_ops import available_backends, update_mask, use_backend
from inpaint_ops.backends import triton as backend

ROOT = Path(__file__).resolve().parent.parent


def _child(file: str, **environment: str) -> subprocess.Popen[str]:
    """pytest on a file that is not collected, in a process whose kernels are decorated its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"tests/{file}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is for Linux only"
)


@needs_triton
def test_kernels_in_the_interpreter() -> None:
    child = _child("triton_interpreted.py", TRITON_INTERPRET="1")
    output, _ = child.communicate()
    assert child.returncode == 0, output[-8000:]


@needs_triton
def test_kernels_compiled_ahead_of_time() -> None:
    children = [
        _child("triton_ahead.py", INPAINT_OPS_TEST_SM=str(sm), TRITON_INTERPRET="0")
        for sm in (80, 90, 100)
    ]
    outputs = [child.communicate()[0] for child in children]
    for child, output in zip(children, outputs, strict=True):
        assert child.returncode == 0, output[-8000:]


def test_importing_the_package_does_not_import_triton() -> None:
    code = (
        "import sys, inpaint_ops; inpaint_ops.available_backends(); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert available_backends()["triton"] == (
        "triton is not installed: pip install triton (PyTorch's CUDA builds bring it)"
    )


@pytest.mark.parametrize(
    ("version", "available", "reason"),
    [
        (None, False, "build without CUDA; install"),
        ("13.0", False, "no usable NVIDIA GPU; nvidia-smi says"),
        ("13.0", True, None),
    ],
)
def test_why_it_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, version: str | None, available: bool, reason: str | None
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    found = backend.unavailable()
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_what_it_does_not_support(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        def __init__(self, dtype: torch.dtype) -> None:
            self.device, self.dtype = torch.device("cuda", 0), dtype

    def reason(op: str, dtype: torch.dtype) -> str | None:
        return backend.unsupported(op, OnGpu(dtype))  # type: ignore[arg-type]

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert reason("region_norm_forward", torch.bfloat16) is None
    assert reason("mask_update", torch.bool) is None
    assert "torch.float64 is not one of" in str(reason("region_norm_forward", torch.float64))
    assert "torch.bool is not one of" in str(reason("apply_mask", torch.bool))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert reason("mask_update", torch.bool) == "cuda:0 has compute capability 7.5, 8.0 is needed"
    assert "not on cpu" in str(backend.unsupported("apply_mask", torch.ones(1)))


@pytest.mark.usefixtures("fresh_dispatch")
def test_asked_for_by_name_on_a_cpu() -> None:
    with use_backend("triton"), pytest.raises(RuntimeError, match=r"mask_update: .*triton: "):
        update_mask(torch.ones(1, 1, 5, 5), 3)
