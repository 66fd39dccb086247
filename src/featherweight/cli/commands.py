"""The table of commands, from which help, dispatch and completion are made.

A command is a row of the table and a module with `add_arguments(parser)` and `run(arguments)`, which returns the exit
code. The module's docstring is the description in the command's own help. Large packages are imported inside `run`, so
that help and mistyped names do not wait for torch.
"""

from __future__ import annotations

import importlib
import shlex
from dataclasses import dataclass
from types import ModuleType

from featherweight import paths


@dataclass(frozen=True)
class Command:
    """A command: its name, its group in the help, its line there, and its module below `cli`."""

    name: str
    group: str
    summary: str
    module: str

    def load(self) -> ModuleType:
        """Import and return the module with `add_arguments` and `run`."""
        return importlib.import_module(f"featherweight.cli.{self.module}")


GROUPS = {
    "train": "Train",
    "data": "Data",
    "models": "Models",
    "runs": "Runs",
    "kaggle": "Kaggle",
    "tool": "The tool",
}
TRAIN = "train"  # the command of `./run.sh RECIPE`, whose name may be left out
COMMANDS = {
    command.name: command
    for command in (
        Command(
            TRAIN,
            "train",
            "train a RECIPE, score it, write a checked CSV; the word train may be omitted",
            "train.train",
        ),
        Command("auto", "train", "choose a network for the given --minutes and train it", "train.auto"),
        Command("resume", "train", "continue a stopped RUN; the result has the same bytes", "train.resume"),
        Command("search", "train", "search values of recipe keys (optuna) within the limit", "train.search"),
        Command("logbook", "train", "rerun a section of the logbook and test its claims", "train.logbook"),
        Command("init", "data", "write a competition file for a FOLDER or archive of images", "data.init"),
        Command("inspect", "data", "check a competition's data: duplicates, leakage, imbalance, shift", "data.inspect"),
        Command("check", "models", "count the parameters of a RECIPE, or of all, against the limit", "models.check"),
        Command("models", "models", "list recipes and their purpose, or the keys of a FAMILY", "models.models"),
        Command(
            "weigh",
            "models",
            "count the parameters of any model: files, folders, timm/NAME, FILE.py:NAME",
            "models.weigh",
        ),
        Command("fill", "models", "list the largest models of a FAMILY within the limit", "models.fill"),
        Command("trim", "models", "remove channels of a network until it is within a limit", "models.trim"),
        Command("draw", "models", "draw the stages and the graph of a RECIPE's model", "models.draw"),
        Command("schedule", "models", "draw a RECIPE's learning rate over the epochs", "models.schedule"),
        Command("augment", "models", "show training images as a RECIPE augments them", "models.augment"),
        Command("runs", "runs", "list your runs, the best first, and how to continue stopped ones", "runs.runs"),
        Command("compare", "runs", "test whether one RUN is better than another", "runs.compare"),
        Command("report", "runs", "write the HTML report of a RUN again", "runs.report"),
        Command("score", "runs", "check a CSV, and score it if the answers are known", "runs.score"),
        Command("publish", "tool", "maintainers: add a RUN to docs/results.csv and its tables", "runs.publish"),
        Command(
            "predict", "runs", "classify images with a finished RUN: a folder, files, a CSV of paths", "runs.predict"
        ),
        Command("soup", "runs", "average the weights of several RUNs into one model", "runs.soup"),
        Command("student", "train", "distil several finished RUNs into one model", "train.student"),
        Command(
            "ensemble", "runs", "average the predictions of several RUNs; their parameters are summed", "runs.ensemble"
        ),
        Command("bundle", "runs", "pack a RUN into one zip for another person", "runs.bundle"),
        Command("load", "runs", "unpack a bundled run here, after verifying its checksums", "runs.load"),
        Command("export", "runs", "export the model of a RUN: onnx, one Python file, ...", "runs.export"),
        Command("download", "kaggle", "download a competition's data and describe it", "kaggle.download"),
        Command("kernel", "kaggle", "make the notebook of a RUN or RECIPE for a code competition", "kaggle.kernel"),
        Command("submit", "kaggle", "check the CSV of a RUN, or any CSV, and upload it", "kaggle.submit"),
        Command("scores", "kaggle", "download the scores of all submissions into the ledger", "kaggle.scores"),
        Command("leaderboard", "kaggle", "show the top teams of a competition", "kaggle.leaderboard"),
        Command("doctor", "tool", "check the environment: what is installed, missing or wrong", "tool.doctor"),
        Command("completion", "tool", "print a completion script for bash or zsh", "tool.completion"),
        Command("schema", "tool", "write JSON schemas of recipes and competitions, for editors", "tool.schema"),
        Command("reference", "tool", "write docs/reference.md: every key, its range and its default", "tool.reference"),
    )
}
# Commands of run.sh itself, with their lines in the help.
SHELL = {
    "test": "run the test suite",
    "bench": "run a benchmark of benchmarks/ by name; results go to reports/bench/",
    "install": "install an optional package into the environment",
}

EXAMPLES = """\
Examples
  ./run.sh wrn16_4                                      digits: about a minute, no download
  ./run.sh init flowers.zip --kaggle NAME               then, for that competition:
  ./run.sh auto --competition flowers --minutes 20
  ./run.sh wrn16_4 --competition flowers --set optimizer.lr=0.2 --seed 1 --name hotter
  ./run.sh submit hotter --wait

Help for one command: ./run.sh check --help
Exit codes: 0 success, 1 a bug, 2 something for you to fix, 3 over the limit, 4 Kaggle or the network (try later)"""


def typed(name: str, *words: str) -> str:
    """Return the command with these arguments as users type it: words with spaces are quoted."""
    return shlex.join(["./run.sh", "RECIPE" if name == TRAIN else name, *words])


def help_text() -> str:
    """Return the output of `./run.sh --help`."""
    lines = ["featherweight: the best image classifier under a parameter limit.", ""]
    lines += ["  ./run.sh RECIPE [options]", "  ./run.sh COMMAND [options]", ""]
    for group, title in GROUPS.items():
        rows = [(command.name, command.summary) for command in COMMANDS.values() if command.group == group]
        rows += SHELL.items() if group == "tool" and not paths.INSTALLED else ()
        lines += [title, *(f"  {name:<12}{summary}" for name, summary in rows), ""]
    return "\n".join([*lines, EXAMPLES])
