"""Classify images with a finished run: print the most probable classes of each image; with several or ordered classes
also the decision by the run's thresholds or cut points.

WHAT is a folder of images, files, a CSV with a column of paths, or a competition (its images to predict). Images that
cannot be read are listed and left out.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from featherweight import paths
from featherweight.cli.arguments import FILES, add_run, add_views, completed, output_file, views_setting
from featherweight.cli.commands import typed
from featherweight.errors import UserError, count_of, printable

NAMED = 5  # unreadable pictures that are listed on the screen

Best = list[tuple[str, float]]
Decided = str | tuple[str, ...] | None  # a class, a set of classes, or None if the most probable class is the answer


class Write(Protocol):
    """Write one picture's name, its best classes and its decision."""

    def __call__(self, name: str, best: Best, decided: Decided, /) -> None: ...  # noqa: D102


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `predict`."""
    add_run(parser)
    text = "a folder, files, a CSV of paths, or a competition's name"
    completed(parser.add_argument("what", metavar="WHAT", nargs="+", help=text), FILES)
    text = "output file, .csv or .json (default: the screen)"
    parser.add_argument("--out", type=output_file, metavar="FILE", help=text)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="number of classes per image (default: 5)")
    add_views(parser)
    parser.add_argument("--device", help="auto, cpu, cuda, mps (default: the run's)")


def run(arguments: argparse.Namespace) -> int:
    """Predict, in chunks."""
    if arguments.out is not None and arguments.out.suffix.lower() not in WRITERS:
        raise UserError(f"--out {arguments.out}: expected a name ending in .csv or .json")
    paths.refuse_overwriting(arguments.out, arguments.what)
    if arguments.top < 1:
        raise UserError(f"--top {arguments.top}: expected 1 or more")

    from featherweight.console import Progress, say
    from featherweight.runs import pictures
    from featherweight.runs.predictor import Predictor
    from featherweight.runs.run import Run
    from featherweight.submission import separator

    if Run.exists(arguments.what[0]) and not Run.exists(arguments.run) and os.path.exists(arguments.run):  # noqa: PTH110
        raise UserError(f"the run comes first: {typed('predict', arguments.what[0], arguments.run)}")
    finished = Run.find(arguments.run)
    views = None if arguments.views is None else views_setting(arguments.views)
    predictor = Predictor(finished, views, arguments.device)
    given = pictures.find(arguments.what, finished)
    count = min(arguments.top, len(predictor.classes))
    unreadable: dict[str, str] = {}
    read = 0
    writer = _screen if arguments.out is None else WRITERS[arguments.out.suffix.lower()]
    decides = finished.competition.target != "one"
    between = separator(finished.competition) if decides else None
    with writer(arguments.out, count, between) as write, Progress("predict", len(given), "images") as bar:
        for predicted in predictor.stream(given.pictures, given.names):
            decided = predicted.labels if decides else itertools.repeat(None, len(predicted.ids))
            for name, best, answer in zip(predicted.ids, predicted.top(count), decided, strict=True):
                write(name, best, answer)
            read += len(predicted.ids)
            unreadable |= predicted.unreadable
            bar.advance(len(predicted.ids) + len(predicted.unreadable))
        if not read:
            some = "\n".join([*unreadable.values()][:3])
            raise UserError(f"none of the {count_of(len(given), 'image')} can be read\n{some}")
    for why in list(unreadable.values())[:NAMED]:
        say(f"left out: {why}")
    more = f", {len(given) - read:,} left out" if unreadable else ""
    written = f": wrote {arguments.out}" if arguments.out else ""
    say(f"{count_of(read, 'image')} predicted by {finished.name}{more}{written}")
    return 0


@contextmanager
def _screen(path: Path | None, count: int, between: str | None) -> Iterator[Write]:
    def write(name: str, best: Best, decided: Decided) -> None:
        answer = "" if between is None else f"{_joined(decided, between) or 'none'}:  "
        print(printable(f"{name}  {answer}" + "  ".join(f"{label} {probability:.2%}" for label, probability in best)))

    yield write


@contextmanager
def _csv(path: Path, count: int, between: str | None) -> Iterator[Write]:
    from featherweight import atomic

    with atomic.text_stream(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        heads = [
            f"{head}{'' if rank == 1 else f'_{rank}'}"
            for rank in range(1, count + 1)
            for head in ("class", "probability")
        ]
        writer.writerow(["path", *([] if between is None else ["decided"]), *heads])

        def write(name: str, best: Best, decided: Decided) -> None:
            answer = [] if between is None else [_joined(decided, between)]
            writer.writerow([name, *answer, *itertools.chain.from_iterable((label, f"{p:.8g}") for label, p in best)])

        yield write


@contextmanager
def _json(path: Path, count: int, between: str | None) -> Iterator[Write]:
    from featherweight import atomic

    with atomic.text_stream(path) as stream:
        comma = "["

        def write(name: str, best: Best, decided: Decided) -> None:
            nonlocal comma
            answer = {} if between is None else {"decided": decided}
            classes = [{"class": label, "probability": float(f"{p:.8g}")} for label, p in best]
            stream.write(f"{comma}\n{json.dumps({'path': name, **answer, 'classes': classes}, ensure_ascii=False)}")
            comma = ","

        yield write
        stream.write("\n]\n" if comma == "," else "[]\n")


def _joined(decided: Decided, between: str) -> str:
    """Return a decision as one field: the classes of a set with `between` between them."""
    return decided if isinstance(decided, str) else between.join(decided or ())


WRITERS: dict[str, Any] = {".csv": _csv, ".json": _json}
