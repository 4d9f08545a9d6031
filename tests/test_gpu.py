"""On an NVIDIA GPU: every operator of both backends against the float64 formulas, and at work.

``test_gpu_rehearsal.py`` runs what of it needs no GPU on a CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from inpaint_models import create_model
from torch import Tensor, nn

from benchmarks.cases.network import gradient_tolerance
from inpaint_ops import (
    RN_L,
    ChannelMask,
    PartialConv2d,
    PartialConv3d,
    RegionNorm2d,
    available_backends,
    partial_conv2d,
    region_norm,
    update_mask,
    use_backend,
)
from inpaint_ops.backends.dispatch import BACKENDS

pytestmark = pytest.mark.gpu

REFERENCE = BACKENDS["reference"].OPS
DEVICE = "cuda"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
# Vectors and scalar tails, one pixel, more channels than a warp has lanes, several units.
SIZES = [(2, 5, 7, 9), (3, 8, 1, 1), (2, 66, 4, 4), (2, 40, 67, 61)]
FORMS = ["none", "plane", "shared", "bool", "groups", "channels", "soft", "float32", "hole"]

backends = pytest.mark.parametrize("backend", ["cuda", "triton"])
dtypes = pytest.mark.parametrize("dtype", DTYPES)
layouts = pytest.mark.parametrize("layout", LAYOUTS)
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


@pytest.fixture(autouse=True)
def _backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test's backend, asked for by name; with a GPU, both must be able to run."""
    name = request.node.callspec.params.get("backend") if hasattr(request.node, "callspec") else ""
    if not name:
        yield
        return
    reason = available_backends()[name]
    assert reason is None, f"there is a GPU, but the {name} backend cannot run: {reason}"
    with use_backend(name):
        yield


def _put(x: Tensor, layout: str = "nchw") -> Tensor:
    """On the device, in a memory order."""
    order = LAYOUTS[layout] if x.dim() == 4 else torch.contiguous_format
    return x.to(DEVICE).contiguous(memory_format=order)


def _leaves(dtype: str, layout: str, *values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves on the device, and the same rounded values in float64 on the CPU."""
    rounded = [v.to(DTYPES[dtype]) for v in values]
    return (
        [_put(v, layout).requires_grad_() for v in rounded],
        [v.double().requires_grad_() for v in rounded],
    )


def _gradients(y: Tensor, grad: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(y, list(leaves), grad.to(y.device, y.dtype)))


def _stepped(grad: Tensor) -> Tensor:
    """The same values, every other element of a wider tensor."""
    return torch.stack([grad, torch.full_like(grad, torch.nan)], -1)[..., 0]


def _compare(
    plain: Any, found: Sequence[Tensor], wanted: Sequence[Tensor], length: float, scale: float = 1.0
) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.isfinite().all()
        plain.close(a.detach().cpu(), b, length, scale=scale)


def _mask(plain: Any, form: str, size: Sequence[int], dtype: str) -> tuple[Any, bool]:
    n, c, h, w = size
    kind = DTYPES[dtype]
    if form == "none":
        return None, False
    if form == "hole":
        return torch.zeros(n, 1, h, w, dtype=kind), False
    if form == "groups":
        return ChannelMask(plain.blobs(n, 2, h, w).to(kind), (c - 3, 3)), False
    if form == "channels":
        return plain.blobs(n, c, h, w).to(kind), True
    mask = plain.blobs(1 if form == "shared" else n, 1, h, w)
    if form == "soft":
        mask = mask * torch.rand_like(mask)
    if form == "bool":
        return mask != 0, False
    return mask.to(torch.float32 if form == "float32" else kind), False


def _moved(mask: Any) -> Any:
    if isinstance(mask, ChannelMask):
        return ChannelMask(mask.planes.to(DEVICE), mask.channels)
    return None if mask is None else mask.to(DEVICE)


@backends
@dtypes
@layouts
@sizes
@pytest.mark.parametrize("form", FORMS)
def test_partial_convolution(
    plain: Any, backend: str, dtype: str, layout: str, size: tuple[int, ...], form: str
) -> None:
    """NaN under the holes of a plane; a gradient with gaps between its elements."""
    mask, multi = _mask(plain, form, size, dtype)
    x = torch.randn(size)
    if form == "plane":
        x = torch.where(mask.double() == 0, torch.nan, x)
    stride = 2 if form in ("none", "bool") else 1
    values = (x, torch.randn(8, size[1], 3, 3), torch.randn(8))
    found, wanted = _leaves(dtype, layout, *values)
    y, new = partial_conv2d(
        found[0], _moved(mask), found[1], found[2], stride, 1, multi_channel=multi
    )
    expected, expected_new = plain.partial_conv(
        wanted[0], mask, wanted[1], wanted[2], stride, 1, multi_channel=multi
    )
    planes = new.planes if isinstance(new, ChannelMask) else new
    one = planes[:, :1].double().cpu().expand_as(expected_new)
    plain.close(one, expected_new, 9, DTYPES[dtype])
    grad = torch.randn(expected.shape).to(DTYPES[dtype])
    length = 4 * max(size[1] * 9, expected[:, 0].numel())
    results = [y, *_gradients(y, _stepped(grad), found)]
    _compare(plain, results, [expected, *_gradients(expected, grad, wanted)], length)


@backends
@dtypes
@layouts
@sizes
@pytest.mark.parametrize("form", ["plane", "shared", "soft", "hole", "full"])
@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_region_normalization(
    plain: Any, backend: str, dtype: str, layout: str, size: tuple[int, ...], form: str, stats: str
) -> None:
    n, c, h, w = size
    full = torch.ones(n, 1, h, w, dtype=DTYPES[dtype])
    mask = full if form == "full" else _mask(plain, form, size, dtype)[0]
    mean = 0 if form == "soft" else 30
    values = (torch.randn(size) * 2 + mean, torch.randn(2, c), torch.randn(2, c))
    found, wanted = _leaves(dtype, layout, *values)
    y = region_norm(found[0], mask.to(DEVICE), found[1], found[2], stats=stats)
    formula = plain.soft_region_norm if form == "soft" else plain.region_norm
    expected = formula(wanted[0], mask, wanted[1], wanted[2], stats=stats)
    condition = 1e5  # a region of one pixel divides its rounding by sqrt(eps)
    plain.close(y.detach().cpu(), expected, 64 if h > 1 else condition, scale=30.0)
    grad = torch.randn(expected.shape).to(DTYPES[dtype])
    length = n * h * w * (1 if h > 4 else condition)
    results = _gradients(y, _stepped(grad), found)
    _compare(plain, results, _gradients(expected, grad, wanted), length)


def _clear_threshold(attention: Tensor, dtype: str) -> float:
    """Where no pixel is so close to it that rounding decides: the widest gap near the middle.

    Half precision would move pixels across any gap: there all of them lie above.
    """
    values = attention.flatten().sort().values
    if dtype != "float32":
        return float(values[0]) / 2
    middle = values[len(values) // 4 : 3 * len(values) // 4]
    widest = int(middle.diff().argmax())
    return float(middle[widest : widest + 2].mean())


@backends
@dtypes
@layouts
@pytest.mark.parametrize("size", SIZES[2:], ids=lambda s: "x".join(map(str, s)))
def test_learned_region_normalization(
    plain: Any, backend: str, dtype: str, layout: str, size: tuple[int, ...]
) -> None:
    net = RN_L(size[1], threshold=0.5).to(DTYPES[dtype])
    exact = RN_L(size[1], threshold=0.5).double()
    exact.load_state_dict(net.state_dict())
    (x,), (wide,) = _leaves(dtype, layout, torch.randn(size) * 2 + 1)
    with torch.no_grad(), use_backend("reference"):
        _, attention = plain.attention_region_norm(wide, *exact.state_dict().values(), 0.5)
    exact.threshold = net.threshold = _clear_threshold(attention, dtype)
    net.to(DEVICE)
    y = net(x)
    with use_backend("reference"):
        expected = exact(wide)
    grad = torch.randn(expected.shape)
    results = [y, *_gradients(y, grad, [x, *net.parameters()])]
    wanted = [
        expected,
        *_gradients(expected, grad.to(DTYPES[dtype]).double(), [wide, *exact.parameters()]),
    ]
    _compare(plain, results, wanted, 49 * wide.numel())


# The regions of a block's norm, and the activation's slope; fixed: statistics are given.
BLOCKS = {"plane": 0.0, "shared": 0.2, "soft": 0.2, "hole": 1.0, "one region": 0.0, "fixed": 0.2}


def _both(name: str, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The op's results, statistics as what they are known to, and the formula's in float64."""
    there = [a.to(DEVICE) if isinstance(a, Tensor) else a for a in arguments]
    wide = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    results = getattr(torch.ops.inpaint_ops, name).default(*there), REFERENCE[name](*wide)
    found, wanted = (list(r) if isinstance(r, tuple) else [r] for r in results)
    return [t.float() if t.dtype == torch.float64 else t for t in found], wanted


def _surround(plain: Any, size: Sequence[int], shared: bool) -> tuple[Tensor, Tensor]:
    """Ratio and new mask: zero where a window saw nothing."""
    n, _, h, w = size
    new_mask = plain.blobs(1 if shared else n, 1, h, w).float()
    return (1 + torch.rand_like(new_mask)) * new_mask, new_mask


@backends
@dtypes
@layouts
@sizes
@pytest.mark.parametrize("form", BLOCKS)
def test_norm_in_a_block(
    plain: Any, backend: str, dtype: str, layout: str, size: tuple[int, ...], form: str
) -> None:
    n, c, h, w = size
    regions = form not in ("one region", "fixed")
    mask = _mask(plain, form, size, "float32")[0] if regions else None
    x = (torch.randn(size) * 2 + (0 if form == "soft" else 3)).to(DTYPES[dtype])
    x = x.contiguous(memory_format=LAYOUTS[layout])
    around = (*_surround(plain, size, form == "shared"), BLOCKS[form])
    weight, bias = torch.randn(2, 2 if regions else 1, c).unbind()
    condition = n * h * w * (1 if h > 4 else 1e5)  # a region of one pixel
    if form == "fixed":
        mean, rstd = torch.randn(1, 1, c).double(), torch.rand(1, 1, c).double()
        given = (x, *around, weight, bias, mean, rstd)
        found, wanted = _both("block_norm_fixed", *given)
        _compare(plain, found, wanted, 64)
        there: list[Any] = [a.to(DEVICE) if isinstance(a, Tensor) else a for a in given]
        torch.ops.inpaint_ops.block_norm_fixed_.default(*there)
        assert torch.equal(there[0], found[0])
    else:
        found, wanted = _both(
            "block_norm_forward", x, *around, mask, weight, bias, 1e-5, form != "one region"
        )
        _compare(plain, found, wanted, condition)
        mean, rstd = wanted[1:]
    grad = _stepped(torch.randn(size)).to(DTYPES[dtype])
    backward = (grad, x, *around, mask, weight, bias, mean, rstd, form == "fixed")
    found, wanted = _both("block_norm_backward", *backward, True)
    _compare(plain, found, wanted, condition)
    (grad_x, *nothing), _ = _both("block_norm_backward", *backward, False)
    assert torch.equal(grad_x, found[0])
    assert all(t.shape == (0, c) for t in nothing)


@backends
@dtypes
@layouts
@pytest.mark.parametrize("size", SIZES[2:], ids=lambda s: "x".join(map(str, s)))
def test_learned_norm_in_a_block(
    plain: Any, backend: str, dtype: str, layout: str, size: tuple[int, ...]
) -> None:
    x = (torch.randn(size) * 2 + 1).to(DTYPES[dtype]).contiguous(memory_format=LAYOUTS[layout])
    around = (*_surround(plain, size, shared=False), 0.2)
    shapes = [(1, 2, 7, 7), (1, 1, 7, 7), (1,), (1, 1, 7, 7), (1,)]
    parameters = [torch.randn(shape) * 0.1 for shape in shapes]
    name = "attention_block_norm_forward"
    wide = [t.double() for t in (x, *around[:2], *parameters)]
    attention = REFERENCE[name](*wide[:3], 0.2, *wide[3:], 0.5, 1e-5)[3]
    threshold = _clear_threshold(attention.unique(), "float32")
    found, wanted = _both(name, x, *around, *parameters, threshold, 1e-5)
    length = 49 * x.numel()
    _compare(plain, [found[0], found[4]], [wanted[0], wanted[4]], length)
    by_products = [t.float() if t.dtype == torch.float64 else t for t in wanted[1:5]]
    kept = [parameters[0], parameters[1], parameters[3], *by_products, *wanted[5:], threshold]
    grad = torch.randn(size).to(DTYPES[dtype])
    found, wanted = _both("attention_block_norm_backward", grad, x, *around, *kept)
    _compare(plain, found, wanted, length)


@backends
@pytest.mark.parametrize("dtype", ["bool", "float32"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("order", ["contiguous", "channels last", "expanded", "stepped"])
def test_mask_update(plain: Any, backend: str, order: str, groups: int, dtype: str) -> None:
    mask = plain.blobs(2, groups, 67, 61).to(getattr(torch, dtype)).to(DEVICE)
    if order == "channels last":
        mask = mask.contiguous(memory_format=torch.channels_last)
    elif order == "expanded":
        mask = mask[:1].expand(4, -1, -1, -1)
    elif order == "stepped":
        mask = mask[:, :, ::2, ::3]
    window = [7, 3], [2, 1], [3, 1], [1, 2], 1e-8, torch.float32
    arguments = (mask, list(range(1, groups + 1)), *window)
    op = torch.ops.inpaint_ops.mask_update.default
    new_mask, ratio = op(*arguments)
    with use_backend("reference"):
        expected_mask, expected = op(*arguments)
    assert torch.equal(new_mask, expected_mask)
    torch.testing.assert_close(ratio, expected, rtol=1e-6, atol=0)


@backends
@dtypes
def test_three_axes(plain: Any, backend: str, dtype: str) -> None:
    net = PartialConv3d(3, 4, 3, padding=1).to(DTYPES[dtype])
    x = torch.randn(2, 3, 5, 6, 7).to(DTYPES[dtype])
    mask = (torch.rand(2, 1, 5, 6, 7) > 0.5).to(DTYPES[dtype])
    y = net.to(DEVICE)(x.to(DEVICE), mask.to(DEVICE))
    with use_backend("reference"):
        expected = net.cpu().double()(x.double(), mask.double())
    plain.close(y.detach().cpu(), expected.detach(), 81)


class _Block(nn.Module):
    """Each operator once, the mask handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = PartialConv2d(8, 32, 3, padding=1, return_mask=True)
        self.norm = RegionNorm2d(32)
        self.down = PartialConv2d(32, 32, 3, stride=2, padding=1, return_mask=True)
        self.attend = RN_L(32, threshold=0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, mask = self.conv(x, mask)
        x, mask = self.down(torch.relu(self.norm(x, mask)), mask)
        y: Tensor = self.attend(x)
        return y


def _block(plain: Any, layout: str = "nhwc") -> tuple[Callable[[], list[Tensor]], Tensor]:
    """Forward and backward of the block, whose x can be overwritten."""
    net = _Block().to(DEVICE)
    x = _put(torch.randn(2, 8, 33, 29), layout)
    mask = plain.blobs(2, 1, 33, 29).float().to(DEVICE)
    weights = list(net.parameters())

    def step() -> list[Tensor]:
        y = net(x, mask)
        return [y.detach(), *torch.autograd.grad(y.square().mean(), weights)]

    return step, x


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


@backends
@layouts
def test_the_same_bits_every_time(
    plain: Any, backend: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With cuDNN's algorithms held to their deterministic ones."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    step, _ = _block(plain, layout)
    first = step()
    for _ in range(5):
        _equal(step(), first)


@backends
def test_a_replayed_graph_leaves_the_bits_of_a_call(
    plain: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    step, x = _block(plain)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = step()
    for _ in range(3):
        x.copy_(torch.randn_like(x))
        graph.replay()
        _equal(captured, step())


@backends
def test_streams_do_not_wait_for_each_other_nor_mix(
    plain: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once, neither of them the default one."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    steps = [_block(plain)[0] for _ in range(2)]
    wanted = [step() for step in steps]
    streams = [torch.cuda.Stream() for _ in steps]
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
    found: list[list[Tensor]] = [[], []]
    for _ in range(10):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found[i] = steps[i]()
    torch.cuda.synchronize()
    for one, other in zip(found, wanted, strict=True):
        _equal(one, other)


@backends
def test_the_second_device_while_the_first_is_current(plain: Any, backend: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU: there is no second device")
    net, x = _Block(), torch.randn(2, 8, 33, 29)
    mask = plain.blobs(2, 1, 33, 29).float()
    results = []
    for device in ("cuda:0", "cuda:1"):
        there = net.to(device)
        with torch.cuda.device(0):
            y = there(x.to(device), mask.to(device))
            results.append([y.cpu(), *(g.cpu() for g in _mean_gradients(y, there))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def _mean_gradients(y: Tensor, net: nn.Module) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y.square().mean(), list(net.parameters()))


def _huge(channels: int, side: int) -> tuple[Tensor, Tensor]:
    """Zeros but for the last channel, which knows its column; the last column is a hole."""
    x = torch.zeros(1, channels, side, side, device=DEVICE, dtype=torch.float16)
    x[:, -1] = torch.arange(side, device=DEVICE) % 7
    mask = torch.ones(1, 1, side, side, device=DEVICE, dtype=torch.float16)
    mask[..., -1] = 0
    return x.requires_grad_(), mask


HUGE = (33, 8192)
"""More than 2**31 values in one tensor."""


@backends
@pytest.mark.parametrize("op", ["partial_conv", "region_norm"])
def test_offsets_beyond_32_bits(backend: str, op: str) -> None:
    """The last channel of a tensor of more than 2**31 values is what it is in a small one."""
    channels, side = HUGE
    x, mask = _huge(channels, side)
    results = []
    for features in (x, x.detach()[:, -1:].clone().requires_grad_()):
        count = features.shape[1]
        if op == "partial_conv":
            weight = torch.ones(count, 1, 1, 1, device=DEVICE, dtype=x.dtype)
            y, _ = partial_conv2d(features, mask, weight, groups=count)
        else:
            y = region_norm(features, mask)
        (grad,) = torch.autograd.grad(y, features, torch.where(mask == 0, 0, features.detach()))
        results.append((y.detach()[:, -1], grad[:, -1]))
        del y, grad
    for a, b in zip(*results, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


@backends
@layouts
def test_opcheck(plain: Any, backend: str, layout: str) -> None:
    if importlib.util.find_spec("expecttest") is None:
        pytest.skip("opcheck needs the package expecttest")
    x = _put(torch.randn(2, 8, 9, 11), layout)
    mask = plain.blobs(2, 1, 9, 11).float().to(DEVICE)
    weight, bias = torch.randn(4, 8, 3, 3, device=DEVICE), torch.randn(4, device=DEVICE)
    affine = torch.randn(2, 8, device=DEVICE)
    window = [3, 3], [1, 1], [1, 1], [1, 1], 1e-8, torch.float32
    geometry = [1, 1], [1, 1], [1, 1], [1, 1], 1
    calls: dict[str, tuple[Any, ...]] = {
        "mask_update": (mask, [1], *window),
        "apply_mask": (x, mask, [8]),
        "partial_conv_forward": (x, mask, [8], weight, bias, *geometry, False, False, 1e-8),
        "region_norm_forward": (x, mask, affine, affine, 1e-5, True, False),
    }
    for name, arguments in calls.items():
        op = getattr(torch.ops.inpaint_ops, name).default
        assert set(torch.library.opcheck(op, arguments).values()) == {"SUCCESS"}


@backends
def test_compiled_as_one_graph(plain: Any, backend: str) -> None:
    net = _Block().to(DEVICE)
    x, mask = torch.randn(2, 8, 33, 29), plain.blobs(2, 1, 33, 29).float()
    x, mask = x.to(DEVICE), mask.to(DEVICE)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True)
    results = []
    for function in (net, compiled):
        y = function(x, mask)
        results.append([y.detach(), *_mean_gradients(y, net)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@backends
@layouts
@pytest.mark.parametrize("name", ["pconv_unet", "cgan_pc_rn"])
def test_whole_networks(plain: Any, backend: str, layout: str, name: str) -> None:
    """Output and gradients of a training step, in rms: kinks turn rounding into whole values."""
    net = create_model(name)
    image, mask = torch.rand(2, 3, 128, 128), plain.blobs(2, 1, 128, 128).float()
    results = []
    for dtype, chosen in ((torch.float32, backend), (torch.float64, "reference")):
        net.to(DEVICE, dtype)
        with use_backend(chosen):
            features = image.to(DEVICE, dtype, memory_format=LAYOUTS[layout])
            y = net(features, mask.to(DEVICE, dtype))
            results.append([y.detach().double(), *(g.double() for g in _mean_gradients(y, net))])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        error, size = ((t.square().mean().sqrt()) for t in (a - b, b))
        assert error <= (1e-4 if i == 0 else gradient_tolerance(2, b.numel())) * size


@backends
def test_an_empty_batch_and_soft_values_of_three_axes(backend: str) -> None:
    mask = torch.rand(2, 2, 9, 11, 13).to(DEVICE) * 0.1
    found = update_mask(mask, 2, stride=(1, 2, 1))
    with use_backend("reference"):
        expected = update_mask(mask, 2, stride=(1, 2, 1))
    torch.testing.assert_close(found, expected)
    assert update_mask(mask[:0], 2).shape == (0, 1, 8, 10, 12)


@pytest.mark.parametrize("stats", ["batch", "instance"])
def test_float64_goes_to_the_reference(plain: Any, stats: str) -> None:
    """Whose result it then is, to the last digits."""
    x, mask = torch.randn(3, 5, 33, 29).double(), plain.blobs(3, 1, 33, 29)
    y = region_norm(x.to(DEVICE), mask.to(DEVICE), stats=stats)
    plain.close(y.cpu(), plain.region_norm(x, mask, stats=stats), 3 * 33 * 29)


def test_the_cpu_backend_refuses_cuda_tensors() -> None:
    with use_backend("cpu"), pytest.raises(RuntimeError, match="runs on the CPU only"):
        region_norm(torch.ones(1, 1, 3, 3).cuda(), torch.ones(1, 1, 3, 3).cuda())
