"""setup.py: where it looks for nvcc, and what it makes of the environment. Nothing is built."""

from __future__ import annotations

import runpy
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The names in setup.py, in an environment without any nvcc."""
    given: dict[str, Any] = {}

    def setup(**arguments: Any) -> None:
        given.update(arguments)

    monkeypatch.setattr(setuptools, "setup", setup)
    names = runpy.run_path(str(ROOT / "setup.py"))
    for variable in ("CUDA_HOME", "INPAINT_OPS_CUDA", "INPAINT_OPS_CUDA_ARCHS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(site), "platlib": ""})
    monkeypatch.setattr(sys, "path", [str(site)])
    return {**names, "given": given, "site": site}


def _nvcc(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    nvcc = folder / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    return nvcc


def test_packages(script: dict[str, Any]) -> None:
    given = script["given"]
    assert {"inpaint_ops", "inpaint_ops.backends.cpu", "inpaint_ops.nn"} <= set(given["packages"])
    assert "inpaint_models" in given["packages"]
    assert not any(name.split(".")[0] in ("tests", "benchmarks") for name in given["packages"])
    assert [extension.name for extension in given["ext_modules"]] == ["inpaint_ops._core"]


def test_no_nvcc(script: dict[str, Any]) -> None:
    assert script["find_nvcc"]() is None
    off, reason = script["cuda_options"]()
    assert off == "-DINPAINT_OPS_CUDA=OFF"
    assert reason.startswith("-DINPAINT_OPS_CUDA_REASON=no nvcc found")


def test_nvcc_of_cuda_home(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvcc = _nvcc(tmp_path / "cuda" / "bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("PATH", str(_nvcc(tmp_path / "path").parent))
    assert script["find_nvcc"]() == nvcc
    assert script["cuda_options"]() == [
        "-DINPAINT_OPS_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"
    ]  # fmt: skip


def test_a_cuda_home_without_nvcc_is_not_passed_over(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nvcc(tmp_path / "path")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert script["find_nvcc"]() is None
    assert script["cuda_options"]()[1].endswith("no nvcc found in CUDA_HOME")


def test_nvcc_on_the_path(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvcc = _nvcc(tmp_path / "path")
    _nvcc(script["site"] / "nvidia" / "cu13" / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert script["find_nvcc"]() == nvcc


def test_nvcc_of_the_wheel(script: dict[str, Any]) -> None:
    nvcc = _nvcc(script["site"] / "nvidia" / "cu13" / "bin")
    assert script["find_nvcc"]() == nvcc


def test_zero_skips_cuda(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nvcc(tmp_path / "cuda" / "bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("INPAINT_OPS_CUDA", "0")
    off, reason = script["cuda_options"]()
    assert off == "-DINPAINT_OPS_CUDA=OFF"
    assert reason == "-DINPAINT_OPS_CUDA_REASON=skipped by INPAINT_OPS_CUDA=0"


def test_one_insists_on_cuda(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INPAINT_OPS_CUDA", "1")
    with pytest.raises(SystemExit, match="INPAINT_OPS_CUDA=1, but no nvcc was found"):
        script["cuda_options"]()
    monkeypatch.setenv("CUDA_HOME", str(_nvcc(tmp_path / "cuda" / "bin").parent.parent))
    assert script["cuda_options"]()[0] == "-DINPAINT_OPS_CUDA=ON"


@pytest.mark.parametrize("wish", ["yes", "2", "ON", ""])
def test_other_wishes_are_refused(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    monkeypatch.setenv("INPAINT_OPS_CUDA", wish)
    with pytest.raises(SystemExit, match="expected 0, 1 or auto"):
        script["cuda_options"]()


@pytest.mark.parametrize("archs", ["80;90", "80,90", "80 90"])
def test_archs(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archs: str
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(_nvcc(tmp_path / "cuda" / "bin").parent.parent))
    monkeypatch.setenv("INPAINT_OPS_CUDA_ARCHS", archs)
    assert script["cuda_options"]()[-1] == "-DINPAINT_OPS_CUDA_ARCHS=80;90"


def test_tools_are_found_or_named(script: dict[str, Any], tmp_path: Path) -> None:
    tool: Callable[[str], str] = script["tool"]
    with pytest.raises(SystemExit, match="no_such_tool was not found: pip install no_such_tool"):
        tool("no_such_tool")


def test_an_old_setuptools_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 and 3.11 put 65.5 into a fresh environment."""
    monkeypatch.setattr(setuptools, "__version__", "65.5.0")
    with pytest.raises(SystemExit, match=r"65\.5\.0 is too old: pip install 'setuptools>=77'"):
        runpy.run_path(str(ROOT / "setup.py"))
