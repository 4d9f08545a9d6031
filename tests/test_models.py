"""The registry of `inpaint_models`: names, options, cards, published parameter counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from inpaint_models import (
    create_discriminator,
    create_model,
    list_discriminators,
    list_models,
    model_card,
)
from inpaint_models.pconv_unet import PConvUNet
from inpaint_models.registry import ModelCard, register_discriminator, register_model
from model_inputs import count
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def test_lists() -> None:
    assert {"cgan_pc_rn", "isnet", "pconv_autoencoder", "rn_net"} <= set(list_models())
    assert list_models() == sorted(list_models())
    assert "cgan_pc_rn" in list_discriminators()
    assert "pconv_unet" not in list_discriminators()
    assert set(list_discriminators()) <= set(list_models())


@pytest.mark.parametrize(
    ("create", "name", "options", "parameters"),
    [
        (create_model, "pconv_unet", {}, 25_779_796),
        (create_model, "pconv_unet", {"levels": 8}, 32_859_732),
        (create_model, "cgan_pc_rn", {}, 25_781_880),
        (create_discriminator, "cgan_pc_rn", {}, 2_769_601),
        (create_discriminator, "cgan_pc_rn", {"region": "hole"}, 2_769_601),
        (create_model, "vanilla_autoencoder", {}, 3_136_643),
        (create_model, "pconv_autoencoder", {}, 3_921_556),
        (create_model, "isnet", {}, 24_774_307),
        (create_model, "isnet", {"blocks": 3}, 23_152_291),
        (create_model, "isnet", {"blocks": 2}, 21_530_275),
        (create_model, "isnet", {"blocks": 1}, 19_908_259),
        (create_model, "isnet_base", {}, 16_516_995),
        (create_model, "isnet_base_ff", {}, 14_610_083),
        (create_model, "unet_like", {}, 24_403_715),
        (create_discriminator, "isnet", {}, 2_763_776),
        (create_model, "rn_net", {}, 11_596_591),
        (create_discriminator, "rn_net", {}, 2_763_776),
    ],
)
def test_parameter_counts(
    create: Callable[..., nn.Module], name: str, options: dict[str, object], parameters: int
) -> None:
    if options:
        assert count(create(name, **options)) == parameters
    else:
        # The tests of cards build these.
        card = model_card(name, discriminator=create is create_discriminator)
        assert card.parameters == parameters


@pytest.mark.parametrize("name", list_models())
def test_model_cards(name: str) -> None:
    check_card(model_card(name), create_model(name))


@pytest.mark.parametrize("name", list_discriminators())
def test_discriminator_cards(name: str) -> None:
    check_card(model_card(name, discriminator=True), create_discriminator(name))


def check_card(card: ModelCard, net: nn.Module) -> None:
    assert card.parameters == count(net)
    for text in (card.title, card.paper, card.source, card.inputs, card.output, *card.decisions):
        assert text.strip()


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'pconv-unet'; did you mean 'pconv_unet'"):
        create_model("pconv-unet")
    with pytest.raises(ValueError, match=r"\(known: .*cgan_pc_rn, .*pconv_unet"):
        create_model("zebra")
    with pytest.raises(ValueError, match=r"unknown discriminator 'zebra' \(known: .*cgan"):
        create_discriminator("zebra")
    with pytest.raises(ValueError, match="'pconv_unet' is trained without a discriminator"):
        create_discriminator("pconv_unet")
    with pytest.raises(ValueError, match="unknown model 'zebra'"):
        model_card("zebra")
    with pytest.raises(TypeError, match="name must be a string, got int"):
        create_model(7)  # type: ignore[arg-type]


def test_bad_options() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'level'; did you mean 'levels'.*levels=7"):
        create_model("pconv_unet", level=8)
    with pytest.raises(TypeError, match="unknown option 'region_mask'"):
        create_model("pconv_unet", region_mask="original")
    with pytest.raises(
        TypeError, match=r"unknown option 'levels'.*options and defaults: .*width=64"
    ):
        create_discriminator("cgan_pc_rn", levels=3)
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        create_model("pconv_unet", levels=1)
    with pytest.raises(ValueError, match="region must be one of 'whole', 'hole', got 'x'"):
        create_discriminator("cgan_pc_rn", region="x")
    with pytest.raises(ValueError, match="weight_std must be positive or None, got 0"):
        create_discriminator("isnet", weight_std=0)
    for name in ("isnet", "isnet_base", "isnet_base_ff", "unet_like", "rn_net"):
        with pytest.raises(ValueError, match="blocks must be at least 1, got 0"):
            create_model(name, blocks=0)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        create_discriminator("cgan_pc_rn", width=0)
    with pytest.raises(TypeError, match="in_channels must be an int, got float"):
        create_model("cgan_pc_rn", in_channels=3.0)
    with pytest.raises(
        ValueError, match="region_mask must be one of 'updated', 'original', got 'x'"
    ):
        create_model("cgan_pc_rn", region_mask="x")


def test_registering_twice_or_with_a_wrong_card_fails() -> None:
    card = model_card("pconv_unet")
    with pytest.raises(ValueError, match="'pconv_unet' is registered already"):
        register_model("pconv_unet", card)(PConvUNet)
    with pytest.raises(ValueError, match="differ in their options"):
        register_discriminator("identity", card)(nn.Identity)
    assert "identity" not in list_discriminators()
