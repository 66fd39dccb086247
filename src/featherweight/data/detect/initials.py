"""Folders that are no classes but hold these: their initials, or what else stands above them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from featherweight.data.detect.folder_tree import last
from featherweight.errors import UserError


def flattening(root: Path) -> str | None:
    """Return the command that puts the folders within the folders of `root` into `root`; None where it would fail."""
    outer = list(root.iterdir())
    inner = [one for folder in outer if folder.is_dir() for one in folder.iterdir()]
    plain = all(one.is_dir() and not one.is_symlink() and not one.name.startswith(".") for one in (*outer, *inner))
    if not plain or len({one.name for one in inner}) < len(inner) or (root.parent / "classes").exists():
        return None
    return (
        f"cd {shlex.quote(str(root))} && mkdir ../classes && mv ./*/* ../classes && rmdir ./* && mv ../classes/* . && "
        f"rmdir ../classes"
    )


def refuse_initials(root: Path, inner: Mapping[str, Sequence[str]]) -> None:
    """Refuse folders in `root` that are the initials of those within, which are the classes (a/abbey).

    `inner` holds the paths of the folders within each of them.
    """
    held = {last(folder): [last(name) for name in within] for folder, within in inner.items() if within}
    if len(held) > 1 and all(
        len(letter) == 1 and name.lower().startswith(letter.lower()) for letter in held for name in held[letter]
    ):
        command = flattening(root)
        letter, names = min(held.items())
        raise UserError(
            f"{root}: the folders are the initials of those within, as {letter}/{names[0]}, which seem to be the "
            f"classes\nput the inner ones beside each other{f': {command}' if command else ''}"
        )
