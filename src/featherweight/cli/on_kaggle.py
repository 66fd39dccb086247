"""A competition on Kaggle: its data in, a submission out, its score back."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight import paths
from featherweight.cli.arguments import parser_of
from featherweight.cli.before import init
from featherweight.errors import UserError


def download(words: Sequence[str]) -> int:
    """Data in."""
    parser = parser_of("download", "Fetch a Kaggle competition's data into data/, unpacked and checked.")
    parser.add_argument("name", help="a competition here, or its name on Kaggle: the end of its address")
    given = parser.parse_args(words)

    from featherweight.kaggle import download as kaggle_download

    folder = kaggle_download.download(given.name)
    print(f"{folder} is ready")
    if given.name in paths.config_names("competitions"):
        print(f"next: ./run.sh wrn16_4 --competition {given.name}")
        return 0
    try:
        return init([str(folder), "--kaggle", given.name])
    except UserError as error:
        print(f"no competition file was made: {error}")
        print(f"next: ./run.sh init {folder} --kaggle {given.name}, when that is mended")
        return 0


def submit(words: Sequence[str]) -> int:
    """A submission out."""
    parser = parser_of(
        "submit", "Weigh the run's weights, check its CSV, upload it to Kaggle, and keep its reference in the ledger."
    )
    parser.add_argument("what", metavar="RUN|CSV", help="a run's name, or any submission file")
    parser.add_argument("-m", "--message", help="what to say of it (default: the run, its holdout score, its commit)")
    parser.add_argument("--competition", help="for a CSV that is of no run")
    parser.add_argument("--again", action="store_true", help="even if these very bytes were submitted before")
    parser.add_argument("--wait", action="store_true", help="for the score, up to half an hour")
    given = parser.parse_args(words)

    from featherweight.kaggle import loop as kaggle_loop

    options = {"competition": given.competition, "message": given.message, "again": given.again}
    print(kaggle_loop.submit(given.what, **options, wait_minutes=30 if given.wait else 0))
    return 0


def scores(words: Sequence[str]) -> int:
    """Its score back."""
    parser_of("scores", "Ask Kaggle for the scores of all submissions, and add what is new to the ledger.").parse_args(
        words
    )

    from featherweight.kaggle import loop as kaggle_loop
    from featherweight.report import tables

    rows = kaggle_loop.scores()
    tables.submissions(rows)
    print("next: ./run.sh runs --plot" if len(rows) else "no submissions yet\nnext: ./run.sh submit RUN")
    return 0


def leaderboard(words: Sequence[str]) -> int:
    """The others."""
    parser = parser_of("leaderboard", "The first teams of a competition's public leaderboard.")
    parser.add_argument("name", help="a competition here, or its name on Kaggle")
    parser.add_argument("--top", type=int, default=20, help="how many teams (default: 20)")
    given = parser.parse_args(words)

    from featherweight.kaggle import loop as kaggle_loop
    from featherweight.report import tables

    tables.leaderboard(kaggle_loop.leaderboard(given.name, given.top))
    print("next: ./run.sh submit RUN")
    return 0
