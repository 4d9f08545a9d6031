"""What docs/patching.md prints runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from inpaint_ops import patch_model

PAGE = Path(__file__).parent.parent / "docs" / "patching.md"


def test_the_python_of_the_page_on_patching_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {"__name__": "net"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "1 would be replaced, 0 left alone" in printed
    assert "'model': 2 tensors loaded, 0 rescaled, 1 ignored" in printed
    saved = torch.load(tmp_path / "500000.pth", weights_only=True)["model"]
    assert torch.equal(names["net"].input_conv.weight, saved["input_conv.weight"])


def test_the_page_names_the_known_classes_first() -> None:
    intro = PAGE.read_text("utf-8").split("```")[0]
    known = patch_model(torch.nn.Identity()).known
    assert re.findall(r"`((?:P|RN)\w+)`", intro) == list(known)
