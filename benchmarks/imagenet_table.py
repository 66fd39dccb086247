"""Write src/featherweight/models/imagenet.csv: what `./run.sh models --pretrained` lists.

The accuracies are timm's own (results/results-imagenet.csv in its repository, Apache 2.0). Parameters and multiply-adds
are counted here on the installed timm's networks, on torch's meta device: `parameters` is the number without the part
that depends on the number of classes, for RGB images, and `per_class` is what each class adds.

    ./run.sh bench imagenet_table results-imagenet.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from featherweight.models.pretrained_nets import TABLE
from featherweight.runtime.torch_internals import build_on_meta, on_meta_device

LARGEST = 16  # maximum, in million parameters with ImageNet's classes


def main() -> None:
    """Read timm's table, count, and write our table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="timm's results-imagenet.csv")
    arguments = parser.parse_args()
    best: dict[str, dict[str, str]] = {}
    with arguments.results.open(newline="") as file:
        for row in csv.DictReader(file):
            small = float(row["param_count"].replace(",", "")) <= LARGEST
            if small and float(row["top1"]) > float(best.get(row["model"], {"top1": "0"})["top1"]):
                best[row["model"]] = row
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "size", "top1", "parameters", "per_class", "macs"])
        for row in sorted(best.values(), key=lambda row: (-float(row["top1"]), row["model"])):
            try:
                writer.writerow(
                    [row["model"], row["img_size"], row["top1"], *counted(row["model"], int(row["img_size"]))]
                )
            except Exception as error:  # a name that this timm does not have, or a network without a classifier
                print(f"left out: {row['model']}: {error}", file=sys.stderr)


def counted(model: str, size: int) -> tuple[int, int, int]:
    """Return the parameters without classes, the parameters per class, and the multiply-adds with 10 classes."""
    import timm

    settings = timm.get_pretrained_cfg(model)
    arguments: dict[str, Any] = {"img_size": size} if settings and settings.fixed_input_size else {}
    few, more = (build_on_meta(partial(timm.create_model, model, num_classes=k, **arguments)) for k in (10, 11))
    few.requires_grad_(False)
    here, there = (sum(one.numel() for one in net.parameters()) for net in (few, more))
    with torch.no_grad(), on_meta_device(), FlopCounterMode(display=False) as counter:
        few(torch.empty(1, 3, size, size, device="meta"))
    return here - 10 * (there - here), there - here, counter.get_total_flops() // 2


if __name__ == "__main__":
    main()
