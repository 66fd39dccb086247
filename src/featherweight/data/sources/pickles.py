"""Pickles of arrays, as the CIFAR sets and some course competitions hand out; nothing in a pickle runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples, Stored, as_labels, existing, numbered
from featherweight.data.pixel_range import Limits, as_uint8, limits_of, spread, together
from featherweight.data.safe_arrays import stacked
from featherweight.data.safe_pickles import read
from featherweight.errors import UserError
from featherweight.schema import NonNegativeInt53, Text

LABELS = {"any": ("labels", "fine_labels", "label", "y"), "fine": ("fine_labels",), "coarse": ("coarse_labels",)}

Pickles = Sequence[tuple[Path, dict[str, Any]]]


def pickles(
    root: Path,
    *,
    train: list[Text],
    test: Text | None = None,
    names: Text | None = None,
    labels: Literal["any", "fine", "coarse"] = "any",
    first_id: NonNegativeInt53 = 0,
) -> Listing:
    """Pickled dictionaries with `data` (N x 3072 as in CIFAR, or N x H x W x C) and `labels`; the test's with `ids`.

    `names` is the CIFAR sets' file of class names. Without `ids` an image's id is its index, counted from `first_id`.
    """
    paths = [existing(root, name) for name in train]
    tested = existing(root, test) if test else None
    named = existing(root, names) if names else None

    def spelled(content: dict[str, Any], count: int, path: Path) -> list[str]:
        key = next((key for key in LABELS[labels] if key in content), None)
        if key is None:
            raise UserError(f"{path}: there are no labels in it; there are {', '.join(content)}")
        named_labels = as_labels(content[key], count, f"{path}: {key}")
        return _named(named_labels, read(named), named, key) if named else named_labels

    def trained() -> Samples:
        parts = [(path, read(path)) for path in paths]
        limits = _limits(parts, parts)
        images = [as_uint8(_data(content, path), f"{path}: data", limits) for path, content in parts]
        class_names = [spelled(content, len(part), path) for (path, content), part in zip(parts, images, strict=True)]
        try:
            together = np.concatenate(images)
        except ValueError:
            shapes = ", ".join("x".join(map(str, part.shape[1:])) for part in images)
            raise UserError(f"{paths[0].parent}: the pickles hold images of different sizes: {shapes}") from None
        return Samples(numbered(len(together), first_id), together, list(itertools.chain(*class_names)))

    def to_predict(tested: Path) -> tuple[Samples, dict[str, Any]]:
        content = read(tested)
        data = _data(content, tested)
        own = data.dtype == np.uint8
        limits = None if own else _limits([(path, read(path)) for path in paths], [(tested, content)])
        images = as_uint8(data, f"{tested}: data", limits)
        key = next((key for key in ("ids", "id") if key in content), None)
        ids = as_labels(content[key], len(images), f"{tested}: {key}") if key else numbered(len(images), first_id)
        return Samples(ids, images), content

    def answers(tested: Path) -> dict[str, str]:
        samples, content = to_predict(tested)
        if not any(key in content for key in LABELS[labels]):
            return {}
        return dict(zip(samples.ids, spelled(content, len(samples.ids), tested), strict=True))

    return Listing(
        train=Stored([*paths, *([named] if named else [])], trained),
        predict=Stored([tested], lambda: to_predict(tested)[0]) if tested else None,
        answers=partial(answers, tested) if tested else None,
    )


def _limits(train: Pickles, part: Pickles) -> Limits:
    """Return black and white of a part, according to the training images."""
    trained, here = (
        together(spread(_data(content, path), str(path)) for path, content in one) for one in (train, part)
    )
    return limits_of(trained, here, str(train[0][0]))


def _data(content: dict[str, Any], path: Path) -> NDArray[Any]:
    if "data" not in content:
        raise UserError(f"{path}: there is no 'data' in it; there are {', '.join(content) or 'no keys'}")
    data = stacked(content["data"], f"{path}: 'data'")
    if data.ndim == 2:
        side = round((data.shape[1] / 3) ** 0.5)
        if side * side * 3 != data.shape[1]:
            raise UserError(f"{path}: {data.shape[1]:,} values per image are not those of a square image of 3 channels")
        data = data.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    return data


def _named(labels: list[str], meta: dict[str, Any], path: Path | None, key: str) -> list[str]:
    wanted = {"coarse_labels": "coarse_label_names", "fine_labels": "fine_label_names"}.get(key, "label_names")
    if wanted not in meta:
        raise UserError(f"{path}: there is no '{wanted}' in it; there are {', '.join(meta)}")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in meta[wanted]]
    strange = next((label for label in labels if not label.isdecimal() or int(label) >= len(names)), None)
    if strange is not None:
        raise UserError(f"{path}: there is no name for the label {strange}; there are {len(names)}")
    return [names[int(label)] for label in labels]
