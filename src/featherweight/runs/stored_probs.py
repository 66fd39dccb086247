"""The model's own probabilities of a part of the data, in the run's folder: `PART_probs.npy`, float32 [N, K], and
`PART_ids.sha256`, a checksum of the ids of the images and their order and, in a second line, the hash of their files
(`Pack.content`) if that is known.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.data import safe_arrays
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.runs.run import Run


def path(run: Run, part: str) -> Path:
    """Return the path of a part's probabilities."""
    return run.folder / f"{part}_probs.npy"


def read(run: Run, part: str, ids: Sequence[str] | None = None, content: str = "") -> NDArray[np.float32] | None:
    """Return the probabilities of a part, float32 [N, K].

    None before they are computed and, with `ids` [N] and the `content` of their pack, if the stored ones are of other
    images. Raises UserError if the file is damaged.
    """
    file, classes = path(run, part), run.competition.shape.num_classes
    if not file.exists() or (ids is not None and not _is_of(run, part, ids, content)):
        return None
    try:
        probs = safe_arrays.load(file)
        if probs.dtype != np.float32 or probs.ndim != 2 or probs.shape[1] != classes:
            raise UserError(f"{file}: not the probabilities of {classes} classes")
    except UserError as error:
        again = f"compute them again: ./run.sh resume {run.name}"
        if run.is_ensemble:  # made in one step, from its members alone
            again = f"make it again: delete {run.folder}, then ./run.sh ensemble {' '.join(run.members)}"
        raise UserError(f"{error}\n{again}") from None
    return None if ids is not None and len(ids) != len(probs) else probs


def store(run: Run, part: str, probs: NDArray[np.float32], ids: Sequence[str], content: str = "") -> None:
    """Store the probabilities [N, K] of a part, and of which images [N] they are, with the `content` of their pack.

    If they replace others, the result is deleted, so that the run is scored again.
    """
    file = path(run, part)
    if file.exists():
        for name in ("result.json", "leaderboard.json", file.name):
            (run.folder / name).unlink(missing_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, probs)
    atomic.write_text(_ids_file(run, part), "".join(f"{line}\n" for line in (_checksum(ids), content) if line))
    atomic.write_bytes(file, buffer.getvalue())


def of_same_images(one: Run, other: Run, part: str) -> bool:
    """True if the stored probabilities of both runs are of the same images of a part, in the same order."""
    own, others = read(one, part), read(other, part)
    if own is None or others is None or len(own) != len(others):
        return False
    return _agree(_lines(one, part), _lines(other, part))


def _is_of(run: Run, part: str, ids: Sequence[str], content: str) -> bool:
    """True if a part's stored probabilities are of these images, as far as is known."""
    return _agree(_lines(run, part), [_checksum(ids), *filter(None, [content])])


def _lines(run: Run, part: str) -> list[str]:
    """Return the lines of a note, none if it is gone; a damaged one has those of other images."""
    note = _ids_file(run, part)
    return note.read_text(errors="replace").split() if note.exists() else []


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """True if two notes are the same in the lines that both have."""
    return bool(one and other) and all(mine == theirs for mine, theirs in zip(one, other, strict=False))


def _ids_file(run: Run, part: str) -> Path:
    return run.folder / f"{part}_ids.sha256"


def _checksum(ids: Sequence[str]) -> str:
    """Return a checksum of ids and their order."""
    return hashlib.sha256("\n".join(ids).encode(errors="surrogateescape")).hexdigest()
