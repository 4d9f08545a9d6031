"""Replacing the partial convolutions and region norms of an existing network by ours, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from .families import KNOWN, AlreadyError, Proposal, RefusalError, propose
from .report import PatchReport, PatchRow
from .twins import difference, undisturbed

__all__ = ["PatchReport", "PatchRow", "patch_model"]


@dataclass
class _Found:
    module: nn.Module
    names: list[str]
    published: str
    proposal: Proposal | None = None
    convert: Callable[[nn.Module], None] | None = None
    reason: str = ""
    already: bool = False


def patch_model(net: nn.Module, *, dry_run: bool = False) -> PatchReport:
    """Replace published partial convolutions and region norms within ``net`` by ours.

    Known are, by the names of their classes and what they hold: ``PartialConv2d`` and
    ``PartialConv3d`` of NVIDIA/partialconv, ``PartialConv2d`` of mmagic, ``PartialConv`` of
    naoto0804/pytorch-inpainting-with-partial-conv, ``PConvBlock`` of climatereconstructionAI, and
    ``RN_B``, ``RN_L`` and ``RN_binarylabel`` of geekyutao/RN. Their packages are not imported.

    Each module is compared with its replacement first, values and gradients, on copies on the CPU
    in float64, in evaluation and in training; one that computes something else is left alone, and
    the report says so. Nothing is drawn from torch's random numbers, and no hook is called.

    The modules stay the same objects, in the same places: what changes is their class, which still
    derives from the published one. Parameters stay as they are, also where a published scale
    differs from ours (naoto0804 and climatereconstructionAI divide by the sum of the mask alone):
    the factor is part of the computed ratio. So hooks, spectral and weight norm, training mode,
    devices, dtypes, memory order, optimizers and checkpoints go on as before.

    Args:
        net: a network, or one of the modules itself.
        dry_run: change nothing; the report says what would be done.

    Returns:
        A row for each module of a known class; ``print`` it.

    Raises:
        TypeError: ``net`` is no module.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net: expected a torch.nn.Module, got {type(net).__name__}")
    with undisturbed():
        found = _candidates(net)
    _keep_shared(net, found)
    absorbed = {
        id(m)
        for candidate in found.values()
        if candidate.convert is not None and candidate.proposal is not None
        for m in candidate.proposal.absorbed
    }
    found = {key: candidate for key, candidate in found.items() if key not in absorbed}
    if not dry_run:
        for candidate in found.values():
            if candidate.convert is not None:
                candidate.convert(candidate.module)
    return PatchReport(tuple(_row(candidate) for candidate in found.values()), dry_run, KNOWN)


def _candidates(net: nn.Module) -> dict[int, _Found]:
    """The modules of known classes, each once, judged by itself."""
    found: dict[int, _Found] = {}
    passed: set[int] = set()
    for name, module in net.named_modules(remove_duplicate=False):
        if id(module) in found:
            found[id(module)].names.append(name)
        elif id(module) not in passed:
            candidate = _judged(module, name)
            if candidate is None:
                passed.add(id(module))
            else:
                found[id(module)] = candidate
    return found


def _judged(module: nn.Module, name: str) -> _Found | None:
    cls = type(module)
    candidate = _Found(module, [name], f"{cls.__module__}.{cls.__qualname__}")
    try:
        proposal = propose(module)
    except RefusalError as refusal:
        candidate.reason = str(refusal)
        candidate.already = isinstance(refusal, AlreadyError)
        return candidate
    if proposal is None:
        return None
    candidate.proposal = proposal
    for convert in proposal.conversions:
        different = difference(module, convert, proposal.calls, proposal.constants)
        if different is None:
            candidate.convert, candidate.reason = convert, proposal.note
            return candidate
        candidate.reason = candidate.reason or different
    return candidate


def _keep_shared(net: nn.Module, found: Mapping[int, _Found]) -> None:
    """Leave alone what shares an inner module with a parent that goes on calling it as it was."""
    parents: dict[int, set[int]] = {}
    for parent in net.modules():
        for child in parent.children():
            parents.setdefault(id(child), set()).add(id(parent))
    changed = True
    while changed:
        changed = False
        converted = {key for key, candidate in found.items() if candidate.convert is not None}
        for key in converted:
            candidate = found[key]
            assert candidate.proposal is not None
            if any(parents[id(inner)] - converted for inner in candidate.proposal.inner):
                candidate.convert, changed = None, True
                candidate.reason = "another module calls its input_conv as a plain convolution"


def _row(candidate: _Found) -> PatchRow:
    became = None
    if candidate.convert is not None and candidate.proposal is not None:
        became = candidate.proposal.became
    return PatchRow(
        tuple(candidate.names), candidate.published, became, candidate.reason, candidate.already
    )
