"""What is done with runs: told, compared, combined, searched and rerun."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_choice, add_configuration, overrides, parser_of
from featherweight.cli.running import finish
from featherweight.errors import UserError


def runs(words: Sequence[str]) -> int:
    """The ledger."""
    parser = parser_of("runs", "Every finished run of every competition, best holdout score first.")
    add_choice(parser)
    parser.add_argument("--sort", metavar="KEY", help="largest first by a column or a recipe's key (default: holdout)")
    parser.add_argument("--ascending", action="store_true", help="with --sort: smallest first")
    parser.add_argument("--seeds", action="store_true", help="a line a recipe: mean and deviation over its seeds")
    parser.add_argument("--markdown", action="store_true", help="write the table into README.md, between its markers")
    parser.add_argument("--plot", action="store_true", help="draw holdout against public scores")
    given = parser.parse_args(words)

    from featherweight.report import tables
    from featherweight.runs import ledger, query

    rows = query.ordered(query.chosen(given.competition, given.where), given.sort, given.ascending)
    if given.markdown:
        changed = query.refresh(paths.home() / "README.md", rows)
        print("README.md has a new table" if changed else "README.md is up to date")
    elif given.plot:
        tables.gaps(query.gaps(rows), paths.runs() / "holdout_against_public.png")
    elif given.seeds:
        tables.by_seed(query.by_seed(rows))
    else:
        tables.ledger(rows, query.differences(rows))
    if not len(rows):
        print(f"no finished runs {'like that' if len(ledger.read()) else 'yet'}")
    print("next: ./run.sh RECIPE for another" if len(rows) else "next: ./run.sh wrn16_4")
    return 0


def compare(words: Sequence[str]) -> int:
    """Whether one run is better."""
    parser = parser_of("compare", "Compare finished runs on the images they hold out: curves, scores, paired tests.")
    parser.add_argument("run", nargs="*", help="names of runs, or their folders; or choose them by what follows")
    add_choice(parser)
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="the picture (default: compare.png)")
    given = parser.parse_args(words)

    from featherweight.report import tables
    from featherweight.runs import comparison

    names = comparison.chosen(given.run, given.competition, given.where)
    rows, verdicts = comparison.compare(names, given.out)
    tables.comparison(rows)
    print("\n".join(verdicts))
    print(f"next: ./run.sh report {rows['reported'].iloc[0]}")
    return 0


def logbook(words: Sequence[str]) -> int:
    """A section of the logbook."""
    parser = parser_of("logbook", "Rerun every row of a section of the logbook; what is done is found done.")
    parser.add_argument("section", help="A, B, C or D")
    add_configuration(parser)
    parser.add_argument("--scale", type=float, default=1.0, help="the part of each run's epochs and steps (default: 1)")
    parser.add_argument("--seeds", help="run every row for each of these seeds, and test the claims: 0-2, or 0,3,7")
    parser.add_argument("--rows", help="only these rows: a12,a13; or `claims`, those that the claims are about")
    parser.add_argument("--log", action="store_true", help="append it to submissions/LOG.md, its pictures to docs/")
    parser.add_argument("--device", default="auto", help="auto (a CUDA GPU, else cpu), cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    given = parser.parse_args(words)
    paths.find_config("competitions", given.competition)

    from featherweight import config
    from featherweight.logbook import rerun
    from featherweight.runs import series

    command = ["./run.sh", "logbook", *words]
    folder = rerun.rerun(
        given.section,
        Path(given.competition).stem,
        config.load_competition(given.competition),
        scale=given.scale,
        seeds=series.seeds(given.seeds) if given.seeds else [given.seed or 0],
        only=given.rows.split(",") if given.rows else [],
        overrides=overrides(given),
        device=given.device,
        threads=given.threads,
        command=command,
    )
    print((folder / "table.md").read_text())
    print(f"wrote {folder / 'table.md'} and the pictures beside it")
    if given.log:
        print(f"wrote {rerun.log(folder, given.section, shlex.join(command))}")
    print(f"next: ./run.sh runs --competition {Path(given.competition).stem}")
    return 0


def search(words: Sequence[str]) -> int:
    """Keys tried by optuna."""
    parser = parser_of("search", "Search a space of recipes: each candidate is weighed, trained briefly and scored.")
    parser.add_argument("space", help="a space's name, or the path of a space file; see configs/spaces")
    parser.add_argument("--trials", type=int, help="stop when the study has so many trained trials, of all workers")
    parser.add_argument("--hours", type=float, help="start no trial after so many hours")
    parser.add_argument("--competition", help="a competition's name, or the path of its file (default: the space's)")
    parser.add_argument("--name", help="the study's name, and the best recipe's (default: the space's)")
    parser.add_argument(
        "--storage",
        metavar="WHERE",
        help="shared by several workers: a database's address as optuna takes it, redis://, or a journal file "
        "(default: a database file in studies/)",
    )
    parser.add_argument("--device", default="auto", help="auto (a CUDA GPU, else cpu), cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    given = parser.parse_args(words)
    paths.find_config("spaces", given.space)
    if given.competition:
        paths.find_config("competitions", given.competition)

    from featherweight.search import command

    try:
        print(f"next: {command.search(**vars(given))}")
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: {shlex.join(['./run.sh', 'search', *words])}", file=sys.stderr)
        return 130
    return 0


def soup(words: Sequence[str]) -> int:
    """One model out of several runs'."""
    parser = parser_of("soup", "Average the weights of several runs of one model; predict, score, record the result.")
    parser.add_argument("run", nargs="+", help="names of finished runs, or their folders")
    parser.add_argument("--greedy", action="store_true", help="take in only what does not make the holdout worse")
    parser.add_argument("--name", help="the name of the run it makes (default: soup-competition-seed)")
    given = parser.parse_args(words)

    from featherweight.runs import combining

    command = ["./run.sh", "soup", *words]
    return finish(combining.soup(given.run, greedy=given.greedy, name=given.name, command=command), report=True)


def ensemble(words: Sequence[str]) -> int:
    """Several models as one."""
    parser = parser_of("ensemble", "Average the probabilities of several runs, if together they make the weight.")
    parser.add_argument("run", nargs="+", help="names of finished runs, or their folders")
    parser.add_argument("--fit", action="store_true", help="weigh the members by their likelihood on the holdout")
    parser.add_argument("--name", help="the name of the run it makes (default: ensemble-competition-seed)")
    given = parser.parse_args(words)

    from featherweight.report import tables
    from featherweight.runs import combining

    command = ["./run.sh", "ensemble", *words]
    tables.summary(*combining.ensemble(given.run, fit=given.fit, name=given.name, command=command))
    return 0


def report(words: Sequence[str]) -> int:
    """A run's report."""
    parser = parser_of("report", "Write a finished run's report anew: one HTML file that needs no network.")
    parser.add_argument("run", help="the run's name, or its folder")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files instead")
    given = parser.parse_args(words)

    from featherweight.runs import run_folder

    if given.tensorboard:
        from featherweight.report import tensorboard

        folder = tensorboard.write(run_folder.find(given.run))
        print(f"wrote {folder}\nnext: {Path(sys.executable).parent / 'tensorboard'} --logdir {folder.parent.parent}")
        return 0
    from featherweight.report import write

    print(f"wrote {write.write(run_folder.find(given.run))}")
    print("next: open it in a browser")
    return 0


def score(words: Sequence[str]) -> int:
    """Score any CSV."""
    parser = parser_of("score", "Check a submission and, where the answers are known, score it.")
    parser.add_argument("csv", type=Path, help="the submission")
    parser.add_argument("--competition", help="a competition's name, or the path of its file (default: its run's)")
    parser.add_argument("--solution", type=Path, help="the answers: a CSV as submitted, perhaps with a Usage column")
    given = parser.parse_args(words)
    if given.competition:
        paths.find_config("competitions", given.competition)

    from featherweight import config
    from featherweight.runs import ledger
    from featherweight.submission import grading

    if not given.csv.is_file():
        raise UserError(f"cannot read {given.csv}: No such file or directory")
    name = given.competition or ledger.maker(given.csv).get("competition")
    if not name:
        raise UserError(f"{given.csv} is of no run in the ledger: say which --competition it is for")
    overrides = [] if given.solution is None else [f"submission.solution={json.dumps(str(given.solution.absolute()))}"]
    competition = config.load_competition(name, overrides)
    print(grading.score_csv(given.csv, competition))
    submits = f"submit {given.csv} --competition {name}"
    print(f"next: ./run.sh {submits if competition.kaggle else 'runs'}")
    return 0
