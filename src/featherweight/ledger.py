"""The ledger: one row a finished run in `submissions/ledger.csv`, append-only, safe when several runs end at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from filelock import FileLock

from featherweight import atomic, workspace
from featherweight.errors import UserError

COLUMNS = (
    "date",
    "run",
    "recipe",
    "competition",
    "seed",
    "parameters",
    "limit",
    "macs",
    "epochs",
    "metric",
    "holdout",
    "holdout_low",
    "holdout_high",
    "test",
    "test_low",
    "test_high",
    "minutes",
    "device",
    "commit",
    "csv_sha256",
    "weights_sha256",
    "command",
)


def path() -> Path:
    """Where the ledger is."""
    return workspace.submissions() / "ledger.csv"


def record(row: Mapping[str, object]) -> None:
    """Append a row, unless this very run (its name and start) is recorded: a resumed run never stands there twice."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        before = read()
        if not before.empty and ((before["run"] == row["run"]) & (before["date"] == row["date"])).any():
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not target.exists():
            writer.writeheader()
        writer.writerow(row)
        # Rewritten whole rather than appended to: a kill in the middle of an append would leave half a row.
        atomic.write_bytes(target, (target.read_bytes() if target.exists() else b"") + text.getvalue().encode())


def read() -> pd.DataFrame:
    """All rows, everything as text except the numbers. Raises UserError for a file that is not a ledger."""
    try:
        table = pd.read_csv(
            path(), dtype=dict.fromkeys(("run", "recipe", "competition", "commit", "command", "date"), str)
        )
    except FileNotFoundError:
        return pd.DataFrame(columns=list(COLUMNS))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path()}: this is not a ledger ({error})") from None
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path()}: row 1: expected the columns {','.join(COLUMNS)}")
    return table
