"""Arguments of the public functions: brought to one form, or refused by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .backends.precision import compute_dtype
from .backends.window import output_size


class Window(NamedTuple):
    """How a window moves over the spatial axes: one number for each axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]  # on both sides
    extra: tuple[int, ...]  # at the far side alone: 'same' with an even window
    dilation: tuple[int, ...]


def numbers(name: str, value: int | Sequence[int], axes: int, least: int) -> tuple[int, ...]:
    """``value`` as one whole number per spatial axis, each at least ``least``."""
    if isinstance(value, int):
        found = (value,) * axes
    elif isinstance(value, Sequence) and all(isinstance(number, int) for number in value):
        found = tuple(value) * axes if len(value) == 1 else tuple(value)
    else:
        raise TypeError(f"{name}: expected whole numbers, got {value!r}")
    if len(found) != axes:
        raise ValueError(f"{name}: expected one number or {axes}, got {value}")
    if any(number < least for number in found):
        raise ValueError(f"{name}: expected numbers of at least {least}, got {value}")
    return found


def constant(name: str, value: float) -> float:
    """``value``, a number, as a guarded constant under torch.compile.

    With dynamic shapes the compiler turns floats into inputs of the graph, and fails on one that
    two autograd functions share.
    """
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    return float(f"{value}") if torch.compiler.is_compiling() else value


def check_tensor(name: str, value: object) -> None:
    """Raise unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")


def check_parameters(weight: object, bias: object) -> None:
    """Raise unless weight is a tensor, and bias one or None."""
    check_tensor("weight", weight)
    if bias is not None:
        check_tensor("bias", bias)


_AUTOCAST_DEVICES = ("cpu", "cuda")  # torch raises when it is asked about others, such as meta


def check_process_group(group: object) -> None:
    """Raise TypeError unless it is None or a process group that this process belongs to."""
    if group is None:
        return
    if not dist.is_available():
        raise TypeError("process_group: expected None, this torch is built without distributed")
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"process_group: expected a torch.distributed.ProcessGroup that this process belongs "
            f"to, or None, got {type(group).__name__}"
        )


def _autocasts(x: Tensor) -> bool:
    return x.device.type in _AUTOCAST_DEVICES and torch.is_autocast_enabled(x.device.type)


def autocast(x: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """Tensors in autocast's dtype where it is enabled for x's device; float64 is left alone."""
    if not _autocasts(x):
        return (x, *others)
    dtype = torch.get_autocast_dtype(x.device.type)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in (x, *others)
    )


def norm_parameter(name: str, parameter: Tensor, x: Tensor) -> Tensor:
    """A norm's parameter in the dtype that x is computed in.

    It may have that dtype already, as parameters have while features are in half precision; under
    autocast, any.
    """
    wide = compute_dtype(x.dtype)
    if parameter.dtype not in (x.dtype, wide) and not _autocasts(x):
        allowed = f"{x.dtype} (as x)" if x.dtype == wide else f"{x.dtype} (as x) or {wide}"
        raise TypeError(f"{name}: expected {allowed}, got {parameter.dtype}")
    check_device(name, parameter, x)
    return parameter if parameter.dtype == wide else parameter.to(wide)


def check_x(x: Tensor, axes: int, name: str = "x") -> None:
    """Raise unless x is a floating tensor of (N, C) and ``axes`` spatial axes."""
    check_tensor(name, x)
    if x.dim() != axes + 2:
        layout = "(N, C, " + ", ".join("L" if axes == 1 else "DHW"[3 - axes :]) + ")"
        raise ValueError(f"{name}: expected {axes + 2} axes {layout}, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {x.dtype}")


def check_skip(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless skip, weight and bias are those of a convolution of x beside the skip."""
    check_like_x("skip", skip, x)
    if skip.shape[0] != x.shape[0]:
        raise ValueError(f"skip: expected batch {x.shape[0]} (as x), got {skip.shape[0]}")
    if weight.dim() != 4 or weight.shape[1] != x.shape[1] + skip.shape[1]:
        raise ValueError(
            f"weight: expected (C_out, {x.shape[1]} + {skip.shape[1]}, kh, kw), the channels of x "
            f"and skip, got shape {tuple(weight.shape)}"
        )
    check_like_x("weight", weight, x)
    check_bias(x, weight, bias)


def check_like_x(name: str, tensor: Tensor, x: Tensor) -> None:
    """Raise unless ``tensor`` has the dtype and device of x."""
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name}: expected {x.dtype} (as x), got {tensor.dtype}")
    check_device(name, tensor, x)


def check_device(name: str, tensor: Tensor, x: Tensor) -> None:
    """Raise unless ``tensor`` has the device of x."""
    if tensor.device != x.device:
        raise ValueError(f"{name}: expected device {x.device} (as x), got {tensor.device}")


def check_weight(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    """Raise unless weight and bias are those of a convolution of x."""
    if weight.dim() != x.dim():
        raise ValueError(
            f"weight: expected {x.dim()} axes (C_out, C_in / groups, kernel...), "
            f"got shape {tuple(weight.shape)}"
        )
    check_like_x("weight", weight, x)
    if not isinstance(groups, int):
        raise TypeError(f"groups: expected a whole number, got {groups!r}")
    if groups < 1:
        raise ValueError(f"groups: expected a positive number, got {groups}")
    if weight.shape[0] % groups != 0:
        raise ValueError(
            f"groups: expected a divisor of the {weight.shape[0]} output channels, got {groups}"
        )
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"x: expected {weight.shape[1] * groups} channels (weight {tuple(weight.shape)}, "
            f"groups {groups}), got {x.shape[1]}"
        )
    check_bias(x, weight, bias)


def check_bias(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise unless bias is None or has an entry for each output channel."""
    if bias is None:
        return
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: expected shape ({weight.shape[0]},), got {tuple(bias.shape)}")
    check_like_x("bias", bias, x)


def _window(
    name: str,
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
) -> Window:
    axes = len(size)
    strides = numbers("stride", stride, axes, 1)
    dilations = numbers("dilation", dilation, axes, 1)
    before, extra = _split_padding(padding, kernel_size, strides, dilations)
    padded = [n + e for n, e in zip(size, extra, strict=True)]
    _check_window(name, padded, kernel_size, strides, before, dilations)
    return Window(strides, before, extra, dilations)


_window_of = functools.lru_cache(maxsize=4096)(_window)


def window(
    name: str,
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
) -> Window:
    """The window of a convolution over ``size``, or an error that names the argument.

    The arithmetic of a shape is done once: small layers take no longer than these checks.
    """
    if not torch.compiler.is_compiling() and all(
        map(_hashes_as_itself, (size, kernel_size, stride, padding, dilation))
    ):
        return _window_of(name, size, kernel_size, stride, padding, dilation)
    return _window(name, size, kernel_size, stride, padding, dilation)


def _hashes_as_itself(value: object) -> bool:
    """Whether ``value`` can be told from others by its hash: 1, 1.0 and True have the same."""
    if isinstance(value, tuple):  # a torch.Size too; symbolic sizes are no plain numbers
        return all(map(_is_int, value))
    return type(value) is int or type(value) is str


def _is_int(value: object) -> bool:
    return type(value) is int


def _check_window(
    name: str,
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    if any(length < 1 for length in size):
        raise ValueError(f"{name}: expected a spatial size of at least 1, got {tuple(size)}")
    if any(k < 1 for k in kernel_size):
        raise ValueError(f"kernel_size: expected at least 1, got {tuple(kernel_size)}")
    if any(n < 1 for n in output_size(size, kernel_size, stride, padding, dilation)):
        span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True))
        padded = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
        raise ValueError(
            f"{name}: the window {span} (kernel {tuple(kernel_size)}, dilation {tuple(dilation)}) "
            f"is larger than the padded size {padded}"
        )


def _split_padding(
    padding: int | Sequence[int] | str,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding on both sides, and what 'same' adds at the far side for even windows."""
    axes = len(kernel_size)
    none = (0,) * axes
    if not isinstance(padding, str):
        return numbers("padding", padding, axes, 0), none
    if padding == "valid":
        return none, none
    if padding != "same":
        raise ValueError(f"padding: expected numbers, 'same' or 'valid', got {padding!r}")
    if any(s != 1 for s in stride):
        raise ValueError(f"padding: 'same' needs stride 1, got stride {tuple(stride)}")
    total = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    return tuple(t // 2 for t in total), tuple(t % 2 for t in total)
