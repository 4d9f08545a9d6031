"""What the authors of public code call the layers of the networks that are here too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Rules = Sequence[tuple[str, str]]

NAOTO_UNET: Rules = (
    (r"(enc|dec)_(\d+)\.conv\.(.*)", r"\1\2.conv.\3"),
    (r"(enc|dec)_(\d+)\.bn\.(.*)", r"\1\2.norm.\3"),
)
"""`PConvUNet` of naoto0804/pytorch-inpainting-with-partial-conv."""

_RESIDUAL = {"1": "0", "2": "1", "5": "3", "6": "4"}  # it counts its padding layers too
_DECODER = {"0": "0", "2": "2", "4": "4", "6": "6", "9": "8"}

YU_GENERATOR: Rules = (
    (r"encoder_conv(\d)\.(.*)", r"enc\1.conv.\2"),
    (r"encoder_in(\d)\.(.*)", r"enc\1.norm.\2"),
    *(
        (rf"middle\.(\d+)\.conv_block\.{theirs}\.(.*)", rf"middle.\1.layers.{ours}.\2")
        for theirs, ours in _RESIDUAL.items()
    ),
    *((rf"decoder\.{theirs}\.(.*)", rf"decoder.{ours}.\1") for theirs, ours in _DECODER.items()),
)
"""`G_Net` of geekyutao/RN."""


def renamed(names: Iterable[str], rules: Rules, sign: str) -> dict[str, str] | None:
    """Our names by theirs; None unless `sign`, a name's beginning, is that of such a network.

    Args:
        names: of a checkpoint.
        rules: patterns of whole names, and what becomes of them; names without a rule stay.
        sign: what no checkpoint of ours has.
    """
    found = list(names)
    if not any(name.startswith(sign) for name in found):
        return None
    return {name: _renamed(name, rules) for name in found}


def _renamed(name: str, rules: Rules) -> str:
    for pattern, ours in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    return name
