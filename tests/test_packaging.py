"""From the sources to an installed package elsewhere: sdist, wheel, fresh environment."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE = """
import pathlib, sys, torch, inpaint_ops, inpaint_models
from inpaint_ops import core, partial_conv2d, use_backend
assert pathlib.Path(inpaint_ops.__file__).is_relative_to(sys.prefix), inpaint_ops.__file__
assert not core.load().build_info()["cuda"]
x, weight = torch.randn(1, 3, 9, 9), torch.ones(2, 3, 3, 3)
mask = (torch.rand(1, 1, 9, 9) > 0.4).float()
with use_backend("cpu"):
    y, new = partial_conv2d(x, mask, weight)
with use_backend("reference"):
    torch.testing.assert_close(partial_conv2d(x, mask, weight)[0], y)
print("ran")
"""


def _run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=600,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


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


def test_the_source_distribution_is_whole(sdist: Path) -> None:
    for folder, pattern in (("csrc", "**/*.*"), ("inpaint_ops", "**/*.py"), ("models", "**/*.py")):
        here = {p.relative_to(ROOT) for p in (ROOT / folder).glob(pattern) if p.is_file()}
        there = {p.relative_to(sdist) for p in (sdist / folder).glob(pattern) if p.is_file()}
        assert here
        assert here <= there
    for name in ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", "setup.py"):
        assert (sdist / name).is_file()
    assert not list(sdist.glob("**/*.so"))


def test_a_wheel_of_it_runs_elsewhere(sdist: Path, tmp_path: Path) -> None:
    """Built without isolation and without CUDA, installed where the checkout is out of sight."""
    wheels, home = tmp_path / "wheels", tmp_path / "fresh"
    _run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", wheels,
         sdist],
        tmp_path, INPAINT_OPS_CUDA="0",
    )  # fmt: skip
    (wheel,) = wheels.glob("inpaint_ops-*.whl")
    venv.create(home, with_pip=False)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = Path(
        _run(
            [python, "-c", "import sysconfig as s; print(s.get_path('purelib'))"], tmp_path
        ).strip()
    )
    _run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site,
         wheel],
        tmp_path,
    )  # fmt: skip
    # torch is borrowed from this environment: as a plain path, so its own .pth files do not run.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", USE], cwd=tmp_path, capture_output=True, text=True, env=outside,
        timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "ran", done.stderr
