"""Every Triton kernel compiled ahead of time to machine code, for GPUs that are not here.

Not collected with the others: ``test_triton.py`` starts it for each architecture in a process of
its own (INPAINT_OPS_TEST_SM), whose Triton believes in a GPU of that kind. The backend's own
functions run on CPU tensors; each kernel they would launch is compiled as it would be, and not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.backends.compiler import GPUTarget

from inpaint_ops.backends import triton as backend
from inpaint_ops.backends.triton import (
    apply_mask,
    attention_region_norm,
    epilogue,
    gemm,
    mask_update,
    statistics,
)

CAPABILITY = int(os.environ.get("INPAINT_OPS_TEST_SM", "90"))
STACK_BUDGET = 32  # bytes of local memory for each thread: a few registers, never an array
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Driver:
    """What Triton asks of a driver before it compiles."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", CAPABILITY, 32)


class Compiled:
    """Kernels as they were compiled, by name and number."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def __call__(
        self, kernel: Any, programs: int, on: Tensor, *args: Any, **constants: Any
    ) -> None:
        """In the place of launch.launch."""
        built = kernel.run(*args, grid=(programs,), warmup=True, enable_fp_fusion=True, **constants)
        self.found[f"{kernel.fn.__name__} {len(self.found)}"] = built


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiled:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver())
    found = Compiled()
    for module in (apply_mask, attention_region_norm, epilogue, gemm, mask_update,
                   statistics):  # fmt: skip
        monkeypatch.setattr(module, "launch", found)
    return found


def narrow_offsets(ir: str) -> list[str]:
    """Additions to pointers whose offsets are not 64 bits wide."""
    additions = re.findall(r"tt\.addptr .*", ir)
    return [line for line in additions if not re.search(r", (tensor<[\dx]+x)?i64>?( loc|$)", line)]


def stack(built: Any, folder: Path) -> tuple[int, int]:
    """Registers, and bytes of local memory, of each thread."""
    file = folder / "kernel.cubin"
    file.write_bytes(built.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run(
        [str(tool), "-res-usage", str(file)], capture_output=True, text=True, check=True
    )
    found = re.search(r"REG:(\d+) STACK:(\d+)", text.stdout)
    assert found is not None, text.stdout
    return int(found[1]), int(found[2])


def check(found: Compiled, folder: Path) -> None:
    """Machine code for the right GPU, 64-bit offsets, and nothing spilled, in every kernel."""
    assert found.found
    wrong = []
    for name, built in found.found.items():
        assert built.asm["cubin"][:4] == b"\x7fELF", name
        assert f".target sm_{CAPABILITY}" in built.asm["ptx"], name
        wrong += [f"{name}: {line}" for line in narrow_offsets(built.asm["ttir"])]
        registers, spilled = stack(built, folder)
        print(f"sm_{CAPABILITY} {name:32} {registers:4} registers, {spilled:4} bytes spilled")
        if spilled > STACK_BUDGET:
            wrong.append(f"{name}: {spilled} bytes spilled")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_passes(compiled: Compiled, tmp_path: Path, dtype: torch.dtype) -> None:
    """Everything but the matrix products, for masks of bytes and of the tensor's dtype."""
    ops = backend.OPS
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    for kind in (torch.bool, dtype):
        x = torch.randn(2, 64, 32, 32).to(dtype).contiguous(memory_format=layout)
        mask, weight = torch.ones(2, 1, 32, 32).to(kind), torch.randn(64, 64, 1, 1).to(dtype)
        bias, affine = torch.randn(64).to(dtype), torch.randn(2, 64)
        one, none = [1, 1], [0, 0]
        _, new_mask, ratio = ops["partial_conv_forward"](
            x, mask, [64], weight, bias, one, none, none, one, 1, False, False, 1e-8
        )
        ops["partial_conv_backward"](
            x, x, mask, [64], weight, new_mask, ratio, True, one, none, one, 1, False, [True] * 3
        )
        instance = kind != torch.bool
        _, mean, rstd = ops["region_norm_forward"](x, mask, affine, affine, 1e-5, True, instance)
        ops["region_norm_backward"](x, x, mask, affine, mean, rstd, instance)
        around = (ratio, new_mask, 0.2)
        for regions, rows in ((mask, affine), (None, affine[:1])):
            _, mean, rstd = ops["block_norm_forward"](x, *around, regions, rows, rows, 1e-5, True)
            ops["block_norm_backward"](
                x, x, *around, regions, rows, rows, mean, rstd, regions is None, True
            )
    ops["apply_mask"](x, torch.ones(2, 2, 32, 32), [32, 32])
    ops["mask_update"](torch.ones(2, 3, 9, 9, 9), [1, 2, 1], [3] * 3, [2] * 3, [1] * 3, [1] * 3,
                       1e-8, torch.float32)  # fmt: skip
    small = [torch.randn(1, k, 7, 7) for k in (2, 1, 1)]
    zero = torch.zeros(1)
    _, *products = ops["attention_region_norm_forward"](
        x, small[0], small[1], zero, small[2], zero, 0.5, 1e-5
    )
    ops["attention_region_norm_backward"](x, x, *small, *products, 0.5)
    _, *products = ops["attention_block_norm_forward"](
        x, *around, small[0], small[1], zero, small[2], zero, 0.5, 1e-5
    )
    ops["attention_block_norm_backward"](x, x, *around, *small, *products, 0.5)
    check(compiled, tmp_path)


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(0, torch.float32), (0, torch.bfloat16)]
    + [(i, torch.float16) for i in range(len(gemm.CONFIGS))],
    ids=str,
)
def test_matrix_products(
    compiled: Compiled, tmp_path: Path, number: int, dtype: torch.dtype
) -> None:
    config = gemm.CONFIGS[number]
    x = torch.randn(2, 128, 16, 16).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3).to(dtype)
    mask, window = torch.ones(2, 1, 16, 16).to(dtype), gemm.Window([1, 1], [1, 1], [1, 1])
    y, new_mask, ratio, _ = gemm.forward(
        x, mask, [128], weight, weight[:, 0, 0, 0], window, [1, 1], False, False, 1e-8, config,
        (1e-5, True) if number == 0 else None,
    )  # fmt: skip
    scale = gemm.scaled(new_mask, ratio, True)
    gemm.grad_input(y, scale, x, mask, [128], weight, window, config)
    gemm.grad_weight(y, scale, x, mask, [128], weight, window, config)
    check(compiled, tmp_path)


@triton.jit
def short_offsets(x, step):  # type: ignore[no-untyped-def]
    """Offsets of 32 bits: wrong from the 2**31st value on."""
    tl.store(x + tl.arange(0, 64) * step, 0.0)


@triton.jit
def greedy(x):  # type: ignore[no-untyped-def]
    """More values alive at once than there are registers."""
    row, column = tl.arange(0, 256)[:, None].to(tl.int64), tl.arange(0, 256)[None, :]
    value = tl.load(x + row * 16 + tl.arange(0, 16)[None, :])
    total = tl.dot(value, tl.trans(value))
    tl.store(x + row * 256 + column, total)


def test_short_offsets_are_caught(compiled: Compiled, tmp_path: Path) -> None:
    compiled(short_offsets, 1, torch.ones(1), torch.ones(1), 3)
    with pytest.raises(AssertionError, match=r"tt\.addptr"):
        check(compiled, tmp_path)


def test_spills_are_caught(compiled: Compiled, tmp_path: Path) -> None:
    compiled(greedy, 1, torch.ones(1), torch.ones(1), num_warps=4)
    with pytest.raises(AssertionError, match=r"greedy 0: .* spilled"):
        check(compiled, tmp_path)
