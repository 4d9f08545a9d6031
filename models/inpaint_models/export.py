"""Networks as files that run without this package: ONNX, and `torch.export`'s .pt2.

>>> export_model(net, "unet.onnx")            # any batch size, height and width
>>> program = export_program(net)             # the same as a `torch.export.ExportedProgram`

Both hold standard operators only: ours are replaced by their plain form, `inpaint_ops`' backend
"reference". Needs `pip install 'inpaint_ops[export]'` for ONNX.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic_shapes
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

import inpaint_ops

from .checks import check_choice
from .composite import composite
from .errors import InpaintError, MissingPackageError

RESULTS = ("filled", "prediction")
SUFFIXES = (".onnx", ".pt2")
OPSETS = range(18, 24)
_OPSET = 20
_METADATA = "inpaint_ops."  # what the keys in a file begin with
_MOST_BYTES = 2**31 - 2**24  # of weights in one protobuf, with room for the graph
# Of the picture that is traced, whose values are never looked at. Where maps shrink to one pixel,
# torch binds programs to that: with these sides, not before the eleventh halving.
_SIDES = (1029, 1285)
_REGION_NORMS = (inpaint_ops.RN_B, inpaint_ops.RN_L, inpaint_ops.RegionNorm2d)


class Deployed(nn.Module):
    """What an exported file computes, on arguments that are float32 and of one batch size."""

    def __init__(self, net: nn.Module, result: str) -> None:
        """`net`: called with image and mask; `result`: one of RESULTS."""
        super().__init__()
        self.net = net
        self.result = result

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """image (N, C, H, W) and mask (N, 1, H, W), 1 = valid; returns (N, C, H, W)."""
        # Networks that know masks never read a hole; those that do not are trained on black ones.
        prediction: Tensor = self.net(torch.where(mask == 0, 0.0, image), mask)
        if self.result == "prediction":
            return prediction
        return composite(prediction.clamp(0, 1), image, mask)


def export_program(
    net: nn.Module, *, result: str = "filled", channels: int | None = None
) -> ExportedProgram:
    """A network as one graph of ATen operators, for any batch size, height and width.

    The program takes `image` (N, C, H, W) and `mask` (N, 1, H, W), both float32 on the CPU, mask
    1 = valid, and returns (N, C, H, W). What lies in a hole, where the mask is 0, is never read,
    and may be NaN. Spectral and weight norm, by hooks too, and other parametrizations are computed
    once.

    Networks with region norms normalize over the whole batch, so that an image's output depends on
    those beside it, there as here.

    Args:
        net: in evaluation mode, of float32 parameters; called with image and mask. It is copied.
        result: "filled": the image where the mask is exactly 1, the prediction clamped to [0, 1]
            everywhere else. "prediction": what the network returns (for a network that knows no
            mask: with its holes painted black).
        channels: of the image; None: `net.in_channels`.

    Raises:
        TypeError: `net` is no module, or its dtype is another.
        ValueError: `net` is in training mode, or an option's value is not allowed.
    """
    _check_net(net)
    check_choice("result", result, RESULTS)
    channels = _channels(net) if channels is None else channels
    deployed = Deployed(_plain_copy(net), result).eval()
    image = torch.empty(2, channels, *_SIDES)
    axes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # No size is taken for other than 1 because that of the traced picture is.
    any_size = symbolic_shapes.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _quiet(), torch.no_grad(), any_size:
        program: ExportedProgram = torch.export.export(
            deployed,
            (image, image[:, :1].clone()),
            dynamic_shapes={"image": axes, "mask": axes},
            strict=False,
        )
        plain: ExportedProgram = program.run_decompositions(inpaint_ops.reference_decompositions())
    return plain


def export_model(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    result: str = "filled",
    channels: int | None = None,
    opset: int | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    check: int | None = None,
) -> float | None:
    """Write `export_program` of a network to a file: ONNX, or what `torch.export.load` reads.

    The file is written under another name and renamed when it is whole. Inputs are `image` and
    `mask`; the output is called as `result` is.

    Args:
        net, result, channels: as in `export_program`.
        path: ends in .onnx or .pt2.
        opset: of ONNX, 18 to 23; None: 20.
        metadata: texts to keep in the file, beside what it takes and returns.
        overwrite: replace a file that is there.
        check: run the file (in onnxruntime, if it is ONNX) on pictures of two sizes, of `check`
            pixels and less, and compare with the network here, before the file gets its name.

    Returns:
        With `check`, the largest absolute difference; else None.

    Raises:
        MissingPackageError: the packages of the extra `export` are not installed.
        FileExistsError, FileNotFoundError: the file is there, or its folder is not.
        InpaintError: the check found another result.
        TypeError, ValueError: as in `export_program`, or another argument is not allowed.
    """
    path = Path(path)
    check_choice("the file's suffix", path.suffix, SUFFIXES)
    is_onnx = path.suffix == ".onnx"
    if opset is not None and (not is_onnx or opset not in OPSETS):
        allowed = f"from {OPSETS[0]} to {OPSETS[-1]}" if is_onnx else "None for a .pt2 file"
        raise ValueError(f"opset must be {allowed}, got {opset}")
    if check is not None and check < 1:
        raise ValueError(f"check must be at least 1, got {check}")
    _check_net(net)
    if is_onnx:
        _require("onnx", "onnxscript", *([] if check is None else ["onnxruntime"]))
        _check_bytes(net)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    program = export_program(net, result=result, channels=channels)
    about = {f"{_METADATA}{k}": v for k, v in (_about(net, result) | dict(metadata or {})).items()}
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        if is_onnx:
            _write_onnx(program, temporary, result, opset or _OPSET, about)
        else:
            torch.export.save(program, temporary, extra_files=about)
        found = None
        if check is not None:
            found = _compare(_runner(temporary), net, result, program, check)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return found


def _about(net: nn.Module, result: str) -> dict[str, str]:
    """What whoever finds a file needs to know."""
    what = {
        "filled": "the image where the mask is 1, the prediction clamped to [0, 1] elsewhere",
        "prediction": "the whole picture as the network predicts it",
    }
    whole_batch = any(isinstance(module, _REGION_NORMS) for module in net.modules())
    return {
        "network": type(net).__name__,
        "image": "(N, C, H, W) float32 in [0, 1]; what lies in a hole is never read",
        "mask": "(N, 1, H, W) float32, 1 = valid, 0 = hole",
        "result": f"{result}: {what[result]}",
        "batch": "region norms: a picture's result depends on the others of its batch"
        if whole_batch
        else "each picture by itself",
        "version": inpaint_ops.__version__,
        "torch": torch.__version__,
    }


def _check_net(net: nn.Module) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if any(module.training for module in net.modules()):
        raise ValueError(
            "net must be in evaluation mode, got one in training mode: call .eval() (batch norm "
            "would take its statistics from what a file is run on)"
        )
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TypeError(f"net must be of float32 parameters, got {tensor.dtype} in {name!r}")


def _channels(net: nn.Module) -> int:
    channels = getattr(net, "in_channels", None)
    if not isinstance(channels, int):
        raise ValueError(
            f"channels must be given for a network that has no in_channels, such as "
            f"{type(net).__name__}"
        )
    return channels


def _plain_copy(net: nn.Module) -> nn.Module:
    """A copy on the CPU whose parametrized weights are plain ones, for good."""
    net = _copy(net)
    for module in net.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
        if not parametrize.is_parametrized(module):
            continue
        assert isinstance(module.parametrizations, nn.ModuleDict)
        weights = {name: getattr(module, name).detach() for name in module.parametrizations}
        # Not `remove_parametrizations`: it takes them from the class, which is the original's too.
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name, weight in weights.items():
            module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return net.requires_grad_(False)


def _copy(net: nn.Module) -> nn.Module:
    """A copy on the CPU."""
    # Norms by hooks keep the weight of the last call, with its graph, which cannot be copied.
    computed = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    return copy.deepcopy(net, computed).cpu()


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingPackageError(
            f"export to ONNX needs {', '.join(missing)}: pip install 'inpaint_ops[export]'"
        )


def _check_bytes(net: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in [*net.parameters(), *net.buffers()])
    if size > _MOST_BYTES:
        raise ValueError(
            f"net must have less than 2 GB of weights to fit one ONNX file, got "
            f"{size / 2**30:.1f} GB: export to a .pt2 file"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says about itself: operators of torchvision, where that is not installed,
    and something of its own that it calls although it is to go."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def _write_onnx(
    program: ExportedProgram, path: Path, result: str, opset: int, about: Mapping[str, str]
) -> None:
    axes = {0: "batch", 2: "height", 3: "width"}
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=["image", "mask"],
            output_names=[result],
            dynamic_shapes={"image": axes, "mask": None},  # of the same names, being as large
            verbose=False,
        )
    assert found is not None
    found.model.metadata_props.update(about)
    found.save(path, external_data=False)


def _runner(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """What runs a file."""
    if path.suffix != ".onnx":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: Tensor, mask: Tensor) -> Tensor:
        (found,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
        return torch.from_numpy(found)

    return run


@torch.no_grad()
def _compare(
    run: Callable[[Tensor, Tensor], Tensor],
    net: nn.Module,
    result: str,
    program: ExportedProgram,
    size: int,
) -> float:
    """The largest difference between what was written and the network, on the CPU."""
    deployed = Deployed(_copy(net), result)
    channels = program.example_inputs[0][0].shape[1]
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch, height, width in ((1, size, size), (2, size - size // 4, size - size // 3)):
        image = torch.rand(batch, channels, height, width, generator=generator)
        mask = torch.ones(batch, 1, height, width)
        mask[..., height // 4 : height - height // 4, width // 3 : width - width // 3] = 0
        expected = deployed(image, mask)
        found = run(torch.where(mask == 0, torch.nan, image), mask)
        if found.shape != expected.shape:
            raise InpaintError(
                f"the file returns {tuple(found.shape)} where the network returns "
                f"{tuple(expected.shape)}"
            )
        difference = (found - expected).abs()
        # On the average: where a region norm's attention lies at its threshold, rounding decides.
        allowed = 1e-3 * max(1.0, float(expected.abs().max()))
        if not float(difference.mean()) <= allowed:  # NaN too
            raise InpaintError(
                f"the file's result differs from the network's by {float(difference.mean()):.3g} "
                f"on the average, allowed {allowed:.3g}, for {batch} x {height} x {width} pixels"
            )
        largest = max(largest, float(difference.max()))
    return largest
