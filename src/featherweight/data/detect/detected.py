"""What a survey asks for and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from featherweight.data.detect.sample import Sample


@dataclass(frozen=True)
class Hints:
    """What the user, or a known competition, says of the data: columns, the target, a folder or table of the test."""

    id: str | None = None
    label: str | None = None
    group: str | None = None
    target: str | None = None
    test: str | None = None
    separator: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    likely: dict[str, str | None] = field(default_factory=dict)  # columns known of the competition, if they are there

    @property
    def labels(self) -> list[str]:
        """The columns named by `label`, which may be several, separated by commas."""
        return [name.strip() for name in self.label.split(",")] if self.label else []


@dataclass
class Detected:
    """The source of a competition as its file says it, the target, the sample submission, and what to tell."""

    source: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    target: str = "one"
    sample: Sample | None = None
    pattern: str | None = None  # of ids, whose first parentheses find which images belong together
    grouped: str = ""  # in words, the column that says which images belong together
