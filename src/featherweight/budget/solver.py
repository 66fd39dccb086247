"""The budget filled: the members of a family that come closest under a parameter limit.

A family's members are searched by closed form, thousands a second, one structure (a depth, a growth) at a time: of each
structure the fullest member is taken whose proportions are within 5 % of the published ones. Those few are built
without memory and weighed like any recipe, so what is proposed weighs in exactly.

The order of preference: members that fill the limit to within FILLED before those that don't; among these, structures
nearest to the one that is best known at such sizes (its `Filling` names it) first. `max_macs` bounds what they compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherweight import atomic, budget
from featherweight.budget.shrink import line
from featherweight.config import Competition, Recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES, FAMILY
from featherweight.models.family import FILLED, Arguments, Search
from featherweight.schema import Choice

FILLABLE = {name: family.filling for name, family in FAMILY.items() if family.filling is not None}
EXAMPLE = "sgd"  # a recipe needs an optimizer to be one, which weighs nothing


@dataclass(frozen=True)
class Member:
    """A member of a family, weighed."""

    spec: Choice
    weighed: budget.WeighIn

    @property
    def line(self) -> str:
        """What a recipe says to have it."""
        return f"model: {line(self.spec)}"


def fill(
    family: str, competition: Competition, limit: int | None = None, max_macs: float | None = None
) -> tuple[list[Member], int]:
    """The members of a family that fill a competition's limit (or another one), best first; and how many were counted.

    `max_macs` are multiply-adds for one image. The family is one of FILLABLE.
    """
    limit = limit or competition.limit.parameters
    competition = competition.model_copy(update={"limit": competition.limit.model_copy(update={"parameters": limit})})
    counted = 0
    members: list[Member] = []
    for structure in FILLABLE[family].structures:
        within = limit
        while within > 0:
            search = Search(within, len(competition.classes), competition.image.channels)
            found = FILLABLE[family].search(search, structure)
            counted += search.counted
            if found is None:
                break
            member = _weighed(family, found, competition)
            if member.weighed.room >= 0:
                members.append(member)
                break
            within += member.weighed.room  # statistics count here, which closed forms leave out: try for that much less
    affordable = [member for member in members if member.weighed.makes_weight]
    affordable = [member for member in affordable if max_macs is None or member.weighed.macs <= max_macs]
    distinct = {member.line: member for member in affordable}.values()
    return sorted(distinct, key=lambda member: member.weighed.counted < FILLED * limit), counted


def write(member: Member, name: str, path: Path) -> None:
    """Write a member as a recipe. Raises UserError where there is a file of that name."""
    if path.exists():
        raise UserError(f"--write {name}: there is a recipe {path} already; take another name")
    weighed = member.weighed
    head = f"# {weighed.counted:,} of {weighed.limit:,} parameters, found by ./run.sh fill {member.spec.name}."
    text = f"{head}\n#   ./run.sh {name}\nextends: {FILLABLE[member.spec.name].parent}\n{member.line}\n"
    atomic.write_text(path, text)


def _weighed(family: str, arguments: Arguments, competition: Competition) -> Member:
    spec = FAMILIES.validate({"name": family, **arguments})
    recipe = Recipe.model_validate({"model": spec, "optimizer": EXAMPLE})
    return Member(spec, budget.weigh(recipe, competition, line(spec)))
