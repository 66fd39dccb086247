"""Test which networks `trim` can cut.

Each network of a list, with random weights and 10 classes at 32 px, is cut to 5 million parameters, or to nine tenths
of its size if that is less. The result must be within the limit, give predictions and take a training step.

    ./run.sh install torch-pruning
    ./run.sh bench trimmable                 # about half a minute of processor time per network; --only NAME ...
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import _record
from featherweight.budget import count_parameters, trim
from featherweight.config import Competition, load_competition
from featherweight.errors import UserError
from featherweight.models import FAMILIES, build

NETWORKS = (
    *(
        f"timm/{name}"
        for name in (
            "tiny_vit_5m_224", "edgenext_small", "mobilenetv3_large_100", "mobilenetv4_conv_small", "resnet18",
            "efficientnet_b0", "efficientnet_b1", "efficientnet_lite0", "regnety_004", "mobilevit_s", "ghostnet_100",
            "convnext_atto", "mobilenetv2_100", "repvit_m0_9", "fastvit_t8", "efficientformerv2_s0",
            "deit_tiny_patch16_224", "efficientvit_b0", "lcnet_100", "rexnet_100", "mixnet_s", "mobileone_s0",
            "starnet_s1", "levit_128s", "mambaout_femto", "xcit_nano_12_p16_224", "pit_ti_224", "inception_next_atto",
        )
    ),
    *(
        f"torchvision/{name}"
        for name in (
            "resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
            "shufflenet_v2_x1_0", "squeezenet1_1", "mnasnet1_0", "regnet_y_400mf", "densenet121", "googlenet",
        )
    ),
)  # fmt: skip
WHAT = "networks cut to a limit by ./run.sh trim, random weights"
MOST, SHARE = 5_000_000, 0.9


def cut(name: str, competition: Competition) -> dict[str, Any]:
    """Return the parameters before, the limit and the parameters after; or the message of the refusal."""
    began = time.process_time()
    spec = FAMILIES.validate(name)
    torch.manual_seed(0)
    before = count_parameters(spec, competition)
    row: dict[str, Any] = {"before": before, "limit": min(MOST, int(SHARE * before))}
    try:
        trimmed = trim.trim(build(spec, competition.shape), spec, competition, row["limit"])
        weighed = count_parameters(trimmed.spec, competition)
        row |= {
            "after": trimmed.after,
            "weighs in": weighed == trimmed.after <= row["limit"],
            "trains": trains(trimmed),
        }
    except UserError as error:
        row["refused"] = str(error)
    return {**row, "seconds": round(time.process_time() - began, 1)}


def trains(trimmed: trim.Trimmed) -> bool:
    """True if the network takes a training step with finite gradients for all parameters."""
    images = torch.rand(4, 3, 32, 32)
    net = trimmed.net.train()
    cross_entropy(net(images), torch.arange(4)).backward()
    slopes = [one.grad for one in net.parameters() if one.grad is not None]
    return bool(slopes) and all(torch.isfinite(slope).all() for slope in slopes)


def main() -> None:
    """Cut, print, write the record; networks that are in today's record are skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=NETWORKS, help="networks, for example timm/resnet18"
    )
    names = parser.parse_args().only
    warnings.filterwarnings("ignore")
    competition = load_competition("cifar10")
    rows: dict[str, dict[str, Any]] = _record.earlier("trimmable").get("networks", {})
    path = None
    for name in names:
        if name not in rows:
            rows[name] = cut(name, competition)
            path = _record.write("trimmable", WHAT, {"networks": rows})
        print(line(name, rows[name]), flush=True)
    print(f"wrote {path}" if path else "all of these are in today's record already")


def line(name: str, row: dict[str, Any]) -> str:
    """Return a row of the table in docs/weighing.md."""
    if "refused" in row:
        return f"| {name} | {row['before']:,} | {row['limit']:,} | {row['refused']} |"
    broken = "" if row["weighs in"] and row["trains"] else " (BROKEN)"
    return f"| {name} | {row['before']:,} | {row['limit']:,} | {row['after']:,}{broken} |"


if __name__ == "__main__":
    main()
