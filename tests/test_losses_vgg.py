"""VGG16, VGG19 and the losses on their feature maps: names, weights files, equations, errors."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inpaint_models.losses import VGG, PerceptualLoss, load_vgg
from torch import Tensor, nn

# The places of the convolutions in torchvision's `features`, and how many channels they make.
CONVOLUTIONS = {
    "vgg16": dict(
        zip(
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
            (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
            strict=True,
        )
    ),
    "vgg19": dict(
        zip(
            (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
            (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512),
            strict=True,
        )
    ),
}
MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)


def random_state(network: str) -> dict[str, Tensor]:
    """A state_dict as torchvision's, classifier in part, with weights that keep the scale."""
    generator = torch.Generator().manual_seed(3)
    state: dict[str, Tensor] = {}
    channels = 3
    for place, width in CONVOLUTIONS[network].items():
        weight = torch.randn(width, channels, 3, 3, generator=generator)
        state[f"features.{place}.weight"] = weight * math.sqrt(2 / (9 * channels))
        state[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=generator)
        channels = width
    state["classifier.0.bias"] = torch.zeros(4096)
    return state


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return {network: random_state(network) for network in CONVOLUTIONS}


@pytest.fixture(scope="module")
def files(
    states: dict[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vgg")
    paths = {network: folder / f"{network}.pth" for network in states}
    for network, path in paths.items():
        torch.save(states[network], path)
    return paths


@pytest.fixture(scope="module")
def liu(files: dict[str, Path]) -> PerceptualLoss:
    """The loss of Shi et al. in float32; loading it once saves time. Tests that convert it copy."""
    return PerceptualLoss(files["vgg16"])


def images(
    size: int = 16, channels: int = 3, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    prediction = torch.rand(2, channels, size, size, generator=generator, dtype=torch.float64)
    truth = torch.rand(2, channels, size, size, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 1, size, size, dtype=torch.float64)
    mask[0, :, size // 4 : size // 2, 3 : size - 3] = 0
    mask[1, :, :5, size // 2 :] = 0
    return prediction.to(dtype), truth.to(dtype), mask.to(dtype)


def plain_maps(
    state: dict[str, Tensor], image: Tensor, network: str, blocks: int = 5
) -> dict[str, Tensor]:
    """Feature maps by name, written from the networks' description."""
    x = (image.expand(-1, 3, -1, -1) - MEAN) / STD
    maps: dict[str, Tensor] = {}
    places = iter(CONVOLUTIONS[network])
    for block in range(1, blocks + 1):
        count = 2 if block < 3 else (3 if network == "vgg16" else 4)
        for i in range(1, count + 1):
            place = next(places)
            weight, bias = (state[f"features.{place}.{kind}"] for kind in ("weight", "bias"))
            x = F.conv2d(x, weight.double(), bias.double(), padding=1).clamp(min=0)
            maps[f"relu{block}_{i}"] = x
        n, c, h, w = x.shape
        x = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
        maps[f"pool{block}"] = x
    return maps


def plain_terms(
    state: dict[str, Tensor],
    network: str,
    layers: tuple[str, ...],
    style_layers: tuple[str, ...],
    image: Tensor,
    truth: Tensor,
) -> tuple[Tensor, Tensor]:
    blocks = 3 if network == "vgg16" else 5
    a, b = (plain_maps(state, x, network, blocks) for x in (image, truth))
    perceptual = torch.zeros((), dtype=torch.float64)
    for k in layers:
        perceptual = perceptual + (a[k] - b[k]).abs().sum() / a[k].numel()
    style = torch.zeros((), dtype=torch.float64)
    for k in style_layers:
        n, c, h, w = a[k].shape
        grams = [torch.einsum("nchw,ndhw->ncd", m[k], m[k]) / (c * h * w) for m in (a, b)]
        style = style + (grams[0] - grams[1]).abs().sum() / (n * c * c)
    return perceptual, style


# The networks -------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "parameters"), [("vgg16", 14_714_688), ("vgg19", 20_024_384)])
def test_names_shapes_and_counts_are_torchvisions(network: str, parameters: int) -> None:
    with torch.device("meta"):
        vgg = VGG(network)
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for place, width in CONVOLUTIONS[network].items():
        shapes[f"features.{place}.weight"] = (width, channels, 3, 3)
        shapes[f"features.{place}.bias"] = (width,)
        channels = width
    assert {name: tuple(value.shape) for name, value in vgg.state_dict().items()} == shapes
    assert sum(p.numel() for p in vgg.parameters()) == parameters


@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
def test_every_layer_by_name_is_that_of_the_plain_network(
    network: str, files: dict[str, Path], states: dict[str, dict[str, Tensor]]
) -> None:
    image = images(32)[0][:1]
    expected = plain_maps(states[network], image, network)
    vgg = load_vgg(network, files[network]).double()
    assert set(vgg.positions) == set(expected)
    normalized = vgg.normalize(image)
    # float32 constants of the normalization.
    assert torch.allclose(normalized, (image - MEAN) / STD, rtol=1e-6, atol=1e-6)
    maps = vgg(normalized, list(expected))
    assert set(maps) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(maps[name], value, rtol=1e-5, atol=1e-5), name
    assert not any(p.requires_grad for p in vgg.parameters())
    assert not vgg.training


# The losses ---------------------------------------------------------------------------------

LIU = ("pool1", "pool2", "pool3")
ISNET = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
ISNET_STYLE = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")


@pytest.mark.parametrize(
    ("network", "channels", "composite", "layers", "style_layers"),
    [
        ("vgg16", 3, True, LIU, LIU),
        ("vgg16", 1, True, LIU, LIU),
        ("vgg19", 3, False, ISNET, ISNET_STYLE),
    ],
)
def test_perceptual_and_style_loss_are_their_equations(
    network: str,
    composite: bool,
    layers: tuple[str, ...],
    style_layers: tuple[str, ...],
    channels: int,
    liu: PerceptualLoss,
    files: dict[str, Path],
    states: dict[str, dict[str, Tensor]],
) -> None:
    prediction, truth, mask = images(channels=channels)
    loss = (
        liu
        if network == "vgg16"
        else PerceptualLoss(files[network], network=network, composite=composite)
    )
    terms = copy.deepcopy(loss).double()(prediction, truth, mask if composite else None)
    measured = [prediction]
    if composite:
        measured.append(torch.where(mask == 0, prediction, truth))
    parts = [
        plain_terms(states[network], network, layers, style_layers, image, truth)
        for image in measured
    ]
    assert terms.perceptual.item() == pytest.approx(sum(p.item() for p, _ in parts), rel=1e-5)
    assert terms.style.item() == pytest.approx(sum(s.item() for _, s in parts), rel=1e-5)


def test_the_gradient_is_that_of_the_plain_equations(
    liu: PerceptualLoss, states: dict[str, dict[str, Tensor]]
) -> None:
    prediction, truth, mask = images()
    ours, theirs = (prediction.clone().requires_grad_() for _ in range(2))
    truth.requires_grad_()
    terms = copy.deepcopy(liu).double()(ours, truth, mask)
    (0.05 * terms.perceptual + 120 * terms.style).backward()
    assert truth.grad is None
    for image in (theirs, torch.where(mask == 0, theirs, truth.detach())):
        p, s = plain_terms(states["vgg16"], "vgg16", LIU, LIU, image, truth.detach())
        (0.05 * p + 120 * s).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    scale = theirs.grad.abs().max().item()
    assert scale > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5 * scale)


def test_unmeasured_truth_is_the_mean_colour_in_all_images(
    liu: PerceptualLoss, states: dict[str, dict[str, Tensor]]
) -> None:
    prediction, truth, mask = images()
    unmeasured = torch.zeros_like(truth, dtype=torch.bool)
    unmeasured[0, :, 4:12, 4:12] = True  # in the hole and outside
    unmeasured[1, 1, 10:12] = True
    truth[unmeasured] = math.nan
    dirty = torch.where(unmeasured, math.nan, prediction).requires_grad_()
    terms = copy.deepcopy(liu).double()(dirty, truth, mask)
    filled = [torch.where(unmeasured, MEAN, x) for x in (prediction, truth)]
    parts = [
        plain_terms(states["vgg16"], "vgg16", LIU, LIU, image, filled[1])
        for image in (filled[0], torch.where(mask == 0, filled[0], filled[1]))
    ]
    assert terms.perceptual.item() == pytest.approx(sum(p.item() for p, _ in parts), rel=1e-5)
    assert terms.style.item() == pytest.approx(sum(s.item() for _, s in parts), rel=1e-5)
    (terms.perceptual + terms.style).backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert torch.count_nonzero(dirty.grad[unmeasured]) == 0


@pytest.mark.parametrize("hole", [False, True])
def test_equal_images_have_no_distance_whatever_the_hole(hole: bool, liu: PerceptualLoss) -> None:
    _, truth, mask = images(dtype=torch.float32)
    prediction = truth.clone().requires_grad_()
    terms = liu(prediction, truth, torch.full_like(mask, float(not hole)))
    assert terms.perceptual.item() == pytest.approx(0, abs=1e-6)
    assert terms.style.item() == pytest.approx(0, abs=1e-6)
    sum(terms).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("how", ["autocast", "half images", "half network"])
def test_half_precision_is_close_and_its_losses_are_float32(how: str, liu: PerceptualLoss) -> None:
    prediction, truth, mask = images(dtype=torch.float32)
    loss = copy.deepcopy(liu)
    expected = loss(prediction, truth, mask)
    if how == "half network":
        loss = loss.bfloat16()
    if how == "half images":
        prediction, truth = prediction.half(), truth.half()
    prediction.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        terms = loss(prediction, truth, mask)
    for value, exact in zip(terms, expected, strict=True):
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel=0.05)
    sum(terms).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


class Holder(nn.Module):
    def __init__(self, loss: PerceptualLoss) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss = loss


def test_the_vgg_is_hidden_from_its_holder_but_moves_with_it(liu: PerceptualLoss) -> None:
    prediction, truth, mask = images()
    holder = Holder(copy.deepcopy(liu))
    assert set(holder.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(holder.parameters())) == 2
    assert not any(isinstance(module, (VGG, nn.Conv2d)) for module in holder.modules())
    holder.train().double()
    terms = holder.loss(prediction, truth, mask)
    assert terms.perceptual.dtype == torch.float64
    twin = copy.deepcopy(holder)
    holder.float()
    assert holder.loss(prediction, truth, mask).perceptual.dtype == torch.float32
    assert torch.equal(twin.loss(prediction, truth, mask).style, terms.style)


def test_truth_and_prediction_without_gradient_leave_no_graph(files: dict[str, Path]) -> None:
    prediction, truth, mask = images(dtype=torch.float32)
    loss = PerceptualLoss(files["vgg16"], layers=("relu1_1",), style_layers=["pool1"])
    assert not loss(prediction, truth, mask).perceptual.requires_grad
    assert "layers=('relu1_1',), style_layers=('pool1',)" in repr(loss)


# Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "file"), [("vgg16", "vgg16-397923af.pth"), ("vgg19", "vgg19-dcbb9e9d.pth")]
)
def test_without_weights_the_error_says_where_they_come_from(
    network: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"weights of {network} are needed.*{file}.*pytorch.org"):
        PerceptualLoss(None, network=network)
    with pytest.raises(FileNotFoundError, match=rf"no file '.*absent\.pth'; give the path.*{file}"):
        PerceptualLoss(tmp_path / "absent.pth", network=network)


def test_a_file_of_another_network_is_refused_by_key(files: dict[str, Path]) -> None:
    with pytest.raises(
        ValueError,
        match=r"vgg19.pth' does not hold the weights of vgg16: missing: features\.17\.weight, .*"
        r"not of this network: features\.16\.weight",
    ):
        load_vgg("vgg16", files["vgg19"])


def test_a_file_with_another_shape_or_a_missing_key_is_refused(
    states: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    state = {name: value for name, value in states["vgg16"].items() if name != "features.28.bias"}
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(
        ValueError,
        match=r"missing: features\.28\.bias; of another shape: features\.0\.weight "
        r"\(64, 1, 3, 3\) instead of \(64, 3, 3, 3\); give the path",
    ):
        load_vgg("vgg16", tmp_path / "odd.pth")


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"bad\.pth' cannot be read"):
        load_vgg("vgg16", path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"bad\.pth' must hold a state_dict.*got list"):
        load_vgg("vgg16", path)


class Trap:
    """Unpickled without care, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_runs_code_is_refused_unrun(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"trap\.pth' cannot be read, or not safely"):
        load_vgg("vgg16", tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def test_a_safetensors_file_goes_through_safetensors_or_says_how_to_get_it(
    states: dict[str, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vgg16.safetensors"
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match="needs the package safetensors: pip install safetensors"):
        load_vgg("vgg16", path)
    # A stand-in of its one function that is used, so that the test needs no more packages.
    opened: list[Path] = []

    def load_file(name: Path) -> dict[str, Tensor]:
        opened.append(name)
        return states["vgg16"]

    stand_in = SimpleNamespace(load_file=load_file)
    monkeypatch.setitem(sys.modules, "safetensors", SimpleNamespace(torch=stand_in))
    monkeypatch.setitem(sys.modules, "safetensors.torch", stand_in)
    vgg = load_vgg("vgg16", path)
    assert opened == [path]
    assert torch.equal(vgg.state_dict()["features.28.bias"], states["vgg16"]["features.28.bias"])


@pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="safetensors is optional"
)
def test_a_safetensors_file_is_read(states: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    save_file = importlib.import_module("safetensors.torch").save_file
    save_file(states["vgg16"], tmp_path / "vgg16.safetensors")
    vgg = load_vgg("vgg16", tmp_path / "vgg16.safetensors")
    for name, value in vgg.state_dict().items():
        assert torch.equal(value, states["vgg16"][name])


def test_errors_of_perceptual_loss_name_the_argument(files: dict[str, Path]) -> None:
    path = files["vgg16"]
    with pytest.raises(ValueError, match="network must be one of 'vgg16', 'vgg19', got 'vgg11'"):
        PerceptualLoss(path, network="vgg11")
    with pytest.raises(ValueError, match=r"layers must be among relu1_1.*got 'conv1_1'"):
        PerceptualLoss(path, layers=("conv1_1",))
    with pytest.raises(ValueError, match="style_layers must name at least one layer"):
        PerceptualLoss(path, style_layers=())
    loss = PerceptualLoss(path)
    image, mask = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    with pytest.raises(ValueError, match="1 or 3 channels, which is what VGG can see, got 4"):
        loss(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), mask)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels for these layers of vgg16, got 7"):
        loss(image[:, :, 1:], image[:, :, 1:], mask[:, :, 1:])
    with pytest.raises(ValueError, match="mask is needed for the composite"):
        loss(image, image)
    with pytest.raises(ValueError, match="prediction is on meta, but the VGG is on cpu"):
        loss(image.to("meta"), image.to("meta"), mask.to("meta"))
    assert all(math.isfinite(term) for term in loss(image, image, mask))
