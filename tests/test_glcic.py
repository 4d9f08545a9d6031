"""Bernikov et al.'s completion networks, their discriminator, and crops around holes."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from inpaint_models import create_discriminator, create_model
from inpaint_models.composite import blend
from inpaint_models.crops import _hole_boxes, crop, hole_corners, random_corners
from inpaint_models.glcic import DynamicAttention, GlcicDam
from inpaint_models.padding import pad_with_holes
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ["glcic", "glcic_dam", "glcic_unet"]


def picture(n: int, h: int, w: int, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(n, channels, h, w, generator=torch.Generator().manual_seed(seed))


def holes(n: int, h: int, w: int) -> Tensor:
    mask = torch.ones(n, 1, h, w)
    mask[:, :, h // 4 : h // 2, w // 3 : w - 3] = 0
    mask[0, :, :2, :3] = 0
    return mask


def small(name: str, **options: object) -> nn.Module:
    """PyTorch's default weights shrink a signal layer by layer: without batch norm's statistics,
    too little of it would be left to compare."""
    torch.manual_seed(0)
    net = create_model(name, width=4, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.mul_(2.5)
    return net


def check_gradients(net: nn.Module) -> None:
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # Batch norm cancels a bias before it, up to rounding.
        if not key.endswith("conv.bias"):
            assert parameter.grad.abs().max() > 0, key


# Counts and sizes ---------------------------------------------------------------------------


def test_parameter_counts_follow_from_the_table() -> None:
    def layers(rows: list[tuple[int, int, int]]) -> int:
        return sum(a * b * k * k + 3 * b for a, b, k in rows)  # weight, bias, norm's two

    table = [(4, 64, 5), (64, 128, 3), (128, 128, 3), (128, 256, 3), *[(256, 256, 3)] * 8]
    table += [(256, 128, 4), (128, 128, 3), (128, 64, 4), (64, 32, 3)]
    glcic = layers(table) + 32 * 3 * 9 + 3
    assert glcic == 6_072_131
    dam = sum((c + s) * c + c + c + 1 for c, s in [(256, 256), (128, 128), (64, 64), (32, 0)])
    shared = layers([(3, 64, 5), (64, 128, 5), (128, 256, 5), (256, 512, 5), (512, 512, 5)])
    critic = 2 * shared + layers([(512, 512, 5)]) + 2 * (512 * 16 * 1024 + 1024) + 2049
    assert critic == 45_063_681
    widths = [4, 64, 128, 256, 512, 1024]
    unet = sum(9 * b * (a + b) + 4 * b for a, b in pairwise(widths))
    unet += sum(4 * 2 * b * b + b + 9 * b * 3 * b + 4 * b for b in widths[1:-1]) + 64 * 3 + 3
    with torch.device("meta"):
        nets = [create_model(name) for name in MODELS] + [create_discriminator("glcic")]
    counts = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert counts == [glcic, glcic + dam, unet, critic]


@pytest.mark.parametrize("name", MODELS)
def test_padding_is_a_hole(name: str) -> None:
    """An image of odd size is the corner of a larger one that is a hole elsewhere."""
    net = small(name).eval()
    image, mask = picture(2, 32, 48), holes(2, 32, 48)
    mask[:, :, 29:] = 0
    mask[:, :, :, 45:] = 0
    with torch.no_grad():
        want = net(image, mask)[..., :29, :45]
        got = net(image[..., :29, :45], mask[..., :29, :45])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", MODELS)
def test_channels_and_options(name: str) -> None:
    net = small(name, in_channels=2, fill=[0.25, 0.5])
    assert net(picture(2, 16, 16, 2), holes(2, 16, 16)).shape == (2, 2, 16, 16)
    for fill in ([0.1, 0.2], float("nan"), "0.5", None):
        with pytest.raises(ValueError, match="fill must be a finite number or 3 of them, got"):
            create_model(name, fill=fill)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        create_model(name, in_channels=0)
    with pytest.raises(ValueError, match="width must be at least"):
        create_model(name, width=0)


@pytest.mark.parametrize(("name", "side"), [("glcic", 4), ("glcic_dam", 3), ("glcic_unet", 16)])
def test_one_value_is_too_few_for_batch_norm(name: str, side: int) -> None:
    net = small(name)
    image, mask = picture(1, side, side), torch.ones(1, 1, side, side)
    with pytest.raises(ValueError, match=f"image of size {side} x {side} at batch size 1 leaves"):
        net(image, mask)
    assert net.eval()(image, mask).isfinite().all()
    net.train()
    assert net(picture(1, side, side + 16), torch.ones(1, 1, side, side + 16)).isfinite().all()


# Holes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_fill_is_what_holes_hold_in_the_input(name: str) -> None:
    image, mask = picture(2, 16, 16), holes(2, 16, 16)
    seen: list[Tensor] = []
    net = small(name, fill=(0.1, 0.2, 0.3)).eval()
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net(image, mask)
    values = torch.tensor([0.1, 0.2, 0.3])[:, None, None].expand_as(image)
    assert torch.equal(seen[0][:, :3], torch.where(mask == 1, image, values))
    assert torch.equal(seen[0][:, 3:], 1 - mask)


def test_blend_selects_and_mixes() -> None:
    known, other = picture(1, 4, 4).requires_grad_(), picture(1, 4, 4, seed=2).requires_grad_()
    mask = torch.tensor([0.0, 0.25, 1.0, 1.0]).expand(1, 1, 4, 4)
    nan = float("nan")
    poisoned_known = torch.where(mask == 0, nan, known)
    poisoned_other = torch.where(mask == 1, nan, other)
    out = blend(poisoned_known, mask, poisoned_other)
    torch.testing.assert_close(out, mask * known + (1 - mask) * other)
    assert torch.equal(out[..., 2:], known[..., 2:])
    out.sum().backward()
    assert known.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(known.grad, mask.expand(1, 3, 4, 4))
    torch.testing.assert_close(other.grad, (1 - mask).expand(1, 3, 4, 4))


def test_pad_with_holes() -> None:
    image, mask = pad_with_holes(torch.ones(1, 3, 5, 8), torch.ones(1, 1, 5, 8), 4)
    assert image.shape == (1, 3, 8, 8)
    assert mask[..., :5, :].sum() == mask.sum() == 40
    same = pad_with_holes(image, mask, 8)
    assert same[0] is image
    assert same[1] is mask


# The networks by their papers' words --------------------------------------------------------


@pytest.mark.parametrize("name", ["glcic", "glcic_dam"])
def test_equals_the_table_in_plain_calls(name: str) -> None:
    net = small(name).eval()
    image, mask = picture(2, 24, 32), holes(2, 24, 32)
    p = dict(net.named_parameters())
    x = torch.cat([torch.where(mask == 1, image, 0.5), 1 - mask], 1)
    kept, maps = {}, []
    dilations = {7: 2, 8: 4, 9: 8, 10: 16}
    for i in range(1, 18):
        weight, bias = p[f"layer{i}.conv.weight"], p[f"layer{i}.conv.bias"]
        if i in (13, 15):
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
        else:
            d = dilations.get(i, 1)
            stride = 2 if i in (2, 4) else 1
            padding = 2 if i == 1 else d
            x = F.conv2d(x, weight, bias, stride=stride, padding=padding, dilation=d)
        if i == 17:
            break
        # A fresh norm in evaluation divides by sqrt(1 + eps) alone.
        kept[i] = x = (x / math.sqrt(1 + 1e-5)).relu()
        if name == "glcic_dam" and i in (12, 14, 15, 16):
            skip = {12: 6, 14: 3, 15: 1}.get(i)
            joined = x if skip is None else torch.cat([x, kept[skip]], 1)
            f = F.conv2d(joined, p[f"dam{i}.feature.weight"], p[f"dam{i}.feature.bias"])
            m = F.conv2d(f, p[f"dam{i}.attention.weight"], p[f"dam{i}.attention.bias"]).sigmoid()
            maps.append(m)
            x = f + m * f
    torch.testing.assert_close(net(image, mask), x.sigmoid(), rtol=1e-4, atol=1e-6)
    if isinstance(net, GlcicDam):
        got = net.forward_with_attention(image, mask)[1]
        for i, factor in enumerate((4, 2, 1, 1)):
            want = maps[i]
            if factor > 1:
                want = F.interpolate(want, (24, 32), mode="bilinear")
            torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (27, 41), (2, 3)])
def test_attention_maps_have_the_image_size_and_reach_their_parameters(
    size: tuple[int, int],
) -> None:
    net = small("glcic_dam")
    assert isinstance(net, GlcicDam)
    image, mask = picture(2, *size), holes(2, *size)
    twin = copy.deepcopy(net)
    output, maps = net.forward_with_attention(image, mask)
    assert torch.equal(output, twin(image, mask))
    assert [tuple(m.shape) for m in maps] == [(2, 1, *size)] * 4
    assert all(((m > 0) & (m < 1)).all() for m in maps)
    sum(m.mean() for m in maps).backward()  # type: ignore[union-attr]
    for i in (12, 14, 15, 16):
        for part in ("feature", "attention"):
            grad = net.get_parameter(f"dam{i}.{part}.weight").grad
            assert grad is not None
            assert grad.isfinite().all()
            assert grad.abs().max() > 0
    # The last layer sees the maps, they do not see it.
    assert net.get_parameter("layer17.conv.weight").grad is None


def test_attention_block_doubles_what_it_takes_for_fake() -> None:
    block = DynamicAttention(2, 0)
    x = picture(1, 3, 3, channels=2)
    for bias, factor in ((-100.0, 1.0), (100.0, 2.0)):
        nn.init.zeros_(block.attention.weight)
        nn.init.constant_(block.attention.bias, bias)  # type: ignore[arg-type]
        torch.testing.assert_close(block(x, None)[0], factor * block.feature(x))


# Crops --------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((20, 30, 30, 44), (9, 21)),  # in the middle: evenly enlarged
        ((0, 8, 50, 64), (0, 32)),  # at the edges: moved inside
        ((40, 48, 0, 3), (16, 0)),
        ((31, 32, 31, 32), (15, 15)),
    ],
)
def test_crop_is_centred_on_the_hole_and_holds_it(
    box: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    top, bottom, left, right = box
    mask = torch.ones(1, 1, 48, 64)
    mask[..., top:bottom, left:right] = 0
    corners = hole_corners(mask, 32)
    assert corners.tolist() == [list(corner)]
    assert (crop(mask, corners, 32) == 0).sum() == (mask == 0).sum()


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.2, 0.35, 0.6, 1.0])
def test_boxes_of_holes_are_those_that_opencv_finds(ratio: float) -> None:
    hole = torch.rand(4, 37, 23, generator=seeded()) < ratio
    hole[1] = False
    found = zip(*(part.tolist() for part in _hole_boxes(hole)), strict=True)
    expected = []
    for i, picture in enumerate(hole.numpy().astype(np.uint8)):
        _, _, boxes, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
        for left, top, width, height, _ in boxes[1:].tolist():
            expected.append((i, top, top + height - 1, left, left + width - 1))
    assert sorted(found) == sorted(expected)


def test_several_holes_are_each_chosen_and_seeds_repeat() -> None:
    mask = torch.ones(1, 1, 40, 60)
    mask[..., 2:8, 2:8] = 0  # large and small ones count the same
    mask[..., 30, 30] = 0
    mask[..., 10:12, 50:52] = 0
    mask[..., 12, 52] = 0  # touches by a corner: the same hole
    many = mask.expand(120, 1, 40, 60)
    corners = hole_corners(many, 10, seeded())
    found, counts = torch.unique(corners, dim=0, return_counts=True)
    assert found.tolist() == [[0, 0], [6, 46], [25, 25]]
    assert counts.min() > 20
    assert torch.equal(corners, hole_corners(many, 10, seeded()))
    assert not torch.equal(corners, hole_corners(many, 10, seeded(1)))


def test_holes_that_wind_are_one_hole() -> None:
    """A spiral: its ends are far apart, and its box is the image."""
    mask = torch.ones(2, 1, 41, 41)
    for k in range(0, 20, 2):
        mask[0, 0, k, max(k - 2, 0) : 41 - k] = 0
        mask[0, 0, k : 41 - k, 40 - k] = 0
        mask[0, 0, 40 - k, k : 41 - k] = 0
        mask[0, 0, k + 2 : 41 - k, k] = 0
    mask[1, 0, 0, 0] = 0
    for seed in range(5):
        # The spiral's middle, and the other image's own hole.
        assert hole_corners(mask, 11, seeded(seed)).tolist() == [[15, 15], [0, 0]]


def test_no_hole_and_all_hole() -> None:
    free = hole_corners(torch.ones(200, 1, 20, 30), 16, seeded())
    assert free.shape == (200, 2)
    assert free.amin(0).tolist() == [0, 0]
    assert free.amax(0).tolist() == [4, 14]
    assert hole_corners(torch.zeros(1, 1, 20, 30), 16).tolist() == [[2, 7]]
    assert hole_corners(torch.zeros(1, 1, 16, 16, dtype=torch.bool), 16).tolist() == [[0, 0]]


def test_random_corners_reach_every_place() -> None:
    corners = random_corners(500, 6, 5, 4, seeded())
    assert len(torch.unique(corners, dim=0)) == 3 * 2
    assert torch.equal(corners, random_corners(500, 6, 5, 4, seeded()))


def test_crop_takes_the_pixels_and_returns_their_gradient() -> None:
    image = picture(2, 9, 7).requires_grad_()
    corners = torch.tensor([[0, 3], [5, 1]])
    got = crop(image, corners, 4)
    assert torch.equal(got[0], image[0, :, 0:4, 3:7])
    assert torch.equal(got[1], image[1, :, 5:9, 1:5])
    got.sum().backward()
    assert image.grad is not None
    assert image.grad.sum() == 2 * 3 * 16
    assert (image.grad[1, :, 5:9, 1:5] == 1).all()


def test_bad_crops() -> None:
    mask = torch.ones(2, 1, 16, 20)
    with pytest.raises(ValueError, match="size must be at most the image's 16 x 20, got 17"):
        hole_corners(mask, 17)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        random_corners(1, 4, 4, 0)
    with pytest.raises(ValueError, match=r"mask must have shape \(N, 1, H, W\), got \(2, 16, 20\)"):
        hole_corners(mask[:, 0], 8)
    with pytest.raises(ValueError, match=r"corners must have shape \(2, 2\), got \(1, 2\)"):
        crop(mask, torch.zeros(1, 2, dtype=torch.int64), 8)
    with pytest.raises(ValueError, match=r"inside the image of 16 x 20, got \(9, 0\)"):
        crop(mask, torch.tensor([[0, 0], [9, 0]]), 8)


# Discriminator ------------------------------------------------------------------------------


def critic(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return create_discriminator("glcic", width=2, **options)


@pytest.mark.parametrize("sizes", [(64, 32), (50, 17), (3, 1)])
def test_discriminator_sizes_and_gradients(sizes: tuple[int, int]) -> None:
    net = critic(image_size=sizes[0], local_size=sizes[1], in_channels=2)
    image = picture(4, sizes[0], sizes[0], 2).requires_grad_()
    local = picture(4, sizes[1], sizes[1], 2).requires_grad_()
    logits = net(image, local)
    assert logits.shape == (4, 1)
    (logits * torch.tensor([[1.0], [2.0], [-1.0], [4.0]])).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert image.grad is not None
    assert local.grad is not None
    assert image.grad.isfinite().all()
    assert local.grad.isfinite().all()


def test_discriminator_hears_both_parts_and_gives_logits() -> None:
    net = critic(image_size=64, local_size=32).eval()
    image, local = picture(2, 64, 64), picture(2, 32, 32, seed=3)
    with torch.no_grad():
        base = net(image, local)
        assert not torch.equal(base, net(1 - image, local))
        assert not torch.equal(base, net(image, 1 - local))
        net.get_parameter("last.bias").fill_(-9.0)
        assert (net(image, local) < 0).all()
    for part, layers in (("global_convs", 6), ("local_convs", 5)):
        assert len(net.get_submodule(part)) == layers  # type: ignore[arg-type]


def test_discriminator_bad_input() -> None:
    net = critic(image_size=64, local_size=32)
    image, local = picture(2, 64, 64), picture(2, 32, 32)
    with pytest.raises(ValueError, match=r"image must be 64 x 64, the size that .* got 64 x 63"):
        net(image[..., :63], local)
    with pytest.raises(ValueError, match=r"local_crop must be 32 x 32, the size .* got 64 x 64"):
        net(image, image)
    with pytest.raises(ValueError, match="local_crop must have shape"):
        net(image, local[:, :1])
    with pytest.raises(ValueError, match="same batch size, got 2 and 1"):
        net(image, local[:1])
    with pytest.raises(ValueError, match="image of size 64 x 64 at batch size 1 leaves a single"):
        net(image[:1], local[:1])
    assert net.eval()(image[:1], local[:1]).shape == (1, 1)
    with pytest.raises(ValueError, match="local_size must be at least 1, got 0"):
        create_discriminator("glcic_unet", local_size=0)
