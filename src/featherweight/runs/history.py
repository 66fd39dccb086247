"""The course of a run's training: `history.csv` in its folder, one row per epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.errors import UserError
from featherweight.runs.metadata import DAMAGED, RESTORE_OR_RESTART
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd

    from featherweight.runs.run import Run

FILE = "history.csv"
EVERY_EPOCH = {"epoch", "lr", "train_loss", "holdout_loss", "holdout_score"}  # columns of every trained run
REMEDY = f"{DAMAGED}; {RESTORE_OR_RESTART}, or delete it to continue without"


def read(run: Run) -> pd.DataFrame:
    """Return one row per epoch; for a soup or an ensemble one row with the seconds that its members were trained.

    Raises UserError for a run that has not trained an epoch yet.
    """
    import pandas as pd  # half a second to import

    path = run.folder / FILE
    if not path.exists():
        raise UserError(f"{run.name} has not trained an epoch yet: ./run.sh resume {run.name}")
    with explained(path, f"{REMEDY} the curves"):
        table = pd.read_csv(path).astype(float)
        if "seconds" not in table or not (run.members or set(table) >= EVERY_EPOCH):
            raise ValueError("columns of every epoch are missing")
        return table.astype({"epoch": int}) if "epoch" in table else table


def minutes(folder: Path) -> float:
    """Return the training time in minutes; 0 before the first epoch."""
    with explained(folder / FILE, f"{REMEDY} it"):
        return float(_last_row(folder).get("seconds", 0)) / 60


def epochs(folder: Path) -> int | None:
    """Return the number of epochs trained, the last of which `train.steps` may have cut short; None if the run was not
    trained.
    """
    with explained(folder / FILE, f"{REMEDY} it"):
        row = _last_row(folder)
        return int(row["epoch"]) if "epoch" in row else None


def _last_row(folder: Path) -> dict[str, str]:
    path = folder / FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) if len(lines) > 1 else {}
