"""What a case is: one workload, the candidates that compute it, and the truth they are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..oracle import Outputs as Outputs
from ..oracle import Truth as Truth

Call = Callable[[], Outputs]
"""One measured call. It returns what it computed, by name, so that it can be checked."""

CONTIGUOUS = "contiguous"
CHANNELS_LAST = "channels_last"

FORWARD = "forward"
BOTH = "forward+backward"
STEP = "step"


@dataclass(frozen=True)
class Candidate:
    """One way to compute a case; ``build`` allocates what it needs and returns the call.

    A bound computes something else (a plain convolution, a copy), so it is not ``checked``. A
    ``peer`` is somebody else's package, or the published form where its dtype is beyond it: where
    it deviates from the definition, that is shown, but is no failure of ours. A ``graph`` is
    recorded once and replayed.
    """

    provider: str
    layout: str
    build: Callable[[], Call]
    checked: bool = True
    peer: bool = False
    graph: bool = False

    @property
    def compiled(self) -> bool:
        """Whether its first call compiles, which takes seconds to minutes."""
        return self.provider.endswith("-compiled")

    @property
    def weighed(self) -> bool:
        """Whether its memory tells something: the trick and the copies are there for their time,
        and compiling once more would take longer than it tells."""
        idle = ("one-channel", "clone", "warm copy")
        return not self.compiled and not self.graph and self.provider not in idle


@dataclass(frozen=True, eq=False)
class Case:
    """One workload. ``group/name/mode`` is its identity in results and on the command line.

    ``detail`` tells a reader more, ``memory`` asks for its peak in a process of its own.
    ``least_bytes`` is what any implementation must move, where that is the bound; ``sweep`` names
    the axis that a sweep varies, and the value on it.
    """

    group: str
    name: str
    detail: str
    mode: str
    shape: tuple[int, ...]
    candidates: Sequence[Candidate]
    truth: Callable[[], Mapping[str, Truth]]
    seconds: float
    memory: bool = False
    dtype: str = "float32"
    least_bytes: int | None = None
    sweep: tuple[str, float] | None = None

    @property
    def id(self) -> str:
        """Identity of the workload."""
        return f"{self.group}/{self.name}/{self.mode}"
