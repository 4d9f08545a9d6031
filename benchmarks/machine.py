"""Where a result comes from: machine, versions, commit. No host names, no paths."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

import inpaint_ops.info

from .baselines import peers

ROOT = Path(__file__).parent.parent
GENERATED = (
    "benchmarks/results", "README.md", "docs/benchmarks.md", "docs/gpu-results.md",
    "docs/reproduction.md",
)  # fmt: skip


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, memory, system; the GPU where one was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "logical_cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "ram_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "gpu_memory_gb": (
            round(torch.cuda.get_device_properties().total_memory / 2**30, 1)
            if device == "cuda"
            else None
        ),
    }


def describe_versions() -> dict[str, Any]:
    """Python, torch, peers where installed, and what ``inpaint_ops.info`` tells of its build."""
    info = inpaint_ops.info.collect()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "inpaint_ops": info["versions"]["inpaint_ops"],
        "peers": {name: peers.version(name) for name in peers.PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": version("triton"),
        "build": info["build"],
        "backends": info["backends"],
    }


def version(distribution: str) -> str | None:
    """Of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_commit() -> dict[str, Any]:
    """Commit of this checkout, and whether anything but results differs from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", *(f":!{page}" for page in GENERATED))
    return {"hash": commit, "dirty": None if commit is None else bool(changes)}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    """The model's name as the system tells it; some virtual machines hide the exact one."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
