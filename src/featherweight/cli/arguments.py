"""What several commands ask for."""

from __future__ import annotations

import argparse


def parser_of(name: str, description: str) -> argparse.ArgumentParser:
    """A parser that speaks of the command as users type it."""
    return argparse.ArgumentParser(
        prog=f"./run.sh {name}".replace(" RECIPE", ""), description=description, allow_abbrev=False
    )


def add_report(parser: argparse.ArgumentParser) -> None:
    """Let the report be left out."""
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="leave out the HTML report, some seconds' work"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Ask which runs of the ledger are meant."""
    parser.add_argument("--competition", help="only this competition's")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with optimizer.lr>0.1",
    )


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Ask for a competition, and for changes to a recipe."""
    parser.add_argument("--competition", default="digits", help="a competition's name, or the path of its file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key: optimizer.lr=0.2"
    )
    parser.add_argument("--seed", type=int, help="the run's seed (default: the recipe's)")
    parser.add_argument("--views", help="test-time views: none, flip, flip+shift, train:8")


def overrides(given: argparse.Namespace) -> list[str]:
    """`--seed` and `--views` are short for `--set`."""
    overrides = list(given.set)
    if given.seed is not None:
        overrides.append(f"seed={given.seed}")
    if given.views is not None:
        names = [] if given.views == "none" else given.views.split("+")
        counted = [
            name.replace("train:", "{name: train, count: ") + "}" if name.startswith("train:") else name
            for name in names
        ]
        overrides.append(f"predict.views=[{', '.join(counted)}]")
    return overrides
