"""The CUDA kernels without a GPU: the shipped sources, compiled for the host, against float64."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pybind11
import pytest

ROOT = Path(__file__).parent.parent
HOST = ROOT / "tests" / "cuda_on_host"


def _run(command: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=900, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core whose CUDA kernels run on the host; of its CPU kernels only the plainest."""
    folder = tmp_path_factory.mktemp("host")
    _run(
        ["cmake", "-G", "Ninja", "-S", ROOT / "csrc", "-B", folder, "-DCMAKE_BUILD_TYPE=Debug",
         "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1", f"-DPython_EXECUTABLE={sys.executable}",
         f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DINPAINT_OPS_WERROR=ON",
         "-DINPAINT_OPS_SIMD=baseline", f"-DINPAINT_OPS_CUDA_ON_HOST={HOST}"],
    )  # fmt: skip
    _run(["cmake", "--build", folder])
    (built,) = folder.glob("_core*.so")
    return built


@pytest.fixture(scope="module")
def launched(core: Path, tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    """Where the kernels lie that the cases launched; the cases pass."""
    log = tmp_path_factory.mktemp("log") / "kernels"
    out = _run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", HOST / "cases.py"],
        INPAINT_HOST_CORE=str(core), INPAINT_HOST_KERNELS=str(log),
    )  # fmt: skip
    assert "passed" in out or "[100%]" in out
    return {int(line, 16) for line in log.read_text().split()}


def _kernels() -> set[str]:
    """The names of all __global__ functions in the sources."""
    text = "".join(p.read_text() for p in (ROOT / "csrc" / "cuda").glob("*.cu*"))
    return set(re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([\w, ]+\)\s+)?(\w+)\(", text))


def test_the_kernels_compute_what_the_formulas_say(launched: set[int]) -> None:
    assert launched


def test_every_kernel_was_launched(core: Path, launched: set[int]) -> None:
    """Each instantiation of each, not one of them."""
    names = _kernels()
    assert len(names) >= 7
    found: dict[str, list[bool]] = {name: [] for name in names}
    missed = []
    for line in _run(["nm", "-C", "--defined-only", core]).splitlines():
        address, kind, symbol = line.split(" ", 2)
        match = re.search(r"inpaint::(?:\(anonymous namespace\)::)?(\w+)[<(]", symbol)
        if kind not in "tTwW" or match is None or match[1] not in names:
            continue
        hit = int(address, 16) in launched
        found[match[1]].append(hit)
        if not hit:
            missed.append(symbol[:200])
    assert all(found.values()), found
    assert not missed, "\n".join(missed)


# The host itself --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("mistakes") / "mistakes"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    _run([*compiler, "-std=c++17", "-O1", f"-I{HOST}", HOST / "mistakes.cpp", HOST / "machine.cpp",
          "-o", program])  # fmt: skip
    return program


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("barrier_in_a_branch", "a thread left before a __syncthreads of its block"),
        ("shuffle_without_some_lanes", "a lane left before a shuffle of its warp"),
        ("barrier_against_shuffle", "a thread left before a __syncthreads of its block"),
    ],
)
def test_threads_that_wait_for_nobody_are_reported(mistakes: Path, kernel: str, said: str) -> None:
    done = subprocess.run([str(mistakes), kernel], capture_output=True, text=True, timeout=60)
    assert done.returncode < 0
    assert f"block (0, 0, 0): {said}" in done.stderr


def test_a_missing_barrier_shows_in_the_other_order(mistakes: Path) -> None:
    race = [_run([mistakes, "race"], INPAINT_HOST_ORDER=order) for order in ("", "reverse")]
    assert race[0] != race[1]
    right = [_run([mistakes, "right"], INPAINT_HOST_ORDER=order) for order in ("", "reverse")]
    assert right[0] == right[1] == " ".join(f"{63.5 - i:g}" for i in range(64)) + " "
