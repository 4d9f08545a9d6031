"""One step of the optimizers, in the setting of a phase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from .data import Batch
from .logs import Stopwatch
from .recipe import Recipe
from .systems import Outputs, System


class _Frozen(nn.Module):
    """A network that is not trained: run as Fabric runs a trained one, without its machinery."""

    def __init__(self, network: nn.Module, fabric: Fabric) -> None:
        super().__init__()
        self.network = network
        self._precision = fabric.strategy.precision

    def forward(self, *args: Any) -> Any:
        inputs = self._precision.convert_input(args)
        with self._precision.forward_context():
            output = self.network(*inputs)
        return self._precision.convert_output(output)


class _Method(nn.Module):
    """A method of a network as a module, so that what wraps modules wraps it."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self._method = method

    def forward(self, *args: Any) -> Any:
        return getattr(self.network, self._method)(*args)


class PhaseSteps:
    """Puts networks into the state that a phase wants, and makes its steps.

    Networks that the phase does not train are in evaluation mode and keep parameters and buffers.

    Args:
        fabric: launched.
        recipe: the run's.
        name: the phase.
        system: whose `generator` and `discriminator` are set to wrapped networks.
        networks: the unwrapped ones.
        trainable: the parameters of each that may be trained.
        optimizers: one for each network.
        watch: counts the time in networks, losses and optimizers as "computing".
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        name: str,
        system: System,
        networks: Mapping[str, nn.Module],
        trainable: Mapping[str, Sequence[nn.Parameter]],
        encoder_norms: Sequence[nn.Module],
        optimizers: Mapping[str, Optimizer],
        watch: Stopwatch,
    ) -> None:
        self.phase = recipe.phases[name]
        self.fabric, self.system, self.watch = fabric, system, watch
        self.networks, self.trainable = networks, trainable
        self.frozen_norms = encoder_norms if self.phase.freeze_encoder_norm else ()
        self.optimizers = {
            network: fabric.setup_optimizers(optimizers[network]) for network in self.phase.train
        }
        weights = recipe.weights(name) if "generator" in self.phase.train else {}
        self.weights = {loss: weights[loss] for loss in system.losses if loss in weights}
        judged = "discriminator" in self.phase.train
        self.names = [*self.weights, *(system.discriminator_losses if judged else ())]
        """The losses of this phase, in the order of `run`'s result."""
        for network in networks:
            trained = network in self.phase.train
            for parameter in trainable[network]:
                parameter.requires_grad_(trained)
                parameter.grad = None
        for norm in self.frozen_norms:
            norm.requires_grad_(False)
        self.set_modes()
        # Wrapped anew in each phase: data parallelism fixes the set of parameters when it wraps.
        self.wrapped: dict[str, nn.Module] = {}
        for network, module in networks.items():
            method = system.methods.get(network)
            called = module if method is None else _Method(module, method)
            trained = network in self.phase.train
            wrap = fabric.setup_module if trained else partial(_Frozen, fabric=fabric)
            self.wrapped[network] = wrap(called)
        system.generator = self.wrapped["generator"]
        system.discriminator = self.wrapped.get("discriminator")

    def set_modes(self) -> None:
        """Training mode for what is trained, evaluation mode for the rest."""
        for network, module in self.networks.items():
            module.train(network in self.phase.train)
        for norm in self.frozen_norms:
            norm.eval()

    def run(self, batches: Sequence[Batch]) -> Tensor:
        """One step of each optimizer; the mean of each loss over the batches, on the device."""
        sums: dict[str, Tensor] = {}
        outputs = self._step_discriminator(batches, sums)
        self._step_generator(batches, outputs, sums)
        with self.watch.on("computing"):
            return torch.stack([sums[name] for name in self.names])

    def _step_discriminator(
        self, batches: Sequence[Batch], sums: dict[str, Tensor]
    ) -> Outputs | None:
        """Step the discriminator; what the generator's step can use again."""
        if "discriminator" not in self.phase.train:
            return None
        # With several batches each prediction is made twice: the generator must meet the
        # discriminator that all of them have made, and keeping all graphs would take the memory
        # that accumulation is to save.
        reuse = "generator" in self.phase.train and len(batches) == 1
        for i, batch in enumerate(batches):
            with self._synchronized("discriminator", last=i == len(batches) - 1):
                with self.watch.on("computing"), torch.set_grad_enabled(reuse):
                    outputs = self.system.predict(batch)
                with self.watch.on("computing"), self.fabric.autocast():
                    terms = self.system.discriminator_terms(batch, outputs.detached())
                _check_names(terms, self.system.discriminator_losses, "discriminator_terms")
                self._backward(terms, dict.fromkeys(terms, 1.0), len(batches), sums)
        self._step("discriminator")
        return outputs if reuse else None

    def _step_generator(
        self, batches: Sequence[Batch], outputs: Outputs | None, sums: dict[str, Tensor]
    ) -> None:
        if "generator" not in self.phase.train:
            return
        with self._frozen_discriminator():
            for i, batch in enumerate(batches):
                with self._synchronized("generator", last=i == len(batches) - 1):
                    with self.watch.on("computing"):
                        made = self.system.predict(batch) if outputs is None else outputs
                    with self.watch.on("computing"), self.fabric.autocast():
                        terms = self.system.generator_terms(batch, made, self.weights.keys())
                    _check_names(terms, self.weights, "generator_terms")
                    self._backward(terms, self.weights, len(batches), sums)
        self._step("generator")

    def _backward(
        self,
        terms: Mapping[str, Tensor],
        weights: Mapping[str, float],
        batches: int,
        sums: dict[str, Tensor],
    ) -> None:
        with self.watch.on("computing"):
            weighted = [value * (weights[name] / batches) for name, value in terms.items()]
            self.fabric.backward(torch.stack(weighted).sum())
            for name, value in terms.items():
                share = value.detach() / batches
                sums[name] = sums[name] + share if name in sums else share

    def _step(self, network: str) -> None:
        with self.watch.on("computing"):
            self.optimizers[network].step()  # type: ignore[union-attr]  # one was set up, one came
            self.optimizers[network].zero_grad()  # type: ignore[union-attr]

    def _synchronized(self, network: str, *, last: bool) -> Any:
        """Gradients travel between processes once, with the last batch of a step."""
        return self.fabric.no_backward_sync(self.wrapped[network], enabled=not last)  # type: ignore[arg-type]

    @contextmanager
    def _frozen_discriminator(self) -> Iterator[None]:
        """The discriminator passes gradients on, and takes none for itself."""
        if "discriminator" not in self.phase.train:
            yield
            return
        parameters = self.trainable["discriminator"]
        with ExitStack() as stack:
            stack.enter_context(
                self.fabric.no_backward_sync(self.wrapped["discriminator"])  # type: ignore[arg-type]
            )
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        for parameter in parameters:
            parameter.requires_grad_(True)


def _check_names(terms: Mapping[str, Tensor], wanted: Any, method: str) -> None:
    if terms.keys() != set(wanted):
        raise RuntimeError(
            f"{method} must return {', '.join(wanted) or 'nothing'}, got {', '.join(terms)}"
        )
