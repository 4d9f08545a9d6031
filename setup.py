"""Builds the native core with CMake and Ninja; needs no torch.

INPAINT_OPS_CUDA=1 makes a missing nvcc an error, =0 skips CUDA; by default it is built when nvcc is
found (CUDA_HOME, PATH, or the nvidia-cuda-nvcc wheel). INPAINT_OPS_CUDA_ARCHS names the compute
capabilities ("80;90;100"). INPAINT_OPS_WERROR=1 turns C++ warnings into errors.
INPAINT_OPS_SANITIZE="address;undefined" builds with those sanitizers, for tests of the core.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools

# Isolation brings one that is new enough. Without it, an old one would stumble over pyproject.toml,
# and never say that it is too old.
if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"setuptools {setuptools.__version__} is too old: pip install 'setuptools>=77'"
    )

from setuptools import Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def find_nvcc() -> Path | None:
    """The CUDA compiler, or None: CUDA_HOME first, then PATH, then NVIDIA's wheel."""
    home = os.environ.get("CUDA_HOME")
    if home:
        candidate = Path(home) / "bin" / "nvcc"
        return candidate if candidate.is_file() else None
    on_path = shutil.which("nvcc")
    if on_path:
        return Path(on_path)
    roots = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"], *sys.path}
    for root in sorted(filter(None, roots)):
        for candidate in sorted(Path(root).glob("nvidia/*/bin/nvcc")):
            return candidate
    return None


def cuda_options() -> list[str]:
    """CMake's CUDA options, from the environment and what is installed."""
    wish = os.environ.get("INPAINT_OPS_CUDA", "auto")
    if wish not in ("0", "1", "auto"):
        raise SystemExit(f"INPAINT_OPS_CUDA={wish!r}: expected 0, 1 or auto")
    if wish == "0":
        return ["-DINPAINT_OPS_CUDA=OFF", "-DINPAINT_OPS_CUDA_REASON=skipped by INPAINT_OPS_CUDA=0"]
    nvcc = find_nvcc()
    if nvcc is None:
        home = os.environ.get("CUDA_HOME")
        where = (
            "in CUDA_HOME" if home else "in CUDA_HOME, on PATH or from the nvidia-cuda-nvcc wheel"
        )
        if wish == "1":
            raise SystemExit(f"INPAINT_OPS_CUDA=1, but no nvcc was found {where}")
        return ["-DINPAINT_OPS_CUDA=OFF", f"-DINPAINT_OPS_CUDA_REASON=no nvcc found {where}"]
    options = ["-DINPAINT_OPS_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    archs = os.environ.get("INPAINT_OPS_CUDA_ARCHS")
    if archs:
        options.append(f"-DINPAINT_OPS_CUDA_ARCHS={cmake_list(archs)}")
    return options


def cmake_list(words: str) -> str:
    """Words between commas, blanks or semicolons as CMake writes a list."""
    return words.replace(",", ";").replace(" ", ";")


def tool(name: str) -> str:
    """CMake or Ninja, from the wheel of the build environment if it is there, else from PATH."""
    spec = importlib.util.find_spec(name)
    if spec is not None:
        module = importlib.import_module(name)
        folder = getattr(module, "CMAKE_BIN_DIR", None) or getattr(module, "BIN_DIR", None)
        if folder:
            found = shutil.which(name, path=str(folder))
            if found:
                return found
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} was not found: pip install {name}")
    return found


class CleanBuild(build):
    """Builds packages anew: a wheel holds whatever lies in build_lib, also of earlier builds."""

    def run(self) -> None:
        """Clear build_lib, then build as usual."""
        if Path(self.build_lib).exists():
            shutil.rmtree(self.build_lib)
        super().run()


class CMakeBuild(build_ext):
    """Builds `inpaint_ops._core` in build_temp, which isolation makes anew for each build."""

    def build_extension(self, ext: Extension) -> None:
        """Configure, compile and copy the one extension of this package."""
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve() / "core"
        # A folder kept from an earlier build remembers a Ninja that is gone.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        werror = "ON" if os.environ.get("INPAINT_OPS_WERROR") == "1" else "OFF"
        configure = [
            tool("cmake"), "-G", "Ninja", "-S", str(ROOT / "csrc"), "-B", str(folder),
            f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DINPAINT_OPS_WERROR={werror}",
            f"-DINPAINT_OPS_SANITIZE={cmake_list(os.environ.get('INPAINT_OPS_SANITIZE', ''))}",
            *cuda_options(),
        ]  # fmt: skip
        try:
            subprocess.run(configure, check=True)
            subprocess.run([tool("cmake"), "--build", str(folder)], check=True)
        except subprocess.CalledProcessError as error:
            message = f"the native core was not built ({error}), see above"
            if "-DINPAINT_OPS_CUDA=ON" in configure:
                message += (
                    "; INPAINT_OPS_CUDA=0 builds it without CUDA, INPAINT_OPS_CUDA_ARCHS names "
                    "other compute capabilities"
                )
            raise SystemExit(message) from error
        built = next(folder.glob("_core*.so"), None) or next(folder.glob("_core*.pyd"))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a process that has the old core loaded keeps it.
        temporary = target.with_name(target.name + ".new")
        shutil.copy2(built, temporary)
        os.replace(temporary, target)


setup(
    packages=find_packages(include=["inpaint_ops", "inpaint_ops.*"])
    + find_packages(where="models", include=["inpaint_models", "inpaint_models.*", "inpaint_cli"]),
    package_dir={
        "inpaint_models": "models/inpaint_models",
        "inpaint_cli": "models/inpaint_cli",
    },
    package_data={
        "inpaint_ops": ["py.typed", "_core.pyi"],
        "inpaint_models": [
            "py.typed",
            "pretrained/*.md",
            "pretrained/*.safetensors",
            "training/recipes/*.yaml",
        ],
        "inpaint_cli": ["py.typed"],
    },
    ext_modules=[Extension("inpaint_ops._core", sources=[])],
    cmdclass={"build": CleanBuild, "build_ext": CMakeBuild},
)
