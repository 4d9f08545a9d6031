"""The native convolution into a few channels, against float64 and in its memory order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from inpaint_ops import core, partial_conv2d, use_backend
from inpaint_ops.backends.cpu.convolution import _narrow, convolution

NCHW, NHWC = torch.contiguous_format, torch.channels_last

# batch, in, out, (h, w), kernel, padding, dilation
CASES = {
    "last layer": (2, 67, 3, (20, 37), (3, 3), (1, 1), (1, 1)),
    "one vector": (1, 16, 1, (9, 5), (3, 3), (1, 1), (1, 1)),
    "four outputs, dilated": (2, 35, 4, (20, 70), (5, 5), (2, 2), (2, 2)),
    "no padding": (1, 24, 2, (12, 33), (3, 3), (0, 0), (1, 1)),
    "long rows": (1, 17, 3, (3, 600), (3, 7), (1, 3), (1, 1)),
    "even window": (1, 40, 3, (8, 9), (4, 2), (2, 1), (1, 1)),
    "window wider than the row": (1, 16, 3, (4, 5), (1, 9), (0, 12), (1, 3)),
    "padding beyond the window": (1, 16, 3, (2, 3), (3, 3), (5, 4), (1, 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", CASES)
def test_against_float64(
    plain: Any, case: str, order: torch.memory_format, dtype: torch.dtype
) -> None:
    n, inputs, outputs, size, kernel, padding, dilation = CASES[case]
    x = (torch.randn(n, inputs, *size, dtype=dtype) + 2).to(memory_format=order)
    weight = torch.randn(outputs, inputs, *kernel, dtype=dtype).to(memory_format=order)
    assert _narrow(x, weight, (1, 1), dilation, 1)
    y = convolution(x, weight, (1, 1), padding, dilation, 1)
    expected = F.conv2d(x.double(), weight.double(), None, 1, padding, dilation)
    plain.close(y, expected, inputs * kernel[0] * kernel[1])
    assert y.is_contiguous(memory_format=order)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_infinity_and_nan_reach_their_windows_only(order: torch.memory_format) -> None:
    x = torch.randn(1, 19, 9, 40).to(memory_format=order)
    x[0, 18, 4, 20], x[0, 3, 0, 0] = torch.inf, torch.nan
    weight = torch.rand(2, 19, 3, 3).to(memory_format=order) + 0.1
    y = convolution(x, weight, (1, 1), (1, 1), (1, 1), 1)
    expected = F.conv2d(x.double(), weight.double(), None, 1, 1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_same_bits_for_any_number_of_threads(
    order: torch.memory_format, restored_threads: None
) -> None:
    x = torch.randn(3, 33, 31, 45).to(memory_format=order)
    weight = torch.randn(3, 33, 3, 3).to(memory_format=order)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(convolution(x, weight, (1, 1), (1, 1), (1, 1), 1))
    assert torch.equal(*found)


@pytest.mark.parametrize("level", core.load().build_info()["simd_available"])
def test_every_instruction_set(plain: Any, level: str, restored_simd: None) -> None:
    core.load().select_simd(level)
    for order in (NCHW, NHWC):
        x = torch.randn(2, 35, 11, 37).to(memory_format=order)
        weight = torch.randn(3, 35, 3, 3).to(memory_format=order)
        y = convolution(x, weight, (1, 1), (1, 1), (1, 1), 1)
        plain.close(y, F.conv2d(x.double(), weight.double(), None, 1, 1), 35 * 9)


@pytest.mark.parametrize("case", ["strided", "grouped", "wide", "pointwise", "few inputs", "mixed"])
def test_what_it_does_not_take_goes_to_aten(plain: Any, case: str) -> None:
    stride, groups, inputs, kernel, dilation = 1, 1, 32, 3, 1
    if case == "strided":
        stride = 2
    elif case == "grouped":
        groups = 2
    elif case == "wide":
        dilation = 40
    elif case == "pointwise":
        kernel = 1
    elif case == "few inputs":
        inputs = 3
    x, mask = torch.randn(2, inputs, 90, 85), plain.blobs(2, 1, 90, 85).float()
    weight = torch.randn(4, inputs // groups, kernel, kernel)
    if case == "mixed":
        weight = weight.to(memory_format=NHWC)
    assert not _narrow(x, weight, (stride, stride), (dilation, dilation), groups)
    with use_backend("cpu"):
        y, _ = partial_conv2d(x, mask, weight, None, stride, 1, dilation, groups)
    expected, _ = plain.partial_conv(x, mask, weight, None, stride, 1, dilation, groups)
    plain.close(y, expected, inputs * kernel**2)


def test_the_core_names_what_it_refuses() -> None:
    x, weight, out = torch.zeros(1, 16, 8, 8), torch.zeros(3, 16, 3, 3), torch.zeros(1, 3, 8, 8)
    call = core.load().narrow_conv
    view = core.view
    for arguments, message in (
        ((x[:, :8].clone(), weight[:, :8].clone(), (1, 1), (1, 1), out), "x: .*16 channels"),
        ((x, torch.zeros(5, 16, 3, 3), (1, 1), (1, 1), out), "weight: "),
        ((x, weight, (1, 1), (40, 1), out), "weight: .*wider"),
        ((x, weight, (-1, 1), (1, 1), out), "padding: "),
        ((x, weight, (1, 1), (0, 1), out), "dilation: "),
        ((x, weight, (0, 0), (4, 4), out), "weight: .*larger"),
        ((x, weight, (1, 1), (1, 1), out.to(memory_format=NHWC)), "out: .*memory order"),
        ((x, weight, (0, 0), (1, 1), out), r"out: .*\(1, 3, 6, 6\)"),
    ):
        a, w, padding, dilation, y = arguments
        with pytest.raises(RuntimeError, match=f"^{message}"):
            call(view(a), view(w), padding, dilation, view(y))
