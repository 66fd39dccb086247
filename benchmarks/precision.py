"""What bf16 costs in accuracy and gains in time, for training and for prediction apart.

    ./run.sh bench precision COMPETITION ... [--recipe fastnet94_muon] [--held 0.25] [--seeds 0 1 2] [--threads 1]
        [--set KEY=VALUE ...]

For each competition and seed, the recipe is trained twice on the same images, in float32 and in bf16. Both networks
then predict the same held-out images, with the recipe's views, in float32 and in bf16. All numbers are differences
within a seed.

Prints and records the accuracies, the fraction of answers that bf16 changes, the seconds of training by the clock, and
the processor time of prediction. Needs a processor that is faster in bf16. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _record
from _runs import trained
from featherweight.config import load_competition
from featherweight.evaluation.inference import predict_probs
from featherweight.runs import division, predictions
from featherweight.runs.run import Run
from featherweight.runtime.device import LEAST_GAIN, bf16_gain, make_runtime

PRECISIONS = ("fp32", "bf16")
WARMING = 256  # images that are predicted before the clock starts


@dataclass(frozen=True)
class Outcome:
    """One seed: by the precision of training, then of prediction, the accuracy in percent and the seconds predicting.

    `changed` is the percentage of images whose predicted class differs between the two precisions of prediction.
    """

    seed: int
    images: int
    accuracy: dict[str, dict[str, float]]
    changed: dict[str, float]
    training_seconds: dict[str, float]
    prediction_seconds: dict[str, float]


def predicted(run: Run, precision: str, threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Return the classes of the holdout as predicted in this precision and the true ones, int64 [N], and the seconds of
    processor time.
    """
    part = division.split(run, run.competition.load())[1]
    runtime, model = make_runtime("cpu", precision, threads), run.load_model()
    options = predictions.inference_options(run.recipe, run.competition)
    predict_probs([model], part.images[:WARMING], runtime=runtime, **options)
    began = time.process_time()
    probs = predict_probs([model], part.images, runtime=runtime, **options)
    return probs.argmax(1), part.labels, time.process_time() - began


def measured(competition: str, seed: int, arguments: argparse.Namespace) -> Outcome:
    """Train what is missing with one seed, and predict in both precisions."""
    accuracy: dict[str, dict[str, float]] = {}
    changed, training, predicting = {}, {}, dict.fromkeys(PRECISIONS, 0.0)
    for precision in PRECISIONS:
        words = [arguments.recipe, "--competition", competition, "--threads", str(arguments.threads)]
        words += ["--seed", str(seed), "--set", f"split.seed={seed}", "--set", f"split.holdout={arguments.held}"]
        words += ["--set", f"train.precision={precision}"]
        words += [word for setting in arguments.set for word in ("--set", setting)]
        settings = hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
        name = f"bench-precision-{Path(competition).stem}-{Path(arguments.recipe).stem}-{precision}-s{seed}-{settings}"
        run = trained(name, *words)
        answers = {}
        for again in PRECISIONS:
            answers[again], truth, seconds = predicted(run, again, arguments.threads)
            predicting[again] += seconds / 2
        accuracy[precision] = {again: 100 * float((found == truth).mean()) for again, found in answers.items()}
        changed[precision] = 100 * float((answers["fp32"] != answers["bf16"]).mean())
        training[precision] = 60 * run.minutes
    return Outcome(seed, len(truth), accuracy, changed, training, predicting)


def differences(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """Return what bf16 changes, in points of accuracy: in training, in prediction, in both."""
    of = [one.accuracy for one in outcomes]
    return {
        "training in bf16": _record.paired([a["bf16"]["fp32"] - a["fp32"]["fp32"] for a in of]),
        "prediction in bf16": _record.paired(
            [(a["fp32"]["bf16"] - a["fp32"]["fp32"] + a["bf16"]["bf16"] - a["bf16"]["fp32"]) / 2 for a in of]
        ),
        "both in bf16": _record.paired([a["bf16"]["bf16"] - a["fp32"]["fp32"] for a in of]),
    }


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--recipe", default="fastnet94_muon")
    parser.add_argument(
        "--held", type=float, default=0.25, help="fraction of the images that are held out and predicted"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe of all runs")
    arguments = parser.parse_args()
    if bf16_gain() <= LEAST_GAIN:
        raise SystemExit("this processor is not faster in bf16 than in float32: ./run.sh doctor")
    for name in arguments.competitions:
        load_competition(name)
    table: dict[str, Any] = {}
    for name in arguments.competitions:
        outcomes = []
        for seed in arguments.seeds:
            outcomes.append(one := measured(name, seed, arguments))
            print(
                f"{name} seed {seed}: trained and predicted in float32 {one.accuracy['fp32']['fp32']:.2f} %, in bf16 "
                f"{one.accuracy['bf16']['bf16']:.2f} %; training {one.training_seconds['fp32']:.0f} and "
                f"{one.training_seconds['bf16']:.0f} s by the clock, "
                f"prediction {one.prediction_seconds['fp32']:.1f} and "
                f"{one.prediction_seconds['bf16']:.1f} s of processor time",
                flush=True,
            )
        compared = differences(outcomes)
        for what, difference in compared.items():
            print(f"  {name}: {what}, points: {_record.in_words(difference)}", flush=True)
        table[Path(name).stem] = {"outcomes": [asdict(one) for one in outcomes], "gain_of_bf16": compared}
    record = {"settings": vars(arguments), "table": table}
    path = _record.write(f"precision-{Path(arguments.recipe).stem}-{'+'.join(table)}", __doc__.splitlines()[0], record)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
