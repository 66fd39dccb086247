"""Rerun the rows of a section of the logbook and test its claims; finished rows are not trained again."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_machine, overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `logbook`."""
    parser.add_argument("section", help="A, B, C or D")
    add_configuration(parser)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of each run's epochs and steps (default: 1)")
    parser.add_argument("--seeds", help="run every row with each of these seeds, and test the claims: 0-2, or 0,3,7")
    parser.add_argument("--rows", help="only these rows: a12,a13; or `claims`: the rows that the claims are about")
    parser.add_argument(
        "--log", action="store_true", help="append the results to submissions/LOG.md, with the figures beside it"
    )
    add_machine(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the rows and print their table."""
    paths.find_config("competitions", arguments.competition)

    from featherweight import config
    from featherweight.logbook import rerun
    from featherweight.runs import series

    folder = rerun.rerun(
        arguments.section,
        Path(arguments.competition).stem,
        config.load_competition(arguments.competition),
        scale=arguments.scale,
        seeds=series.seeds(arguments.seeds) if arguments.seeds else [arguments.seed or 0],
        only=arguments.rows.split(",") if arguments.rows else [],
        overrides=overrides(arguments),
        device=arguments.device,
        threads=arguments.threads,
        command=arguments.command_line,
    )
    print((folder / "table.md").read_text())
    print(f"wrote {folder / 'table.md'} and the pictures beside it")
    if arguments.log:
        print(f"wrote {rerun.log(folder, arguments.section, shlex.join(arguments.command_line))}")
    print(f"next: ./run.sh runs --competition {Path(arguments.competition).stem}")
    return 0
