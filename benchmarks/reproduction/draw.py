"""The pictures of the page: curves from the stored JSON, sheets from the trained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from inpaint_models.composite import composite
from inpaint_models.training.baselines import Fill, telea
from inpaint_models.training.data import Batch
from inpaint_models.training.evaluate import predict, visible
from inpaint_models.weights import load_generator
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from . import split
from .collect import FOLDER, Results
from .measure import TestSet, load_tests
from .plan import (
    CGAN,
    GLCIC,
    GLCIC_PHASES,
    HOLE,
    HOLE_HIGH,
    ITERATIONS,
    MORE_ITERATIONS,
    PARTIAL,
    PC,
    RN,
    VANILLA,
    WHOLE,
    WHOLE_HIGH,
    Run,
)
from .training import step_name

CURVES, UNETS, GLCICS = FOLDER / "curves.png", FOLDER / "unets.jpg", FOLDER / "glcic.jpg"
SHOWN = {
    "lomiri_Picture_0B_by_freespace": ("Picture 0B", 'Trevor "Freespace"'),
    "lomiri_friends_by_Aitzol_Berasategi": ("Friends", "Aitzol Berasategi"),
    "lomiri_sunset_by_Aitzol_Berasategi": ("Sunset", "Aitzol Berasategi"),
}
"""Title and author of the test photographs whose licence allows to show them here."""
LICENCE = "CC-BY-4.0"
LABELS = {
    PC: "PC",
    CGAN: "CGAN+PC+RN",
    RN: "PC+RN",
    VANILLA: "vanilla (blind)",
    PARTIAL: "partial convolution",
    WHOLE: "whole picture, 4e-4",
    HOLE: "hole only, 4e-4",
    WHOLE_HIGH: "whole picture, 4e-2",
    HOLE_HIGH: "hole only, 4e-2",
}
COLOURS = {
    PC: "#e76f51",
    CGAN: "#1d7874",
    RN: "#8e6bbf",
    VANILLA: "#e76f51",
    PARTIAL: "#1d7874",
    WHOLE: "#1d7874",
    HOLE: "#e76f51",
    WHOLE_HIGH: "#8ecae6",
    HOLE_HIGH: "#9d0208",
}
SETTLED = {"discriminator": 0.57, "adversarial": 0.43}
"""Where the losses of Shi, Li, Jia's discriminator and generator settle, by their figures."""
PAPER, INK, GREY = (251, 250, 247), (38, 70, 83), 0.5
GAP, FONT = 8, 20
CELL = 256
"""Side of a picture on a sheet."""
QUALITY = 85

UNETS_SHOWN = (PC, CGAN, RN)

Points = tuple[Sequence[float], Sequence[float]]


def curves(results: Results, path: Path = CURVES) -> None:
    """Six panels of losses and of errors on the test set; a line for each seed."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    _panel(axes[0], results, UNETS_SHOWN, partial(_logged, loss="hole"))
    axes[0].set(title="U-Nets: L1 of the hole, training", yscale="log")
    _panel(axes[1], results, UNETS_SHOWN, partial(_tested, test=split.SEEN, metric="psnr"))
    levels = {
        name: results.baseline(split.SEEN, name, "psnr")
        for name in ("Telea", "Navier-Stokes", "mean colour")
    }
    _mark(axes[1], levels)
    axes[1].margins(y=0.08)
    axes[1].set(title="U-Nets: PSNR on the test set, dB")
    for name in SETTLED:
        _panel(axes[2], results, (CGAN,), partial(_logged, loss=name), name)
    _mark(axes[2], {f"paper's {name}: {level}": level for name, level in SETTLED.items()})
    axes[2].set(title="CGAN+PC+RN: losses of the game, training")
    _panel(axes[3], results, (VANILLA, PARTIAL), partial(_logged, loss="mse"))
    axes[3].set(title="Autoencoders: MSE, training", yscale="log")
    for axis, metric, what in (
        (axes[4], "mse_output", "the whole output"),
        (axes[5], "mse_hole", "the hole"),
    ):
        _panel(axis, results, GLCIC, partial(_tested, test=split.SQUARES, metric=metric))
        if metric == "mse_hole":
            _mark(axis, {"Telea": results.baseline(split.SQUARES, "Telea", metric)})
        axis.set(title=f"GLCIC: MSE of {what}, test set", yscale="log")
        for end in list(accumulate(GLCIC_PHASES.values()))[:-1]:
            axis.axvline(end, color="grey", linewidth=0.8)
        axis.set_xlabel("iterations (of generator | discriminator | both)")
    for axis in axes:
        if axis.get_yscale() == "log":
            for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                which(FuncFormatter(_tick))
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axis.set_xlabel(axis.get_xlabel() or "iterations")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _mark(axis: Any, levels: Mapping[str, float]) -> None:
    """Dashed lines with their names at the left; the highest one's above it, the others' below."""
    for name, level in levels.items():
        place = "bottom" if level == max(levels.values()) else "top"
        axis.axhline(level, color="grey", linestyle="--", linewidth=1)
        axis.text(
            0.01, level, name, transform=axis.get_yaxis_transform(), va=place, fontsize=9,
            color="#555555", bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
        )  # fmt: skip


def _tick(value: float, _: int) -> str:
    return f"{value:g}"


def _panel(
    axis: Any,
    results: Results,
    methods: Sequence[str],
    points: Callable[[dict[str, Any]], Points],
    label: str | None = None,
) -> None:
    for method in methods:
        for i, run in enumerate(results.of(method)):
            shown = (label or LABELS[method]) if i == 0 else None
            colour = "#f4a261" if label == "adversarial" else COLOURS[method]
            axis.plot(*points(run), color=colour, label=shown, linewidth=1, alpha=0.8)


def _logged(run: dict[str, Any], loss: str) -> Points:
    return run["log"]["step"], run["log"][loss]


def _tested(run: dict[str, Any], test: str, metric: str) -> Points:
    steps = run["steps"]
    return [int(step) for step in steps], [tests[test]["means"][metric] for tests in steps.values()]


def sheets(work: Path, results: Results) -> None:
    """What the networks of seed 0 make of three test photographs, if they are trained."""
    if all(0 in results.seeds(method) for method in UNETS_SHOWN):
        _unet_sheet(work)
    if all(0 in results.seeds(method) for method in GLCIC):
        total = sum(GLCIC_PHASES.values())
        networks = {
            f"loss of the {LABELS[method]}".replace(", ", "\nadversarial weight "): _network(
                work, method, total
            )
            for method in GLCIC
        }
        sheet(load_tests(work, split.SQUARES), networks, GLCICS, filled=False)


def _unet_sheet(work: Path) -> None:
    ways = [(PC, ITERATIONS), (PC, MORE_ITERATIONS), (RN, ITERATIONS), (CGAN, ITERATIONS)]
    columns: dict[str, Fill] = {"Telea": telea} | {
        f"{LABELS[method]}\n{step:,} iterations": _network(work, method, step)
        for method, step in ways
    }
    sheet(load_tests(work, split.SEEN), columns, UNETS, filled=True)


def _network(work: Path, method: str, step: int) -> Fill:
    run = Run(method, 0)
    net, _ = load_generator(work / "runs" / run.name / "checkpoints" / step_name(step))
    return net


def sheet(tests: TestSet, columns: Mapping[str, Fill], path: Path, *, filled: bool) -> None:
    """A line for each photograph that may be shown: input, outputs or composites, truth."""
    lines = []
    for i, name in enumerate(SHOWN):
        at = tests.names.index(name)
        mask = (~tests.holes[i][None]).float()
        batch = Batch(tests.images[at : at + 1], mask, [name])
        outputs = {title: predict(fill, batch) for title, fill in columns.items()}
        if filled:
            outputs = {
                title: composite(output, *visible(batch)) for title, output in outputs.items()
            }
        seen = torch.where(mask != 0, batch.image, GREY)
        lines.append({"input": seen, **outputs, "truth": batch.image})
    font = ImageFont.load_default(FONT)
    top, bottom = 2 * FONT + 3 * GAP, FONT + 2 * GAP
    step = CELL + GAP
    size = (GAP + step * len(lines[0]), top + step * len(lines) + bottom)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for x, title in enumerate(lines[0]):
        pen.text((GAP + x * step, GAP), title, fill=INK, font=font)
        for y, line in enumerate(lines):
            sheet.paste(_picture(line[title]), (GAP + x * step, top + y * step))
    named = "; ".join(f"{title} by {author}" for title, author in SHOWN.values())
    pen.text((GAP, size[1] - bottom), f"Photographs: {named}. {LICENCE}", fill=INK, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=QUALITY)


def _picture(image: Tensor) -> Image.Image:
    pixels = image[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    picture = Image.fromarray(pixels.contiguous().numpy())
    return picture.resize((CELL, CELL), Image.Resampling.NEAREST)
