"""Words of a command line that are no options: a name, and key=value in any place."""

from __future__ import annotations

import argparse


def add_words(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Let a sub-command take words; `name` is what its help calls the one without "="."""
    parser.usage = f"%(prog)s [options] [{name}] [key=value ...]"
    parser.add_argument("words", nargs="*", metavar=f"{name}, key=value", help=text)


def split_words(options: argparse.Namespace) -> tuple[str | None, list[str]]:
    """The name if there is one, and the key=value words.

    Raises:
        UsageError: two names.
    """
    from inpaint_models.errors import UsageError

    names = [word for word in options.words if "=" not in word]
    if len(names) > 1:
        raise UsageError(f"{names[1]!r} after {names[0]!r}: give key=value, or nothing")
    return (names[0] if names else None), [word for word in options.words if "=" in word]
