"""Which backend runs a call, what is said when it can't, and that every op has one name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import available_backends, core, library, partial_conv2d, update_mask, use_backend
from inpaint_ops.backends import cpu, cuda, dispatch, reference, triton

pytestmark = pytest.mark.usefixtures("fresh_dispatch")

ROOT = Path(__file__).resolve().parent.parent
X, MASK, WEIGHT = torch.ones(1, 2, 5, 5), torch.ones(1, 1, 5, 5), torch.ones(3, 2, 3, 3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backends that ran partial_conv_forward."""
    seen: list[str] = []
    for module in (reference, cpu):
        original = module.OPS["partial_conv_forward"]

        def counted(*args: Any, _original: Any = original, _name: str = module.NAME) -> Any:
            seen.append(_name)
            return _original(*args)

        monkeypatch.setitem(module.OPS, "partial_conv_forward", counted)
    return seen


def _run(x: Tensor = X) -> Tensor:
    return partial_conv2d(x, MASK, WEIGHT.to(x.dtype))[0]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_auto_takes_the_native_kernels(calls: list[str], dtype: torch.dtype) -> None:
    _run(X.to(dtype))
    assert calls == ["cpu"]


def test_use_backend_nests_and_is_undone_by_errors(calls: list[str]) -> None:
    with use_backend("reference"):
        _run()
        with use_backend("cpu"):
            _run()
        with use_backend("auto"):
            _run()
        _run()
        with pytest.raises(KeyError), use_backend("cpu"):
            raise KeyError
        _run()
    _run()
    assert calls == ["reference", "cpu", "cpu", "reference", "reference", "cpu"]


def test_use_backend_holds_for_its_thread_only(calls: list[str]) -> None:
    with use_backend("reference"):
        worker = threading.Thread(target=_run)
        worker.start()
        worker.join()
    assert calls == ["cpu"]


@pytest.mark.parametrize("name", ["gpu", "", "CPU"])
def test_unknown_names(name: str) -> None:
    text = r"backend: expected one of auto, .*reference"
    with pytest.raises(ValueError, match=text) as caught, use_backend(name):
        pass
    assert repr(name) in str(caught.value)


def test_a_backend_asked_for_runs_or_raises() -> None:
    with (
        use_backend("cpu"),
        pytest.raises(RuntimeError, match=r"cpu: torch.float8_\w+ is not one of"),
    ):
        _run(X.to(torch.float8_e4m3fn))
    with use_backend("cuda"), pytest.raises(RuntimeError, match=r"partial_conv_forward: .*cuda: "):
        _run()


def test_the_reason_of_an_unavailable_backend_is_in_the_error() -> None:
    reason = available_backends()["cuda"]
    if reason is None:  # there is a GPU: the tensor is at fault
        reason = "runs on NVIDIA GPUs only"
    with use_backend("cuda"), pytest.raises(RuntimeError, match=re.escape(reason)):
        update_mask(MASK, 3)


@pytest.mark.parametrize(
    ("built", "version", "reason"),
    [
        (False, None, r"cuda: not built: no nvcc found .*; with nvcc there, rebuild: pip install"),
        (True, None, r"cuda: torch .* is a build without CUDA; install one"),
        (True, "13.0", r"cuda: torch finds no usable NVIDIA GPU; nvidia-smi says .* needs 13\.0"),
    ],
)
def test_why_cuda_cannot_run_and_what_helps(
    monkeypatch: pytest.MonkeyPatch, built: bool, version: str | None, reason: str
) -> None:
    class Core:
        @staticmethod
        def build_info() -> dict[str, Any]:
            return {"cuda": built, "cuda_reason": "no nvcc found in CUDA_HOME"}

    monkeypatch.setattr(core, "load", Core)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with (
        use_backend("cuda"),
        pytest.raises(RuntimeError, match=rf"^mask_update: .*{reason}.*'auto' takes"),
    ):
        update_mask(MASK, 3)


def test_available_backends() -> None:
    found = available_backends()
    assert list(found) == ["reference", "cpu", "cuda", "triton"]
    assert found["reference"] is None
    assert found["cpu"] is None
    assert (found["cuda"] is None) == torch.cuda.is_available()
    assert (found["triton"] is None) == torch.cuda.is_available()


def test_a_broken_core_is_an_error_not_a_slow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise core.CoreError("it was never built")

    monkeypatch.setattr(core, "load", broken)
    assert available_backends()["cpu"] == "it was never built"
    with pytest.raises(RuntimeError, match=r"never built.*use_backend\('reference'\)"):
        _run()
    with use_backend("cpu"), pytest.raises(RuntimeError, match="never built"):
        _run()
    with use_backend("reference"):
        assert _run().shape == (1, 3, 3, 3)


def test_environment_variable() -> None:
    code = (
        "import torch, inpaint_ops\n"
        "from inpaint_ops.backends import dispatch, reference\n"
        "ops = torch.ops.inpaint_ops\n"
        "print(dispatch.current(), dispatch.resolve('apply_mask', torch.ones(1)).__module__)\n"
    )
    for name, module in (("reference", "reference"), ("cpu", "cpu")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "INPAINT_OPS_BACKEND": name},
        )  # fmt: skip
        assert done.stdout.split()[0] == name
        assert f"backends.{module}." in done.stdout


def test_environment_variable_with_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINT_OPS_BACKEND", "fast")
    caught: list[BaseException] = []

    def run() -> None:
        try:
            _run()
        except ValueError as error:
            caught.append(error)

    worker = threading.Thread(target=run)  # a thread that has not chosen yet
    worker.start()
    worker.join()
    assert len(caught) == 1
    assert "'fast'" in str(caught[0])


# One op, one name -------------------------------------------------------------------------------


def test_every_room_has_the_same_ops() -> None:
    names = set(library.SCHEMAS)
    rooms = (reference, cpu, cuda, triton)
    assert names == set(library.FAKES)
    assert all(set(room.OPS) == names for room in rooms)
    for name in names:
        assert hasattr(torch.ops.inpaint_ops, name)
        for module in rooms:
            assert module.OPS[name].__name__ == name


# A block's norm is a norm's kernel with something around it.
KERNEL = {"block_norm": "region_norm", "attention_block_norm": "attention_region_norm"}


def test_every_room_has_a_file_for_each_op() -> None:
    ops = {re.sub("_(forward|backward|fixed_?)$", "", name) for name in library.SCHEMAS}
    for op in ops:
        assert (ROOT / f"inpaint_ops/autograd/{op}.py").is_file() == (op != "mask_update"), op
        if op not in KERNEL:
            assert (ROOT / f"inpaint_ops/backends/reference/{op}.py").is_file(), op
    # The decoder's weights are the CPU's own way.
    for op in {KERNEL.get(op, op) for op in ops} - {"upsampled_weight"}:
        for room in ("csrc/cpu/{}.cpp", "csrc/cuda/{}.cu", "inpaint_ops/backends/cuda/{}.py",
                     "inpaint_ops/backends/triton/{}.py",
                     "inpaint_ops/backends/triton/kernels/{}.py"):  # fmt: skip
            assert (ROOT / room.format(op)).is_file(), room.format(op)
    for op in {KERNEL.get(op, op) for op in ops}:
        for room in ("csrc/ops/{}.cpp", "inpaint_ops/backends/cpu/{}.py"):
            assert (ROOT / room.format(op)).is_file(), room.format(op)


def test_backends_name_themselves() -> None:
    for name, backend in dispatch.BACKENDS.items():
        assert name == backend.NAME
        assert backend.__name__ == f"inpaint_ops.backends.{name}"
