"""The decoder's step: both forms against concatenation in float64, gradients, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from inpaint_ops import (
    ChannelMask,
    PartialConv2d,
    UpsampledPartialConv2d,
    partial_conv2d_upsampled,
    upsampling,
    use_backend,
)

NCHW, NHWC = torch.contiguous_format, torch.channels_last

# (h, w), (H, W), transposed: at least 1024 output pixels in the batch and exactly twice the size.
SIZES = {
    "transposed": ((16, 20), (32, 40), True),
    "odd skip": ((17, 18), (33, 35), False),
    "small": ((5, 4), (10, 8), False),
    "not twice": ((11, 12), (33, 36), False),
}


def _inputs(small: tuple[int, int], large: tuple[int, int], dtype: torch.dtype) -> dict[str, Any]:
    return {
        "x": torch.randn(2, 5, *small, dtype=dtype) + 3,
        "mask": (torch.rand(2, 1, *small) > 0.3).to(dtype),
        "skip": torch.randn(2, 3, *large, dtype=dtype) - 2,
        "skip_mask": (torch.rand(2, 1, *large) > 0.3).to(dtype),
        "weight": torch.randn(4, 8, 3, 3, dtype=dtype),
        "bias": torch.randn(4, dtype=dtype),
    }


def _joined(plain: Any, a: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """y and the new mask in float64, by concatenation."""
    size = a["skip"].shape[2:]
    batch = a["x"].shape[0]
    x = torch.cat([F.interpolate(a["x"], size, mode="nearest"), a["skip"]], 1)
    masks = [a["mask"], a["skip_mask"]]
    masks = [(m if m.is_floating_point() else m != 0).double() for m in masks]
    masks[0] = F.interpolate(masks[0], size, mode="nearest")
    planes = torch.cat([m.expand(batch, -1, -1, -1) for m in masks], 1)
    mask = ChannelMask(planes.to(x.dtype), (a["x"].shape[1], a["skip"].shape[1]))
    out: tuple[Tensor, Tensor] = plain.partial_conv(x, mask, a["weight"], a["bias"], padding=1)
    return out


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [NCHW, NHWC], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_concatenation(
    plain: Any,
    size: str,
    order: torch.memory_format,
    dtype: torch.dtype,
    backend: str,
) -> None:
    small, large, transposed = SIZES[size]
    a = _inputs(small, large, dtype)
    leaves = [a[k].requires_grad_() for k in ("x", "skip", "weight", "bias")]
    expected, new = _joined(plain, a)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, leaves, grad)
    with use_backend(backend):
        # The plain backend runs the plain formula.
        form = upsampling._prepare(**a)
        assert upsampling._as_transposed(form, 1) == (transposed and backend == "cpu")
        for k in ("x", "skip", "weight"):
            a[k] = a[k].to(memory_format=order)
        y, new_mask = partial_conv2d_upsampled(**a)
        found = torch.autograd.grad(y, leaves, grad.to(dtype))
    plain.close(y, expected, 8 * 9)
    assert torch.equal(new_mask.double(), new)
    for f, w in zip(found, wanted, strict=True):
        plain.close(f, w, 2 * large[0] * large[1])


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.float64])
@pytest.mark.parametrize("size", ["transposed", "odd skip"])
def test_masks_of_any_dtype_and_of_one_image(
    plain: Any, size: str, mask_dtype: torch.dtype
) -> None:
    small, large, _ = SIZES[size]
    a = _inputs(small, large, torch.float32)
    a["mask"] = a["mask"][:1].to(mask_dtype) * 1
    a["mask"] = a["mask"].to(mask_dtype)
    a["skip_mask"] = a["skip_mask"].to(mask_dtype)
    y, new_mask = partial_conv2d_upsampled(**a)
    expected, new = _joined(plain, a)
    plain.close(y, expected, 8 * 9)
    assert new_mask.dtype == mask_dtype
    assert torch.equal(new_mask.double(), new)


@pytest.mark.parametrize("size", ["transposed", "odd skip"])
def test_soft_masks(plain: Any, size: str) -> None:
    small, large, _ = SIZES[size]
    a = _inputs(small, large, torch.float64)
    a["mask"], a["skip_mask"] = a["mask"] * 0.25, a["skip_mask"] * 0.5
    y, new_mask = partial_conv2d_upsampled(**a)
    expected, new = _joined(plain, a)
    plain.close(y, expected, 8 * 9)
    plain.close(new_mask, new, 8 * 9)


@pytest.mark.parametrize("size", ["transposed", "odd skip"])
def test_what_lies_under_a_hole_stays_there(size: str) -> None:
    small, large, _ = SIZES[size]
    a = _inputs(small, large, torch.float32)
    clean, _ = partial_conv2d_upsampled(**a)
    for features, mask in (("x", "mask"), ("skip", "skip_mask")):
        holes = (a[mask] == 0).expand_as(a[features])
        assert holes.any()
        a[features] = a[features].masked_fill(holes, torch.nan)
        a[features].requires_grad_()
    y, _ = partial_conv2d_upsampled(**a)
    torch.testing.assert_close(y, clean, rtol=0, atol=0)
    y.sum().backward()
    for features, mask in (("x", "mask"), ("skip", "skip_mask")):
        assert torch.equal(a[features].grad * (a[mask] == 0), torch.zeros_like(a[features].grad))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_full_holes_and_none(plain: Any, value: float) -> None:
    small, large, _ = SIZES["transposed"]
    a = _inputs(small, large, torch.float32)
    a["mask"], a["skip_mask"] = (torch.full_like(a[k], value) for k in ("mask", "skip_mask"))
    y, new_mask = partial_conv2d_upsampled(**a)
    expected, new = _joined(plain, a)
    plain.close(y, expected, 8 * 9)
    assert torch.equal(new_mask.double(), new)


def test_gradcheck_of_the_transposed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsampling, "_LEAST_PIXELS", 1)
    a = _inputs((2, 2), (4, 4), torch.float64)
    a = {k: v[:1, :2] if v.dim() == 4 else v for k, v in a.items()}
    a["weight"] = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    a["bias"] = a["bias"][:2]
    assert upsampling._as_transposed(upsampling._prepare(**a), 1)
    leaves = tuple(a[k].requires_grad_() for k in ("x", "skip", "weight", "bias"))

    def call(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return partial_conv2d_upsampled(x, a["mask"], skip, a["skip_mask"], weight, bias)[0]

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("size", ["transposed", "odd skip"])
def test_compiles_without_graph_breaks(size: str) -> None:
    small, large, _ = SIZES[size]
    a = _inputs(small, large, torch.float32)
    conv = UpsampledPartialConv2d(5, 3, 4)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    given = [a[k] for k in ("x", "mask", "skip", "skip_mask")]
    y, new_mask = compiled(*given)
    expected, expected_mask = conv(*given)
    torch.testing.assert_close(y, expected)
    assert torch.equal(new_mask, expected_mask)
    y.square().sum().backward()


def test_exports_with_sizes_on_both_sides_of_the_choice() -> None:
    conv = UpsampledPartialConv2d(5, 3, 4)
    side = torch.export.Dim("side", min=4, max=256)
    a = _inputs((16, 16), (32, 32), torch.float32)
    given = tuple(a[k] for k in ("x", "mask", "skip", "skip_mask"))
    sizes = ({2: side}, {2: side}, {2: 2 * side}, {2: 2 * side})
    program = torch.export.export(conv, given, dynamic_shapes=sizes).module()
    for rows in (5, 40):
        b = _inputs((rows, 16), (2 * rows, 32), torch.float32)
        other = [b[k] for k in ("x", "mask", "skip", "skip_mask")]
        torch.testing.assert_close(program(*other)[0], conv(*other)[0], rtol=1e-4, atol=1e-4)


def test_under_vmap() -> None:
    a = _inputs((16, 16), (32, 32), torch.float32)
    x = torch.randn(3, *a["x"].shape)

    def call(x: Tensor) -> Tensor:
        return partial_conv2d_upsampled(**(a | {"x": x}))[0]

    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(call)(x)[1], call(x[1]))


def test_empty_batch_with_a_shared_mask() -> None:
    a = _inputs((4, 4), (8, 8), torch.float32)
    for name in ("x", "skip"):
        a[name] = a[name][:0]
    for name in ("mask", "skip_mask"):
        a[name] = a[name][:1]
    y, new_mask = partial_conv2d_upsampled(**a)
    assert y.shape == (0, 4, 8, 8)
    assert new_mask.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("kernel_size", [2, 0, -1])
def test_even_windows_are_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"^kernel_size: .*odd.*{kernel_size}"):
        UpsampledPartialConv2d(5, 3, 4, kernel_size)


def test_module_loads_the_checkpoint_of_a_partial_convolution() -> None:
    up, plain_conv = UpsampledPartialConv2d(5, 3, 4), PartialConv2d(8, 4, 3, padding=1)
    up.load_state_dict(plain_conv.state_dict())
    plain_conv.load_state_dict(up.state_dict())
    assert up.in_channels == 8


def test_weights_may_be_parametrized() -> None:
    """The weight is read as an attribute, as spectral norm and its like expect."""

    class Double(torch.nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    small, large, _ = SIZES["transposed"]
    a = _inputs(small, large, torch.float32)
    conv = UpsampledPartialConv2d(5, 3, 4, bias=False)
    given = [a[k] for k in ("x", "mask", "skip", "skip_mask")]
    before, _ = conv(*given)
    parametrize.register_parametrization(conv, "weight", Double())
    torch.testing.assert_close(conv(*given)[0], 2 * before)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "x: rank": ({"x": torch.zeros(5, 4, 4)}, ValueError, "x: .*axes"),
    "skip: a list": ({"skip": [1.0]}, TypeError, "skip: "),
    "skip: rank": ({"skip": torch.zeros(3, 8, 8)}, ValueError, "skip: .*axes"),
    "skip: dtype": ({"skip": torch.zeros(2, 3, 8, 8).double()}, TypeError, "skip: .*float32"),
    "skip: batch": ({"skip": torch.zeros(1, 3, 8, 8)}, ValueError, "skip: .*batch 2"),
    "mask: size": ({"mask": torch.ones(2, 1, 8, 8)}, ValueError, "mask: .*spatial"),
    "mask: channels": ({"mask": torch.ones(2, 5, 4, 4)}, ValueError, "mask: .*1 channel"),
    "mask: a list": ({"mask": [1.0]}, TypeError, "mask: "),
    "mask: channel mask": (
        {"mask": ChannelMask(torch.ones(2, 1, 4, 4), (5,))}, TypeError, "mask: .*ChannelMask"),
    "skip_mask: size": (
        {"skip_mask": torch.ones(2, 1, 4, 4)}, ValueError, "skip_mask: .*spatial size of skip"),
    "skip_mask: batch": (
        {"skip_mask": torch.ones(3, 1, 8, 8)}, ValueError, r"skip_mask: .*batch 2 \(as skip\)"),
    "skip_mask: dtype": (
        {"skip_mask": torch.ones(2, 1, 8, 8).bool()}, TypeError, "skip_mask: .*float32"),
    "weight: channels": (
        {"weight": torch.zeros(4, 7, 3, 3)}, ValueError, r"weight: .*5 \+ 3.*\(4, 7, 3, 3\)"),
    "weight: dtype": ({"weight": torch.zeros(4, 8, 3, 3).double()}, TypeError, "weight: "),
    "bias: shape": ({"bias": torch.zeros(5)}, ValueError, r"bias: .*\(4,\)"),
    "padding: negative": ({"padding": -1}, ValueError, "padding: "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    change, error, message = BAD[case]
    good = _inputs((4, 4), (8, 8), torch.float32)
    with pytest.raises(error, match=f"^{message}"):
        partial_conv2d_upsampled(**(good | change))
