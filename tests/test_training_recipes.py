"""Recipes: every one that comes with the package, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inpaint_models import list_models
from inpaint_models.errors import UsageError
from inpaint_models.training.recipe import (
    dump_recipe,
    list_recipes,
    load_recipe,
    parse_recipe,
)
from inpaint_models.training.supply import make_masks
from inpaint_models.training.systems import create_system
from training_runs import NO_VGG

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_readable_and_complete(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.system == name
    assert recipe.system in list_models()
    assert recipe.about
    assert parse_recipe(dump_recipe(recipe), "dumped") == recipe
    hole = make_masks(recipe.masks.kind, recipe.masks.options)
    drawn = hole(np.random.default_rng(0), recipe.image_size, recipe.image_size)
    assert 0 < drawn.mean() < 1


def test_keys_can_be_given_anew() -> None:
    recipe = load_recipe(
        "pconv_unet",
        (
            "optimizers.generator.rate=1e-3",
            "phases.main.iterations=7",
            "losses.tv=0",
            "masks.options.source.options.ratio=[0.2,0.3]",
            "precision=bf16-mixed",
            "options.tv_region=image",
        ),
    )
    assert recipe.rate("main", "generator") == 1e-3
    assert recipe.rate("finetune", "generator") == 5e-5
    assert recipe.phases["main"].iterations == 7
    assert recipe.masks.options["source"]["options"] == {"ratio": [0.2, 0.3]}
    assert list(recipe.weights("main")) == ["valid", "hole", "perceptual", "style"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("masks.kind=free-form", "masks.options={ratio: [0.3, 0.4]}"),
        ("masks.options.ratio=[0.3, 0.4]", "masks.kind=free-form"),
        ("masks={kind: free-form, options: {ratio: [0.3, 0.4]}}",),
    ],
)
def test_a_new_kind_drops_the_options_of_the_old_one(overrides: tuple[str, ...]) -> None:
    recipe = load_recipe("pconv_unet", overrides)
    assert (recipe.masks.kind, recipe.masks.options) == ("free-form", {"ratio": [0.3, 0.4]})
    make_masks(recipe.masks.kind, recipe.masks.options)


def test_options_of_a_kind_within_a_kind_are_dropped_and_replaced_too() -> None:
    recipe = load_recipe("pconv_unet", ["masks.options.source.kind=lines"])
    assert recipe.masks.options == {"k": 8, "source": {"kind": "lines", "options": {}}}
    recipe = load_recipe("pconv_unet", ["masks.options.source.options={count: 3}"])
    assert recipe.masks.options["source"] == {"kind": "free-form", "options": {"count": 3}}
    recipe = load_recipe("pconv_unet", ["masks.kind=fixed", "masks.options.k=3"])
    assert recipe.masks.options["source"]["options"] == {"ratio": [0.1, 0.2]}
    recipe = load_recipe("vanilla_autoencoder", ["data.options.train=false", "data.kind=folder"])
    assert recipe.data.options == {"train": False}


def _build(override: str) -> None:
    """What of a run is made before its data is read."""
    recipe = load_recipe("pconv_unet", ["generator={width: 4, levels: 3}", *NO_VGG, override])
    make_masks(recipe.masks.kind, recipe.masks.options)
    create_system(recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch=3", "Key 'batch' not in 'Recipe'. Did you mean: 'batch_size'?"),
        ("batch_size=x", "batch_size: Value 'x' of type 'str' could not be converted to Integer"),
        ("batch_size=0", "batch_size must be at least 1, got 0"),
        ("phases.man.iterations=3", "unknown phase 'man'; did you mean 'main'?"),
        ("phases.main.epoch=3", "Key 'epoch' not in 'Phase'. Did you mean: 'epochs'?"),
        ("phases.main.epochs=3", "phases.main must have either epochs or iterations"),
        ("phases.main.iterations=0", "must last at least 1 epoch or iteration, got 0"),
        ("phases.main.train=[discriminator]", "system 'pconv_unet' has no discriminator"),
        ("phases.main.train=[generate]", "unknown network 'generate'; did you mean 'generator'?"),
        ("phases.main.rates.generator=0", "phases.main.rates.generator must be more than 0"),
        ("losses.perceptual=1", "losses perceptual and style need the weights"),
        ("losses.holes=1", "unknown loss 'holes'; did you mean 'hole'?"),
        ("optimizers.generator.name=adm", "Invalid value 'adm', expected one of"),
        ("optimizers.generator.betas=[0.9]", "betas must be two numbers"),
        (
            "optimizers.generator.betas=[2, 3]",
            "two numbers in [0, 1), got [2.0, 3.0]",
        ),
        ("optimizers.generator.momentum=1", "momentum must be in [0, 1), got 1.0"),
        ("optimizers.generator.weight_decay=-1", "weight_decay must be at least 0, got -1.0"),
        ("optimizers.generator.rate=.inf", "rate must be more than 0 and finite, got inf"),
        ("optimizers.discriminator.rate=1", "optimizers.discriminator: system 'pconv_unet' has no"),
        ("losses.hole=-1", "losses.hole must be at least 0 and finite, got -1.0"),
        ("phases.main.losses.hole=.nan", "phases.main.losses.hole must be at least 0 and finite"),
        ("phases.main.rates.discriminator=1", "rates.discriminator: the phase does not train it"),
        ("precision=16", "Invalid value '16', expected one of"),
        ("system=pconv_unit", "unknown system 'pconv_unit'; did you mean 'pconv_unet'?"),
        ("options.vg=x", "unknown option 'vg'; did you mean 'vgg'?"),
        ("options.vgg=nothing.pth", "no file 'nothing.pth'"),
        ("generator.wide=3", "unknown option 'wide'; did you mean 'width'?"),
        ("discriminator.width=3", "'pconv_unet' has none"),
        ("metrics=[psnr, l3]", "unknown metric 'l3'"),
        ("masks.kind=free", "unknown kind 'free'; did you mean 'free-form'?"),
        ("masks.options.sources=1", "unknown option 'sources'; did you mean 'source'?"),
        ("masks.options.source.options.ratio=[0.5, 0.1]", "masks.options.source: ratio"),
        ("saving.log=0", "saving.log must be at least 1"),
        ("seed=-1", "seed must be in [0, 2**32), got -1"),
        ("a", "'a' must be key=value"),
        ("about=[", "not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _build(override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_losses_of_a_phase_without_the_generator_are_refused() -> None:
    with pytest.raises(UsageError, match="losses are the generator's, which it does not train"):
        load_recipe("glcic", ["phases.discrimination.losses.mse=1"])


def test_a_file_that_is_no_recipe_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'pconv'; did you mean 'pconv_unet'\?"):
        load_recipe("pconv")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(str(tmp_path / "none.yaml"))
    for text, message in (
        ("- 1\n", "a recipe must be keys and values"),
        ("a: [", "not YAML"),
        ("system: pconv_unet\nabout: x\nbatch: 3\n", "Did you mean: 'batch_size'"),
        ("about: x\n", "system"),
        (
            "system: pconv_unet\nabout: x\nmasks: {kind: lines}\n",
            "phases must name at least",
        ),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(UsageError, match=r"mine\.yaml") as caught:
            load_recipe(str(tmp_path / "mine.yaml"))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_masks_are_made_of_masks() -> None:
    lines = {"kind": "lines"}
    made = make_masks(
        "one-of", {"sources": [lines, {"kind": "fixed", "options": {"k": 2, "source": lines}}]}
    )
    assert len(made.sources) == 2  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"masks\.options\.sources must be a list"):
        make_masks("one-of", {})
    with pytest.raises(UsageError, match=r"masks\.options\.source must have kind and options"):
        make_masks("fixed", {"k": 3})
    with pytest.raises(UsageError, match=r"sources\[0\]\.kind: unknown kind 'line'"):
        make_masks("one-of", {"sources": [{"kind": "line"}]})
