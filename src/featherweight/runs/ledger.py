"""The ledger, `submissions/ledger.csv`: one row per finished run and one per submission event; rows are only appended.

It is the user's and not kept in git; `docs/results.csv`, which this repository publishes, has the same format. Rows are
never changed, so ledgers of several people are merged by keeping all lines, and a row that a merge repeats counts once.
A run's row holds its whole recipe, so runs can be compared after their folders are gone. A submission has a row when it
is about to be sent and one for everything learned of it since; the last one is valid.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from featherweight import atomic, paths
from featherweight.errors import UserError
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd

RUN, SUBMISSION = "run", "submission"
COLUMNS = (
    "event",
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
    "holdout_images",
    "test",
    "test_low",
    "test_high",
    "test_images",
    "predict",
    "predict_low",
    "predict_high",
    "predict_images",
    "public_low",
    "public_high",
    "private_low",
    "private_high",
    "minutes",
    "device",
    "commit",
    "csv_sha256",
    "weights_sha256",
    "command",
    "settings",
    "kaggle",
    "tag",
    "reference",
    "status",
    "public",
    "private",
    "message",
)
NUMBERS = frozenset(COLUMNS[COLUMNS.index("seed") : COLUMNS.index("minutes") + 1]) - {"metric"} | {"public", "private"}
Row = dict[str, str]
KNOWN = {"SENDING": 0, "LOST": 1, "REFUSED": 2, "PENDING": 3}  # states of a submission, in order, before it is scored
REMEDY = "restore it from a copy, or move it away to begin a new one"
WHOLE = ("seed", "parameters", "limit", "macs", "epochs")


def path() -> Path:
    """Return the path of the ledger."""
    return paths.submissions() / "ledger.csv"


def record(row: Mapping[str, object]) -> None:
    """Append a run, unless this very run (its name and start) is recorded with the submission that it has."""
    fresh = {**{key: _text(value) for key, value in row.items()}, "event": RUN}
    same = ("run", "date", "csv_sha256")
    _append(fresh, lambda rows: any(all(old[key] == fresh.get(key, "") for key in same) for old in rows))


def record_submission(row: Mapping[str, object]) -> None:
    """Append what is now known of the submission `row["tag"]`, unless its last row has the same content."""
    fresh = {**{key: _text(value) for key, value in row.items()}, "event": SUBMISSION}

    def known(rows: Sequence[Row]) -> bool:
        last = next((old for old in reversed(rows) if old["tag"] == fresh["tag"]), None)
        return last is not None and all(last[key] == value for key, value in fresh.items() if key != "date")

    _append(fresh, known)


def read(file: Path | None = None) -> pd.DataFrame:
    """Return all runs of the ledger, or of another `file`, in the order in which they ended. Of a run that has
    predicted other images since, only its last row is returned.

    Raises UserError for a file that is not a ledger.
    """
    rows = [row for row in _rows(file) if row["event"] == RUN]
    last = {(row["run"], row["date"]): row for row in rows}
    table = _table(row for row in rows if last[row["run"], row["date"]] is row)
    for column in WHOLE:
        if table[column].notna().all():
            table[column] = table[column].astype("int64")
    return table


def refuse_damaged() -> None:
    """Raise UserError for a ledger that cannot be read, to which nothing could be added at the end of a run."""
    _rows()


def checksums(file: Path | None = None) -> set[str]:
    """Return the checksums of all CSVs that runs have written."""
    return {row["csv_sha256"] for row in _rows(file) if row["event"] == RUN} - {""}


def has(run: str, started: str) -> bool:
    """True if the run of that name and start is recorded."""
    return any((row["event"], row["run"], row["date"]) == (RUN, run, started) for row in _rows())


def sha256(path: Path) -> str:
    """Return a file's checksum as the ledger stores it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def maker(submission: Path) -> dict[str, Any]:
    """Return the latest run that wrote this very submission; empty if none did."""
    checksum = sha256(submission)
    makers = records(_table(row for row in _rows() if row["event"] == RUN and row["csv_sha256"] == checksum))
    return makers[-1] if makers else {}


def submissions(file: Path | None = None) -> pd.DataFrame:
    """Return all submissions, each in its last state, with the date of its first row."""
    # By state before date: a clock that was set back dates the answer before the upload.
    events = sorted(
        (row for row in _rows(file) if row["event"] == SUBMISSION),
        key=lambda row: (KNOWN.get(row["status"], len(KNOWN)), row["date"]),
    )
    dates: dict[str, str] = {}
    for row in events:
        dates.setdefault(row["tag"], row["date"])
    last = {row["tag"]: row for row in events}
    return _table({**row, "date": dates[tag]} for tag, row in last.items())


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, without empty fields."""
    import pandas as pd

    keys, columns = rows.columns, [rows[key].tolist() for key in rows.columns]
    return [
        {str(key): value for key, value in zip(keys, row, strict=True) if pd.notna(value)}
        for row in zip(*columns, strict=True)
    ]


def settings(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as one line of JSON with one key per setting, without the seed, which is a column of its own."""
    flat = {key: value for key, value in _flatten("", recipe) if key != "seed"}
    return json.dumps(flat, sort_keys=True, separators=(",", ":"))


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        yield prefix, "+".join(item["name"] for item in value)
        seen: dict[str, int] = {}
        for item in value:
            seen[item["name"]] = count = seen.get(item["name"], 0) + 1
            label = item["name"] if count == 1 else f"{item['name']}#{count}"
            yield from _flatten(f"{prefix}.{label}", {key: inner for key, inner in item.items() if key != "name"})
    else:
        yield prefix, value


def rows_of(run: str) -> list[Row]:
    """Return the latest run of that name and every event of the submissions of its CSV, as they are in the ledger."""
    rows = _rows()
    latest = next((row for row in reversed(rows) if row["event"] == RUN and row["run"] == run), None)
    if latest is None:
        return []
    sent = [row for row in rows if row["event"] == SUBMISSION and row["csv_sha256"] == latest["csv_sha256"] != ""]
    return [latest, *sent]


def copy(rows: Iterable[Row], file: Path) -> None:
    """Append rows of this ledger to another file of its format, each once."""
    for row in rows:
        _append(row, lambda old, row=row: row in old, file)  # type: ignore[misc]


def _append(row: Row, known: Callable[[Sequence[Row]], bool], file: Path | None = None) -> None:
    """Append `row` unless it is `known` among the rows of its kind; one writer at a time."""
    target = file or path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        rows = _rows(file)
        if known([old for old in rows if old["event"] == row["event"]]):
            return
        # Written again as a whole: a kill in the middle of an append would leave half a row.
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
        atomic.write_text(target, text.getvalue())


def _rows(file: Path | None = None) -> list[Row]:
    """Return every row once, as text. Columns that a ledger of an earlier version lacks are empty."""
    file = file or path()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: this is not a ledger (not UTF-8 text, byte {error.start}); {REMEDY}") from None
    with explained(file, f"this is not a ledger; {REMEDY}"):
        lines = list(csv.reader(io.StringIO(text, newline="")))
    header = lines[0] if lines else []
    if not {"date", "run"} <= set(header) or not set(header) <= set(COLUMNS):
        raise UserError(
            f"{file}: row 1: this is not a ledger; expected the columns {','.join(COLUMNS[:6])},...; {REMEDY}"
        )
    unlike: dict[tuple[str, ...], Row] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) != len(header):
            conflict = " (a merge conflict?)" if line[0][:7] in ("<<<<<<<", "=======", ">>>>>>>") else ""
            raise UserError(f"{file}: row {number}: expected {len(header)} fields, got {len(line)}{conflict}")
        row = {**dict.fromkeys(COLUMNS, ""), **dict(zip(header, line, strict=True))}
        row["event"] = row["event"] or RUN
        with explained(file, f"row {number}: its settings are damaged; {REMEDY}"):
            settings = json.loads(row["settings"] or "{}")
            if not isinstance(settings, dict):
                raise ValueError("expected an object")
            if "predict" not in header:
                row |= _parts_renamed(row, settings)
        unlike.setdefault(tuple(row.values()), row)
    return list(unlike.values())


def _parts_renamed(row: Row, settings: Mapping[str, Any]) -> Row:
    """Return the changed columns of an older row, whose scores on the part to predict are in the columns for the test
    part; a run with a test part of its own had that part's scores there.
    """
    moved = {f"predict{end}": row[f"test{end}"] for end in ("", "_low", "_high", "_images")}
    if settings.get("split.test") is not None:
        return {"predict_images": moved["predict_images"], "test_images": ""}
    return {**moved, **{key.replace("predict", "test"): "" for key in moved}}


def _table(rows: Iterable[Row]) -> pd.DataFrame:
    import pandas as pd  # half a second, which runs are started without

    rows = list(rows)
    cells = pd.Series([row[column] for column in COLUMNS if column in NUMBERS for row in rows], dtype=object)
    numbers = pd.to_numeric(cells.replace("", None), errors="coerce").astype("float64").to_numpy()
    by_column = iter(numbers.reshape(len(NUMBERS), len(rows)))
    return pd.DataFrame(
        {
            column: next(by_column) if column in NUMBERS else pd.Series([row[column] for row in rows], dtype=str)
            for column in COLUMNS
        }
    )


def _text(value: object) -> str:
    """Return a field as it is stored: without line breaks, and empty for None."""
    if isinstance(value, float):
        return repr(value)
    return "" if value is None else " ".join(str(value).splitlines())
