"""For maintainers of this repository: add finished runs to docs/results.csv, and update its tables.

A run is refused unless its commit is in the history of this checkout and its code was unchanged.
"""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import add_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `publish`."""
    add_runs(parser, "*", "; without a name: only update the tables")


def run(arguments: argparse.Namespace) -> int:
    """Publish the runs; print what was written."""
    from featherweight.runs import published_results

    written = published_results.publish(arguments.run)
    print("\n".join(f"wrote {paths.shown(path)}" for path in written) or "the tables are up to date")
    print("next: git diff docs README.md")
    return 0
