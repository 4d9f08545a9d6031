"""`inpaint export`: a trained generator as a file that runs without this package."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """\
Write a trained network to an ONNX file, or with a name that ends in .pt2 to one that
torch.export.load reads. Any batch size, height and width.

  inpaint export runs/pconv_unet -o unet.onnx --check
  inpaint export runs/pconv_unet -o unet.pt2
  inpaint export runs/pconv_unet --result prediction --force

Inputs: image (N, C, H, W) and mask (N, 1, H, W), float32, mask 1 = valid. Output: filled, the
picture with its holes filled; or prediction, what the network returns.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "export",
        help="write a trained network to an ONNX file",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="compact, a run, a checkpoint or a .safetensors"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="ends in .onnx or .pt2 (default: MODEL.onnx, by the model's name)",
    )
    parser.add_argument(
        "--result",
        choices=("filled", "prediction"),
        default="filled",
        help="known pixels as they are and holes filled, or the bare prediction (default: filled)",
    )
    parser.add_argument("--opset", type=int, help="ONNX operators, 18 to 23 (default: 20)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run the file (ONNX: in onnxruntime) and print the largest difference from PyTorch",
    )
    parser.add_argument(
        "--size", metavar="N", type=int, help="pixels of the pictures for --check (default: 256)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> None:
    """Load, export, say where."""
    from inpaint_models import export_model
    from inpaint_models.errors import UsageError
    from inpaint_models.weights import find_pretrained, load_generator

    if options.size is not None and not options.check:
        raise UsageError("--size is for --check: give both")
    net, stored = load_generator(find_pretrained(options.checkpoint))
    output = options.output or Path(f"{stored['model']}.onnx")
    size = 256 if options.size is None else options.size
    try:
        found = export_model(
            net,
            output,
            result=options.result,
            opset=options.opset,
            metadata={key: stored[key] for key in ("model", "options", "step") if key in stored},
            overwrite=options.force,
            check=size if options.check else None,
        )
    except FileExistsError as error:
        raise UsageError(f"{error}: give another --output, or --force") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(output)
    if found is not None:
        print(f"largest difference from PyTorch: {found:.2g}")
