"""Train the learning curves that `auto` plans with: networks of several widths, for several numbers of epochs.

    ./run.sh bench curves COMPETITION --dataset NAME [--images 4000] --networks narrow fast --epochs 5 15 45
    ./run.sh bench curves COMPETITION --dataset NAME --networks lite0 --size 128 --epochs 0 2 6

The second command fine-tunes published weights, as a plan does; choose `lite0_bold` if the images are unlike those that
the weights were trained on (docs/auto.md). 0 epochs means a linear probe only.

Every training is an ordinary run, so an interrupted one continues and a finished one is not repeated. Each adds a row
to src/featherweight/planning/curves.csv: the numbers that describe the task, the network's parameters, the epochs, and
the error on held-out images (a fifth of the data or, for a subset, 3,000 other images). `--dataset` names the data set;
rows with other image sizes or subsets of the same data use the same name, because the plan learns from the differences
within a data set.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from featherweight import atomic
from featherweight.config import Competition, load_competition, load_recipe
from featherweight.planning.candidates import FAST, SMALL_SIDE, STORED_SIDE, batches
from featherweight.planning.curves import NUMBERS, PUBLISHED, TABLE
from featherweight.planning.dataset_facts import side_of
from featherweight.runs import pipeline
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

NETWORKS = {
    "narrow": (FAST, ["model.widths=[32,128,128]"]),
    "fast": (FAST, []),
    "wide": (FAST, ["model.widths=[128,384,384]"]),
    "lite0": ("finetune_lite0", []),
    "lite0_bold": ("finetune_lite0_bold", []),
}
HOLDOUT = 3000  # number of held-out images when training on a subset
COLUMNS = ("dataset", *NUMBERS, "error", "network")


def settings(network: str, epochs: int, images: int, arguments: argparse.Namespace, small: bool) -> list[str]:
    """Return the settings for the recipe: batch size and learning rate as in a plan, and the holdout."""
    chosen = [*NETWORKS[network][1], f"train.epochs={epochs}", f"train.evaluate_every={max(1, epochs)}"]
    if arguments.size is not None:
        chosen += [f"image.size={arguments.size}"]
    if network in PUBLISHED:
        store = "null" if small else str(STORED_SIDE)
        chosen.append("model.stem=4")
        chosen += [f"image.store={store}", *(["warmup=null", "averages=[]", "ship=raw"] if epochs == 0 else [])]
    chosen += [f"split.holdout={HOLDOUT if arguments.images else 0.2}"]
    if arguments.images:
        chosen.append(f"split.subset={images + HOLDOUT}")
    if NETWORKS[network][0] == FAST:
        chosen += batches(images, images * epochs)
    return chosen


def trained(name: str, recipe_name: str, changes: list[str], competition_name: str, competition: Competition) -> Run:
    """Start, continue or just find the run of that name; return it finished."""
    if not Run.exists(name):
        recipe = load_recipe(recipe_name, changes)
        RunRequest(recipe_name, recipe, competition_name, competition, ["./run.sh", "bench", "curves"]).start(name)
    run = Run.find(name)
    if not run.is_finished:
        pipeline.execute(run)
    return run


def main() -> None:
    """Train all networks that are asked for; each adds one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competition")
    parser.add_argument("--dataset", required=True, help="the name of the data in the table")
    parser.add_argument("--images", type=int, help="train on a subset of this many images")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--epochs", nargs="+", type=int, default=[5, 15, 45])
    parser.add_argument("--size", type=int, help="the side of the images in pixels (default: the competition's)")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table that rows are added to")
    arguments = parser.parse_args()
    competition = load_competition(arguments.competition)
    data = competition.load()
    images = arguments.images or round(0.8 * len(data.train))
    with arguments.out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for network in arguments.networks:
        for epochs in arguments.epochs:
            name = f"curve-{Path(arguments.competition).stem}-{images}-{network}-{epochs}"
            name += f"-{arguments.size}px" if arguments.size else ""
            changes = settings(network, epochs, images, arguments, competition.image.size <= SMALL_SIDE)
            run = trained(name, NETWORKS[network][0], changes, Path(arguments.competition).stem, competition)
            shape, score = run.competition.shape, run.result.holdout
            row = {
                "dataset": arguments.dataset,
                "images": len(run.split.train),
                "classes": shape.num_classes,
                "size": shape.size,
                "side": side_of(competition),
                "channels": shape.channels,
                "parameters": run.result.parameters,
                "epochs": epochs,
                "holdout": score.count,
                "error": f"{1 - score.value:.5f}",
                "network": network,
            }
            rows = [old for old in rows if any(str(row[key]) != old[key] for key in COLUMNS if key != "error")] + [
                {key: str(value) for key, value in row.items()}
            ]
            lines = [",".join(COLUMNS), *(",".join(one[key] for key in COLUMNS) for one in rows)]
            atomic.write_text(arguments.out, "\n".join(lines) + "\n")
            print(f"{name}: {score}", flush=True)


if __name__ == "__main__":
    main()
