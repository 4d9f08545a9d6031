"""The drop-in modules: what they keep of the published ones, and what they correct."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import inpaint_ops
from inpaint_ops import RN_B, RN_L, ChannelMask, PartialConv2d, RegionNorm2d, region_norm

N, C, H, W = 2, 4, 12, 9


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


# PartialConv2d ----------------------------------------------------------------------------------


def test_partial_conv_is_a_conv() -> None:
    module = PartialConv2d(C, 6, (3, 5), stride=2, padding=(1, 2), groups=2, bias=False)
    assert isinstance(module, nn.Conv2d)
    assert not module.multi_channel
    assert not module.return_mask
    assert "multi_channel=False" in repr(module)
    with pytest.raises(TypeError):
        PartialConv2d(C, 6, 3, 1, 1, 1, 1, True, "zeros", None, None, True)


@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_round_trip_with_conv2d(plain: Any, bias: bool) -> None:
    conv = nn.Conv2d(C, 6, 3, padding=1, bias=bias)
    module = PartialConv2d(C, 6, 3, padding=1, bias=bias)
    assert list(module.state_dict()) == (["weight", "bias"] if bias else ["weight"])
    module.load_state_dict(conv.state_dict())
    conv.load_state_dict(module.state_dict())
    stored = io.BytesIO()
    torch.save(module.state_dict(), stored)
    stored.seek(0)
    again = PartialConv2d(C, 6, 3, padding=1, bias=bias)
    again.load_state_dict(torch.load(stored))
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    assert torch.equal(_tensor(again(x, mask)), _tensor(module(x, mask)))
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(_tensor(module(x))[inner], conv(x)[inner])


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"padding": "same", "dilation": 2},
        {"padding": "valid"},
        {"padding": 2, "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "circular"},
        {"groups": 2, "padding": (0, 1)},
        {"bias": False, "padding": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("multi_channel", [False, True])
def test_arguments_of_the_constructor(
    plain: Any, options: dict[str, Any], multi_channel: bool
) -> None:
    module = PartialConv2d(C, 6, (3, 2), multi_channel=multi_channel, return_mask=True, **options)
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, C if multi_channel else 1, H, W).float()
    y, new_mask = module(x, mask)
    rest = {k: v for k, v in options.items() if k != "bias"}
    expected, expected_mask = plain.partial_conv(
        x, mask, module.weight, module.bias, multi_channel=multi_channel, **rest
    )
    plain.close(y, expected, C * 6)
    new = _tensor(new_mask)
    assert torch.equal(new[:, :1].double(), expected_mask)
    assert new.shape[1] == (6 if multi_channel else 1)


def test_eps_of_the_module() -> None:
    x, mask = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    module = PartialConv2d(1, 1, 3, bias=False, eps=9.0)
    nn.init.ones_(module.weight)
    assert _tensor(module(x, mask)).item() == pytest.approx(4.5)


def test_return_mask(plain: Any) -> None:
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W)
    one = PartialConv2d(C, 6, 3)
    two = PartialConv2d(C, 6, 3, return_mask=True)
    two.load_state_dict(one.state_dict())
    y, new_mask = two(x, mask)
    assert torch.equal(_tensor(one(x, mask)), _tensor(y))
    assert _tensor(new_mask).shape == (N, 1, H - 2, W - 2)
    _, none_mask = two(x)
    assert torch.equal(_tensor(none_mask), torch.ones(1, 1, H - 2, W - 2))


def test_no_mask_of_an_earlier_call_is_used_again(plain: Any) -> None:
    module = PartialConv2d(C, 6, 3, padding=1, return_mask=True)
    x = torch.randn(N, C, H, W)
    before, _ = module(x)
    module(x, plain.blobs(N, 1, H, W).float())
    after, new_mask = module(x)
    assert torch.equal(_tensor(before), _tensor(after))
    assert (_tensor(new_mask) == 1).all()
    assert not list(module.buffers())


def test_masks_alternate_within_one_module(plain: Any) -> None:
    module = PartialConv2d(C, 6, 3, padding=1)
    x = torch.randn(N, C, H, W)
    for mask in (plain.blobs(N, 1, H, W).float(), 1 - plain.blobs(N, 1, H, W).float()):
        expected, _ = plain.partial_conv(x, mask, module.weight, module.bias, padding=1)
        plain.close(_tensor(module(x, mask)), expected, C * 9)


def test_channel_mask_needs_no_flag(plain: Any) -> None:
    mask = ChannelMask(plain.blobs(N, 2, H, W).float(), (1, 3))
    module = PartialConv2d(C, 6, 3, return_mask=True)
    full = PartialConv2d(C, 6, 3, return_mask=True, multi_channel=True)
    full.load_state_dict(module.state_dict())
    x = torch.randn(N, C, H, W)
    y, new_mask = module(x, mask)
    expected, _ = full(x, mask.dense())
    assert isinstance(new_mask, ChannelMask)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("form", ["hook", "parametrization"])
def test_spectral_norm(plain: Any, form: str) -> None:
    module = PartialConv2d(C, 6, 3, padding=1)
    original = module.weight.detach().clone()
    wrapped: nn.Module = (
        nn.utils.spectral_norm(module)
        if form == "hook"
        else nn.utils.parametrizations.spectral_norm(module)
    )
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    for _ in range(30):
        wrapped(x, mask)
    wrapped.eval()
    y = _tensor(wrapped(x, mask))
    sigma = torch.linalg.matrix_norm(original.flatten(1), 2)
    expected, _ = plain.partial_conv(x, mask, original / sigma, module.bias, padding=1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-3)
    y.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_weight_norm_too(plain: Any) -> None:
    module = nn.utils.parametrizations.weight_norm(PartialConv2d(C, 6, 3))
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    _tensor(module(x, mask)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_channels_last_stays(plain: Any) -> None:
    net = nn.Sequential(PartialConv2d(C, 8, 3, padding=1), nn.ReLU(), PartialConv2d(8, 8, 3))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(N, C, H, W).to(memory_format=torch.channels_last).requires_grad_()
    y = net(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_inference_mode(plain: Any) -> None:
    module, norm = PartialConv2d(C, 6, 3, padding=1), RegionNorm2d(6)
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    outside = norm(_tensor(module(x, mask)), mask)
    with torch.inference_mode():
        inside = norm(_tensor(module(x, mask)), mask)
    assert torch.equal(outside, inside)
    again = _tensor(module(x, mask))  # scratch memory made in inference mode serves autograd
    again.sum().backward()


def test_autocast() -> None:
    module, norm, learned = PartialConv2d(C, 6, 3, padding=1), RegionNorm2d(6), RN_L(6)
    x, mask = torch.randn(N, C, H, W).requires_grad_(), torch.ones(N, 1, H, W)
    mask[:, :, :6] = 0
    with torch.autocast("cpu", torch.bfloat16):
        y = _tensor(module(x, mask))
        z = learned(norm(y, mask))
    assert y.dtype == z.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), _tensor(module(x, mask)), rtol=0.05, atol=0.05)
    z.float().square().sum().backward()
    for p in (x, *module.parameters(), *norm.parameters(), *learned.parameters()):
        assert p.grad is not None
        assert p.grad.dtype == torch.float32
        assert torch.isfinite(p.grad).all()


# RegionNorm2d -----------------------------------------------------------------------------------


def test_region_norm_module(plain: Any) -> None:
    module = RegionNorm2d(C)
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == {
        "weight": (2, C), "bias": (2, C)
    }  # fmt: skip
    assert module.weight is not None
    assert module.bias is not None
    assert torch.equal(module.weight, torch.ones(2, C))
    assert torch.equal(module.bias, torch.zeros(2, C))
    x, mask = torch.randn(N, C, H, W), plain.blobs(N, 1, H, W).float()
    plain.close(module(x, mask), plain.region_norm(x, mask), N * H * W)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    expected = plain.region_norm(x, mask, module.weight, module.bias)
    plain.close(module(x, mask), expected, N * H * W)
    assert torch.equal(module.eval()(x, mask), module.train()(x, mask))
    assert not list(module.buffers())


@pytest.mark.parametrize("options", [{"stats": "instance"}, {"scale_eps": False}, {"eps": 0.1}])
def test_options_of_the_region_norm_module(plain: Any, options: dict[str, Any]) -> None:
    module = RegionNorm2d(C, affine=False, **options)
    assert not list(module.parameters())
    x, mask = torch.randn(N, C, H, W) * 0.1, plain.blobs(N, 1, H, W).float()
    plain.close(module(x, mask), plain.region_norm(x, mask, **options), N * H * W)


def test_each_row_belongs_to_its_region_only() -> None:
    module = RegionNorm2d(C)
    with torch.no_grad():
        _tensor(module.bias)[1] = 5  # holes
    x, mask = torch.randn(N, C, H, W), torch.ones(N, 1, H, W)
    mask[..., :4] = 0
    moved = module(x, mask) - region_norm(x, mask)
    torch.testing.assert_close(moved, (5 * (1 - mask)).expand_as(moved), rtol=0, atol=1e-5)


# RN_B -------------------------------------------------------------------------------------------


def _published_rn_b(x: Tensor, mask: Tensor, p: dict[str, Tensor]) -> Tensor:
    """geekyutao/RN, RN_B, restated from its description: mask 1 = hole; both betas everywhere."""
    x = x.double()
    m = F.interpolate(mask.double(), x.shape[2:], mode="nearest").expand(len(x), -1, -1, -1)
    n = torch.zeros_like(x)
    for label in (m, 1 - m):
        count = label.sum()
        if count == 0:
            continue
        region = x * label
        mean = region.sum([0, 2, 3], keepdim=True) / count
        filled = F.batch_norm(region + (1 - label) * mean, None, None, training=True, eps=1e-5)
        n = n + filled * (count / label.numel()).sqrt()

    def row(name: str) -> Tensor:
        return p[name].double().view(1, -1, 1, 1)

    foreground = n * m * (1 + row("foreground_gamma")) + row("foreground_beta")
    background = n * (1 - m) * (1 + row("background_gamma")) + row("background_beta")
    return foreground + background


def _rn_b() -> RN_B:
    module = RN_B(C)
    assert list(module.state_dict()) == [
        "foreground_gamma", "foreground_beta", "background_gamma", "background_beta"
    ]  # fmt: skip
    for p in module.parameters():
        assert p.shape == (C,)
        assert (p == 0).all()
        nn.init.normal_(p)
    return module


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("size", [(H, W), (3 * H + 1, 2 * W + 1), (5, 4)], ids=str)
def test_rn_b_equals_the_published_module(plain: Any, scale: float, size: tuple[int, int]) -> None:
    module = _rn_b()
    x = (torch.randn(N, C, H, W) * scale).requires_grad_()
    mask = 1 - plain.blobs(N, 1, *size).float()
    exact = x.detach().double().requires_grad_()
    p = {k: v.detach().double().requires_grad_() for k, v in module.named_parameters()}
    y, expected = module(x, mask), _published_rn_b(exact, mask, p)
    plain.close(y, expected, N * H * W)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.double())
    assert x.grad is not None
    plain.close(x.grad, exact.grad, N * H * W)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        plain.close(parameter.grad, p[name].grad, N * H * W)


def test_both_betas_of_rn_b_reach_every_pixel() -> None:
    module = RN_B(C)
    x, mask = torch.randn(N, C, H, W), torch.zeros(N, 1, H, W)
    mask[..., :4] = 1
    before = module(x, mask)
    nn.init.constant_(module.foreground_beta, 2.0)
    nn.init.constant_(module.background_beta, 3.0)
    torch.testing.assert_close(module(x, mask), before + 5.0)


def test_rn_b_takes_one_for_a_hole() -> None:
    module = RN_B(C)
    nn.init.constant_(module.foreground_gamma, -1.0)
    x, mask = torch.randn(N, C, H, W), torch.zeros(N, 1, H, W)
    mask[..., :4] = 1
    y = module(x, mask)
    assert (y[..., :4] == 0).all()
    assert (y[..., 4:] != 0).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64], ids=str)
@pytest.mark.parametrize("size", [(H, W), (24, 18), (5, 4)], ids=str)
def test_rn_b_on_other_types_of_mask(plain: Any, dtype: torch.dtype, size: tuple[int, int]) -> None:
    module, x = _rn_b(), torch.randn(N, C, H, W)
    mask = 1 - plain.blobs(N, 1, *size)
    expected = module(x, mask.float())
    scaled = mask * 255 if dtype in (torch.uint8, torch.int64) else mask
    assert torch.equal(module(x, scaled.to(dtype)), expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rn_b_with_an_empty_region(value: float) -> None:
    module, x = _rn_b(), torch.randn(N, C, H, W).requires_grad_()
    mask = torch.full((1, 1, H, W), value)
    y = module(x, mask)
    p: dict[str, Tensor] = dict(module.named_parameters())
    torch.testing.assert_close(
        y.double(), _published_rn_b(x.detach(), mask, p), rtol=1e-4, atol=1e-5
    )
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


# RN_L -------------------------------------------------------------------------------------------


def test_rn_l_has_the_published_keys() -> None:
    shapes = {k: tuple(v.shape) for k, v in RN_L(C).state_dict().items()}
    assert shapes == {
        "sa.conv1.weight": (1, 2, 7, 7),
        "sa.gamma_conv.weight": (1, 1, 7, 7),
        "sa.gamma_conv.bias": (1,),
        "sa.beta_conv.weight": (1, 1, 7, 7),
        "sa.beta_conv.bias": (1,),
    }


@pytest.mark.parametrize("share", ["both regions", "default"])
def test_rn_l_equals_the_formula(plain: Any, share: str) -> None:
    x = torch.randn(N, C, H, W)
    module = RN_L(C)
    if share == "both regions":
        nn.init.constant_(module.sa.conv1.weight, 0.4)  # sums of the mean and the maximum
    sa = module.sa
    parameters = [
        sa.conv1.weight, sa.gamma_conv.weight, sa.gamma_conv.bias, sa.beta_conv.weight,
        sa.beta_conv.bias,
    ]  # fmt: skip
    if share == "both regions":
        x[:, :, : H // 2] -= 5
    expected, attention = plain.attention_region_norm(x, *parameters)
    valid = attention >= module.threshold
    assert valid.any() == (share == "both regions")
    assert not valid.all()
    plain.close(module(x), expected, N * H * W)


def test_threshold_of_rn_l() -> None:
    x = torch.randn(N, C, H, W)
    module = RN_L(C, threshold=0.4)
    low = RN_L(C, threshold=0.0)
    low.load_state_dict(module.state_dict())
    nn.init.zeros_(module.sa.conv1.weight)
    nn.init.zeros_(low.sa.conv1.weight)
    assert torch.equal(module(x), low(x))
    assert "threshold=0.4" in repr(module)


def test_public_names() -> None:
    for name in inpaint_ops.__all__:
        assert getattr(inpaint_ops, name) is not None
    assert sorted(inpaint_ops.__all__, key=str.lower) == sorted(
        set(inpaint_ops.__all__), key=str.lower
    )
