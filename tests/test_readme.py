"""What README.md prints runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["y"].shape == (1, 8, 32, 32)
    assert names["filled"].shape == names["image"].shape
    known = (names["mask"] == 1).expand_as(names["image"])
    assert torch.equal(names["filled"][known], names["image"][known])
    assert names["logits"].shape[:2] == (1, 1)
