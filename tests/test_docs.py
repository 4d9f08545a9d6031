"""What the pages show runs as it is shown, page by page, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import __main__ as measuring
from benchmarks.reproduction import __main__ as reproducing

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


def _commands(module: str) -> list[str]:
    """What the pages show behind ``python -m``, each once; what explains it is cut off."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    found = re.findall(rf"python -m {re.escape(module)}(?![\w.])([^`\n#()]*)", text)
    return sorted({" ".join(line.split()).rstrip(".,:") for line in found})


@pytest.mark.parametrize("line", _commands("benchmarks"))
def test_a_command_of_the_benchmarks_has_cases_or_is_another_command(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    if words and not words[0].startswith("-"):
        with pytest.raises(SystemExit) as ended:
            measuring.main([words[0], "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(option.strip("[]") in shown for option in words if "--" in option)
        return
    assert measuring.main([*words, "--list"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("line", _commands("benchmarks.reproduction"))
def test_a_command_of_the_reproduction_is_one(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def begin(*_: Any, **__: Any) -> int:
        begun.append(line)
        return 0

    for name in ("prepare", "train_all", "evaluate_all", "compare", "_report"):
        monkeypatch.setattr(reproducing, name, begin)
    monkeypatch.setattr(reproducing, "write_json", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    assert reproducing.main(line.split()) == 0
    assert len(begun) == 1


def test_the_commands_of_the_benchmarks_are_found() -> None:
    assert {"", "--quick", "--plan sweep", "--only patched"} <= set(_commands("benchmarks"))
    assert len(_commands("benchmarks.reproduction")) >= 5


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
