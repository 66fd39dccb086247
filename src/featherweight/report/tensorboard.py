"""A run's history as TensorBoard's event files, for those who keep their runs there."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas as pd

from featherweight.errors import UserError
from featherweight.runs import run_folder


def write(run: run_folder.Run) -> Path:
    """Write every column of the history, by step, into `runs/NAME/tensorboard`; returns that folder.

    Raises UserError without the package, for a run that has not yet ended an epoch, and for one made of others.
    """
    if run.members:
        raise UserError(f"{run.name} was not trained, so it has no history; it is made of {', '.join(run.members)}")
    stored = run.folder / "history.csv"
    if not stored.is_file():
        raise UserError(f"{run.name} has not ended an epoch yet: ./run.sh resume {run.name}")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs a package that is not installed: ./run.sh install tensorboard") from None
    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # a second writing would show every point twice
    with SummaryWriter(str(folder)) as writer:
        for row in pd.read_csv(stored).to_dict("records"):
            for key, value in row.items():
                if key not in ("epoch", "step") and not math.isnan(value):
                    part, _, what = str(key).partition("_")
                    writer.add_scalar(f"{what}/{part}" if what else part, value, int(row["step"]))
    return folder
