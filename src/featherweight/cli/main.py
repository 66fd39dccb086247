"""The command line: which command is meant, and how it ended. The commands are in `commands`, one function each."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from featherweight import __version__, paths
from featherweight.cli.after import compare, ensemble, logbook, report, runs, score, search, soup
from featherweight.cli.arguments import parser_of
from featherweight.cli.before import (
    augment,
    check,
    doctor,
    draw,
    fill,
    init,
    inspect,
    models,
    reference,
    schedule,
    schema,
)
from featherweight.cli.on_kaggle import download, leaderboard, scores, submit
from featherweight.cli.running import resume, train
from featherweight.errors import Lost, Told, UserError
from featherweight.runtime import launcher

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
              install PACKAGE    a package that is asked for, into the environment

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
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
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
        if launcher.inside():
            _refuse_torchrun(words)
        if words[0] in COMMANDS:
            return COMMANDS[words[0]](words[1:])
        if words[0].startswith("-"):
            raise UserError(f"unknown option {words[0]}; ./run.sh --help shows what there is")
        paths.find_config("recipes", words[0], also=COMMANDS)
        return train(words)
    except Told as error:
        return error.exit_code
    except UserError as error:
        if launcher.rank() == 0 or isinstance(error, Lost):
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f" {error.filename}" if error.filename else ""
        if launcher.rank() == 0:
            print(
                f"error: cannot read or write{where}: {error.strerror}; what was there before is untouched",
                file=sys.stderr,
            )
        return 2
    except KeyboardInterrupt:
        if not launcher.inside():
            print("stopped", file=sys.stderr)
        return 130


def completion(words: Sequence[str]) -> int:
    """Completion for shells."""
    parser = parser_of("completion", "Print a completion script; to use it: source <(./run.sh completion bash)")
    parser.add_argument("shell", choices=["bash", "zsh"])
    given = parser.parse_args(words)

    from featherweight.cli import completion as script

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


def _refuse_torchrun(words: Sequence[str]) -> None:
    """Raise UserError for what is not done by several processes together."""
    alone = [word for word in words if word.partition("=")[0] in ("--seeds", "--folds", "--submit")]
    if words[0] in COMMANDS and words[0] != "resume":
        alone = [words[0]]
    if alone:
        raise UserError(f"torchrun is for one recipe, or for resume; do {alone[0]} by ./run.sh (which takes --procs)")
