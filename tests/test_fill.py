"""`fill`: the network's prediction in the holes, every other value as it was, at any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inpaint_models import (
    composite,
    create_model,
    fill,
    fill_holes,
    levels,
    list_models,
    list_pretrained,
    load_pretrained,
    weights,
)
from inpaint_models.canvas import Canvas, enlarged
from inpaint_models.errors import UsageError
from inpaint_models.hole_boxes import Box
from inpaint_models.levels import Limits, fill_canvas
from inpaint_models.windows import Reach, plan_windows, reach_of, runs_in_windows
from model_inputs import picture, small_model
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")

WHOLE = 10_000
"""A window that is never too small."""


def trained(name: str = "pconv_unet", **options: object) -> nn.Module:
    """A small network whose norms hold statistics as training may leave them."""
    generator = torch.manual_seed(5)
    net = small_model(name, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    if name == "pconv_unet":
        # So that predictions are not all clamped.
        last = net.get_submodule("dec1.conv")
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        if net.residual:
            nn.init.normal_(last.weight, std=0.02, generator=generator)
        else:
            nn.init.constant_(last.bias, 0.5)
            last.weight.data *= 0.1
    return net.eval()


def _mask(height: int, width: int, *corners: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    known = np.ones((height, width), bool)
    for top, bottom, left, right in corners:
        known[top:bottom, left:right] = False
    return known


def _pixels(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _whole(net: nn.Module, image: Tensor, known: NDArray[np.bool_]) -> Tensor:
    mask = torch.tensor(known)[None, None]
    with torch.no_grad():
        return composite(net(image, mask).clamp(0, 1), image, mask)


SCATTERED = ((3, 9, 5, 9), (90, 97, 100, 106), (180, 186, 60, 64), (40, 44, 290, 300))


@pytest.mark.parametrize("window", [WHOLE, 160, 120])
@pytest.mark.parametrize("size", [(200, 300), (193, 305)])
@pytest.mark.parametrize("deep", [3, 4])
def test_windows_give_what_the_whole_picture_gives(
    deep: int, size: tuple[int, int], window: int
) -> None:
    net = trained(levels=deep).double()
    image = picture(1, *size, torch.float64)
    known = _mask(*size, *SCATTERED, (130, 132, 10, 280))
    filled = fill(image, torch.tensor(known), model=net, window=window)
    torch.testing.assert_close(filled, _whole(net, image, known), rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_windows_of_the_real_depth_give_what_the_whole_picture_gives(residual: bool) -> None:
    """Seven levels, which look 389 pixels far: single precision, as it is used."""
    net = trained(levels=7, width=2, residual=residual)
    size = (1100, 1300)
    image, known = picture(1, *size), _mask(*size, (20, 28, 30, 40), (1000, 1012, 1250, 1262))
    filled = fill(image, torch.tensor(known), model=net, window=1000)
    expected = _whole(net, image, known)
    assert not torch.equal(expected, image)
    torch.testing.assert_close(filled, expected, rtol=0, atol=2e-6)


def test_a_window_that_is_shifted_by_one_pixel_gives_something_else() -> None:
    """So the test of equality above can fail."""
    net = trained()
    image, known = picture(1, 128, 128), _mask(128, 128, (60, 66, 60, 66))
    shifted = _whole(net, image[:, :, 1:, 1:], known[1:, 1:])
    difference = shifted - _whole(net, image, known)[:, :, 1:, 1:]
    assert difference.abs().max() > 1e-3


def test_the_reach_is_all_that_a_prediction_depends_on_and_no_less() -> None:
    """By what each input pixel does to the prediction of some output pixels."""
    net = trained(width=2).double()
    reach = reach_of(net)
    assert reach is not None
    size, low, high = 160, 160, 160
    image = picture(1, size, size, torch.float64).requires_grad_()
    for at in range(72, 88):
        output = net(image, torch.ones(1, 1, size, size))[0, :, at, at].sum()
        (gradient,) = torch.autograd.grad(output, image)
        touched = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        low = min(low, int(touched[0]) - at)
        high = min(high, at - int(touched[-1]))
    assert (-low, -high) == (reach.before, reach.after)


def test_the_reach_of_the_published_networks() -> None:
    assert reach_of(create_model("pconv_unet", width=1)) == Reach(389, 262, 135, 128)
    assert reach_of(create_model("pconv_autoencoder", width=1)) == Reach(93, 62, 31, 32)
    assert reach_of(small_model("rn_net")) is None


def test_every_hole_is_in_a_box_and_windows_stay_within_their_size() -> None:
    reach, dice = Reach(29, 22, 15, 8), np.random.default_rng(0)
    for share in (0.0001, 0.01, 0.5):
        hole = dice.random((700, 500)) < share
        plan = plan_windows(hole, reach, 200)
        covered = np.zeros_like(hole)
        for box, window in plan:
            _, _, rows, columns = box.slices
            covered[rows, columns] = True
            assert window.holds(box)
            sides = [high - low for low, high in zip(*window, strict=True)]
            assert max(sides) <= 200
            assert all(low % reach.step == 0 for low in window.low)
            for low, inner in zip(window.low[1:], box.low[1:], strict=True):
                assert low == 0 or inner - low >= reach.before
            for high, inner, size in zip(window.high[1:], box.high[1:], hole.shape, strict=True):
                assert high == size or high - inner >= reach.after
        assert not (hole & ~covered).any()


def test_a_window_that_is_too_small_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"window must be at least \d+ for this network"):
        fill(_pixels(90, 90), _mask(90, 90, (3, 5, 3, 5)), model=trained(), window=40)


def test_memory_depends_on_the_window_and_not_on_the_picture() -> None:
    """The largest picture that the network is given, and the largest copy that is computed with."""
    net, seen = trained(levels=5, width=2), list[int]()
    net.get_submodule("enc1").register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[2] * inputs[0].shape[3])
    )
    image = np.zeros((4000, 6000, 3), np.uint8)
    image[:] = np.arange(6000)[:, None] % 251
    known = _mask(4000, 6000, (7, 19, 9, 30), (2000, 2030, 3000, 3020), (3980, 4000, 5990, 6000))
    known[1000, 100:5900] = False
    filled = fill(image, known, model=net, window=640)
    assert len(seen) > 10
    assert max(seen) <= 640**2
    assert np.array_equal(filled[known], image[known])
    # Small holes far apart: about what lies around them, not the picture.
    seen.clear()
    fill(image, _mask(4000, 6000, (7, 19, 9, 30), (3980, 4000, 5990, 6000)), model=net)
    assert sum(seen) < 2 * 400**2


def test_the_decoder_runs_on_the_holes_only() -> None:
    net, made = trained(levels=5), list[int]()
    net.get_submodule("dec1").register_forward_hook(
        lambda module, inputs, out: made.append(out[1].numel())
    )
    fill(_pixels(512, 512), _mask(512, 512, (200, 220, 200, 220)), model=net)
    assert sum(made) < 40**2


@pytest.mark.parametrize("name", list_models())
def test_every_network_fills_and_leaves_what_is_known(name: str) -> None:
    net = trained(name)
    image, known = _pixels(72, 80), _mask(72, 80, (20, 40, 30, 50), (0, 3, 0, 3))
    filled = fill(image, known, model=net)
    assert np.array_equal(filled[known], image[known])
    assert not np.array_equal(filled, image)
    # What lies in the hole is never read.
    image[~known] = 77
    assert np.array_equal(fill(image, known, model=net), filled)


@pytest.mark.parametrize("name", ["rn_net", "cgan_pc_rn", "vanilla_autoencoder", "unet_like"])
def test_networks_that_see_pictures_whole(name: str) -> None:
    """They do so up to the window's area; beyond, they are refused, or get a smaller copy."""
    net = trained(name)
    assert not runs_in_windows(net)
    image, known = picture(1, 64, 96), _mask(64, 96, (20, 24, 30, 34))
    shown = torch.where(torch.tensor(known), image, 0)  # blind ones see black
    expected = composite(_whole(net, shown, known), image, torch.tensor(known)[None, None])
    filled = fill(image, torch.tensor(known), model=net, window=79)
    torch.testing.assert_close(filled, expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"has to see a picture whole, and 64 x 96 pixels.*shrink"):
        fill(image, torch.tensor(known), model=net, window=70)
    smaller = fill(image, torch.tensor(known), model=net, window=70, shrink=True)
    half = fill(image, torch.tensor(known), model=net, window=48, shrink=True)
    assert torch.equal(smaller, half)
    assert torch.equal(smaller[:, :, known], image[:, :, known])
    assert 0 < smaller[:, :, ~known].mean() < 1


def test_region_norms_in_the_encoder_alone_are_not_run_in_windows() -> None:
    net = trained()
    assert runs_in_windows(net)
    net.get_submodule("enc2").norm = trained("cgan_pc_rn").get_submodule("enc2.norm")
    assert not runs_in_windows(net)


class TestDeepHoles:
    def test_the_network_alone_predicts_near_what_is_known(self) -> None:
        net = trained(levels=4)
        image, known = picture(1, 96, 96), _mask(96, 96, (20, 80, 20, 80))
        filled, whole = fill(image, torch.tensor(known), model=net), _whole(net, image, known)
        near = np.zeros_like(known)
        near[20:80, 20:80] = True
        near[24:76, 24:76] = False
        torch.testing.assert_close(filled[:, :, near], whole[:, :, near], rtol=0, atol=1e-6)
        assert (filled - whole).abs().max() > 1e-3

    def test_the_middle_is_the_smaller_copys(self) -> None:
        net = trained(levels=4)
        image, known = picture(1, 96, 96), _mask(96, 96, (20, 80, 20, 80))
        filled = fill(image, torch.tensor(known), model=net)
        one = np.ones((3, 1, 1), np.float32)
        half = Canvas(image[0].numpy().copy(), known, 0 * one, one).halved()
        fill_canvas(net, half, Limits())
        expected = enlarged(half.values, 2, Box((0, 45, 45), (1, 55, 55)))
        torch.testing.assert_close(filled[:, :, 45:55, 45:55], expected, rtol=0, atol=1e-6)

    def test_a_hole_out_of_sight_is_filled(self) -> None:
        """Where the network alone predicts nothing, 0."""
        net = trained(levels=2)
        image, known = torch.full((1, 3, 256, 256), 0.8), _mask(256, 256, (30, 226, 30, 226))
        assert (_whole(net, image, known)[:, :, 128, 128] == 0).all()
        filled = fill(image, torch.tensor(known), model=net)
        assert (filled[0].amax(0) > 0).all()

    def test_the_networks_share_has_no_seams(self) -> None:
        known = _mask(200, 203, (5, 190, 10, 200))
        depth = levels._Depth(known, 64)
        share = depth.share(Box((0, 0, 0), (1, 200, 203)))[0, 0]
        assert share.min() == 0
        assert (share[torch.tensor(known)] == 1).all()
        steps = torch.cat([share.diff(dim=0).flatten(), share.diff(dim=1).flatten()]).abs()
        assert steps.max() <= 1 / (4 * 8) + 1e-6
        # In parts it is the same.
        part = depth.share(Box((0, 37, 51), (1, 90, 140)))[0, 0]
        torch.testing.assert_close(part, share[37:90, 51:140])

    def test_windows_change_nothing(self) -> None:
        net = trained().double()
        image, known = picture(1, 260, 200, torch.float64), _mask(260, 200, (20, 240, 15, 180))
        mask = torch.tensor(known)
        pair = [fill(image, mask, model=net, window=window) for window in (WHOLE, 100)]
        torch.testing.assert_close(*pair, rtol=0, atol=1e-6)

    def test_a_larger_depth_leaves_more_to_the_network(self) -> None:
        net = trained(levels=5)
        image, known = picture(1, 96, 96), _mask(96, 96, (30, 50, 30, 50))
        whole = _whole(net, image, known)
        mask = torch.tensor(known)
        far = fill(image, mask, model=net, depth=64)
        torch.testing.assert_close(far, whole, rtol=0, atol=1e-6)
        assert (fill(image, mask, model=net, depth=8) - whole).abs().max() > 1e-3
        with pytest.raises(ValueError, match="depth must be at least 8, got 7"):
            fill(image, mask, model=net, depth=7)


def test_halving_takes_the_mean_of_what_is_known() -> None:
    values = np.array([[[8, 4, 1], [2, 99, 99], [5, 7, 3]]], np.uint8)
    known = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], bool)
    low, high = np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 255, np.float32)
    half = Canvas(values, known, low, high).halved()
    assert half.known.tolist() == [[True, False], [True, True]]
    expected = np.array([[14 / 3, 0], [7, 3]])
    assert np.allclose(half.values[0] * 255, expected)


KINDS: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "uint8": lambda x: x,
    "uint16": lambda x: x.astype(np.uint16) * 257,
    "float32": lambda x: x.astype(np.float32) / 255,
    "float64": lambda x: x.astype(np.float64) / 255,
    "float16": lambda x: (x / 255).astype(np.float16),
    "big-endian": lambda x: (x / 255).astype(">f4"),
    "grey": lambda x: x[:, :, 0],
    "one channel": lambda x: x[:, :, :1],
    "not contiguous": lambda x: x[:, ::-1],
    "read-only": lambda x: np.broadcast_to(x[:, :1], x.shape),
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_come_back_as_they_were(kind: str) -> None:
    image, known = KINDS[kind](_pixels(40, 50)), _mask(40, 50, (10, 20, 12, 30))
    before = image.copy()
    filled = fill(image, known, model=trained())
    assert type(filled) is np.ndarray
    assert (filled.shape, filled.dtype) == (image.shape, image.dtype)
    assert filled[known].tobytes() == image[known].tobytes()
    assert not np.array_equal(filled[~known], image[~known])
    assert np.array_equal(image, before)
    white = {"u1": 255, "u2": 65535}.get(filled.dtype.str[1:], 1)
    assert filled.max() <= white
    assert filled.min() >= 0
    # Spread over the range: in units of this dtype.
    assert 0.02 < filled[~known].astype(float).mean() / white < 0.98


def test_all_dtypes_are_filled_alike() -> None:
    pixels, known, net = _pixels(40, 50), _mask(40, 50, (10, 20, 12, 30)), trained()
    bytes_, words, floats = (
        fill(KINDS[kind](pixels), known, model=net) for kind in ("uint8", "uint16", "float64")
    )
    assert np.abs(bytes_ / 255 - floats).max() <= 0.5 / 255 + 1e-6
    assert np.abs(words / 65535 - floats).max() <= 0.5 / 65535 + 1e-6


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.uint16],
)
@pytest.mark.parametrize("shape", [(3, 40, 50), (2, 3, 40, 50), (40, 50), (2, 1, 40, 50)])
def test_tensors_come_back_as_they_were(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = torch.rand(shape)
    image = image.to(dtype) if dtype.is_floating_point else (image * 255).to(torch.uint8).to(dtype)
    known = torch.tensor(_mask(40, 50, (10, 20, 12, 30)))
    filled = fill(image, known, model=trained())
    assert (filled.shape, filled.dtype) == (image.shape, dtype)
    assert torch.equal(filled.double()[..., known], image.double()[..., known])
    assert not torch.equal(filled.double(), image.double())


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16", "RGBA", "LA"])
def test_pictures_of_pillow_come_back_as_they_were(mode: str) -> None:
    pixels, known = _pixels(40, 50), _mask(40, 50, (10, 20, 12, 30))
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    if mode in ("RGBA", "LA"):
        alpha = np.full((40, 50), 255, np.uint8)
        alpha[0] = 30
        image.putalpha(Image.fromarray(alpha))
    image.info["dpi"] = (300, 300)
    filled = fill(image, Image.fromarray(known.astype(np.uint8) * 255), model=trained())
    assert (filled.mode, filled.size, filled.info) == (mode, image.size, image.info)
    assert np.array_equal(np.asarray(filled)[known], np.asarray(image)[known])
    assert not np.array_equal(np.asarray(filled), np.asarray(image))


def test_alpha_is_the_mask_of_a_picture_without_one() -> None:
    """All that is not fully opaque is filled, and becomes opaque."""
    pixels, alpha = _pixels(40, 50), np.full((40, 50), 255, np.uint8)
    alpha[10:20, 12:30] = 0
    alpha[9, 12:30] = 254
    image = Image.fromarray(np.dstack([pixels, alpha]))
    filled = fill(image, model=trained())
    assert filled.mode == "RGBA"
    assert filled.getchannel("A").getextrema() == (255, 255)
    expected = fill(pixels, alpha == 255, model=trained())
    assert np.array_equal(np.asarray(filled)[:, :, :3], expected)
    with pytest.raises(ValueError, match="mask must be given with a picture of mode RGB"):
        fill(image.convert("RGB"), model=trained())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_do_not_wrap_around(dtype: str) -> None:
    """White is above what the dtype holds, and the network predicts white."""
    net = trained()
    last = net.get_submodule("dec1.conv")
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    nn.init.constant_(last.bias, 9)
    most = int(np.iinfo(dtype).max)
    image, known = np.full((40, 50, 3), most, dtype), _mask(40, 50, (10, 20, 12, 30))
    filled = fill(image, known, model=net, value_range=(-most, most * 1.2))
    assert (filled == most).all()
    nn.init.constant_(last.bias, -9)
    filled = fill(image, known, model=net, value_range=(-most, most * 1.2))
    assert (filled[~known] == 0).all()


def test_a_grey_picture_is_filled_by_the_mean_of_three_channels() -> None:
    net, image, known = trained(), picture(1, 40, 50, channels=1), _mask(40, 50, (10, 16, 12, 30))
    expected = _whole(net, image.expand(-1, 3, -1, -1), known).mean(1, keepdim=True)
    filled = fill(image, torch.tensor(known), model=net)
    torch.testing.assert_close(filled, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        lambda known: known,
        lambda known: known.astype(np.uint8) * 255,
        lambda known: known.astype(np.int64),
        lambda known: known.astype(np.float64),
        lambda known: np.where(known, 1, 0.99).astype(np.float32),
        lambda known: known[::-1, ::-1].copy()[::-1, ::-1],  # strides that torch does not know
        lambda known: known[None],
        lambda known: known[:, :, None],
        lambda known: known[None, None],
        torch.tensor,
        lambda known: torch.tensor(known)[None, None].to(torch.bfloat16),
        Image.fromarray,
        lambda known: Image.fromarray(known.astype(np.uint8) * 255),
    ],
)
def test_masks_of_every_kind_mean_the_same(mask: Callable[[NDArray[np.bool_]], Any]) -> None:
    pixels, known = _pixels(40, 50), _mask(40, 50, (10, 20, 12, 30))
    net = trained()
    assert np.array_equal(fill(pixels, mask(known), model=net), fill(pixels, known, model=net))


def test_several_pictures_have_a_mask_each_or_one_for_all() -> None:
    net, images = trained(), picture(2, 40, 50)
    known = np.stack([_mask(40, 50, (10, 20, 12, 30)), _mask(40, 50, (1, 5, 2, 6))])
    expected = torch.cat([fill(images[i : i + 1], known[i], model=net) for i in range(2)])
    for mask in (known, known[:, None], torch.tensor(known)):
        assert torch.equal(fill(images, mask, model=net), expected)
    both = fill(images, known[0], model=net)
    assert torch.equal(both[:1], expected[:1])
    assert torch.equal(both[1][:, known[0]], images[1][:, known[0]])


class _Half(nn.Module):
    """A network without parameters."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return torch.full_like(image, 0.5)


def test_a_network_without_parameters_fills() -> None:
    image, known = picture(1, 40, 50), _mask(40, 50, (10, 20, 12, 30))
    filled = fill(image, known, model=_Half().eval())
    assert (filled[:, :, ~known] == 0.5).all()


def test_nothing_to_fill_gives_a_copy() -> None:
    image = _pixels(20, 30)
    filled = fill(image, np.ones((20, 30), bool), model=trained())
    assert np.array_equal(filled, image)
    assert not np.shares_memory(filled, image)


def test_axes_say_what_is_what() -> None:
    net = trained()
    image, known = picture(2, 40, 50).numpy(), _mask(40, 50, (10, 20, 12, 30))
    expected = fill(torch.from_numpy(image), known, model=net).numpy()
    for axes in ("NCHW", "NHWC", "HWNC", "WCHN"):
        turned = image.transpose(["NCHW".index(letter) for letter in axes])
        filled = fill(turned, known, model=net, axes=axes)
        back = filled.transpose([axes.index(letter) for letter in "NCHW"])
        assert np.array_equal(back, expected), axes
    tensor = torch.from_numpy(image).permute(0, 2, 3, 1)
    assert np.array_equal(
        fill(tensor, known, model=net, axes="NHWC").numpy(), expected.transpose(0, 2, 3, 1)
    )


LONG = np.dtype(np.longdouble)

REFUSED: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "no image": (
        TypeError,
        "image must be a tensor, a NumPy array",
        lambda: fill("x.png", model=trained()),  # type: ignore[type-var]
    ),
    "all hole": (
        ValueError,
        "image has no known pixel",
        lambda: _try(known=np.zeros((9, 12), bool)),
    ),
    "one is all hole": (
        ValueError,
        "image 1 has no known pixel",
        lambda: fill(
            picture(2, 9, 12),
            np.stack([_mask(9, 12, (0, 1, 0, 1)), np.zeros((9, 12), bool)]),
            model=trained(),
        ),
    ),
    "other size": (
        ValueError,
        r"mask must have shape \(9, 12\).* of 12 x 9 pixels, got \(12, 9\)",
        lambda: _try(known=np.zeros((12, 9), bool)),
    ),
    "mask's type": (
        TypeError,
        "mask must be a tensor, a NumPy array or a picture of Pillow, got list",
        lambda: _try(known=[1]),
    ),
    "mask's dtype": (
        TypeError,
        "mask must be of a bool, integer or float dtype, got complex",
        lambda: _try(known=np.zeros((9, 12), complex)),
    ),
    "mask of grey": (
        ValueError,
        r"mask of dtype torch.uint8 must hold 0 \(hole\) and one other",
        lambda: _try(known=_pixels(9, 12)[:, :, 0]),
    ),
    "mask above one": (
        ValueError,
        r"mask must hold values in \[0, 1\]",
        lambda: _try(known=np.full((9, 12), 255.0)),
    ),
    "no mask": (
        ValueError,
        "mask must be given with an image of dtype uint8",
        lambda: fill(_pixels(9, 12), model=trained()),
    ),
    "values": (
        ValueError,
        r"image must hold values from 0 to 1 .* from -?\d.*value_range",
        lambda: _try(image=_pixels(9, 12).astype(float)),
    ),
    "infinite": (
        ValueError,
        "image must be finite where it is known",
        lambda: _try(image=np.full((9, 12), np.inf)),
    ),
    "NaN": (
        ValueError,
        "image must be finite where it is known",
        lambda: _try(image=np.full((9, 12), np.nan)),
    ),
    "dtype": (
        TypeError,
        "image must be of dtype uint8, uint16 or floating-point of up to 64 bits, got int64",
        lambda: _try(image=np.zeros((9, 12), int)),
    ),
    "long floats": (
        TypeError,
        f"floating-point of up to 64 bits, got {LONG}",
        lambda: _try(image=np.zeros((9, 12), LONG)),
    ),
    "shape": (
        ValueError,
        r"image must have shape \(H, W\).*got \(3, 9, 12\); or give axes",
        lambda: _try(image=np.zeros((3, 9, 12))),
    ),
    "tensor's shape": (
        ValueError,
        r"image must have shape \(C, H, W\)",
        lambda: _try(image=torch.zeros(12)),
    ),
    "axes": (
        ValueError,
        "axes must have one letter for each of the image's 3 axes",
        lambda: _try(image=np.zeros((3, 9, 12)), axes="CH"),
    ),
    "axes twice": (
        ValueError,
        "axes must have one letter",
        lambda: _try(image=np.zeros((3, 9, 12)), axes="HHW"),
    ),
    "axes' letters": (
        ValueError,
        "axes must have one letter",
        lambda: _try(image=np.zeros((3, 9, 12)), axes="THW"),
    ),
    "channels": (
        ValueError,
        "image must have 3 channels, as many as the model takes, or 1, got 4",
        lambda: _try(image=torch.zeros(4, 9, 12)),
    ),
    "empty": (
        ValueError,
        "image must have at least one pixel",
        lambda: _try(image=np.zeros((0, 12))),
    ),
    "range": (
        ValueError,
        "value_range must be two finite numbers",
        lambda: _try(image=np.zeros((9, 12)), value_range=(1, 0)),
    ),
    "range's word": (
        ValueError,
        "value_range must be two finite numbers",
        lambda: _try(image=np.zeros((9, 12)), value_range="all"),
    ),
    "span": (
        ValueError,
        "image must hold values whose span its dtype can hold, got values from -3e\\+38 to 3e\\+38",
        lambda: _try(
            image=np.tile(np.array([-3e38, 3e38], np.float32), (9, 6)), value_range="known"
        ),
    ),
    "mode": (
        ValueError,
        "image must be of mode RGB, L, .*got CMYK",
        lambda: _try(image=Image.new("CMYK", (12, 9))),
    ),
    "axes of Pillow": (
        ValueError,
        "axes='HW': pictures of Pillow have theirs",
        lambda: _try(image=Image.new("L", (12, 9)), axes="HW"),
    ),
    "training": (
        ValueError,
        "model must be in evaluation mode",
        lambda: _try(model=trained().train()),
    ),
    "model": (
        TypeError,
        "model must be a name, a path or a network, got int",
        lambda: _try(model=3),
    ),
    "window": (ValueError, "window must be at least 1", lambda: _try(window=0)),
}


def _try(image: Any = None, known: Any = None, **arguments: Any) -> Any:
    image = _pixels(9, 12) if image is None else image
    known = _mask(9, 12, (2, 4, 3, 5)) if known is None else known
    return fill(image, known, **{"model": trained(), **arguments})


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_filled_is_refused_with_a_reason(case: str) -> None:
    error, said, call = REFUSED[case]
    with pytest.raises(error, match=said):
        call()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Weights in the box: "compact", in half precision."""
    net = trained()
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    metadata = {"model": "pconv_unet", "options": '{"width": 4, "levels": 3}'}
    save_file(tensors, tmp_path / "compact.safetensors", metadata)
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    net.load_state_dict(tensors)
    return net


def test_weights_in_the_box_are_found_by_name(shipped: nn.Module, tmp_path: Path) -> None:
    assert list_pretrained() == ["compact"]
    net = load_pretrained()
    assert not net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, shipped.state_dict()[name])
        assert value.dtype in (torch.float32, torch.int64)
    pixels, known = _pixels(40, 50), _mask(40, 50, (10, 20, 12, 30))
    expected = fill(pixels, known, model=shipped)
    assert np.array_equal(fill(pixels, known, model=tmp_path / "compact.safetensors"), expected)
    with pytest.raises(UsageError, match=r"unknown pretrained model 'compakt'; did you mean 'comp"):
        load_pretrained("compakt")


def test_every_network_in_the_box_loads_and_is_small() -> None:
    for name in list_pretrained():
        assert (weights.PRETRAINED / f"{name}.safetensors").stat().st_size <= 8 * 2**20
        assert not load_pretrained(name).training


def test_a_network_is_loaded_without_what_training_needs(
    shipped: nn.Module, tmp_path: Path
) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "absent = ['cv2', 'webdataset', 'omegaconf', 'lightning_fabric', 'torchmetrics', 'yaml',\n"
        "          'matplotlib', 'xarray', 'netCDF4']\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import numpy, inpaint_models\n"
        "known = numpy.ones((9, 9), bool)\n"
        "known[3, 3] = False\n"
        "image = numpy.full((9, 9), 0.5)\n"
        "filled = inpaint_models.fill(image, known, model=sys.argv[1])\n"
        "assert (filled != image).sum() == 1\n"
    )
    path = tmp_path / "compact.safetensors"
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=120)


def test_only_what_is_in_a_box_is_filled() -> None:
    net, image = trained(), picture(1, 64, 64)
    mask = torch.tensor(_mask(64, 64, (5, 9, 5, 9), (40, 50, 40, 50)))[None, None]
    some = fill_holes(net, image, mask, only=Box((0, 30, 30), (1, 64, 64)))
    every = fill_holes(net, image, mask)
    assert torch.equal(some[..., :30, :30], image[..., :30, :30])
    torch.testing.assert_close(some[..., 30:, 30:], every[..., 30:, 30:])
