"""What a temperature fitted to the holdout does to the log loss and the Brier score of images to predict.

    ./run.sh bench calibration COMPETITION ... --images 15000 --minutes 5 --seeds 0

Takes the runs that `bench auto` has trained with the same words, whose answers are known; one that is missing is
trained first. Prints and records the accuracy, the temperature, and both scores with it and without.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import _record
from auto import Task, adopt_orphans, one, prepare
from featherweight.evaluation.calibration import fit_temperature, temper
from featherweight.evaluation.probability_metrics import brier, log_loss
from featherweight.runs.run import Run


def scores(task: Task, minutes: float) -> dict[str, Any]:
    """Return the scores of the run of `auto` on the images to predict."""
    run = Run.find(f"{task.name}-auto-{minutes:g}m")
    data, classes = run.competition.load(), list(run.competition.classes)
    assert data.predict is not None
    assert data.train is not None
    number = {name: place for place, name in enumerate(classes)}
    by_id = {Path(file).stem: number[label] for file, label in task.answers.items()}
    answers = np.array([by_id[Path(id).stem] for id in data.predict.ids])
    labels = dict(zip(data.train.ids, data.train.labels, strict=True))
    temperature = fit_temperature(run.probs("holdout"), np.array([labels[id] for id in run.split.holdout]))
    probs = run.probs("predict")
    tempered = temper(probs, temperature)
    every = np.ones((1, len(answers)))
    both = [each.astype(np.float64) for each in (probs, tempered)]
    return {
        "accuracy": float((probs.argmax(1) == answers).mean()),
        "temperature": temperature,
        "log_loss": [float(log_loss(each, answers)(every)[0]) for each in both],
        "brier": [float(brier(each, answers)(every)[0]) for each in both],
    }


def main() -> None:
    """Score all, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    adopt_orphans()
    table: dict[str, Any] = {}
    for short in arguments.competitions:
        for seed in arguments.seeds:
            task = prepare(short, seed, arguments)
            one("auto", task, arguments)
            table[f"{short}, seed {seed}"] = row = scores(task, arguments.minutes)
            losses, briers = (" -> ".join(f"{score:.4f}" for score in row[key]) for key in ("log_loss", "brier"))
            print(
                f"{short}, seed {seed}: {row['accuracy']:.2%}, temperature {row['temperature']:.2f}, "
                f"log loss {losses}, Brier score {briers}",
                flush=True,
            )
    print(f"written: {_record.write('calibration', __doc__.splitlines()[0], {'table': table}).name}")


if __name__ == "__main__":
    main()
