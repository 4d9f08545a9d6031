"""Every command that help texts, documents and recipes show, as far as it goes without data."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from inpaint_cli import (
    demo,
    evaluate,
    export,
    fill,
    main,
    make_parser,
    masks,
    models,
    parse,
    train,
)
from inpaint_cli.words import split_words
from inpaint_models import create_model, list_models, weights
from inpaint_models.demo import server
from inpaint_models.export import SUFFIXES
from inpaint_models.training.recipe import (
    FOLDER,
    Recipe,
    dump_recipe,
    list_recipes,
    load_recipe,
    parse_values,
)
from inpaint_models.training.supply import make_masks
from inpaint_models.training.systems import list_systems, system_options
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _help_texts() -> str:
    parser = make_parser()
    found = [parser.epilog or ""]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [command.description or "" for command in action.choices.values()]
    return "\n".join(found)


def _texts() -> dict[str, str]:
    names = ("demo", "filling", "training*", "reproduction", "export", "quick-start")
    pages = [path for name in names for path in DOCS.glob(f"{name}.md")]
    documents = [ROOT / "README.md", *pages, *FOLDER.glob("*.yaml")]
    found = {path.name: path.read_text("utf-8") for path in documents}
    return found | {"help": _help_texts()}


def _commands(text: str) -> list[str]:
    """Lines and inline code that start with the command; what explains them is cut off.

    Inline, a sub-command by itself is its name and no example.
    """
    text = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(
        r"^(?:# )? *(?:torchrun .* -m inpaint_cli|inpaint) (.*)$", text, re.MULTILINE
    )
    inline = re.findall(r"`inpaint (\S+ [^`\n]+)`", text)
    return [re.split(r" {3,}| #| > ", line)[0].strip() for line in lines + inline]


SHOWN = sorted({(name, line) for name, text in _texts().items() for line in _commands(text)})


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples call their own files."""
    monkeypatch.chdir(tmp_path)
    for folder in ("masks", "MASKS"):
        Path(folder).mkdir()
        for i in range(8):
            pixels = np.zeros((32, 32), np.uint8)
            pixels[: 10 + i] = 255
            Image.fromarray(pixels).save(f"{folder}/{i}.png")
    Path("mine.yaml").write_text(dump_recipe(load_recipe("pconv_unet")))
    _files_to_fill()
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)


def _files_to_fill() -> None:
    """Pictures, grids, a run, and a network in the place of the package's."""
    colours = np.random.default_rng(0).integers(0, 200, (32, 32, 3), dtype=np.uint8)
    shown, hole = Image.fromarray(colours), Image.open("masks/0.png")
    Path("photos").mkdir()
    for name in ("photo.jpg", *(f"photos/{i}.png" for i in range(8))):
        shown.save(name)
    hole.save("mask.png")
    for name in ("marked.png", "marked.jpg"):
        marked = shown.copy()
        marked.paste((255, 0, 255), (0, 0, 16, 16))
        marked.save(name, subsampling=0)
    shown.putalpha(hole.point(lambda value: 255 - value))
    shown.save("cutout.png")
    field = np.random.default_rng(0).normal(280, 10, (2, 16, 32))
    field[:, 3:6, 10:14] = np.nan
    np.save("field.npy", field)
    xarray.Dataset({"tas": (("time", "lat", "lon"), field)}).to_netcdf("field.nc")
    checkpoint = Path("runs/pconv_unet/checkpoints/step-00000001")
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.pt").touch()
    (checkpoint.parent / "last").write_text(checkpoint.name)
    tensors = create_model("pconv_unet", width=2, levels=3).state_dict()
    metadata = {"model": "pconv_unet", "options": '{"width": 2, "levels": 3}'}
    for path in (
        Path("compact.safetensors"),
        Path("weights.safetensors"),
        checkpoint / "generator.safetensors",
    ):
        save_file(tensors, path, metadata)


def test_the_examples_are_found() -> None:
    assert len(SHOWN) > 20
    assert {name for name, _ in SHOWN} >= {
        "README.md", "demo.md", "filling.md", "training.md", "reproduction.md",
        "help", "isnet.yaml",
    }  # fmt: skip
    assert {line.split()[0] for _, line in SHOWN} >= {
        "train", "demo", "evaluate", "fill", "export", "models", "masks",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "line"), SHOWN, ids=lambda value: value)
def test_an_example_is_a_command_and_its_keys_fit_the_recipe(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in shlex.split(line) if word not in ("...", "…")]
    options = parse(words)
    if options.run_command is models.run:
        assert options.name in (None, "NAME", *list_models(), "compact")
        return
    if options.run_command is demo.run:
        pages: list[Any] = []
        monkeypatch.setattr(server, "serve", lambda *arguments: pages.append(arguments))
        assert main(words) == 0
        ((networks, limits, host, port, open_browser),) = pages
        first = networks.names[0].split(",")[0].removeprefix("runs/")
        assert first == ("pconv_unet" if "runs" in line else "compact")
        assert limits.file_bytes == round(options.max_size * 2**20)
        assert (host, port, open_browser) == (options.host, options.port, "--open" in words)
        return
    if options.run_command is fill.run:
        assert main(words) == 0
        out = options.output
        assert any(out.iterdir()) if out.is_dir() else out.stat().st_size > 0
        return
    if options.run_command is export.run:
        known = ("CHECKPOINT", "compact")
        assert options.checkpoint in known or options.checkpoint.startswith("runs/")
        assert options.output is None or options.output.suffix in SUFFIXES
        assert options.check or options.size is None
        return
    what, values = split_words(options)
    if options.run_command is masks.run:
        if options.recipe is None:
            assert what is not None
            make_masks(what, parse_values(values))
        else:
            _check(load_recipe(options.recipe, values))
        return
    assert options.run_command in (train.run, evaluate.run)
    if options.run_command is train.run and what is None:
        assert options.resume is not None or "..." in line
    elif what not in (None, "RECIPE", "RUN"):
        assert what is not None
        recipe = what.removeprefix("runs/")
        assert recipe in (*list_recipes(), "mine.yaml", "...")
        _check(load_recipe(recipe, values))


def _check(recipe: Recipe) -> None:
    hole = make_masks(recipe.masks.kind, recipe.masks.options)
    drawn = hole(np.random.default_rng(0), recipe.image_size, recipe.image_size)
    assert 0 < drawn.mean() < 1
    losses, options = system_options(recipe.system)
    assert recipe.losses.keys() <= set(losses)
    assert recipe.options.keys() <= options.keys()


@pytest.mark.parametrize("name", list_systems())
def test_the_keys_that_recipes_name_in_comments_exist(name: str) -> None:
    comments = " ".join(re.findall(r"#(.*)", (FOLDER / f"{name}.yaml").read_text()))
    keys = re.findall(
        r"""(?<!\S)((?:"[a-z._]+=[^"]*")|(?:[a-z_]+\.[a-z_.]+=[^\s;:,]+))""", comments
    )
    overrides = [key.strip('"') for key in keys]
    kinds = [key for key in overrides if key.startswith("masks.")]
    _check(load_recipe(name, kinds))
    _check(load_recipe(name, [key for key in overrides if key not in kinds]))


def test_the_python_of_the_page_on_filling_runs() -> None:
    page = DOCS / "filling.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    known = names["mask"]
    photo, filled = np.asarray(names["photo"]), np.asarray(names["filled"])
    for after in (filled, names["pixels"]):
        assert np.array_equal(after[known], photo[known])
        assert not np.array_equal(after, photo)
    assert np.isfinite(names["filled_field"]).all()
