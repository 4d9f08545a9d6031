"""Guo, Zhao's generators and discriminators."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from inpaint_models import create_discriminator, create_model
from torch import Tensor, nn

UNETS = ["unet_mse", "gan_mse", "gan_bce"]
pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ["gan_bce", "residual_gan_mask", "residual_gan_whole", "double_discriminator_gan"]
HOLE_ONLY = ["residual_gan_mask", "double_discriminator_gan"]

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def picture(n: int, h: int, w: int, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(n, channels, h, w, generator=torch.Generator().manual_seed(seed))


def holes(n: int, h: int, w: int) -> Tensor:
    mask = torch.ones(n, 1, h, w)
    mask[:, :, h // 4 : h // 2, w // 3 : w - 3] = 0
    mask[0, :, :2, :3] = 0
    return mask


def small(name: str, **options: object) -> nn.Module:
    """PyTorch's default weights shrink a signal layer by layer: make them keep it."""
    torch.manual_seed(0)
    net = create_model(name, width=4, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.mul_(2.5)
    return net


# Generators ---------------------------------------------------------------------------------


def test_parameter_counts_follow_from_the_tables() -> None:
    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + b

    def unbiased(a: int, b: int) -> int:
        return a * b * 16 + 2 * b  # and batch norm's two

    unet = sum(unbiased(a, b) for a, b in [(6, 64), (64, 128), (128, 256), (256, 512)])
    unet += sum(unbiased(a, b) for a, b in [(512, 256), (512, 128), (256, 64)]) + conv(128, 3, 4)
    down = conv(6, 64, 4) + conv(64, 128, 4) + conv(128, 256, 4)
    residual = down + 12 * conv(256, 256, 3)
    residual += conv(256, 128, 4) + conv(256, 64, 4) + conv(128, 64, 4) + conv(64, 3, 3)
    stage = down + 6 * conv(256, 256, 3)
    stage += conv(256, 128, 4) + conv(128, 64, 4) + conv(64, 3, 4)
    assert 2 * stage == 9_722_118
    trunk = sum(unbiased(a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512)])
    critics = [trunk + 512 * side * side + 1 for side in (16, 8)]

    with torch.device("meta"):
        nets = [create_model(name) for name in (*UNETS, *MODELS[1:])]
        nets += [create_discriminator(name) for name in ("gan_mse", MODELS[-1])]
    counts = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert counts == [unet] * 3 + [residual] * 2 + [2 * stage, critics[0], sum(critics)]


def test_residual_generator_has_the_19_layers_that_the_paper_counts() -> None:
    with torch.device("meta"):
        net = create_model("residual_gan_whole")
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(layers) == 19


def test_unets_are_one_network() -> None:
    image, mask = picture(2, 16, 16), holes(2, 16, 16)
    nets = [small(name) for name in UNETS]
    first = nets[0](image, mask)
    for net in nets[1:]:
        assert torch.equal(net(image, mask), first)


@pytest.mark.parametrize("name", MODELS)
def test_padding_is_a_hole(name: str) -> None:
    """An image of odd size is the corner of a larger one that is a hole elsewhere."""
    net = small(name).eval()
    image, mask = picture(2, 32, 48), holes(2, 32, 48)
    mask[:, :, 27:] = 0
    mask[:, :, :, 43:] = 0
    with torch.no_grad():
        want = net(image, mask)[..., :27, :43]
        got = net(image[..., :27, :43], mask[..., :27, :43])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_bad_options(name: str) -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        create_model(name, width=0)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got -1"):
        create_model(name, in_channels=-1)


def test_one_value_is_too_few_for_batch_norm() -> None:
    net = small("unet_mse")
    image, mask = picture(1, 13, 16), torch.ones(1, 1, 13, 16)
    with pytest.raises(ValueError, match="image of size 13 x 16 at batch size 1 leaves a single"):
        net(image, mask)
    assert net.eval()(image, mask).isfinite().all()
    net.train()
    assert net(picture(1, 13, 17), torch.ones(1, 1, 13, 17)).isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_who_writes_the_hole_only(name: str) -> None:
    net = small(name)
    image, mask = picture(2, 21, 30), holes(2, 21, 30)
    image[:, :, 0, -1] = -0.0
    known = (mask == 1).expand_as(image)
    with torch.no_grad():
        out = net(image, mask)
    if name in HOLE_ONLY:
        assert torch.equal(out[known].view(torch.int32), image[known].view(torch.int32))
    else:
        assert (out[known] != image[known]).float().mean() > 0.9
    assert (out[~known] != image[~known]).float().mean() > 0.9


@pytest.mark.parametrize("name", HOLE_ONLY)
def test_soft_masks_keep_their_share_of_the_image(name: str) -> None:
    net = small(name)
    image, mask = picture(2, 16, 16), holes(2, 16, 16)
    mask[:, :, 8:12] = 1 - 1e-6
    with torch.no_grad():
        out = net(image, mask)
    torch.testing.assert_close(out[:, :, 8:12], image[:, :, 8:12], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 2])
def test_holes_are_seen_as_the_mean_and_the_mask_in_all_channels(channels: int) -> None:
    net = small("gan_bce", in_channels=channels)
    seen: list[Tensor] = []
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image, mask = picture(2, 16, 16, channels), holes(2, 16, 16)
    net(image, mask)
    normalized = (image - MEAN) / DEVIATION if channels == 3 else (image - 0.449) / 0.226
    torch.testing.assert_close(seen[0][:, :channels], torch.where(mask == 1, normalized, 0.0))
    assert torch.equal(seen[0][:, channels:], mask.expand_as(image))


# The same networks in plain calls -----------------------------------------------------------


def down(p: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    y = F.conv2d(x, p[f"{key}.conv.weight"], p[f"{key}.conv.bias"], stride=2, padding=1)
    return F.leaky_relu(y, 0.2)


def block(p: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    y = F.conv2d(x, p[f"{key}.conv1.weight"], p[f"{key}.conv1.bias"], padding=1).relu()
    return x + F.conv2d(y, p[f"{key}.conv2.weight"], p[f"{key}.conv2.bias"], padding=1)


def up(p: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    bias = p.get(f"{key}.conv.bias")
    return F.conv_transpose2d(x, p[f"{key}.conv.weight"], bias, stride=2, padding=1)


@pytest.mark.parametrize("last_relu", [False, True])
def test_two_stages_as_the_paper_writes_them(last_relu: bool) -> None:
    net = small("double_discriminator_gan", last_relu=last_relu)
    p = dict(net.named_parameters())

    def stage(key: str, x: Tensor) -> Tensor:
        for i in range(3):
            x = down(p, f"{key}.{i}", x)
        for i in range(3, 6):
            x = block(p, f"{key}.{i}", x)
        for i in range(6, 9):
            x = up(p, f"{key}.{i}", x)
            x = x.relu() if i < 8 or last_relu else x
        return x

    image, mask = picture(2, 24, 32), holes(2, 24, 32)
    mask3 = mask.expand_as(image)
    # The generator of the paper's code, on its normalized values.
    x_masked = (image - MEAN) / DEVIATION * mask3
    x1 = stage("stage1", torch.cat((x_masked, mask3), 1))
    inpainted = x_masked + x1 * (1 - mask3)
    x2 = stage("stage2", torch.cat((inpainted, mask3), 1))
    refined = inpainted + x2 * (1 - mask3)

    out = net(image, mask)
    torch.testing.assert_close(out, refined * DEVIATION + MEAN, rtol=1e-4, atol=1e-5)
    darkest = ((out - MEAN)[mask3 == 0]).min()
    assert (darkest >= -1e-6) == last_relu, "the published end writes nothing below the mean"


@pytest.mark.parametrize("name", ["residual_gan_mask", "residual_gan_whole"])
def test_residual_generators_as_in_the_table(name: str) -> None:
    net = small(name, blocks=2)
    p = dict(net.named_parameters())
    image, mask = picture(2, 24, 32), holes(2, 24, 32)
    normalized = (image - MEAN) / DEVIATION * mask
    d1 = down(p, "down.0", torch.cat([normalized, mask.expand_as(image)], 1))
    d2 = down(p, "down.1", d1)
    d3 = down(p, "down.2", d2)
    x = block(p, "blocks.1", block(p, "blocks.0", d3))
    x = up(p, "up.0", x).relu()
    x = up(p, "up.1", torch.cat([x, d2], 1)).relu()
    x = up(p, "up.2", torch.cat([x, d1], 1)).relu()
    x = F.conv2d(x, p["last.weight"], p["last.bias"], padding=1) * DEVIATION + MEAN
    want = torch.where(mask == 1, image, x) if name == "residual_gan_mask" else x
    torch.testing.assert_close(net(image, mask), want, rtol=1e-4, atol=1e-5)


def test_unet_as_in_the_table() -> None:
    net = small("unet_mse")
    p = dict(net.named_parameters())

    def norm(key: str, x: Tensor) -> Tensor:
        weight, bias = p[f"{key}.norm.weight"], p[f"{key}.norm.bias"]
        return F.batch_norm(x, None, None, weight, bias, training=True).relu()

    image, mask = picture(2, 32, 48), holes(2, 32, 48)
    x = torch.cat([(image - MEAN) / DEVIATION * mask, mask.expand_as(image)], 1)
    skips = []
    for i in range(4):
        x = norm(f"down.{i}", F.conv2d(x, p[f"down.{i}.conv.weight"], stride=2, padding=1))
        skips.append(x)
    x = norm("up.0", up(p, "up.0", x))
    x = norm("up.1", up(p, "up.1", torch.cat([x, skips[2]], 1)))
    x = norm("up.2", up(p, "up.2", torch.cat([x, skips[1]], 1)))
    want = up(p, "up.3", torch.cat([x, skips[0]], 1)) * DEVIATION + MEAN
    torch.testing.assert_close(net(image, mask), want, rtol=1e-4, atol=1e-5)


# Discriminators -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gan_mse", "gan_bce", "residual_gan_mask", "residual_gan_whole"])
def test_discriminator_gives_one_logit_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    net = create_discriminator(name, width=4, image_size=50, in_channels=2)
    image = picture(2, 50, 50, 2).requires_grad_()
    logits = net(image)
    assert logits.shape == (2, 1)
    (logits * torch.tensor([[1.0], [-2.0]])).sum().backward()
    assert image.grad is not None
    for key, grad in [("image", image.grad), *((k, p.grad) for k, p in net.named_parameters())]:
        assert grad is not None, key
        assert grad.isfinite().all(), key
        assert grad.abs().max() > 0, key
    nn.init.constant_(net.get_parameter("linear.bias"), -9.0)
    assert (net(image) < 0).all()


def test_double_discriminator_judges_each_part_by_itself() -> None:
    torch.manual_seed(0)
    net = create_discriminator(
        "double_discriminator_gan", width=4, image_size=48, local_size=21
    ).eval()
    image, local = picture(2, 48, 48).requires_grad_(), picture(2, 21, 21).requires_grad_()
    assert net(image, local).shape == (2, 2)
    for column in (0, 1):
        logit = net(image, local)[:, column].sum()
        whole, part = torch.autograd.grad(logit, [image, local])
        assert (whole.abs().max() > 0) == (column == 0)
        assert (part.abs().max() > 0) == (column == 1)
    net.train()(image, local).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


def test_discriminators_bad_input() -> None:
    simple = create_discriminator("gan_mse", width=2, image_size=16)
    double = create_discriminator("double_discriminator_gan", width=2, image_size=32, local_size=16)
    x = picture(2, 16, 16)
    with pytest.raises(ValueError, match=r"image must be 16 x 16, the size .* got 16 x 15"):
        simple(x[..., :15])
    with pytest.raises(ValueError, match="image of size 16 x 16 at batch size 1 leaves a single"):
        simple(x[:1])
    assert simple.eval()(x[:1]).shape == (1, 1)
    with pytest.raises(ValueError, match=r"image must be 32 x 32, the size .* got 16 x 16"):
        double(x, x)
    with pytest.raises(ValueError, match="local_crop of size 16 x 16 at batch size 1 leaves"):
        double(picture(1, 32, 32), x[:1])
    with pytest.raises(ValueError, match="same batch size, got 3 and 2"):
        double(picture(3, 32, 32), x)
    with pytest.raises(ValueError, match="image_size must be at least 16, got 15"):
        create_discriminator("gan_bce", image_size=15)
    with pytest.raises(ValueError, match="local_size must be at least 16, got 8"):
        create_discriminator("double_discriminator_gan", local_size=8)
