"""The tables of README.md and of pages of docs/, from stored results and from model cards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import bounds, docs, figures, gpu_docs, growth, model_docs, results
from .figures import BIG_B, BIG_L, BOTH, FORWARD, Rows, ratio
from .plan import CUDA
from .results import Result

ROOT = Path(__file__).parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
GPU_PAGE = ROOT / "docs" / "gpu-results.md"
PATCHING = ROOT / "docs" / "patching.md"
NOTES = ROOT / "docs" / "performance.md"
MODELS = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
COLUMNS = (
    "", "reference", "fused", "vs reference", "vs compiled reference", "vs one-channel masks",
    "time / plain operators", "peak memory / reference",
)  # fmt: skip
LEGEND = (
    "*reference*: the published modules, written anew in plain PyTorch with the same passes over "
    "memory; *compiled*: the same under `torch.compile`; *one-channel masks*: the known trick of "
    "carrying one mask plane instead of one per channel, in plain PyTorch; *plain operators*: the "
    "same shapes without any masks, with `nn.Conv2d` and `nn.BatchNorm2d`, as a bound. For "
    "*vs* columns higher is better, for the last two lower; - is not measured. A network can take "
    "less than its plain twin because its decoder does not form the enlarged, joined features. A "
    "training step is forward, L1 loss, backward and Adam, without a discriminator."
)


def main(words: list[str]) -> int:
    """Rewrite the blocks, or with ``--check`` say whether they are what the results make them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks readme", description=__doc__)
    parser.add_argument("result", type=Path, nargs="?", help="default: the newest full CPU run")
    parser.add_argument("--check", action="store_true", help="exit 1 if pages and results disagree")
    args = parser.parse_args(words)
    path = args.result or results.newest("full")
    if path is None:
        print("no full run is stored: python -m benchmarks makes one", file=sys.stderr)
        return 1
    result = results.load(path)
    bounds.fill(result.rows)  # results of format 1 hold no shares
    gpu = results.newest(CUDA.name, device="cuda")
    grown = results.newest("growth")
    blocks = {
        GPU_PAGE: gpu_docs.block(results.load(gpu) if gpu else None, gpu.name if gpu else ""),
        MODELS: model_docs.block(),
        NOTES: growth.block(results.load(grown) if grown else None, grown.name if grown else ""),
        PATCHING: docs.patched_block(result, path.name),
        README: block(result, path.name),
        PAGE: docs.block(result, path.name, results.newest("sweep")),
    }
    different = 0
    for page, text in blocks.items():
        before = page.read_text("utf-8")
        after = replace_block(before, text)
        if before != after:
            different = 1
            if args.check:
                print(f"{page.name} disagrees: python -m benchmarks readme", file=sys.stderr)
            else:
                page.write_text(after, "utf-8")
    return different if args.check else 0


def replace_block(text: str, new: str, begin: str = BEGIN, end: str = END) -> str:
    """``text`` with what lies between the two markers replaced."""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page needs {begin} and {end}, once each")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{new}\n{end}{rest.split(end)[1]}"


def block(result: Result, file_name: str) -> str:
    """The table, and the sentence that says where its numbers come from."""
    rows = Rows(result.rows)
    lines = [_line(COLUMNS), "|" + " --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for case in rows.cases("network"):
        for mode, name in ((FORWARD, "inference"), ("step", "training step")):
            if rows.best("network", case, mode, "fused") is not None:
                lines.append(_network(rows, f"`{case}`, {name}", ("network", case, mode)))
    lines.append(_norm(rows, "`RN_B` forward", ("norm", BIG_B, FORWARD)))
    lines.append(_norm(rows, "`RN_B` forward + backward", ("norm", BIG_B, BOTH)))
    lines.append(_norm(rows, "`RN_L` forward", ("norm", BIG_L, FORWARD)))
    lines.append(_norm(rows, "`RN_L` forward + backward", ("norm", BIG_L, BOTH)))
    for provider, name in (("fused", ""), ("fused, C-channel mask", ", C-channel mask")):
        for mode in (FORWARD, BOTH):
            lines.append(_layers(rows, f"`partial_conv2d`{name}, {mode}", mode, provider))
    plot = f"benchmarks/results/{Path(file_name).stem}.png"
    picture = f"![Speed-up over the published plain-PyTorch modules]({plot})"
    return "\n".join([*lines, "", LEGEND, "", _sentence(result, file_name), "", picture])


def _network(rows: Rows, name: str, key: tuple[str, str, str]) -> str:
    return _cells(
        name,
        _ms(rows, key, "reference"),
        _ms(rows, key, "fused"),
        figures.best_ratio(rows, key, "reference", "fused"),
        figures.best_ratio(rows, key, "reference-compiled", "fused"),
        figures.best_ratio(rows, key, "one-channel", "fused"),
        figures.best_ratio(rows, key, "fused", "plain"),
        figures.memory_ratio(rows, key),
    )


def _norm(rows: Rows, name: str, key: tuple[str, str, str]) -> str:
    """Contiguous, as the reference is."""
    peaks = [
        row.peak_bytes if (row := rows.row(*key, name)) else None for name in ("fused", "reference")
    ]
    return _cells(
        name,
        _text(rows.ms(*key, "reference")),
        _text(rows.ms(*key, "fused")),
        figures.fair_ratio(rows, key, "reference", "fused"),
        None,
        None,
        figures.fair_ratio(rows, key, "fused", "batch norm"),
        ratio(peaks[0], peaks[1]),
    )


def _layers(rows: Rows, name: str, mode: str, provider: str) -> str:
    """Geometric means over the layers, contiguous layout."""
    faster = figures.layer_mean(rows, mode, "reference", provider)
    bound = figures.layer_mean(rows, mode, provider, "bound")
    # Only a few layers are compiled: a mean of two would mislead.
    one = figures.layer_mean(rows, mode, "one-channel", provider)
    return _cells(f"{name} (mean of layers)", "", "", faster, None, one, bound, None)


def _ms(rows: Rows, key: tuple[str, str, str], provider: str) -> str:
    row = rows.best(*key, provider)
    return _text(None if row is None else row.median)


def _text(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.0f} ms"


def _cells(
    name: str,
    reference: str,
    fused: str,
    faster: float | None,
    compiled: float | None,
    one_channel: float | None,
    bound: float | None,
    memory: float | None,
) -> str:
    bold = _number(faster, "x") if faster is None else f"**{_number(faster, 'x')}**"
    speed = [bold, _number(compiled, "x"), _number(one_channel, "x")]
    return _line((name, reference, fused, *speed, _number(bound), _number(memory)))


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f}{unit}"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _sentence(result: Result, file_name: str) -> str:
    machine, commit = result.machine, result.commit
    state = (commit["hash"] or "unknown")[:10] + (" with local changes" if commit["dirty"] else "")
    batch = next(
        (f", batch {r.shape[0]}, 256x256" for r in result.rows if r.group == "network"), ""
    )
    text = (
        f"Measured on {machine['cpu']}, {machine['threads']} threads ({machine['torch_simd']}), "
        f"torch {result.versions['torch']}{batch}, on {result.date[:10]} at commit {state} with "
        f"`python -m benchmarks` ({result.seconds / 60:.0f} minutes); medians of interleaved "
        "rounds, every reference and fused result checked against float64; photographs with "
        "irregular holes. Networks: reference, fused and plain operators were timed in both memory "
        "layouts and the faster of each counts, the others contiguous. Operators: all contiguous; "
        "norms with 64 channels of 256x256, convolutions as the geometric mean over the network's "
        "layers. "
        f"All rows: [`benchmarks/results/{file_name}`](benchmarks/results/{file_name})."
    )
    if result.disturbed:
        text += "\n\nOther processes were busy during: " + ", ".join(result.disturbed) + "."
    for title, reached in (("Targets missed", False), ("Targets not measured", None)):
        named = [
            f"{f['figure']} {f['measured'] or ''} (target {f['target']})".replace("  ", " ")
            for f in result.figures
            if f["reached"] is reached
        ]
        if named:
            text += f"\n\n{title} in this run: " + "; ".join(named) + "."
    return text
