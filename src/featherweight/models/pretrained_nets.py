"""The pretrained networks of timm that fit a limit, with their published accuracy."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

# Written by ./run.sh bench imagenet_table from timm's results on ImageNet-1k's validation set (top-1, one crop) as of
# commit aa4b5850 of its repository, 2026-08-08; Apache 2.0.
TABLE = Path(__file__).parent / "imagenet.csv"


@dataclass(frozen=True)
class PretrainedNet:
    """A network of timm, with its published top-1 accuracy on ImageNet, in percent, at this image size, in pixels.

    `parameters`: with RGB input and without a classifier; `per_class`: those that each class adds. `macs`:
    multiply-adds for one image of that size with 10 classes.
    """

    model: str
    size: int
    top1: float
    parameters: int
    per_class: int
    macs: int

    def counted(self, classes: int) -> int:
        """Return the parameters with a classifier for this many classes."""
        return self.parameters + classes * self.per_class


def fitting(limit: int, classes: int) -> list[PretrainedNet]:
    """Return the networks within a limit of parameters at this number of classes, the most accurate first."""
    with TABLE.open(newline="") as file:
        nets = [
            PretrainedNet(
                row["model"],
                int(row["size"]),
                float(row["top1"]),
                *map(int, (row["parameters"], row["per_class"], row["macs"])),
            )
            for row in csv.DictReader(file)
        ]
    within = [net for net in nets if net.counted(classes) <= limit]
    return sorted(within, key=lambda net: -net.top1)
