"""How much is measured: the full run, the sweeps, a network as work grows, and the quick run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .baselines import AUTOENCODER, LEVELS, NETWORKS

ALL_NETWORKS = (*reversed(NETWORKS), "rn_net", AUTOENCODER)
"""Every generator with partial convolutions or region norms; with more to show first."""


@dataclass(frozen=True)
class Sweep:
    """Lines through one point: its size, hole ratio and channels, each varied by itself."""

    sizes: tuple[int, ...]
    hole_ratios: tuple[float, ...]
    channels: tuple[int, ...]
    size: int
    hole_ratio: float
    channel_count: int
    seconds: float


@dataclass(frozen=True)
class Growth:
    """A training step of one network, at more pictures of the plan's size, and at larger ones."""

    network: str
    batches: tuple[int, ...]
    sizes: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Sizes, subsets and time budgets of a run.

    The ``*_seconds`` are what the timed rounds of one case may take; every case gets at least
    ``min_rounds`` of each provider, whatever it takes, and at most ``max_rounds``. Once a run is
    older than ``deadline_seconds``, as on a slow machine or when nothing is compiled yet, what is
    left gets HURRIED_ROUNDS, and compiled providers and memory (not that of sweeps) are skipped,
    visibly. Past ``budget_seconds`` nothing more is begun.

    All of it is measured in each of ``dtypes``; ``dtype`` is the one that a case was made for.
    ``backends`` are named on a GPU, where there are several: each is then a provider of its own.
    """

    name: str
    batch: int
    deadline_seconds: float
    min_rounds: int
    max_rounds: int
    layers: tuple[str, ...] = ()
    heavy_layers: tuple[str, ...] = ()
    compiled_layers: tuple[str, ...] = ()
    big_norms: tuple[str, ...] = ()
    norm_levels: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    compiled_networks: tuple[tuple[str, str], ...] = ()
    memory_networks: tuple[str, ...] = ()
    half_networks: tuple[str, ...] = ()  # also trained under bfloat16 autocast
    patched: tuple[tuple[str, str], ...] = ()  # networks before and after patching, and modes
    volumes: int = 0  # cases in three dimensions
    hole_shares: tuple[float, ...] = ()  # of one large picture, for what fills holes alone
    activations: bool = False  # norms also with the ReLU behind them
    memory_norms: bool = False
    memory_steps: int = 2
    layer_seconds: float = 0.0
    norm_seconds: float = 0.0
    network_seconds: float = 0.0
    hole_seconds: float = 0.0
    patched_seconds: float = 0.0
    sweep: Sweep | None = None
    growth: Growth | None = None
    size: int = 256
    filled_size: int = 512
    patched_size: int = 256
    device: str = "cpu"
    seed: int = 0
    dtypes: tuple[str, ...] = ("float32",)
    dtype: str = "float32"
    backends: tuple[str, ...] = ()
    budget_seconds: float = math.inf

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of features and parameters."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def suffix(self) -> str:
        """What marks the names of cases in half precision."""
        return {"float32": "", "bfloat16": "@bf16", "float16": "@fp16"}[self.dtype]


FULL = Plan(
    name="full",
    batch=4,
    layers=tuple(level.name for level in LEVELS),
    heavy_layers=("enc2",),
    compiled_layers=("enc2", "dec2"),
    big_norms=("RN_B", "RN_L"),
    norm_levels=("enc2", "enc4", "dec2", "dec4"),
    networks=ALL_NETWORKS,
    compiled_networks=(("cgan_pc_rn", "step"),),
    memory_networks=NETWORKS,
    half_networks=("cgan_pc_rn",),
    patched=(("naoto0804", "forward"), ("NVIDIA + RN", "step")),
    volumes=3,
    hole_shares=(0.01, 0.05, 0.1, 0.25, 0.5),
    memory_norms=True,
    layer_seconds=1.0,
    norm_seconds=1.5,
    network_seconds=8.0,
    hole_seconds=4.0,
    patched_seconds=6.0,
    deadline_seconds=500.0,
    min_rounds=5,
    max_rounds=30,
)

QUICK = Plan(
    name="quick",
    batch=1,
    layers=("enc1", "enc3", "enc6", "dec4", "dec2", "dec1"),
    compiled_layers=("dec2",),
    big_norms=("RN_B", "RN_L"),
    norm_levels=("enc2", "dec2"),
    networks=NETWORKS,
    memory_networks=("cgan_pc_rn",),
    half_networks=("cgan_pc_rn",),
    patched=(("naoto0804, five levels", "forward"),),
    patched_size=128,
    volumes=1,
    layer_seconds=0.6,
    norm_seconds=1.0,
    network_seconds=3.0,
    sweep=Sweep(
        sizes=(32, 64),
        hole_ratios=(0.0, 1.0),
        channels=(8, 32),
        size=64,
        hole_ratio=0.25,
        channel_count=32,
        seconds=0.1,
    ),
    deadline_seconds=90.0,
    min_rounds=3,
    max_rounds=15,
)

SWEEP = Plan(
    name="sweep",
    batch=1,
    sweep=Sweep(
        sizes=(64, 128, 256, 512),
        hole_ratios=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
        channels=(8, 16, 32, 64, 128, 256),
        size=256,
        hole_ratio=0.25,
        channel_count=64,
        seconds=1.5,
    ),
    deadline_seconds=210.0,
    min_rounds=3,
    max_rounds=30,
)

GROWTH = Plan(
    name="growth",
    batch=1,
    growth=Growth(
        network="cgan_pc_rn",
        batches=(1, 2, 4, 8, 16),
        sizes=(192, 256, 512, 1024),  # at 128 its deepest norms would see a single pixel
        seconds=15.0,
    ),
    deadline_seconds=math.inf,
    min_rounds=2,
    max_rounds=3,
)

PLANS = {plan.name: plan for plan in (FULL, QUICK, SWEEP, GROWTH)}

CUDA = Plan(
    name="cuda",
    device="cuda",
    batch=16,
    dtypes=("bfloat16", "float32", "float16"),  # the one with targets first, should time run out
    backends=("cuda", "triton"),
    layers=tuple(level.name for level in LEVELS),
    heavy_layers=("enc2",),
    compiled_layers=("dec2",),
    big_norms=("RN_B", "RN_L"),
    norm_levels=("enc2", "enc4", "dec2", "dec4"),
    activations=True,
    networks=ALL_NETWORKS,
    compiled_networks=(("cgan_pc_rn", "step"),),
    volumes=3,
    layer_seconds=0.2,
    norm_seconds=0.2,
    network_seconds=1.5,
    deadline_seconds=math.inf,
    budget_seconds=330.0,
    min_rounds=5,
    max_rounds=30,
)
"""With the tests marked ``gpu`` before it, under ten minutes on an H200."""
