"""Describe a folder or archive of images as a competition: print what was found and assumed, and write its file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.arguments import FILES, completed, count
from featherweight.errors import printable

if TYPE_CHECKING:
    from featherweight.describe.competition_file import Options

DESCRIPTION = ("name", "metric", "limit", "pretrained", "size", "mirror", "id", "label", "group", "target", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `init`."""
    folder = parser.add_argument(
        "folder", type=Path, metavar="FOLDER_OR_ARCHIVE", help="a folder, or an archive: .zip, .tar, .tar.gz, ..."
    )
    completed(folder, FILES)
    parser.add_argument("--kaggle", metavar="NAME", help="name on Kaggle, the end of its address; needed to submit")
    add_description(parser)


def add_description(parser: argparse.ArgumentParser) -> None:
    """Add the options that state what is in the data, or what the competition asks for."""
    parser.add_argument("--name", help="the competition's name (default: the folder's)")
    parser.add_argument(
        "--metric", help="the competition's metric (default: what the sample submission suggests, mostly accuracy)"
    )
    parser.add_argument(
        "--limit", type=count, default=5_000_000, help="maximum number of parameters (default: 5,000,000)"
    )
    parser.add_argument("--pretrained", action="store_true", help="the rules allow weights trained on other images")
    parser.add_argument(
        "--size", type=int, help="image height and width in pixels (default: the original size, at most 224)"
    )
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="a mirrored image has the same class, or not"
    )
    parser.add_argument("--id", metavar="COLUMN", help="column of the label table with the image names")
    parser.add_argument(
        "--label",
        metavar="COLUMN|PATTERN",
        help="column of the classes, or several, one per class: a,b,c; or pattern of the file names, the class in "
        "parentheses",
    )
    parser.add_argument(
        "--group",
        metavar="COLUMN|PATTERN",
        help="column, or pattern of the file names, that groups related images; or none",
    )
    parser.add_argument(
        "--target",
        metavar="KIND",
        help="one class per image, several, or one of ordered classes: one, several, ordered",
    )
    parser.add_argument(
        "--test", metavar="FOLDER|TABLE", help="folder or table of the images to predict, relative to FOLDER"
    )


def description(arguments: argparse.Namespace, kaggle: str | None) -> Options:
    """Return what the options of `add_description` state."""
    from featherweight.describe.competition_file import Options

    return Options(kaggle=kaggle, **{name: getattr(arguments, name) for name in DESCRIPTION})


def run(arguments: argparse.Namespace) -> int:
    """Write the competition file."""
    describe(arguments.folder, description(arguments, arguments.kaggle))
    return 0


def describe(folder: Path, options: Options) -> None:
    """Write the competition file for `folder`; print what was found, what was assumed, and what to do next."""
    from featherweight.describe import competition_file as make

    report = make.init(folder, options)
    lines = [*report.found, "", "assumed, and how to change it:", *report.assumed, "", f"wrote {report.path}"]
    print("\n".join(map(printable, lines)))
    print(f"next: ./run.sh auto --competition {report.path.stem} --minutes 20")
