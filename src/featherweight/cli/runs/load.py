"""Unpack a bundled run into this checkout, after verifying its checksums. It can then predict,
resume and be compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight.cli.arguments import FILES, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `load`."""
    completed(parser.add_argument("zip", metavar="ZIP", type=Path, help="a file written by ./run.sh bundle"), FILES)
    parser.add_argument("--name", help="another name for the run, if its own is taken")


def run(arguments: argparse.Namespace) -> int:
    """Unpack, verify and store the run."""
    from featherweight import paths
    from featherweight.runs import bundle
    from featherweight.runs.elsewhere import lacks_data
    from featherweight.runs.run import Run

    if arguments.name is not None:
        paths.refuse_name(arguments.name, "--name")
    loaded = bundle.load(arguments.zip, arguments.name)
    print(f"{loaded.name} is in {loaded.folder}")
    if lacks_data(loaded.competition):
        print(f"its data are not here; if you have them: ./run.sh init FOLDER --name {loaded.competition_name}")
    if lacking := [name for name in bundle.teachers(loaded) if not Run.exists(name)]:
        print(f"to continue it, load its teachers too: {', '.join(lacking)}")
    if loaded.is_finished:
        print(f"next: ./run.sh predict {loaded.name} FOLDER, or ./run.sh compare {loaded.name} RUN")
    else:
        print(f"next: ./run.sh resume {loaded.name}")
    return 0
