"""A run's history as TensorBoard event files."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from featherweight.errors import UserError
from featherweight.runs.run import Run


def write(run: Run) -> Path:
    """Write every column of the history, by step, into `runs/NAME/tensorboard`; return that folder.

    Raises UserError without the package, for a run that has not trained an epoch yet, and for one made of other runs.
    """
    if run.members:
        raise UserError(f"{run.name} was not trained, so it has no history; it is made of {', '.join(run.members)}")
    history = run.history
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs a package that is not installed: ./run.sh install tensorboard") from None
    folder = run.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # else a second writing would show every point twice
    with SummaryWriter(str(folder)) as writer:
        for row in history.to_dict("records"):
            for key, value in row.items():
                if key not in ("epoch", "step") and not math.isnan(value):
                    part, _, what = str(key).partition("_")
                    writer.add_scalar(f"{what}/{part}" if what else part, value, int(row["step"]))
    return folder
