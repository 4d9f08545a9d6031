"""Sizes and offsets beyond 32 bits, and refusal of what 64 do not hold.

Kernels see tensors of more than 2^32 elements here whose memory is touched at the end only: in
place of the threads stands a pool that runs the last tasks, and the result is compared with that of
the same function on a copy of this last part. A product or an offset of 32 bits on the way leads
elsewhere.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from inpaint_ops import core, update_mask

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for room in ("common", "cpu", "cuda", "ops")
    for path in (ROOT / "csrc" / room).iterdir()
)  # fmt: skip

# Statically -------------------------------------------------------------------------------------
# The build has -Wconversion, and continuous integration makes warnings errors: 64 bits become 32
# nowhere unasked. What is left are casts that ask for it, and counters that were born with 32.

CASTS = {
    "static_cast<int>(shape.size())": "axes of a tensor",
    "static_cast<int32_t>(count)": "pixels of a chunk",
    "static_cast<int32_t>(c)": "a channel: the op refuses more than argmax can name",
    "static_cast<int32_t>(arg)": "likewise",
    "static_cast<int32_t>(channel)": "likewise",
    "static_cast<int>(threadIdx.x % kWarp)": "a lane of a warp",
    "static_cast<int>(16 / sizeof(S))": "elements of a pack",
    "static_cast<unsigned>(blocks < 65535 ? blocks : 65535)": "blocks of a grid, capped",
    "static_cast<unsigned>(blocks < most ? blocks : most)": "likewise",
}


def _code(path: Path) -> str:
    return re.sub(r"//.*", "", path.read_text())


def test_casts_to_32_bits_are_few_and_known() -> None:
    """Sizes are signed: unsigned types of fixed width hold bits and bytes."""
    narrow = re.compile(r"(?:static_cast<(?:int|int32_t|unsigned|short)>|\b(?:int|int32_t))\(")
    found = set()
    for path in SOURCES:
        code = _code(path)
        for match in narrow.finditer(code):
            end, depth = match.end(), 1
            while depth:
                depth += {"(": 1, ")": -1}.get(code[end], 0)
                end += 1
            found.add(code[match.start() : end])
    assert found == set(CASTS)


def test_counters_of_32_bits_count_to_constants() -> None:
    """Axes, lanes, regions, outputs: never pixels, channels, images or rows."""
    constant = re.compile(
        r"\d+|k[A-Z]\w*( / \d+)?|Lanes<\w+>::count( / \d+)?|width|window\.spatial|\w+\.ndim"
        r"|levels\(\)\.count|(a\.)?regions"  # one or two
    )
    counters = 0
    for path in SOURCES:
        for head in re.findall(r"for \((?:int|int32_t|unsigned|short) ([^;]*;[^;]*);", _code(path)):
            start, condition = (part.strip() for part in head.split(";"))
            bound = condition.rsplit("&& ", 1)[-1]
            name, operator, limit = bound.split(" ", 2)
            if operator == ">=" or name == "width":  # downwards
                limit = start.split(" = ")[1].removesuffix(" - 1")
            assert constant.fullmatch(limit), f"{path.name}: for (int {head};"
            counters += 1
    assert counters > 50


FORBIDDEN = re.compile(
    r"\b(?:cuda(?:Malloc|Free|HostAlloc|HostRegister|Memcpy|Memset|Event|Stream[A-Z]|Graph)\w*"
    r"|cuda\w*Synchronize\w*|atomic\w+|__\w*threadfence\w*|thrust|cub|new|malloc"
    r"|(?:red|atom)\.\w+)\b|<<<"
)


def test_kernels_leave_memory_and_waiting_to_torch() -> None:
    """A graph may capture each call, and no sum depends on who comes first."""
    for path in (ROOT / "csrc" / "cuda").iterdir():
        found = FORBIDDEN.findall(_code(path))
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize(
    "line",
    ["cudaMalloc(&p, n);", "cudaFreeAsync(p, s);", "cudaDeviceSynchronize();",
     "cudaStreamSynchronize(s);", "cudaMemcpyAsync(a, b, n, k, s);", "atomicAdd(sum, 1.0f);",
     "kernel<<<grid, block>>>(x);", "cudaEventRecord(e, s);"],
)  # fmt: skip
def test_what_kernels_must_not_call_is_seen(line: str) -> None:
    assert FORBIDDEN.search(line)


# Arithmetic on sizes ----------------------------------------------------------------------------

PROGRAM = """
#include "common/sizes.h"
#include "common/window.h"

extern "C" bool axis(int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                     int64_t dilation, int64_t* out) {
  inpaint::WindowAxis found;
  const bool fits = inpaint::window_axis(size, kernel, stride, padding, dilation, &found);
  out[0] = found.span, out[1] = found.padded, out[2] = found.places;
  return fits;
}
extern "C" void taps(int64_t start, int64_t dilation, int64_t kernel, int64_t size, int64_t* out) {
  inpaint::taps_inside(start, dilation, kernel, size, out, out + 1);
}
extern "C" bool triple(int64_t a, int64_t b, int64_t c, int64_t* out) {
  return inpaint::product({a, b, c}, out);
}
"""


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The headers that host and device share, compiled with the compiler that CMake would take."""
    folder = tmp_path_factory.mktemp("arithmetic")
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    (folder / "program.cpp").write_text(PROGRAM)
    library = folder / "program.so"
    subprocess.run(
        [*compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fPIC",
         "-shared", "-I", str(ROOT / "csrc"), str(folder / "program.cpp"), "-o", str(library)],
        check=True,
    )  # fmt: skip
    loaded = ctypes.CDLL(str(library))
    loaded.axis.restype = loaded.triple.restype = ctypes.c_bool
    return loaded


def _call(function: Any, *numbers: int) -> tuple[Any, list[int]]:
    out = (ctypes.c_int64 * 3)()
    returned = function(*(ctypes.c_int64(number) for number in numbers), out)
    return returned, list(out)


LARGE = [0, 1, 2, 3, 2**15, 2**31 - 1, 2**31, 2**32 + 1, 2**40 - 1, 2**40, 2**40 + 1, 2**56]


def test_windows_of_any_size(arithmetic: ctypes.CDLL) -> None:
    """Against Python's integers, which have no size."""
    numbers = random.Random(0)
    fitted = refused = 0
    for _ in range(20000):
        size, padding = numbers.choice(LARGE), numbers.choice(LARGE)
        kernel, stride, dilation = (numbers.choice(LARGE[1:]) for _ in range(3))
        span, padded = dilation * (kernel - 1) + 1, size + 2 * padding
        fits, found = _call(arithmetic.axis, size, kernel, stride, padding, dilation)
        assert fits == (span < 2**63)
        if not fits:
            refused += 1
            continue
        places = (padded - span) // stride + 1 if padded >= span else 0
        assert found == [span, padded, places]
        if places:
            start = numbers.randrange(places) * stride - padding
            _, (first, last, _) = _call(arithmetic.taps, start, dilation, kernel, size)
            begin = min(kernel, max(0, -(start // dilation)))
            end = min(kernel, max(0, -((start - size) // dilation)))
            assert (first, last) == (begin, max(begin, end))
            fitted += 1
    assert fitted > 1000
    assert refused > 1000


def test_products(arithmetic: ctypes.CDLL) -> None:
    for a in LARGE:
        for b in LARGE:
            for c in LARGE:
                fits, found = _call(arithmetic.triple, a, b, c)
                # From the left: a zero comes too late for what is in front of it.
                assert fits == (a * b < 2**63 and a * b * c < 2**63)
                assert not fits or found[0] == a * b * c


# Refusal ----------------------------------------------------------------------------------------

ONE = torch.ones(1, 1, 2, 2)
HUGE = 2**62


def _view(*size: int, strides: Sequence[int] | None = None, dtype: int = 2) -> Any:
    """A view of nothing: the core must not look behind it."""
    dense = [math.prod(size[i + 1 :]) for i in range(len(size))]
    return (ONE.data_ptr(), dtype, size, [min(s, 2**63 - 1) for s in strides or dense], ONE)


def _window(kernel: int = 1, stride: int = 1, padding: int = 0, dilation: int = 1) -> list[Any]:
    return [[1, kernel], [1, stride], [0, padding], [1, dilation]]


PAIR = core.view(ONE.clone()), core.view(ONE.clone())
REFUSED: dict[str, tuple[str, list[Any], str]] = {
    "padding beyond any size": (
        "mask_update", [core.view(ONE), [1], *_window(1, HUGE, 2**61), 0.0, *PAIR], "at most 2"),
    "span beyond 64 bits": (
        "mask_update", [core.view(ONE), [1], *_window(2**40, 1, 0, 2**40), 0.0, *PAIR],
        r"kernel_size: window of 1099511627776 with dilation 1099511627776 spans"),
    "window beyond the mask": (
        "mask_update", [core.view(ONE), [1], *_window(2**40, 1, 0, 2), 0.0, *PAIR],
        r"window of 2199023255551 larger than the padded mask \(2\)"),
    "rows beyond any memory": (
        "mask_update",
        [_view(2**30, 1, 2, 2, strides=[0] * 4), [1], *_window(1, 2**55, 2**55 - 1), 0.0,
         *[_view(2**30, 1, 2, 2)] * 2], r"padding: rows of 72057594037927936 with"),
    "mask": ("all_valid", [_view(2**31, 2**31, 2, 2, strides=[0] * 4)], r"mask of shape \(2147483"),
    "strides": ("all_valid", [_view(1, 1, 3, 3, strides=[1, 1, HUGE, HUGE])], "mask of shape"),
    "negative": ("all_valid", [_view(1, 1, -3, 3)], "mask of shape .*negative size"),
    "backwards": ("all_valid", [_view(1, 1, 3, 3, strides=[9, 9, -3, 1])], "negative stride"),
    "planes": ("apply_mask", [_view(2**40, 2**40, 1, 1), core.view(ONE), [2**40], _view(1)],
               r"x of shape \(1099511627776, .* 2\^56 bytes"),
    "bytes": ("apply_mask", [_view(1, 1, 2**30, 2**26), core.view(ONE), [1], _view(1)],
              r"x of shape .* 2\^56 bytes"),
    "empty, and too large": (
        "apply_mask", [_view(0, 2**40, 2**40, 1), core.view(ONE), [1], _view(1)], "x of shape"),
    "counts": ("mask_update", [core.view(torch.ones(1, 3, 2, 2)), [HUGE] * 3, *_window(), 0.0,
                               *PAIR], "channels: the sum of the counts"),
    "more channels than argmax names": (
        "channel_pool", [_view(1, 2**31, 1, 1), _view(1, 2, 1, 1), _view(1, 1, 1, 1, dtype=1)],
        r"x \(1, 2147483648, 1, 1\): more channels than argmax"),
    "narrow window": (
        "narrow_conv", [core.view(torch.ones(1, 16, 2, 2)), core.view(torch.ones(1, 16, 1, 3)),
                        [0, 0], [1, 2**55], _view(1)], "weight: a window wider than 65"),
    "narrow padding": (
        "narrow_conv", [core.view(torch.ones(1, 16, 2, 2)), core.view(torch.ones(1, 16, 1, 3)),
                        [0, HUGE], [1, 1], _view(1)], r"padding: .* at most 2\^56"),
    "padded planes": (
        "plane_conv", [_view(1, 1, 1, 2**40), _view(1, 1, 2**40 + 1, 1), None, _view(1)],
        "weight: x .* padded for a window"),
    "statistics": (
        "region_norm_forward",
        [_view(2**60, 1, 1, 1), core.view(ONE[..., :1, :1].clone()), None, None, 0.0, True, True,
         _view(2**60, 1, 1, 1), _view(2**60, 2, 1, dtype=3), _view(2**60, 2, 1, dtype=3)],
        r"x of shape .* 2\^56 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_64_bits_do_not_hold_is_refused(case: str) -> None:
    name, arguments, message = REFUSED[case]
    with pytest.raises(RuntimeError, match=message):
        getattr(core.load(), name)(*arguments)


def test_a_wrapped_workspace_is_refused_from_outside() -> None:
    """(2^62 + 2) floats are 8 bytes, if one does not look."""
    with pytest.raises(RuntimeError, match=r"kernel_size, stride, dilation and padding must be"):
        update_mask(ONE, 1, stride=(1, 2**61), padding=(0, 2**61))


# Very large tensors -----------------------------------------------------------------------------

NCHW, NHWC = torch.contiguous_format, torch.channels_last
_MAP_NORESERVE = 0x4000  # Linux; `mmap` has the name from Python 3.13 on

Body = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
Pool = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
)


@pytest.fixture
def last_of() -> Iterator[Callable[[int], None]]:
    """``last_of(parts)``: from here on the core does the last of so many parts of any work.

    What is cut into fewer tasks than parts is done in full.
    """
    native, kept = core.load(), []

    def set_parts(parts: int) -> None:
        def run(begin: int, end: int, grain: int, body: int, context: int) -> int:
            Body(body)(end - ((end - begin) // parts or end - begin), end, context)
            return 0

        kept.append(Pool(run))
        native.set_parallel_for(ctypes.cast(kept[-1], ctypes.c_void_p).value)

    yield set_parts
    native.set_parallel_for(core.torch_parallel_for())


def _virtual(size: Sequence[int], dtype: torch.dtype, order: torch.memory_format = NCHW) -> Tensor:
    """Zeros that take no memory before they are written."""
    count = math.prod(size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    memory = mmap.mmap(-1, count * torch.empty(0, dtype=dtype).element_size(), flags=flags)
    flat = torch.frombuffer(memory, dtype=dtype)
    if order == NCHW:
        return flat.view(size)
    n, c, h, w = size
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)


def _native(name: str, arguments: Sequence[Any]) -> None:
    """Calls the core with tensors."""
    views = [core.view(a) if isinstance(a, Tensor) else a for a in arguments]
    getattr(core.load(), name)(*views)


class _Problem:
    """A call of the core on a small tensor, and which axis of which argument to enlarge.

    Images are enlarged, or channels, or rows: the last part of the large problem is the small one,
    and its results are too.
    """

    def __init__(self, name: str, arguments: list[Any], axes: dict[int, int], results: list[int]):
        self.name, self.arguments, self.axes, self.results = name, arguments, axes, results

    def check(self, last_of: Callable[[int], None], beyond: int) -> None:
        # The last plane begins beyond, if each part has one.
        parts = beyond // math.prod(self.arguments[0].shape[2:]) + 2
        large, tails = list(self.arguments), {}
        for i, axis in self.axes.items():
            small = self.arguments[i]
            size = list(small.shape)
            size[axis] *= parts
            last_axis = small.dim() == 4 and not small.is_contiguous()
            large[i] = _virtual(size, small.dtype, NHWC if last_axis else NCHW)
            tails[i] = large[i].narrow(axis, size[axis] - small.shape[axis], small.shape[axis])
            tails[i].copy_(small)
        _native(self.name, self.arguments)
        last_of(parts)
        _native(self.name, large)
        for i in self.results:
            expected, found = self.arguments[i], tails.get(i, large[i])
            assert not expected.isnan().any()
            assert torch.equal(found, expected), f"{self.name}: argument {i}"


C, H, W = 5, 96, 112
_counts = [C - 2, 2]


def _randn(*size: int, order: torch.memory_format = NCHW) -> Tensor:
    return torch.randn(size).contiguous(memory_format=order)


def _holes(*size: int) -> Tensor:
    return (torch.rand(size) > 0.4).float()


def _unwritten(like: Tensor) -> Tensor:
    return torch.full_like(like, torch.nan)


def _apply(order: torch.memory_format, planes: int, dtype: torch.dtype) -> _Problem:
    x, mask = _randn(1, C, H, W, order=order), _holes(1, planes, H, W).to(dtype)
    if planes == C:
        mask = mask.contiguous(memory_format=order)
    counts = {1: [C], 2: _counts, C: [1] * C}[planes]
    return _Problem("apply_mask", [x, mask, counts, _unwritten(x)], {0: 0, 1: 0, 3: 0}, [3])


def _short(order: torch.memory_format) -> _Problem:
    x = _randn(1, C, 5, 6, order=order)
    return _Problem(
        "apply_mask", [x, _holes(1, 1, 5, 6), [C], _unwritten(x)], {0: 0, 1: 0, 3: 0}, [3]
    )


def _prologue(order: torch.memory_format, planes: int) -> _Problem:
    x, mask = _randn(1, C, H, W, order=order), _holes(1, planes, H, W)
    mask = mask.contiguous(memory_format=order) if planes == C else mask
    counts = [1] * C if planes == C else [C]
    new_mask = torch.full((1, 1, H // 8, W), torch.nan)
    return _Problem(
        "partial_conv_prologue",
        [x, mask, counts, [1] * planes, [3, 3], [8, 1], [1, 1], [1, 1], 1e-8, new_mask,
         _unwritten(new_mask), _unwritten(x)],
        {0: 0, 1: 0, 9: 0, 10: 0, 11: 0}, [9, 10, 11],
    )  # fmt: skip


def _update(order: torch.memory_format) -> _Problem:
    mask = _holes(1, 1, H, W)
    return _Problem(
        "mask_update",
        [mask, [1], [3, 3], [1, 1], [1, 1], [1, 1], 1e-8, _unwritten(mask), _unwritten(mask)],
        {0: 0, 7: 0, 8: 0}, [7, 8],
    )  # fmt: skip


def _epilogue(order: torch.memory_format, bias: bool, size: tuple[int, int] = (H, W)) -> _Problem:
    y, planes = _randn(1, C, *size, order=order), _randn(1, 1, *size)
    return _Problem(
        "partial_conv_epilogue",
        [y, planes, _holes(1, 1, *size), torch.randn(C) if bias else None], {0: 0, 1: 0, 2: 0}, [0],
    )  # fmt: skip


def _epilogue_backward(order: torch.memory_format, bias: bool) -> _Problem:
    grad = _randn(1, C, H, W, order=order)
    return _Problem(
        "partial_conv_epilogue_backward",
        [grad, _randn(1, 1, H, W), _holes(1, 1, H, W), _unwritten(grad),
         torch.zeros(C) if bias else None],
        {0: 0, 1: 0, 2: 0, 3: 0}, [3],
    )  # fmt: skip


def _statistics(c: int, groups: int = 1) -> tuple[Tensor, Tensor]:
    return torch.randn(groups, 2, c).double(), torch.rand(groups, 2, c).double()


def _norm(order: torch.memory_format, soft: bool = False) -> _Problem:
    x, affine = _randn(1, C, H, W, order=order), torch.randn(2, C)
    mask = torch.rand(1, 1, H, W) if soft else _holes(1, 1, H, W)
    moments = [torch.full((1, 2, C), torch.nan, dtype=torch.float64) for _ in range(2)]
    return _Problem(
        "region_norm_forward", [x, mask, affine, affine, 1e-5, True, True, _unwritten(x), *moments],
        {0: 0, 1: 0, 7: 0, 8: 0, 9: 0}, [7, 8, 9],
    )  # fmt: skip


def _norm_backward(order: torch.memory_format) -> _Problem:
    x = _randn(1, C, H, W, order=order)
    return _Problem(
        "region_norm_backward",
        [torch.randn_like(x), x, _holes(1, 1, H, W), torch.randn(2, C), *_statistics(C), True,
         _unwritten(x), torch.zeros(2, C), torch.zeros(2, C)],
        {0: 0, 1: 0, 2: 0, 4: 0, 5: 0, 7: 0}, [7],
    )  # fmt: skip


def _norm_of_channels(order: torch.memory_format, soft: bool = False) -> _Problem:
    """So many channels that each goes through both passes before the next."""
    x, mask = _randn(1, 1, 64, 65), torch.rand(1, 1, 64, 65)
    mask = mask if soft else (mask > 0.4).float()
    moments = [torch.full((1, 2, 1), torch.nan, dtype=torch.float64) for _ in range(2)]
    return _Problem(
        "region_norm_forward",
        [x, mask, torch.randn(2, 1), torch.randn(2, 1), 1e-5, True, False, _unwritten(x), *moments],
        {0: 1, 2: 1, 3: 1, 7: 1, 8: 2, 9: 2}, [7, 8, 9],
    )  # fmt: skip


def _norm_of_channels_backward(order: torch.memory_format, soft: bool = False) -> _Problem:
    x, mask = _randn(1, 1, 64, 65), torch.rand(1, 1, 64, 65)
    mask = mask if soft else (mask > 0.4).float()
    return _Problem(
        "region_norm_backward",
        [torch.randn_like(x), x, mask, torch.randn(2, 1), *_statistics(1), False, _unwritten(x),
         torch.full((2, 1), torch.nan), torch.full((2, 1), torch.nan)],
        {0: 1, 1: 1, 3: 1, 4: 2, 5: 2, 7: 1, 8: 1, 9: 1}, [7, 8, 9],
    )  # fmt: skip


def _pool(order: torch.memory_format) -> _Problem:
    x, argmax = _randn(1, C, H, W, order=order), torch.full((1, 1, H, W), -1, dtype=torch.int32)
    pooled = torch.full((1, 2, H, W), torch.nan)
    return _Problem("channel_pool", [x, pooled, argmax], {0: 0, 1: 0, 2: 0}, [1, 2])


_NO_BLOCK = None, None, 1.0  # ratio, new mask and slope


def _block(order: torch.memory_format) -> _Problem:
    x, planes = _randn(1, C, H, W, order=order), [_randn(1, 1, H, W).abs() for _ in range(2)]
    affine, moments = torch.randn(1, C), torch.rand(1, 1, C).double()
    return _Problem(
        "block_norm_forward",
        [x, *planes, 0.2, None, affine, affine, 0.0, False, True, _unwritten(x), moments, moments],
        {0: 0, 1: 0, 2: 0, 10: 0}, [10],
    )  # fmt: skip


def _block_backward(order: torch.memory_format) -> _Problem:
    x, planes = _randn(1, C, H, W, order=order), [_randn(1, 1, H, W).abs() for _ in range(2)]
    affine, moments = torch.randn(1, C), torch.rand(1, 1, C).double()
    return _Problem(
        "block_norm_backward",
        [torch.randn_like(x), x, *planes, 0.2, None, affine, affine, moments, moments, True,
         _unwritten(x), None, None],
        {0: 0, 1: 0, 2: 0, 3: 0, 11: 0}, [11],
    )  # fmt: skip


def _attention(order: torch.memory_format) -> _Problem:
    # eps = 0: it is scaled by the share of a region in all pixels, also in those left out.
    x = _randn(1, C, H, W, order=order)
    moments = [torch.full((1, 2, C), torch.nan, dtype=torch.float64) for _ in range(2)]
    return _Problem(
        "attention_region_norm_forward",
        [x, *_NO_BLOCK, _holes(1, 1, H, W) != 0, _randn(1, 2, H, W), 0.0, _unwritten(x), *moments],
        {0: 0, 4: 0, 5: 0, 7: 0}, [7, 8, 9],
    )  # fmt: skip


def _attention_maps(order: torch.memory_format) -> _Problem:
    x, maps = _randn(1, C, H, W, order=order), _randn(1, 2, H, W)
    return _Problem(
        "attention_region_norm_backward_maps",
        [torch.randn_like(x), x, *_NO_BLOCK, _holes(1, 1, H, W) != 0, maps, *_statistics(C),
         _unwritten(maps), torch.zeros(2, 2, C).double()],
        {0: 0, 1: 0, 5: 0, 6: 0, 9: 0}, [9],
    )  # fmt: skip


def _attention_input(order: torch.memory_format) -> _Problem:
    x, maps = _randn(1, C, H, W, order=order), _randn(1, 2, H, W)
    return _Problem(
        "attention_region_norm_backward_input",
        [torch.randn_like(x), x, *_NO_BLOCK, _holes(1, 1, H, W) != 0, maps, *_statistics(C),
         torch.randn(2, 2, C).double(), torch.randn_like(maps),
         torch.randint(C, (1, 1, H, W), dtype=torch.int32), _unwritten(x)],
        {0: 0, 1: 0, 5: 0, 6: 0, 10: 0, 11: 0, 12: 0}, [12],
    )  # fmt: skip


def _narrow(order: torch.memory_format) -> _Problem:
    x, out = _randn(1, 17, H, W, order=order), _randn(1, 3, H, W, order=order)
    return _Problem(
        "narrow_conv", [x, torch.randn(3, 17, 3, 3), [1, 1], [1, 1], _unwritten(out)],
        {0: 0, 4: 0}, [4],
    )  # fmt: skip


def _planes(order: torch.memory_format) -> _Problem:
    x, out = _randn(1, 1, H, W), torch.full((1, 2, H, W), torch.nan)
    return _Problem(
        "plane_conv", [x, torch.randn(2, 1, 3, 3), torch.randn(2), out], {0: 0, 3: 0}, [3]
    )


def _planes_weight(order: torch.memory_format) -> _Problem:
    """Adds the parts left out too: the system hands out zeros, so much is never used memory."""
    x = _randn(1, 1, 16, 64)
    return _Problem(
        "plane_conv_backward_weight", [torch.randn_like(x), x, torch.full((1, 1, 3, 3), torch.nan)],
        {0: 0, 1: 0}, [2],
    )  # fmt: skip


def _rows(order: torch.memory_format) -> _Problem:
    """One image of more than 2^32 values; sums over its parts skip those without pixels."""
    c = 1 if order == NCHW else 2
    x = _randn(1, c, 128, 64, order=order)
    moments = [torch.full((1, 2, c), torch.nan, dtype=torch.float64) for _ in range(2)]
    return _Problem(
        "region_norm_forward",
        [x, _holes(1, 1, 128, 64) != 0, None, None, 1e-5, False, False, _unwritten(x), *moments],
        {0: 2, 1: 2, 7: 2}, [7, 8, 9],
    )  # fmt: skip


def _masked_rows(order: torch.memory_format) -> _Problem:
    x = _randn(1, 2, 128, 64, order=order)
    return _Problem(
        "apply_mask", [x, _holes(1, 1, 128, 64) != 0, [2], _unwritten(x)], {0: 2, 1: 2, 3: 2}, [3]
    )


Make = Callable[[torch.memory_format], _Problem]
BOTH: dict[str, Make] = {
    "apply_mask": lambda order: _apply(order, 1, torch.float32),
    "apply_mask, groups": lambda order: _apply(order, 2, torch.bool),
    "apply_mask, all channels": lambda order: _apply(order, C, torch.float32),
    "apply_mask, short planes": _short,
    "prologue": lambda order: _prologue(order, 1),
    "epilogue": lambda order: _epilogue(order, False),
    "epilogue, bias": lambda order: _epilogue(order, True),
    "epilogue, short planes": lambda order: _epilogue(order, False, (5, 6)),
    "epilogue, bias, short planes": lambda order: _epilogue(order, True, (5, 6)),
    "epilogue backward": lambda order: _epilogue_backward(order, False),
    "epilogue backward, bias": lambda order: _epilogue_backward(order, True),
    "region_norm": _norm,
    "region_norm, soft": lambda order: _norm(order, True),
    "region_norm, rows": _rows,
    "region_norm backward": _norm_backward,
    "block_norm": _block,
    "block_norm backward": _block_backward,
    "channel_pool": _pool,
    "attention": _attention,
    "attention backward, maps": _attention_maps,
    "attention backward, input": _attention_input,
    "narrow_conv": _narrow,
}
# Contiguous planes are the tasks of apply_mask: there it would do all of both.
CHANNELS_LAST: dict[str, Make] = {"apply_mask, rows": _masked_rows}
CHANNELS: dict[str, Make] = {
    "region_norm, channels": _norm_of_channels,
    "region_norm, soft, channels": lambda order: _norm_of_channels(order, True),
    "region_norm backward, channels": _norm_of_channels_backward,
    "region_norm backward, soft, channels": lambda order: _norm_of_channels_backward(order, True),
}
WORKSPACE: dict[str, Make] = {  # of the size of a plane, and more
    "prologue, all channels, nchw": lambda _: _prologue(NCHW, C),
    "prologue, all channels, nhwc": lambda _: _prologue(NHWC, C),
    "mask_update": _update,
    "plane_conv": _planes,
    "plane_conv backward": _planes_weight,
}
ALL = [(make, order) for make in BOTH.values() for order in (NCHW, NHWC)]
ALL += [(make, NHWC) for make in CHANNELS_LAST.values()]
IDS = [f"{name}-{order}" for name in BOTH for order in ("nchw", "nhwc")] + [*CHANNELS_LAST]


@pytest.mark.parametrize(("make", "order"), ALL, ids=IDS)
def test_planes_beyond_31_bits_and_tensors_beyond_32(
    make: Make, order: torch.memory_format, last_of: Callable[[int], None]
) -> None:
    make(order).check(last_of, 2**31)


@pytest.mark.parametrize("make", CHANNELS.values(), ids=CHANNELS)
def test_channels_beyond_32_bits(make: Make, last_of: Callable[[int], None]) -> None:
    make(NCHW).check(last_of, 2**32)


_MEMORY = psutil.virtual_memory().total + psutil.swap_memory().total


@pytest.mark.skipif(_MEMORY < 12 * 2**30, reason="Linux promises at most the memory that it has")
@pytest.mark.parametrize("make", WORKSPACE.values(), ids=WORKSPACE)
def test_workspaces_beyond_31_bits(make: Make, last_of: Callable[[int], None]) -> None:
    make(NCHW).check(last_of, 2**31)


@pytest.mark.parametrize("axis", ["images", "planes", "rows", "columns"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_masks_of_any_strides(axis: str, dtype: torch.dtype) -> None:
    """Each axis in turn steps over more than 2^31 values."""
    size, far = (3, 2, 6, 7), 2**31 + 5
    strides = {
        "images": (far, 42, 7, 1), "planes": (42, far, 7, 1), "rows": (7, 21, far, 1),
        "columns": (12, 6, 1, far),
    }[axis]  # fmt: skip
    extent = 1 + sum((s - 1) * step for s, step in zip(size, strides, strict=True))
    mask = _virtual((extent,), dtype).as_strided(size, strides)
    mask.copy_(_holes(*size))
    counts, options = [2, 1], [[3, 3], [2, 1], [1, 1], [1, 1], 1e-8]
    outputs = [torch.full((3, 1, 3, 7), 9).to(dtype), torch.full((3, 1, 3, 7), torch.nan)]
    expected = [t.clone() for t in outputs]
    _native("mask_update", [mask, counts, *options, *outputs])
    _native("mask_update", [mask.contiguous(), counts, *options, *expected])
    for a, b in zip(outputs, expected, strict=True):
        assert torch.equal(a, b)


def test_a_mask_of_more_than_2_to_the_31_pixels() -> None:
    height, width = 2**16 + 3, 2**15 + 6
    mask = _virtual((1, 1, height, width), torch.bool)
    mask[0, 0, -1, -1] = mask[0, 0, 0, 3] = True
    new_mask = update_mask(mask, 3, stride=(2**15, 1))
    assert isinstance(new_mask, Tensor)
    assert new_mask.shape == (1, 1, 3, width - 2)
    assert new_mask.nonzero()[:, 2:].tolist() == [[0, 1], [0, 2], [0, 3], [2, width - 3]]
