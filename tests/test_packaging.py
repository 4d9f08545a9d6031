"""From the sources to an installed package elsewhere: sdist, wheel, editable, built and rebuilt.

Every install runs offline: pip gets no index, and builds with what this environment has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

# Prints how much larger the native result is than the reference's: 1.0.
USE = """
import torch, inpaint_ops, inpaint_models
from inpaint_ops import partial_conv2d, use_backend
x, weight = torch.rand(1, 3, 9, 9), torch.ones(2, 3, 3, 3)
mask = (torch.rand(1, 1, 9, 9) > 0.4).float()
with use_backend("reference"):
    expected = partial_conv2d(x, mask, weight)[0]
print(inpaint_ops.__file__)
y = partial_conv2d(x, mask, weight)[0]
factor = y.sum() / expected.sum()
torch.testing.assert_close(y, factor * expected)
print(round(factor.item(), 3))
"""


def _try(
    command: Sequence[str | Path], cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run without this environment's Python variables, and without a CUDA_HOME unless given."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CUDA_HOME"))}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=600,
        env=outside | environment,
    )  # fmt: skip


def _run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    done = _try(command, cwd, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _pip(python: Path, *arguments: str | Path) -> list[str | Path]:
    """This environment's pip at work in another one, with no index and no configuration."""
    here: list[str | Path] = [sys.executable, "-m", "pip", "--isolated", "--python", python]
    return [*here, *arguments, "--no-index"]


def _fresh_environment(home: Path) -> Path:
    """The Python of a new environment; torch and the build tools are borrowed from this one.

    They are borrowed as plain paths, so that .pth files there do not run: the checkout stays out
    of sight.
    """
    venv.create(home, with_pip=False)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = _run([python, "-c", "import sysconfig as s; print(s.get_path('purelib'))"], home)
    borrowed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (Path(site.strip()) / "borrowed.pth").write_text("\n".join(borrowed))
    return python


def _use(python: Path, cwd: Path) -> tuple[Path, float]:
    """Where the package lies, and the factor between native and reference results."""
    file, factor = _run([python, "-c", USE], cwd).split()
    return Path(file), float(factor)


def _build_info(python: Path, cwd: Path) -> dict[str, Any]:
    build: dict[str, Any] = json.loads(
        _run([python, "-m", "inpaint_ops.info", "--json"], cwd)
    )["build"]  # fmt: skip
    return build


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution of what git would hand over."""
    folder = tmp_path_factory.mktemp("sdist")
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(folder)!r}))"
    _run([sys.executable, "-c", code], ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (unpacked,) = (p for p in folder.iterdir() if p.is_dir())
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of it, without CUDA, built where an earlier build left a module behind."""
    platform = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    left = sdist / "build" / platform / "inpaint_ops" / "gone.py"
    left.parent.mkdir(parents=True)
    left.write_text("x = 1\n")
    folder = tmp_path_factory.mktemp("wheels")
    command = _pip(
        Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sdist
    )
    _run(command, folder, INPAINT_OPS_CUDA="0")
    assert (left.parent / "core.py").is_file(), "the build was done elsewhere"
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel."""
    home = tmp_path_factory.mktemp("installed")
    python = _fresh_environment(home)
    _run(_pip(python, "install", wheel), home)
    return python


def test_the_source_distribution_is_whole(sdist: Path) -> None:
    for folder in ("csrc", "inpaint_ops", "models", "tests", "benchmarks", "docs"):
        here = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file()}
        here = {p for p in here if p.suffix not in (".so", ".pyd", ".pyc")}
        there = {p.relative_to(sdist) for p in (sdist / folder).rglob("*") if p.is_file()}
        assert here
        assert here <= there
    for name in ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", "setup.py"):
        assert (sdist / name).is_file()
    assert not list(sdist.rglob("*.so"))


def test_a_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    packages = {"inpaint_ops", "inpaint_models", "inpaint_cli"}
    assert {name.split("/")[0].split("-")[0] for name in names} == packages
    assert "inpaint_ops/gone.py" not in names
    kinds = (".md", ".py", ".pyi", ".safetensors", ".typed", ".yaml")
    for package in ("inpaint_ops", "models/inpaint_models", "models/inpaint_cli"):
        here = {p for p in (ROOT / package).rglob("*") if p.suffix in kinds}
        prefix = ROOT / "models" if package.startswith("models") else ROOT
        assert {p.relative_to(prefix).as_posix() for p in here} <= set(names)
    (binary,) = (name for name in names if name.endswith((".so", ".pyd")))
    assert binary == f"inpaint_ops/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert f"cp{sys.version_info.major}{sys.version_info.minor}" in wheel.name


def test_a_wheel_runs_elsewhere(installed: Path, tmp_path: Path) -> None:
    """Installed where the checkout is out of sight."""
    file, factor = _use(installed, tmp_path)
    assert file.is_relative_to(installed.parent.parent)
    assert factor == 1
    build = _build_info(installed, tmp_path)
    assert not build["cuda"]
    assert build["cuda_reason"] == "skipped by INPAINT_OPS_CUDA=0"


@pytest.mark.parametrize("state", ["missing", "of another Python", "empty", "of other sources"])
def test_a_binary_that_does_not_fit_is_an_error_at_the_call(
    installed: Path, tmp_path: Path, state: str
) -> None:
    """The package imports, says how to repair it, and never computes with what it found."""
    file, _ = _use(installed, tmp_path)
    copy = tmp_path / "inpaint_ops"
    shutil.copytree(file.parent, copy)
    (binary,) = copy.glob("_core.*.so")
    said = "binaries in .*: none"
    if state == "missing":
        binary.unlink()
    elif state == "of another Python":
        binary.rename(copy / "_core.cpython-36m-x86_64-linux-gnu.so")
        said = r"binaries in .*: _core\.cpython-36m-x86_64-linux-gnu\.so; this is Python 3"
    elif state == "empty":
        binary.write_bytes(b"")
        said = "the native core cannot be loaded"
    else:
        source = (copy / "core.py").read_text()
        assert '"all_valid": "mask"' in source
        (copy / "core.py").write_text(source.replace('"all_valid": "mask"', '"all_valid": "m"'))
        said = "built from other sources than these"
    done = _try([installed, "-c", USE], tmp_path)
    assert done.stdout.split() == [str(copy / "__init__.py")]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: partial_conv_forward: ")
    assert "rebuild: pip install -e ." in last
    assert re.search(said, last)


def test_editable_installs_follow_the_sources(sdist: Path, tmp_path: Path) -> None:
    """Twice in a row, with CUDA and without; then again after an edit of header and kernel."""
    source, python = tmp_path / "source", _fresh_environment(tmp_path / "fresh")
    shutil.copytree(sdist, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    install = _pip(python, "install", "--no-build-isolation", "-e", source)

    nvcc = shutil.which("nvcc") is not None
    _run(install, tmp_path, INPAINT_OPS_CUDA="1" if nvcc else "0", INPAINT_OPS_CUDA_ARCHS="90")
    assert _use(python, tmp_path) == (source / "inpaint_ops" / "__init__.py", 1)
    build = _build_info(python, tmp_path)
    assert build["cuda"] == nvcc
    assert not nvcc or build["cuda_archs"] == "90"

    _run(install, tmp_path, INPAINT_OPS_CUDA="0")
    assert _use(python, tmp_path)[1] == 1
    build = _build_info(python, tmp_path)
    assert not build["cuda"]
    assert build["cuda_reason"] == "skipped by INPAINT_OPS_CUDA=0"
    assert len(list((source / "inpaint_ops").glob("_core.*so*"))) == 1
    assert not (source / "build").exists()

    for name, old, new in (
        ("csrc/common/window.h", "cells / (sum + eps)", "2 * cells / (sum + eps)"),
        ("csrc/include/inpaint/op_table.h", "all_valid(mask);", "all_valid(m);"),
        ("inpaint_ops/core.py", '"all_valid": "mask"', '"all_valid": "m"'),
    ):
        text = (source / name).read_text()
        assert text.count(old) == 1, name
        (source / name).write_text(text.replace(old, new))
    stale = _try([python, "-c", USE], tmp_path)
    assert "built from other sources than these; rebuild: pip install -e ." in stale.stderr
    _run(install, tmp_path, INPAINT_OPS_CUDA="0")
    assert _use(python, tmp_path)[1] == 2


@pytest.mark.parametrize(
    ("wish", "nvcc", "said"),
    [
        ("1", None, "INPAINT_OPS_CUDA=1, but no nvcc was found in CUDA_HOME"),
        ("yes", None, "INPAINT_OPS_CUDA='yes': expected 0, 1 or auto"),
        ("auto", "#!/bin/sh\nexit 1\n", "INPAINT_OPS_CUDA=0 builds it without CUDA"),
    ],
)
def test_what_cannot_be_built_fails_with_a_reason(
    sdist: Path, tmp_path: Path, wish: str, nvcc: str | None, said: str
) -> None:
    """CUDA_HOME is a folder without an nvcc, or with a broken one. pip shows what setup.py says."""
    home, wheels = tmp_path / "cuda", tmp_path / "wheels"
    (home / "bin").mkdir(parents=True)
    if nvcc is not None:
        (home / "bin" / "nvcc").write_text(nvcc)
        (home / "bin" / "nvcc").chmod(0o755)
    command = _pip(
        Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, sdist
    )
    done = _try(command, tmp_path, CUDA_HOME=str(home), INPAINT_OPS_CUDA=wish)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not list(wheels.glob("*.whl"))
