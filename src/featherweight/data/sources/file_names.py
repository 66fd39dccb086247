"""Classes in the names of the files: cat.0.jpg, cat_0001.png, 0_23.png."""

from __future__ import annotations

import re
from pathlib import Path

from featherweight.data.csv_file import examples
from featherweight.data.listing import Listing, Samples, walk
from featherweight.data.sources.folders import asked_for
from featherweight.errors import UserError
from featherweight.schema import Text


def file_names(
    root: Path,
    *,
    train: Text,
    pattern: Text,
    test: Text | None = None,
    test_table: Text | None = None,
    valid: Text | None = None,
    rename: dict[Text, Text] = {},
) -> Listing:
    r"""Images in the folder `train` whose class is what `pattern` finds in their names, in its first parentheses.

    The pattern is a regular expression, `^(.+?)\\.\\d+\\.\\w+$` for cat.0.jpg. `test` is the folder of the images to
    predict; where others lie there too, `test_table` names those to predict in its first column. `valid` is a folder
    whose images are held out. `rename` spells what was found as the classes are called.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"source.pattern: {pattern}: not a regular expression ({error})") from None
    if not compiled.groups:
        raise UserError(f"source.pattern: {pattern}: put parentheses around the class")

    def labelled(name: str) -> Samples:
        files = [file for file in _within(root / name) if test is None or not _is_below(file, name, test)]
        matches = [compiled.search(file.rpartition("/")[2]) for file in files]
        missing = [file for file, match in zip(files, matches, strict=True) if match is None or not match.group(1)]
        if missing:
            count = f"{len(missing):,} of {len(files):,} names"
            raise UserError(f"{root / name}: {pattern} finds no class in {count}: {examples(missing)}")
        classes = [match.group(1) for match in matches if match]
        return Samples(files, [f"{root / name}/{file}" for file in files], [rename.get(one, one) for one in classes])

    tested = _within(root / test) if test else []
    predict = Samples(tested, [f"{root / test}/{file}" for file in tested]) if test else None
    return Listing(
        train=labelled(train),
        predict=asked_for(predict, root / test_table) if predict and test_table else predict,
        valid=labelled(valid) if valid else None,
    )


def _within(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"there is no image folder {folder}")
    files = walk(folder)
    if not files:
        raise UserError(f"there are no images in {folder}")
    return files


def _is_below(file: str, folder: str, other: str) -> bool:
    return f"{folder}/{file}".startswith(f"{other}/")
