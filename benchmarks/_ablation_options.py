"""What `ablations.py` compares: changes of single keys of the base recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SMALL = {"train.batch_size": 64}
CROP = {"name": "crop", "padding": 0.0625, "fill": "reflect"}
BASE_AUGMENT = [CROP, "alternating_flip"]
AUGMENTATIONS: dict[str, Any] = {
    "no crop": ["alternating_flip"],
    "no mirror images": [CROP],
    "flip by chance": [CROP, "flip"],
    "random_resized_crop": [{"name": "random_resized_crop", "scale": [0.35, 1.0]}, "alternating_flip"],
} | {
    name: [*BASE_AUGMENT, name]
    for name in (
        "vertical_flip",
        "rotate",
        "affine",
        "jitter",
        "blur",
        "sharpness",
        "posterize",
        "solarize",
        "equalize",
        "autocontrast",
        "noise",
        "cutout",
        "erasing",
        "trivial_augment",
        "rand_augment",
        "auto_augment",
    )
}
LOSSES: dict[str, Any] = {
    "no label smoothing": "cross_entropy",
    "focal": {"name": "focal", "gamma": 2.0},
    "bce": {"name": "bce", "label_smoothing": 0.2, "sum_classes": True},
    "asymmetric": "asymmetric",
    "logit_adjusted": {"name": "logit_adjusted", "label_smoothing": 0.2},
}
OPTIMIZERS: dict[str, Any] = {  # in batches of 64, which suit them better than Muon's
    "sgd": {"name": "sgd", "lr": 0.0938, "momentum": 0.85, "weight_decay": 5e-4, "decoupled": True},
    "adam": {"name": "adam", "lr": 0.002},
    "adamw": {"name": "adamw", "lr": 0.002, "weight_decay": 0.05},
    "nadam": {"name": "nadam", "lr": 0.002},
    "rmsprop": {"name": "rmsprop", "lr": 0.001},
    "adagrad": {"name": "adagrad", "lr": 0.01},
}


@dataclass(frozen=True)
class Option:
    """One change: keys of the recipe, and the fraction of the epochs that takes as much time as the base."""

    name: str
    kind: str
    changes: dict[str, Any]
    length: float = 1.0


def options() -> list[Option]:
    """Return all options, the base first."""
    listed = [Option("base", "base", {})]
    listed += [Option(name, "augmentation", {"augment": augment}) for name, augment in AUGMENTATIONS.items()]
    listed += [Option(name, "mixing", {"mix": [name]}) for name in ("mixup", "cutmix")]
    listed += [Option(name, "loss", {"loss": loss}) for name, loss in LOSSES.items()]
    listed += [Option(name, "sampling", {"sampling": name}) for name in ("weighted", "oversample")]
    listed += [
        Option(name, "optimizer", {"optimizer": optimizer, "train.bias_rate": 64 if name == "sgd" else 1, **SMALL})
        for name, optimizer in OPTIMIZERS.items()
    ]
    listed += [
        Option("no bias rate", "optimizer", {"train.bias_rate": 1}),
        Option("sam", "optimizer", {"sam": {"rho": 0.05}}, 0.5),
        Option("asam", "optimizer", {"sam": {"rho": 0.5, "adaptive": True}}, 0.5),
        Option("no average", "average", {"averages": [], "ship": "raw"}),
        Option("ema", "average", {"averages": [{"name": "ema", "decay": 0.95}], "ship": "ema"}),
        Option("swa", "average", {"averages": [{"name": "swa", "start": 0.75}], "ship": "swa"}),
        Option("cosine", "schedule", {"schedule": "cosine"}),
        Option("linear", "schedule", {"schedule": "linear"}),
        Option("cyclic", "schedule", {"schedule": "cyclic"}),
        Option("constant", "schedule", {"schedule": "constant"}),
        Option("stepped", "schedule", {"schedule": "stepped"}),
        Option("silu", "network", {"model.activation": "silu"}),
        Option("relu", "network", {"model.activation": "relu"}),
        Option("dropout", "network", {"model.dropout": 0.2}),
        Option("growing images", "progressive", {"progressive": {"scales": [0.625, 0.75], "until": [0.4, 0.7]}}, 1.5),
    ]
    return listed
