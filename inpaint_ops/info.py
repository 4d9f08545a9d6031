"""What is installed, what was built and how, and which backends can run here.

``python -m inpaint_ops.info`` prints it, ``--json`` as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import torch

from . import __version__, available_backends, core


def collect() -> dict[str, Any]:
    """Versions, build and backends as JSON-able values; never raises for a broken core."""
    try:
        build: dict[str, Any] = dict(core.load().build_info())
    except core.CoreError as error:
        build = {"error": str(error)}
    return {
        "versions": {
            "inpaint_ops": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "build": build,
        "threads": torch.get_num_threads(),
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "torch_cuda": torch.version.cuda,
        "backends": available_backends(),
    }


def render(info: dict[str, Any]) -> str:
    """The same as text for people."""
    lines = [f"{name:12} {value}" for name, value in info["versions"].items()]
    build = info["build"]
    lines.append("")
    if "error" in build:
        lines.append(f"native core  {build['error']}")
    else:
        cuda = (
            f"nvcc {build['cuda_compiler']} for {build['cuda_archs']}"
            if build["cuda"]
            else f"not built: {build['cuda_reason']}"
        )
        lines += [
            f"compiler     {build['compiler']}",
            f"flags        {build['flags']}",
            f"SIMD in use  {build['simd']} (available: {', '.join(build['simd_available'])})",
            f"CUDA         {cuda}",
        ]
    lines += [f"threads      {info['threads']}", "", "backends"]
    for name, reason in info["backends"].items():
        lines.append(f"  {name:10} {'available' if reason is None else reason}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Command line: ``python -m inpaint_ops.info [--json]``."""
    parser = argparse.ArgumentParser(prog="python -m inpaint_ops.info", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    info = collect()
    print(json.dumps(info, indent=2) if arguments.json else render(info))


if __name__ == "__main__":
    main()
