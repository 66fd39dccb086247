"""Measure the gain of each augmentation, mixing, loss, optimizer and averaging over a plain base: docs/ablations.md.

    ./run.sh bench ablations COMPETITION ... [--images 4000] [--epochs 10] [--seeds 0 1 2] [--only cutout sam]
        [--network fast]

The base is what `auto` trains from random weights: the narrow fast net, or with `--network` a wider one, with random
crops, mirroring if the competition allows it, and Muon, here in float32, so that all machines compute the same. Each
option changes one thing and trains for the same number of epochs. If its steps cost much more (SAM), it trains for
fewer epochs, so that the time is the same. Base and options are scored in the form that they ship, without test-time
views, on the same held-out images: 2,000, or a fifth of all images if that is fewer. Each seed draws new weights, a new
order of the images and a new subset, the same for the base and the options, so that the results are paired.

The gain is the mean over seeds. The standard deviation for its 95 % interval is pooled over all options of a data set,
because three seeds are too few to estimate it. The benchmark is resumable: every training is a row of
reports/bench/ablations.csv, and rows that are there are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch

import _record
from _ablation_options import Option, options
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.console import hushed
from featherweight.data.pack import LabelledPack
from featherweight.data.parts import divide
from featherweight.evaluation.inference import predict_probs
from featherweight.models import Classifier, build
from featherweight.runs.predictions import augmentations
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.runtime.rng import derive
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

HOLDOUT = 2000
WIDTHS = {"narrow": [32, 128, 128], "fast": [64, 256, 256], "wide": [128, 384, 384]}


@dataclass(frozen=True)
class Cell:
    """One training: the number of correct held-out images, and its seconds, including prediction."""

    dataset: str
    option: str
    seed: int
    images: int
    epochs: int
    holdout: int
    right: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """The key by which finished trainings are recognised."""
        return self.dataset, self.option, self.seed, self.epochs


def recipe_of(option: Option, images: int, arguments: argparse.Namespace, seed: int) -> Recipe:
    """Return the base recipe with the option's change."""
    epochs = max(1, round(arguments.epochs * option.length))
    words = [f"model.widths={WIDTHS[arguments.network]}", "train.precision=fp32"]
    words += ["train.batch_size=256", "optimizer.lr=0.24"]
    words += [f"train.epochs={epochs}", f"train.evaluate_every={epochs}"]
    words += [f"split.holdout={HOLDOUT if arguments.images else 0.2}", f"split.seed={seed}", f"seed={seed}"]
    words += [f"split.subset={images + HOLDOUT}"] if arguments.images else []
    if option.kind == "sampling":  # may make epochs longer
        words.append(f"train.steps={epochs * (images // 256)}")
    words += [f"{key}={json.dumps(value)}" for key, value in option.changes.items()]
    return load_recipe("fastnet94_muon", words)


def trained(
    recipe: Recipe, competition: Competition, trainer: Callable[..., Trainer] = Trainer
) -> tuple[Classifier, LabelledPack, int, Runtime]:
    """Train once; return the model, the held-out images, the number of training images, and the device."""
    device = make_runtime("auto", recipe.train.precision, 1)
    seen = competition.seen_by(recipe)
    with tempfile.TemporaryDirectory() as folder, hushed():
        images, holdout, _ = divide(recipe.split, seen, seen.load())
        torch.manual_seed(derive(recipe.seed, "init"))
        model = build(recipe.model, seen.shape)
        augment = augmentations(recipe, seen)
        trainer(recipe, model, Examples(images, holdout, len(seen.classes), augment), device, Path(folder)).fit()
    assert holdout is not None
    return model, holdout, len(images), device


def scored(recipe: Recipe, competition: Competition) -> tuple[int, int, int, float]:
    """Train once; return the numbers of training, held-out and correct held-out images, and the processor seconds."""
    competition.seen_by(recipe).load()  # packing is not counted
    began = time.process_time()
    model, holdout, images, device = trained(recipe, competition)
    probs = predict_probs([model], holdout.images, runtime=device, batch_size=recipe.predict.batch_size)
    right = int((probs.argmax(1) == holdout.labels).sum())
    return images, len(holdout), right, time.process_time() - began


def read(path: Path) -> dict[tuple[str, str, int, int], Cell]:
    """Read the finished trainings."""
    if not path.exists():
        return {}
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Cell)}
    with path.open(newline="") as file:
        cells = [Cell(**{key: kinds[key](value) for key, value in row.items()}) for row in csv.DictReader(file)]
    return {cell.key: cell for cell in cells}


def add(cell: Cell, path: Path) -> None:
    """Append a row."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow([field.name for field in fields(Cell)])
        writer.writerow(astuple(cell))


def gains(cells: Iterable[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    """Return, per data set and option, the mean gain in points, half of its 95 % interval, and the number of seeds."""
    import scipy.stats

    scores: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        scores[cell.dataset][cell.option][cell.seed] = 100 * cell.right / cell.holdout
    by_dataset: dict[str, dict[str, dict[str, float]]] = {}
    for dataset, by_option in scores.items():
        base = by_option["base"]
        pairs = {
            name: [score - base[seed] for seed, score in by_seed.items() if seed in base]
            for name, by_seed in by_option.items()
            if name != "base"
        }
        several = [values for values in pairs.values() if len(values) > 1]
        freedom = sum(len(values) - 1 for values in several)
        variance = sum((len(values) - 1) * statistics.variance(values) for values in several) / max(freedom, 1)
        half = float(scipy.stats.t.ppf(0.975, max(freedom, 1))) * variance**0.5 if freedom else float("nan")
        by_dataset[dataset] = {
            name: {"gain": statistics.mean(values), "half": half / len(values) ** 0.5, "seeds": len(values)}
            for name, values in pairs.items()
            if values
        }
        by_dataset[dataset]["base"] = {"gain": statistics.mean(base.values()), "half": 0.0, "seeds": len(base)}
    return by_dataset


def tables(by_dataset: dict[str, dict[str, dict[str, float]]]) -> list[list[str]]:
    """Return the tables of the docs page, one for each length of training and network."""
    alike: dict[str, dict[str, dict[str, dict[str, float]]]] = defaultdict(dict)
    for dataset, by_option in by_dataset.items():
        alike[dataset.partition(", ")[2]][dataset] = by_option
    return [table(each) for each in alike.values()]


def table(by_dataset: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return one row per option, one column per data set, and the number of seeds; no interval where there is none."""
    rows = [f"| kind | option | {' | '.join(by_dataset)} | seeds |", f"|---|---|{'---:|' * (len(by_dataset) + 1)}"]
    bases = [f"{by_option['base']['gain']:.1f} %" for by_option in by_dataset.values()]
    rows.append(f"| base | | {' | '.join(bases)} | |")
    for option in options()[1:]:
        cells = [by_option.get(option.name) for by_option in by_dataset.values()]
        if any(cells):
            shown = [f"{one['gain']:+.1f}{_interval(one['half'])}" if one else "" for one in cells]
            seeds = min(one["seeds"] for one in cells if one)
            rows.append(f"| {option.kind} | {option.name} | {' | '.join(shown)} | {seeds} |")
    return rows


def _interval(half: float) -> str:
    return "" if math.isnan(half) else f" ± {half:.1f}"


def main() -> None:
    """Train what is missing, seed by seed, then print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competitions", nargs="+")
    parser.add_argument("--images", type=int, help="train on a subset of this many images")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--network", choices=WIDTHS, default="narrow", help="the width of the fast net")
    parser.add_argument("--only", nargs="+", choices=[option.name for option in options()])
    arguments = parser.parse_args()
    path = _record.RESULTS / "ablations.csv"
    done = read(path)
    for seed in arguments.seeds:
        for option in options():
            if arguments.only and option.name not in (*arguments.only, "base"):
                continue
            for name in arguments.competitions:
                competition = load_competition(name)
                images = arguments.images or round(0.8 * len(competition.load().train))
                recipe = recipe_of(option, images, arguments, seed)
                base = recipe_of(options()[0], images, arguments, seed)
                alike = augmentations(recipe, competition) == augmentations(base, competition)
                if option.kind == "augmentation" and alike:
                    continue  # mirroring, which the competition forbids
                dataset = f"{Path(name).stem}, {arguments.epochs} epochs"
                dataset += f", {arguments.network} net" if arguments.network != "narrow" else ""
                key = dataset, option.name, seed, recipe.train.epochs
                if key not in done:
                    count, held, right, seconds = scored(recipe, competition)
                    cell = Cell(dataset, option.name, seed, count, recipe.train.epochs, held, right, round(seconds, 1))
                    add(cell, path)
                    done[key] = cell
                    print(f"{dataset} {option.name} seed {seed}: {right / held:.2%}, {seconds:.0f} s", flush=True)
    measured = gains(done.values())
    print("\n\n".join("\n".join(each) for each in tables(measured)))
    print(f"written: {_record.write('ablations', __doc__.splitlines()[0], {'gains': measured}).name}")


if __name__ == "__main__":
    main()
