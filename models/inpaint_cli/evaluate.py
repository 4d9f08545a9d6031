"""`inpaint evaluate`: a trained generator and the baselines over a folder of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from .words import add_words, split_words

_DESCRIPTION = """\
Fill the pictures of a folder and compare with the truth: one table on the screen; with --output
also rows.csv, evaluation.json, table.md and a sheet of the best, the median and the worst picture.

  inpaint evaluate runs/pconv_unet --data test/
  inpaint evaluate runs/pconv_unet --data test/ --output results/ \\
      masks.options.source.options.ratio=[0.3,0.4]
  inpaint evaluate runs/isnet --data test/ masks.options.ratio=[0.3,0.4]

Pictures, masks and metrics are as in the recipe that the checkpoint was trained by, but for crops
(the centre, never mirrored) and splits (the test part; of CIFAR-10 the test batch); key=value gives
any of its keys anew.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained network",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_words(
        parser, "CHECKPOINT", "run, checkpoint, .safetensors or compact; recipe keys given anew"
    )
    parser.add_argument("--data", metavar="DIR", required=True, help="pictures")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to write results")
    parser.add_argument(
        "--colours",
        choices=("gain_and_offset", "offset"),
        help="add the network with its colours fitted to the known part",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        type=int,
        default=1,
        help="pictures filled at once, for networks without region norms (default: 1)",
    )
    parser.add_argument(
        "--beside",
        metavar="NAME",
        help="a published table to print beside: shi-1, bernikov-1, lokray-1, isnet-1 to isnet-4",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="(default: auto)"
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate and report."""
    from inpaint_models.errors import UsageError, unknown
    from inpaint_models.training.measure import measure
    from inpaint_models.training.published import PUBLISHED
    from inpaint_models.training.report import markdown, picture_sheet, write_csv, write_json

    checkpoint, overrides = split_words(options)
    if checkpoint is None:
        raise UsageError("give a run, a checkpoint or a .safetensors file")
    if options.beside is not None and options.beside not in PUBLISHED:
        raise UsageError(f"--beside: {unknown('table', options.beside, PUBLISHED)}")
    found = measure(
        checkpoint,
        options.data,
        overrides,
        accelerator=options.accelerator,
        colours=options.colours,
        batch_size=options.batch,
    )
    table = markdown(found.evaluation, PUBLISHED.get(options.beside), [found.part])
    print(table, end="")
    if options.output is None:
        return
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        write_csv(found.evaluation, options.output / "rows.csv")
        write_json(found.evaluation, options.output / "evaluation.json")
        (options.output / "table.md").write_text(table, encoding="utf-8")
        if "psnr" in {metric.name for metric in found.evaluation.metrics}:
            sheet = options.output / "pictures.png"
            picture_sheet(found.evaluation, found.fill, found.batches, sheet)
    except OSError as error:
        raise UsageError(f"--output: {error}") from error
