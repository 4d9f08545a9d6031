"""The convolutional parts of VGG16 and VGG19 (Simonyan and Zisserman 2015), as fixed networks.

Written for this package; weights come from the user, in torchvision's format.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import check_choice
from ..imagenet import IMAGENET_DEVIATION, IMAGENET_MEAN

_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}
"""What PyTorch calls the files that it publishes."""


def layer_positions(network: str) -> dict[str, int]:
    """The layers that `VGG` can return, by name, and their places in its `features`.

    "relu<block>_<i>" follows the i-th convolution of a block, "pool<block>" ends the block.
    """
    check_choice("network", network, tuple(_CONVOLUTIONS))
    positions: dict[str, int] = {}
    place = 0
    for block, convolutions in enumerate(_CONVOLUTIONS[network], start=1):
        for i in range(1, convolutions + 1):
            positions[f"relu{block}_{i}"] = place + 1
            place += 2
        positions[f"pool{block}"] = place
        place += 1
    return positions


class VGG(nn.Module):
    """VGG16 or VGG19 up to its last pooling: 3x3 convolutions with ReLU, 2x2 max pooling.

    Parameters are called as in torchvision, `features.0.weight` and so on: 13 convolutions and
    14,714,688 parameters in VGG16, 16 and 20,024,384 in VGG19.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: str) -> None:
        """Make "vgg16" or "vgg19" with random weights, of use only for loading others."""
        super().__init__()
        self.positions = layer_positions(network)
        layers: list[nn.Module] = []
        channels = 3
        for width, convolutions in zip(_WIDTHS, _CONVOLUTIONS[network], strict=True):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        # By these torchvision's weights expect images normalized.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "std", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1), persistent=False
        )

    def normalize(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) or (N, 1, H, W) in [0, 1], normalized, (N, 3, H, W), of the weights' dtype.

        One channel is repeated.
        """
        image = image.to(self.mean.dtype).expand(-1, 3, -1, -1)
        return (image - self.mean) / self.std

    def forward(self, normalized: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Maps of `layers`, by name; the network is run no further than the last of them.

        Args:
            normalized: (N, 3, H, W), from `normalize`.
            layers: names out of `positions`.
        """
        names = {self.positions[layer]: layer for layer in layers}
        maps: dict[str, Tensor] = {}
        x = normalized
        for place in range(max(names) + 1):
            x = self.features[place](x)
            if place in names:
                maps[names[place]] = x
        return maps


def weights_source(network: str) -> str:
    """Which weights there are for a network and where, in words."""
    return (
        f"torchvision's ImageNet weights, {FILES[network]}, which PyTorch publishes at "
        f"https://download.pytorch.org/models/{FILES[network]}"
    )


def load_vgg(network: str, weights: str | os.PathLike[str] | None) -> VGG:
    """A frozen `VGG` in evaluation mode, on the CPU, with the weights of a file.

    Args:
        network: "vgg16" or "vgg19".
        weights: a state_dict as torchvision publishes it, `.safetensors` (needs the package
            safetensors) or any other name for torch.load, which is called with weights_only=True.
            Entries that start with "classifier." are not needed and ignored; any other surplus
            or missing entry is an error.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a `.safetensors` file without safetensors installed.
        ValueError: no path, a file that cannot be read, or one that is not of this network.
    """
    check_choice("network", network, tuple(_CONVOLUTIONS))
    source = f"give the path of {weights_source(network)}"
    if weights is None:
        raise ValueError(
            f"weights of {network} are needed and none come with this package: {source}"
        )
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"weights of {network}: no file {str(path)!r}; {source}")
    state = _read(path)
    vgg = VGG(network)
    wanted = vgg.state_dict()
    found = {name: value for name, value in state.items() if not name.startswith("classifier.")}
    problems = [
        *_listing("missing", [name for name in wanted if name not in found]),
        *_listing("not of this network", [name for name in found if name not in wanted]),
        *_listing(
            "of another shape",
            [
                f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
                for name, value in wanted.items()
                if name in found and found[name].shape != value.shape
            ],
        ),
    ]
    if problems:
        raise ValueError(
            f"{str(path)!r} does not hold the weights of {network}: {'; '.join(problems)}; {source}"
        )
    vgg.load_state_dict(found)
    return vgg.requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            # Not a dependency: only this kind of file needs it.
            safetensors = importlib.import_module("safetensors.torch")
        except ImportError as error:
            raise ImportError(
                f"{str(path)!r} needs the package safetensors: pip install safetensors"
            ) from error
        read = safetensors.load_file
    else:
        read = _torch_load
    try:
        state = read(path)
    except Exception as error:
        # Readers raise many types on a damaged file, none of which names it.
        raise ValueError(
            f"weights file {str(path)!r} cannot be read, or not safely: {type(error).__name__}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"weights file {str(path)!r} must hold a state_dict, names and tensors, and nothing "
            f"else; got {type(state).__name__}"
        )
    return state


def _torch_load(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _listing(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"]
