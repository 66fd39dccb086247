"""Asking an exported file, as its own runtime does, in a process that has never heard of this package."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.data.image import Image
from featherweight.data.pack import Pack
from featherweight.data.photos import Photos
from featherweight.errors import UserError
from featherweight.export import subprocess_runner
from featherweight.export.resampling import prepared

BATCH = 32
Batch = tuple[NDArray[np.int64], list[NDArray[np.uint8]]]  # places, and the pictures uint8 [B, H, W, C] of each member


def whole_pictures(images: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield pictures for a graph that prepares them itself: all stored pixels, pictures of one shape together."""
    places = np.arange(len(images))
    if not isinstance(images, Photos):
        for first in range(0, len(images), BATCH):
            yield places[first : first + BATCH], np.asarray(images[first : first + BATCH])
        return
    shapes = images.rows[:, 2:]
    for shape in np.unique(shapes, axis=0):
        alike = places[(shapes == shape).all(1)]
        for first in range(0, len(alike), BATCH):
            chosen = alike[first : first + BATCH]
            yield chosen, images.whole(chosen)[0]


def prepared_by_graph(pack: Pack, image: Image) -> Pack:
    """Return the pictures as a graph prepares them; its resizing may round differently from Pillow's."""
    images: Any = pack.images
    if not isinstance(images, Photos):
        return pack
    crops = np.empty(images.shape, np.uint8)
    for places, pictures in whole_pictures(images):
        crops[places] = prepared(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), image).permute(0, 2, 3, 1)
    return Pack(pack.ids, crops, pack.labels, pack.groups)


def _batches(reader: str, packs: Sequence[Pack]) -> Iterator[Batch]:
    """A graph gets pictures, a script's networks get what each member is shown."""
    if reader != "script":
        yield from ((places, [pictures]) for places, pictures in whole_pictures(packs[0].images))
        return
    for first in range(0, len(packs[0]), BATCH):
        places = np.arange(len(packs[0]))[first : first + BATCH]
        yield places, [np.asarray(pack.images[places]) for pack in packs]


def answers(
    reader: str, path: Path, packs: Sequence[Pack]
) -> tuple[NDArray[np.float32], NDArray[np.bool_ | np.int64] | None]:
    """Return the probabilities float32 [N, K] of an exported file and its decisions, if any, from a process without
    this package.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, answered = Path(folder) / "images.npz", Path(folder) / "answers.npz"
        batches = list(_batches(reader, packs))
        named: dict[str, Any] = {
            f"{n}.{m}": part for n, (_, parts) in enumerate(batches) for m, part in enumerate(parts)
        }
        with atomic.naming(images):
            np.savez(images, **named)
        command = [sys.executable, "-IB", subprocess_runner.__file__, reader, str(path), str(images), str(answered)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
            raise UserError(f"{path.name}: its own runtime cannot read it, so the file is deleted ({lines[-1]})")
        back = np.argsort(np.concatenate([places for places, _ in batches]))
        with np.load(answered) as arrays:
            return arrays["probs"][back], arrays["decided"][back] if "decided" in arrays.files else None
