"""csrc/common, which host and device share, called directly: against Python's and torch's numbers.

Sizes and taps of windows (sizes.h, taps_inside) have their tests in test_index_arithmetic.py.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import shlex
import statistics
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
#include "common/half.h"
#include "common/moments.h"
#include "common/window.h"

using namespace inpaint;

template <class H>
void half(const float* in, int64_t n, uint16_t* narrow, float* wide) {
  for (int64_t i = 0; i < n; ++i) {
    const H h(in[i]);
    narrow[i] = h.bits;
    wide[i] = h;
  }
}
template <class H>
int bits(uint16_t value) {
  H h;
  h.bits = value;
  return is_zero(h) + 2 * is_one(h);
}
extern "C" void bfloat16(const float* in, int64_t n, uint16_t* narrow, float* wide) {
  half<BFloat16>(in, n, narrow, wide);
}
extern "C" void float16(const float* in, int64_t n, uint16_t* narrow, float* wide) {
  half<Float16>(in, n, narrow, wide);
}
extern "C" int kind_bfloat16(uint16_t value) { return bits<BFloat16>(value); }
extern "C" int kind_float16(uint16_t value) { return bits<Float16>(value); }

extern "C" double updated(double sum) { return updated_mask(sum); }
extern "C" double ratio(double sum, double cells, double eps) {
  return window_ratio(sum, cells, eps);
}
extern "C" double under(double value, double mask) { return masked(value, mask); }

extern "C" void shifted(double count, double shift, double sum, double squares, double* out) {
  const Moments m = moments_from_shifted(count, shift, sum, squares);
  out[0] = m.count, out[1] = m.mean, out[2] = m.m2;
}
extern "C" void merge(double* into, const double* other) {
  Moments a{into[0], into[1], into[2]};
  merge_moments(&a, Moments{other[0], other[1], other[2]});
  into[0] = a.count, into[1] = a.mean, into[2] = a.m2;
}
"""
Moments = tuple[float, float, float]


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The headers, compiled with the compiler that CMake would take."""
    folder = tmp_path_factory.mktemp("common")
    (folder / "program.cpp").write_text(PROGRAM)
    library = folder / "program.so"
    subprocess.run(
        [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++17", "-O1", "-Wall", "-Wextra",
         "-Wconversion", "-Werror", "-fPIC", "-shared", "-I", str(ROOT / "csrc"),
         str(folder / "program.cpp"), "-o", str(library)],
        check=True,
    )  # fmt: skip
    loaded = ctypes.CDLL(str(library))
    for name, count in (("updated", 1), ("ratio", 3), ("under", 2)):
        getattr(loaded, name).restype = ctypes.c_double
        getattr(loaded, name).argtypes = [ctypes.c_double] * count
    return loaded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_and_widened_as_torch_does(
    common: ctypes.CDLL, dtype: torch.dtype
) -> None:
    """All numbers of the type, those halfway between two of them, their neighbours, any others."""
    all_of_it = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).float()
    finite = all_of_it[all_of_it.isfinite()].sort().values
    halfway = (finite[1:] + finite[:-1]) / 2
    near = [torch.nextafter(halfway, torch.tensor(sign * math.inf)) for sign in (-1, 1)]
    anything = torch.randint(-(2**31), 2**31, (100_000,)).to(torch.int32).view(torch.float32)
    given = torch.cat([all_of_it, halfway, *near, anything]).contiguous()
    narrow = torch.zeros(given.numel(), dtype=torch.int16)
    wide = torch.zeros(given.numel())
    _call_on(getattr(common, str(dtype).removeprefix("torch.")), given, narrow, wide)
    expected = given.to(dtype)
    real = ~expected.isnan()
    assert torch.equal(narrow.view(dtype).isnan(), ~real)
    assert torch.equal(narrow[real], expected.view(torch.int16)[real])
    assert torch.equal(wide.isnan(), ~real)
    assert torch.equal(wide[real].view(torch.int32), expected[real].float().view(torch.int32))


def _call_on(function: ctypes._NamedFuncPointer, given: Tensor, *out: Tensor) -> None:
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (given, *out)]
    function(pointers[0], ctypes.c_int64(given.numel()), *pointers[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_zero_and_one_are_told_by_their_bits(common: ctypes.CDLL, dtype: torch.dtype) -> None:
    values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    expected = ((values == 0).int() + 2 * (values == 1).int()).tolist()
    function = getattr(common, "kind_" + str(dtype).removeprefix("torch."))
    assert [function(ctypes.c_uint16(i)) for i in range(2**16)] == expected
    assert expected.count(1) == 2  # both zeros


def test_windows_sum_to_a_new_mask_and_a_ratio(common: ctypes.CDLL) -> None:
    assert [common.updated(s) for s in (-1.0, 0.0, 0.25, 1.0, 9.0)] == [0, 0, 0.25, 1, 1]
    assert common.ratio(4.0, 9.0, 0.0) == 9 / 4
    assert common.ratio(4.0, 9.0, 1.0) == 9 / 5
    assert common.ratio(0.5, 9.0, 0.0) == 9 / 0.5 * 0.5
    # Selected: nothing is divided by zero, whatever eps is.
    assert common.ratio(0.0, 9.0, 0.0) == 0
    assert common.ratio(0.0, 9.0, 1e-8) == 0


def test_a_hole_is_selected(common: ctypes.CDLL) -> None:
    for value in (math.nan, math.inf, -math.inf, 2.0):
        for hole in (0.0, -0.0):
            assert common.under(value, hole) == 0
    assert common.under(3.0, 0.5) == 1.5
    assert math.isnan(common.under(math.nan, 1.0))


def _shifted(common: ctypes.CDLL, values: list[float], shift: float) -> Moments:
    out = (ctypes.c_double * 3)()
    around = [value - shift for value in values]
    sums = (len(values), shift, sum(around), sum(value**2 for value in around))
    common.shifted(*map(ctypes.c_double, sums), out)
    return out[0], out[1], out[2]


def _merged(common: ctypes.CDLL, *parts: Moments) -> Moments:
    into = (ctypes.c_double * 3)()
    for part in parts:
        common.merge(into, (ctypes.c_double * 3)(*part))
    return into[0], into[1], into[2]


@pytest.mark.parametrize("mean", [0.0, 1e6, -1e9])
def test_moments_far_from_zero_merge_to_those_of_all(common: ctypes.CDLL, mean: float) -> None:
    values = (torch.randn(1000, dtype=torch.float64) + mean).tolist()
    bounds = [0, 1, 1, 17, 400, 1000]  # one of the parts is empty
    parts = [_shifted(common, values[a:b], values[a]) for a, b in itertools.pairwise(bounds)]
    count, found, m2 = _merged(common, *parts)
    assert count == 1000
    assert found == pytest.approx(statistics.fmean(values), rel=1e-14, abs=1e-14)
    # What is left of 1e9 in float64 has seven digits: E[x^2] - E[x]^2 would have none.
    assert m2 == pytest.approx(statistics.pvariance(values) * 1000, rel=1e-6)


def test_moments_of_nothing_and_of_nan(common: ctypes.CDLL) -> None:
    assert _shifted(common, [], 3.0) == (0, 0, 0)
    assert _merged(common, (0, 0, 0), (2, 5, 1), (0, 0, 0)) == (2, 5, 1)
    assert _shifted(common, [7.0, 7.0], 7.0) == (2, 7, 0)
    assert all(map(math.isnan, _merged(common, (2, 5, 1), (2, math.nan, math.nan))[1:]))
    assert math.isnan(_shifted(common, [math.nan, 1.0], 0.0)[2])
