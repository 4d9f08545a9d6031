"""Bad input: the type of the error, and that its message names the argument; and empty input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inpaint_ops import (
    RN_B,
    RN_L,
    ChannelMask,
    PartialConv2d,
    RegionNorm2d,
    partial_conv1d,
    partial_conv2d,
    partial_conv2d_upsampled,
    partial_conv3d,
    region_norm,
    update_mask,
)
from inpaint_ops.functional import attention_region_norm

X = torch.zeros(2, 4, 6, 5)
MASK = torch.ones(2, 1, 6, 5)
WEIGHT = torch.zeros(6, 4, 3, 3)
BIAS = torch.zeros(6)
META = torch.device("meta")

# what is wrong -> the changed arguments, the error, the start of its message.
CONV: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x: a list": ({"x": [1.0]}, TypeError, "x: "),
    "x: rank 3": ({"x": X[0]}, ValueError, "x: .*axes"),
    "x: rank 5": ({"x": X[None]}, ValueError, "x: .*axes"),
    "x: integer": ({"x": X.long()}, TypeError, "x: .*floating"),
    "x: complex": ({"x": X.to(torch.complex64)}, TypeError, "x: .*floating"),
    "x: channels": ({"x": X[:, :3]}, ValueError, "x: .*4 channels.*got 3"),
    "x: no pixels": ({"x": X[:, :, :0], "mask": None}, ValueError, "x: .*spatial size"),
    "x: too small": ({"x": X[..., :2], "mask": None}, ValueError, "x: .*window.*larger"),
    "x: too small for dilation": ({"dilation": 3, "mask": None}, ValueError, "x: .*larger"),
    "mask: a list": ({"mask": [1.0]}, TypeError, "mask: "),
    "mask: complex": ({"mask": MASK.to(torch.complex64)}, TypeError, "mask: "),
    "mask: rank 3": ({"mask": MASK[0]}, ValueError, "mask: .*axes"),
    "mask: batch": ({"mask": torch.ones(3, 1, 6, 5)}, ValueError, "mask: .*batch"),
    "mask: height": ({"mask": MASK[:, :, 1:]}, ValueError, "mask: .*spatial"),
    "mask: device": ({"mask": MASK.to(META)}, ValueError, "mask: .*device"),
    "mask: channels": ({"mask": torch.ones(2, 3, 6, 5)}, ValueError, "mask: .*channels"),
    "mask: channels, counting them": (
        {"mask": torch.ones(2, 3, 6, 5), "multi_channel": True}, ValueError, "mask: .*channels"),
    "mask: no channels": ({"mask": MASK[:, :0]}, ValueError, "mask: .*channels"),
    "mask: all channels": ({"mask": torch.ones(2, 4, 6, 5)}, ValueError, "mask: .*multi_channel"),
    "mask: channel counts": (
        {"mask": ChannelMask(torch.ones(2, 2, 6, 5), (1, 2))}, ValueError, r"mask\.channels: .*4"),
    "mask: height of planes": (
        {"mask": ChannelMask(torch.ones(2, 2, 5, 5), (2, 2))}, ValueError, r"mask\.planes: "),
    "mask: rank of planes": (
        {"mask": ChannelMask(torch.ones(2, 2, 6), (2, 2))}, ValueError, r"mask\.planes: "),
    "mask: device of planes": (
        {"mask": ChannelMask(MASK.to(META), (4,))}, ValueError, r"mask\.planes: .*device"),
    "weight: rank": ({"weight": WEIGHT[0]}, ValueError, "weight: .*axes"),
    "weight: dtype": ({"weight": WEIGHT.double()}, TypeError, "weight: "),
    "weight: device": ({"weight": WEIGHT.to(META)}, ValueError, "weight: .*device"),
    "weight: no window": ({"weight": WEIGHT[..., :0]}, ValueError, "kernel_size: "),
    "bias: shape": ({"bias": BIAS[1:]}, ValueError, "bias: "),
    "bias: dtype": ({"bias": BIAS.double()}, TypeError, "bias: "),
    "bias: device": ({"bias": BIAS.to(META)}, ValueError, "bias: .*device"),
    "groups: zero": ({"groups": 0}, ValueError, "groups: "),
    "groups: outputs": (
        {"groups": 4, "weight": torch.zeros(6, 1, 3, 3)}, ValueError, "groups: .*divisor"),
    "groups: inputs": ({"groups": 2}, ValueError, "x: .*8 channels"),
    "stride: zero": ({"stride": 0}, ValueError, "stride: "),
    "stride: three": ({"stride": (1, 1, 1)}, ValueError, "stride: "),
    "stride: a fraction": ({"stride": 1.5}, TypeError, "stride: "),
    "padding: negative": ({"padding": (0, -1)}, ValueError, "padding: "),
    "padding: a word": ({"padding": "full"}, ValueError, "padding: .*'full'"),
    "padding: same with a stride": ({"padding": "same", "stride": 2}, ValueError, "padding: "),
    "dilation: zero": ({"dilation": 0}, ValueError, "dilation: "),
    "padding_mode: a word": ({"padding_mode": "constant"}, ValueError, "padding_mode: "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CONV)
def test_partial_conv2d(wrong: str) -> None:
    change, error, text = CONV[wrong]
    arguments: dict[str, Any] = {"x": X, "mask": MASK, "weight": WEIGHT, "bias": BIAS}
    partial_conv2d(**arguments)
    with pytest.raises(error, match="^" + text) as caught:
        partial_conv2d(**(arguments | change))
    assert type(caught.value) is error


NORM: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x: None": ({"x": None}, TypeError, "x: "),
    "x: rank": ({"x": X[0, 0]}, ValueError, "x: .*axes"),
    "x: integer": ({"x": X.int()}, TypeError, "x: .*floating"),
    "mask: None": ({"mask": None}, TypeError, "mask: "),
    "mask: a ChannelMask": ({"mask": ChannelMask(MASK, (4,))}, TypeError, "mask: "),
    "mask: channels": ({"mask": torch.ones(2, 4, 6, 5)}, ValueError, "mask: .*1 channel"),
    "mask: rank": ({"mask": MASK[0]}, ValueError, "mask: .*axes"),
    "mask: batch": ({"mask": torch.ones(3, 1, 6, 5)}, ValueError, "mask: .*batch"),
    "mask: width": ({"mask": MASK[..., 1:]}, ValueError, "mask: .*spatial"),
    "mask: device": ({"mask": MASK.to(META)}, ValueError, "mask: .*device"),
    "mask: complex": ({"mask": MASK.to(torch.complex64)}, TypeError, "mask: "),
    "weight: shape": ({"weight": torch.ones(4)}, ValueError, "weight: "),
    "weight: dtype": ({"weight": torch.ones(2, 4).double()}, TypeError, "weight: "),
    "weight: device": ({"weight": torch.ones(2, 4).to(META)}, ValueError, "weight: .*device"),
    "bias: shape": ({"bias": torch.ones(2, 5)}, ValueError, "bias: "),
    "bias: dtype": ({"bias": torch.ones(2, 4).half()}, TypeError, "bias: "),
    "stats: a word": ({"stats": "layer"}, ValueError, "stats: .*'layer'"),
}


@pytest.mark.parametrize("wrong", NORM)
def test_region_norm(wrong: str) -> None:
    change, error, text = NORM[wrong]
    arguments: dict[str, Any] = {"x": X, "mask": MASK}
    region_norm(**arguments)
    with pytest.raises(error, match="^" + text):
        region_norm(**(arguments | change))


ATTENTION: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x: rank": ({"x": X[0]}, ValueError, "x: .*axes"),
    "x: integer": ({"x": X.long()}, TypeError, "x: "),
    "x: no channels": ({"x": X[:, :0]}, ValueError, "x: .*channel"),
    "attention_weight: planes": (
        {"attention_weight": torch.zeros(1, 1, 7, 7)}, ValueError, "attention_weight: "),
    "attention_weight: dtype": (
        {"attention_weight": torch.zeros(1, 2, 7, 7).double()}, TypeError, "attention_weight: "),
    "gamma_weight: even": ({"gamma_weight": torch.zeros(1, 1, 4, 4)}, ValueError, "gamma_weight: "),
    "gamma_bias: shape": ({"gamma_bias": torch.zeros(2)}, ValueError, "gamma_bias: "),
    "beta_weight: rank": ({"beta_weight": torch.zeros(7, 7)}, ValueError, "beta_weight: "),
    "beta_bias: device": ({"beta_bias": torch.zeros(1).to(META)}, ValueError, "beta_bias: "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", ATTENTION)
def test_attention_region_norm(wrong: str) -> None:
    change, error, text = ATTENTION[wrong]
    arguments: dict[str, Any] = {
        "x": X,
        "attention_weight": torch.zeros(1, 2, 7, 7),
        "gamma_weight": torch.zeros(1, 1, 7, 7),
        "gamma_bias": torch.zeros(1),
        "beta_weight": torch.zeros(1, 1, 7, 7),
        "beta_bias": torch.zeros(1),
    }
    attention_region_norm(**arguments)
    with pytest.raises(error, match="^" + text):
        attention_region_norm(**(arguments | change))


UPDATE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "mask: None": ({"mask": None}, TypeError, "mask: "),
    "mask: complex": ({"mask": MASK.to(torch.complex64)}, TypeError, "mask: "),
    "mask: rank 2": ({"mask": MASK[0, 0]}, ValueError, "mask: "),
    "mask: rank 6": ({"mask": MASK[None, None]}, ValueError, "mask: "),
    "mask: no channels": ({"mask": MASK[:, :0]}, ValueError, "mask: .*channel"),
    "mask: no pixels": ({"mask": MASK[..., :0]}, ValueError, "mask: "),
    "mask: too small": ({"kernel_size": 7}, ValueError, "mask: .*larger"),
    "kernel_size: zero": ({"kernel_size": (3, 0)}, ValueError, "kernel_size: "),
    "kernel_size: three": ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size: "),
    "kernel_size: text": ({"kernel_size": "3"}, TypeError, "kernel_size: "),
    "stride: negative": ({"stride": -1}, ValueError, "stride: "),
    "padding: negative": ({"padding": -1}, ValueError, "padding: "),
    "padding: a word": ({"padding": "half"}, ValueError, "padding: "),
    "padding: same with a stride": ({"padding": "same", "stride": 2}, ValueError, "padding: "),
    "dilation: zero": ({"dilation": 0}, ValueError, "dilation: "),
}


@pytest.mark.parametrize("wrong", UPDATE)
def test_update_mask(wrong: str) -> None:
    change, error, text = UPDATE[wrong]
    arguments: dict[str, Any] = {"mask": MASK, "kernel_size": 3}
    update_mask(**arguments)
    with pytest.raises(error, match="^" + text):
        update_mask(**(arguments | change))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ChannelMask([1.0], (1,)), TypeError, "planes: "),  # type: ignore[arg-type]
        (lambda: ChannelMask(torch.ones(2, 2), (1, 1)), ValueError, "planes: "),
        (lambda: ChannelMask(torch.ones(2, 2, 3, 3), (1,)), ValueError, "channels: .*2 counts"),
        (lambda: ChannelMask(torch.ones(2, 2, 3, 3), (1, 0)), ValueError, "channels: .*positive"),
        (lambda: ChannelMask(torch.ones(2, 1, 3, 3), (-3,)), ValueError, "channels: .*positive"),
        (lambda: ChannelMask(torch.ones(2, 1, 3, 3), (1.5,)),  # type: ignore[arg-type]
         TypeError, "channels: "),
        (lambda: ChannelMask(torch.ones(2, 1, 3, 3), 4),  # type: ignore[arg-type]
         TypeError, "channels: "),
        (lambda: RegionNorm2d(0), ValueError, "num_features: "),
        (lambda: RegionNorm2d(4, stats="group"), ValueError, "stats: "),
        (lambda: PartialConv2d(4, 4, 3)([1.0]), TypeError, "x: "),
        (lambda: PartialConv2d(4, 4, 3)(X, torch.ones(2, 4, 6, 5)), ValueError, "mask: "),
        (lambda: RN_B(4)(X, None), TypeError, "mask: "),
        (lambda: RN_B(4)(X, torch.ones(2, 4, 6, 5)), ValueError, "mask: "),
        (lambda: RN_B(4)(X, torch.ones(6, 5)), ValueError, "mask: "),
        (lambda: RN_B(3)(X, MASK), ValueError, "weight: "),
        (lambda: RN_L(4)(X[0]), ValueError, "x: "),
    ],
)  # fmt: skip
def test_constructors_and_modules(
    make: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match="^" + text):
        make()


# Empty, but right -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [BIAS, None], ids=["bias", "no bias"])
@pytest.mark.parametrize("mask", [None, MASK[:0], MASK[:1]], ids=["no mask", "empty", "one"])
def test_partial_conv_of_an_empty_batch(mask: Tensor | None, bias: Tensor | None) -> None:
    leaves = [t.clone().requires_grad_() for t in (X[:0], WEIGHT)]
    b = None if bias is None else bias.clone().requires_grad_()
    y, new_mask = partial_conv2d(leaves[0], mask, leaves[1], b, padding=1)
    assert y.shape == (0, 6, 6, 5)
    assert isinstance(new_mask, Tensor)
    assert new_mask.shape == (1 if mask is None else len(mask), 1, 6, 5)
    y.sum().backward()
    for t in leaves if b is None else [*leaves, b]:
        assert t.grad is not None
        assert t.grad.shape == t.shape
        assert (t.grad == 0).all()


@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_norm_of_an_empty_batch(stats: str) -> None:
    leaves = [t.requires_grad_() for t in (X[:0].clone(), torch.ones(2, 4), torch.zeros(2, 4))]
    y = region_norm(leaves[0], MASK[:0], leaves[1], leaves[2], stats=stats)
    assert y.shape == (0, 4, 6, 5)
    y.sum().backward()
    for t in leaves:
        assert t.grad is not None
        assert t.grad.shape == t.shape
        assert (t.grad == 0).all()


def test_attention_region_norm_of_an_empty_batch() -> None:
    module, x = RN_L(4), X[:0].clone().requires_grad_()
    y = module(x)
    assert y.shape == (0, 4, 6, 5)
    y.sum().backward()
    for p in (x, *module.parameters()):
        assert p.grad is not None
        assert (p.grad == 0).all()


@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_norm_without_pixels(stats: str) -> None:
    x = X[:, :, :0].clone().requires_grad_()
    y = region_norm(x, MASK[:, :, :0], stats=stats)
    assert y.shape == (2, 4, 0, 5)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_messages_show_the_offending_shape() -> None:
    with pytest.raises(ValueError, match=re.escape("(2, 4, 6, 5)")):
        region_norm(X, torch.ones_like(X))
    with pytest.raises(ValueError, match=re.escape("(3, 3)")):
        partial_conv2d(X[..., :2], None, WEIGHT)


def test_a_wrong_type_is_refused_whatever_ran_before() -> None:
    partial_conv2d(X, MASK, WEIGHT, None, 1, 1)
    with pytest.raises(TypeError, match=r"^padding: .*1\.0"):
        partial_conv2d(X, MASK, WEIGHT, None, 1, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^stride: "):
        partial_conv2d(X, MASK, WEIGHT, None, (1.0, 1.0), 1)  # type: ignore[arg-type]


def test_empty_batch_with_a_mask_in_the_other_memory_order() -> None:
    mask = torch.ones(0, 4, 6, 5).to(memory_format=torch.channels_last)
    y, _ = partial_conv2d(X[:0], mask, WEIGHT, None, 1, 1, multi_channel=True)
    assert y.shape == (0, 6, 6, 5)


ONES = torch.ones(2, 4)
SMALL, LARGE = torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 8, 8)
UP_MASKS = torch.ones(2, 1, 4, 4), torch.ones(2, 1, 8, 8)
KERNEL, ONE = torch.zeros(1, 1, 3, 3), torch.zeros(1)

NO_TENSORS: dict[str, Callable[[], object]] = {
    "weight": lambda: partial_conv2d(X, MASK, [1.0]),  # type: ignore[arg-type]
    "bias": lambda: partial_conv2d(X, MASK, WEIGHT, [1.0]),  # type: ignore[arg-type]
    "weight (None)": lambda: partial_conv2d(X, MASK, None),  # type: ignore[arg-type]
    "groups": lambda: partial_conv2d(X, MASK, WEIGHT, groups="2"),  # type: ignore[arg-type]
    "eps": lambda: partial_conv2d(X, MASK, WEIGHT, eps="a"),  # type: ignore[arg-type]
    "mask_padding_mode": lambda: partial_conv2d(
        X, MASK, WEIGHT, mask_padding_mode=3),  # type: ignore[arg-type]
    "weight (norm)": lambda: region_norm(X, MASK, [1.0]),  # type: ignore[arg-type]
    "bias (norm)": lambda: region_norm(X, MASK, ONES, [1.0]),  # type: ignore[arg-type]
    "eps (norm)": lambda: region_norm(X, MASK, eps=None),  # type: ignore[arg-type]
    "gamma_bias": lambda: attention_region_norm(
        X, torch.zeros(1, 2, 3, 3), KERNEL, 0.0, KERNEL, ONE),  # type: ignore[arg-type]
    "threshold": lambda: attention_region_norm(
        X, torch.zeros(1, 2, 3, 3), KERNEL, ONE, KERNEL, ONE, "0.8"),  # type: ignore[arg-type]
    "weight (upsampled)": lambda: partial_conv2d_upsampled(
        SMALL, UP_MASKS[0], LARGE, UP_MASKS[1], [1.0]),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TENSORS)
def test_what_is_no_tensor_and_no_number_is_named(case: str) -> None:
    with pytest.raises(TypeError, match=rf"^{case.split(' ')[0]}: expected"):
        NO_TENSORS[case]()


def _upsampled(**change: Tensor) -> object:
    arguments: dict[str, Any] = {
        "x": SMALL, "mask": UP_MASKS[0], "skip": LARGE, "skip_mask": UP_MASKS[1],
        "weight": torch.zeros(3, 4, 3, 3), "bias": torch.zeros(3),
    }  # fmt: skip
    return partial_conv2d_upsampled(**(arguments | change))


def _attention(name: str) -> object:
    one: dict[str, Any] = {
        "attention_weight": torch.zeros(1, 2, 3, 3), "gamma_weight": KERNEL, "gamma_bias": ONE,
        "beta_weight": KERNEL, "beta_bias": ONE,
    }  # fmt: skip
    return attention_region_norm(X, **(one | {name: one[name].to(META)}))


LINE, CUBE = torch.zeros(2, 4, 6), torch.zeros(2, 4, 5, 6, 5)

# function and argument -> a call whose other tensors are on the CPU.
ELSEWHERE: dict[str, Callable[[], object]] = {
    "partial_conv1d mask": lambda: partial_conv1d(LINE, LINE[:, :1].to(META), WEIGHT[..., 0]),
    "partial_conv1d weight": lambda: partial_conv1d(LINE, None, WEIGHT[..., 0].to(META)),
    "partial_conv1d bias": lambda: partial_conv1d(LINE, None, WEIGHT[..., 0], BIAS.to(META)),
    "partial_conv2d mask": lambda: partial_conv2d(X, MASK.to(META), WEIGHT),
    "partial_conv2d mask.planes": lambda: partial_conv2d(
        X, ChannelMask(MASK.to(META), (4,)), WEIGHT),
    "partial_conv2d weight": lambda: partial_conv2d(X, MASK, WEIGHT.to(META)),
    "partial_conv2d bias": lambda: partial_conv2d(X, MASK, WEIGHT, BIAS.to(META)),
    "partial_conv3d mask": lambda: partial_conv3d(
        CUBE, CUBE[:, :1].to(META), torch.zeros(6, 4, 3, 3, 3)),
    "partial_conv3d weight": lambda: partial_conv3d(
        CUBE, None, torch.zeros(6, 4, 3, 3, 3, device=META)),
    "partial_conv3d bias": lambda: partial_conv3d(
        CUBE, None, torch.zeros(6, 4, 3, 3, 3), BIAS.to(META)),
    "PartialConv2d weight": lambda: PartialConv2d(4, 6, 3, device=META)(X, MASK),
    "region_norm mask": lambda: region_norm(X, MASK.to(META)),
    "region_norm weight": lambda: region_norm(X, MASK, ONES.to(META)),
    "region_norm bias": lambda: region_norm(X, MASK, ONES, ONES.to(META)),
    "RegionNorm2d weight": lambda: RegionNorm2d(4).to(META)(X, MASK),
    "RN_B mask": lambda: RN_B(4)(X, MASK.to(META)),
    "RN_B mask, resized": lambda: RN_B(4)(X, torch.ones(2, 1, 3, 3, device=META)),
    "RN_B weight": lambda: RN_B(4).to(META)(X, MASK),
    "RN_L attention_weight": lambda: RN_L(4).to(META)(X),
    **{
        f"attention_region_norm {name}": lambda name=name: _attention(name)  # type: ignore[misc]
        for name in ("attention_weight", "gamma_weight", "gamma_bias", "beta_weight", "beta_bias")
    },
    "partial_conv2d_upsampled mask": lambda: _upsampled(mask=UP_MASKS[0].to(META)),
    "partial_conv2d_upsampled skip": lambda: _upsampled(skip=LARGE.to(META)),
    "partial_conv2d_upsampled skip_mask": lambda: _upsampled(skip_mask=UP_MASKS[1].to(META)),
    "partial_conv2d_upsampled weight": lambda: _upsampled(
        weight=torch.zeros(3, 4, 3, 3, device=META)),
    "partial_conv2d_upsampled bias": lambda: _upsampled(bias=torch.zeros(3, device=META)),
}  # fmt: skip


@pytest.mark.parametrize("case", ELSEWHERE)
def test_a_tensor_on_another_device_is_named_with_both(case: str) -> None:
    name = case.split(" ")[1].removesuffix(",")
    with pytest.raises(
        ValueError, match=rf"^{re.escape(name)}: expected device cpu \(as (x|skip)\), got meta$"
    ):
        ELSEWHERE[case]()
