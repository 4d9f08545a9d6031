"""The CUDA kernels without a GPU: the shipped sources, compiled for the host, against float64."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pybind11
import pytest

ROOT = Path(__file__).parent.parent
HOST = ROOT / "tests" / "cuda_on_host"
COMPILER = shlex.split(os.environ.get("CXX", "c++"))
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def _run(command: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=900, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def _runtime(name: str) -> str | None:
    """The path of a library of the compiler."""
    found = _run([*COMPILER, f"-print-file-name={name}"]).strip()
    return found if Path(found).is_absolute() else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cores are built."""
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def core(folder: Path) -> Path:
    """A core whose CUDA kernels run on the host; of its CPU kernels only the plainest."""
    _run(
        ["cmake", "-G", "Ninja", "-S", ROOT / "csrc", "-B", folder, "-DCMAKE_BUILD_TYPE=Debug",
         "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1", f"-DPython_EXECUTABLE={sys.executable}",
         f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DINPAINT_OPS_WERROR=ON",
         "-DINPAINT_OPS_SIMD=baseline", f"-DINPAINT_OPS_CUDA_ON_HOST={HOST}"],
    )  # fmt: skip
    return _build(folder, "plain")


def _build(folder: Path, name: str) -> Path:
    """The core as it is configured now, kept under a name of its own."""
    _run(["cmake", "--build", folder])
    (built,) = folder.glob("_core*.so")
    kept = folder / name / built.name
    kept.parent.mkdir()
    shutil.copy2(built, kept)
    return kept


def _shared(binary: Path) -> Path:
    """A file that says which static memory is whose: of a function, its address and size."""
    lines = [line.split() for line in _run(["nm", "-S", "--defined-only", binary]).splitlines()]
    symbols = {line[3]: (line[0], line[1]) for line in lines if len(line) == 4}
    found = []
    for symbol, (address, size) in symbols.items():
        match = re.fullmatch(r"_ZZ(.+)E\d+\w+", symbol)
        if match is not None and f"_Z{match[1]}" in symbols:
            found.append(f"{symbols[f'_Z{match[1]}'][0]} {address} {size}\n")
    assert found
    file = binary.with_suffix(".shared")
    file.write_text("".join(found))
    return file


@pytest.fixture(scope="module")
def launched(core: Path, folder: Path) -> set[int]:
    """Where the kernels lie that the cases launched; the cases pass."""
    log = folder / "kernels"
    out = _run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", HOST / "cases.py"],
        INPAINT_HOST_CORE=str(core), INPAINT_HOST_KERNELS=str(log),
        INPAINT_HOST_SHARED=str(_shared(core)),
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


# Errors of CUDA ---------------------------------------------------------------------------------

CALL = """
import os, sys
sys.path.insert(0, sys.argv[1])
import _core as native, torch
from inpaint_ops import core
x = core.view(torch.ones(1, 1, 16, 16))
for failing in sys.argv[2:]:
    os.environ["INPAINT_HOST_ERROR"] = failing
    try:
        native.cuda_apply_mask(1, 0, x, x, [1], x)
    except RuntimeError as error:
        print(error)
    else:
        print("no error")
"""
ERRORS = {
    "cudaGetDevice 35": r"select device: CUDA driver version is insufficient .* update the NVIDIA",
    "cudaSetDevice 35": r"select device: CUDA driver version is insufficient .* update the NVIDIA",
    "cudaLaunchKernelEx 222": r"launch .* unsupported toolchain.* update the NVIDIA driver",
    "cudaLaunchKernelEx 209": r"launch .*: no kernel image .* INPAINT_OPS_CUDA_ARCHS",
    "cudaLaunchKernelEx 9": r"launch 1 x 1 blocks of 64 x 4 threads: invalid .*use_backend",
    "cudaLaunchKernelEx 700": r"launch .*: an illegal memory .* CUDA_LAUNCH_BLOCKING=1",
}


def test_errors_name_the_cause_and_the_way_out(core: Path) -> None:
    out = _run([sys.executable, "-c", CALL, core.parent, *ERRORS, "none"]).splitlines()
    for said, line in zip([*ERRORS.values()], out[:-1], strict=True):
        assert re.match(rf"cuda_apply_mask: {said}", line), line
        assert "(built with CUDA 13.0)" in line
    assert out[-1] == "no error"


# Under sanitizers -------------------------------------------------------------------------------

needs_sanitizers = pytest.mark.skipif(
    _runtime("libasan.so") is None, reason="the C++ compiler brings no AddressSanitizer"
)
# Torch and Python keep what they have to the end. A stack for each fiber that nobody may come back
# to would take longer than all the rest.
QUIET = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"}
# Each form of the operators once for packs and once for single elements.
FEW = (
    "float32 and 2x66x4x4 or float16 and 2x5x7x9 and not bfloat16 or mask_update or ratios"
    " or three_axes or anywhere"
)


@pytest.fixture(scope="module")
def sanitized(core: Path, folder: Path) -> Path:
    """The same core, with sanitizers in the CUDA kernels and nowhere else."""
    flags = ";".join([*SANITIZE, "-g1"])
    _run(["cmake", f"-DINPAINT_OPS_CUDA_ON_HOST_FLAGS={flags}", folder])
    return _build(folder, "sanitized")


def _under_sanitizers(built: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=900, cwd=ROOT,
        env={**os.environ, **QUIET, "INPAINT_HOST_CORE": str(built),
             # The sanitizer comes before anything that allocates, and finds the C++ library.
             "LD_PRELOAD": f"{_runtime('libasan.so')} {_runtime('libstdc++.so')}"},
    )  # fmt: skip


@needs_sanitizers
def test_sanitizers_report_nothing(sanitized: Path) -> None:
    done = _under_sanitizers(
        # faulthandler would take a wild address for itself, and know nothing of C++.
        sanitized, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:faulthandler",
        "--capture=no", str(HOST / "cases.py"), "-k", FEW,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:6000]
    assert done.stdout.count(".") > 100


LIE = """
import sys
sys.path.insert(0, sys.argv[1])
import _core as native, torch
from inpaint_ops import core
x, y = torch.ones(1, 1, 16, 15), torch.ones(1, 1, 16, 16)
wrong = (*core.view(x)[:2], *core.view(y)[2:])
native.cuda_apply_mask(0, 0, wrong, core.view(y), [1], core.view(y))
print("survived")
"""


@needs_sanitizers
def test_a_view_that_lies_to_a_shipped_kernel_is_reported(sanitized: Path) -> None:
    """So would be a kernel that reads where it should not."""
    done = _under_sanitizers(sanitized, "-c", LIE, str(sanitized.parent))
    assert not done.stdout
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
    assert "elements.cuh" in done.stderr


@pytest.fixture(scope="module")
def sanitized_mistakes(folder: Path) -> Path:
    return _mistakes(folder / "sanitized_mistakes", *SANITIZE)


@needs_sanitizers
@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("past_shared", "AddressSanitizer: global-buffer-overflow"),
        ("past_output", "AddressSanitizer: heap-buffer-overflow"),
        ("past_local", "AddressSanitizer: stack-buffer-overflow"),
        ("misaligned", "runtime error: store to misaligned address"),
    ],
)
def test_a_kernel_that_writes_beside_its_memory_is_reported(
    sanitized_mistakes: Path, kernel: str, said: str
) -> None:
    done = subprocess.run(
        [str(sanitized_mistakes), kernel], capture_output=True, text=True, timeout=60,
        env={**os.environ, **QUIET},
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert not done.stdout


# The host itself --------------------------------------------------------------------------------


def _mistakes(program: Path, *options: str) -> Path:
    _run([*COMPILER, "-std=c++17", "-O1", *options, f"-I{HOST}", HOST / "mistakes.cpp",
          HOST / "machine.cpp", "-o", program])  # fmt: skip
    return program


@pytest.fixture(scope="module")
def mistakes(folder: Path) -> Path:
    return _mistakes(folder / "mistakes")


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


def test_shared_memory_forgets_the_block_before(mistakes: Path) -> None:
    shared = str(_shared(mistakes))
    assert set(_run([mistakes, "left_over"]).split()) == {"1"}
    found = _run([mistakes, "left_over"], INPAINT_HOST_SHARED=shared).split()
    assert {value.strip("-") for value in found} == {"nan"}
