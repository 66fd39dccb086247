"""Tables whose rows are images, read as pandas reads them; their pixels as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data import csv_file, json_records
from featherweight.data.pixel_range import Spread, spread, together
from featherweight.data.scientific import package
from featherweight.errors import UserError
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    import pandas as pd


def frame(path: Path, text: Sequence[str], only: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table of images; `text` are its columns that are not pixels, and `only` limits the columns read.

    Raises UserError for a file that is no such table.
    """
    import pandas as pd  # half a second, which commands that read no pixels do without

    ending = path.suffix.lower()
    if ending in (".json", ".jsonl"):
        return pd.DataFrame(json_records.records(path))
    if ending == ".parquet":
        reader = package("pyarrow.parquet", f"{path}: a Parquet file")
        with explained(path, "not a Parquet file"):
            table: pd.DataFrame = reader.read_table(path, columns=only).to_pandas()
        return table
    start = csv_file.beginning(path, 5)
    if start is None:
        start = csv_file.read(path)  # it reports what is wrong
    for name in text:
        start.column(name)
    with path.open("rb") as stream:
        delimiter = csv_file.sniff(stream.read(1 << 16).decode("utf-8-sig", "ignore"))
    how: dict[str, Any] = {"sep": delimiter, "encoding": "utf-8-sig"}
    if start.numbers and start.numbers[0] == 1:  # there are no headings
        how |= {"header": None, "names": start.header}
    try:
        kinds = {name: str for name in pd.read_csv(path, nrows=0, **how).columns if name.strip() in text}
        if only is not None:
            how["usecols"] = lambda name: name.strip() in only
        # "None" and "NA" may be classes: an empty field alone says nothing.
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""], **how)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not a table of pixels ({error})") from None
    table.columns = table.columns.str.strip()
    return table


def spread_of(path: Path, pixels: Sequence[str], way: str) -> Spread:
    """Return the range of all pixels in a table, stored in `columns` or as text in one column. Raises UserError."""
    import pandas as pd

    table = frame(path, [], only=pixels)
    if way == "values":
        return spread(parted(table, pixels[0], path), str(path))
    parts = [spread(pd.to_numeric(table[name], errors="coerce").dropna().to_numpy(), str(path)) for name in table]
    return together(parts)


def parted(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.float32]:
    """Return the pixels in a text column, float32 [N, P]. Raises UserError with the row of a faulty value."""
    rows = []
    for row, text in enumerate(table[column], start=2):
        try:
            rows.append(np.array(str(text).replace(",", " ").split(), dtype=np.float32))
        except ValueError:
            raise UserError(f"{path}: row {row}: {column}: expected numbers, got {str(text)[:40]!r}") from None
        if len(rows[-1]) != len(rows[0]):
            raise UserError(f"{path}: row {row}: {column}: {len(rows[-1]):,} pixels, others {len(rows[0]):,}")
    return np.stack(rows)
