"""``python -m inpaint_ops.info`` as a person and as a script see it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

import inpaint_ops
from inpaint_ops import core, info


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "inpaint_ops.info", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout


def test_text() -> None:
    text = _run()
    for part in (
        inpaint_ops.__version__, torch.__version__, platform.python_version(), "compiler", "flags",
        "SIMD in use", "CUDA", "threads", "reference", "cpu", "cuda",
        "triton",
    ):  # fmt: skip
        assert part in text


def test_json() -> None:
    found = json.loads(_run("--json"))
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["inpaint_ops"] == inpaint_ops.__version__
    build = found["build"]
    assert build["simd"] == build["simd_available"][0]
    assert "baseline" in build["simd_available"]
    assert build["compiler"]
    assert build["flags"]
    assert build["cuda"] or build["cuda_reason"]
    assert not build["cuda"] or (build["cuda_compiler"] and build["cuda_archs"])
    assert found["threads"] >= 1
    assert found["backends"] == inpaint_ops.available_backends()


def test_a_broken_core_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise core.CoreError("was built from other sources")

    monkeypatch.setattr(core, "load", broken)
    found = info.collect()
    assert found["build"] == {"error": "was built from other sources"}
    text = info.render(found)
    assert "was built from other sources" in text
    json.dumps(found)


def test_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    info.main(["--json"])
    assert json.loads(capsys.readouterr().out)["build"]
    info.main([])
    assert "backends" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        info.main(["--yaml"])
