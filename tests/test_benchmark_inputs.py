"""What the benchmarks run on, and the baselines they compare with."""

from __future__ import annotations

import pytest
import torch
from inpaint_models import create_model
from torch import Tensor

from benchmarks import data, oracle
from benchmarks.baselines import (
    AUTOENCODER,
    FLAVOURS,
    NETWORKS,
    SAME_DECODER,
    AttentionRegionNorm,
    FullMaskConv2d,
    MaskedRegionNorm,
    PlaneMaskConv2d,
    RNNet,
    UNet,
)
from benchmarks.cases.region import clear_threshold
from inpaint_ops import RN_B, RN_L, ChannelMask, partial_conv2d


@pytest.mark.parametrize("ratio", [0.0, *data.HOLE_RATIOS, 0.8])
def test_masks_meet_their_ratio(ratio: float) -> None:
    masks = data.load_masks(6, 256, ratio)
    assert masks.shape == (6, 1, 256, 256)
    assert ((masks == 0) | (masks == 1)).all()
    holes = 1 - masks.mean((1, 2, 3))
    assert (holes >= ratio).all()
    assert (holes <= ratio + 0.03).all()


def test_masks_depend_on_the_seed_alone() -> None:
    first = data.load_masks(2, 128, 0.3, seed=5)
    assert torch.equal(first, data.load_masks(2, 128, 0.3, seed=5))
    assert not torch.equal(first, data.load_masks(2, 128, 0.3, seed=6))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_impossible_hole_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="hole_ratio"):
        data.irregular_mask(64, ratio, 0)


def test_photographs_are_distinct_crops() -> None:
    images = data.load_images(7, 256)
    assert images.shape == (7, 3, 256, 256)
    assert images.min() >= 0
    assert images.max() <= 1
    for i in range(7):
        for j in range(i):
            assert not torch.equal(images[i], images[j])


def test_photographs_are_small_and_credited() -> None:
    paths = sorted(data.SAMPLES.glob("*.jpg"))
    credits = (data.SAMPLES / "README.md").read_text("utf-8")
    assert len(paths) >= 2
    assert sum(path.stat().st_size for path in paths) < 300_000
    for path in paths:
        (line,) = [line for line in credits.splitlines() if f"`{path.name}`" in line]
        assert "CC0" in line or "CC-BY-4.0" in line


def _layer_input() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 17, 20, generator=generator)
    planes = (torch.rand(2, 2, 17, 20, generator=generator) > 0.6).float()
    planes[0, :, :9] = 0  # windows without any valid pixel
    return x, planes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_baselines_equal_ours(bias: bool, stride: int) -> None:
    x, planes = _layer_input()
    torch.manual_seed(0)
    full = FullMaskConv2d(5, 4, 3, stride, 1, bias=bias)
    plane = PlaneMaskConv2d((3, 2), 4, 3, stride, 1, bias=bias)
    plane.load_state_dict(full.state_dict())
    wide = planes.repeat_interleave(torch.tensor([3, 2]), 1)
    y, new_mask = full(x, wide)
    assert new_mask.shape == y.shape
    assert (new_mask == 0).any()

    one, one_mask = plane(x, planes)
    torch.testing.assert_close(one, y)
    torch.testing.assert_close(one_mask, new_mask[:, :1])

    grouped, grouped_mask = partial_conv2d(
        x, ChannelMask(planes, (3, 2)), full.weight, full.bias, stride, 1
    )
    assert isinstance(grouped_mask, ChannelMask)
    torch.testing.assert_close(grouped, y)
    torch.testing.assert_close(grouped_mask.planes.float(), new_mask[:, :1])

    ours, our_mask = partial_conv2d(x, wide, full.weight, full.bias, stride, 1, multi_channel=True)
    assert isinstance(our_mask, Tensor)
    torch.testing.assert_close(ours, y)
    torch.testing.assert_close(our_mask.float(), new_mask)


def test_oracle_equals_the_convolution_baseline() -> None:
    x, planes = (t.double() for t in _layer_input())
    conv = PlaneMaskConv2d((3, 2), 4, 3, 2, 1).double()
    assert conv.bias is not None
    y, new_mask = oracle.partial_conv(x, planes, (3, 2), conv.weight, conv.bias, 2, 1)
    expected, expected_mask = conv(x, planes)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(new_mask, expected_mask)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masked_norm_baseline_equals_ours(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 9, 11, generator=generator) * 3 + 5
    hole = (torch.rand(2, 1, 9, 11, generator=generator) < share).float()
    reference, ours = MaskedRegionNorm(6), RN_B(6)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(reference.state_dict())
    torch.testing.assert_close(ours(x, hole), reference(x, hole), rtol=1e-4, atol=1e-5)


def test_attention_norm_baseline_equals_ours() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 12, 10)
    reference = AttentionRegionNorm(6)
    reference.threshold = clear_threshold(reference, x)
    label = reference.sa(x)[0] >= reference.threshold
    assert 0.1 < label.float().mean() < 0.6
    ours = RN_L(6, threshold=reference.threshold)
    ours.load_state_dict(reference.state_dict())
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [*NETWORKS, AUTOENCODER])
def test_network_baselines_equal_ours(network: str) -> None:
    torch.manual_seed(0)
    ours = create_model(network).eval()
    image, mask = data.load_images(2, 128), data.load_masks(2, 128, 0.3)
    nets = {flavour: UNet(network, flavour).eval() for flavour in FLAVOURS}
    for net in nets.values():
        net.load_from(ours)
    with torch.no_grad():
        y = ours(image, mask)
        for flavour in ("reference", "one-channel"):
            torch.testing.assert_close(nets[flavour](image, mask), y, rtol=1e-3, atol=1e-4)
        plain, same = (nets[flavour](image, mask) for flavour in ("plain", SAME_DECODER))
    assert plain.shape == y.shape
    torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-4)
    shapes = {name: p.shape for name, p in ours.named_parameters() if name.endswith("conv.weight")}
    for level in nets["plain"].levels:
        shape = (level.out, level.deep + level.skip, level.kernel, level.kernel)
        assert shapes[f"{level.name}.conv.weight"] == shape


def test_the_generator_of_region_normalization_equals_ours() -> None:
    torch.manual_seed(0)
    ours, reference = create_model("rn_net"), RNNet("reference")
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith("sa.conv1.weight"):
                parameter.mul_(0.1)  # attention away from its threshold
    reference.load_from(ours)
    image, mask = data.load_images(1, 64), data.load_masks(1, 64, 0.3)
    with torch.no_grad():
        torch.testing.assert_close(reference(image, mask), ours(image, mask), rtol=1e-3, atol=1e-4)
