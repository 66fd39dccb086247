"""Pictures of different sizes, stored in their own proportions and cropped when needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

LONGEST = 2  # the longer side that is stored, at most this many times the shorter one: panoramas lose their ends
RESAMPLING = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}


@dataclass(frozen=True)
class Crop:
    """The part of a stored picture that is scored: the central square of `part` of its shorter side, resized to `side`
    pixels. Pretrained weights usually use 0.875.
    """

    side: int
    part: float
    interpolation: str

    def of(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the crop uint8 [side, side, C] of a picture [H, W, C].

        It equals torchvision's: resize the shorter side to side / part, then crop the centre.
        """
        height, width = picture.shape[:2]
        short = math.floor(self.side / self.part + 1e-9)
        resized = [int(short * length / min(height, width)) for length in (width, height)]
        left, top = (round((length - self.side) / 2) for length in resized)
        across, down = width / resized[0], height / resized[1]
        box = (left * across, top * down, (left + self.side) * across, (top + self.side) * down)
        grey = picture.shape[2] == 1
        image = Pillow.fromarray(picture[..., 0] if grey else picture)
        pixels = np.asarray(image.resize((self.side, self.side), RESAMPLING[self.interpolation], box))
        return pixels[..., None] if grey else pixels


class Photos:
    """Pictures of different sizes, one after another in flat files on disk.

    Indexed like an array of images, uint8 [N, S, S, C], it gives the evaluation crops; `whole` gives the stored
    pictures. `rows`, int64 [N, 4], holds the file, start, height and width of each.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, files: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], channels: int, crop: Crop) -> None:
        self.files, self.rows, self.channels, self.crop = list(files), rows, channels, crop
        self.shape = (len(rows), crop.side, crop.side, channels)
        self.nbytes = math.prod(self.shape)

    @classmethod
    def mapped(cls, folder: Path, channels: int, crop: Crop) -> Photos:
        """Return the memory-mapped pictures of a pack."""
        rows = np.load(folder / "rows.npy")
        return cls([np.memmap(folder / "pictures.bin", mode="r", dtype=np.uint8)], rows, channels, crop)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return the crops at `key` (an index, a slice or an array); further indices apply within images."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        rows = self.rows[first]
        if rows.ndim == 1:
            crop = self.crop.of(self._picture(rows))
            return crop[tuple(rest)] if rest else crop
        crops = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for index, row in enumerate(rows):
            crops[index] = self.crop.of(self._picture(row))
        return crops[(slice(None), *rest)] if rest else crops

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def whole(self, index: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the pictures at `index`, uint8 [B, H, W, C], each at the top left of its frame, and their sizes [B,
        2].
        """
        rows = self.rows[index]
        extents = rows[:, 2:]
        frames = np.zeros((len(rows), *extents.max(0, initial=1), self.channels), np.uint8)
        for frame, row in zip(frames, rows, strict=True):
            frame[: row[2], : row[3]] = self._picture(row)
        return frames, extents

    def take(self, index: NDArray[np.int64]) -> Photos:
        """Return some of the pictures without copying."""
        return Photos(self.files, self.rows[index], self.channels, self.crop)

    def and_more(self, others: Photos) -> Photos:
        """Return these pictures followed by others, without copying."""
        moved = others.rows + np.array([len(self.files), 0, 0, 0])
        return Photos([*self.files, *others.files], np.concatenate([self.rows, moved]), self.channels, self.crop)

    def _picture(self, row: NDArray[np.int64]) -> NDArray[np.uint8]:
        file, start, height, width = row.tolist()
        flat = self.files[file][start : start + height * width * self.channels]
        return np.asarray(flat).reshape(height, width, self.channels)


def shrunk(picture: Pillow.Image, store: int) -> Pillow.Image:
    """Return a picture in its own proportions, its shorter side at most `store` pixels and its longer side at most
    LONGEST times that; the rest is cut off evenly at both ends.
    """
    width, height = picture.size
    short = min(width, height)
    wide, tall = (min(length, LONGEST * short) for length in (width, height))
    scale = min(1.0, store / short)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    if size == (width, height):
        return picture
    left, top = (width - wide) / 2, (height - tall) / 2
    return picture.resize(size, Pillow.Resampling.BICUBIC, (left, top, left + wide, top + tall), reducing_gap=3.0)
