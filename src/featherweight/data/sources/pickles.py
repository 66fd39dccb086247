"""Pickles of arrays, as the CIFAR sets and some course competitions hand out; nothing in a pickle runs."""

from __future__ import annotations

import collections
import itertools
import pickle
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples, Stored, as_labels, as_uint8, existing, numbered
from featherweight.errors import UserError
from featherweight.schema import Index, Text

LABELS = {"any": ("labels", "fine_labels", "label", "y"), "fine": ("fine_labels",), "coarse": ("coarse_labels",)}


def pickles(
    root: Path,
    *,
    train: list[Text],
    test: Text | None = None,
    names: Text | None = None,
    labels: Literal["any", "fine", "coarse"] = "any",
    first_id: Index = 0,
) -> Listing:
    """Pickled dictionaries with `data` (N x 3072 as in CIFAR, or N x H x W x C) and `labels`; the test's with `ids`.

    `names` is the CIFAR sets' file of class names. Without `ids` an image's id is its place, counted from `first_id`.
    """
    paths = [existing(root, name) for name in train]
    tested = existing(root, test) if test else None
    named = existing(root, names) if names else None

    def spelled(content: dict[str, Any], count: int, path: Path) -> list[str]:
        key = next((key for key in LABELS[labels] if key in content), None)
        if key is None:
            raise UserError(f"{path}: there are no labels in it; there are {', '.join(content)}")
        given = as_labels(content[key], count, f"{path}: {key}")
        return _named(given, read(named), named, key) if named else given

    def trained() -> Samples:
        parts = [(path, read(path)) for path in paths]
        images = [_images(content, path) for path, content in parts]
        given = [spelled(content, len(part), path) for (path, content), part in zip(parts, images, strict=True)]
        try:
            together = np.concatenate(images)
        except ValueError:
            shapes = ", ".join("x".join(map(str, part.shape[1:])) for part in images)
            raise UserError(f"{paths[0].parent}: the pickles hold images of different sizes: {shapes}") from None
        return Samples(numbered(len(together), first_id), together, list(itertools.chain(*given)))

    def test_part() -> tuple[Samples, dict[str, Any]]:
        assert tested is not None
        content = read(tested)
        images = _images(content, tested)
        key = next((key for key in ("ids", "id") if key in content), None)
        ids = as_labels(content[key], len(images), f"{tested}: {key}") if key else numbered(len(images), first_id)
        return Samples(ids, images), content

    def answers() -> dict[str, str]:
        assert tested is not None
        samples, content = test_part()
        if not any(key in content for key in LABELS[labels]):
            return {}
        return dict(zip(samples.ids, spelled(content, len(samples.ids), tested), strict=True))

    return Listing(
        train=Stored([*paths, *([named] if named else [])], trained),
        test=Stored([tested], lambda: test_part()[0]) if tested else None,
        answers=answers if tested else None,
    )


def read(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle. Raises UserError for anything but arrays, strings, numbers and containers."""
    try:
        with path.open("rb") as stream:
            content = _Arrays(stream).load()
    except UserError:
        raise
    except (pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"{path}: not a pickle of arrays ({error})") from None
    except Exception as error:  # a file that is no pickle can provoke any of them
        raise UserError(f"{path}: not a pickle of arrays ({type(error).__name__} while reading it)") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a pickled dictionary, got {type(content).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError("it wants to use a codec")
    return text.encode("latin1")


class _Arrays(pickle.Unpickler):
    """Admits what arrays and plain containers are made of, and refuses every other name."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")
        self._path = stream.name

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 and numpy 1 spell the modules differently.
        admitted = ADMITTED.get((module.replace("numpy._core.", "numpy.core."), name))
        if admitted is None:
            raise UserError(f"{self._path}: refused: this pickle wants to run {module}.{name}; nothing in it was run")
        return admitted


def _numpy_parts() -> dict[tuple[str, str], Any]:
    """The functions that numpy's own pickles name, found by asking numpy to pickle."""
    array: Any = np.zeros(1)
    return {
        ("numpy.core.multiarray", "_reconstruct"): array.__reduce__()[0],
        ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
        ("numpy.core.numeric", "_frombuffer"): array.__reduce_ex__(5)[0],
    }


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **_numpy_parts(),
    ("_codecs", "encode"): _encode,  # how protocol 2 spells bytes
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): bytearray for module in ("builtins", "__builtin__")},
}


def _images(content: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    if "data" not in content:
        raise UserError(f"{path}: there is no 'data' in it; there are {', '.join(content) or 'no keys'}")
    try:
        data = np.asarray(content["data"])
    except ValueError:
        raise UserError(f"{path}: 'data' is no array: its images have different sizes") from None
    if data.ndim == 2:
        side = round((data.shape[1] / 3) ** 0.5)
        if side * side * 3 != data.shape[1]:
            raise UserError(f"{path}: {data.shape[1]:,} numbers an image make no square image of 3 channels")
        data = data.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    return as_uint8(data, f"{path}: data")


def _named(labels: list[str], meta: dict[str, Any], path: Path | None, key: str) -> list[str]:
    wanted = {"coarse_labels": "coarse_label_names", "fine_labels": "fine_label_names"}.get(key, "label_names")
    if wanted not in meta:
        raise UserError(f"{path}: there is no '{wanted}' in it; there are {', '.join(meta)}")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in meta[wanted]]
    strange = next((label for label in labels if not label.isdecimal() or int(label) >= len(names)), None)
    if strange is not None:
        raise UserError(f"{path}: there is no name for the label {strange}; there are {len(names)}")
    return [names[int(label)] for label in labels]
