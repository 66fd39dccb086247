"""Export a finished run's model for other programs, load it there and compare its predictions with the run's.

  onnx         one file, for onnxruntime; --int8 adds a quantised copy
  torchscript  one file, for torch.jit
  pt2          one file, for torch.export
  safetensors  the weights and their names, for a program that has the network
  script       one Python file and its weights; needs only torch and Pillow (and timm for timm's networks)

The exported model takes images of any size and returns probabilities; with several or ordered classes, also the
decision. Test-time views are not included (except with --to script --views); the command prints the score without them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight.cli.arguments import add_run

KINDS = ("onnx", "torchscript", "pt2", "safetensors", "script")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `export`."""
    add_run(parser)
    parser.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(KINDS))
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="output file (default: in export/ of the run's folder)"
    )
    parser.add_argument("--views", action="store_true", help="with script: include the run's test-time views")
    parser.add_argument(
        "--int8", action="store_true", help="with onnx: also write a quantised copy, and print its score and size"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export the model."""
    from featherweight.export import job
    from featherweight.runs.run import Run

    job.refuse_if_impossible(arguments.to, arguments.int8, arguments.views)
    finished = Run.find(arguments.run)
    files = job.export(finished, arguments.to, arguments.out, int8=arguments.int8, views=arguments.views)
    print("\n".join(f"wrote {file} ({file.stat().st_size:,} bytes)" for file in files))
    if arguments.to == "script":
        print(f"next: python {files[-1]} PICTURE")
    else:
        print(f"next: ./run.sh {'kernel' if finished.competition.kaggle else 'bundle'} {finished.name}")
    return 0
