"""nvcc makes machine code of every kernel for every GPU, within a budget."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
ARCHS = (75, 80, 86, 89, 90, 100, 120)
BUDGETED = ("sm_80", "sm_90", "sm_100")

# A multiprocessor of these has 65,536 registers and at least 164 KiB of shared memory. Blocks have
# 256 threads: with 64 registers four of them are resident, and half the threads that there could be
# hide the latency of memory. Reductions keep their sums in registers and get two blocks; so do the
# mask update, which is small, and region normalization, with eight elements and their tables.
REGISTERS = {"reduce_units": 128, "mask_update_kernel": 128, "Apply": 128}
OTHERS = 64
SHARED = 25 * 1024  # bytes: reduce_units in channels-last order, twelve values of two channels

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")


class Usage(NamedTuple):
    kernel: str
    arch: str
    registers: int
    stack: int
    spills: int
    shared: int


def compile_for(source: Path, arch: int, target: Path, *options: str) -> str:
    """What nvcc says while it compiles; raises if it does not."""
    done = subprocess.run(
        ["nvcc", "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Werror", "all-warnings",
         f"-I{ROOT / 'csrc' / 'include'}", f"-gencode=arch=compute_{arch},code=sm_{arch}",
         "-Xptxas=-v", "-cubin", *options, "-o", str(target), str(source)],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def usages(log: str) -> list[Usage]:
    """The report of the assembler, a line for each kernel."""
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill"
        r" stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
    )
    found = []
    for name, arch, stack, stores, loads, registers, rest in re.findall(pattern, log, re.S):
        shared = re.search(r"(\d+) bytes smem", rest)
        found.append(
            Usage(
                name, arch, int(registers), int(stack), int(stores) + int(loads),
                int(shared[1]) if shared else 0,
            )
        )  # fmt: skip
    return found


def over_budget(usage: Usage) -> bool:
    """Whether a kernel takes more than is written above."""
    limits = [limit for name, limit in REGISTERS.items() if name in usage.kernel]
    return (
        usage.registers > (limits[0] if limits else OTHERS)
        or usage.spills > 0
        or usage.shared > SHARED
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """What nvcc said of every source for every compute capability."""
    folder = tmp_path_factory.mktemp("cubins")
    jobs = [(source, arch) for source in SOURCES for arch in ARCHS]

    def run(job: tuple[Path, int]) -> str:
        source, arch = job
        return compile_for(source, arch, folder / f"{source.stem}.{arch}.cubin")

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(run, jobs))
    return {(s.stem, a): text for (s, a), text in zip(jobs, said, strict=True)}


def test_every_source_compiles_for_every_gpu(logs: dict[tuple[str, int], str]) -> None:
    assert {arch for _, arch in logs} == set(ARCHS)
    assert {stem for stem, _ in logs} == {source.stem for source in SOURCES}


def test_kernels_keep_to_their_budget(logs: dict[tuple[str, int], str]) -> None:
    found = [u for text in logs.values() for u in usages(text) if u.arch in BUDGETED]
    assert len(found) >= 3 * 100
    over = [u for u in found if over_budget(u)]
    assert not over, "\n".join(map(str, over))


def test_a_kernel_that_spills_is_seen(tmp_path: Path) -> None:
    """The same kernels, allowed too few registers."""
    source = ROOT / "csrc" / "cuda" / "mask_update.cu"
    log = compile_for(source, 90, tmp_path / "x.cubin", "-maxrregcount=24")
    assert any(u.spills > 0 and over_budget(u) for u in usages(log))
