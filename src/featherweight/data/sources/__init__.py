"""Where a competition's images come from: each source lists what there is, decodes nothing, and keeps the answers
behind a function that only the scorer calls.

A source takes the data folder and its own keyword-only arguments: the keys of a competition's `source` section.
"""

from __future__ import annotations

from collections.abc import Callable

from featherweight.data.listing import Listing, Samples, Stored
from featherweight.data.sources.arrays import arrays
from featherweight.data.sources.digits import digits
from featherweight.data.sources.file_names import file_names
from featherweight.data.sources.folders import folders
from featherweight.data.sources.idx import idx
from featherweight.data.sources.pickles import pickles
from featherweight.data.sources.pixels import pixels
from featherweight.data.sources.table import table
from featherweight.data.sources.torchvision import torchvision

__all__ = ["SOURCES", "Listing", "Samples", "Stored"]

SOURCES: dict[str, Callable[..., Listing]] = {
    "digits": digits,
    "folders": folders,
    "file_names": file_names,
    "table": table,
    "pixels": pixels,
    "arrays": arrays,
    "pickles": pickles,
    "idx": idx,
    "torchvision": torchvision,
}
