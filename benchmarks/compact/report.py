"""What the README and the model card say of the weights in the box, from the stored result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpaint_models.training.baselines import telea
from inpaint_models.weights import PRETRAINED, load_pretrained

from .. import machine
from ..readme import replace_block
from ..reproduction import draw, split
from .measure import load_tests
from .plan import BINS, NAME, TEST_SIDE, TEST_SIZE, TESTS, TRAIN_SIDES

STORED = machine.ROOT / "benchmarks" / "results" / "compact" / "measured.json"
SHEET = machine.ROOT / "docs" / "pictures" / "filled.jpg"
README = machine.ROOT / "README.md"
CARD = PRETRAINED / f"{NAME}.md"
BEGIN, END = "<!-- compact:begin -->", "<!-- compact:end -->"
COLUMNS = {"l1_percent": ("L1 (%)", 3), "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4)}
HIGHER_IS_BETTER = {"l1_percent": False, "psnr": True, "ssim": True}
METHODS = {
    NAME: f"`{NAME}`",
    "smooth filling": "smooth filling alone",
    "Telea": "Telea (OpenCV)",
    "Navier-Stokes": "Navier-Stokes (OpenCV)",
    "mean colour": "mean colour",
}
RIVALS = ("Telea", "Navier-Stokes")

Measured = Mapping[str, Any]


def store(measured: Measured) -> None:
    """Write the result; a reader never sees half a file."""
    STORED.parent.mkdir(parents=True, exist_ok=True)
    temporary = STORED.with_suffix(".partial")
    temporary.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    os.replace(temporary, STORED)


def load() -> dict[str, Any]:
    """The stored result."""
    measured: dict[str, Any] = json.loads(STORED.read_text("utf-8"))
    return measured


def write(work: Path | None, *, check: bool) -> int:
    """Bring README and model card up to date, or with `check` say whether they are.

    Args:
        work: draws the picture anew from the copies there.
        check: write nothing.
    """
    measured = load()
    if work is not None:
        sheet(work)
    readme = README.read_text("utf-8")
    pages = {README: replace_block(readme, table(measured), BEGIN, END), CARD: card(measured)}
    different = [
        page for page, text in pages.items()
        if not page.exists() or page.read_text("utf-8") != text
    ]  # fmt: skip
    for page in different:
        if check:
            print(f"{page.name} disagrees: python -m benchmarks.compact report", file=sys.stderr)
        else:
            page.write_text(pages[page], "utf-8")
    return 1 if check and different else 0


def table(measured: Measured) -> str:
    """Metrics by hole ratio and method, what was beaten, and what this does not show."""
    lines = ["| holes | | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(COLUMNS))
    for low, high in BINS:
        methods = measured["bins"][f"{low}-{high}"]
        for i, (method, title) in enumerate(METHODS.items()):
            where = f"{low:.0%} to {high:.0%}" if i == 0 else ""
            lines.append(f"| {where} | {title} | {_numbers(methods, method)} |")
    return "\n".join([*lines, "", *_sentences(measured)])


def _numbers(methods: Measured, method: str) -> str:
    best = {m: _best(methods, m) for m in COLUMNS}
    cells = []
    for metric, (_, digits) in COLUMNS.items():
        text = f"{methods[method]['means'][metric]:.{digits}f}"
        cells.append(f"**{text}**" if method == best[metric] else text)
    return " | ".join(cells)


def _best(methods: Measured, metric: str) -> str:
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    return max(METHODS, key=lambda method: sign * methods[method]["means"][metric])


def better(methods: Measured, rival: str, metric: str) -> tuple[bool, int]:
    """Whether the network's mean is the better one, and on how many photographs its mean is."""
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    mine, other = methods[NAME], methods[rival]
    photographs = sum(
        sign * values[metric] > sign * other["by_photograph"][name][metric]
        for name, values in mine["by_photograph"].items()
    )
    return sign * mine["means"][metric] > sign * other["means"][metric], photographs


def _sentences(measured: Measured) -> list[str]:
    lost = [
        f"{metric} of {bin_} against {rival}"
        for bin_, methods in measured["bins"].items()
        for rival in RIVALS
        for metric in COLUMNS
        if not better(methods, rival, metric)[0]
    ]
    photographs = [
        better(methods, rival, metric)[1]
        for methods in measured["bins"].values()
        for rival in RIVALS
        for metric in COLUMNS
    ]
    count = len(next(iter(measured["bins"].values()))[NAME]["by_photograph"])
    verdict = (
        "It is better than both of OpenCV's methods in every metric and at every hole ratio"
        if not lost
        else f"It is not better than OpenCV's methods in: {', '.join(lost)}"
    )
    weights = measured["weights"]
    return [
        f"Means over {count} photographs that it has not seen, each with {_masks()} free-form "
        f"masks for each range, of {TEST_SIZE}x{TEST_SIZE} pixels amid copies with a shorter side "
        f"of {TEST_SIDE}; photographs and masks were fixed before training. {verdict}, by the "
        f"means; {_spread(photographs, count)}. {weights['parameters']:,} "
        f"parameters, {weights['bytes'] / 1e6:.1f} MB. Measured at commit {measured['hash'][:10]}"
        f"{' with changes' if measured['dirty'] else ''}: "
        f"[`benchmarks/results/compact/measured.json`]"
        f"(benchmarks/results/compact/measured.json).",
        "",
        f"*smooth filling alone* is what the network adds to, and nothing is learned in it: of the "
        f"advantage over Navier-Stokes in PSNR, {_from_filling(measured):.0%} are that filling's. "
        "A network of this size, trained on 22 photographs, continues edges and colours over holes "
        "of some ten pixels; it does not know what a face or a window looks like, draws no "
        "texture, and leaves the middle of a large hole blurred.",
    ]


def _spread(better_on: list[int], count: int) -> str:
    if min(better_on) == count:
        return f"on each of the {count} photographs too"
    return (
        f"of the {count} photographs, on {min(better_on)} in the closest of these comparisons and "
        f"on {max(better_on)} in the clearest"
    )


def _from_filling(measured: Measured) -> float:
    """The share of the advantage in PSNR that the filling has without the network."""
    gains = [
        [methods[method]["means"]["psnr"] for method in ("smooth filling", NAME, "Navier-Stokes")]
        for methods in measured["bins"].values()
    ]
    share: float = sum(a - c for a, _, c in gains) / sum(b - c for _, b, c in gains)
    return share


def _masks() -> int:
    return next(iter(TESTS.values())).count


def card(measured: Measured) -> str:
    """The model card that lies beside the weights."""
    weights, listed = measured["weights"], split.load_split()
    return "\n".join(
        [
            f"# {NAME}",
            "",
            f"`{NAME}.safetensors`: a `pconv_unet` of 16 channels that predicts what to add to a "
            f"smooth filling of the holes (`residual`); {weights['parameters']:,} parameters, "
            f"{weights['bytes']:,} bytes, SHA-256 `{weights['sha256']}`. The file holds its "
            f"recipe.",
            "",
            f"Trained by `python -m benchmarks.compact` (recipe `benchmarks/compact/compact.yaml`) "
            f"on a CPU: L1 of the hole alone, free-form holes of 5 to 45 %, crops of 256x256 from "
            f"copies with shorter sides of {', '.join(map(str, TRAIN_SIDES))} pixels.",
            "",
            "## Use and limits",
            "",
            "Photographs with small holes: scratches, lines, dust, thin objects. It draws no "
            "texture and no objects; the middle of a large hole is blurred. 22 photographs, most "
            "of them nature and desktop backgrounds, are all that it has seen: no documents, no "
            "faces.",
            "",
            "## Photographs",
            "",
            "From three Debian packages. Nothing of them is in the weights' file but what training "
            "made of it. The weights come under this package's own licence, Apache-2.0; whether "
            "the photographs' licences bear on them is not settled law. Who needs to be sure "
            "trains them anew on other photographs, with the commands above.",
            "",
            "- `lomiri_*`: lomiri-wallpapers-16.04. CC0-1.0: seeding (Clemens Engelhardt). "
            "CC-BY-4.0: aitzgorri, friends, life, sunset (Aitzol Berasategi), Picture_0B, "
            'Picture_1A (Trevor "Freespace"), umang (Abhishek Mudgal). CC-BY-SA-4.0: Dragonfly '
            "(Bolly), free, greentock (Peter Nerlich).",
            "- `mate_*`: mate-backgrounds, GPL-2+ (authors in that package's copyright file).",
            "- `plasma_*`: plasma-workspace-wallpapers, GPL-2+, KDE Visual Design Group.",
            "",
            f"Trained on: {', '.join(f'`{name}`' for name in listed['train'])}.",
            "",
            f"Measured on: {', '.join(f'`{name}`' for name in listed['test'])}.",
            "",
            "## Measured",
            "",
            *table(measured).replace("](benchmarks/", "](../../../benchmarks/").splitlines(),
            "",
        ]
    )


def sheet(work: Path) -> None:
    """Draw three test photographs: with holes, filled, and as they are."""
    tests = load_tests(work, TESTS[BINS[1]])
    draw.sheet(tests, {"Telea": telea, NAME: load_pretrained(NAME)}, SHEET, filled=True)
