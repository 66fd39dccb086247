"""Merge YAML files and overrides into one checked configuration, in which every error names its file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from featherweight import yaml
from featherweight.config.key_names import instead
from featherweight.errors import UserError
from featherweight.paths import find_config
from featherweight.schema import OneOf, Section, as_written

C = TypeVar("C", bound=Section)
SHOWN = 200  # characters of an override that an error repeats


class Override(NamedTuple):
    """A new value of a dotted key. `origin` says where it was given, for error messages."""

    key: str
    value: Any
    origin: str


def load(kind: type[C], folder: str, name: str, overrides: Sequence[str | Override] = ()) -> C:
    """Return the configuration called `name` in a folder of `configs/`, or stored at that path, with its parents and
    `key.path=value` overrides applied.

    Raises UserError with the place of every error.
    """
    merged = _Merged(kind)
    chain = _chain(folder, find_config(folder, name))
    for document in chain:
        layer = {key: value for key, value in document.data.items() if key != "extends"}
        merged.update(layer, document.where)
    for override in overrides:
        _apply(merged, _parsed(override) if isinstance(override, str) else override)
    return _validated(kind, merged, chain[-1].path)


def changed(config: C, overrides: Sequence[Override]) -> C:
    """Return a configuration with overrides applied. Raises UserError with the place of every error."""
    merged = _Merged(type(config))
    merged.update(config.model_dump(mode="json"), lambda path: "")
    for override in overrides:
        _apply(merged, override)
    return _validated(type(config), merged, Path("the given recipe"))


def validated(kind: type[C], document: yaml.Document) -> C:
    """Return the configuration in one file without parents. Raises UserError with the line of every error."""
    merged = _Merged(kind)
    merged.update(document.data, document.where)
    return _validated(kind, merged, document.path)


@dataclass
class _Merged:
    """Plain data merged from several places. `origins` has, for each key, the place that set it last."""

    kind: type[Section]
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def update(self, layer: Mapping[str, Any], origin_of: Any, at: tuple[Any, ...] = ()) -> None:
        """Merge `layer` into the data: another choice starts its section afresh, and a list replaces a list."""
        target = self._section(at)
        for written, value in layer.items():
            key = as_written(written, target) if as_written(written, target) not in layer else written
            path = (*at, key)
            where = origin_of if key == written else _below(origin_of, (*at, written))
            before = target.get(key, self.default(path))
            self.origins[path] = where(path)
            if isinstance(before, str) and isinstance(value, Mapping) and "name" not in value:
                before = target[key] = {"name": before}
            renamed = (
                isinstance(before, dict)
                and isinstance(value, Mapping)
                and value.get("name", before.get("name")) != before.get("name")
            )
            if isinstance(value, Mapping) and isinstance(before, dict) and not renamed:
                self.update(value, where, path)
            else:
                target[key] = value
                self.forget(path)
                self._remember(path, value, where)

    def default(self, path: tuple[Any, ...]) -> str | None:
        """Return the default name of the choice at `path`; None if there is none."""
        kind: Any = self.kind
        for key in path[:-1]:
            kind = getattr(kind, "model_fields", {}).get(key)
            kind = kind and kind.annotation
        found = getattr(kind, "model_fields", {}).get(path[-1])
        if found is None or not isinstance(found.default, str):
            return None
        return found.default if any(isinstance(one, OneOf) for one in found.metadata) else None

    def _section(self, at: tuple[Any, ...]) -> dict[str, Any]:
        section = self.data
        for key in at:
            section = section[key]
        return section

    def _remember(self, path: tuple[Any, ...], value: Any, origin_of: Any) -> None:
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, Mapping):
            items = value.items()
        elif isinstance(value, list):
            items = enumerate(value)
        for key, inner in items:
            self.origins[(*path, key)] = origin_of((*path, key))
            self._remember((*path, key), inner, origin_of)

    def forget(self, path: tuple[Any, ...]) -> None:
        """Remove the origins of all keys below `path`, whose value was replaced."""
        below = [known for known in self.origins if len(known) > len(path) and known[: len(path)] == path]
        for known in below:
            del self.origins[known]

    def origin(self, path: tuple[Any, ...]) -> str:
        """Return where the key at `path`, or the nearest section around it, was set."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, "")


def _below(origin_of: Callable[[tuple[Any, ...]], str], written: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], str]:
    """Return the origins in a section that the file calls by its other name, at `written`."""
    return lambda path: origin_of((*written, *path[len(written) :]))


def _validated(kind: type[C], merged: _Merged, path: Path) -> C:
    try:
        return kind.model_validate(merged.data)
    except ValidationError as error:
        raise UserError(_explain(error, merged, path)) from None


def _chain(folder: str, path: Path) -> list[yaml.Document]:
    """Return the file's ancestors, the eldest first, and the file itself."""
    chain: list[yaml.Document] = []
    seen: list[Path] = []
    while True:
        if path.resolve() in seen:
            raise UserError(f"{chain[0].where(('extends',))}: extends: {path.stem} extends itself")
        seen.append(path.resolve())
        document = yaml.read(path)
        chain.insert(0, document)
        parent = document.data.get("extends")
        if parent is None:
            return chain
        if not isinstance(parent, str):
            raise UserError(f"{document.where(('extends',))}: extends: expected the name of a parent, got {parent!r}")
        try:
            path = find_config(folder, parent)
        except UserError as error:
            raise UserError(f"{document.where(('extends',))}: extends: {error}") from None


def _parsed(override: str) -> Override:
    key, equals, text = override.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise UserError(f"--set {override}: expected key=value, for example --set optimizer.lr=0.2")
    origin = f"--set {override if len(override) <= SHOWN else f'{override[:SHOWN]}...'}"
    if text.endswith(":") and not text.startswith(("{", "[", "'", '"')):  # FILE.py: without a name, and no mapping
        return Override(key, text, origin)
    value = yaml.parse(text, origin)
    for one, missing in value.items() if isinstance(value, dict) else ():
        if missing is None and isinstance(one, str) and ":" in one:
            raise UserError(f"{origin}: a space is needed after the first colon of '{one}'")
    return Override(key, value, origin)


def _apply(merged: _Merged, override: Override) -> None:
    parts: list[Any] = override.key.split(".")
    target: Any = merged.data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(target, list) and part.isdigit() and int(part) < len(target):
            parts[depth] = part = int(part)
            if not isinstance(target[part], str | dict):
                around = ".".join(map(str, parts[:depth]))
                raise UserError(f"{override.origin}: name the whole list, as in --set '{around}=[...]'")
            target[part] = {"name": target[part]} if isinstance(target[part], str) else dict(target[part])
            target = target[part]
            continue
        if isinstance(target, dict):
            parts[depth] = part = as_written(part, target)
        if isinstance(target, dict) and isinstance(target.get(part), dict | list):
            target[part] = target[part].copy()
            target = target[part]
        elif isinstance(target, dict):
            name = target.get(part, merged.default(tuple(parts[: depth + 1])))
            fresh = {"name": name} if isinstance(name, str) else {}
            target[part] = fresh
            target = fresh
            merged.origins[tuple(parts[: depth + 1])] = override.origin
        else:
            where = ".".join(map(str, parts[: depth + 1]))
            raise UserError(f"{override.origin}: there is nothing at '{where}' to set")
    if isinstance(target, list):
        around = ".".join(map(str, parts[:-1]))
        raise UserError(f"{override.origin}: name the whole list, or a key of one item, as in {around}.0.KEY=VALUE")
    parts[-1] = as_written(parts[-1], target)
    restart = parts[-1] == "name" and target.get("name") != override.value
    if restart:
        target.clear()
    target[parts[-1]] = override.value
    merged.forget(tuple(parts))
    merged.origins[tuple(parts)] = override.origin


def _explain(error: ValidationError, merged: _Merged, path: Path) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        where: list[Any] = _without_tags(fault["loc"], merged.data)
        context = fault.get("ctx", {})
        if fault["type"] == "unknown_key":
            where.append(context["key"])
        message = fault["msg"][0].lower() + fault["msg"][1:].removesuffix(".")
        if fault["type"] == "unknown_key" and "did you mean" not in message:
            other = instead(merged.kind, context["key"], ".".join(map(str, where)))
            message = message.partition(";")[0] + other if other else message
        message = message.removeprefix("value error, ").replace("input should be", "must be")
        value = fault["input"]
        if fault["type"] == "missing":
            message = "this key is missing"
        elif isinstance(value, str | int | float | bool) and fault["type"] not in (
            "unknown_key",
            "choice",
            "own",
            "value_error",
        ):
            message += f", got {value!r}"
        named = (*where, "name") if fault["type"] == "choice" else tuple(where)
        origin = merged.origin(named) or str(path)
        lines.append(f"{origin}: {'.'.join(map(str, where))}: {message}" if where else f"{origin}: {message}")
    return "\n".join(dict.fromkeys(lines))


def _without_tags(location: Iterable[Any], data: Any) -> list[Any]:
    """Return an error's location without the names of choices, which Pydantic inserts and files do not have."""
    path: list[Any] = []
    for step in location:
        if isinstance(data, Mapping):
            step = as_written(step, data)
        if isinstance(data, Mapping) and step in data:
            data = data[step]
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step] if step < len(data) else None
        elif step == data or (isinstance(data, Mapping) and data.get("name") == step):
            continue
        path.append(step)
    return path
