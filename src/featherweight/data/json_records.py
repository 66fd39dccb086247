"""The records of a JSON file, however they are arranged.

A list of records, a record for every line, a mapping from names to labels or records, from classes to names, from parts
of the data (train, test) to records, or from columns to their values; images with their annotations as COCO has them
(a record for each image and class). What is wrapped beside smaller things (a version, a licence) is unwrapped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featherweight.errors import UserError
from featherweight.untrusted_files import explained, read_bytes


def records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON file. Raises UserError if it has none."""
    content = read_bytes(path)
    with explained(path, "not a JSON file"):
        text = content.decode("utf-8-sig")
        try:
            content_read = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            content_read = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = _records(content_read)
    if not rows:
        raise UserError(f"{path}: no list of records, no mapping, and no images with annotations")
    return rows


def _records(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, list):
        return [record for record in content if isinstance(record, dict)]
    if not isinstance(content, dict) or not content:
        return []
    if isinstance(content.get("images"), list):
        return _annotated(content)
    values = list(content.values())
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # as pandas splits a table
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    if all(isinstance(value, list) for value in values) and (found := _of_lists(content)):
        return found
    larger = [value for value in values if isinstance(value, (list, dict)) and len(value) > len(content)]
    if len(larger) == 1 and (len(content) == 1 or not isinstance(larger[0], dict) or not _alike(values)):
        return _records(larger[0])
    if len(content) == 1 and isinstance(values[0], (list, dict)):
        return _records(values[0])
    if all(isinstance(value, dict) for value in values):
        if (
            len(content) > 1
            and len(values[0]) > 1
            and all({*value} == {*map(str, range(len(value)))} for value in values)
        ):
            return [{name: column[row] for name, column in content.items()} for row in values[0]]  # pandas' columns
        return [{"key": key, **value} for key, value in content.items()]
    return [{"key": key, "value": value} for key, value in content.items() if not isinstance(value, dict)]


def _of_lists(content: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the records of lists by the name of a part or class, or of a column; none if they are something else."""
    values = [value for listed in content.values() for value in listed]
    if values and all(isinstance(value, dict) for value in values):
        return [{"key": key, **record} for key, listed in content.items() for record in listed]
    if not values or not all(isinstance(value, (str, int)) for value in values):
        return []
    if len(set(map(str, values))) == len(values) and all(isinstance(value, str) for value in values):
        return [{"key": name, "value": key} for key, listed in content.items() for name in listed]
    lengths = {len(listed) for listed in content.values()}
    if len(lengths) == 1 and 1 < len(content) < min(lengths):
        return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]
    return []


def _alike(values: list[Any]) -> bool:
    """True if all values are dictionaries that share a key, as the records of several images do."""
    return all(isinstance(value, dict) for value in values) and bool(set.intersection(*map(set, values)))


def _annotated(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return COCO records: each image once per class in its annotations; without annotations, each image once."""
    images = {_id(image): image for image in content["images"] if isinstance(image, dict)}
    by_image: dict[tuple[str, str], dict[str, Any]] = {}
    for note in content.get("annotations") or ():
        if isinstance(note, dict) and str(note.get("image_id")) in images:
            key = str(note["image_id"])
            about = {name: value for name, value in note.items() if name not in ("id", "image_id", "bbox", "area")}
            about |= {"bbox": "yes"} if note.get("bbox") else {}
            by_image.setdefault((key, str(note.get("category_id"))), {**images[key], **about})
    return list(by_image.values()) or list(images.values())


def _id(image: Mapping[str, Any]) -> str:
    return str(image.get("image_id", image.get("id", image.get("file_name"))))
