"""Compare a distilled student to its teachers, their ensemble, and the same network trained on labels only.

    ./run.sh bench student COMPETITION ... [--teachers folds] [--count 5] [--recipe fastnet94] [--epochs 12]
        [--longer 3] [--held 0.25] [--seeds 0 1 2] [--set KEY=VALUE ...]

For each competition and seed, the teachers are trained, as cross-validation folds or as runs with different seeds. Then
`./run.sh student` trains one network of the same recipe on them, for `--longer` times as many epochs, and the same
network is trained for as many epochs on the labels only. All predict the same images, which none was trained on, in the
form that they ship. The ensemble is the mean of the teachers' probabilities, even if together they are over the limit.

Prints and records, in points over the seeds, the difference between the student and the ensemble, the best teacher
(chosen on the same images, so its score is biased upwards), and the network trained on labels only. Finished runs are
not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _record
from _runs import trained
from featherweight.config import load_competition
from featherweight.runs.run import Run


@dataclass(frozen=True)
class Scores:
    """The accuracies in percent with one seed, and the seconds of each kind of training."""

    seed: int
    teachers: list[float]
    ensemble: float
    student: float
    labels: float
    seconds: dict[str, float]


def changes(arguments: argparse.Namespace) -> list[str]:
    """Return the settings that all runs share."""
    return [word for setting in arguments.set for word in ("--set", setting)]


def lasting(epochs: int) -> list[str]:
    """Return the settings for this many epochs, with one evaluation on the holdout at the end."""
    return ["--set", f"train.epochs={epochs}", "--set", f"train.evaluate_every={epochs}"]


def teachers(stem: str, competition: str, seed: int, arguments: argparse.Namespace) -> list[Run]:
    """Train the teachers of one seed."""
    words = [arguments.recipe, "--competition", competition, "--threads", "1", *lasting(arguments.epochs)]
    words += ["--set", f"split.seed={seed}"]
    if arguments.teachers == "folds":
        words += [
            "--set",
            f"split.test={arguments.held}",
            "--set",
            f"split.folds={arguments.count}",
            "--seed",
            str(seed),
        ]
        own = [["--set", f"split.fold={fold}"] for fold in range(arguments.count)]
    else:
        words += ["--set", f"split.holdout={arguments.held}"]
        own = [["--seed", str(100 * seed + index)] for index in range(1, arguments.count + 1)]
    words += changes(arguments)
    return [trained(f"{stem}-teacher{index}", *words, *more) for index, more in enumerate(own)]


def right(probs: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Return the accuracy in percent of probabilities [N, K] for labels int64 [N]."""
    return 100 * float((probs.argmax(1) == labels).mean())


def measured(competition: str, seed: int, arguments: argparse.Namespace) -> Scores:
    """Train the missing runs of one seed, and score all."""
    stem = f"bench-student-{Path(competition).stem}-{arguments.teachers}{arguments.count}-{arguments.epochs}-s{seed}"
    taught_by = teachers(stem, competition, seed, arguments)
    longer = lasting(arguments.longer * arguments.epochs)
    names = [run.name for run in taught_by]
    words = ["student", *names, "--seed", str(seed), *longer, *changes(arguments)]
    student = trained(f"{stem}-student{arguments.longer}", *words)
    words = [arguments.recipe, "--competition", competition, "--threads", "1", "--seed", str(seed), *longer]
    words += ["--set", f"split.holdout={arguments.held}", "--set", f"split.seed={seed}", *changes(arguments)]
    labels = trained(f"{stem}-labels{arguments.longer}", *words)

    part = "test" if arguments.teachers == "folds" else "holdout"
    ids = getattr(taught_by[0].split, part)
    for run, of in [*((run, part) for run in taught_by), (student, "holdout"), (labels, "holdout")]:
        if getattr(run.split, of) != ids:
            raise SystemExit(f"{run.name} was scored on other images than {names[0]}")
    pack = student.competition.load().train
    label_of = dict(zip(pack.ids, pack.labels, strict=True))
    truth = np.array([label_of[id] for id in ids], dtype=np.int64)
    probs = [run.probs(part) for run in taught_by]
    return Scores(
        seed,
        [right(each, truth) for each in probs],
        right(np.mean(probs, axis=0), truth),
        right(student.probs("holdout"), truth),
        right(labels.probs("holdout"), truth),
        {
            "teachers": round(60 * sum(run.minutes for run in taught_by), 1),
            "student": round(60 * student.minutes, 1),
            "labels": round(60 * labels.minutes, 1),
        },
    )


def differences(scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Return the student's score minus each of the others, in points."""
    return {
        "ensemble": _record.paired([one.student - one.ensemble for one in scores]),
        "best teacher": _record.paired([one.student - max(one.teachers) for one in scores]),
        "labels alone": _record.paired([one.student - one.labels for one in scores]),
    }


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--teachers", choices=("folds", "seeds"), default="folds")
    parser.add_argument("--count", type=int, default=5, help="number of teachers")
    parser.add_argument("--recipe", default="fastnet94")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each teacher")
    parser.add_argument(
        "--longer", type=int, default=3, help="the student trains for this many times the teacher's epochs"
    )
    parser.add_argument("--held", type=float, default=0.25, help="fraction of the images that all are scored on")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe of all runs")
    arguments = parser.parse_args()
    for name in arguments.competitions:
        load_competition(name)
    table: dict[str, Any] = {}
    for name in arguments.competitions:
        scores = []
        for seed in arguments.seeds:
            scores.append(one := measured(name, seed, arguments))
            print(
                f"{name} seed {seed}: teachers {min(one.teachers):.2f} to {max(one.teachers):.2f} %, ensemble "
                f"{one.ensemble:.2f} %, student {one.student:.2f} %, labels only {one.labels:.2f} %",
                flush=True,
            )
        compared = differences(scores)
        for other, difference in compared.items():
            print(f"  {name}: student minus {other}, points: {_record.in_words(difference)}", flush=True)
        table[Path(name).stem] = {"scores": [asdict(one) for one in scores], "student_minus": compared}
    name = f"student-{arguments.teachers}-{'+'.join(table)}"
    what = __doc__.splitlines()[0]
    print(f"written: {_record.write(name, what, {'settings': vars(arguments), 'table': table}).name}")


if __name__ == "__main__":
    main()
