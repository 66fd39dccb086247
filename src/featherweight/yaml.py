"""YAML 1.2: reading to plain values and the line of every key, writing, and errors that say where.

YAML 1.2 reads `5e-4` as a number and `no` as a word, which YAML 1.1 does not; a repeated key is refused.
"""

from __future__ import annotations

import copy
import functools
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq, CommentedSet
from ruamel.yaml.error import MarkedYAMLError

from featherweight.errors import UserError
from featherweight.untrusted_files import LARGEST_TEXT, read_text, reason

LARGEST_TREE = 200_000  # values
DEEPEST = 50  # levels


@dataclass(frozen=True)
class Document:
    """The content of a YAML file: its plain data, and the line of each key."""

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[Any, ...], int]

    def where(self, path: tuple[Any, ...]) -> str:
        """Return `file:line` of the key at `path` (a tuple of keys and list indices)."""
        line = self.lines.get(path)
        return f"{self.path}:{line}" if line else str(self.path)


def read(path: Path) -> Document:
    """Return the content of a file that holds one mapping. Raises UserError with the line of invalid YAML."""
    data, lines = _read(read_text(path, LARGEST_TEXT), str(path))
    return Document(path, copy.deepcopy(data), lines)


@functools.lru_cache(maxsize=256)  # the parents of many recipes are one file, and a run's are read again and again
def _read(text: str, origin: str) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    tree = _parse(text, origin, "rt")
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{origin}: expected keys and values, got {type(plain(tree)).__name__}")
    data = _bounded(tree, origin)
    lines: dict[tuple[Any, ...], int] = {}
    _collect_lines(tree, (), lines)
    for key in data:
        if not isinstance(key, str):
            raise UserError(f"{origin}: the key {key!r} is not text")
    return data, lines


def parse(text: str, origin: str) -> Any:
    """Return one value, typed as in a YAML file."""
    return _bounded(_parse(text, origin, "safe"), origin)


def dump(data: Any, compact: bool = False) -> str:
    """Return YAML text, keys in the given order; `compact` writes innermost lists and sections on one line."""
    return _written(data, flow=None if compact else False, width=120)


def dump_flow(data: Any) -> str:
    """Return YAML text in one line: `{name: wrn, depth: 16}`."""
    return _written(data, flow=True, width=10_000).strip()


def _written(data: Any, *, flow: bool | None, width: int) -> str:
    stream = io.StringIO()
    writer = ruamel.yaml.YAML(typ="safe", pure=True)
    writer.default_flow_style = flow
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = width
    writer.dump(data, stream)
    return stream.getvalue()


def _bounded(tree: Any, origin: str) -> Any:
    """Return `plain` of a tree of limited size: ten lines of nested aliases can make an immense one."""
    left = LARGEST_TREE
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        left -= 1
        if left < 0:
            raise UserError(f"{origin}: refused: with all its aliases it has more than {LARGEST_TREE:,} values")
        if depth > DEEPEST:
            raise UserError(f"{origin}: refused: it is nested more than {DEEPEST} levels deep")
        tag = getattr(getattr(node, "tag", None), "value", None)
        if tag is not None or isinstance(node, set | bytes | CommentedSet | CommentedOrderedMap):
            raise UserError(f"{origin}: refused: the tag {tag or 'of a set or of bytes'}; only plain values are read")
        if isinstance(node, dict):
            _refuse_keys(node, origin)
            waiting += [(inner, depth + 1) for pair in node.items() for inner in pair]
        elif isinstance(node, list | tuple | set):
            waiting += [(inner, depth + 1) for inner in node]
    return plain(tree)


def _refuse_keys(node: dict[Any, Any], origin: str) -> None:
    strange = next((key for key in node if isinstance(key, list | tuple | dict | set)), None)
    if strange is not None:
        raise UserError(f"{origin}: a key is a list or a section; expected a word")


def plain(tree: Any) -> Any:
    """Return Python's own types in place of the parser's."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple | set):
        return [plain(value) for value in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree if tree is None else str(tree)


def _parse(text: str, origin: str, kind: str) -> Any:
    opened = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):  # the parser takes quadratic time for nested ones
        opened += 1 if bracket in "[{" else -1
        deepest = max(deepest, opened)
    if deepest > 4 * DEEPEST:
        raise UserError(f"{origin}: not valid YAML: {deepest:,} nested brackets")
    try:
        return ruamel.yaml.YAML(typ=kind, pure=True).load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and kind == "rt" else ""
        raise UserError(f"{origin}{line}: not valid YAML: {(error.problem or str(error)).splitlines()[0]}") from None
    except Exception as error:  # the parser may fail in any way on malformed files
        raise UserError(f"{origin}: not valid YAML: {reason(error)}") from None


def _collect_lines(tree: Any, at: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> None:
    if isinstance(tree, CommentedMap):
        places = tree.lc.data or {}  # none where all keys are merged from another section
        for key, value in tree.items():
            if key in places:
                lines[(*at, key)] = tree.lc.key(key)[0] + 1
            _collect_lines(value, (*at, key), lines)
    elif isinstance(tree, CommentedSeq):
        places = tree.lc.data or {}
        for position, value in enumerate(tree):
            if position in places:
                lines[(*at, position)] = tree.lc.item(position)[0] + 1
            _collect_lines(value, (*at, position), lines)
