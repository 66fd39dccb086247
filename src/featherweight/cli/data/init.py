"""Describe a folder or archive of images as a competition: what it holds, and what was assumed of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from featherweight.cli.arguments import FILES, completed, count
from featherweight.errors import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `init` takes."""
    folder = parser.add_argument(
        "folder", type=Path, metavar="FOLDER_OR_ARCHIVE", help="a folder, or a .zip or .tar.gz"
    )
    completed(folder, FILES)
    parser.add_argument("--name", help="the competition's name (default: the folder's)")
    parser.add_argument("--metric", help="the metric that it is scored by (default: accuracy)")
    parser.add_argument("--limit", type=count, default=5_000_000, help="the most parameters (default: 5,000,000)")
    parser.add_argument("--pretrained", action="store_true", help="its rules allow weights trained on other images")
    parser.add_argument(
        "--size", type=int, help="height and width of the images in pixels (default: as they are, at most 224)"
    )
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="may an image be mirrored and keep its class?"
    )
    parser.add_argument("--kaggle", metavar="NAME", help="its name on Kaggle, the end of its address; submit needs it")
    parser.add_argument("--id", metavar="COLUMN", help="the column of the label table that names the images")
    parser.add_argument(
        "--label", metavar="COLUMN", help="the column of the classes, or several by commas, one per class"
    )
    parser.add_argument(
        "--group",
        metavar="COLUMN|PATTERN",
        help="the column, or a pattern of the file names, that tells which images belong together; or none",
    )
    parser.add_argument(
        "--target", metavar="KIND", help="what an image has: one class, several, or one of ordered ones"
    )
    parser.add_argument("--test", metavar="FOLDER|TABLE", help="where the images to predict are, below the folder")


def run(arguments: argparse.Namespace) -> int:
    """Write the competition file."""
    names = (
        "name",
        "metric",
        "limit",
        "pretrained",
        "size",
        "mirror",
        "kaggle",
        "id",
        "label",
        "group",
        "target",
        "test",
    )
    describe(arguments.folder, **{name: getattr(arguments, name) for name in names})
    return 0


def describe(folder: Path, **options: Any) -> None:
    """Write the competition file for `folder`, and print what was found, assumed and comes next."""
    from featherweight.describe import competition_file as make

    report = make.init(folder, **options)
    lines = [*report.found, "", "assumed, and how to change it:", *report.assumed, "", f"wrote {report.path}"]
    print("\n".join(map(printable, lines)))
    print(f"next: ./run.sh auto --competition {report.path.stem} --minutes 20")
