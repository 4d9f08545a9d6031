"""The training loop: phases, steps, checkpoints, logs.

Lightning Fabric does what differs between devices (precision, data parallelism, process groups);
the loop itself is here, because adversarial training in phases needs its own.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import signal
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from inpaint_ops import convert_sync_norms

from ..devices import choose_accelerator
from ..errors import InpaintError, InterruptedRunError, UsageError
from ..weights import last_checkpoint
from . import checkpoints
from .data import Batch
from .logs import LossLog, ProgressBar, Stopwatch, draw_curves, draw_samples
from .recipe import Optimizer, Recipe, dump_recipe, parse_recipe, with_absolute_paths
from .signals import Signals, StopCheck
from .steps import PhaseSteps
from .supply import Supply
from .systems import create_system

SAMPLE_PICTURES = 4


def train(recipe: Recipe, run: Path, accelerator: str = "auto") -> Path:
    """Train a recipe from the start.

    Args:
        recipe: with `data.root` set.
        run: folder for everything that the run leaves; must be new or empty.
        accelerator: "cpu", "gpu" or "auto".

    Returns:
        The last checkpoint.

    Raises:
        UsageError: recipe, data or folder are not usable.
        InpaintError: a loss or a weight is not finite, or the disk is full.
        InterruptedRunError: a signal arrived; the run has been saved.
    """
    recipe = with_absolute_paths(recipe)
    fabric = make_fabric(recipe.precision, accelerator)
    taken = fabric.is_global_zero and run.exists() and (not run.is_dir() or any(run.iterdir()))
    if fabric.broadcast(taken):
        raise UsageError(f"{run} is there already: give another --output, or --resume {run}")
    return Trainer(recipe, run, fabric).train()


def resume(run: Path, accelerator: str = "auto") -> Path:
    """Go on with a run from its last checkpoint; see `train`."""
    path = run / "recipe.yaml"
    if not path.is_file():
        raise UsageError(f"{run} is not a run: it has no recipe.yaml")
    recipe = parse_recipe(path.read_text(encoding="utf-8"), str(path))
    checkpoint = last_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise UsageError(f"{run} has no checkpoint yet: start it anew with another --output")
    trainer = Trainer(recipe, run, make_fabric(recipe.precision, accelerator))
    trainer.load(checkpoint)
    return trainer.train()


def make_fabric(precision: str, accelerator: str = "auto") -> Fabric:
    """One device, or those that torchrun has started processes for, on one or many machines."""
    accelerator = choose_accelerator(accelerator)
    if accelerator == "cpu" and precision == "16-mixed":
        # Fabric would take bfloat16 instead, with a warning.
        raise UsageError("precision=16-mixed needs a GPU: give precision=bf16-mixed on a CPU")
    strategy: str | DDPStrategy = "auto"
    processes, here = 1, 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        processes, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        # Buffers are equal everywhere, because norms are synchronized; broadcasting them would
        # change them between two forward passes of one backward.
        parameters = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        # The newer name of the same switch; the older one warns where both exist.
        newer = "forward_sync_buffers"
        switch: dict[str, Any] = {newer if newer in parameters else "broadcast_buffers": False}
        strategy = DDPStrategy(**switch, gradient_as_bucket_view=True)
    fabric = Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=processes // here,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]  # a recipe's precision is one of its names
    )
    fabric.launch()
    return fabric


class Trainer:
    """One run: its networks, optimizers, data and logs, and where it is.

    Args:
        recipe: with `data.root` set.
        run: folder for everything that the run leaves.
        fabric: launched.
    """

    def __init__(self, recipe: Recipe, run: Path, fabric: Fabric) -> None:
        self.recipe, self.run, self.fabric = recipe, run, fabric
        self.step = 0
        checkpoints.seed_everything(recipe.seed)
        self.system = create_system(recipe)
        self.system.place(fabric.device)
        self.networks: dict[str, nn.Module] = {"generator": self.system.generator}
        if self.system.discriminator is not None:
            self.networks["discriminator"] = self.system.discriminator
        for network in self.networks.values():
            network.to(fabric.device)
            if recipe.precision == "64-true":
                network.double()
            if fabric.world_size > 1:
                convert_sync_norms(network)
        self.trainable = {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in self.networks.items()
        }
        self.encoder_norms = self.system.encoder_norms()
        if not self.encoder_norms and any(p.freeze_encoder_norm for p in recipe.phases.values()):
            raise UsageError(f"freeze_encoder_norm is not supported for {recipe.system!r}")
        self.optimizers = {
            name: make_optimizer(getattr(recipe.optimizers, name), parameters)
            for name, parameters in self.trainable.items()
        }
        self.supply = Supply(
            recipe, fabric.global_rank, fabric.world_size, fabric.device, self.system.prepare
        )
        self.lengths = {name: self._length(name) for name in recipe.phases}
        self.total = sum(self.lengths.values())
        self.watch = Stopwatch()
        # Losses of the steps since the last row of the log, one tensor for each step: on the
        # device, so that no step waits for their values.
        self.history: list[Tensor] = []
        # What is drawn during training differs between processes, as weights do not.
        checkpoints.seed_everything(recipe.seed + fabric.global_rank)

    def train(self) -> Path:
        """Run what is left of every phase; see the function `train`."""
        if self.step == self.total:
            raise UsageError(f"{self.run} has been trained to its end")
        benchmark = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.fabric.device.type == "cuda"
        try:
            return self._train()
        except OSError as error:
            saved = last_checkpoint(self.run / "checkpoints")
            again = f"go on with: inpaint train --resume {self.run}" if saved else "start anew"
            raise InpaintError(f"{error}; mend that, then {again}") from error
        finally:
            torch.backends.cudnn.benchmark = benchmark

    def _train(self) -> Path:
        if self.fabric.is_global_zero:
            try:
                self.run.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"--output {self.run}: {error}") from error
            checkpoints.remove_leftovers(self.run / "checkpoints")
            if self.step == 0:
                (self.run / "recipe.yaml").write_text(dump_recipe(self.recipe), encoding="utf-8")
            self.log = LossLog(self.run / "log.csv", self._loss_columns(), self.step)
        self.samples: Batch | None = None
        if self.recipe.saving.samples:
            self.samples = self.supply.first(SAMPLE_PICTURES)
        with (
            ProgressBar(self.total, self.step, shown=self.fabric.is_global_zero) as self.bar,
            Signals() as signals,
        ):
            self.stop_check = StopCheck(self.fabric, signals)
            end = 0
            for name, length in self.lengths.items():
                start, end = end, end + length
                if self.step < end:
                    self._run_phase(name, start, end)
        self.fabric.barrier()
        saved = last_checkpoint(self.run / "checkpoints")
        assert saved is not None
        return saved

    def load(self, checkpoint: Path) -> None:
        """Take up everything from a checkpoint.

        Raises:
            UsageError: it is of another recipe, data set or number of processes.
        """
        state = checkpoints.read_state(checkpoint)
        if len(state["processes"]) != self.fabric.world_size:
            raise UsageError(
                f"{checkpoint} was written by {len(state['processes'])} processes, not "
                f"{self.fabric.world_size}: start as many, with torchrun"
            )
        for name, network in self.networks.items():
            checkpoints.load_weights(checkpoint, name, network)
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.supply.load_state_dict(state["data"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = state["step"]
        mine = state["processes"][self.fabric.global_rank]
        self.history = [row.to(self.fabric.device) for row in mine["history"]]
        checkpoints.restore_random_state(mine["random"])

    def _length(self, name: str) -> int:
        phase = self.recipe.phases[name]
        if phase.iterations is not None:
            return phase.iterations
        if self.supply.batches_per_epoch is None:
            raise UsageError(
                f"phases.{name}.epochs: the length of tar shards is not known; give iterations"
            )
        assert phase.epochs is not None
        return math.ceil(phase.epochs * self.supply.batches_per_epoch / self.recipe.accumulate)

    def _loss_columns(self) -> list[str]:
        """The losses of all phases, in the system's order."""
        phases = self.recipe.phases
        used = {
            loss
            for name, phase in phases.items()
            if "generator" in phase.train
            for loss in self.recipe.weights(name)
        }
        columns = [loss for loss in self.system.losses if loss in used]
        if any("discriminator" in phase.train for phase in phases.values()):
            columns += self.system.discriminator_losses
        return columns

    def _run_phase(self, name: str, start: int, end: int) -> None:
        """Make the steps from `self.step` to `end` of a phase that began at `start`."""
        phase, saving = self.recipe.phases[name], self.recipe.saving
        steps = PhaseSteps(
            self.fabric,
            self.recipe,
            name,
            self.system,
            self.networks,
            self.trainable,
            self.encoder_norms,
            self.optimizers,
            self.watch,
        )
        self.watch.restart()
        while self.step < end:
            share = (self.step - start) / (end - start)
            for network in phase.train:
                rate = self.recipe.rate(name, network) * schedule_factor(phase.schedule, share)
                for group in self.optimizers[network].param_groups:
                    group["lr"] = rate
            with self.watch.on("waiting"):
                batches = [self.supply.next() for _ in range(self.recipe.accumulate)]
            self.history.append(steps.run(batches))
            self.step += 1
            self.watch.steps += 1
            self.bar.advance(self.step, name)
            stop = self.stop_check()
            if self.step % saving.log == 0 or self.step == end:
                self._write_row(name, steps)
            with self.watch.on("saving"):
                if saving.samples and self.step % saving.samples == 0:
                    self._draw_samples(steps)
                    self._draw_curves()
                elif self.step == self.total:
                    self._draw_curves()
                if stop or self.step % saving.checkpoint == 0 or self.step == end:
                    self._save(steps.names)
            if stop:
                raise InterruptedRunError(
                    stop,
                    f"stopped by {signal.Signals(stop).name} after step {self.step}; go on with: "
                    f"inpaint train --resume {self.run}",
                )

    def _write_row(self, phase: str, steps: PhaseSteps) -> None:
        """Log the mean of each loss since the last row."""
        with self.watch.on("computing"):
            means = self._read_history(steps.names).mean(0).tolist()
        self.history.clear()
        seconds, waiting, outside = self.watch.shares()
        made = self.watch.steps * self.recipe.accumulate * self.recipe.batch_size
        images_per_s = made * self.fabric.world_size / seconds
        losses = dict(zip(steps.names, means, strict=True))
        if self.fabric.is_global_zero:
            rates = {
                f"rate_{network}": self.optimizers[network].param_groups[0]["lr"]
                for network in steps.phase.train
            }
            self.log.append(
                {
                    "step": self.step,
                    "phase": phase,
                    "epoch": self.supply.epoch + 1,
                    "images_per_s": f"{images_per_s:.2f}",
                    "waiting": f"{waiting:.4f}",
                    "outside": f"{outside:.4f}",
                    **rates,
                    **losses,
                }
            )
        self.bar.note(
            self.step,
            phase,
            images_per_s=images_per_s,
            waiting=waiting,
            loss=sum(steps.weights.get(name, 1.0) * value for name, value in losses.items()),
            seconds_per_step=seconds / self.watch.steps,
        )
        self.watch.restart()

    def _read_history(self, names: Sequence[str]) -> Tensor:
        """Losses of the steps since the last row, (steps, losses), means over the processes.

        Raises:
            InpaintError: one of them is not finite.
        """
        mean = self.fabric.all_reduce(torch.stack(self.history), reduce_op="mean")
        assert isinstance(mean, Tensor)
        values = mean.cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            step = self.step - len(self.history) + row + 1
            back = checkpoints.where_to_go_back(self.run / "checkpoints")
            raise InpaintError(
                f"loss {names[column]!r} is {values[row, column].item()} at step {step}; {back}"
            )
        return values

    def _save(self, names: Sequence[str]) -> None:
        if self.history:
            self._read_history(names)
        mine = {
            "random": checkpoints.random_state(),
            "history": [row.cpu() for row in self.history],
        }
        processes = [mine]
        if self.fabric.world_size > 1:
            processes *= self.fabric.world_size
            dist.all_gather_object(processes, mine)
        if not self.fabric.is_global_zero:
            return
        recipe = self.recipe
        common = {
            "model": recipe.system,
            "recipe": dump_recipe(recipe),
            "step": str(self.step),
            "versions": json.dumps({name: version(name) for name in ("inpaint_ops", "torch")}),
        }
        checkpoints.write_checkpoint(
            self.run / "checkpoints",
            self.step,
            self.networks,
            {
                name: {**common, "options": json.dumps(getattr(recipe, name))}
                for name in self.networks
            },
            {
                "step": self.step,
                "data": self.supply.state_dict(),
                "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
                "precision": self.fabric.strategy.precision.state_dict(),
                "processes": processes,
            },
            recipe.saving.keep,
        )

    def _draw_samples(self, steps: PhaseSteps) -> None:
        """Fill the same few pictures each time. Every process does it: region norms need all."""
        assert self.samples is not None
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        self.networks["generator"].eval()
        with torch.no_grad(), torch.random.fork_rng(devices):
            outputs = self.system.predict(self.samples)
            columns = self.system.show(self.samples, outputs)
        steps.set_modes()
        if self.fabric.is_global_zero:
            draw_samples(columns, self.run / "samples" / f"{self.step:06d}.png")

    def _draw_curves(self) -> None:
        if self.fabric.is_global_zero:
            draw_curves(self.log.path, self.run / "curves.png")


def make_optimizer(options: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a recipe; UsageError if torch does not take its numbers."""
    try:
        return _make_optimizer(options, parameters)
    except ValueError as error:
        raise UsageError(f"optimizers: {error}") from error


def _make_optimizer(options: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = options.rate, options.weight_decay
    if options.name == "adam":
        first, second = options.betas
        return torch.optim.Adam(parameters, rate, (first, second), weight_decay=decay)
    if options.name == "adadelta":
        return torch.optim.Adadelta(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, options.momentum, weight_decay=decay)


def schedule_factor(schedule: str, share: float) -> float:
    """What a learning rate is multiplied by after this share of its phase.

    A function of the step alone, so that there is no scheduler to save.
    """
    if schedule == "linear":
        return 1 - share
    if schedule == "cosine":
        return (1 + math.cos(math.pi * share)) / 2
    return 1.0
