"""What a competition's source lists before anything is decoded, and how much time and disk decoding takes, estimated
from a few images.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherweight import paths
from featherweight.config import Competition, Split
from featherweight.data import image_groups, pack
from featherweight.data.image import Image, decode, fit
from featherweight.data.listing import Listing, Samples, Stored
from featherweight.data.pack import Data, LabelledPack
from featherweight.data.parts import Packs, declared, divide_knowing
from featherweight.errors import UserError
from featherweight.planning.costs import stored_bytes
from featherweight.runtime.cores import cores

MOST_SAMPLED, FEWEST_SAMPLED = 24, 4  # maximum and minimum number of images decoded to time one way of decoding
SAMPLING_SECONDS = 1.0  # after which the minimum is enough
LABELLED = ("train", "valid")
GROUPING_SECONDS = 3e-4  # per labelled image to look for copies,
SMALL_SIDE, GROUPING_SMALL_SECONDS = 32, 1.2e-4  # per image up to this side in pixels (6e-5 of 28 px on an idle core),
COMPARING_SECONDS = 2e-5  # and per image that is compared by its bytes only, of more than image_groups.MOST_SEARCHED


@dataclass(frozen=True)
class _Part:
    """A part of the data: its source, ids and labels with some of the images, and the seconds to read images that are
    stored by the thousand in a few files.
    """

    source: Samples | Stored
    samples: Samples
    reading: float = 0.0


class ListedImages:
    """A competition's images as listed by its source. Each way of decoding is timed once."""

    def __init__(self, competition: Competition) -> None:
        self.competition = competition
        listing: Listing = competition.source(paths.data())
        there = {"train": listing.train, "valid": listing.valid, "predict": listing.predict}
        self._parts = {name: _part(source) for name, source in there.items() if source is not None}
        self._packed: dict[tuple[str, str], bool] = {}
        self._each: dict[str, float] = {}
        self._loaded: set[str] = set()  # decoded by `load`, so no run has looked for copies among them yet

    @property
    def data(self) -> Data:
        """The parts, with images that have no pixels."""
        packs = {
            name: pack.without_pixels(part.samples, self.competition.classes) for name, part in self._parts.items()
        }
        train, valid = LabelledPack.of(packs["train"]), packs.get("valid")
        return Data(train, packs.get("predict"), pack.apart(train, LabelledPack.of(valid) if valid else None))

    def divided(self, wanted: Split, data: Data | None = None) -> Packs:
        """Return train, holdout and test of `data` (default: all), with images that have no pixels; images related by
        name stay together.
        """
        data = data or self.data
        known = image_groups.by_names(data.labelled, declared(self.competition, data.train))
        return divide_knowing(wanted, self.competition, data, known if wanted.grouped else None)

    def for_pilots(self, train: LabelledPack) -> tuple[Sequence[str], Sequence[str]]:
        """Return the ids of the training images that pilots learn from, and of those that judge them: none, if these
        cannot be divided once more (few images, or few groups).
        """
        try:
            shown, judges, _ = self.divided(Split(), Data(train, None))
        except UserError:
            return train.ids, []
        return shown.ids, judges.ids

    def seconds(self, image: Image, parts: Sequence[str] = (*LABELLED, "predict")) -> float:
        """Return the seconds to decode these parts; what is decoded already takes none."""
        left = self._left(image, parts)
        count = sum(len(part.samples.ids) for part in left)
        if not count:
            return 0.0
        return sum(part.reading for part in left) + count * self._of_one(image) / cores()

    def _left(self, image: Image, parts: Sequence[str]) -> list[_Part]:
        """Return those of these parts that are not decoded yet."""
        return [part for name, part in self._parts.items() if name in parts and not self._is_packed(name, image)]

    @property
    def room(self) -> int:
        """The free bytes of the disk that decoded images are stored on."""
        folder = paths.packs()
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        return shutil.disk_usage(there).free

    def bytes_of_a_run(self, seen: Competition, side: int) -> int:
        """Return about how many bytes of images a run stores, at the size that it trains with and at the one in the
        competition's file, given the side of the pictures in pixels.
        """
        kinds: list[tuple[Image, Sequence[str]]] = [(seen.image, (*LABELLED, "predict"))]
        if self._are_decoded_twice(seen):
            kinds.append((seen.declared_image, LABELLED))
        return sum(
            stored_bytes(image, side) * len(part.samples.ids)
            for image, parts in kinds
            for part in self._left(image, parts)
        )

    def seconds_of_a_run(self, seen: Competition) -> float:
        """Return the seconds in which a run decodes images and looks for related ones, at the size in the competition's
        file.
        """
        total = self.seconds(seen.image)
        declared_image = seen.declared_image
        if self._are_decoded_twice(seen):
            total += self.seconds(declared_image, LABELLED)
        packed = all(self._is_packed(name, declared_image) for name in LABELLED if name in self._parts)
        done = packed and pack.decoding(declared_image) not in self._loaded
        if done or not image_groups.are_searched(self.labelled, declared_image):
            return total
        each = GROUPING_SMALL_SECONDS if declared_image.size <= SMALL_SIDE else GROUPING_SECONDS
        return total + (each if self.labelled <= image_groups.MOST_SEARCHED else COMPARING_SECONDS) * self.labelled

    @property
    def labelled(self) -> int:
        """The number of labelled images."""
        return sum(len(part.samples.ids) for name, part in self._parts.items() if name in LABELLED)

    def _are_decoded_twice(self, seen: Competition) -> bool:
        """True if a run decodes the labelled images as the competition's file says too, to look for related ones."""
        declared = seen.declared_image
        return not pack.decode_alike(seen.image, declared) and image_groups.are_searched(self.labelled, declared)

    def load(self, seen: Competition) -> None:
        """Decode what is not decoded yet, for later use."""
        if not all(self._is_packed(name, seen.image) for name in self._parts):
            self._loaded.add(pack.decoding(seen.image))
        seen.load()
        self._packed |= {(name, pack.decoding(seen.image)): True for name in self._parts}

    def _is_packed(self, name: str, image: Image) -> bool:
        key = name, pack.decoding(image)
        if key not in self._packed:
            source = self._parts[name].source
            lies_in_memory = isinstance(source, Samples) and isinstance(source.images, np.ndarray)
            self._packed[key] = not lies_in_memory and pack.is_packed(source, image, name, self.competition.source)
        return self._packed[key]

    def _of_one(self, image: Image) -> float:
        """Return the seconds to decode one image on one core."""
        key = pack.decoding(image)
        if key not in self._each:
            pictures: list[Any] = [picture for part in self._parts.values() for picture in part.samples.images]
            chosen = [
                pictures[place] for place in np.random.default_rng(0).permutation(len(pictures))[: MOST_SAMPLED + 1]
            ]
            _decode(chosen[0], image)  # the first one also loads the decoder
            began, done = time.perf_counter(), 0
            for picture in chosen[1:] or chosen:
                _decode(picture, image)
                done += 1
                if done >= FEWEST_SAMPLED and time.perf_counter() - began > SAMPLING_SECONDS:
                    break
            self._each[key] = (time.perf_counter() - began) / done
        return self._each[key]


def _part(source: Samples | Stored) -> _Part:
    """Return a part, with at most MOST_SAMPLED + 1 of its images."""
    began = time.perf_counter()
    samples = source.read() if isinstance(source, Stored) else source
    reading = time.perf_counter() - began if isinstance(source, Stored) else 0.0
    some = samples.images[:: max(1, len(samples.ids) // MOST_SAMPLED)][: MOST_SAMPLED + 1]
    if isinstance(some, np.ndarray):
        some = some.copy()  # otherwise the whole array stays in memory
    return _Part(source, Samples(samples.ids, some, samples.labels, samples.groups), reading)


def _decode(picture: Any, image: Image) -> None:
    try:
        if isinstance(picture, np.ndarray):
            fit(picture, image)
        else:
            decode(Path(picture), image)
    except UserError:  # decoding reports it later
        pass
