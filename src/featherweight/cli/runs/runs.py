"""List all runs of all competitions, the best holdout score first; stopped runs come last."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_choice
from featherweight.cli.commands import typed
from featherweight.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `runs`."""
    add_choice(parser)
    parser.add_argument("--sort", metavar="KEY", help="sort by a column or a key, the largest first (default: holdout)")
    parser.add_argument("--ascending", action="store_true", help="with --sort: the smallest first")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--seeds", action="store_true", help="one line per recipe: mean and standard deviation over seeds"
    )
    shown.add_argument("--markdown", action="store_true", help="print the table of --seeds as Markdown")
    shown.add_argument(
        "--html", action="store_true", help="write an HTML page that needs no network: sortable, with all curves"
    )
    shown.add_argument("--plot", action="store_true", help="draw public scores against holdout scores")


def run(arguments: argparse.Namespace) -> int:
    """Print the requested table, and runs that are not finished."""
    if arguments.ascending and arguments.sort is None:
        raise UserError("--ascending: name the column or the key too, as in --sort minutes --ascending")

    from featherweight.runs import ledger, query, unfinished

    rows = query.ordered(query.chosen(arguments.competition, arguments.where), arguments.sort, arguments.ascending)
    if len(rows):
        _show(rows, arguments)
    for one in [] if arguments.where else unfinished.unfinished(arguments.competition):
        print(one)
    if len(rows):
        print("next: ./run.sh report RUN, or ./run.sh compare RUN RUN")
        return 0
    if arguments.where and len(ledger.read()):
        print("there are no finished runs like that\nnext: ./run.sh runs")
        return 0
    here = arguments.competition
    print(f"there are no finished runs{f' of {here}' if here else ''} yet")
    print(f"next: {typed('wrn16_4', *(['--competition', here] if here else []))}")
    return 0


def _show(rows: pd.DataFrame, arguments: argparse.Namespace) -> None:
    from featherweight.report import tables
    from featherweight.runs import query

    if arguments.markdown:
        from featherweight.runs import published_results

        print(published_results.markdown(rows))
    elif arguments.html:
        from featherweight.report import runs_page

        print(f"wrote {paths.shown(runs_page.write(rows, paths.reports() / 'runs.html'))}")
    elif arguments.plot:
        tables.gaps(query.gaps(rows), paths.reports() / "holdout_against_public.png")
    elif arguments.seeds:
        tables.by_seed(query.by_seed(rows))
    else:
        tables.ledger(rows, query.differences(rows))
