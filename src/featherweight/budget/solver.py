"""Filling the limit: the members of a family that come closest to a parameter limit from below.

A family's members are searched by closed form, thousands per second, one structure (a depth, a growth) at a time: of
each structure the largest member is taken whose proportions are within 5 % of the published ones. These few are built
without memory and checked like any recipe, so the counts of proposals are exact.

A network of timm has no closed form, and is counted without memory at a few widths, in thousandths: see `timm_width`.

Members that fill the limit to FILLED come first; among these, structures nearest to the one that is best known at such
sizes (named by its `Filling`). `max_macs` limits their multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherweight import atomic, budget
from featherweight.budget.shrink import line
from featherweight.config import Competition, Recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES, FAMILY
from featherweight.models.family import FILLED, Arguments, FillTarget
from featherweight.schema import Choice

FILLABLE = {name: family.filling for name, family in FAMILY.items() if family.filling is not None}
TIMM, TIMM_PARENT = "timm/", "_gentle"
WIDTHS = (50, 10_000)  # in thousandths of a variant's
NEAR = 5  # thousandths below the widest that fits that are tried too, since channels are rounded
LEAST_CUT = 0.99  # factor on the parameters, if another limit is exceeded
EXAMPLE = "sgd"  # a recipe needs some optimizer, which does not count


@dataclass(frozen=True)
class Member:
    """A member of a family, and its check against the limit."""

    spec: Choice
    weighed: budget.BudgetCheck

    @property
    def line(self) -> str:
        """The member as it is written in a recipe."""
        return f"model: {line(self.spec)}"


def fill(
    family: str, competition: Competition, limit: int | None = None, max_macs: float | None = None
) -> tuple[list[Member], int]:
    """Return the members of a family that fill a competition's or another limit, best first, and the number counted.

    `max_macs` are multiply-adds for one image. The family is one of FILLABLE, or `timm/NAME`. Raises UserError for a
    network that timm does not know, or has in one width only.
    """
    limit = limit or competition.limit.parameters
    limits: dict[str, int] = {"parameters": limit}
    if max_macs is not None:
        limits["macs"] = min(int(max_macs), competition.limit.macs or int(max_macs))
    competition = competition.model_copy(update={"limit": competition.limit.model_copy(update=limits)})
    members, counted = (
        _of_timm(family, competition) if family.startswith(TIMM) else _by_closed_form(family, competition)
    )
    affordable = [member for member in members if member.weighed.within_limit]
    distinct = {member.line: member for member in affordable}.values()
    return sorted(distinct, key=lambda member: member.weighed.counted < FILLED * limit), counted


def _of_timm(name: str, competition: Competition) -> tuple[list[Member], int]:
    """Return the widest that fits and those slightly narrower, the largest first, and the number counted."""
    counted: dict[int, int] = {}

    def count(width: int) -> int:
        if width not in counted:
            spec = FAMILIES.validate({"name": name, "width": width / 1000})
            counted[width] = budget.count_parameters(spec, competition)
        return counted[width]

    low, high = WIDTHS[0] - 1, WIDTHS[1] + 1
    while high - low > 1:  # all below `low` fit, or nearly all, and nothing from `high` on
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= competition.limit.parameters else (low, middle)
    near = range(max(WIDTHS[0], low - NEAR), low + NEAR + 1)
    fits = {count(width): width for width in near if count(width) <= competition.limit.parameters}
    best = [fits[parameters] for parameters in sorted(fits, reverse=True)]
    return [_weighed(name, {"width": width / 1000}, competition) for width in best], len(counted)


def _by_closed_form(family: str, competition: Competition) -> tuple[list[Member], int]:
    """Return the largest member of each structure, the best known first, and the number counted."""
    limit, counted = competition.limit.parameters, 0
    members: list[Member] = []
    for structure in FILLABLE[family].structures:
        within = limit
        while within > 0:
            wanted = FillTarget(within, len(competition.classes), competition.image.channels)
            keys = FILLABLE[family].search(wanted, structure)
            counted += wanted.counted
            if keys is None:
                break
            member = _weighed(family, keys, competition)
            if member.weighed.within_limit:
                members.append(member)
                break
            # Over by what closed forms leave out: statistics that count here, or another limit. Try for that much less.
            parts = [one.limit / one.value for one in member.weighed.measures if one.is_over]
            less = [int(within * min(LEAST_CUT, part)) for part in parts]
            within = min(within + min(0, member.weighed.room), *less) if less else within + member.weighed.room
    return members, counted


def write(member: Member, name: str, path: Path) -> None:
    """Write a member as a recipe. Raises UserError if a file of that name exists."""
    if path.exists():
        raise UserError(f"--write {name}: there is a recipe {path} already: use another name")
    weighed = member.weighed
    head = f"# {weighed.counted:,} of {weighed.limit:,} parameters, found by ./run.sh fill {member.spec.name}."
    filling = FILLABLE.get(member.spec.name)
    text = f"{head}\n#   ./run.sh {name}\nextends: {filling.parent if filling else TIMM_PARENT}\n{member.line}\n"
    atomic.write_text(path, text)


def _weighed(family: str, arguments: Arguments, competition: Competition) -> Member:
    spec = FAMILIES.validate({"name": family, **arguments})
    recipe = Recipe.model_validate({"model": spec, "optimizer": EXAMPLE})
    return Member(spec, budget.weigh(recipe, competition, line(spec)))
