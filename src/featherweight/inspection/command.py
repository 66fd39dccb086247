"""The command `inspect`: a competition's data described in the terminal and on one HTML page."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np

from featherweight import atomic, paths
from featherweight.config import Competition, Split, load_competition
from featherweight.console import say
from featherweight.data.csv_file import examples
from featherweight.data.image import opened
from featherweight.data.listing import Listing, Samples
from featherweight.data.pack import Data
from featherweight.data.parts import divide
from featherweight.inspection import checks, data_page
from featherweight.runs import wrong_labels
from featherweight.untrusted_files import open_regular

LOOKED_AT = 2000  # files whose headers are read


def inspect(name: str) -> Path:
    """Print the findings and their advice; return the page with the pictures.

    If a split would separate copies and no pattern in the ids groups them, the grouping is written beside the data, as
    a CSV for the competition's `groups`.
    """
    competition = load_competition(name)
    data = competition.load()
    counts = f"{len(data.train):,} training images of {len(competition.classes)} classes"
    summary = [f"{counts}, {len(data.predict) if data.predict else 0:,} to predict", *_files(competition)]
    holdout = set(divide(Split(grouped=False), competition, data)[1].ids)  # separated, to show what grouping prevents
    held_out = np.array([id in holdout for id in data.train.ids])
    came_divided = data.valid is not None
    if data.valid is not None:  # the holdout of every run
        held_out = np.repeat([False, True], [len(data.train), len(data.valid)])
        data = Data(checks.join(data.train, data.valid), data.predict)
    result = checks.inspect(data, competition.classes, held_out, ungrouped=not came_divided)
    stem = Path(name).stem
    summary += _grouping(result, stem) + _wrong_labels(stem)
    page = paths.reports() / f"{stem}-data.html"
    data_page.write(page, competition.title, result, data.train, summary)
    for line in [*summary, *data_page.lines(result)]:
        say(line)
    return page


def _files(competition: Competition) -> list[str]:
    """Return in words the sizes and kinds of the files' images."""
    listing: Listing = competition.source(paths.data())
    if not isinstance(listing.train, Samples) or not isinstance(listing.train.images, list):
        return []
    files = listing.train.images
    sizes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for place in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int)):
        try:
            with open_regular(files[place]) as stream, opened(stream) as picture:
                sizes[f"{picture.width}x{picture.height}"] += 1
                kinds[f"{picture.format} {picture.mode}"] += 1
        except Exception:  # damaged pictures raise any kind
            kinds["unreadable"] += 1
    listed = [examples([f"{name} ({count:,})" for name, count in counts.most_common()]) for counts in (sizes, kinds)]
    return [f"of {kinds.total():,} files looked at: {listed[0]}; {listed[1]}"]


def _wrong_labels(stem: str) -> list[str]:
    """Return in words the labels that look wrong to the latest run."""
    latest = wrong_labels.latest(stem)
    if latest is None:
        return []
    run, noise = latest
    named = examples([f"{id} is {given}, and looks like {seen}" for id, given, seen in noise.suspects])
    return [f"of the labels that {run.name} held out {noise}: {named} (all: {paths.shown(run.folder)}/labels.json)"]


def _grouping(result: checks.Inspection, stem: str) -> list[str]:
    if not result.groups:
        return []
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "group"), *result.groups.items()])
    name, what = f"{stem}-groups.csv", "the grouping that keeps copies together: groups:"
    try:
        atomic.write_text(paths.data() / name, text.getvalue())
    except OSError:  # read-only, as /kaggle/input; the key may be an absolute path
        path = (paths.reports() / name).absolute()
        atomic.write_text(path, text.getvalue())
        return [f"{what} {path}"]
    return [f"{what} {name}"]
