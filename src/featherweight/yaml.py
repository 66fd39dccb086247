"""YAML 1.2 in and out: plain values, the line of every key, and errors that say where.

YAML 1.2 reads `5e-4` as a number and `no` as a word, which YAML 1.1 does not; a key given twice is refused.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from featherweight.errors import UserError


@dataclass(frozen=True)
class Document:
    """A YAML file read: its plain data, and where each key stands."""

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[Any, ...], int]

    def where(self, path: tuple[Any, ...]) -> str:
        """`file:line` of the key at `path` (a tuple of keys and list positions)."""
        line = self.lines.get(path)
        return f"{self.path}:{line}" if line else str(self.path)


def read(path: Path) -> Document:
    """Read a file that holds one mapping. Raises UserError with the line of what is not YAML."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    tree = _parse(text, str(path), "rt")
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise UserError(f"{path}: expected keys and values, got {type(plain(tree)).__name__}")
    lines: dict[tuple[Any, ...], int] = {}
    _collect_lines(tree, (), lines)
    data = plain(tree)
    for key in data:
        if not isinstance(key, str):
            raise UserError(f"{path}: the key {key!r} is not text")
    return Document(path, data, lines)


def parse(text: str, origin: str) -> Any:
    """One value, typed as a YAML file would type it."""
    return plain(_parse(text, origin, "safe"))


def dump(data: Any, compact: bool = False) -> str:
    """YAML text, keys in the order given; `compact` puts the innermost lists and sections on one line each."""
    stream = io.StringIO()
    writer = ruamel.yaml.YAML(typ="safe", pure=True)
    writer.default_flow_style = None if compact else False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 120
    writer.dump(data, stream)
    return stream.getvalue()


def dump_flow(data: Any) -> str:
    """YAML text in one line: `{name: wrn, depth: 16}`."""
    stream = io.StringIO()
    writer = ruamel.yaml.YAML(typ="safe", pure=True)
    writer.default_flow_style = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 10_000
    writer.dump(data, stream)
    return stream.getvalue().strip()


def plain(tree: Any) -> Any:
    """Python's own types in place of the parser's."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple | set):
        return [plain(value) for value in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree if tree is None else str(tree)


def _parse(text: str, origin: str, kind: str) -> Any:
    try:
        return ruamel.yaml.YAML(typ=kind, pure=True).load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and kind == "rt" else ""
        raise UserError(f"{origin}{line}: not valid YAML: {(error.problem or str(error)).splitlines()[0]}") from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}") from None


def _collect_lines(tree: Any, at: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> None:
    if isinstance(tree, CommentedMap):
        for key, value in tree.items():
            if key in tree.lc.data:
                lines[(*at, key)] = tree.lc.key(key)[0] + 1
            _collect_lines(value, (*at, key), lines)
    elif isinstance(tree, CommentedSeq):
        for position, value in enumerate(tree):
            if position in tree.lc.data:
                lines[(*at, position)] = tree.lc.item(position)[0] + 1
            _collect_lines(value, (*at, position), lines)
