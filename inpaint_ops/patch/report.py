"""What became of the modules of a network, as rows and as a table to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PatchRow:
    """One module.

    Args:
        names: every place in the network where it is; "" is the network itself.
        found: its class, with the module that defines it.
        became: what computes it now; None: it was left alone.
        reason: why it was left alone, or how the replacement differs.
    """

    names: tuple[str, ...]
    found: str
    became: str | None
    reason: str

    @property
    def name(self) -> str:
        """All its places, for people."""
        return ", ".join(name or "(the network itself)" for name in self.names)


@dataclass(frozen=True)
class PatchReport:
    """What :func:`patch_model` did, or would do; ``print`` shows a table."""

    rows: tuple[PatchRow, ...]
    dry_run: bool

    @property
    def replaced(self) -> tuple[PatchRow, ...]:
        """The modules that are ours now, or would be."""
        return tuple(row for row in self.rows if row.became is not None)

    @property
    def kept(self) -> tuple[PatchRow, ...]:
        """The modules that were recognized and left alone; each has its reason."""
        return tuple(row for row in self.rows if row.became is None)

    @property
    def summary(self) -> str:
        """The counts in a sentence."""
        if not self.rows:
            return "no module of a known class found: nothing to replace"
        verb = "would be replaced" if self.dry_run else "replaced"
        return f"{len(self.replaced)} {verb}, {len(self.kept)} left alone"

    def __str__(self) -> str:
        lines = [
            ("module", "found", "became", "note"),
            *((row.name, row.found, row.became or "-", row.reason) for row in self.rows),
        ]
        return "\n".join([*(_aligned(lines) if self.rows else ()), self.summary])


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
