"""Put a run that somebody has bundled into this checkout, its checksums verified: it predicts, resumes and compares."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight.cli.arguments import FILES, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `load` takes."""
    completed(parser.add_argument("zip", metavar="ZIP", type=Path, help="what ./run.sh bundle wrote"), FILES)
    parser.add_argument("--name", help="another name for the run, where its own is taken")


def run(arguments: argparse.Namespace) -> int:
    """Unpack, verify, and put in place."""
    from featherweight.errors import UserError
    from featherweight.runs import bundle

    if arguments.name is not None and (
        Path(arguments.name).name != arguments.name or arguments.name in ("", ".", "..")
    ):
        raise UserError(f"--name {arguments.name}: expected a plain name, with no folder in it")
    loaded = bundle.load(arguments.zip, arguments.name)
    print(f"{loaded.name} is in {loaded.folder}")
    if loaded.is_finished:
        print(f"next: ./run.sh predict {loaded.name} FOLDER, or ./run.sh compare {loaded.name} RUN")
    else:
        print(f"next: ./run.sh resume {loaded.name}")
    return 0
