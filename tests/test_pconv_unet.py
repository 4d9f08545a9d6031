"""The U-Nets of partial convolutions: what only they do, and a plain version of Shi et al.'s."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from inpaint_models import create_model
from inpaint_models.partial_unet import PartialUNet
from inpaint_models.pconv_unet import PConvUNet
from model_inputs import holes, picture
from torch import Tensor, nn

from inpaint_ops import RN_B

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ["cgan_pc_rn", "pconv_unet"]
SMALL = {"levels": 3, "width": 4}


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


def test_too_small_for_batch_norm_of_the_autoencoder() -> None:
    net = create_model("pconv_autoencoder", width=2)
    image, mask = picture(1, 32, 32), torch.ones(1, 1, 32, 32)
    with pytest.raises(
        ValueError, match=r"image of size 32 x 32 at batch size 1 leaves.* enc5 of 5"
    ):
        net(image, mask)
    assert net(picture(1, 33, 32), torch.ones(1, 1, 33, 32)).isfinite().all()
    assert net(picture(2, 32, 32), mask).isfinite().all()
    assert net.eval()(image, mask).isfinite().all()


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
        assert set(create_model(name, width=1).state_dict()) == want


def test_kaiming_initialization() -> None:
    torch.manual_seed(0)
    net = create_model("pconv_unet", width=32)
    for key, fan_in in [("enc1", 3 * 49), ("enc4", 128 * 9), ("dec4", 384 * 9), ("dec1", 35 * 9)]:
        weight = net.get_submodule(f"{key}.conv").weight
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06), key
    assert (net.get_submodule("dec1.conv").bias == 0).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "norm", "count"),
    [("pconv_unet", nn.BatchNorm2d, 6), ("cgan_pc_rn", RN_B, 6),
     ("pconv_autoencoder", nn.BatchNorm2d, 5)],
)  # fmt: skip
def test_every_unet_of_partial_convolutions_names_its_encoder_norms(
    name: str, norm: type[nn.Module], count: int
) -> None:
    net = create_model(name, width=2)
    assert isinstance(net, PartialUNet)
    norms = net.encoder_norms()
    assert [type(found) for found in norms] == [norm] * count
    assert norms[-1] is net.unit(f"enc{net.levels}").norm


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
    """The layer table of Shi et al., layer by layer, on the parameters of a network."""

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


@pytest.mark.parametrize("size", [(32, 32), (37, 45)])
def test_autoencoder_equals_plain_network(size: tuple[int, int]) -> None:
    net = create_model("pconv_autoencoder", width=4).double()
    p = dict(net.named_parameters())
    with torch.no_grad():
        for key, parameter in p.items():
            if "norm" in key or key.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))

    def normalized(name: str, x: Tensor) -> Tensor:
        weight, bias = p[f"{name}.norm.weight"], p[f"{name}.norm.bias"]
        return F.batch_norm(x, None, None, weight, bias, training=True)

    image, mask = picture(2, *size, torch.float64), holes(2, *size, torch.float64)
    skips = [(image, mask.expand_as(image))]
    for i in range(1, 6):
        x, m = plain_partial_conv(*skips[-1], p[f"enc{i}.conv.weight"], None, 2)
        skips.append((normalized(f"enc{i}", x).relu(), m))
    assert skips[-1][0].shape[2:] == tuple((n + 31) // 32 for n in size)
    x, m = skips.pop()
    for i in range(5, 0, -1):
        skip, skip_mask = skips.pop()
        x = torch.cat([F.interpolate(x, skip.shape[-2:]), skip], 1)
        m = torch.cat([F.interpolate(m, skip.shape[-2:]), skip_mask], 1)
        bias = p["dec1.conv.bias"] if i == 1 else None
        x, m = plain_partial_conv(x, m, p[f"dec{i}.conv.weight"], bias, 1)
        x = x.sigmoid() if i == 1 else F.leaky_relu(normalized(f"dec{i}", x), 0.2)
    torch.testing.assert_close(net(image, mask), x, rtol=1e-6, atol=1e-6)
