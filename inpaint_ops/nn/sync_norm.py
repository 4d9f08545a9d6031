"""Norms whose statistics span the processes of a group, for training on several devices."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import synchronized
from ..backends.precision import compute_dtype
from ..validation import check_process_group
from .region_norm import RN_B, RN_L, RegionNorm2d

Module = TypeVar("Module", bound=nn.Module)


class _SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.SyncBatchNorm` where PyTorch has none, on a CPU."""

    process_group: dist.ProcessGroup

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, H, W); in evaluation, with nothing to gather, as its parent does."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        everywhere = input.new_ones(input.shape[0], 1, *input.shape[2:], dtype=torch.float32)
        mean, variance, share = (
            row[0] for row in synchronized.statistics(input, [everywhere], self.process_group)
        )
        # All processes agree on it. Only a CPU gets here: reading waits for nothing.
        if bool((share <= 1).any()):
            raise ValueError(
                f"input: expected more than one value per channel in the batches of all "
                f"{dist.get_world_size(self.process_group)} processes in training, got shape "
                f"{tuple(input.shape)} here"
            )
        self._update(mean.detach(), variance.detach(), share)
        wide = compute_dtype(input.dtype)
        rstd = (variance + self.eps).rsqrt()
        shape = (1, -1, 1, 1)
        y = (input.to(wide) - mean.to(wide).view(shape)) * rstd.to(wide).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, share: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        step = self.momentum
        if step is None:  # the cumulative average, as in nn.BatchNorm2d
            step = 1.0 / float(self.num_batches_tracked)
        unbiased = variance * share / (share - 1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), step)


def convert_sync_norms(module: Module, process_group: dist.ProcessGroup | None = None) -> Module:
    """Make the norms of a network use statistics over all processes, in place.

    Without this, data parallelism normalizes each process's part of the batch by itself. Region
    norms (``RegionNorm2d``, ``RN_B``, ``RN_L``) get the group as attribute; batch norms become
    ``nn.SyncBatchNorm`` on a GPU, and the same in plain PyTorch elsewhere. Parameters, buffers and
    keys of the state_dict stay. Two collectives per norm and step: one forward, one backward. The
    region norms run in plain PyTorch then, slower and with more memory than those of one process.

    Args:
        module: a network, or a norm; on its final device.
        process_group: the processes; None: all of them.

    Returns:
        The module itself, or its replacement if it is a batch norm.

    Raises:
        RuntimeError: torch.distributed is not initialized.
        TypeError: not a process group that this process belongs to.
        ValueError: a norm with ``stats="instance"``, which has nothing to share.
    """
    if process_group is None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "process_group: torch.distributed is not initialized: call "
                "torch.distributed.init_process_group first, or give a group"
            )
        process_group = dist.group.WORLD
    check_process_group(process_group)
    assert process_group is not None
    return _convert(module, process_group)


def _convert(module: Module, group: dist.ProcessGroup) -> Module:
    if isinstance(module, nn.BatchNorm2d) and not isinstance(module, _SyncBatchNorm2d):
        return _converted_batch_norm(module, group)  # type: ignore[return-value]
    if isinstance(module, (RegionNorm2d, RN_B, RN_L)):
        if isinstance(module, RegionNorm2d) and module.stats == "instance":
            raise ValueError(
                "stats: expected 'batch' in every RegionNorm2d, got 'instance', whose statistics "
                "never leave an image"
            )
        module.process_group = group
        return module
    for name, child in module.named_children():
        setattr(module, name, _convert(child, group))
    return module


def _converted_batch_norm(module: nn.BatchNorm2d, group: dist.ProcessGroup) -> nn.Module:
    parameters = [*module.parameters(), *module.buffers()]
    if parameters and parameters[0].is_cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module, group)
        return converted
    sync = _SyncBatchNorm2d(
        module.num_features, module.eps, module.momentum, module.affine,
        module.track_running_stats,
    )  # fmt: skip
    sync.process_group = group
    # The tensors themselves: optimizers and ties hold on to them.
    for name, parameter in module.named_parameters(recurse=False):
        sync.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False):
        sync.register_buffer(name, buffer)
    return sync.train(module.training)
