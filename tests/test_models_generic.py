"""Every registered network: sizes, gradients, holes, modes, storage, dtypes, compilers, errors.

A network that is registered later is tested without a line here, unless it is an exception.
"""

from __future__ import annotations

import copy
import io

import pytest
import torch
from inpaint_models import list_models, model_card
from model_inputs import holes, picture, small_model
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = list_models()
BLIND = [name for name in MODELS if model_card(name).blind]
SEEING = [name for name in MODELS if not model_card(name).blind]

# Parameters that a published count includes, although nothing that leaves the network needs them.
UNUSED = {"isnet_base": ("stages.3.high_to_low", "stages.3.low_to_low", "stages.3.low_out")}

# Adam's learning rate, and by what factor 60 steps divide the loss. Spectral norm on every layer
# bounds how fast ISNet changes.
LEARNING: dict[str, tuple[float, float]] = {
    "isnet": (0.01, 2.0),
    "isnet_base": (0.003, 2.0),
    "isnet_base_ff": (0.003, 2.0),
}


def painted(image: Tensor, mask: Tensor) -> Tensor:
    """What a blind network gets to see."""
    return torch.where(mask == 0, 0, image)


def check_gradients(name: str, net: nn.Module) -> None:
    """Each parameter has a finite gradient, and the weights of layers one that is not zero."""
    for key, parameter in net.named_parameters():
        if key.startswith(UNUSED.get(name, ())):
            assert parameter.grad is None, key
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (5, 18), (33, 50)])
@pytest.mark.parametrize("name", MODELS)
def test_any_size_forward_and_backward(name: str, size: tuple[int, int], training: bool) -> None:
    net = small_model(name).train(training)
    # Two images are enough for batch norm on 1 x 1 maps.
    image, mask = picture(2, *size), holes(2, *size)
    out = net(image, mask)
    assert out.shape == (2, 3, *size)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    (out - image).square().mean().backward()
    check_gradients(name, net)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_learns(name: str) -> None:
    net = small_model(name)
    image, mask = picture(2, 64, 64), holes(2, 64, 64)
    (net(painted(image, mask), mask) - image).square().mean().backward()
    check_gradients(name, net)
    for key, parameter in net.named_parameters():
        if parameter.dim() >= 2 and parameter.grad is not None:
            assert (parameter.grad != 0).any(), key


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(
    "name", [name for name in MODELS if "in_channels" in model_card(name).options]
)
def test_other_numbers_of_channels(name: str, channels: int) -> None:
    net = small_model(name, in_channels=channels)
    out = net(picture(2, 32, 40, channels=channels), holes(2, 32, 40))
    assert out.shape == (2, channels, 32, 40)


@pytest.mark.parametrize("name", MODELS)
def test_mask_forms_agree(name: str) -> None:
    net = small_model(name).eval()
    image, one = picture(3, 40, 36), holes(1, 40, 36)
    with torch.no_grad():
        want = net(image, one.repeat(3, 1, 1, 1))
        assert torch.equal(net(image, one), want)
        assert torch.equal(net(image, one.bool()), want)
        assert torch.equal(net(image, one.double()), want)
        assert torch.equal(net(image, (one * 255).to(torch.uint8)), want)


# Holes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SEEING)
def test_what_lies_in_a_hole_is_never_read(name: str, training: bool) -> None:
    net = small_model(name).train(training)
    image, mask = picture(2, 40, 48), holes(2, 40, 48)
    hole = (mask == 0).expand_as(image)
    poisoned = image.clone()
    poisoned[hole] = float("nan")
    poisoned[hole & (torch.arange(48) % 2 == 0)] = float("inf")
    poisoned.requires_grad_()

    # Running statistics change in training: each call gets a network of its own.
    want = copy.deepcopy(net)(torch.where(hole, 0.5, image), mask)
    got = net(poisoned, mask)
    assert torch.equal(got, want)
    got.square().mean().backward()
    check_gradients(name, net)
    assert poisoned.grad is not None
    assert (poisoned.grad[hole] == 0).all()
    assert poisoned.grad[~hole].isfinite().all()
    assert (poisoned.grad[~hole] != 0).any()


@pytest.mark.parametrize("name", SEEING)
def test_the_mask_matters(name: str) -> None:
    net = small_model(name).eval()
    image, mask = picture(2, 40, 48), holes(2, 40, 48)
    with torch.no_grad():
        assert not torch.equal(net(image, mask), net(image, torch.ones_like(mask)))


@pytest.mark.parametrize("name", BLIND)
def test_a_blind_network_sees_the_image_and_not_the_mask(name: str) -> None:
    net = small_model(name).eval()
    image, mask = picture(2, 40, 48), holes(2, 40, 48)
    with torch.no_grad():
        want = net(image, mask)
        assert torch.equal(net(image, torch.ones_like(mask)), want)
        assert not torch.equal(net(painted(image, mask), mask), want)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_but_hole_and_no_hole(name: str, training: bool) -> None:
    net = small_model(name).train(training)
    image = picture(2, 40, 48)
    for mask in (torch.zeros(2, 1, 40, 48), torch.ones(2, 1, 40, 48)):
        net.zero_grad()
        out = net(image, mask)
        assert out.isfinite().all()
        (out - image).square().mean().backward()
        check_gradients(name, net)


@pytest.mark.parametrize("name", MODELS)
def test_soft_masks_are_taken(name: str) -> None:
    net = small_model(name)
    image = picture(2, 40, 48)
    out = net(image, 0.1 + 0.9 * picture(2, 40, 48, channels=1))
    assert out.isfinite().all()


# Modes, storage, dtypes ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_changes_nothing_and_repeats(name: str) -> None:
    net = small_model(name)
    image, mask = picture(2, 40, 40), holes(2, 40, 40)
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        net.train()(image, mask)
        parameters = dict(net.named_parameters())
        for key, value in net.state_dict().items():
            assert key not in parameters or torch.equal(value, before[key]), key
        after = copy.deepcopy(net.state_dict())
        first, second = net.eval()(image, mask), net(image, mask)
    assert torch.equal(first, second)
    for key, value in net.state_dict().items():
        assert torch.equal(value, after[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_round_trip(name: str) -> None:
    net = small_model(name)
    image, mask = picture(2, 40, 40), holes(2, 40, 40)
    net(image, mask)
    other = small_model(name)
    with torch.no_grad():
        assert not torch.equal(other.eval()(image, mask), net.eval()(image, mask))
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(image, mask), net(image, mask))


@pytest.mark.parametrize("name", MODELS)
def test_channels_last(name: str) -> None:
    net = small_model(name).eval()
    image, mask = picture(2, 40, 44), holes(2, 40, 44)
    want = net(image, mask)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    got = net(image.to(memory_format=torch.channels_last), mask)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    got.square().mean().backward()
    check_gradients(name, net)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_autocast(name: str) -> None:
    net = small_model(name)
    image, mask = picture(2, 40, 44), holes(2, 40, 44)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image.bfloat16(), mask).isfinite().all()
        out = net(image, mask)
    (out.float() - image).square().mean().backward()
    assert out.shape == image.shape
    assert out.isfinite().all()
    check_gradients(name, net)


@pytest.mark.parametrize("name", MODELS)
def test_double_precision(name: str) -> None:
    net = small_model(name).eval()
    image, mask = picture(2, 40, 44), holes(2, 40, 44)
    with torch.no_grad():
        want = net(image, mask)
        got = net.double()(image.double(), mask)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.float(), want, rtol=1e-3, atol=1e-4)


# Learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_one_picture_is_learned(name: str) -> None:
    """The squared error falls to a quarter or less within 60 steps; exceptions in LEARNING."""
    rate, factor = LEARNING.get(name, (0.01, 4.0))
    net = small_model(name)
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    # Bright, and different in each channel and direction: no constant does.
    image = torch.stack([0.2 + 0.7 * x, 0.9 - 0.8 * y, 0.1 + 0.8 * x * y]).expand(2, 3, 32, 32)
    mask = holes(2, 32, 32)
    seen = painted(image, mask)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(seen, mask) - image).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / factor


# Compilers ----------------------------------------------------------------------------------


def check_compiled(name: str, backend: str) -> None:
    net = small_model(name)
    image, mask = picture(2, 24, 28), holes(2, 24, 28)
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, backend=backend, fullgraph=True)
    want, got = net(image, mask), compiled(image, mask)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    want.square().mean().backward()
    got.square().mean().backward()
    for (key, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", MODELS)
def test_compiles_to_one_graph(name: str) -> None:
    check_compiled(name, "aot_eager")


@pytest.mark.parametrize("name", ["cgan_pc_rn", "pconv_autoencoder"])
def test_compiles_with_inductor(name: str) -> None:
    check_compiled(name, "inductor")


# Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_bad_images(name: str) -> None:
    net = small_model(name).eval()
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
    net = small_model(name).eval()
    image, mask = picture(4, 16, 16), holes(4, 16, 16)
    for wrong, message in [
        (mask[:, 0], r"mask must have shape \(4, 1, 16, 16\) or .*got \(4, 16, 16\)"),
        (
            mask.expand(4, 3, 16, 16),
            r"mask must have shape \(4, 1, 16, 16\) or \(1, 1, 16, 16\) .*got \(4, 3, 16, 16\): "
            r"one plane for all channels, as mask\[:, :1\]",
        ),
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
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'mask'"):
        net(image)
