"""Published checkpoint layouts load into patched networks and into ours, or say why they do not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from inpaint_models import create_model
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.baselines.published import (
    MmagicPartialConv2d,
    NaotoPartialConv,
    NvidiaPartialConv2d,
    RegionNormB,
    RegionNormL,
)
from inpaint_ops import PartialConv2d, load_checkpoint, patch_model


class Published(nn.Module):
    """A convolution and a norm, named as in a public network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = NaotoPartialConv(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(image, mask)[0])
        return y


class Own(nn.Module):
    """The same with our convolution in the place of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = PartialConv2d(3, 4, 3, padding=1, multi_channel=True)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(image, mask))
        return y


def _inputs() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 12, 13), (torch.rand(2, 3, 12, 13) > 0.7).float()


def _prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _layouts(state: Mapping[str, Tensor]) -> dict[str, Any]:
    beside = {
        "discriminator.module.conv.weight": torch.zeros(2),
        "adversarial.label": torch.ones(1),
    }
    return {
        "a state_dict": dict(state),
        "DataParallel": _prefixed(state, "module."),
        "NVIDIA": {"epoch": 3, "arch": "pd", "state_dict": _prefixed(state, "module."),
                   "best_prec1": 0.5, "optimizer": {"state": {}}},
        "naoto0804": {"n_iter": 7, "model": dict(state), "optimizer": {"state": {}}},
        "climatereconstructionAI": {
            "labels": ["5", "10"], "train_stats": {"total": 1.0},
            "5": {"n_iter": 5, "model": {k: v + 1 for k, v in state.items()}, "optimizer": {}},
            "10": {"n_iter": 10, "model": dict(state), "optimizer": {}},
        },
        "geekyutao": {**_prefixed(state, "generator.module."), **beside},
        "mmagic": {"meta": {"iter": 3}, "state_dict": _prefixed(state, "generator.")},
        "a generator": {"iteration": 3, "generator": dict(state)},
    }  # fmt: skip


@pytest.mark.parametrize("layout", list(_layouts({})))
@pytest.mark.parametrize("kind", ["published", "patched", "own"])
def test_every_layout_loads_into_every_kind_of_network(
    layout: str, kind: str, tmp_path: Path
) -> None:
    source, given = Published().eval(), _inputs()
    nn.init.normal_(source.bn.running_mean)  # type: ignore[arg-type]
    torch.save(_layouts(source.state_dict())[layout], tmp_path / "published.pth")
    net: nn.Module = Own() if kind == "own" else Published()
    if kind == "patched":
        patch_model(net)
    report = load_checkpoint(net.eval(), tmp_path / "published.pth")
    torch.testing.assert_close(net(*given), source(*given), atol=1e-6, rtol=1e-5)
    assert report.rescaled == (("conv.weight",) if kind == "own" else ())
    assert ("conv.mask_conv.weight" in report.ignored) is (kind != "published")
    assert set(report.loaded) == set(net.state_dict())
    assert not report.missing
    assert not report.unexpected


def test_a_label_chooses_among_several_models() -> None:
    source, net = Published(), Published()
    content = _layouts(source.state_dict())["climatereconstructionAI"]
    report = load_checkpoint(net, content, label="5", strict=True)
    assert report.layout == "model of '5'"
    assert torch.equal(net.conv.input_conv.weight, source.conv.input_conv.weight + 1)
    with pytest.raises(ValueError, match=r"label: expected one of \['5', '10'\], got '6'"):
        load_checkpoint(net, content, label="6")
    with pytest.raises(ValueError, match="label: the checkpoint holds one model"):
        load_checkpoint(net, source.state_dict(), label="5")


def test_labels_may_be_numbers() -> None:
    source, net = Published(), Published()
    model = {"model": source.state_dict()}
    content: dict[Any, Any] = {"labels": [5], 5: model}
    assert load_checkpoint(net, content).layout == "model of '5'"
    assert torch.equal(net.conv.input_conv.weight, source.conv.input_conv.weight)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"net: expected an nn\.Module, got int"):
        load_checkpoint(cast(Any, 5), {})
    with pytest.raises(TypeError, match="source: expected a path or a mapping, got NoneType"):
        load_checkpoint(Own(), cast(Any, None))


def test_safetensors_load_too(tmp_path: Path) -> None:
    source, net = Published(), Own()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    assert "2 rescaled" not in str(load_checkpoint(net, tmp_path / "weights.safetensors"))
    torch.testing.assert_close(net.conv.weight, source.conv.input_conv.weight / 27)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.safetensors: cannot be read"):
        load_checkpoint(net, tmp_path / "broken.safetensors")


def test_a_wrapped_network_loads_as_well() -> None:
    source = Published()
    net = nn.DataParallel(Own())
    report = load_checkpoint(net, source.state_dict())
    assert report.rescaled == ("conv.weight",)
    torch.testing.assert_close(net.module.conv.weight, source.conv.input_conv.weight / 27)


def test_nvidias_and_mmagics_weights_keep_their_scale() -> None:
    for source in (NvidiaPartialConv2d(3, 4, 3), MmagicPartialConv2d(3, 4, 3, multi_channel=True)):
        net = PartialConv2d(3, 4, 3)
        load_checkpoint(net, source.state_dict())
        assert torch.equal(net.weight, source.weight)


def test_a_half_precision_checkpoint_is_rescaled_in_full_precision() -> None:
    torch.manual_seed(3)
    source = NaotoPartialConv(1024, 2, 3).half()
    net = PartialConv2d(1024, 2, 3, multi_channel=True)
    load_checkpoint(net, source.state_dict())
    exact = source.input_conv.weight.double() / (1024 * 9)
    error = ((net.weight - exact).abs() / exact.abs().clamp_min(1e-30)).max()
    assert error <= torch.finfo(torch.float32).eps


def test_a_checkpoint_from_before_norms_counted_their_steps_loads() -> None:
    state, net = dict(Published().state_dict()), Own()
    del state["bn.num_batches_tracked"]
    net.bn.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    report = load_checkpoint(net, state)
    assert "bn.num_batches_tracked" not in (*report.loaded, *report.missing)
    assert net.bn.num_batches_tracked == 7
    del state["bn.running_mean"]
    with pytest.raises(ValueError, match=r"2 missing: bn\.running_mean, bn\.num_batches_tracked"):
        load_checkpoint(net, state)


# Networks of ours


class NaotoUNet(nn.Module):
    """The layers of naoto0804's PConvUNet at an eighth of its width, three levels."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 8, 16, 32)
        for i, kernel in enumerate((7, 5, 5)):
            self._add(f"enc_{i + 1}", channels[i], channels[i + 1], kernel, 2, norm=i > 0)
        for i in (2, 1, 0):
            self._add(f"dec_{i + 1}", channels[i + 1] + channels[i], channels[i], 3, 1, norm=i > 0)

    def _add(self, name: str, c_in: int, c_out: int, kernel: int, stride: int, norm: bool) -> None:
        layer = nn.Module()
        bias = name == "dec_1"
        layer.conv = NaotoPartialConv(c_in, c_out, kernel, stride, kernel // 2, bias=bias)
        if norm:
            layer.bn = nn.BatchNorm2d(c_out)
        self.add_module(name, layer)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        skips = []
        for i in (1, 2, 3):
            skips.append((x, mask))
            x, mask = self._layer(f"enc_{i}", x, mask)
        for i in (3, 2, 1):
            x, mask = (nn.functional.interpolate(t, scale_factor=2) for t in (x, mask))
            skip, skip_mask = skips.pop()
            x, mask = torch.cat([x, skip], 1), torch.cat([mask, skip_mask], 1)
            x, mask = self._layer(f"dec_{i}", x, mask)
        return x

    def _layer(self, name: str, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        layer: Any = self.get_submodule(name)
        x, mask = layer.conv(x, mask)
        if hasattr(layer, "bn"):
            x = layer.bn(x)
        if name.startswith("enc"):
            return torch.relu(x), mask
        return (x if name == "dec_1" else nn.functional.leaky_relu(x, 0.2)), mask


def _lively(net: nn.Module) -> nn.Module:
    """Norms as after training: fixed statistics, which differ from channel to channel."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.running_mean, 0, 1e-3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 1e-4, 1e-3)  # type: ignore[arg-type]
            nn.init.normal_(module.bias)
        elif isinstance(module, RegionNormB):
            for parameter in module.parameters():
                nn.init.normal_(parameter, 0, 0.3)
    return net.eval()


def test_naotos_unet_loads_into_pconv_unet() -> None:
    source = _lively(NaotoUNet())
    net = create_model("pconv_unet", levels=3, width=8).eval()
    report = load_checkpoint(net, {"n_iter": 1, "model": source.state_dict()})
    assert len(report.rescaled) == 6
    image, mask = torch.rand(1, 3, 32, 40), (torch.rand(1, 1, 32, 40) > 0.5).float()
    expected = source(image, mask.expand(-1, 3, -1, -1))
    torch.testing.assert_close(net(image, mask), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"PConvUNet: 12 missing: enc4\.conv\.weight"):
        load_checkpoint(create_model("pconv_unet", levels=4, width=8), source.state_dict())


class YuGenerator(nn.Module):
    """The layers of geekyutao/RN's G_Net at an eighth of its width, two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_conv1, self.encoder_in1 = nn.Conv2d(3, 8, 7), RegionNormB(8)
        self.encoder_conv2, self.encoder_in2 = nn.Conv2d(8, 16, 4, 2, 1), RegionNormB(16)
        self.encoder_conv3, self.encoder_in3 = nn.Conv2d(16, 32, 4, 2, 1), RegionNormB(32)
        self.middle = nn.Sequential(self._block(), self._block())
        self.decoder = nn.Sequential(
            nn.Conv2d(32, 64, 3, padding=1), nn.PixelShuffle(2), RegionNormL(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2), RegionNormL(8), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(8, 3, 7),
        )  # fmt: skip

    @staticmethod
    def _block() -> nn.Module:
        block = nn.Module()
        block.conv_block = nn.Sequential(
            nn.ReflectionPad2d(2), nn.Conv2d(32, 32, 3, dilation=2), RegionNormL(32), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(32, 32, 3), RegionNormL(32),
        )  # fmt: skip
        return block

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        x = nn.functional.pad(image * (1 - hole) + hole, (3, 3, 3, 3), mode="reflect")
        for i in (1, 2, 3):
            x = self.get_submodule(f"encoder_conv{i}")(x)
            x = torch.relu(self.get_submodule(f"encoder_in{i}")(x, hole))
        for block in self.middle:
            x = x + block.conv_block(x)  # type: ignore[operator]
        return (torch.tanh(self.decoder(x)) + 1) / 2


def test_yus_generator_loads_into_rn_net() -> None:
    source = _lively(YuGenerator())
    net = create_model("rn_net", width=8, blocks=2)
    whole = {
        **_prefixed(source.state_dict(), "generator.module."),
        "discriminator.module.conv1.0.weight_orig": torch.zeros(2),
    }
    report = load_checkpoint(net, whole)
    assert report.ignored == ("discriminator.conv1.0.weight_orig",)
    image, mask = torch.rand(1, 3, 32, 40), (torch.rand(1, 1, 32, 40) > 0.4).float()
    torch.testing.assert_close(net(image, mask), source(image, 1 - mask), atol=2e-5, rtol=1e-4)
    patch_model(source)
    assert load_checkpoint(source, whole).ignored == report.ignored


@pytest.mark.parametrize("name", ["pconv_unet", "rn_net"])
def test_our_own_checkpoints_load_by_their_own_names(name: str) -> None:
    source, net = create_model(name, width=8), create_model(name, width=8)
    report = load_checkpoint(net, source.state_dict())
    assert not report.rescaled
    for found, expected in zip(net.parameters(), source.parameters(), strict=True):
        assert torch.equal(found, expected)


# What is refused


class Malicious:
    """Runs a command when it is unpickled, if one lets it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"model": Published().state_dict(), "extra": Malicious(marker)}, path)
    with pytest.raises(ValueError, match=r"evil\.pth: not read, because reading it could run code"):
        load_checkpoint(Published(), path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # so the file was one


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("bn.bias"), r"does not fit Own: 1 missing: bn\.bias"),
        (lambda s: s.update({"bn.more": torch.ones(2)}), r"1 unexpected: bn\.more"),
        (lambda s: s.update({"bn.bias": torch.ones(5)}), r"bn\.bias has shape \(5,\) instead"),
        (lambda s: s.update({"bn.bias": 3}), r"expected tensors in its state_dict, found others"),
        (lambda s: s["conv.mask_conv.weight"].fill_(2), "is not all ones"),
        (lambda s: s.update({"module.bn.bias": torch.ones(4)}), "would be the same"),
        (lambda s: s.clear(), "found nothing"),
    ],
)
def test_what_does_not_fit_is_listed_and_changes_nothing(change: Any, words: str) -> None:
    net, state = Own(), dict(Published().state_dict())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=words):
        load_checkpoint(net, {"model": state})
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_without_strict_the_rest_is_loaded_and_reported() -> None:
    net, state = Own(), dict(Published().state_dict())
    del state["bn.bias"]
    state["bn.more"] = torch.ones(2)
    report = load_checkpoint(net, state, strict=False)
    assert (report.missing, report.unexpected) == (("bn.bias",), ("bn.more",))
    assert str(report) == (
        "state_dict: 6 tensors loaded, 1 rescaled, 1 ignored, 1 missing, 1 unexpected"
    )
    with pytest.raises(ValueError, match="no name of the network is in it"):
        load_checkpoint(net, {"other": torch.ones(2)}, strict=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": {"a": 1}}, "unknown layout with the keys weights"),
        ([1, 2], "expected a dictionary, got list"),
        ({"labels": []}, "the list under 'labels' is empty"),
        ({"labels": ["a"], "a": {}}, "expected a state_dict under 'a', 'model'"),
        ({"labels": ["a"]}, "expected a state_dict under 'a', 'model'"),
        ({"labels": ["a"], "a": {"model": [1]}}, "expected a state_dict under 'a', 'model'"),
        ({"labels": 3}, "expected a list under 'labels'"),
        ({"model": {5: torch.ones(2)}}, "found others at 5"),
        ({5: torch.ones(2)}, "found others at 5"),
    ],
)
def test_unknown_layouts_are_named(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=words):
        load_checkpoint(Own(), tmp_path / "odd.pth")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_checkpoint(Own(), tmp_path / "missing.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.pth: cannot be read"):
        load_checkpoint(Own(), tmp_path / "empty.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello world", r"it is no checkpoint \(KeyError: 101\)"),
        (b"\x80\x02.", r"it is no checkpoint \(IndexError: "),
        (b"J(", r"it is no checkpoint \(error: "),
        (b"<!DOCTYPE html>\n<html>", r"no checkpoint \(UnpicklingError: Unsupported operand 60\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of git-lfs"),
        (b"PK\x03\x04", "PytorchStreamReader failed"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_checkpoint_are_called_so(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"other\.pth: cannot be read: .*{words}") as raised:
        load_checkpoint(Own(), tmp_path / "other.pth")
    assert "run code" not in str(raised.value)


@pytest.mark.parametrize("name", ["posix\nmkdir", "unknown\nname"])
def test_a_refused_global_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(
        ValueError, match="reading it could run code: .* " + name.replace("\n", ".")
    ):
        load_checkpoint(Own(), tmp_path / "evil.pth")
