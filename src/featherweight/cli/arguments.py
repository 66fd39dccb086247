"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

# Shell functions of `tool.completion` that list what the tab key offers for an argument.
RECIPES = {"bash": "_featherweight_recipes", "zsh": "_featherweight_recipes"}
COMPETITIONS = {"bash": "_featherweight_competitions", "zsh": "_featherweight_competitions"}
RUNS = {"bash": "_featherweight_runs", "zsh": "_featherweight_runs"}
SPACES = {"bash": "_featherweight_spaces", "zsh": "_featherweight_spaces"}
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}

ROWS = 1_000_000  # shown at most
DEFAULT = "digits"  # the competition if none is given
SHIPPED = {DEFAULT, "cifar10", "cifar100"}
LARGEST = 1e15  # more parameters, bytes or multiply-adds than any network has
FEWEST_MACS = 10_000  # fewer multiply-adds than any useful network for images has


def completed(action: argparse.Action, by: dict[str, str]) -> None:
    """Make the tab key offer recipes, competitions, runs, spaces or files for this argument."""
    action.complete = by  # type: ignore[attr-defined]  # shtab reads it


def number(text: str) -> float:
    """Convert a limit as people write it: 5000000, 5_000_000, 5,000,000, 5e6, 5M, 300k."""
    from featherweight.schema import amount  # imports pydantic, which would slow down --help

    try:
        found = amount(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found > LARGEST:
        raise argparse.ArgumentTypeError(f"expected at most {LARGEST:.0e}, got {found:.3g}")
    return found


def count(text: str) -> int:
    """Convert a whole number, written like those of `number`."""
    found = number(text)
    if found != int(found):
        raise argparse.ArgumentTypeError(f"expected a whole number, as 5000000, 5e6 or 5M, got '{text}'")
    return int(found)


def macs(text: str) -> float:
    """Convert a number of multiply-adds, written like those of `number`.

    Raises ArgumentTypeError for so few that they must be meant in millions.
    """
    found = number(text)
    if found < FEWEST_MACS:
        raise argparse.ArgumentTypeError(
            f"{text} multiply-adds are too few for any network; millions are written with an M, as 300M"
        )
    return found


def how_many(text: str) -> int:
    """Convert a number of rows to show."""
    found = count(text)
    if found > ROWS:
        raise argparse.ArgumentTypeError(f"expected at most {ROWS:,}, got {found:,}")
    return found


def output_file(text: str) -> Path:
    """Convert the path of a file to be written. Raises UserError, before any work is done, if that is impossible."""
    from featherweight import paths

    paths.refuse_unwritable_file(Path(text))
    return Path(text)


def add_recipe(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add the argument RECIPE."""
    text = f"a recipe's name, or the path of a recipe file{more}"
    completed(parser.add_argument("recipe", metavar="RECIPE", help=text), RECIPES)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument RUN, a finished run."""
    completed(parser.add_argument("run", metavar="RUN", help="a run's name, or its folder"), RUNS)


def add_runs(parser: argparse.ArgumentParser, nargs: str = "+", more: str = "") -> None:
    """Add the argument RUN for several finished runs."""
    text = f"names of finished runs, or their folders{more}"
    completed(parser.add_argument("run", metavar="RUN", nargs=nargs, help=text), RUNS)


def add_competition(
    parser: argparse.ArgumentParser, default: str | None = DEFAULT, text: str = "a competition's name, or its file"
) -> None:
    """Add the option --competition."""
    shown = f" (default: {default})" if default else ""
    completed(
        parser.add_argument("--competition", default=default, metavar="NAME", help=f"{text}{shown}"), COMPETITIONS
    )


def note_default(arguments: argparse.Namespace) -> None:
    """If no competition was given, but the user has some, say that the default is used."""
    from featherweight import paths

    own = [name for name in paths.config_names("competitions") if name not in SHIPPED]
    if own and not any(word.split("=")[0] == "--competition" for word in arguments.command_line):
        from featherweight.console import say

        say(f"note: no --competition is given, so {DEFAULT} is used; yours: {', '.join(own)}")


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add options for the competition and for changes to the recipe."""
    add_competition(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key: optimizer.lr=0.2"
    )
    parser.add_argument("--seed", type=int, help="the run's seed (default: the recipe's)")
    add_views(parser)


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add the option --views, which replaces the recipe's test-time views."""
    parser.add_argument("--views", help="test-time views: none, flip, flip+shift, train:8 (default: the recipe's)")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options --device and --threads."""
    parser.add_argument("--device", default="auto", help="auto (a CUDA GPU, else cpu), cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")


def add_max_macs(parser: argparse.ArgumentParser) -> None:
    """Add the option --max-macs, in the unit of a competition's `limit.macs`."""
    parser.add_argument("--max-macs", type=macs, metavar="N", help="maximum multiply-adds for one image, such as 300M")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the option --no-report."""
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="write no HTML report, which takes some seconds"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add options that select runs of the ledger."""
    add_competition(parser, default=None, text="only runs of this competition")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only runs that meet a condition: optimizer.lr>0.1",
    )


def overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the changes of --set, --seed and --views as `key=value` settings."""
    changes = list(arguments.set)
    if arguments.seed is not None:
        changes.append(f"seed={arguments.seed}")
    return changes if arguments.views is None else [*changes, views_setting(arguments.views)]


def views_setting(views: str) -> str:
    """Convert `flip+train:8` to a setting of the recipe's key."""
    names = [] if views == "none" else views.split("+")
    counted = [
        name.replace("train:", "{name: train, count: ") + "}" if name.startswith("train:") else name for name in names
    ]
    return f"predict.views=[{', '.join(counted)}]"


def repeated(arguments: argparse.Namespace) -> list[str]:
    """Return the changes to the recipe as words of a command."""
    words = [word for change in arguments.set for word in ("--set", change)]
    words += ["--seed", str(arguments.seed)] if arguments.seed is not None else []
    return words + (["--views", arguments.views] if arguments.views is not None else [])
