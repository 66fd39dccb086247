"""Pack a run into one zip for another person: recipe, competition, weights, CSV, report, environment and command."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import add_run, output_file
from featherweight.errors import UserError, count_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `bundle`."""
    add_run(parser)
    parser.add_argument(
        "--out", type=output_file, metavar="FILE", help="output file (default: NAME.zip beside the run's folder)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the zip."""
    from featherweight.runs import bundle
    from featherweight.runs.run import Run

    if arguments.out is not None and arguments.out.suffix.lower() != ".zip":
        raise UserError(f"--out {arguments.out}: expected a name ending in .zip")
    bundled = Run.find(arguments.run)
    target = arguments.out or paths.runs() / f"{bundled.name}.zip"
    count = bundle.write(bundled, target)
    print(f"wrote {target}: {count_of(count, 'file')}, {target.stat().st_size / 1e6:,.1f} MB, checksums inside")
    if teachers := bundle.teachers(bundled):
        print(f"to continue it, its teachers are needed too; bundle them separately: {', '.join(teachers)}")
    print(f"next: in another checkout, ./run.sh load {target.name}")
    return 0
