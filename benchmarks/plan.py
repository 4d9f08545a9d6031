"""How much is measured: the full run, and the quick one."""

from __future__ import annotations

from dataclasses import dataclass

from .baselines import LEVELS, NETWORKS


@dataclass(frozen=True)
class Plan:
    """Sizes, subsets and time budgets of a run.

    The ``*_seconds`` are what the timed rounds of one case may take; every case gets at least
    ``min_rounds`` of each provider, whatever it takes, and at most ``max_rounds``. Once a run is
    older than ``deadline_seconds``, as on a slow machine or when nothing is compiled yet, what is
    left gets HURRIED_ROUNDS, and compiled providers and memory are skipped, visibly.
    """

    name: str
    batch: int
    layers: tuple[str, ...]
    heavy_layers: tuple[str, ...]
    compiled_layers: tuple[str, ...]
    norm_levels: tuple[str, ...]
    networks: tuple[str, ...]
    compiled_networks: tuple[tuple[str, str], ...]
    memory_networks: tuple[str, ...]
    memory_norms: bool
    memory_steps: int
    layer_seconds: float
    norm_seconds: float
    network_seconds: float
    deadline_seconds: float
    min_rounds: int
    max_rounds: int
    size: int = 256
    device: str = "cpu"
    seed: int = 0


FULL = Plan(
    name="full",
    batch=4,
    layers=tuple(level.name for level in LEVELS),
    heavy_layers=("enc2",),
    compiled_layers=("enc2", "dec2"),
    norm_levels=("enc2", "enc4", "dec2", "dec4"),
    networks=tuple(reversed(NETWORKS)),  # the one with more to show first
    compiled_networks=(("cgan_pc_rn", "step"),),
    memory_networks=NETWORKS,
    memory_norms=True,
    memory_steps=2,
    layer_seconds=1.0,
    norm_seconds=1.5,
    network_seconds=8.0,
    deadline_seconds=400.0,
    min_rounds=5,
    max_rounds=30,
)

QUICK = Plan(
    name="quick",
    batch=1,
    layers=("enc1", "enc3", "enc6", "dec4", "dec2", "dec1"),
    heavy_layers=(),
    compiled_layers=("dec2",),
    norm_levels=("enc2", "dec2"),
    networks=NETWORKS,
    compiled_networks=(),
    memory_networks=("cgan_pc_rn",),
    memory_norms=False,
    memory_steps=2,
    layer_seconds=0.6,
    norm_seconds=1.0,
    network_seconds=3.0,
    deadline_seconds=90.0,
    min_rounds=3,
    max_rounds=15,
)

PLANS = {plan.name: plan for plan in (FULL, QUICK)}
