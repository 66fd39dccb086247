"""A folder a class, at any depth."""

from __future__ import annotations

from pathlib import Path

from featherweight.console import say
from featherweight.data.listing import Listing, Samples, walk
from featherweight.data.sources.named import Named, export
from featherweight.errors import UserError
from featherweight.schema import Text


def folders(
    root: Path,
    *,
    path: Text,
    train: Text = "train",
    test: Text = "test",
    valid: Text | None = None,
    torchvision: Named | None = None,
) -> Listing:
    """`train/<class>/**/*` and `test/<class>/**/*` (or a flat `test/*`) under `path`; an id is the path below either.

    `valid` names a validation folder that came with the data; it is then what is held out. `torchvision` names the
    torchvision data set that fills the folder when it is not there and the internet is.
    """
    folder = root / path
    if not folder.is_dir():
        if torchvision is None:
            raise UserError(f"there is no data folder {folder}: put {train}/<class>/* and {test}/* there")
        say(f"{folder} is not there: filling it with torchvision's {torchvision}")
        export(torchvision, folder)
    labelled = _labelled(folder / train)
    if valid is not None and not (folder / valid).is_dir():
        raise UserError(f"there is no validation folder {folder / valid}")
    tested = walk(folder / test)
    classes = set(labelled.labels or ())
    known = bool(tested) and all(file.split("/")[0] in classes and "/" in file for file in tested)
    return Listing(
        train=labelled,
        test=Samples(tested, [f"{folder}/{test}/{file}" for file in tested]) if tested else None,
        valid=_labelled(folder / valid) if valid else None,
        answers=(lambda: {file: file.split("/")[0] for file in tested}) if known else None,
    )


def _labelled(folder: Path) -> Samples:
    files = walk(folder)
    if not files:
        raise UserError(f"there are no images in {folder}: expected {folder.name}/<class>/*.jpg, .png, ...")
    loose = [file for file in files if "/" not in file]
    if loose:
        more = f", nor are {len(loose) - 1:,} more" if len(loose) > 1 else ""
        raise UserError(
            f"{folder / loose[0]}: this image is in no class folder{more}; expected {folder.name}/<class>/{loose[0]}"
        )
    return Samples(files, [f"{folder}/{file}" for file in files], [file.split("/")[0] for file in files])
