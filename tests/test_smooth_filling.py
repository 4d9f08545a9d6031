"""The smooth filling of holes, and the network that adds to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inpaint_models import composite, create_model, fill_holes, smooth_filling
from torch import Tensor


def _picture(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*size, dtype=torch.float64).to(dtype)


def _mask(*size: int) -> Tensor:
    mask = (torch.rand(*size) > 0.3).float()
    mask[..., 3:9, 2:12] = 0
    return mask


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 9), (40, 5)])
def test_known_pixels_stay_and_holes_take_values_between_them(size: tuple[int, int]) -> None:
    image, mask = _picture(2, 3, *size), (torch.rand(2, 1, *size) > 0.4).double()
    mask[..., 0, 0] = 1
    filled = smooth_filling(image, mask)
    known = mask.bool().expand_as(image)
    assert torch.equal(filled[known], image[known])
    for n in range(2):
        for c in range(3):
            values = image[n, c][mask[n, 0].bool()]
            assert filled[n, c].min() >= values.min() - 1e-12
            assert filled[n, c].max() <= values.max() + 1e-12


def test_it_continues_what_is_smooth() -> None:
    """A constant is continued exactly, a ramp nearly so: its mean would be off by half of it."""
    rows = torch.linspace(0, 1, 64, dtype=torch.float64)
    mask = torch.ones(1, 1, 64, 64)
    mask[..., 20:44, 20:44] = 0
    flat = torch.full((1, 3, 64, 64), 0.3, dtype=torch.float64)
    torch.testing.assert_close(smooth_filling(flat, mask), flat, rtol=0, atol=1e-15)
    ramp = rows[:, None].expand(1, 1, 64, 64)
    error = (smooth_filling(ramp, mask) - ramp).abs().max()
    assert error < 0.1 * (ramp[..., 20:44, :].max() - ramp[..., 20:44, :].min())


def test_sweeps_come_closer_to_the_membrane() -> None:
    """Laplace's equation: each pixel of the hole is the mean of its neighbours."""
    image, mask = _picture(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 0

    def unrest(sweeps: int) -> float:
        x = smooth_filling(image, mask, sweeps=sweeps)
        near = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
        return float((x - near)[..., 9:23, 9:23].abs().mean())

    assert unrest(0) > 2 * unrest(2) > 4 * unrest(20)


def test_what_lies_in_a_hole_is_not_read() -> None:
    image, mask = _picture(2, 3, 20, 30), _mask(2, 1, 20, 30)
    spoilt = torch.where(mask == 0, torch.nan, image)
    assert torch.equal(smooth_filling(spoilt, mask), smooth_filling(image, mask))


def test_pictures_do_not_meet_and_one_mask_serves_all() -> None:
    image, mask = _picture(2, 3, 20, 30), _mask(1, 1, 20, 30)
    both = smooth_filling(image, mask)
    for n in range(2):
        alone = smooth_filling(image[n : n + 1], mask)
        torch.testing.assert_close(both[n : n + 1], alone, rtol=0, atol=1e-15)


def test_far_from_everything_a_hole_takes_the_mean_and_an_empty_picture_is_black() -> None:
    image, mask = _picture(1, 2, 64, 64), torch.zeros(1, 1, 64, 64)
    assert torch.equal(smooth_filling(image, mask), torch.zeros_like(image))
    mask[..., :4, :4] = 1
    filled = smooth_filling(image, mask, levels=2, sweeps=0)
    mean = filled[..., -1, -1]
    torch.testing.assert_close(filled[..., 32:, 32:], mean[..., None, None].expand(1, 2, 32, 32))
    inside = image[..., :4, :4]
    assert (mean > inside.amin((2, 3))).all()
    assert (mean < inside.amax((2, 3))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    image, mask = _picture(1, 3, 33, 20, dtype=dtype), _mask(1, 1, 33, 20)
    filled = smooth_filling(image, mask)
    assert filled.dtype == dtype
    exact = smooth_filling(image.double(), mask)
    torch.testing.assert_close(filled.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_reach_the_averages(dtype: torch.dtype) -> None:
    image, mask = _picture(1, 3, 33, 20, dtype=torch.float32), _mask(1, 1, 33, 20)
    expected = smooth_filling(image, mask)
    with torch.autocast("cpu", dtype):
        assert torch.equal(smooth_filling(image, mask), expected)


def test_gradients_reach_known_pixels_only() -> None:
    image, mask = _picture(1, 2, 9, 7).requires_grad_(), _mask(1, 1, 9, 7).double()
    assert torch.autograd.gradcheck(lambda x: smooth_filling(x, mask, 2, 1), image)
    smooth_filling(image, mask).square().sum().backward()
    assert image.grad is not None
    assert (image.grad[(mask == 0).expand_as(image)] == 0).all()


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (torch.ones(3, 8, 8), ValueError, r"image must have shape \(N, C, H, W\), got \(3, 8, 8\)"),
        (torch.ones(1, 3, 8, 0), ValueError, "image must have at least one pixel"),
        (torch.ones(1, 3, 8, 8, dtype=torch.uint8), TypeError, "image must be of a floating-point"),
        ([1.0], TypeError, "image must be a tensor, got list"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(
    image: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        smooth_filling(image, torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize(("name", "value"), [("levels", 0), ("sweeps", -1)])
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least .*, got {value}"):
        smooth_filling(_picture(1, 1, 8, 8), torch.ones(1, 1, 8, 8), **{name: value})


def test_a_residual_network_begins_as_the_smooth_filling_and_learns_from_there() -> None:
    net = create_model("pconv_unet", width=2, levels=3, residual=True).eval()
    image, mask = _picture(2, 3, 24, 20, dtype=torch.float32), _mask(2, 1, 24, 20)
    prediction = net(image, mask)
    torch.testing.assert_close(prediction, smooth_filling(image, mask, 3))
    plain = create_model("pconv_unet", width=2, levels=3)
    assert net.state_dict().keys() == plain.state_dict().keys()
    (prediction - image).abs().mean().backward()
    grad = net.get_parameter("dec1.conv.weight").grad
    assert grad is not None
    assert grad.abs().max() > 0


def test_filling_holes_alone_with_a_residual_network() -> None:
    net = create_model("pconv_unet", width=2, levels=5, residual=True).eval()
    torch.nn.init.normal_(net.get_parameter("dec1.conv.weight"), std=0.1)
    image, mask = _picture(1, 3, 96, 90, dtype=torch.float32), torch.ones(1, 1, 96, 90)
    mask[..., 10:30, 60:80] = 0
    image = torch.where(mask == 0, torch.nan, image)
    with torch.no_grad():
        expected = composite(net(image, mask), image, mask)
    torch.testing.assert_close(fill_holes(net, image, mask), expected)


def test_residual_must_be_a_bool() -> None:
    with pytest.raises(TypeError, match="residual must be True or False, got 1"):
        create_model("pconv_unet", residual=1)
