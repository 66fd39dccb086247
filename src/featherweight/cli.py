"""The command line: one short function a command; the work is done elsewhere, and imported only when it is needed."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import __version__, workers, workspace
from featherweight.errors import Lost, Told, UserError, nearest

if TYPE_CHECKING:
    from featherweight.config import Recipe
    from featherweight.run_folder import Task

HELP = """\
featherweight: the best image classifier that makes the weight.

  ./run.sh RECIPE           train, score, predict, write a checked submission CSV
  ./run.sh resume RUN       go on with a run that was stopped

Before        init FOLDER        make a competition of a folder or archive of images
              inspect NAME       look at a competition's data: copies, leaks, shift
              download NAME      fetch a Kaggle competition's data
              check RECIPE       weigh a recipe (or all) against the limit; trains nothing
              models             the families of models and their recipes, weighed; of one FAMILY, its keys
              fill FAMILY        the members of a family of models that fill the limit
              draw RECIPE        draw a recipe's model: its stages, and its graph
              schedule RECIPE    draw the learning rate against the epoch
              augment RECIPE     show training images as the recipe augments them
Search        search SPACE       try recipe keys by optuna, over the limit never; see configs/spaces
After         runs               every finished run, best first; --seeds, --where, --plot
              compare RUN RUN    curves of several runs, and whether one is better
              logbook A          rerun a section of the logbook, shortened by --scale
              soup RUN RUN       the mean of several runs' weights, as a run
              ensemble RUN RUN   the mean of several runs' answers, weighed together
              report RUN         write a run's report anew: one HTML file
              score CSV          check and score a submission
On Kaggle     submit RUN         check a run's CSV (or any) and upload it
              scores             ask for the scores, and keep them
              leaderboard NAME   the first teams of a competition
The tool      doctor             what is installed, what is missing, what is wrong
              completion SHELL   completion of all this for bash or zsh
              schema             JSON schemas of recipes and competitions, for editors
              reference          write docs/reference.md: every key, its range and its default
              test, bench NAME   the test suite; a benchmark of benchmarks/

Examples
  ./run.sh wrn16_4                                      digits: two minutes, no download
  ./run.sh wrn16_4 --competition cifar10 --set train.epochs=2 --set split.subset=10000
  ./run.sh wrn16_4 --set optimizer.lr=0.2 --seed 1 --name hotter
  ./run.sh submit hotter --wait

Each explains itself: ./run.sh check --help
Exit codes: 0 done, 2 something to mend, 3 over the limit, 4 try again later, 1 a fault of ours"""

# What a full or read-only disk, or a file where a folder should be, looks like to a program.
CANNOT_WRITE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for the user's mistakes, 3 over budget, 4 Kaggle's trouble, 1 ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(HELP)
            return 0
        if words[0] == "--version":
            print(f"featherweight {__version__}")
            return 0
        if workers.inside():
            _refuse_torchrun(words)
        if words[0] in COMMANDS:
            return COMMANDS[words[0]](words[1:])
        return train(words)
    except Told as error:
        return error.exit_code
    except UserError as error:
        if workers.rank() == 0 or isinstance(error, Lost):
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f" {error.filename}" if error.filename else ""
        if workers.rank() == 0:
            print(f"error: cannot write{where}: {error.strerror}; what was there before is untouched", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not workers.inside():
            print("stopped", file=sys.stderr)
        return 130


def train(words: Sequence[str]) -> int:
    """The main job."""
    parser = _parser("RECIPE", "Train a recipe, score it, predict the test set, write a checked submission.")
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    _add_configuration(parser)
    parser.add_argument("--name", help="the run's name (default: recipe-competition-seed)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    parser.add_argument("--procs", type=int, help="share every batch between so many processes (a GPU each)")
    parser.add_argument("--seeds", help="run it once for each of these seeds: 0-4, or 0,3,7")
    parser.add_argument("--folds", type=int, help="run it once for each of so many folds, each held out once")
    parser.add_argument("--submit", action="store_true", help="upload the submission to Kaggle when the run is done")
    _add_report(parser)
    if words[0].startswith("-"):
        raise UserError(f"unknown option {words[0]}; ./run.sh --help shows what there is")
    workspace.find_config("recipes", words[0], also=COMMANDS)
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)
    if given.seeds or given.folds:
        return _series(given, ["./run.sh", *words])

    from featherweight import config, run_folder

    if given.submit:
        from featherweight.kaggle import loop as kaggle_loop

        kaggle_loop.refuse_if_impossible(given.competition)
    command = ["./run.sh", *words, *([f"--procs={workers.count()}"] if workers.inside() else [])]
    run = run_folder.start(_task(given, config.load_recipe(given.recipe, _overrides(given)), command), given.name)
    code = _finish(run, given.report)
    return submit([run.name]) if given.submit and code == 0 else code


def _task(given: argparse.Namespace, recipe: Recipe, command: list[str]) -> Task:
    from featherweight import config, run_folder

    return run_folder.Task(
        Path(given.recipe).stem,
        recipe,
        Path(given.competition).stem,
        config.load_competition(given.competition),
        command,
        given.device,
        given.threads,
        given.procs,
    )


def _series(given: argparse.Namespace, command: list[str]) -> int:
    from featherweight import config, series

    if given.submit or (given.seeds and given.folds):
        raise UserError("--seeds, --folds and --submit: one of them at a time")
    name = given.name or f"{Path(given.recipe).stem}-{Path(given.competition).stem}"
    changes = _overrides(given)
    if given.seeds:
        variants = {f"{name}-s{seed}": [f"seed={seed}"] for seed in series.seeds(given.seeds)}
    else:
        folds = range(given.folds)
        variants = {f"{name}-f{fold}": [f"split.folds={given.folds}", f"split.fold={fold}"] for fold in folds}
    recipes = {run: config.load_recipe(given.recipe, [*changes, *more]) for run, more in variants.items()}
    done = series.run_all({run: _task(given, recipe, command) for run, recipe in recipes.items()})
    series.tell(series.over_seeds(done) if given.seeds else series.over_folds(done, f"{name}-folds", command))
    return 0


def init(words: Sequence[str]) -> int:
    """A competition of one's own."""
    parser = _parser("init", "Look at a folder or archive of images and write a competition file for it.")
    parser.add_argument("folder", type=Path, metavar="FOLDER_OR_ARCHIVE", help="a folder, or a .zip or .tar.gz")
    parser.add_argument("--name", help="the competition's name (default: the folder's)")
    parser.add_argument("--metric", help="what it is scored by (default: accuracy)")
    parser.add_argument("--limit", type=int, default=5_000_000, help="the most parameters (default: 5,000,000)")
    parser.add_argument("--size", type=int, help="height and width of the images in pixels (default: as they are)")
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="may an image be mirrored and keep its class?"
    )
    parser.add_argument("--kaggle", metavar="NAME", help="its name on Kaggle, the end of its address")
    given = vars(parser.parse_args(words))

    from featherweight import init as make

    made = make.init(given.pop("folder"), **given)
    print("\n".join([*made.found, "", "assumed, and how to change it:", *made.assumed, "", f"wrote {made.path}"]))
    print(f"next: ./run.sh wrn16_4 --competition {made.path.stem}")
    return 0


def inspect(words: Sequence[str]) -> int:
    """The data, before training."""
    parser = _parser("inspect", "Look for what spoils scores: imbalance, copies, leaks through the split, shift.")
    parser.add_argument("competition", help="a competition's name, or the path of its file")
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)

    from featherweight import inspection

    print(f"wrote {inspection.inspect(given.competition)}")
    print(f"next: ./run.sh wrn16_4 --competition {given.competition}")
    return 0


def resume(words: Sequence[str]) -> int:
    """Go on with a run."""
    parser = _parser("resume", "Go on with a run that was stopped; it ends in the same bytes as if it had not been.")
    parser.add_argument("run", help="the run's name, or its folder")
    _add_report(parser)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # `workers.launch` says it
    given = parser.parse_args(words)

    from featherweight import run_folder

    return _work(given.run) if given.worker else _finish(run_folder.find(given.run), given.report)


def report(words: Sequence[str]) -> int:
    """A run's report."""
    parser = _parser("report", "Write a finished run's report anew: one HTML file that needs no network.")
    parser.add_argument("run", help="the run's name, or its folder")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files instead")
    given = parser.parse_args(words)

    from featherweight import run_folder

    if given.tensorboard:
        from featherweight.report import tensorboard

        folder = tensorboard.write(run_folder.find(given.run))
        print(f"wrote {folder}\nnext: tensorboard --logdir {folder.parent.parent}")
        return 0
    from featherweight.report import write

    print(f"wrote {write.write(run_folder.find(given.run))}")
    print("next: open it in a browser")
    return 0


def check(words: Sequence[str]) -> int:
    """Weigh recipes."""
    parser = _parser("check", "Weigh a recipe against a competition's limit. Exit code 3 when it is over.")
    parser.add_argument("recipe", help="a recipe's name, the path of a recipe file, or 'all'")
    _add_configuration(parser)
    given = parser.parse_args(words)
    if given.recipe != "all":
        workspace.find_config("recipes", given.recipe, also=["all"])

    from featherweight import budget, config, tables

    competition = config.load_competition(given.competition)
    if given.recipe == "all":
        recipes = {name: config.load_recipe(name, _overrides(given)) for name in workspace.config_names("recipes")}
        tables.weigh_ins(budget.weigh_all(recipes, competition))
        print(f"next: ./run.sh RECIPE --competition {given.competition}, with one that makes weight")
        return 0
    recipe = config.load_recipe(given.recipe, _overrides(given))
    weighed = budget.weigh(recipe, competition, Path(given.recipe).stem, cross_check=True)
    tables.weigh_in(weighed)
    weighed.refuse_if_over()
    print(f"next: ./run.sh {given.recipe} --competition {given.competition}")
    return 0


def fill(words: Sequence[str]) -> int:
    """Fill the budget."""
    parser = _parser("fill", "The members of a family of models that fill a parameter limit, as lines for a recipe.")
    parser.add_argument("family", help="wrn, cifar_resnet, efficientnet, mobilenet_v2, densenet, fastnet")
    parser.add_argument("--competition", default="digits", help="whose classes, images and limit")
    parser.add_argument("--limit", type=int, help="parameters (default: the competition's limit)")
    parser.add_argument("--max-macs", type=float, metavar="M", help="at most so many million multiply-adds an image")
    parser.add_argument("--count", type=int, default=10, help="how many to show (default: 10)")
    parser.add_argument("--write", metavar="NAME", help="write the best one as the recipe NAME")
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)

    import time

    from featherweight import config, solver, tables

    if given.family not in solver.SEARCHES:
        known = ", ".join(solver.SEARCHES)
        raise UserError(f"fill: no family '{given.family}'{nearest(given.family, solver.SEARCHES)}; there are {known}")
    began = time.monotonic()
    max_macs = given.max_macs and given.max_macs * 1e6
    found, counted = solver.fill(given.family, config.load_competition(given.competition), given.limit, max_macs)
    if not found:
        raise UserError(f"fill: no {given.family} is that small; raise --limit or --max-macs, or take another family")
    tables.members(found[: given.count], counted, time.monotonic() - began)
    if given.write:
        path = workspace.home() / "configs" / "recipes" / f"{given.write}.yaml"
        solver.write(found[0], given.write, path)
        print(f"wrote {path}\nnext: ./run.sh {given.write} --competition {given.competition}")
    else:
        print("next: paste a line into a recipe, or add --write NAME to this command for the first as a recipe")
    return 0


def models(words: Sequence[str]) -> int:
    """The families of models."""
    parser = _parser("models", "The families of models with their recipes, weighed; or the keys of one family.")
    parser.add_argument("family", nargs="?", help="show this family's keys")
    parser.add_argument("--competition", default="digits", help="a competition's name, or the path of its file")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        nargs="?",
        const=Path("models.png"),
        help="draw parameters against multiply-adds, as models.png or another file",
    )
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)

    from featherweight import anatomy, budget, config, tables
    from featherweight.models import MODELS

    if given.family:
        if given.family not in MODELS:
            known = ", ".join(MODELS)
            hint = nearest(given.family, MODELS)
            raise UserError(f"models: there is no family '{given.family}'{hint}; there are {known}")
        tables.family(anatomy.summary(given.family), anatomy.arguments(given.family))
        print("next: ./run.sh check RECIPE --set model.KEY=VALUE")
        return 0
    competition = config.load_competition(given.competition)
    recipes = {name: config.load_recipe(name) for name in workspace.config_names("recipes")}
    weighed = budget.weigh_all(recipes, competition)
    tables.families(anatomy.by_family(recipes, weighed), {family: anatomy.summary(family) for family in MODELS})
    if given.plot:
        anatomy.plot(weighed, given.plot)
        print(f"wrote {given.plot}")
    print("next: ./run.sh models FAMILY for its keys, ./run.sh fill FAMILY to fill the limit")
    return 0


def draw(words: Sequence[str]) -> int:
    """Draw a model."""
    parser = _parser("draw", "Draw a recipe's model: its stages as RECIPE.model.png, its graph as RECIPE.model.html.")
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    _add_configuration(parser)
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    given = parser.parse_args(words)
    workspace.find_config("recipes", given.recipe)

    from featherweight import anatomy, config

    recipe = config.load_recipe(given.recipe, _overrides(given))
    competition = config.load_competition(given.competition)
    name = Path(given.recipe).stem
    path = given.out / f"{name}.model.png"
    anatomy.draw(recipe, competition, name, path)
    print(f"wrote {path}")
    anatomy.graph(recipe, competition, path.with_suffix(".html"))
    print(f"wrote {path.with_suffix('.html')}")
    print(f"next: ./run.sh check {given.recipe} --competition {given.competition}")
    return 0


def runs(words: Sequence[str]) -> int:
    """The ledger."""
    parser = _parser("runs", "Every finished run of every competition, best holdout score first.")
    parser.add_argument("--competition", help="only this competition's")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with optimizer.lr>0.1",
    )
    parser.add_argument("--sort", metavar="KEY", help="largest first by a column or a recipe's key (default: holdout)")
    parser.add_argument("--ascending", action="store_true", help="with --sort: smallest first")
    parser.add_argument("--seeds", action="store_true", help="a line a recipe: mean and deviation over its seeds")
    parser.add_argument("--markdown", action="store_true", help="write the table into README.md, between its markers")
    parser.add_argument("--plot", action="store_true", help="draw holdout against public scores")
    given = parser.parse_args(words)

    from featherweight import standings, tables

    rows = standings.where(standings.table(), given.where)
    if given.competition:
        rows = rows[rows["competition"] == given.competition]
    rows = standings.ordered(rows, given.sort, given.ascending)
    if given.markdown:
        changed = standings.refresh(workspace.home() / "README.md", rows)
        print("README.md has a new table" if changed else "README.md is up to date")
    elif given.plot:
        tables.gaps(standings.gaps(rows), workspace.runs() / "holdout_against_public.png")
    elif given.seeds:
        tables.by_seed(standings.by_seed(rows))
    else:
        tables.ledger(rows, standings.differences(rows))
    print("next: ./run.sh RECIPE for another" if len(rows) else "no finished runs yet\nnext: ./run.sh wrn16_4")
    return 0


def score(words: Sequence[str]) -> int:
    """Score any CSV."""
    parser = _parser("score", "Check a submission and, where the answers are known, score it.")
    parser.add_argument("csv", type=Path, help="the submission")
    parser.add_argument("--competition", default="digits", help="a competition's name, or the path of its file")
    parser.add_argument("--solution", type=Path, help="the answers: a CSV as submitted, perhaps with a Usage column")
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)

    from featherweight import config, grading

    overrides = [] if given.solution is None else [f"submission.solution={json.dumps(str(given.solution.absolute()))}"]
    competition = config.load_competition(given.competition, overrides)
    print(grading.score_csv(given.csv, competition))
    submits = f"submit {given.csv} --competition {given.competition}"
    print(f"next: ./run.sh {submits if competition.kaggle else 'runs'}")
    return 0


def compare(words: Sequence[str]) -> int:
    """Whether one run is better."""
    parser = _parser("compare", "Compare finished runs on the images they hold out: curves, scores, paired tests.")
    parser.add_argument("run", nargs="+", help="names of runs, or their folders")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="the picture (default: compare.png)")
    given = parser.parse_args(words)

    from featherweight import comparison, tables

    rows, verdicts = comparison.compare(given.run, given.out)
    tables.comparison(rows)
    print("\n".join([*verdicts, f"wrote {given.out}"]))
    print(f"next: ./run.sh report {rows['run'].iloc[0]}")
    return 0


def logbook(words: Sequence[str]) -> int:
    """A section of the logbook."""
    parser = _parser("logbook", "Rerun every row of a section of the logbook; what is done is found done.")
    parser.add_argument("section", help="A, B, C or D")
    _add_configuration(parser)
    parser.add_argument("--scale", type=float, default=1.0, help="the part of each run's epochs and steps (default: 1)")
    parser.add_argument("--seeds", help="run every row for each of these seeds, and test the claims: 0-2, or 0,3,7")
    parser.add_argument("--rows", help="only these rows: a12,a13; or `claims`, those that the claims are about")
    parser.add_argument("--log", action="store_true", help="append it to submissions/LOG.md, its pictures to docs/")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    given = parser.parse_args(words)
    workspace.find_config("competitions", given.competition)

    from featherweight import config, logbook, series

    command = ["./run.sh", "logbook", *words]
    folder = logbook.rerun(
        given.section,
        Path(given.competition).stem,
        config.load_competition(given.competition),
        scale=given.scale,
        seeds=series.seeds(given.seeds) if given.seeds else [given.seed or 0],
        only=given.rows.split(",") if given.rows else [],
        overrides=_overrides(given),
        device=given.device,
        threads=given.threads,
        command=command,
    )
    print((folder / "table.md").read_text())
    print(f"wrote {folder / 'table.md'} and the pictures beside it")
    if given.log:
        print(f"wrote {logbook.log(folder, given.section, ' '.join(command))}")
    print(f"next: ./run.sh runs --competition {given.competition}")
    return 0


def search(words: Sequence[str]) -> int:
    """Keys tried by optuna."""
    parser = _parser("search", "Search a space of recipes: each candidate is weighed, trained briefly and scored.")
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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    given = parser.parse_args(words)
    workspace.find_config("spaces", given.space)
    if given.competition:
        workspace.find_config("competitions", given.competition)

    from featherweight.search import command

    try:
        print(f"next: {command.search(**vars(given))}")
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: {shlex.join(['./run.sh', 'search', *words])}", file=sys.stderr)
        return 130
    return 0


def soup(words: Sequence[str]) -> int:
    """One model out of several runs'."""
    parser = _parser("soup", "Average the weights of several runs of one model; predict, score and record the result.")
    parser.add_argument("run", nargs="+", help="names of finished runs, or their folders")
    parser.add_argument("--greedy", action="store_true", help="take in only what does not make the holdout worse")
    parser.add_argument("--name", help="the name of the run it makes (default: soup-competition-seed)")
    given = parser.parse_args(words)

    from featherweight import combining

    command = ["./run.sh", "soup", *words]
    return _finish(combining.soup(given.run, greedy=given.greedy, name=given.name, command=command), report=True)


def ensemble(words: Sequence[str]) -> int:
    """Several models as one."""
    parser = _parser("ensemble", "Average the probabilities of several runs, if together they make the weight.")
    parser.add_argument("run", nargs="+", help="names of finished runs, or their folders")
    parser.add_argument("--fit", action="store_true", help="weigh the members by their likelihood on the holdout")
    parser.add_argument("--name", default="ensemble", help="the name of the run it makes (default: ensemble)")
    given = parser.parse_args(words)

    from featherweight import combining, tables

    command = ["./run.sh", "ensemble", *words]
    tables.summary(*combining.ensemble(given.run, fit=given.fit, name=given.name, command=command))
    return 0


def schedule(words: Sequence[str]) -> int:
    """Draw the learning rate."""
    return _look(words, "schedule", "Draw a recipe's learning rate against the epoch.")


def augment(words: Sequence[str]) -> int:
    """Draw augmented images."""
    return _look(words, "augment", "Write a sheet of training images as a recipe augments and mixes them.")


def schema(words: Sequence[str]) -> int:
    """Schemas for editors."""
    parser = _parser(
        "schema", "Write recipe.schema.json and competition.schema.json, which editors check YAML files against."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=workspace.home() / "configs", help="where to (default: configs)"
    )
    given = parser.parse_args(words)

    from featherweight import atomic, config

    for kind in (config.Recipe, config.Competition):
        path = given.folder / f"{kind.__name__.lower()}.schema.json"
        atomic.write_text(path, config.json_schema(kind))
        print(f"wrote {path}")
    print("next: put `# yaml-language-server: $schema=../recipe.schema.json` on top of a recipe")
    return 0


def reference(words: Sequence[str]) -> int:
    """The page of all keys."""
    parser = _parser("reference", "Write docs/reference.md: every key of a recipe and of a competition.")
    parser.add_argument(
        "path", type=Path, nargs="?", default=workspace.home() / "docs" / "reference.md", help="where to"
    )
    given = parser.parse_args(words)

    from featherweight import atomic
    from featherweight import reference as book

    atomic.write_text(given.path, book.page())
    print(f"wrote {given.path}")
    print("next: ./run.sh check RECIPE --set KEY=VALUE")
    return 0


def download(words: Sequence[str]) -> int:
    """Data in."""
    parser = _parser("download", "Fetch a Kaggle competition's data into data/, unpacked and checked.")
    parser.add_argument("name", help="a competition here, or its name on Kaggle: the end of its address")
    given = parser.parse_args(words)

    from featherweight.kaggle import download as kaggle_download

    folder = kaggle_download.download(given.name)
    print(f"{folder} is ready")
    if given.name in workspace.config_names("competitions"):
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
    parser = _parser(
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
    _parser("scores", "Ask Kaggle for the scores of all submissions, and add what is new to the ledger.").parse_args(
        words
    )

    from featherweight import tables
    from featherweight.kaggle import loop as kaggle_loop

    rows = kaggle_loop.scores()
    tables.submissions(rows)
    print("next: ./run.sh runs --plot" if len(rows) else "no submissions yet\nnext: ./run.sh submit RUN")
    return 0


def leaderboard(words: Sequence[str]) -> int:
    """The others."""
    parser = _parser("leaderboard", "The first teams of a competition's public leaderboard.")
    parser.add_argument("name", help="a competition here, or its name on Kaggle")
    parser.add_argument("--top", type=int, default=20, help="how many teams (default: 20)")
    given = parser.parse_args(words)

    from featherweight import tables
    from featherweight.kaggle import loop as kaggle_loop

    tables.leaderboard(kaggle_loop.leaderboard(given.name, given.top))
    print("next: ./run.sh submit RUN")
    return 0


def doctor(words: Sequence[str]) -> int:
    """The environment."""
    _parser("doctor", "Look at the environment and say what is wrong. Exit code 2 when something is.").parse_args(words)

    from featherweight import doctor as surgery
    from featherweight import tables

    wrong = tables.findings(surgery.examine())
    print(
        f"{wrong} to mend\nnext: ./run.sh doctor, when it is" if wrong else "nothing is wrong\nnext: ./run.sh wrn16_4"
    )
    return 2 if wrong else 0


def completion(words: Sequence[str]) -> int:
    """Completion for shells."""
    parser = _parser("completion", "Print a completion script; to use it: source <(./run.sh completion bash)")
    parser.add_argument("shell", choices=["bash", "zsh"])
    given = parser.parse_args(words)

    from featherweight import completion as script

    print(script.write(given.shell, COMMANDS, train))
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "augment": augment,
    "check": check,
    "init": init,
    "inspect": inspect,
    "models": models,
    "draw": draw,
    "fill": fill,
    "compare": compare,
    "logbook": logbook,
    "search": search,
    "soup": soup,
    "ensemble": ensemble,
    "resume": resume,
    "report": report,
    "runs": runs,
    "score": score,
    "schedule": schedule,
    "schema": schema,
    "reference": reference,
    "download": download,
    "submit": submit,
    "scores": scores,
    "leaderboard": leaderboard,
    "doctor": doctor,
    "completion": completion,
}


def _look(words: Sequence[str], what: str, description: str) -> int:
    parser = _parser(what, description)
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    _add_configuration(parser)
    parser.add_argument("--out", type=Path, help=f"the picture to write (default: RECIPE.{what}.png)")
    given = parser.parse_args(words)
    workspace.find_config("recipes", given.recipe)

    from featherweight import config, looks

    path = given.out or Path(f"{Path(given.recipe).stem}.{what}.png")
    recipe = config.load_recipe(given.recipe, _overrides(given))
    competition = config.load_competition(given.competition)
    print(getattr(looks, what)(recipe, competition, path))
    print(f"wrote {path}")
    print(f"next: ./run.sh {given.recipe} --competition {given.competition}")
    return 0


def _finish(run: object, report: bool) -> int:
    from featherweight import job, run_folder, tables

    assert isinstance(run, run_folder.Run)
    try:
        result = job.run(run)
        if workers.rank() > 0:
            return 0
        if report:
            from featherweight.report import write

            write.write(run)
        tables.summary(run, result)
    except KeyboardInterrupt:
        if workers.rank() == 0:
            print(f"\nstopped; go on with: ./run.sh resume {run.name}", file=sys.stderr)
        return 130
    return 0


def _work(name: str) -> int:
    """The part of one of several processes in a run; whoever started them tells how it ended."""
    from featherweight import job, run_folder

    try:
        job.run(run_folder.find(name))
    except Lost as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _refuse_torchrun(words: Sequence[str]) -> None:
    """Raise UserError for what is not done by several processes together."""
    alone = [word for word in words if word.partition("=")[0] in ("--seeds", "--folds", "--submit")]
    if words[0] in COMMANDS and words[0] != "resume":
        alone = [words[0]]
    if alone:
        raise UserError(f"torchrun is for one recipe, or for resume; do {alone[0]} by ./run.sh (which takes --procs)")


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"./run.sh {name}".replace(" RECIPE", ""), description=description, allow_abbrev=False
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="leave out the HTML report, some seconds' work"
    )


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--competition", default="digits", help="a competition's name, or the path of its file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key: optimizer.lr=0.2"
    )
    parser.add_argument("--seed", type=int, help="the run's seed (default: the recipe's)")
    parser.add_argument("--views", help="test-time views: none, flip, flip+shift, train:8")


def _overrides(given: argparse.Namespace) -> list[str]:
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
