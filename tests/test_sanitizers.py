"""The native core under AddressSanitizer and UndefinedBehaviorSanitizer.

The core is built again with both, and child processes run the operators' own tests on it. Around
every tensor and every workspace lies memory that must not be touched, fresh memory holds NaN, and
the first report ends the process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inpaint_ops import core

ROOT = Path(__file__).resolve().parent.parent


def _runtime(name: str) -> str | None:
    """The path of a library of the compiler."""
    command = [*shlex.split(os.environ.get("CXX", "c++")), f"-print-file-name={name}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found if Path(found).is_absolute() else None


# The sanitizer comes before anything that allocates. The C++ library too: Python has none, and the
# sanitizer must find the function that throws when it starts.
PRELOAD = [_runtime(name) for name in ("libasan.so", "libstdc++.so")]
pytestmark = pytest.mark.skipif(
    None in PRELOAD, reason="the C++ compiler brings no AddressSanitizer"
)

LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("inpaint_ops._core", sys.argv[1])
native = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
import pytest, torch
from inpaint_ops import core
assert core.load() is native
assert "-fsanitize=address,undefined" in native.build_info()["flags"]
"""
RUN = LOAD + "sys.exit(pytest.main(sys.argv[2:]))"
# No instruction set is special - all compile the same sources - but each gets its part.
TESTS = [
    ["partial_conv"],
    ["region_norm", "attention_region_norm", "narrow_conv", "update_mask", "determinism"],
    ["properties", "partial_conv_nd", "padding", "half_precision"],
]
# What does not reach the core, or says the same a thousand times.
LEFT_OUT = "not reference and not gradcheck and not compil"


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core, built with both sanitizers and without CUDA."""
    folder = tmp_path_factory.mktemp("sanitized")
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(folder / "lib"),
         "--build-temp", str(folder / "build")],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
        env={**os.environ, "INPAINT_OPS_SANITIZE": "address,undefined", "INPAINT_OPS_CUDA": "0",
             # Sanitizers upset the analyses behind some warnings.
             "INPAINT_OPS_WERROR": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (built,) = folder.glob("lib/inpaint_ops/_core*")
    return built


def _start(code: str, built: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    options = {
        # Python and torch keep what they have to the end.
        "detect_leaks": 0,
        # A workspace that does not fit is refused with a message, which is tested.
        "allocator_may_return_null": 1,
        "detect_stack_use_after_return": 1,
        # Fresh memory is NaN, also where the core allocates it.
        "malloc_fill_byte": 255,
        "max_malloc_fill_size": 2**24,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, str(built), *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LD_PRELOAD": " ".join(path for path in PRELOAD if path),
             "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
             "UBSAN_OPTIONS": "print_stacktrace=1",
             # Two threads, to cut the work, that do not spin while they wait for each other.
             "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(sanitized: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """All groups of tests, side by side."""
    levels = core.load().build_info()["simd_available"]
    processes = [
        _start(
            RUN, sanitized, "-x", "--capture=no", "-p", "no:cacheprovider",
            # It would take a wild address for itself, and know nothing of C++.
            "-p", "no:faulthandler", "-k", LEFT_OUT,
            *(f"tests/test_{name}.py" for name in names), INPAINT_OPS_SIMD=levels[i % len(levels)],
        )
        for i, names in enumerate(TESTS)
    ]  # fmt: skip
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("group", range(len(TESTS)), ids=["-".join(names) for names in TESTS])
def test_nothing_is_reported(running: list[subprocess.Popen[str]], group: int) -> None:
    out, err = running[group].communicate(timeout=900)
    assert running[group].returncode == 0, f"{out[-3000:]}\n{err[:8000]}"
    assert " passed" in out


LIES = {
    "AddressSanitizer: heap-buffer-overflow": """
x, y = torch.ones(1, 1, 16, 15), torch.ones(1, 1, 16, 16)
address, dtype = core.view(x)[:2]
native.apply_mask((address, dtype, *core.view(y)[2:]), core.view(y), [1], core.view(y))
""",
    "AddressSanitizer: heap-use-after-free": """
x, y = torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
view = core.view(x)[:4]
del x
native.apply_mask((*view, None), core.view(y), [1], core.view(y))
""",
    "runtime error: load of misaligned address": """
x, y = torch.ones(1, 1, 16, 17), torch.full((1, 1, 16, 16), 0.5)
address, dtype = core.view(x)[:2]
native.apply_mask((address + 1, dtype, *core.view(y)[2:]), core.view(y), [1], core.view(y))
""",
}


@pytest.mark.parametrize("report", LIES)
def test_a_view_that_lies_is_reported(sanitized: Path, report: str) -> None:
    """So would be a kernel that reads where it should not."""
    child = _start(LOAD + LIES[report] + "print('survived')", sanitized)
    out, err = child.communicate(timeout=300)
    assert child.returncode != 0
    assert out == ""
    assert report in err
    assert "apply_mask.cpp" in err
