"""Generate the reference page from the declarations of recipes and competitions."""

from __future__ import annotations

import inspect
import json
import math
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from featherweight.config import Competition, Recipe
from featherweight.config.key_names import section_of, table_of
from featherweight.schema import Choice, OneOf, Section

BOUNDLESS = 1_000_000  # larger bounds only exclude what no machine can do, and are not shown
HEAD = """\
# Reference

Every key of a recipe and of a competition. `./run.sh reference` generates this page from the code, and a test checks
that it is up to date. `LOGBOOK A12` and the like are rows and sections of [the logbook](logbook.md).

A key without a default must be given. If a key takes *one of* several names, give the name (`schedule: cosine`) or a
section with the name and its keys (`schedule: {name: cosine, final: 0.01}`). Each key can be changed for one run with
`--set`: `--set schedule.final=0.01`, or `--set augment.0.padding=0.2` for the first item of a list.
"""


def page() -> str:
    """Return the page in Markdown."""
    parts = [HEAD]
    for kind, title in ((Recipe, "Recipe"), (Competition, "Competition")):
        parts += [f"## {title}\n", f"{paragraphs(kind)}\n", *_table(kind)]
        for key, field in kind.model_fields.items():
            inner, table = section_of(field), table_of(field)
            if inner is not None:
                parts += [f"### {key}\n", f"{paragraphs(inner)}\n", *_table(inner, key)]
            if inner is not None:
                for name, deeper in inner.model_fields.items():
                    parts += _choices(f"{key}.{name}", table_of(deeper))
            parts += _choices(key, table)
    return "\n".join(parts)


def paragraphs(target: Any) -> str:
    """Return a docstring with each paragraph and list item on one line; of a metric, that of its function."""
    return re.sub(r"\n(?!\n|- )(?<!\n\n) *", " ", inspect.getdoc(inspect.unwrap(target)) or "")


def _choices(key: str, table: OneOf | None) -> Iterator[str]:
    if table is None:
        return
    yield f"### {key}\n\nOne of these.\n"
    for name, section in table.sections.items():
        yield f"#### {key}: {name}\n\n{paragraphs(table.table[name])}\n"
        yield from _table(section)


def _table(section: type[Section], prefix: str = "") -> Iterator[str]:
    fields = {key: field for key, field in section.model_fields.items() if not (key == "name" and _is_choice(section))}
    if not fields:
        return
    yield "| key | takes | default | |\n|---|---|---|---|"
    schema = section.model_json_schema()["properties"]
    for key, field in fields.items():
        meaning = field.description or ""
        path = f"`{prefix}.{key}`" if prefix else f"`{key}`"
        yield f"| {path} | {_takes(field, schema[key])} | {_default(field)} | {meaning} |".replace("  |", " |")
    yield ""


def _takes(field: FieldInfo, schema: dict[str, Any]) -> str:
    """Describe the values of a key."""
    inner, table = section_of(field), table_of(field)
    none = " or null" if type(None) in typing.get_args(field.annotation) else ""
    if inner is not None:
        return f"the section below{none}"
    if table is not None:
        many = typing.get_origin(field.annotation) is list
        return f"{'a list, each ' if many else ''}one of {', '.join(f'`{name}`' for name in table.table)}{none}"
    return in_words(schema)


def in_words(schema: dict[str, Any]) -> str:
    """Describe a JSON schema of plain values, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(in_words(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(one).strip(chr(34))}`" for one in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(in_words(one) for one in schema['prefixItems'])}]"
    if kind == "array":
        least = " (at least one)" if schema.get("minItems") else ""
        return f"a list of: {in_words(schema['items'])}{least}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"a section of names, each: {in_words(values)}" if isinstance(values, dict) else "a section"
    name = {"integer": "whole number", "number": "number", "boolean": "true or false", "null": "null", "string": "text"}
    bounds = {"minimum": "from", "exclusiveMinimum": "over", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [(word, schema[key]) for key, word in bounds.items() if abs(schema.get(key, math.inf)) < BOUNDLESS]
    return " ".join([name[str(kind)], *(f"{word} {limit:,}" for word, limit in limits)])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return ""
    return f"`{json.dumps(value)}`" if value is not None else "null"


def _is_choice(section: type[Section]) -> bool:
    return issubclass(section, Choice)
