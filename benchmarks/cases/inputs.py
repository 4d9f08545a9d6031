"""Inputs of the cases: pictures, masks, and what the layers of the network see of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..baselines import UNet
from ..data import load_images, load_masks
from ..plan import Plan


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """The same bits in each call, on a GPU too: candidates and truth make their inputs apart."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def rounded(plan: Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
    """In the plan's dtype."""
    return tuple(tensor.to(plan.torch_dtype) for tensor in tensors)


@lru_cache(maxsize=2)
def pictures(plan: Plan, hole_ratio: float) -> tuple[Tensor, Tensor]:
    """Photographs (N, 3, H, W) and irregular masks (N, 1, H, W), on the plan's device."""
    images = load_images(plan.batch, plan.size)
    if hole_ratio == 1:
        masks = torch.zeros(plan.batch, 1, plan.size, plan.size)
    else:
        masks = load_masks(plan.batch, plan.size, hole_ratio, plan.seed)
    return images.to(plan.device), masks.to(plan.device)


@lru_cache(maxsize=1)
def activations(plan: Plan, hole_ratio: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Features and mask planes at the input of every layer, from a forward pass on photographs,
    in float32.

    The masks went through the same updates as in the network, so deep layers see the small holes
    they would see there.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), exactly():
        torch.manual_seed(plan.seed)
        net = UNet("cgan_pc_rn", "one-channel")
        spread_weights(net)
        seen = net.to(plan.device).trace(*pictures(plan, hole_ratio))
    return {name: (x, planes) for name, (x, planes) in seen.items() if planes is not None}


def mixed(plan: Plan, hole_ratio: float, channels: int) -> tuple[Tensor, Tensor]:
    """That many random mixtures of the photographs' colours, and the masks (N, 1, H, W)."""
    images, masks = pictures(plan, hole_ratio)
    with exactly():
        x = F.conv2d(images, noise(plan, channels, 3, 1, 1, salt=3).float())
    x, masks = rounded(plan, x, masks)
    return x, masks


def spread_weights(net: nn.Module) -> None:
    """Kaiming-normal weights for the layers' convolutions, so that activations keep their size."""
    for name, parameter in net.named_parameters():
        if name.endswith(".conv.weight"):
            nn.init.kaiming_normal_(parameter)


def noise(plan: Plan, *shape: int, salt: int = 0) -> Tensor:
    """Standard normal numbers that depend on the plan's seed and ``salt`` only."""
    generator = torch.Generator().manual_seed(1000 + 17 * plan.seed + salt)
    return torch.randn(*shape, generator=generator).to(plan.device, plan.torch_dtype)


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    """A detached copy of ``tensor`` in the memory layout of that name."""
    last = torch.channels_last_3d if tensor.dim() == 5 else torch.channels_last
    wanted = last if layout == "channels_last" else torch.contiguous_format
    return tensor.detach().clone(memory_format=wanted)
