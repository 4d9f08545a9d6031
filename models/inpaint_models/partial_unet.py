"""What the U-Nets of partial convolutions share: how features and masks run, and which images are
too small for batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import PartialConvUnit, PartialConvUpUnit, check_batch_norm
from .checks import check_image, prepare_mask
from .composite import known_part


class PartialUNet(nn.Module):
    """`enc1` to `enc<levels>` of stride 2, then `dec<levels>` to `dec1`, each joined to a skip.

    The skip of `dec<i>` is the input of `enc<i>` with its mask; that of `dec1` is the image.
    """

    def __init__(
        self,
        encoders: Sequence[PartialConvUnit],
        decoders: Sequence[PartialConvUpUnit],
        *,
        in_channels: int,
    ) -> None:
        """Take the blocks, both sequences from the finest level to the coarsest."""
        super().__init__()
        self.in_channels = in_channels
        self.levels = len(encoders)
        for i, encoder in enumerate(encoders, 1):
            self.add_module(f"enc{i}", encoder)
        for i, decoder in reversed(list(enumerate(decoders, 1))):
            self.add_module(f"dec{i}", decoder)

    def unit(self, name: str) -> PartialConvUnit | PartialConvUpUnit:
        """The block called `name`: "enc1" to "enc<levels>", "dec<levels>" to "dec1"."""
        block: PartialConvUnit | PartialConvUpUnit = getattr(self, name)
        return block

    def encoder_norms(self) -> list[nn.Module]:
        """The norm of each level of the encoder that has one, from the finest on."""
        norms = (self.unit(f"enc{i}").norm for i in range(1, self.levels + 1))
        return [norm for norm in norms if norm is not None]

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes of an image.

        Args:
            image: (N, in_channels, H, W), values in [0, 1], the network's dtype (any floating
                dtype under autocast). NaN and Inf are allowed in holes. Any H and W: the decoder
                enlarges to the skip's size.
            mask: (N, 1, H, W) or (1, 1, H, W), 1 = valid, 0 = hole, any real dtype; see
                `checks.prepare_mask`. No gradient flows through it.

        Returns:
            The whole predicted image, (N, in_channels, H, W), not clamped. The known part is
            predicted as well: see `composite`.
        """
        x, m, skips = self.encode(image, mask)
        for i in range(self.levels, 0, -1):
            x, m = self.unit(f"dec{i}")(x, m, *skips.pop(), masked_input=True)
        start = self.start(image, mask)
        return x if start is None else start + x

    def start(self, image: Tensor, mask: Tensor) -> Tensor | None:
        """What the decoder's output is added to, (N, in_channels, H, W); None: nothing."""
        return None

    def encode(
        self, image: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Run the encoder.

        Args:
            image, mask: as in `forward`.

        Returns:
            The deepest features and their mask, and the skips of `dec1` to `dec<levels>`, each
            with its mask.
        """
        check_image(image, self.in_channels, self.unit("enc1").conv.weight)
        mask = prepare_mask(mask, image)
        self._check_batch_norm(image)
        region = self._regions(mask)

        skips: list[tuple[Tensor, Tensor]] = []
        # Zero in its holes, as the output of every block is: none of them masks its input.
        x, m = known_part(image, mask), mask
        for i in range(1, self.levels + 1):
            skips.append((x, m))
            x, m = self.unit(f"enc{i}")(x, m, region, masked_input=True)
        return x, m, skips

    def _regions(self, mask: Tensor) -> Tensor | None:
        """The regions of an `RN_B` in the encoder; None: the mask that its convolution has made."""
        return None

    def _check_batch_norm(self, image: Tensor) -> None:
        """Say which image is too small for batch norm in training, before torch names a layer.

        The deepest encoder norm sees the smallest map, the deepest decoder norm the next one.
        """
        h, w = image.shape[2:]
        for i in range(1, self.levels + 1):
            names = [f"enc{i}"]
            h, w = (h + 1) // 2, (w + 1) // 2
            if i < self.levels:
                names.append(f"dec{i + 1}")
            for name in names:
                where = f"{name} of {self.levels} levels"
                check_batch_norm(self.unit(name).norm, image, (h, w), layer=where)
