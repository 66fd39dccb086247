"""Write a finished run's report again: one HTML file that needs no network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featherweight.cli.arguments import add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `report`."""
    add_run(parser)
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard files instead")


def run(arguments: argparse.Namespace) -> int:
    """Write the report, or TensorBoard's files."""
    from featherweight.runs.run import Run

    if arguments.tensorboard:
        from featherweight.report import tensorboard

        folder = tensorboard.write(Run.find(arguments.run))
        print(f"wrote {folder}\nnext: {Path(sys.executable).parent / 'tensorboard'} --logdir {folder.parent.parent}")
        return 0
    from featherweight.report import write

    print(f"wrote {write.write(Run.find(arguments.run))}")
    print("next: open it in a browser")
    return 0
