"""What was read of a competition's data, image by image, as a CSV to check a layout with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from featherweight import atomic, paths
from featherweight.config import load_competition
from featherweight.data.listing import Listing, Samples, Stored
from featherweight.data.parts import group_names

HEADER = ("id", "path", "class", "group", "part")


def write(name: str, path: Path) -> int:
    """Write id, path, class, group and part of every image of the competition `name`; return the number of images.

    Paths are relative to the competition's folder (else the data folder), `FILE:ROW` counted from 1 for images in a
    table or an array. Several classes are separated by spaces. Parts are train, holdout (a validation part that came
    with the data) and predict, whose classes are blank. Only images in tables and arrays are decoded.
    """
    competition = load_competition(name)
    listing: Listing = competition.source(paths.data())
    root = paths.data() / competition.folder if competition.folder else paths.data()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    count = 0
    for part, stored in (("train", listing.train), ("holdout", listing.valid), ("predict", listing.predict)):
        if stored is None:
            continue
        samples = stored.read() if isinstance(stored, Stored) else stored
        groups = group_names(competition, samples.ids, samples.groups) if part == "train" else None
        where = places(samples, stored, root)
        for row, id in enumerate(samples.ids):
            label = samples.labels[row] if samples.labels is not None else ""
            named = label if isinstance(label, str) else " ".join(label)
            writer.writerow([id, where[row], named, groups[row] if groups else "", part])
            count += 1
    atomic.write_text(path, text.getvalue())
    return count


def places(samples: Samples, stored: Samples | Stored, root: Path) -> Sequence[str]:
    """Return the path of each image, relative to `root` if it is below it."""
    if isinstance(samples.images, list):
        addresses: Sequence[str] = samples.images
    elif samples.places is not None:
        addresses = samples.places
    else:
        first = stored.files[0] if isinstance(stored, Stored) and stored.files else ""
        addresses = [f"{first}:{row}" for row in range(1, len(samples.ids) + 1)]
    start = f"{root.resolve()}/"
    plain = f"{root}/"
    return [place.removeprefix(plain) if place.startswith(plain) else _resolved(place, start) for place in addresses]


def _resolved(place: str, start: str) -> str:
    file, colon, row = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
    return str(Path(file).resolve()).removeprefix(start) + colon + row
