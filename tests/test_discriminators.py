"""Discriminators: sizes, receptive fields, gradients, what they see, errors."""

from __future__ import annotations

import pytest
import torch
from inpaint_models import create_discriminator
from model_inputs import holes, picture
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


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


# The holes only -----------------------------------------------------------------------------


def test_a_discriminator_of_holes_sees_them_and_no_known_pixel() -> None:
    net = create_discriminator("cgan_pc_rn", width=4, region="hole").eval()
    image, mask = picture(2, 40, 48), holes(2, 40, 48)
    known = (mask == 1).expand_as(image)
    corrupted = torch.where(known, image, 0)
    poisoned = torch.where(known, torch.nan, image).requires_grad_()
    want = net(corrupted, image, mask)
    got = net(corrupted, poisoned, mask)
    assert torch.equal(got, want)
    assert torch.equal(net(corrupted, image, mask.bool()), want)
    assert not torch.equal(net(corrupted, 1 - image, mask), want)
    # The rest of the corrupted image is what the hole must fit.
    assert not torch.equal(net(1 - corrupted, image, mask), want)
    got.square().mean().backward()
    assert poisoned.grad is not None
    assert (poisoned.grad[known] == 0).all()
    assert (poisoned.grad[~known] != 0).any()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_a_mask_goes_with_a_discriminator_of_holes_only() -> None:
    x, mask = picture(1, 32, 32), holes(1, 32, 32)
    with pytest.raises(TypeError, match="mask must be given to a discriminator with region='hole'"):
        create_discriminator("cgan_pc_rn", width=4, region="hole")(x, x)
    with pytest.raises(TypeError, match="mask is for a discriminator with region='hole'"):
        create_discriminator("cgan_pc_rn", width=4)(x, x, mask)
    with pytest.raises(ValueError, match="mask must have shape"):
        create_discriminator("cgan_pc_rn", width=4, region="hole")(x, x, mask[..., :3])


# EdgeConnect's ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["isnet", "rn_net"])
def test_edgeconnect_returns_scores_and_five_maps(name: str) -> None:
    net = create_discriminator(name, width=4).eval()
    image = picture(1, 256, 256).requires_grad_()
    logits, maps = net(image)
    assert [tuple(m.shape) for m in maps] == [
        (1, 4, 128, 128),
        (1, 8, 64, 64),
        (1, 16, 32, 32),
        (1, 32, 31, 31),
        (1, 1, 30, 30),
    ]
    assert torch.equal(maps[-1], logits)
    # Not a sigmoid's output, and maps after their activation.
    assert (logits < 0).any()
    assert all((m < 0).any() and (m > 0).any() for m in maps[:-1])
    logits[0, 0, 15, 14].backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(0) > 0
    for dim in (0, 1):
        where = touched.any(dim).nonzero()
        assert where.max() - where.min() + 1 == 70


@pytest.mark.parametrize("training", [False, True])
def test_edgeconnect_is_spectrally_normalized(training: bool) -> None:
    net = create_discriminator("isnet", width=8).train(training)
    net(picture(1, 32, 32))
    for layer in net.get_submodule("layers").children():
        weight = layer.get_submodule("conv").weight
        assert isinstance(weight, torch.Tensor)
        # As a matrix of outputs by inputs; the estimate is a few iterations old.
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.1)


def test_edgeconnect_sizes_and_errors() -> None:
    net = create_discriminator("isnet", width=4, in_channels=1)
    for h, w in [(24, 24), (61, 83)]:
        logits, _ = net(picture(2, h, w, channels=1))
        assert logits.shape == (2, 1, h // 8 - 2, w // 8 - 2)
    with pytest.raises(ValueError, match=r"image must be at least 24 x 24 .* got 24 x 23"):
        net(picture(1, 24, 23, channels=1))
    with pytest.raises(ValueError, match=r"image must have shape \(N, 1, H, W\)"):
        net(picture(1, 24, 24))


def test_edgeconnect_initialization() -> None:
    for name, options, std in [
        ("isnet", {}, 0.001),
        ("isnet", {"weight_std": 0.02}, 0.02),
        # PyTorch's default: uniform, of variance 1 / (3 * fan_in).
        ("rn_net", {}, (1 / (3 * 16 * 64)) ** 0.5),
    ]:
        net = create_discriminator(name, **options)
        weight = net.get_parameter("layers.1.conv.parametrizations.weight.original")
        assert weight.std().item() == pytest.approx(std, rel=0.05), name


def test_edgeconnect_gradients_and_round_trip() -> None:
    net = create_discriminator("isnet", width=4)
    image = picture(2, 64, 64)
    logits, maps = net(image)
    (logits.mean() + sum(m.square().mean() for m in maps)).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    other = create_discriminator("isnet", width=4)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(image)[0], net.eval()(image)[0])
