"""What the pages show runs as it is shown, page by page, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def _python(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


# These need files of their own, and run in test_export.py, test_cli_examples.py and
# test_patching_docs.py.
ELSEWHERE = ("export.md", "filling.md", "patching.md")
SHOWN = [page for page in PAGES if _python(page) and page.name not in ELSEWHERE]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples call their own files."""
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0)
    for folder in ("airfield", "lobby"):
        Path("places", folder).mkdir(parents=True)
        for i in range(10):
            pixels = dice.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"places/{folder}/{i}.png")


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in _python(page):
        exec(compile(block, str(page), "exec"), names)


def _anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in _anchors(there), target


def test_pages_are_found_and_reached_from_the_readme() -> None:
    assert len(SHOWN) >= 5
    readme = (ROOT / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name
