"""What a run asks of the device it measures: time of a call, memory, replay of a graph.

Everything else about a run is the same on every device, so a test runs all of it without a GPU by
standing in for ``Gpu``.
"""

from __future__ import annotations

import abc
import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .cases import Call

if sys.platform != "win32":
    import resource

FLUSH_BYTES = 256 << 20
"""Written before each sample on a GPU: several times the L2 cache of any (H200: 50 MB)."""
COPY_BYTES = 1 << 30
WARM_UPS = 3
"""Calls before a capture, on the stream that captures."""


@dataclass(frozen=True)
class Sample:
    """One timed call; page faults where they are counted."""

    milliseconds: float
    faults: int | None = None


class Device(abc.ABC):
    """Times calls. ``graphs`` says whether they can be recorded and replayed."""

    graphs = False

    @abc.abstractmethod
    def sample(self, call: Callable[[], object]) -> Sample:
        """Time one call, the release of its results included."""

    def tuned(self) -> contextlib.AbstractContextManager[None]:
        """Settings under which candidates are prepared and timed."""
        return contextlib.nullcontext()

    def release(self) -> None:
        """Give back what the last case has used."""
        return

    def allocated(self) -> int | None:
        """Bytes in use now; None where memory is measured in another process."""
        return None

    def peak(self, call: Call) -> int | None:
        """Most bytes in use at once during a call, None likewise."""
        return None

    def capture(self, call: Call) -> Call:
        """A call that replays what ``call`` launches."""
        raise NotImplementedError("calls are not recorded on this device")

    def copy_gigabytes_per_second(self) -> float | None:
        """Bytes read and written by a large copy, per nanosecond."""
        return None


class Host(Device):
    """The CPU, by the wall clock."""

    def sample(self, call: Callable[[], object]) -> Sample:
        """Count page faults too."""
        faults = minor_faults()
        begin = time.perf_counter_ns()
        call()
        elapsed = time.perf_counter_ns() - begin
        return Sample(elapsed / 1e6, minor_faults() - faults)


class Gpu(Device):
    """The current CUDA device, by its own events."""

    graphs = True

    def __init__(self) -> None:
        """Allocate what flushes the cache."""
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self._stream = torch.cuda.Stream()

    @contextlib.contextmanager
    def tuned(self) -> Iterator[None]:
        """cuDNN measures its algorithms, and the Triton backend its own; TF32 as it is set."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before

    def sample(self, call: Callable[[], object]) -> Sample:
        """From a cache that holds none of the call's tensors.

        The host goes on while the flush runs, so that a few launches are hidden behind it; a call
        that launches longer than it computes shows that.
        """
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        self._flush.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return Sample(start.elapsed_time(end))

    def release(self) -> None:
        """Graphs hold pools of their own; they go with their candidates."""
        gc.collect()
        torch.cuda.empty_cache()

    def allocated(self) -> int:
        """By torch's allocator."""
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    def peak(self, call: Call) -> int:
        """``torch.cuda.max_memory_allocated``."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    def capture(self, call: Call) -> Call:
        """Warmed up and captured on one stream of its own, as gradients demand."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(self._stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            outputs = call()

        def replay() -> Any:
            graph.replay()
            return outputs

        return replay

    def copy_gigabytes_per_second(self) -> float:
        """The median of ten copies of a gibibyte."""
        source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.zeros_like(source)
        times = sorted(self.sample(lambda: target.copy_(source)).milliseconds for _ in range(10))
        return round(2 * COPY_BYTES / times[5] / 1e6, 1)


HOST = Host()


def unusable_gpu() -> str | None:
    """Why nothing can be measured on a GPU here, in a sentence; None if it can."""
    if torch.version.cuda is None:
        return f"--device cuda: torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return (
            f"--device cuda: torch {torch.__version__} finds no usable NVIDIA GPU "
            "(nvidia-smi says whether there is one, and its driver)"
        )
    return None


def minor_faults() -> int:
    """Pages that this process had to have mapped so far: what fresh memory costs."""
    return 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
