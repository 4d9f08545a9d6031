"""Threads, processes, and a process that lives long."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from inpaint_ops import RN_L, ChannelMask, partial_conv2d, region_norm
from inpaint_ops.backends.cpu import scratch


def _work(seed: int) -> list[Tensor]:
    """A forward and backward of every operator, of a size that depends on the seed."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    c, side = 3 + seed % 5, 17 + 9 * (seed % 7)
    x, weight = randn(2, c, side, side).requires_grad_(), randn(6, c, 3, 3).requires_grad_()
    planes = (torch.rand((2, 2, side, side), generator=generator) > 0.4).float()
    y, _ = partial_conv2d(x, ChannelMask(planes, (c - 1, 1)), weight, None, 1, 1)
    z = region_norm(y, planes[:, :1])
    attention = RN_L(6, threshold=0.5)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(randn(*p.shape) * 0.1)
    z = z + attention(y)
    torch.autograd.backward(z, randn(*z.shape))
    assert x.grad is not None
    assert weight.grad is not None
    return [z.detach(), x.grad, weight.grad]


def test_calls_from_many_threads_at_once() -> None:
    seeds = list(range(24))
    alone = [_work(seed) for seed in seeds]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(_work, seeds * 2))
    for found, expected in zip(together, alone * 2, strict=True):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_number_of_threads_may_change_between_calls(restored_threads: None) -> None:
    expected = _work(3)
    for threads in (1, 2, 4, 1, 3):
        torch.set_num_threads(threads)
        for a, b in zip(_work(3), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


class _Filled(Dataset[Tensor]):
    """Pictures that a worker fills, as a data pipeline may do."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        return _work(index)[0].mean((2, 3))[0]


def test_inside_the_workers_of_a_data_loader() -> None:
    here = torch.stack([_Filled()[i] for i in range(6)])
    loader = DataLoader(_Filled(), batch_size=3, num_workers=2, multiprocessing_context="fork")
    torch.testing.assert_close(torch.cat(list(loader)), here, rtol=1e-4, atol=1e-4)


def test_after_a_fork() -> None:
    """A child of a process that has used its threads; torch's pool wants one thread there."""
    code = """
import os, torch
from inpaint_ops import partial_conv2d
x, m, w = torch.ones(2, 8, 64, 64), torch.ones(2, 1, 64, 64), torch.ones(4, 8, 3, 3)
m[:, :, 5:9] = 0
expected = partial_conv2d(x, m, w)[0]
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(partial_conv2d(x, m, w)[0], expected) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "0"


def test_inputs_that_overlap_or_are_expanded() -> None:
    base = torch.randn(40)
    x = base.as_strided((2, 3, 6, 5), (7, 3, 2, 1))
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]).expand(2, 1, 6, 5)
    weight = torch.randn(1).expand(4, 3, 3, 3)
    before = base.clone()
    y, new = partial_conv2d(x, mask, weight, None, 1, 1)
    expected, expected_new = partial_conv2d(
        x.clone(), mask.clone(), weight.contiguous(), None, 1, 1
    )
    torch.testing.assert_close(y, expected)
    assert torch.equal(torch.as_tensor(new), torch.as_tensor(expected_new))
    torch.testing.assert_close(region_norm(x, mask), region_norm(x.clone(), mask.clone()))
    assert torch.equal(base, before)


def test_memory_returns_to_its_level() -> None:
    process = psutil.Process()

    def calls(count: int) -> None:
        for i in range(count):
            _work(i % 7)

    calls(50)
    gc.collect()
    before, held = process.memory_info().rss, scratch.held()
    calls(1000)
    gc.collect()
    assert scratch.held() == held
    # Calls that each kept one gradient of x would hold 79 MiB; allocators keep a little.
    assert process.memory_info().rss - before < 32 * 2**20
    scratch.release()
    assert scratch.held() == 0
