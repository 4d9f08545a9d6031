"""Perceptual and style loss: distances between the feature maps of a VGG."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .features import feature_l1, style_l1
from .regions import check_pair, hole_of
from .vgg import load_vgg

_LIU = ("pool1", "pool2", "pool3")
# For each network, the layers of the perceptual loss and those of the style loss.
_LAYERS = {
    "vgg16": (_LIU, _LIU),
    "vgg19": (
        ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
        ("relu2_2", "relu3_4", "relu4_4", "relu5_2"),
    ),
}


class PerceptualTerms(NamedTuple):
    """Both losses, each a scalar before its weight; with a composite, its part is added in."""

    perceptual: Tensor
    style: Tensor


class PerceptualLoss(nn.Module):
    """L_perceptual and L_style, from one run of the VGG over output and composite.

    Shi et al., eq. 3, by Liu et al. (2018), with `network="vgg16"`:

        perceptual = sum over p of |Psi_p(out) - Psi_p(gt)|_1 / N_p + the same of the composite
        style      = sum over p of |Gram_p(out) - Gram_p(gt)|_1 / C_p^2 + the same of the composite

    p: pool1, pool2, pool3; Gram_p = Psi_p Psi_p^T / (C_p * H_p * W_p); averaged over the batch.
    Li et al. (ISNet), eq. 2, with `network="vgg19", composite=False`: relu1_1 to relu5_1 for
    perceptual, relu2_2, relu3_4, relu4_4 and relu5_2 for style.

    Where the truth is NaN, output, composite and truth all get the mean colour of ImageNet before
    they enter the VGG: the prediction is not read there and gets no gradient. Means are over all
    places of a feature map.

    The VGG is frozen and not a submodule: it is in neither `parameters()`, `state_dict()` nor
    `modules()`, and `train()` does not change it. `to()`, `cuda()`, `half()` and their like, of
    this module or of one that holds it, do move it. Images are converted to its dtype.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None,
        *,
        network: str = "vgg16",
        layers: Sequence[str] | None = None,
        style_layers: Sequence[str] | None = None,
        composite: bool = True,
    ) -> None:
        """Load the VGG.

        Args:
            weights: path of torchvision's weights; see `vgg.load_vgg`, also for the errors.
            network: "vgg16" or "vgg19".
            layers: names of the maps of the perceptual loss, "relu<block>_<i>" or "pool<block>".
                None: the paper's, for this network.
            style_layers: the same for the style loss.
            composite: whether the composite is measured as well as the output.
        """
        super().__init__()
        vgg = load_vgg(network, weights)
        perceptual, style = _LAYERS[network]
        self.network = network
        self.layers = perceptual if layers is None else tuple(layers)
        self.style_layers = style if style_layers is None else tuple(style_layers)
        self.composite = composite
        for name, chosen in (("layers", self.layers), ("style_layers", self.style_layers)):
            _check_layers(name, chosen, vgg.positions)
        # Layers behind the last one would only take memory.
        last = max(vgg.positions[layer] for layer in (*self.layers, *self.style_layers))
        vgg.features = nn.Sequential(*list(vgg.features)[: last + 1])
        self._pools = sum(isinstance(layer, nn.MaxPool2d) for layer in vgg.features)
        # A tuple hides the network from nn.Module's registration.
        self._vgg = (vgg,)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PerceptualLoss:
        """What `to`, `cuda`, `half` and their like call on every module: here, move the VGG."""
        super()._apply(fn, recurse)
        self._vgg[0]._apply(fn, recurse)
        return self

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return (
            f"network={self.network!r}, layers={self.layers}, style_layers={self.style_layers}, "
            f"composite={self.composite}"
        )

    def forward(
        self, prediction: Tensor, truth: Tensor, mask: Tensor | None = None
    ) -> PerceptualTerms:
        """Both losses.

        Args:
            prediction: (N, 3, H, W) or (N, 1, H, W), which is repeated; values in [0, 1]. All of it
                is measured, in the hole and outside, but where the truth is NaN.
            truth: as prediction; may hold NaN; gets no gradient.
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid; needed for the composite only.
        """
        check_pair(prediction, truth)
        self._check(prediction, mask)
        vgg = self._vgg[0]
        measured = ~truth.isnan()

        def prepare(image: Tensor) -> Tensor:
            return torch.where(measured, vgg.normalize(image), 0)

        wanted = {*self.layers, *self.style_layers}
        with torch.no_grad():
            target = prepare(truth)
            truth_maps = vgg(target, wanted)
        images = output = prepare(prediction)
        if self.composite and mask is not None:
            images = torch.cat([output, torch.where(hole_of(mask, prediction), output, target)])
        maps = vgg(images, wanted)

        perceptual: list[Tensor] = []
        style: list[Tensor] = []
        n = len(prediction)
        for part in range(len(images) // n):
            own = {name: m[part * n : (part + 1) * n] for name, m in maps.items()}
            perceptual.append(_distance(feature_l1, self.layers, own, truth_maps))
            style.append(_distance(style_l1, self.style_layers, own, truth_maps))
        return PerceptualTerms(torch.stack(perceptual).sum(), torch.stack(style).sum())

    def _check(self, prediction: Tensor, mask: Tensor | None) -> None:
        _, channels, height, width = prediction.shape
        if channels not in (1, 3):
            raise ValueError(
                f"prediction must have 1 or 3 channels, which is what VGG can see, got {channels}"
            )
        least = 2**self._pools
        if height < least or width < least:
            raise ValueError(
                f"prediction must have at least {least} x {least} pixels for these layers of "
                f"{self.network}, got {height} x {width}"
            )
        device = self._vgg[0].mean.device
        if prediction.device != device:
            raise ValueError(f"prediction is on {prediction.device}, but the VGG is on {device}")
        if self.composite and mask is None:
            raise ValueError("mask is needed for the composite; or make the loss composite=False")


def _distance(
    distance: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
    layers: Sequence[str],
    maps: dict[str, Tensor],
    truth_maps: dict[str, Tensor],
) -> Tensor:
    return distance([maps[layer] for layer in layers], [truth_maps[layer] for layer in layers])


def _check_layers(name: str, layers: Sequence[str], positions: dict[str, int]) -> None:
    if len(layers) == 0:
        raise ValueError(f"{name} must name at least one layer")
    for layer in layers:
        if layer not in positions:
            raise ValueError(f"{name} must be among {', '.join(positions)}, got {layer!r}")
