"""ISNet and RN's generator against plain versions, layer by layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from inpaint_models import create_model
from model_inputs import holes, picture
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")


def plain_isnet(net: nn.Module, x: Tensor, sub_pixel: bool, fusion: bool) -> Tensor:
    """Sections 2.1 and 2.2 with one residual block, on the normalized weights of a network."""

    def conv(name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        layer = net.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        padding = dilation * (layer.weight.shape[-1] // 2)
        return F.conv2d(x, layer.weight, layer.bias, stride, padding, dilation)

    def act(x: Tensor) -> Tensor:
        return x.tanh() if sub_pixel else F.leaky_relu(x, 0.2)

    def residual(name: str, x: Tensor, dilation: int) -> Tensor:
        return act(x + conv(f"{name}.conv2", act(conv(f"{name}.conv1", x, dilation=dilation))))

    def enlarged(name: str, x: Tensor, steps: int) -> Tensor:
        if not sub_pixel:
            h, w = x.shape[2:]
            return F.interpolate(x, (h << steps, w << steps), mode="bilinear")
        for step in range(steps):
            x = F.pixel_shuffle(conv(f"{name}.{3 * step}", x), 2).tanh()
        return x

    high = act(conv("stem.conv2", act(conv("stem.conv1", x))) + conv("stem.shortcut", x))
    low = high.new_zeros(0)
    for i in range(4):
        stage = f"stages.{i}"
        high = residual(f"{stage}.high_blocks.0", high, 1)
        to_low = high
        for step in range(i + 1):
            to_low = act(conv(f"{stage}.high_to_low.{step}.conv", to_low, stride=2))
        if i > 0:
            low = residual(f"{stage}.low_blocks.0", low, 2)
            high = torch.cat([high, enlarged(f"{stage}.low_to_high", low, i)], 1)
            to_low = torch.cat([to_low, act(conv(f"{stage}.low_to_low.0.conv", low, stride=2))], 1)
        high = act(conv(f"{stage}.high_out.conv", high))
        low = act(conv(f"{stage}.low_out.conv", to_low))
    if fusion:
        high = act(conv("fuse.conv", torch.cat([high, enlarged("enlarge", low, 4)], 1)))
    return (conv("last", high).tanh() + 1) / 2


@pytest.mark.parametrize(
    ("name", "sub_pixel", "fusion"),
    [("isnet", True, True), ("isnet_base", False, False), ("isnet_base_ff", False, True)],
)
def test_isnet_equals_plain_network(name: str, sub_pixel: bool, fusion: bool) -> None:
    net = create_model(name, width=4, blocks=1).double().eval()
    image, mask = picture(2, 32, 48, torch.float64), holes(2, 32, 48, torch.float64)
    with torch.no_grad():
        want = plain_isnet(net, image * mask, sub_pixel, fusion)
        torch.testing.assert_close(net(image, mask), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["isnet", "isnet_base", "isnet_base_ff"])
def test_spectral_norm_is_on_all_convolutions_but_the_published_exceptions(name: str) -> None:
    net = create_model(name, width=4, blocks=1)
    plain = [
        key
        for key, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and not hasattr(module, "parametrizations")
    ]
    assert plain == ["stem.shortcut"] + ([] if name == "isnet" else ["last"])


@pytest.mark.parametrize("name", ["isnet", "isnet_base", "isnet_base_ff", "unet_like"])
def test_isnet_initialization(name: str) -> None:
    net = create_model(name, width=8, blocks=1)
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            assert (parameter == 0).all(), key
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.001, rel=0.1), key


def test_rn_net_paints_holes_white() -> None:
    """With holes that are white in the image, the first convolution sees the image itself."""
    net = create_model("rn_net", width=4, blocks=1).eval()
    image, mask = picture(2, 24, 24), holes(2, 24, 24)
    seen: list[Tensor] = []
    net.get_submodule("enc1.conv").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        net(image, mask)
    torch.testing.assert_close(seen[0], torch.where(mask == 0, 1, image))


def test_rn_net_hands_its_regions_to_every_encoder_norm() -> None:
    net = create_model("rn_net", width=4, blocks=1)
    image, mask = picture(2, 24, 32), holes(2, 24, 32)
    seen: list[Tensor] = []
    for i in (1, 2, 3):
        net.get_submodule(f"enc{i}.norm").register_forward_pre_hook(
            lambda _, args: seen.append(args[1])
        )
    net(image, mask)
    assert len(seen) == 3
    for region in seen:
        assert torch.equal(region, 1 - mask)
