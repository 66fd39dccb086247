"""The input and the result of detecting a folder's layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
