"""What one page has uploaded, painted and confirmed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError

Hole = NDArray[np.bool_]
Fill = Callable[[Image.Image, NDArray[np.bool_]], Image.Image]
"""From a picture and its mask, (height, width), true where it is known, to the filled picture."""

_Patch = tuple[tuple[int, int], Image.Image]


_PAINT = "paint over what is to be filled"


class Session:
    """A picture on its way through several fillings.

    Attributes:
        picture: the present input; the upload at first.
        hole: what is painted on it: (height, width), true where it is to be filled.
    """

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.hole = self._no_hole()
        self._result: Image.Image | None = None
        # What each confirmed result has replaced, and where: a copy of the picture for each step
        # would be too much.
        self._replaced: list[_Patch] = []

    @property
    def steps(self) -> int:
        """Number of results that have been confirmed and not reverted."""
        return len(self._replaced)

    @property
    def outcome(self) -> Image.Image:
        """The result if there is one, else the input."""
        return self.picture if self._result is None else self._result

    def paint(self, hole: Hole) -> None:
        """Take what is painted; a result for something else is forgotten."""
        self.hole = hole
        self._result = None

    def clear(self) -> None:
        """Forget what is painted, and its result."""
        self.paint(self._no_hole())

    def fill(self, fill: Fill) -> Image.Image:
        """Compute the result.

        Raises:
            UsageError: nothing is painted, or everything.
        """
        self._result = None
        if not self.hole.any():
            raise UsageError(f"nothing is painted: {_PAINT}")
        if self.hole.all():
            raise UsageError("everything is painted over: leave something to fill from")
        self._result = fill(self.picture, ~self.hole)
        return self._result

    def confirm(self) -> None:
        """Make the result the new input.

        Raises:
            UsageError: there is no result.
        """
        if self._result is None:
            raise UsageError(f"nothing to confirm: {_PAINT}")
        rows, columns = (np.flatnonzero(self.hole.any(axis)) for axis in (1, 0))
        left, top = int(columns[0]), int(rows[0])
        box = (left, top, int(columns[-1]) + 1, int(rows[-1]) + 1)
        self._replaced.append(((left, top), self.picture.crop(box)))
        self.picture = self._result
        self.clear()

    def revert(self) -> None:
        """Forget what is painted; where nothing is, take back the result that was confirmed last.

        Raises:
            UsageError: nothing is painted, and the picture is as it was uploaded.
        """
        if self.hole.any():
            self.clear()
            return
        if not self._replaced:
            raise UsageError("nothing to revert: this is the picture as it was uploaded")
        corner, patch = self._replaced.pop()
        picture = self.picture.copy()
        picture.paste(patch, corner)
        self.picture = picture

    def _no_hole(self) -> Hole:
        return np.zeros((self.picture.height, self.picture.width), np.bool_)


class Sessions:
    """Sessions by name, in memory only; the one that was used longest ago makes room."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, name: str, picture: Image.Image) -> Session:
        """A new session, in place of an older one of that name."""
        session = Session(picture)
        with self._lock:
            self._sessions[name] = session
            self._sessions.move_to_end(name)
            while len(self._sessions) > self._most:
                self._sessions.popitem(last=False)
        return session

    def get(self, name: str) -> Session:
        """The session of that name.

        Raises:
            UsageError: there is none, or none any more.
        """
        with self._lock:
            if name not in self._sessions:
                raise UsageError("no picture here (any more): upload one")
            self._sessions.move_to_end(name)
            return self._sessions[name]

    def end(self, name: str) -> None:
        """Forget a session, if there is one of that name."""
        with self._lock:
            self._sessions.pop(name, None)
