"""Absurd numbers for every key that takes a number.

Each is accepted, or refused at once with one message; no accepted number overflows float32. The keys come from the
declarations, so new keys are tested too; each gets some of the numbers, chosen by a seed.
"""

import math
import random
import resource
import time
import typing

import pytest

from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.config.key_names import section_of, table_of
from featherweight.errors import UserError
from featherweight.schema import Choice

ABSURD = ["0", "-1", "1e308", "-1e308", ".nan", ".inf", "-.inf", "9" * 400, "true", "''", "1000000000", "1e-320", "[]"]
EACH = 4  # of them for each key
SECONDS = 25  # of the processor, for some 1,200 of them
ALSO = {"tiny": ["ship=raw"], "digits": []}
NEEDED = {"wrn": "depth: 10", "cifar_resnet": "depth: 8"}  # where the least number is none that the choice takes


def is_number(schema):
    """True if a JSON schema accepts a number, or a list of numbers."""
    inner = [
        *schema.get("anyOf", []),
        *schema.get("prefixItems", []),
        *([schema["items"]] if "items" in schema else []),
    ]
    return schema.get("type") in ("integer", "number") or any(map(is_number, inner))


def shaped(schema, number):
    """Return the number in the form that the key takes: plain, in a list, or in a list of lists."""
    if "anyOf" in schema:
        return shaped(next(one for one in schema["anyOf"] if is_number(one)), number)
    if schema.get("type") != "array":
        return number
    return f"[{', '.join(shaped(one, number) for one in schema.get('prefixItems') or [schema['items']])}]"


def least(schema):
    """Return a value that the key accepts."""
    if "anyOf" in schema:
        return least(schema["anyOf"][0])
    if "enum" in schema or "const" in schema:
        return str(schema.get("enum", [schema.get("const")])[0])
    if schema.get("type") == "array":
        return f"[{', '.join(map(least, schema.get('prefixItems') or [schema['items']]))}]"
    return {"integer": str(max(schema.get("minimum", 1), 1)), "number": "0.5"}.get(schema.get("type"), "x")


def filled(name, section):
    """Return a section with all required keys, as YAML."""
    schema = section.model_json_schema()["properties"]
    keys = [key for key, field in section.model_fields.items() if field.is_required() and key != "name"]
    given = NEEDED.get(name) or ", ".join(f"{key}: {least(schema[key])}" for key in keys)
    return "{" + ", ".join(filter(None, [f"name: {name}" if name else "", given])) + "}"


def numeric(kind, prefix="", before=()):
    """Yield every key that takes numbers: the settings that it needs, its name and its schema."""
    schema = kind.model_json_schema()["properties"]
    for key, field in kind.model_fields.items():
        path, inner, table = f"{prefix}{key}", section_of(field), table_of(field)
        if key == "name" and issubclass(kind, Choice):
            continue
        if inner is not None:
            yield from numeric(inner, f"{path}.", (*before, f"{path}={filled('', inner)}"))
        elif table is not None:
            many = typing.get_origin(field.annotation) is list
            for name, section in table.sections.items():
                one = filled(name, section)
                yield from numeric(
                    section,
                    f"{path}.0." if many else f"{path}.",
                    (*before, f"{path}=[{one}]" if many else f"{path}={one}"),
                )
        elif is_number(schema[key]):
            yield before, path, schema[key]


def numbers(value):
    """Yield every number in plain data."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize(
    ("kind", "load", "name"), [(Recipe, load_recipe, "tiny"), (Competition, load_competition, "digits")]
)
def test_every_number_is_sound_or_refused(kind, load, name):
    drawn, began, tried = random.Random(0), time.process_time(), 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for before, path, schema in numeric(kind):
        for number in drawn.sample(ABSURD, EACH):
            tried += 1
            setting = f"{path}={shaped(schema, number)}"
            try:
                config = load(name, [*before, setting, *ALSO[name]])
            except UserError as error:
                said = str(error)
            else:
                said = ""
                assert all(math.isfinite(value) and abs(value) <= 1e30 for value in numbers(config.model_dump())), (
                    setting
                )
            assert not said or path.split(".")[0] in said, (setting, said)
            assert said.count("\n") < 5, setting
            assert len(said) < 2000, setting
    assert tried > 80
    assert time.process_time() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000  # kilobytes
