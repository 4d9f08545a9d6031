"""Cases (c): whole networks, one forward pass (evaluation) and one step of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from inpaint_models import create_model
from torch import Tensor, nn

from .. import oracle
from ..baselines import AUTOENCODER, SAME_DECODER, RNNet, UNet, is_plain
from ..data import HOLE_RATIOS
from ..plan import Plan
from .base import CHANNELS_LAST, CONTIGUOUS, FORWARD, STEP, Call, Candidate, Case, Outputs, Truth
from .inputs import exactly, in_layout, pictures

Network = Callable[[Tensor, Tensor], Tensor]

RN_NET = "rn_net"
RN_NET_SHARE = 4
"""It has most of its layers at a quarter of the size: a picture costs several of the U-Nets'."""
TILE = 32
"""Pixels per side of the autoencoder's pictures: the others' cut up."""

ORDER = ("reference", "reference-compiled", "one-channel", "fused", "plain", SAME_DECODER)


def network_cases(plan: Plan) -> Iterator[Case]:
    """The plan's networks, both modes, under autocast where the plan's dtype is half; then
    training under bfloat16 autocast."""
    for network in plan.networks:
        for mode in (FORWARD, STEP):
            half = plan.dtype != "float32"
            yield (_HalfWorkload if half else Workload)(plan, network, mode).case()
    for network in plan.half_networks:
        yield _HalfWorkload(replace(plan, dtype="bfloat16"), network, STEP).case()


class Workload:
    """One network in one mode; every candidate starts from the same parameters."""

    def __init__(self, plan: Plan, network: str, mode: str) -> None:
        """Of ``plan.batch`` pictures of ``plan.size``."""
        self.plan, self.network, self.mode = plan, network, mode

    @property
    def name(self) -> str:
        """Of the case."""
        return self.network + self.plan.suffix

    @property
    def _output_tolerance(self) -> float:
        return TILES_TOLERANCE if self.network == AUTOENCODER else OUTPUT_TOLERANCE

    def providers(self) -> list[tuple[str, str]]:
        """Who computes it, and in which memory order."""
        providers = [] if self.network == RN_NET else [("one-channel", CONTIGUOUS)]
        # Compiling takes a minute or more; on a GPU it is spent on the dtype that nets train in.
        if (self.network, self.mode) in self.plan.compiled_networks and not self.plan.backends:
            providers.insert(0, ("reference-compiled", CONTIGUOUS))
        for name in ("reference", "fused", "plain"):
            providers += [(name, CONTIGUOUS), (name, CHANNELS_LAST)]
        if self.network != RN_NET and self.mode == STEP and not self.plan.backends:
            providers.append((SAME_DECODER, CHANNELS_LAST))
        return sorted(providers, key=lambda pair: ORDER.index(pair[0]))

    def case(self) -> Case:
        """The case, its memory weighed where the plan says so."""
        plan = self.plan
        shape = self._shape()
        return Case(
            group="network",
            name=self.name,
            detail="x".join(map(str, shape)),
            mode=self.mode,
            shape=shape,
            candidates=[
                Candidate(
                    name,
                    layout,
                    partial(self._build, name, layout),
                    not is_plain(name),
                    peer=(self.network, name, layout) in INEXACT,
                )
                for name, layout in self.providers()
            ],
            truth=self._truth,
            dtype=self.plan.dtype,
            seconds=plan.network_seconds,
            memory=self.mode == STEP and self.network in plan.memory_networks,
        )

    def _shape(self) -> tuple[int, int, int, int]:
        plan = self.plan
        if self.network == AUTOENCODER:
            return plan.batch * (plan.size // TILE) ** 2, 3, TILE, TILE
        few = max(1, plan.batch // RN_NET_SHARE) if self.network == RN_NET else plan.batch
        return few, 3, plan.size, plan.size

    def _pictures(self) -> tuple[Tensor, Tensor]:
        images, masks = pictures(self.plan, HOLE_RATIOS[0])
        if self.network == AUTOENCODER:
            return _tiles(images), _tiles(masks)
        few = self._shape()[0]
        return images[:few], masks[:few]

    def _fused_net(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            net = create_model(self.network)
        if self.network == RN_NET:
            _calm(net)
        return net

    def _net(self, provider: str) -> nn.Module:
        fused = self._fused_net()
        if provider == "fused":
            return fused
        flavour = "reference" if provider == "reference-compiled" else provider
        net = RNNet(flavour) if self.network == RN_NET else UNet(self.network, flavour)
        net.load_from(fused)
        return net

    def _build(self, provider: str, layout: str) -> Call:
        # Inference runs in evaluation mode: batch norm then uses its running statistics.
        net = self._net(provider).to(self.plan.device).train(self.mode == STEP)
        if layout == CHANNELS_LAST:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images, masks = self._pictures()
        images = in_layout(images, layout)
        run: Network = net
        if provider == "reference-compiled":
            torch._dynamo.reset()
            run = torch.compile(net, dynamic=False)
        if self.mode == FORWARD:
            return partial(_forward, run, images, masks)
        # A graph takes a few steps before it is recorded, and holds only an optimizer whose state
        # is on the device. A rate of zero costs what any other does, and keeps the truth true.
        optimizer = torch.optim.Adam(
            net.parameters(),
            lr=0.0 if self.plan.backends else 2e-4,
            capturable=self.plan.device != "cpu",
        )
        names = {f"grad {name}": p for name, p in net.named_parameters()}
        return partial(_step, run, optimizer, names, images, masks)

    def _truth(self) -> Mapping[str, Truth]:
        """The published form of the network in float64, with the same parameters."""
        net = self._net("reference").to(self.plan.device).double().train(self.mode == STEP)
        images, masks = (t.double() for t in self._pictures())
        if self.plan.backends:
            return self._truth_beside_own(net, images, masks)
        if self.mode == FORWARD:
            return {"y": Truth(_forward(net, images, masks)["y"], self._output_tolerance)}
        y = net(images, masks)
        torch.autograd.backward(_loss(y, images))
        truth = {"y": Truth(y.detach(), self._output_tolerance)}
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None
            if parameter.grad.abs().max() < VANISHING:
                continue  # a bias before a norm: there is nothing but rounding to compare
            bound = gradient_tolerance(self.plan.batch, parameter.numel())
            truth[f"grad {name}"] = Truth(parameter.grad, bound, mean_square=True)
        return truth

    def _truth_beside_own(self, net: nn.Module, images: Tensor, masks: Tensor) -> dict[str, Truth]:
        """The output alone, with room for what the plain network loses in this dtype."""
        plain = self._net("plain").to(self.plan.device).train(self.mode == STEP)
        own = self._in_dtype(partial(_forward, plain, images.float(), masks.float()))
        with exactly():
            y = _forward(net, images, masks)["y"]
            exact = _forward(plain.double(), images, masks)
        truth = {"y": Truth(y, SINGLE_TOLERANCE, mean_square=True)}
        return oracle.beside_own(truth, own, exact, self.plan.torch_dtype)

    def _in_dtype(self, call: Call) -> Outputs:
        return call()


class _HalfWorkload(Workload):
    """Under autocast to half precision, and in float32 beside it where that has no case here."""

    def providers(self) -> list[tuple[str, str]]:
        """The plain network and the reference in the order in which they are faster."""
        found = [
            ("reference", CHANNELS_LAST),
            ("fused", CONTIGUOUS),
            ("fused", CHANNELS_LAST),
            (FLOAT32, CHANNELS_LAST),
            ("plain", CHANNELS_LAST),
        ]
        if "float32" in self.plan.dtypes and len(self.plan.dtypes) > 1:
            found.remove((FLOAT32, CHANNELS_LAST))
        wanted = (self.network, self.mode) in self.plan.compiled_networks
        if wanted and self.plan.backends and self.plan.dtype == "bfloat16":
            found.append(("reference-compiled", CHANNELS_LAST))
        return found

    def _net(self, provider: str) -> nn.Module:
        return super()._net("fused" if provider == FLOAT32 else provider)

    def _build(self, provider: str, layout: str) -> Call:
        call = super()._build(provider, layout)
        return call if provider == FLOAT32 else partial(self._in_dtype, call)

    def _in_dtype(self, call: Call) -> Outputs:
        with torch.autocast(torch.device(self.plan.device).type, self.plan.torch_dtype):
            return call()

    def _truth(self) -> Mapping[str, Truth]:
        y = super()._truth()["y"]
        truth = {"y": replace(y, tolerance=max(y.tolerance, HALF_TOLERANCE), mean_square=True)}
        if self.plan.backends:
            return truth  # with room for the plain network's loss, which is finite in float16 too
        published = self._net("reference").train(self.mode == STEP)
        published.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images, masks = self._pictures()
        images = in_layout(images, CHANNELS_LAST)
        own = self._in_dtype(partial(_forward, published, images, masks))
        return oracle.beside_own(truth, own, {"y": y.value}, self.plan.torch_dtype)


FLOAT32 = "fused, float32"

HALF_TOLERANCE = 0.1
"""Eight bits of mantissa through fourteen layers, most with a norm, leave 3 to 5 % in the published
modules and in these; 12 % in one picture alone, whose deepest norms have four pixels, with some
processors' convolutions. So twice what the published modules lose here is let pass too."""

INEXACT = ((RN_NET, "reference", CHANNELS_LAST),)
"""Through eighteen of the published norms, whose batch norm is less exact in this order, the output
is off by 3e-3: shown, and no failure of the run."""

OUTPUT_TOLERANCE = 1e-4
TILES_TOLERANCE = 3e-4
"""The autoencoder's deepest norms have one pixel of each picture: channels-last convolutions in
PyTorch leave 2e-4 behind them."""

VANISHING = 1e-12
"""In float64, of a gradient that is zero but for rounding."""

SINGLE_TOLERANCE = 0.03
"""Root mean square on a GPU, where convolutions in float32 are TF32 unless the user forbids it: ten
bits of mantissa, through as many layers. The tests hold operators to less, without TF32."""


def gradient_tolerance(batch: int, elements: int) -> float:
    """How far the root mean square of a parameter's gradient may be off.

    Fourteen layers, most with a norm, multiply single-precision rounding, and an activation that
    rounding pushes over its kink changes single gradients by their whole size. The deepest norms
    average over four pixels of each image, so small batches fare worse. The published modules
    themselves are off by 2e-3 at batch 4 and 1e-2 at batch 1; in channels_last, where oneDNN picks
    less exact algorithms for the convolutions, by 6e-3 at batch 4. A gradient of a few numbers,
    each a sum over a whole map that nearly cancels, has no elements to average its error over:
    2e-2 under ``torch.compile``. The cases of single operators hold the same gradients to
    thousandths of that.
    """
    return (0.08 if elements > 64 else 0.32) / batch


def _calm(net: nn.Module) -> None:
    """Keep attention away from its threshold, over which rounding would push single pixels.

    Features grow along the residual blocks, and with them the scores of an untrained network.
    """
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("sa.conv1.weight"):
                parameter.mul_(0.1)


def _tiles(pictures: Tensor) -> Tensor:
    """(N, C, H, W) cut into squares, (N * H * W / TILE^2, C, TILE, TILE)."""
    channels = pictures.shape[1]
    squares = pictures.unfold(2, TILE, TILE).unfold(3, TILE, TILE)
    return squares.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, TILE, TILE)


def _loss(y: Tensor, images: Tensor) -> Tensor:
    return (y.to(images.dtype) - images).abs().mean()


def _forward(net: Network, images: Tensor, masks: Tensor) -> Outputs:
    with torch.no_grad():
        return {"y": net(images, masks)}


def _step(
    net: Network,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    images: Tensor,
    masks: Tensor,
) -> Outputs:
    optimizer.zero_grad(set_to_none=True)
    y = net(images, masks)
    torch.autograd.backward(_loss(y, images))
    optimizer.step()
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    return {"y": y.detach(), **gradients}
