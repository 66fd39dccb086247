"""The input and the result of detecting a folder's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from featherweight.data.detect.sample_submission import SampleSubmission


@dataclass(frozen=True)
class Hints:
    """What the user, or a known competition, says about the data: columns, target, the test folder or table."""

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
        """The columns named by `label`, separated by commas."""
        return [name.strip() for name in self.label.split(",")] if self.label else []

    def declared_besides(self, purpose: Literal["id", "label", "group"]) -> set[str]:
        """The columns that the user names for another purpose than this one, for which they are no candidates."""
        named: dict[str, Sequence[str | None]] = {"id": [self.id], "label": self.labels, "group": [self.group]}
        return {column for other, columns in named.items() if other != purpose for column in columns if column}


@dataclass
class Detected:
    """A competition's source section, its target, its sample submission, and the messages about them."""

    source: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    target: str = "one"
    sample: SampleSubmission | None = None
    pattern: str | None = None  # of ids, whose first parentheses find which images belong together
    grouped: str = ""  # in words, the column that says which images belong together
