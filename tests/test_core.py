"""The native core: one table on both sides, stale binaries, malformed views, scratch memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from inpaint_ops import core
from inpaint_ops.backends.cpu import scratch

ROOT = Path(__file__).resolve().parent.parent
view = core.view


def _native(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(core.load(), name)
    return function


def test_the_table_is_that_of_the_header() -> None:
    header = (ROOT / "csrc/include/inpaint/op_table.h").read_text()
    text = header.split("kOpTable =")[1].split('";\n')[0] + '"'
    literals = "".join(re.findall(r'"([^"]*)"', text))
    assert literals == "".join(f"{name}({args});" for name, args in core.OP_TABLE.items())


def test_the_core_has_every_function_of_the_table() -> None:
    native = core.load()
    assert core.op_table_hash() == native.OP_TABLE_HASH
    for name in core.OP_TABLE:
        assert callable(getattr(native, name))
    stub = (ROOT / "inpaint_ops/_core.pyi").read_text()
    for name, arguments in core.OP_TABLE.items():
        found = re.search(rf"^def {name}\((.*?)\) ->", stub, re.MULTILINE | re.DOTALL)
        assert found, name
        assert ",".join(re.findall(r"(\w+):", found.group(1))) == arguments


@pytest.mark.parametrize("attributes", [{}, {"OP_TABLE_HASH": 7, "__file__": "old/_core.so"}])
def test_a_stale_binary_is_refused(attributes: dict[str, Any]) -> None:
    stale = types.ModuleType("_core")
    stale.__dict__.update(attributes)
    with pytest.raises(core.CoreError, match=r"rebuild: pip install -e \."):
        core.check(stale)


def test_a_changed_table_refuses_the_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(core.OP_TABLE, "apply_mask", "x,mask,out")
    with pytest.raises(core.CoreError, match="other sources"):
        core.check(core.load())


def test_a_missing_binary_says_how_to_build_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['inpaint_ops._core'] = None\n"
        "import torch, inpaint_ops\n"
        "print(inpaint_ops.available_backends()['cpu'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install -e ." in done.stdout


def test_importing_the_package_starts_no_gpu() -> None:
    code = "import inpaint_ops, torch; print(torch.cuda.is_initialized())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.usefixtures("restored_simd")
def test_instruction_sets() -> None:
    native = core.load()
    levels = native.build_info()["simd_available"]
    assert "baseline" in levels
    with pytest.raises(ValueError, match="'mmx'"):
        native.select_simd("mmx")
    for level in levels:
        native.select_simd(level)
        assert native.build_info()["simd"] == level


def test_instruction_set_from_the_environment() -> None:
    code = "from inpaint_ops import core; print(core.load().build_info()['simd'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "INPAINT_OPS_SIMD": "baseline"},
    )  # fmt: skip
    assert done.stdout.strip() == "baseline"


# Malformed views --------------------------------------------------------------------------------

X, MASK, VECTOR = torch.zeros(2, 3, 4, 5), torch.ones(2, 1, 4, 5), torch.zeros(3)
WIDE = torch.zeros(2, 16, 4, 5)
HOLED = MASK.clone()
HOLED[0, 0, 1, 2] = 0
MOMENTS, AFFINE = torch.zeros(1, 2, 3, dtype=torch.float64), torch.zeros(2, 3)
MAPS, ARGMAX = torch.zeros(2, 2, 4, 5), torch.zeros(2, 1, 4, 5, dtype=torch.int32)
SUMS = torch.zeros(2, 2, 3, dtype=torch.float64)
WINDOWS = torch.zeros(4, 5, 3, 3)
WINDOW = [3, 3], [1, 1], [1, 1], [1, 1], 1e-8

GOOD: dict[str, dict[str, Any]] = {
    "mask_update": {
        "mask": MASK, "channels": [1], "kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1],
        "dilation": [1, 1], "eps": 1e-8, "new_mask": MASK.clone(), "ratio": MASK.clone()},
    "apply_mask": {"x": X, "mask": MASK, "channels": [3], "out": X.clone()},
    "partial_conv_prologue": {
        "x": X, "mask": HOLED, "channels": [3], "counts": [1], "kernel_size": [3, 3],
        "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "eps": 1e-8,
        "new_mask": MASK.clone(), "ratio": MASK.clone(), "out": X.clone()},
    "partial_conv_epilogue": {
        "y": X.clone(), "ratio": MASK, "new_mask": MASK, "bias": VECTOR},
    "partial_conv_epilogue_backward": {
        "grad": X, "ratio": MASK, "new_mask": MASK, "grad_raw": X.clone(),
        "grad_bias": VECTOR.clone()},
    "region_norm_forward": {
        "x": X, "mask": MASK, "weight": AFFINE, "bias": None, "eps": 1e-5, "scale_eps": True,
        "instance": False, "y": X.clone(), "mean": MOMENTS.clone(), "rstd": MOMENTS.clone()},
    "region_norm_backward": {
        "grad": X, "x": X, "mask": MASK, "weight": AFFINE, "mean": MOMENTS, "rstd": MOMENTS,
        "instance": False, "grad_x": X.clone(), "grad_weight": AFFINE.clone(),
        "grad_bias": AFFINE.clone()},
    "block_norm_forward": {
        "x": X, "ratio": MASK, "new_mask": MASK, "slope": 0.2, "mask": MASK, "weight": AFFINE,
        "bias": None, "eps": 1e-5, "scale_eps": True, "fixed": False, "y": X.clone(),
        "mean": MOMENTS.clone(), "rstd": MOMENTS.clone()},
    "block_norm_backward": {
        "grad": X, "x": X, "ratio": MASK, "new_mask": MASK, "slope": 0.2, "mask": MASK,
        "weight": AFFINE, "bias": AFFINE, "mean": MOMENTS, "rstd": MOMENTS, "fixed": False,
        "grad_x": X.clone(), "grad_weight": AFFINE.clone(), "grad_bias": AFFINE.clone()},
    "upsampled_weight_forward": {
        "weight": WINDOWS, "transposed": torch.zeros(2, 4, 4, 4),
        "beside": torch.zeros(4, 3, 3, 3)},
    "upsampled_weight_backward": {
        "grad_transposed": torch.zeros(2, 4, 4, 4), "grad_beside": torch.zeros(4, 3, 3, 3),
        "grad_weight": WINDOWS.clone()},
    "channel_pool": {"x": X, "pooled": MAPS.clone(), "argmax": ARGMAX.clone()},
    "all_valid": {"mask": MASK},
    "narrow_conv": {
        "x": WIDE, "weight": torch.zeros(3, 16, 3, 3), "padding": [1, 1], "dilation": [1, 1],
        "out": torch.zeros(2, 3, 4, 5)},
    "plane_conv": {
        "x": MAPS, "weight": torch.zeros(2, 2, 3, 3), "bias": torch.zeros(2), "out": MAPS.clone()},
    "plane_conv_backward_weight": {
        "grad": MASK, "x": MAPS, "grad_weight": torch.zeros(1, 2, 3, 3)},
    "attention_region_norm_forward": {
        "x": X, "ratio": MASK, "new_mask": MASK, "slope": 0.2, "mask": MASK.bool(), "maps": MAPS,
        "eps": 1e-5, "y": X.clone(),
        "mean": MOMENTS.clone(), "rstd": MOMENTS.clone()},
    "attention_region_norm_backward_maps": {
        "grad": X, "x": X, "ratio": MASK, "new_mask": MASK, "slope": 0.2, "mask": MASK.bool(),
        "maps": MAPS, "mean": MOMENTS, "rstd": MOMENTS,
        "grad_maps": MAPS.clone(), "sums": SUMS.clone()},
    "attention_region_norm_backward_input": {
        "grad": X, "x": X, "ratio": MASK, "new_mask": MASK, "slope": 0.2, "mask": MASK.bool(),
        "maps": MAPS, "mean": MOMENTS, "rstd": MOMENTS,
        "sums": SUMS, "grad_pooled": MAPS, "argmax": ARGMAX, "grad_x": X.clone()},
}  # fmt: skip


def _call(name: str, arguments: dict[str, Any]) -> None:
    assert ",".join(arguments) == core.OP_TABLE[name]
    _native(name)(*(view(a) if isinstance(a, torch.Tensor) else a for a in arguments.values()))


def test_every_native_op_is_called_here() -> None:
    assert set(GOOD) == {name for name in core.OP_TABLE if not name.startswith("cuda")}


@pytest.mark.parametrize("name", GOOD)
def test_well_formed_calls(name: str) -> None:
    _call(name, GOOD[name])


def _tensor_arguments() -> Iterator[Any]:
    for name, arguments in GOOD.items():
        for argument, value in arguments.items():
            if isinstance(value, torch.Tensor):
                yield pytest.param(name, argument, id=f"{name}: {argument}")


@pytest.mark.parametrize("change", ["missing", "dtype", "rank", "size", "strides"])
@pytest.mark.parametrize(("name", "argument"), list(_tensor_arguments()))
def test_malformed_tensors_are_refused_by_name(name: str, argument: str, change: str) -> None:
    """A wrong view is never read: the core says which, before a kernel runs."""
    value = GOOD[name][argument]
    bad: torch.Tensor | None = None
    if change == "dtype":
        bad = value.to(torch.int32 if value.dtype != torch.int32 else torch.float32)
    elif change == "rank":
        bad = value[None, None].squeeze()[0]
    elif change == "size":
        bad = torch.cat([value, value, value], -1)
    elif change == "strides":
        bad = torch.cat([value, value], -1)[..., ::2]
    optional = argument in ("bias", "weight", "grad_bias") and (name, argument) not in (
        ("region_norm_backward", "grad_bias"),
        ("plane_conv", "weight"),
        ("narrow_conv", "weight"),
        ("upsampled_weight_forward", "weight"),
        ("block_norm_backward", "grad_bias"),
    )
    accepted = change == "missing" and optional
    # Without a ratio it is no block.
    accepted |= change == "missing" and argument == "ratio" and name.startswith("attention")
    accepted |= change == "strides" and (name, argument) in (
        ("mask_update", "mask"),
        ("narrow_conv", "weight"),
    )
    accepted |= name == "all_valid" and change in ("rank", "size", "strides")
    # A window three times as wide is as odd.
    accepted |= change == "size" and (name, argument) in (
        ("plane_conv", "weight"),
        ("plane_conv_backward_weight", "grad_weight"),
    )
    if accepted:
        _call(name, GOOD[name] | {argument: bad})
    else:
        # The message starts with an argument's name: this one, or one that disagrees with it.
        names = "|".join(["kernel_size", "channels", *GOOD[name]])
        with pytest.raises((RuntimeError, ValueError), match=f"^({names}|a tensor)\\b"):
            _call(name, GOOD[name] | {argument: bad})


def test_messages_name_the_argument_and_the_shape() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("apply_mask", {"mask": MASK[:, :, :2]}, r"mask.*\(2, 1, 2, 5\)"),
        ("apply_mask", {"channels": [2]}, "channels: expected a sum of 3, got 2"),
        ("apply_mask", {"out": X.double()}, "out: expected float32, got float64"),
        ("apply_mask", {"x": X[:, :, :, ::2]}, r"x of shape \(2, 3, 4, 3\).*memory"),
        ("mask_update", {"padding": [-1, 0]}, "padding not negative"),
        ("mask_update", {"stride": [0, 1]}, "stride.* positive"),
        ("mask_update", {"kernel_size": [9, 3]}, "window of 9 larger than the padded mask"),
        ("mask_update", {"channels": [1, 1]}, "channels"),
        ("mask_update", {"channels": [0]}, "channels"),
        ("region_norm_forward", {"mean": MOMENTS[:, :1].clone()}, "mean: expected shape"),
    ]
    for name, change, text in cases:
        with pytest.raises(RuntimeError, match=text):
            _call(name, GOOD[name] | change)


def test_what_is_no_view_at_all() -> None:
    call = _native("apply_mask")
    good = view(X)
    for bad, error in (
        ((0, 2, (1, 2)), ValueError),
        ((0, 2, (1,) * 6, (1,) * 6, None), ValueError),
        ((0, 2, (), (), None), ValueError),
        ((0, 2, (1, 2), (1,), None), ValueError),
        (("address", 2, (1,), (1,), None), TypeError),
        (3, TypeError),
    ):
        with pytest.raises(error):
            call(bad, view(MASK), [3], good)
    with pytest.raises(ValueError, match="kernel_size"):
        _native("mask_update")(
            view(MASK), [1], [3, 3, 3, 3], [1], [1], [1], 0.0, view(MASK), view(MASK)
        )
    with pytest.raises(RuntimeError, match=r"x: expected float32, float64, bfloat16 or float16"):
        call((X.data_ptr(), 99, X.shape, X.stride(), X), view(MASK), [3], good)


def test_a_view_keeps_its_tensor_alive() -> None:
    seen = view(torch.ones(3))
    assert seen[4].sum() == 3
    assert seen[0] == seen[4].data_ptr()


# Scratch memory ---------------------------------------------------------------------------------


@pytest.fixture
def scratch_memory() -> Iterator[None]:
    scratch.release()
    yield
    scratch.release()


@pytest.mark.usefixtures("scratch_memory")
def test_scratch_is_used_again_and_released() -> None:
    x = torch.zeros(2, 3, 4, 5)
    first = scratch.empty_like(x, scratch.INPUT)
    second = scratch.empty_like(x, scratch.INPUT)
    other = scratch.empty_like(x, scratch.GRAD)
    assert first.data_ptr() == second.data_ptr() != other.data_ptr()
    assert scratch.held() == 2 * 4 * x.numel()
    smaller = scratch.empty_like(x[:1].double(), scratch.INPUT)
    assert smaller.data_ptr() == first.data_ptr()
    assert smaller.dtype == torch.float64
    assert smaller.shape == (1, 3, 4, 5)
    scratch.empty_like(torch.zeros(100), scratch.INPUT)
    scratch.empty_like(torch.zeros(1000), scratch.INPUT)
    assert scratch.held() == 4 * 1000 + 4 * x.numel()
    scratch.release()
    assert scratch.held() == 0


@pytest.mark.usefixtures("scratch_memory")
def test_scratch_keeps_the_memory_order() -> None:
    x = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert scratch.empty_like(x, scratch.GRAD).stride() == x.stride()
    assert scratch.empty_like(x.contiguous(), scratch.GRAD).is_contiguous()


@pytest.mark.usefixtures("scratch_memory")
def test_scratch_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_CAP", 1000)
    big = scratch.empty_like(torch.zeros(251), scratch.INPUT)
    assert big.shape == (251,)
    assert scratch.held() == 0
    scratch.empty_like(torch.zeros(250), scratch.INPUT)
    assert scratch.held() == 1000


def test_scratch_cap_from_the_environment() -> None:
    code = "from inpaint_ops.backends.cpu import scratch; print(scratch._CAP)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "INPAINT_OPS_SCRATCH_MB": "3"},
    )  # fmt: skip
    assert int(done.stdout) == 3 * 2**20 // 2


@pytest.mark.usefixtures("scratch_memory")
def test_threads_do_not_share_scratch() -> None:
    x = torch.zeros(64)
    mine = scratch.empty_like(x, scratch.INPUT)
    addresses: list[int] = []

    def other() -> None:
        addresses.append(scratch.empty_like(x, scratch.INPUT).data_ptr())

    worker = threading.Thread(target=other)
    worker.start()
    worker.join()
    assert addresses != [mine.data_ptr()]


def test_kernels_trust_no_fresh_memory() -> None:
    """What malloc gives holds some byte: the core writes its own memory before it reads it."""
    code = (
        "import torch\n"
        "from inpaint_ops import *\n"
        "torch.manual_seed(0)\n"
        "x = torch.randn(2, 19, 33, 37).requires_grad_()\n"
        "m = (torch.rand(2, 1, 33, 37) > 0.5).float()\n"
        "p = ChannelMask((torch.rand(2, 2, 33, 37) > 0.5).float(), (10, 9))\n"
        "w = torch.randn(8, 19, 3, 3); w = w.requires_grad_()\n"
        "total = 0.0\n"
        "for order in (torch.contiguous_format, torch.channels_last):\n"
        "    h = x.contiguous(memory_format=order)\n"
        "    y = partial_conv2d(h, p, w, torch.ones(8), padding=1)[0]\n"
        "    z = RN_L(8, 0.5)(region_norm(y, m))\n"
        "    z = z + RN_B(8)(y, m * 0.5)\n"
        "    g = torch.autograd.grad(z.square().sum(), [x, w])\n"
        "    assert all(torch.isfinite(t).all() for t in (z, *g))\n"
        "    print(z.double().abs().sum().item(), *(t.double().abs().sum().item() for t in g))\n"
    )
    outputs = []
    for byte in ("0", "1", "128"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "MALLOC_PERTURB_": byte, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append([float(number) for number in done.stdout.split()])
    for found in outputs[1:]:
        assert found == pytest.approx(outputs[0], rel=1e-5)
