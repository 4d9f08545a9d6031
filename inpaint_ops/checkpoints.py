"""Checkpoints as other people publish them, loaded into their patched networks and into ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .nn import PartialConv1d, PartialConv2d, PartialConv3d
from .patch.adapters import Patched, is_ones

Source = str | os.PathLike[str] | Mapping[str, Any]

_WRAPPERS = ("module", "_orig_mod")  # DataParallel, torch.compile
_COUNTS = ("mask_conv.weight", "weight_mask_updater", "weight_maskUpdater")
_GENERATOR = "generator."
_STEPS = "num_batches_tracked"
_REFUSED = ("Unsupported global", "Unsupported class", "Trying to load unsupported GLOBAL")
_POINTER = b"version https://git-lfs"


@runtime_checkable
class KnowsPublishedNames(Protocol):
    """A network whose architecture somebody else has published too, under other names."""

    def published_names(self, names: Iterable[str]) -> dict[str, str] | None:
        """Our names for those of a published checkpoint; None if it is not of that network.

        Partial convolutions keep their inner names (``input_conv.weight``): what becomes of these
        is the loader's business.
        """
        ...


@dataclass(frozen=True)
class CheckpointReport:
    """What :func:`load_checkpoint` has done with each tensor of a checkpoint.

    Args:
        layout: how the file was built, in words.
        loaded: names in the network.
        rescaled: those among them whose weight was converted to our scale.
        ignored: names in the file of what the network does not need: counting weights, which are
            all ones, and other networks in the same file.
        missing: names in the network that got no value (not with ``strict``).
        unexpected: names in the file without a place in the network (not with ``strict``).
    """

    layout: str
    loaded: tuple[str, ...]
    rescaled: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.layout}: {len(self.loaded)} tensors loaded, {len(self.rescaled)} rescaled"
        for name in ("ignored", "missing", "unexpected"):
            found = getattr(self, name)
            text += f", {len(found)} {name}" if found else ""
        return text


def load_checkpoint(
    net: nn.Module, source: Source, *, label: str | None = None, strict: bool = True
) -> CheckpointReport:
    """Load a published checkpoint into a network; all of it fits, or nothing is changed.

    Layouts: a state_dict as it is; in ``{"state_dict": ...}`` (NVIDIA/partialconv, mmagic), in
    ``{"model": ...}`` (naoto0804), in ``{"labels": [...], label: {"model": ...}}``
    (climatereconstructionAI), in ``{"generator": ...}``; ``module.`` of ``nn.DataParallel``
    anywhere in a name; a ``generator.`` beside its discriminator (geekyutao/RN, mmagic).

    Networks: the published one itself, patched by :func:`patch_model` or not; your own with our
    modules in the places of theirs; of ``inpaint_models``, ``pconv_unet`` for naoto0804's
    ``PConvUNet`` and ``rn_net`` for geekyutao/RN's ``G_Net``. In our modules, weights of
    naoto0804's and climatereconstructionAI's scale are divided by the window's number of cells;
    patched modules compute in the published scale.

    Args:
        net: the network.
        source: a file, written by ``torch.save`` or safetensors; or what was read from one. Files
            are read without running code in them (``weights_only=True``).
        label: which of several models in one file (climatereconstructionAI); None: the last.
        strict: every name in the network gets a value, and every tensor of the file a place.
            A norm's ``num_batches_tracked``, which torch before 0.4.1 did not save, may be missing.

    Returns:
        What became of each tensor.

    Raises:
        OSError: no such file.
        TypeError: `net` is no module, or `source` no path and no mapping.
        ValueError: a file that cannot be read safely, an unknown layout, names or shapes that do
            not fit; the message lists them.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net: expected an nn.Module, got {type(net).__name__}")
    if not isinstance(source, str | os.PathLike | Mapping):
        raise TypeError(f"source: expected a path or a mapping, got {type(source).__name__}")
    where = "the checkpoint" if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else _read(Path(source))
    layout, tensors = _unwrapped(content, label, where)
    targets = _plain_names(net.state_dict(), where)
    given, ignored = _own_part(_plain_names(tensors, where), targets)
    given = _our_names(net, given, where)
    values, rescaled = _our_scale(net, {name: tensors[key] for name, key in given.items()})
    for name in [n for n in values if n not in targets and n.endswith(_COUNTS)]:
        if not is_ones(values[name]):
            raise ValueError(f"{where}: {name} is not all ones, so it does more than count")
        del values[name]
        ignored.append(name)
    missing = [n for n in targets if n not in values and not _older_norm(n, values)]
    unexpected = [name for name in values if name not in targets]
    loaded = [name for name in values if name in targets]
    _check(net, where, strict, {targets[n]: values[n] for n in loaded}, missing, unexpected)
    net.load_state_dict({targets[name]: values[name] for name in loaded}, strict=False)
    return CheckpointReport(layout, *map(tuple, (loaded, rescaled, ignored, missing, unexpected)))


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise ImportError(f"{path}: pip install safetensors to read it") from error
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: cannot be read: {error}") from error
        return tensors
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever the bytes of another kind of file lead the reader to
        raise ValueError(f"{path}: {_why_not(path, error)}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dictionary, got {type(content).__name__}")
    return content


def _why_not(path: Path, error: Exception) -> str:
    """What ``torch.load`` has met, in words."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            return "cannot be read: it is a pointer of git-lfs; `git lfs pull` fetches the file"
    reason = " ".join(str(error).split())
    starts = [reason.find(words) for words in _REFUSED if words in reason]
    if starts:
        return (
            f"not read, because reading it could run code: {reason[min(starts) :][:200]}. If you "
            "trust it, hand over torch.load(path, weights_only=False) in the place of the path"
        )
    if isinstance(error, RuntimeError):
        return f"cannot be read: {reason}"
    # torch advises here to read it without weights_only, which helps nobody.
    detail = reason.rpartition("WeightsUnpickler error: ")[2].partition(" Check the doc")[0]
    return f"cannot be read: it is no checkpoint ({type(error).__name__}: {detail[:200]})"


def _unwrapped(
    content: Mapping[str, Any], label: str | None, where: str
) -> tuple[str, Mapping[str, Tensor]]:
    """The state_dict of a file, and what stood around it."""
    if "labels" in content:
        if not isinstance(content["labels"], list | tuple):
            raise ValueError(f"{where}: expected a list under 'labels'")
        keys = {str(name): name for name in content["labels"]}
        if not keys:
            raise ValueError(f"{where}: the list under 'labels' is empty, so it holds no model")
        if label is not None and label not in keys:
            raise ValueError(f"label: expected one of {list(keys)}, got {label!r}")
        label = list(keys)[-1] if label is None else label
        part = content.get(keys[label])
        inner = part.get("model") if isinstance(part, Mapping) else None
        if not isinstance(inner, Mapping):
            raise ValueError(f"{where}: expected a state_dict under {label!r}, 'model'")
        return f"model of {label!r}", _tensors(inner, where)
    if label is not None:
        raise ValueError(f"label: {where} holds one model, without labels; got {label!r}")
    for key in ("state_dict", "model", "generator"):
        if isinstance(content.get(key), Mapping):
            return f"'{key}'", _tensors(content[key], where)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return "state_dict", _tensors(content, where)
    raise ValueError(
        f"{where}: unknown layout with the keys {_some(content)}; expected a state_dict, or one "
        "under 'state_dict', 'model' or 'generator'"
    )


def _tensors(state: Mapping[str, Any], where: str) -> Mapping[str, Tensor]:
    wrong = [n for n, v in state.items() if not (isinstance(n, str) and isinstance(v, Tensor))]
    if wrong or not state:
        found = f"others at {_some(wrong)}" if wrong else "nothing"
        raise ValueError(f"{where}: expected tensors in its state_dict, found {found}")
    found_tensors: Mapping[str, Tensor] = state
    return found_tensors


def _plain_names(state: Mapping[str, Tensor], where: str) -> dict[str, str]:
    """Names without those of wrappers, and the names that they stand for."""
    plain: dict[str, str] = {}
    for name in state:
        found = _plain(name)
        if found in plain:
            raise ValueError(f"{where}: {name} and {plain[found]} would be the same")
        plain[found] = name
    return plain


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _own_part(
    given: dict[str, str], targets: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """A generator alone, where the file holds more than that, and what is left out."""
    inside = any(name.startswith(_GENERATOR) for name in targets)
    own = {n[len(_GENERATOR) :]: key for n, key in given.items() if n.startswith(_GENERATOR)}
    if inside or not own:
        return given, []
    return own, [name for name in given if not name.startswith(_GENERATOR)]


def _older_norm(name: str, given: Mapping[str, Tensor]) -> bool:
    """Whether it is the step counter of a norm that was written before there was one."""
    norm, last = name[: -len(_STEPS)], name.rpartition(".")[2]
    return last == _STEPS and f"{norm}running_mean" in given


def _our_names(net: nn.Module, given: dict[str, str], where: str) -> dict[str, str]:
    if not isinstance(net, KnowsPublishedNames):
        return given
    names = net.published_names(given)
    return given if names is None else {names.get(n, n): key for n, key in given.items()}


def _our_scale(net: nn.Module, given: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """What our partial convolutions are called and how they are scaled, from those that divide by
    the sum of the mask."""
    values, rescaled = dict(given), []
    for name, module in net.named_modules():
        ours = isinstance(module, (PartialConv1d, PartialConv2d, PartialConv3d))
        if not ours or isinstance(module, Patched):
            continue
        prefix = f"{_plain(name)}." if name else ""
        weight = values.pop(f"{prefix}input_conv.weight", None)
        if weight is None:
            continue
        cells = module.weight[0].numel() * module.groups
        # A quotient of half precision would be rounded twice, or lie below its normal numbers.
        values[f"{prefix}weight"] = weight.double() / cells
        rescaled.append(f"{prefix}weight")
        bias = values.pop(f"{prefix}input_conv.bias", None)
        if bias is not None:
            values[f"{prefix}bias"] = bias
    return values, rescaled


def _check(
    net: nn.Module,
    where: str,
    strict: bool,
    values: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
) -> None:
    own, problems = net.state_dict(), []
    for name, value in values.items():
        if value.shape != own[name].shape:
            problems.append(
                f"{name} has shape {tuple(value.shape)} instead of {tuple(own[name].shape)}"
            )
    if not values:
        problems.append("no name of the network is in it")
    if strict and missing:
        problems.append(f"{len(missing)} missing: {_some(missing)}")
    if strict and unexpected:
        problems.append(f"{len(unexpected)} unexpected: {_some(unexpected)}")
    if problems:
        raise ValueError(f"{where} does not fit {type(net).__name__}: " + "; ".join(problems[:10]))


def _some(names: Iterable[str]) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
