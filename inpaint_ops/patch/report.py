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
        already: it is ours without that, or from an earlier call.
    """

    names: tuple[str, ...]
    found: str
    became: str | None
    reason: str
    already: bool = False

    @property
    def name(self) -> str:
        """All its places, for people."""
        return ", ".join(name or "(the network itself)" for name in self.names)


@dataclass(frozen=True)
class PatchReport:
    """What :func:`patch_model` did, or would do; ``print`` shows a table.

    Args:
        rows: one for each module of a known class.
        dry_run: nothing was changed.
        known: names of the classes that were looked for.
    """

    rows: tuple[PatchRow, ...]
    dry_run: bool
    known: tuple[str, ...]

    @property
    def replaced(self) -> tuple[PatchRow, ...]:
        """The modules that are ours now, or would be."""
        return tuple(row for row in self.rows if row.became is not None)

    @property
    def kept(self) -> tuple[PatchRow, ...]:
        """The modules that were recognized and not replaced; each has its reason."""
        return tuple(row for row in self.rows if row.became is None)

    @property
    def summary(self) -> str:
        """The counts in a sentence."""
        if not self.rows:
            return (
                f"no module of a known class found: nothing to replace. Known are, by name, "
                f"{', '.join(self.known)}; see docs/patching.md of the sources"
            )
        verb = "would be replaced" if self.dry_run else "replaced"
        already = sum(row.already for row in self.rows)
        ours = f", {already} ours already" if already else ""
        return f"{len(self.replaced)} {verb}, {len(self.kept) - already} left alone{ours}"

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
