"""Norms over several processes: two of them with half a batch each against one with all of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from inpaint_models.blocks import check_batch_norm
from torch import Tensor, nn

from inpaint_ops import RN_B, RN_L, PartialConv2d, RegionNorm2d, convert_sync_norms, region_norm

WORLD = 2


def _run(rank: int, file: str, body: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=WORLD)
    try:
        torch.save(body(rank, *arguments), f"{file}.{rank}")
    finally:
        dist.destroy_process_group()


def _in_two_processes(tmp_path: Path, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    file = tmp_path / "store"
    mp.start_processes(_run, (str(file), body, arguments), nprocs=WORLD, start_method="fork")
    return [torch.load(f"{file}.{rank}", weights_only=False) for rank in range(WORLD)]


@pytest.fixture
def _alone() -> Iterator[None]:
    """This process as a group of one."""
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def _norm(kind: str) -> nn.Module:
    torch.manual_seed(3)
    norms: dict[str, Callable[[], nn.Module]] = {
        "region": lambda: RegionNorm2d(5),
        "plain eps": lambda: RegionNorm2d(5, affine=False, scale_eps=False),
        "RN_B": lambda: RN_B(5),
        "RN_L": lambda: RN_L(5, threshold=0.5),
        "batch": lambda: nn.BatchNorm2d(5),
    }
    norm = norms[kind]().double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def _data(mask_kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Three images, of which the processes get one and two; means far from zero."""
    torch.manual_seed(4)
    x = torch.randn(3, 5, 7, 6, dtype=torch.float64) * torch.tensor([1.0, 2, 3]).view(3, 1, 1, 1)
    x += torch.arange(3).view(3, 1, 1, 1) * 10 + 100
    mask = (torch.rand(3, 1, 7, 6) > 0.4).double()
    if mask_kind == "soft":
        mask = torch.rand(3, 1, 7, 6).double()
    elif mask_kind == "one side":  # the second process has no pixel of one region
        mask[1:] = 1
    elif mask_kind == "empty":
        mask[:] = 1
    return x, mask, torch.randn_like(x)


def _apply(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    y: Tensor = norm(x, mask) if isinstance(norm, (RegionNorm2d, RN_B)) else norm(x)
    return y


def _norm_here(rank: int, kind: str, mask_kind: str) -> dict[str, Any]:
    part = slice(0, 1) if rank == 0 else slice(1, 3)
    x, mask, grad = (t[part] for t in _data(mask_kind))
    norm = convert_sync_norms(_norm(kind))
    x.requires_grad_()
    y = _apply(norm, x, mask)
    y.backward(grad)
    return {
        "y": y.detach(),
        "x": x.grad,
        "parameters": [p.grad for p in norm.parameters()],
        "buffers": list(norm.buffers()),
    }


@pytest.mark.usefixtures("_alone")
def test_a_single_value_in_the_whole_group_has_no_variance() -> None:
    norm = convert_sync_norms(nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match=r"more than one value per channel .* all 1 processes"):
        norm(torch.rand(1, 5, 1, 1))
    assert all(value.isfinite().all() for value in norm.buffers())
    assert norm.eval()(torch.rand(1, 5, 1, 1)).isfinite().all()


def _single_values(rank: int) -> Tensor:
    norm = convert_sync_norms(nn.BatchNorm2d(5))
    x = torch.full((1, 5, 1, 1), float(rank))
    check_batch_norm(norm, x, (1, 1))
    y: Tensor = norm(x)
    return y.detach()


def test_single_values_of_two_processes_have_a_variance(tmp_path: Path) -> None:
    ys = _in_two_processes(tmp_path, _single_values)
    torch.testing.assert_close(
        torch.cat(ys)[:, 0, 0, 0], torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0
    )


def test_small_images_are_named_under_synchronized_batch_norm_too() -> None:
    for norm in (nn.SyncBatchNorm(5), nn.BatchNorm2d(5)):
        with pytest.raises(ValueError, match="too few for batch norm in training"):
            check_batch_norm(norm, torch.rand(1, 5, 4, 4), (1, 1))


@pytest.mark.parametrize(
    ("kind", "mask_kind"),
    [
        ("region", "binary"),
        ("region", "soft"),
        ("region", "one side"),
        ("region", "empty"),
        ("plain eps", "binary"),
        ("RN_B", "binary"),
        ("RN_L", "binary"),
        ("batch", "binary"),
    ],
)
def test_two_processes_are_one_with_the_whole_batch(
    tmp_path: Path, kind: str, mask_kind: str
) -> None:
    parts = _in_two_processes(tmp_path, _norm_here, kind, mask_kind)
    x, mask, grad = _data(mask_kind)
    norm = _norm(kind)
    x.requires_grad_()
    y = _apply(norm, x, mask)
    y.backward(grad)
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y, **close)
    torch.testing.assert_close(torch.cat([part["x"] for part in parts]), x.grad, **close)
    for i, parameter in enumerate(norm.parameters()):
        total = parts[0]["parameters"][i] + parts[1]["parameters"][i]
        torch.testing.assert_close(total, parameter.grad, **close)
    for part in parts:
        for found, wanted in zip(part["buffers"], norm.buffers(), strict=True):
            torch.testing.assert_close(found, wanted)


def _nan_here(rank: int) -> Tensor:
    x, mask, _ = _data("binary")
    x[mask.expand_as(x) == 0] = torch.nan
    x.requires_grad_()
    y = region_norm(x, mask, process_group=dist.group.WORLD)
    valid = mask.expand_as(y) != 0
    y[valid].square().sum().backward()
    assert x.grad is not None
    return torch.stack([y[valid].isfinite().all(), x.grad[valid].isfinite().all()])


def test_nan_in_holes_reaches_no_valid_pixel_of_any_process(tmp_path: Path) -> None:
    for found in _in_two_processes(tmp_path, _nan_here):
        assert found.all()


class _Collectives:
    """Counts those of torch.distributed that a norm may use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("all_gather", "all_gather_into_tensor", "all_reduce", "broadcast"):
            self._count(monkeypatch, name, getattr(dist, name))

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str, real: Any) -> None:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(dist, name, counted)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("kind", ["region", "RN_B", "RN_L", "batch"])
def test_one_collective_for_each_direction(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    count = _Collectives(monkeypatch)
    x, mask, grad = _data("binary")
    norm = convert_sync_norms(_norm(kind))
    y = _apply(norm, x.requires_grad_(), mask)
    assert count.calls == ["all_reduce"]
    y.backward(grad)
    assert count.calls == ["all_reduce", "all_reduce"]


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["region", "RN_L"])
def test_a_group_of_one_is_the_norm_itself(kind: str, dtype: torch.dtype) -> None:
    x, mask, _ = _data("binary")
    x = (x - 100).to(dtype)
    norm = _norm(kind).to(dtype)
    expected = _apply(norm, x, mask.to(dtype))
    found = _apply(convert_sync_norms(norm), x, mask.to(dtype))
    assert found.dtype == dtype
    # Rounding of the result, or float32's in the statistics of 126 pixels.
    step = max(4 * torch.finfo(dtype).eps, 2**-16)
    torch.testing.assert_close(found, expected, rtol=step, atol=step)


@pytest.mark.usefixtures("_alone")
def test_conversion_keeps_the_network() -> None:
    net = nn.Sequential(PartialConv2d(3, 5, 3), nn.BatchNorm2d(5, momentum=None), RN_L(5))
    before, tensors = list(net.state_dict()), list(net.parameters())
    batch = net[1].eval()
    assert convert_sync_norms(net) is net
    assert list(net.state_dict()) == before
    assert all(a is b for a, b in zip(net.parameters(), tensors, strict=True))
    assert vars(net[2])["process_group"] is dist.group.WORLD
    assert not net[1].training
    x = torch.randn(2, 5, 4, 4)
    assert torch.equal(net[1](x), batch(x))
    net.train()
    for _ in range(2):
        torch.testing.assert_close(net[1](x), batch.train()(x))
    again = net[1]
    assert convert_sync_norms(net)[1] is again


@pytest.mark.usefixtures("_alone")
def test_what_cannot_be_synchronized_is_refused() -> None:
    with pytest.raises(ValueError, match="stats: expected 'batch' in every RegionNorm2d"):
        convert_sync_norms(nn.Sequential(RegionNorm2d(3, stats="instance")))
    x, mask = torch.randn(1, 2, 3, 3), torch.ones(1, 1, 3, 3)
    with pytest.raises(ValueError, match="process_group: expected None with stats='instance'"):
        region_norm(x, mask, stats="instance", process_group=dist.group.WORLD)
    with pytest.raises(TypeError, match=r"process_group: expected a torch\.distributed\.Process"):
        region_norm(x, mask, process_group="world")  # type: ignore[arg-type]


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match=r"torch\.distributed is not initialized: call"):
        convert_sync_norms(RN_B(3))
