"""The table of commands: help, dispatch and completion follow from it.

A command is a row here and a module with `add_arguments(parser)` and `run(arguments)`, which returns the exit code. The
module's docstring is the description in the command's own help. What is heavy is imported inside `run`: help and
mistyped names must not wait for torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from featherweight import paths


@dataclass(frozen=True)
class Command:
    """A command: its name, the group that help lists it in, a line for that list, and its module below `cli`."""

    name: str
    group: str
    summary: str
    module: str

    def load(self) -> ModuleType:
        """The module with `add_arguments` and `run`."""
        return importlib.import_module(f"featherweight.cli.{self.module}")


GROUPS = {
    "train": "Train",
    "data": "Data",
    "models": "Models",
    "runs": "Runs",
    "kaggle": "Kaggle",
    "tool": "The tool",
}
TRAIN = "train"  # the command of `./run.sh RECIPE`, which needs no name
COMMANDS = {
    command.name: command
    for command in (
        Command(
            TRAIN,
            "train",
            "train a RECIPE, score it, write a checked CSV; the word train may be left out",
            "train.train",
        ),
        Command("auto", "train", "choose and train a network for some --minutes", "train.auto"),
        Command("resume", "train", "continue a stopped RUN; it ends in the same bytes", "train.resume"),
        Command("search", "train", "try values of recipe keys (optuna), never over the limit", "train.search"),
        Command("logbook", "train", "rerun a section of the logbook and test its claims", "train.logbook"),
        Command("init", "data", "write a competition file for a FOLDER or archive of images", "data.init"),
        Command("inspect", "data", "check a competition's data: duplicates, leakage, imbalance, shift", "data.inspect"),
        Command("check", "models", "weigh a RECIPE, or all recipes, against the limit", "models.check"),
        Command("models", "models", "list recipes and what they are for; the keys of one FAMILY", "models.models"),
        Command(
            "weigh",
            "models",
            "count the parameters of any model: files, folders, timm/NAME, FILE.py:NAME",
            "models.weigh",
        ),
        Command("fill", "models", "list the largest models of a FAMILY within the limit", "models.fill"),
        Command("trim", "models", "prune channels of a network until it is within a limit", "models.trim"),
        Command("draw", "models", "draw the stages and the graph of a RECIPE's model", "models.draw"),
        Command("schedule", "models", "draw a RECIPE's learning rate over the epochs", "models.schedule"),
        Command("augment", "models", "show training images as a RECIPE augments them", "models.augment"),
        Command("runs", "runs", "list your runs, the best first, and how to continue stopped ones", "runs.runs"),
        Command("compare", "runs", "test whether one RUN is better than another", "runs.compare"),
        Command("report", "runs", "write the HTML report of a RUN again", "runs.report"),
        Command("score", "runs", "check a CSV and score it where the answers are known", "runs.score"),
        Command("publish", "tool", "maintainers: add a RUN to docs/results.csv and its tables", "runs.publish"),
        Command(
            "predict", "runs", "classify images with a finished RUN: a folder, files, a CSV of paths", "runs.predict"
        ),
        Command("soup", "runs", "average the weights of several RUNs into one model", "runs.soup"),
        Command("student", "train", "distil several finished RUNs into one model", "train.student"),
        Command(
            "ensemble", "runs", "average the predictions of several RUNs, whose sizes are added up", "runs.ensemble"
        ),
        Command("bundle", "runs", "put a RUN into one zip for somebody else", "runs.bundle"),
        Command("load", "runs", "put a bundled run into this checkout, checksums verified", "runs.load"),
        Command(
            "export", "runs", "write the model of a RUN for another runtime: onnx, one Python file, ...", "runs.export"
        ),
        Command("download", "kaggle", "fetch a competition's data and describe it", "kaggle.download"),
        Command("kernel", "kaggle", "make the notebook of a RUN or RECIPE for a code competition", "kaggle.kernel"),
        Command("submit", "kaggle", "check the CSV of a RUN, or any CSV, and upload it", "kaggle.submit"),
        Command("scores", "kaggle", "fetch the scores of all submissions into the ledger", "kaggle.scores"),
        Command("leaderboard", "kaggle", "show the first teams of a competition", "kaggle.leaderboard"),
        Command("doctor", "tool", "check the environment: what is installed, missing or wrong", "tool.doctor"),
        Command("completion", "tool", "print a completion script for bash or zsh", "tool.completion"),
        Command("schema", "tool", "write JSON schemas of recipes and competitions, for editors", "tool.schema"),
        Command("reference", "tool", "write docs/reference.md: every key, its range and its default", "tool.reference"),
    )
}
# run.sh answers these itself, since they need no featherweight: name and line for the help.
SHELL = {
    "test": "run the test suite",
    "bench": "run a benchmark of benchmarks/ by its name; its result goes to reports/bench/",
    "install": "install an optional package into the environment",
}

EXAMPLES = """\
Examples
  ./run.sh wrn16_4                                      digits: about a minute, no download
  ./run.sh wrn16_4 --competition cifar10 --set train.epochs=2 --set split.subset=10000
  ./run.sh wrn16_4 --set optimizer.lr=0.2 --seed 1 --name hotter
  ./run.sh submit hotter --wait

Each command explains itself: ./run.sh check --help
Exit codes: 0 done, 2 something for you to fix, 3 over the limit, 4 Kaggle or the network (try again later), 1 a bug"""


def typed(name: str) -> str:
    """The command as users type it, before its arguments."""
    return "./run.sh RECIPE" if name == TRAIN else f"./run.sh {name}"


def help_text() -> str:
    """What `./run.sh --help` prints."""
    lines = ["featherweight: the best image classifier under a parameter limit.", ""]
    lines += ["  ./run.sh RECIPE [options]", "  ./run.sh COMMAND [options]", ""]
    for group, title in GROUPS.items():
        rows = [(command.name, command.summary) for command in COMMANDS.values() if command.group == group]
        rows += SHELL.items() if group == "tool" and not paths.INSTALLED else ()
        lines += [title, *(f"  {name:<12}{summary}" for name, summary in rows), ""]
    return "\n".join([*lines, EXAMPLES])
