"""What goes wrong in a way that a user can mend: one line each, saying what and how."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InpaintError(Exception):
    """A failure; its text is one line for the user. Exit code 1."""

    exit_code = 1


class UsageError(InpaintError):
    """A wrong recipe, argument, data folder or checkpoint. Exit code 2."""

    exit_code = 2


class DataError(InpaintError, RuntimeError):
    """Pictures or masks that turned out unusable while they were read. Exit code 1."""


class MissingPackageError(InpaintError, ImportError):
    """A package that training needs is not installed. Exit code 1."""


class InterruptedRunError(InpaintError):
    """SIGINT or SIGTERM arrived and the run has been saved. Exit code 128 + the signal's number."""

    def __init__(self, signal_number: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = 128 + signal_number


def one_line(error: BaseException) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """The text for a word that is none of `known`: near matches, then all there are."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {word!r}{hint} (known: {', '.join(known) or 'none'})"
