"""Write docs/reference.md: every key of a recipe and of a competition."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `reference`."""
    parser.add_argument("path", type=output_file, nargs="?", help="output file (default: docs/reference.md)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from featherweight import atomic
    from featherweight.config import reference

    path = arguments.path or paths.home() / "docs" / "reference.md"
    atomic.write_text(path, reference.page())
    print(f"wrote {path}")
    print("next: ./run.sh check RECIPE --set KEY=VALUE")
    return 0
