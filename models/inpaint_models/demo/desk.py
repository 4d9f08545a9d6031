"""What each control of the page does; knows nothing of the page."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError
from ..filling import fill
from .networks import Networks
from .pictures import painted, read_upload, shown, to_png
from .session import Sessions

PAINT = "Paint over what is to be filled."


@dataclass(frozen=True)
class Limits:
    """What may be uploaded: bytes of a file, pixels of a picture."""

    file_bytes: int = 20 * 2**20
    pixels: int = 25_000_000


Strokes = Sequence[Image.Image]
"""Layers of the editor, as `pictures.painted` takes them."""


class Desk:
    """Pictures of all pages, and the networks that fill them.

    Methods take the name of a page's session, and raise UsageError with a text for its user. What
    they return is for the browser: pictures at its size, and a line that says how things stand.
    """

    def __init__(self, networks: Networks, limits: Limits, uploads: Path) -> None:
        """
        Args:
            networks: what fills.
            limits: of uploads.
            uploads: the folder of uploaded files; no other file is read or removed.
        """
        self.networks = networks
        self.limits = limits
        self._uploads = uploads.resolve()
        self.sessions = Sessions()

    def upload(self, name: str, path: str | os.PathLike[str]) -> tuple[Image.Image, str]:
        """Begin with a picture, whose file is removed: the input, and how things stand."""
        # Whoever calls the page's functions over HTTP names the path.
        file = Path(path).resolve()
        if not file.is_relative_to(self._uploads):
            raise UsageError("this file has not been uploaded")
        try:
            picture = read_upload(file, self.limits.pixels)
        finally:
            file.unlink(missing_ok=True)
        self.sessions.begin(name, picture)
        return self.input(name)

    def input(self, name: str) -> tuple[Image.Image, str]:
        """The present input, and how things stand while nothing is painted on it."""
        session = self.sessions.get(name)
        steps = f"{session.steps} confirmed" if session.steps else "as uploaded"
        width, height = session.picture.size
        return shown(session.picture), f"{width} x {height} pixels, {steps}. {PAINT}"

    def paint(self, name: str, strokes: Strokes, network: str) -> tuple[Image.Image | None, str]:
        """The result for what is painted, None where nothing is, and how things stand."""
        session = self.sessions.get(name)
        session.paint(painted(strokes, session.picture.size))
        return self.fill(name, network)

    def fill(self, name: str, network: str) -> tuple[Image.Image | None, str]:
        """The same for what was painted last: with another network."""
        session = self.sessions.get(name)
        if not session.hole.any():
            return None, self.input(name)[1]
        start = time.perf_counter()
        result = session.fill(functools.partial(self._run, network))
        seconds = time.perf_counter() - start
        return shown(result), (
            f"{100 * session.hole.mean():.2g} % painted, filled by {network} in "
            f"{seconds:.2g} s. Confirm, revert, or paint on."
        )

    def confirm(self, name: str) -> tuple[Image.Image, str]:
        """Make the result the new input."""
        self.sessions.get(name).confirm()
        return self.input(name)

    def revert(self, name: str) -> tuple[Image.Image, str]:
        """Forget the strokes; where there are none, the result that was confirmed last."""
        self.sessions.get(name).revert()
        return self.input(name)

    def clear(self, name: str) -> tuple[Image.Image, str]:
        """Forget the strokes."""
        self.sessions.get(name).clear()
        return self.input(name)

    def check_saved(self, name: str) -> None:
        """Raise UsageError if `saved` would return the upload."""
        session = self.sessions.get(name)
        if session.outcome is session.picture and not session.steps:
            raise UsageError("nothing to save: paint over what is to be filled")

    def saved(self, name: str) -> bytes:
        """The result, else the input, in full size: a PNG file."""
        return to_png(self.sessions.get(name).outcome)

    def _run(self, network: str, picture: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
        return fill(picture, mask, model=self.networks.load(network), shrink=True)
