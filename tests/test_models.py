"""The networks of `inpaint_models`: counts, shapes, gradients, holes, and a plain version."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from inpaint_models import (
    ModelCard,
    create_discriminator,
    create_model,
    list_discriminators,
    list_models,
    model_card,
)
from inpaint_models.pconv_unet import PConvUNet
from inpaint_models.registry import register_discriminator, register_model
from torch import Tensor, nn

MODELS = ["cgan_pc_rn", "pconv_unet"]
SMALL = {"levels": 3, "width": 4}


def picture(
    n: int, h: int, w: int, dtype: torch.dtype = torch.float32, channels: int = 3
) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, h, w, generator=generator, dtype=dtype)


def holes(n: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One big hole that survives three levels at 64 x 64, one small hole, per image elsewhere."""
    mask = torch.ones(n, 1, h, w, dtype=dtype)
    for i in range(n):
        mask[i, :, h // 8 + i : h - h // 8, w // 8 : w - w // 8 - 2 * i] = 0
        mask[i, :, : 2 + i, : 3 + i] = 0
    return mask


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def on_meta(create: Callable[..., nn.Module], name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return create(name, **options)


# Registry -----------------------------------------------------------------------------------


def test_lists() -> None:
    assert set(MODELS) <= set(list_models())
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
    ],
)
def test_parameter_counts(
    create: Callable[..., nn.Module], name: str, options: dict[str, object], parameters: int
) -> None:
    assert count(on_meta(create, name, **options)) == parameters


@pytest.mark.parametrize("name", list_models())
def test_model_cards(name: str) -> None:
    net = on_meta(create_model, name)
    check_card(model_card(name), net)


@pytest.mark.parametrize("name", list_discriminators())
def test_discriminator_cards(name: str) -> None:
    check_card(model_card(name, discriminator=True), on_meta(create_discriminator, name))


def check_card(card: ModelCard, net: nn.Module) -> None:
    assert card.parameters == count(net)
    assert list(card.options) == list(inspect.signature(type(net)).parameters)
    for text in (card.title, card.paper, card.source, card.inputs, card.output, *card.decisions):
        assert text.strip()


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'pconv-unet' \(did you mean 'pconv_unet'"):
        create_model("pconv-unet")
    with pytest.raises(ValueError, match=r"models: .*cgan_pc_rn, .*pconv_unet"):
        create_model("zebra")
    with pytest.raises(ValueError, match=r"unknown discriminator 'zebra'; discriminators: .*cgan"):
        create_discriminator("zebra")
    with pytest.raises(ValueError, match="'pconv_unet' is trained without a discriminator"):
        create_discriminator("pconv_unet")
    with pytest.raises(ValueError, match="unknown model 'zebra'"):
        model_card("zebra")
    with pytest.raises(TypeError, match="name must be a string, got int"):
        create_model(7)  # type: ignore[arg-type]


def test_bad_options() -> None:
    with pytest.raises(
        TypeError, match=r"unknown option 'level' \(did you mean 'levels'.*levels=7"
    ):
        create_model("pconv_unet", level=8)
    with pytest.raises(TypeError, match="unknown option 'region_mask'"):
        create_model("pconv_unet", region_mask="original")
    with pytest.raises(
        TypeError, match=r"unknown option 'levels'.*options and defaults: .*width=64"
    ):
        create_discriminator("cgan_pc_rn", levels=3)
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        create_model("pconv_unet", levels=1)
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
        register_model("pconv_unet", card)(type(on_meta(create_model, "pconv_unet")))
    with pytest.raises(ValueError, match="differ in their options"):
        register_discriminator("identity", card)(nn.Identity)
    assert "identity" not in list_discriminators()


# Shapes and inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (61, 83), (1, 1), (5, 130)])
@pytest.mark.parametrize("levels", [2, 7])
def test_any_size(name: str, size: tuple[int, int], levels: int) -> None:
    net = create_model(name, levels=levels, width=4)
    net.train()
    with torch.no_grad():
        # Four images are enough for batch norm on 1 x 1 maps.
        out = net(picture(4, *size), holes(4, *size))
    assert out.shape == (4, 3, *size)
    assert out.isfinite().all()


def test_default_width() -> None:
    net = create_model("cgan_pc_rn").eval()
    with torch.no_grad():
        out = net(picture(1, 64, 64), holes(1, 64, 64))
    assert out.shape == (1, 3, 64, 64)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 4])
def test_in_channels(name: str, channels: int) -> None:
    net = create_model(name, in_channels=channels, **SMALL)
    out = net(picture(2, 32, 40, channels=channels), holes(2, 32, 40))
    assert out.shape == (2, channels, 32, 40)


@pytest.mark.parametrize("name", MODELS)
def test_mask_forms_agree(name: str) -> None:
    net = create_model(name, **SMALL).eval()
    image, one = picture(3, 40, 36), holes(1, 40, 36)
    with torch.no_grad():
        want = net(image, one.repeat(3, 1, 1, 1))
        assert torch.equal(net(image, one), want)
        assert torch.equal(net(image, one.bool()), want)
        assert torch.equal(net(image, one.double()), want)
        assert torch.equal(net(image, (one * 255).to(torch.uint8)), want)
        # What the mask says must matter at all.
        assert not torch.allclose(net(image, torch.ones_like(one)), want)


@pytest.mark.parametrize("name", MODELS)
def test_per_image_masks_differ(name: str) -> None:
    """Each image gets its own mask: in evaluation, batch norm treats images one by one."""
    net = create_model(name, **SMALL).eval()
    image, mask = picture(2, 40, 36), holes(2, 40, 36)
    assert not torch.equal(mask[0], mask[1])
    with torch.no_grad():
        both = net(image, mask)
        alone = torch.cat([net(image[i : i + 1], mask[i : i + 1]) for i in range(2)])
    if name == "pconv_unet":
        torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)
    else:
        # Region normalization takes its statistics over the batch.
        assert not torch.allclose(both, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_bad_images(name: str) -> None:
    net = create_model(name, **SMALL).eval()
    image, mask = picture(2, 16, 16), holes(2, 16, 16)
    for wrong, message in [
        (image[0], r"image must have shape \(N, 3, H, W\), got \(3, 16, 16\)"),
        (image[:, :1], r"image must have shape \(N, 3, H, W\), got \(2, 1, 16, 16\)"),
        (image[..., :0], "image must have at least one pixel"),
        (torch.zeros(2, 3, 16, 16, device="meta"), "image is on meta, but the network is on cpu"),
    ]:
        with pytest.raises(ValueError, match=message):
            net(wrong, mask)
    with pytest.raises(TypeError, match=r"image must have the network's dtype torch\.float32"):
        net(image.double(), mask)
    with pytest.raises(
        TypeError, match=r"image must be of a floating-point dtype.* got torch\.uint8"
    ):
        net(image.to(torch.uint8), mask)
    with pytest.raises(TypeError, match="image must be a tensor, got NoneType"):
        net(None, mask)


@pytest.mark.parametrize("name", MODELS)
def test_bad_masks(name: str) -> None:
    net = create_model(name, **SMALL).eval()
    image, mask = picture(4, 16, 16), holes(4, 16, 16)
    for wrong, message in [
        (mask[:, 0], r"mask must have shape \(4, 1, 16, 16\) or .*got \(4, 16, 16\)"),
        (mask.expand(4, 3, 16, 16), r"mask must have shape .*got \(4, 3, 16, 16\)"),
        (mask[..., :8], r"mask must have shape .*got \(4, 1, 16, 8\)"),
        (mask[:2], "mask must have batch size 4, as the image has, or 1, got 2"),
        (mask.to("meta"), "mask is on meta, but the image is on cpu"),
    ]:
        with pytest.raises(ValueError, match=message):
            net(image, wrong)
    with pytest.raises(TypeError, match="mask must be of a bool, integer or floating-point dtype"):
        net(image, mask.to(torch.complex64))
    with pytest.raises(TypeError, match="mask must be a tensor, got NoneType"):
        net(image, None)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("levels", [2, 3])
def test_too_small_for_batch_norm(
    levels: int, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's own error comes exactly where torch raises."""
    net = create_model("pconv_unet", levels=levels, width=2)
    assert isinstance(net, PConvUNet)
    if frozen:
        net.freeze_encoder_norm()
    unchecked = copy.deepcopy(net)
    monkeypatch.setattr(unchecked, "_check_batch_norm", lambda image: None)
    refused = 0
    for n, h, w in [(n, h, w) for n in (1, 2) for h in (1, 2, 4, 5, 8, 9) for w in (1, 4, 5, 9)]:
        image, mask = picture(n, h, w), torch.ones(n, 1, h, w)
        try:
            unchecked(image, mask)
        except ValueError:
            with pytest.raises(ValueError, match=f"image of size {h} x {w} at batch size 1"):
                net(image, mask)
            refused += 1
        else:
            net(image, mask)
        net.eval()(image, mask)
        net.train()
    assert refused > 0


# Holes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_what_lies_in_a_hole_is_never_read(name: str, training: bool) -> None:
    net = create_model(name, **SMALL).train(training)
    image, mask = picture(2, 40, 48), holes(2, 40, 48)
    hole = (mask == 0).expand_as(image)
    poisoned = image.clone()
    poisoned[hole] = float("nan")
    poisoned[hole & (torch.arange(48) % 2 == 0)] = float("inf")

    want = copy.deepcopy(net)(torch.where(hole, 0.5, image), mask)
    got = net(poisoned, mask)
    assert torch.equal(got, want)
    got.square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", MODELS)
def test_no_gradient_into_holes(name: str) -> None:
    net = create_model(name, **SMALL)
    mask = holes(2, 40, 48)
    image = picture(2, 40, 48).requires_grad_()
    net(image, mask).square().mean().backward()
    assert image.grad is not None
    assert (image.grad[(mask == 0).expand_as(image)] == 0).all()
    assert (image.grad[(mask == 1).expand_as(image)] != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_all_hole_and_all_valid(name: str) -> None:
    net = create_model(name, **SMALL)
    nn.init.ones_(net.get_submodule("dec1.conv").bias)  # type: ignore[arg-type]
    image = picture(2, 32, 32)
    assert (net(image, torch.zeros(2, 1, 32, 32)) == 0).all()
    full = net(image, torch.ones(2, 1, 32, 32))
    assert full.isfinite().all()
    assert (full != 0).all()


# Gradients, modes, storage ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("pconv_unet", {}), ("cgan_pc_rn", {}), ("cgan_pc_rn", {"region_mask": "original"})],
)
def test_gradient_reaches_every_parameter(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = create_model(name, **SMALL, **options)
    image, mask = picture(2, 64, 64), holes(2, 64, 64)
    (net(image, mask) - image).square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # With the updated mask the hole region is 0 before normalization, and its scale is idle.
        idle = key.endswith("foreground_gamma") and not options
        assert (parameter.grad.abs().max() < 1e-4) == idle, key


@pytest.mark.parametrize("name", MODELS)
def test_train_and_eval(name: str) -> None:
    net = create_model(name, **SMALL)
    image, mask = picture(2, 40, 40), holes(2, 40, 40)
    with torch.no_grad():
        train = net.train()(image, mask)
        evaluate = net.eval()(image, mask)
    assert torch.equal(train, evaluate) == (name == "cgan_pc_rn")


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_round_trip(name: str) -> None:
    net = create_model(name, **SMALL)
    image, mask = picture(2, 40, 40), holes(2, 40, 40)
    net(image, mask)
    other = create_model(name, **SMALL)
    assert not torch.equal(other.eval()(image, mask), net.eval()(image, mask))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(image, mask), net(image, mask))


def test_state_dict_keys() -> None:
    batch = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    region = ["foreground_gamma", "foreground_beta", "background_gamma", "background_beta"]
    pixel = ["sa.conv1.weight", "sa.gamma_conv.weight", "sa.gamma_conv.bias"]
    pixel += ["sa.beta_conv.weight", "sa.beta_conv.bias"]
    for name, encoder, decoder in [
        ("pconv_unet", batch, batch),
        ("cgan_pc_rn", region, pixel),
    ]:
        want = {f"{part}{i}.conv.weight" for part in ("enc", "dec") for i in range(1, 8)}
        want |= {"dec1.conv.bias"}
        want |= {f"enc{i}.norm.{key}" for i in range(2, 8) for key in encoder}
        want |= {f"dec{i}.norm.{key}" for i in range(2, 8) for key in decoder}
        assert set(on_meta(create_model, name).state_dict()) == want


@pytest.mark.parametrize("name", MODELS)
def test_channels_last(name: str) -> None:
    net = create_model(name, **SMALL)
    image, mask = picture(2, 40, 44), holes(2, 40, 44)
    want = net(image, mask)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    got = net(image.to(memory_format=torch.channels_last), mask)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_autocast(name: str) -> None:
    net = create_model(name, **SMALL)
    image, mask = picture(2, 40, 44), holes(2, 40, 44)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image.bfloat16(), mask).isfinite().all()
        out = net(image, mask)
    out.float().square().mean().backward()
    assert out.shape == image.shape
    assert out.isfinite().all()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", MODELS)
def test_compiles_to_one_graph(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, levels=2, width=4)
    image, mask = picture(2, 24, 28), holes(2, 24, 28)
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    want, got = net(image, mask), compiled(image, mask)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    want.square().mean().backward()
    got.square().mean().backward()
    for (key, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=key)


def test_kaiming_initialization() -> None:
    torch.manual_seed(0)
    net = create_model("pconv_unet", width=32)
    for key, fan_in in [("enc1", 3 * 49), ("enc4", 128 * 9), ("dec4", 384 * 9), ("dec1", 35 * 9)]:
        weight = net.get_submodule(f"{key}.conv").weight
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06), key
    assert (net.get_submodule("dec1.conv").bias == 0).all()  # type: ignore[union-attr]


def test_freeze_encoder_norm() -> None:
    net = create_model("pconv_unet", **SMALL)
    assert isinstance(net, PConvUNet)
    image, mask = picture(2, 40, 40), holes(2, 40, 40)
    assert net.freeze_encoder_norm() is net
    net.eval()
    net.train()
    assert net.training
    before = copy.deepcopy(net.state_dict())
    net(image, mask).square().mean().backward()
    for key, value in net.state_dict().items():
        if "norm" in key and not key.endswith(("weight", "bias")):
            assert torch.equal(value, before[key]) == key.startswith("enc"), key
    for key, parameter in net.named_parameters():
        learns = not key.startswith(("enc2.norm", "enc3.norm"))
        assert parameter.requires_grad == learns, key
        assert (parameter.grad is not None) == learns, key

    net.freeze_encoder_norm(False)
    net(image, mask)
    assert not torch.equal(
        net.state_dict()["enc2.norm.running_mean"], before["enc2.norm.running_mean"]
    )
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert set(net.state_dict()) == set(create_model("pconv_unet", **SMALL).state_dict())


# The same networks in plain PyTorch ---------------------------------------------------------


def plain_partial_conv(
    x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, stride: int
) -> tuple[Tensor, Tensor]:
    """Liu et al. (2018), eq. 1 and 2, with a mask of one plane per channel."""
    padding = weight.shape[-1] // 2
    total = F.conv2d(mask, torch.ones_like(weight), stride=stride, padding=padding)
    new_mask = (total > 0).to(x.dtype)
    window = weight[0].numel()
    y = F.conv2d(x * mask, weight, stride=stride, padding=padding) * window / (total + 1e-8)
    if bias is not None:
        y = y + bias[:, None, None]
    return y * new_mask, new_mask


def plain_region_norm(x: Tensor, hole: Tensor) -> Tensor:
    """Yu et al. (2020): each region by its own statistics over the batch."""
    out = torch.zeros_like(x)
    total = x.shape[0] * x.shape[2] * x.shape[3]
    for region in (hole, 1 - hole):
        size = region.sum()
        if size == 0:
            continue
        mean = (x * region).sum((0, 2, 3), keepdim=True) / size
        variance = ((x - mean).square() * region).sum((0, 2, 3), keepdim=True) / size
        out = out + region * (x - mean) / (variance + 1e-5 * total / size).sqrt()
    return out


class PlainUNet:
    """The layer table of paper 000, layer by layer, on the parameters of a network."""

    def __init__(self, net: nn.Module, levels: int, region: bool, original: bool) -> None:
        self.parameters = dict(net.named_parameters())
        self.levels = levels
        self.region = region
        self.original = original
        self.labels: list[Tensor] = []

    def encoder_norm(self, name: str, x: Tensor, mask: Tensor, image_mask: Tensor) -> Tensor:
        p = self.parameters
        if not self.region:
            return self.batch_norm(name, x)
        hole = 1 - (F.interpolate(image_mask, x.shape[-2:]) if self.original else mask[:, :1])
        self.labels.append(hole)
        gamma_hole, gamma_valid = (
            p[f"{name}.norm.{side}_gamma"][:, None, None] for side in ("foreground", "background")
        )
        beta = p[f"{name}.norm.foreground_beta"] + p[f"{name}.norm.background_beta"]
        normalized = plain_region_norm(x, hole)
        return (
            normalized * hole * (1 + gamma_hole)
            + normalized * (1 - hole) * (1 + gamma_valid)
            + beta[:, None, None]
        )

    def decoder_norm(self, name: str, x: Tensor) -> Tensor:
        p = self.parameters
        if not self.region:
            return self.batch_norm(name, x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        attention = F.conv2d(pooled, p[f"{name}.norm.sa.conv1.weight"], padding=3).sigmoid()
        label = (attention.detach() >= 0.8).to(x.dtype)
        self.labels.append(label)
        gamma, beta = (
            F.conv2d(
                attention,
                p[f"{name}.norm.sa.{part}_conv.weight"],
                p[f"{name}.norm.sa.{part}_conv.bias"],
                padding=3,
            )
            for part in ("gamma", "beta")
        )
        return plain_region_norm(x, label) * (1 + gamma) + beta

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.parameters[f"{name}.norm.weight"], self.parameters[f"{name}.norm.bias"]
        return F.batch_norm(x, None, None, weight, bias, training=True)

    def __call__(self, image: Tensor, image_mask: Tensor) -> Tensor:
        p = self.parameters
        skips = [(image, image_mask.expand_as(image))]
        for i in range(1, self.levels + 1):
            x, mask = plain_partial_conv(*skips[-1], p[f"enc{i}.conv.weight"], None, 2)
            if i > 1:
                x = self.encoder_norm(f"enc{i}", x, mask, image_mask)
            skips.append((x.relu(), mask))
        x, mask = skips.pop()
        for i in range(self.levels, 0, -1):
            skip, skip_mask = skips.pop()
            x = torch.cat([F.interpolate(x, skip.shape[-2:]), skip], 1)
            mask = torch.cat([F.interpolate(mask, skip.shape[-2:]), skip_mask], 1)
            bias = p["dec1.conv.bias"] if i == 1 else None
            x, mask = plain_partial_conv(x, mask, p[f"dec{i}.conv.weight"], bias, 1)
            if i > 1:
                x = F.leaky_relu(self.decoder_norm(f"dec{i}", x), 0.2)
        return x


@pytest.mark.parametrize(
    ("name", "options"),
    [("pconv_unet", {}), ("cgan_pc_rn", {}), ("cgan_pc_rn", {"region_mask": "original"})],
)
@pytest.mark.parametrize("size", [(64, 64), (61, 71)])
def test_equals_plain_network(name: str, options: dict[str, object], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = create_model(name, **SMALL, **options).double()
    region = name == "cgan_pc_rn"
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if "norm" not in key and key != "dec1.conv.bias":
                continue
            # Norms start out neutral, and no attention reaches RN_L's threshold: stir them.
            scale = 10.0 if key.endswith("sa.conv1.weight") else 0.3
            parameter.add_(scale * torch.randn_like(parameter))
    image, mask = picture(2, *size, torch.float64), holes(2, *size, torch.float64)
    plain = PlainUNet(net, 3, region, "region_mask" in options)

    got, want = net(image, mask), plain(image, mask)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    parameters = list(net.parameters())
    weight = torch.randn_like(got)
    got_grads = torch.autograd.grad((got * weight).sum(), parameters)
    want_grads = torch.autograd.grad((want * weight).sum(), parameters, materialize_grads=True)
    for key, a, b in zip(plain.parameters, got_grads, want_grads, strict=True):
        # The published 1e-8 in the ratio's divisor weighs less against a count over channels (as
        # in the plain version) than over one plane; RN_L's steep attention enlarges that.
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-9, key
    if region:
        assert len(plain.labels) == 4
        for label in plain.labels:
            assert 0 < label.mean() < 1, "a norm saw one region only"


# Discriminator ------------------------------------------------------------------------------


def test_discriminator_size_and_receptive_field() -> None:
    torch.manual_seed(0)
    # In evaluation, batch norm does not spread a gradient over the image.
    net = create_discriminator("cgan_pc_rn", width=4).eval()
    corrupted = picture(1, 256, 256).requires_grad_()
    image = picture(1, 256, 256).flip(-1).requires_grad_()
    logits = net(corrupted, image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 14].backward()
    for x in (corrupted, image):
        assert x.grad is not None
        touched = x.grad[0].abs().sum(0) > 0
        rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
        assert rows.max() - rows.min() + 1 == 70
        assert columns.max() - columns.min() + 1 == 70


@pytest.mark.parametrize("size", [(24, 24), (61, 83), (64, 130)])
def test_discriminator_sizes(size: tuple[int, int]) -> None:
    net = create_discriminator("cgan_pc_rn", width=4, in_channels=1)
    x = picture(1, *size, channels=1)
    assert net(x, x).shape == (1, 1, size[0] // 8 - 2, size[1] // 8 - 2)


def test_discriminator_gradients_and_round_trip() -> None:
    net = create_discriminator("cgan_pc_rn", width=4)
    a, b = picture(2, 64, 64), picture(2, 64, 64).flip(-1)
    net(a, b).mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert not torch.allclose(net(a, b), net(b, a))
    other = create_discriminator("cgan_pc_rn", width=4)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(a, b), net.eval()(a, b))
    # Logits, not probabilities.
    bias = net.get_parameter("layers.4.conv.bias")
    nn.init.constant_(bias, -5.0)
    assert (net(a, b) < 0).all()


def test_discriminator_initialization() -> None:
    torch.manual_seed(0)
    net = create_discriminator("cgan_pc_rn")
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            assert (parameter == 0).all(), key
        elif "norm" in key:
            assert parameter.mean().item() == pytest.approx(1.0, abs=0.01), key
            assert parameter.std().item() == pytest.approx(0.02, rel=0.25), key
        else:
            assert parameter.mean().item() == pytest.approx(0.0, abs=0.001), key
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), key


def test_discriminator_bad_input() -> None:
    net = create_discriminator("cgan_pc_rn", width=4)
    x = picture(2, 32, 32)
    with pytest.raises(ValueError, match=r"corrupted must have shape \(N, 3, H, W\), got \(2, 1,"):
        net(x[:, :1], x)
    with pytest.raises(
        ValueError, match=r"image must have shape \(N, 3, H, W\), got \(3, 32, 32\)"
    ):
        net(x, x[0])
    with pytest.raises(ValueError, match="corrupted and image must have the same shape, got"):
        net(x, x[:1])
    with pytest.raises(ValueError, match=r"image must be at least 24 x 24 .* got 32 x 23"):
        net(x[..., :23], x[..., :23])
    with pytest.raises(TypeError, match="corrupted must have the network's dtype"):
        net(x.double(), x)
