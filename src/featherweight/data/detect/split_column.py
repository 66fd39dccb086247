"""A column that says which part of the data a row belongs to: Training, PublicTest, PrivateTest."""

from __future__ import annotations

from collections.abc import Iterable

from featherweight.data.detect.folder_roles import role


def parts_of(values: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """The values that mean held out, and those that mean the labelled test, where every value says its part."""
    roles = {value: _part(value.lower()) for value in sorted(set(values)) if value}
    if not 2 <= len(roles) <= 6 or "train" not in roles.values() or not all(roles.values()):
        return None
    return [v for v, part in roles.items() if part == "valid"], [v for v, part in roles.items() if part == "test"]


def _part(value: str) -> str:
    """As a competition calls its leaderboards; else as folders are called."""
    return "valid" if "public" in value else "test" if "private" in value else role(value)
