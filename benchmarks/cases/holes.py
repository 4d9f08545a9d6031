"""Filling the holes of one large picture: the whole decoder, or as much as the holes need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import torch
from inpaint_models import composite, create_model, fill_holes
from inpaint_models.partial_unet import PartialUNet
from torch import Tensor

from ..baselines import UNet
from ..data import load_images, load_masks
from ..figures import HOLES_ONLY
from ..plan import Plan
from .base import CHANNELS_LAST, FORWARD, Candidate, Case, Outputs, Truth
from .inputs import in_layout
from .network import OUTPUT_TOLERANCE

NETWORK = "pconv_unet"
STROKES = 0.15
"""Share of the holes that lie all over the picture, as those of the other networks' cases."""

Fill = Callable[[PartialUNet, Tensor, Tensor], Tensor]


def hole_cases(plan: Plan) -> Iterator[Case]:
    """A square hole for each of the plan's shares, and strokes all over the picture."""
    if not plan.hole_shares:
        return
    size = plan.filled_size
    for share in plan.hole_shares:
        yield _case(plan, f"square {share:.0%}", partial(_square, size, share))
    yield _case(plan, f"strokes {STROKES:.0%}", partial(load_masks, 1, size, STROKES, plan.seed))


def _case(plan: Plan, name: str, mask: Callable[[], Tensor]) -> Case:
    shape = (1, 3, plan.filled_size, plan.filled_size)
    fills: dict[str, Fill] = {
        "fused": _whole,
        HOLES_ONLY: fill_holes,
        "fused, encoder": _encoder,
    }
    return Case(
        group="holes",
        name=name,
        detail=f"{NETWORK} {'x'.join(map(str, shape))}",
        mode=FORWARD,
        shape=shape,
        candidates=[
            Candidate(
                provider, CHANNELS_LAST, partial(_build, plan, mask, fill), fill is not _encoder
            )
            for provider, fill in fills.items()
        ],
        truth=partial(_truth, plan, mask),
        seconds=plan.hole_seconds,
    )


def _square(size: int, share: float) -> Tensor:
    """A mask (1, 1, size, size) with one hole of that share, a little off the middle."""
    side = round(size * math.sqrt(share))
    top, left = (size - side) // 2, (size - side) // 3
    mask = torch.ones(1, 1, size, size)
    mask[:, :, top : top + side, left : left + side] = 0
    return mask


def _build(plan: Plan, mask: Callable[[], Tensor], fill: Fill) -> Callable[[], Outputs]:
    net = _net(plan.seed).to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = in_layout(_image(plan.filled_size), CHANNELS_LAST).to(plan.device)
    return partial(_filled, fill, net, image, mask().to(plan.device))


def _filled(fill: Fill, net: PartialUNet, image: Tensor, mask: Tensor) -> Outputs:
    with torch.inference_mode():
        return {"y": fill(net, image, mask)}


def _whole(net: PartialUNet, image: Tensor, mask: Tensor) -> Tensor:
    return composite(net(image, mask), image, mask)


def _encoder(net: PartialUNet, image: Tensor, mask: Tensor) -> Tensor:
    """What remains to be done for the smallest hole."""
    return net.encode(image, mask)[0]


def _truth(plan: Plan, mask: Callable[[], Tensor]) -> Mapping[str, Truth]:
    """The published form in float64, with the same parameters."""
    published = UNet(NETWORK, "reference")
    published.load_from(_net(plan.seed))
    published.to(plan.device).double().eval()
    image, holes = (t.double().to(plan.device) for t in (_image(plan.filled_size), mask()))
    with torch.no_grad():
        y = composite(published(image, holes), image, holes)
    return {"y": Truth(y, OUTPUT_TOLERANCE)}


@lru_cache(maxsize=1)
def _image(size: int) -> Tensor:
    return load_images(1, size)


def _net(seed: int) -> PartialUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_model(NETWORK).eval()
    assert isinstance(net, PartialUNet)
    return net
