"""The budget filled: the members of a family that come closest under a parameter limit.

A family's members are searched by closed form, thousands a second, one structure (a depth, a growth) at a time: of each
structure the fullest member is taken whose proportions are within SLACK of the published ones. Those few are built
without memory and weighed like any recipe, so what is proposed weighs in exactly.

The order of preference: members that fill the limit to within FILLED before those that don't; among these, structures
nearest to the one that is best known at such sizes (SEARCHES names it) first. `max_macs` bounds what they compute.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight import atomic, budget
from featherweight.budget.shrink import line
from featherweight.config import Competition, Recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES
from featherweight.models.adapted import MOBILENET_V2, MOBILENET_V2_REPEATS
from featherweight.models.efficientnet import STAGES, end_channels, scaled_channels, scaled_repeats, scaled_stages
from featherweight.schema import Choice

SLACK = 0.05  # how far channels may be from a family's proportions
HEADS = (0.75, 1.5)  # how far a last convolution may be from its published width
FILLED = 0.99  # of the limit
# Fast nets: convolutions a group, and the proportions of the 94 %, 95 % and 96 % speed runs.
FAST_SHAPES = list(itertools.product((2, 3), ((128, 384, 384), (64, 256, 256), (128, 256, 352))))
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


@dataclass
class Search:
    """What is to be filled, and how many candidates have been counted for that."""

    limit: int
    classes: int
    channels: int
    counted: int = 0

    def fits(self, parameters: int) -> bool:
        """Is a candidate within the limit?"""
        self.counted += 1
        return parameters <= self.limit


Found = dict[str, Any]  # the arguments of a member


def fill(
    family: str, competition: Competition, limit: int | None = None, max_macs: float | None = None
) -> tuple[list[Member], int]:
    """The members of a family that fill a competition's limit (or another one), best first; and how many were counted.

    `max_macs` are multiply-adds for one image. The family is one of SEARCHES.
    """
    limit = limit or competition.limit.parameters
    competition = competition.model_copy(update={"limit": competition.limit.model_copy(update={"parameters": limit})})
    counted = 0
    members: list[Member] = []
    for structure in SEARCHES[family][1]:
        within = limit
        while within > 0:
            search = Search(within, len(competition.classes), competition.image.channels)
            found = SEARCHES[family][0](search, structure)
            counted += search.counted
            if found is None:
                break
            member = _weighed(family, found, competition)
            if member.weighed.room >= 0:
                members.append(member)
                break
            within += member.weighed.room  # statistics count here, which closed forms leave out: try for that much less
    affordable = [member for member in members if max_macs is None or member.weighed.macs <= max_macs]
    distinct = {member.line: member for member in affordable}.values()
    return sorted(distinct, key=lambda member: member.weighed.counted < FILLED * limit), counted


def write(member: Member, name: str, path: Path) -> None:
    """Write a member as a recipe. Raises UserError where there is a file of that name."""
    if path.exists():
        raise UserError(f"--write {name}: there is a recipe {path} already; take another name")
    weighed = member.weighed
    head = f"# {weighed.counted:,} of {weighed.limit:,} parameters, found by ./run.sh fill {member.spec.name}."
    text = f"{head}\n#   ./run.sh {name}\nextends: {PARENTS[member.spec.name]}\n{member.line}\n"
    atomic.write_text(path, text)


def _weighed(family: str, arguments: Found, competition: Competition) -> Member:
    spec = FAMILIES.validate({"name": family, **arguments})
    recipe = Recipe.model_validate({"model": spec, "optimizer": EXAMPLE})
    return Member(spec, budget.weigh(recipe, competition, line(spec)))


# Closed forms: the parameters of a member. The tests hold each against the model as built.


def count_wrn(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Of a WRN of basic blocks with projections."""
    blocks, inputs, total = (depth - 4) // 6, 16, 9 * 16 * channels
    for group, outputs in enumerate(widths):
        total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2
        total += inputs * outputs if inputs != outputs or group else 0
        total += (blocks - 1) * (4 * outputs + 18 * outputs**2)
        inputs = outputs
    return total + 2 * inputs + inputs * classes + classes


def count_cifar_resnet(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Of a CIFAR ResNet or its plain twin."""
    blocks, inputs = (depth - 2) // 6, widths[0]
    total = 9 * channels * inputs + 2 * inputs
    for outputs in widths:
        total += 9 * inputs * outputs + 9 * outputs**2 + 4 * outputs + (blocks - 1) * (18 * outputs**2 + 4 * outputs)
        inputs = outputs
    return total + inputs * classes + classes


def count_fastnet(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Of a fast net with `depth` convolutions a group."""
    inputs = 8 * channels
    total = inputs * 4 * channels + inputs
    for outputs in widths:
        total += 9 * inputs * outputs + (depth - 1) * 9 * outputs**2 + 2 * depth * outputs
        inputs = outputs
    return total + inputs * classes


def count_efficientnet(width: float, depth: float, head: int, channels: int, classes: int) -> int:
    """Of an EfficientNet whose depth is spread."""
    inputs, last = end_channels(width, head)
    total = 9 * channels * inputs + 2 * inputs
    for repeats, kernel, _, expansion, outputs in scaled_stages(width, depth, "spread"):
        for _ in range(repeats):
            inner, squeezed = inputs * expansion, max(1, inputs // 4)
            total += inputs * inner + 2 * inner if expansion > 1 else 0
            total += (kernel**2 + 2) * inner + 2 * inner * squeezed + squeezed + inner + inner * outputs + 2 * outputs
            inputs = outputs
    return total + inputs * last + 2 * last + last * classes + classes


def count_mobilenet_v2(width: float, repeats: Sequence[int], head: int, channels: int, classes: int) -> int:
    """Of a MobileNet v2 with a last convolution of `head` channels."""
    inputs = scaled_channels(32, width)
    total = 9 * channels * inputs + 2 * inputs
    for expansion, base, _, count in zip(*MOBILENET_V2, repeats, strict=True):
        outputs = scaled_channels(base, width)
        for _ in range(count):
            inner = inputs * expansion
            total += inputs * inner + 2 * inner if expansion > 1 else 0
            total += 11 * inner + inner * outputs + 2 * outputs
            inputs = outputs
    return total + inputs * head + 2 * head + head * classes + classes


def count_densenet(blocks: Sequence[int], growth: int, initial: int, channels: int, classes: int) -> int:
    """Of a DenseNet-BC: bottlenecks of four times the growth, transitions that halve the channels."""
    total, width = 49 * channels * initial + 2 * initial, initial
    for place, layers in enumerate(blocks):
        widths = layers * width + growth * layers * (layers - 1) // 2  # summed over the layers
        total += widths * (2 + 4 * growth) + layers * (8 * growth + 36 * growth**2)
        width += layers * growth
        if place < len(blocks) - 1:
            total += 2 * width + width * (width // 2)
            width //= 2
    return total + 2 * width + width * classes + classes


# Whose training settings a written recipe takes.
PARENTS = {
    "wrn": "_base",
    "cifar_resnet": "_cifar_resnet",
    "efficientnet": "_gentle",
    "mobilenet_v2": "_gentle",
    "densenet": "_base",
    "fastnet": "fastnet94",
}


# Searches: the arguments of the fullest member of one structure, or None where even the least is too much.


def _three_widths(search: Search, proportions: Sequence[int], count: Callable[..., int]) -> list[int] | None:
    """Three groups' channels in proportion, scaled to the limit, then the fullest of all within SLACK of that."""

    def scaled(last: int) -> list[int]:
        return [max(1, round(part * last / proportions[-1])) for part in proportions]

    low, high = 0, 1
    while search.fits(count(scaled(high))):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if search.fits(count(scaled(middle))) else (low, middle)
    if low == 0:
        return None
    nearby = [range(round(width * (1 - SLACK)), round(width * (1 + SLACK)) + 1) for width in scaled(low)[:2]]
    around = itertools.product(*nearby, range(max(1, low - 2), low + 3))
    best, most = scaled(low), count(scaled(low))
    for widths in around:
        parameters = count(widths)
        if search.fits(parameters) and parameters > most and list(widths) == sorted(widths):
            best, most = list(widths), parameters
    return best


def _wrn(search: Search, depth: int) -> Found | None:
    def count(widths: Sequence[int]) -> int:
        return count_wrn(depth, widths, search.channels, search.classes)

    widths = _three_widths(search, (16, 32, 64), count)
    return {"depth": depth, "widths": widths} if widths else None


def _cifar_resnet(search: Search, depth: int) -> Found | None:
    def count(widths: Sequence[int]) -> int:
        return count_cifar_resnet(depth, widths, search.channels, search.classes)

    widths = _three_widths(search, (16, 32, 64), count)
    return {"depth": depth, "widths": widths} if widths else None


def _fastnet(search: Search, structure: tuple[int, tuple[int, int, int]]) -> Found | None:
    depth, proportions = structure

    def count(widths: Sequence[int]) -> int:
        return count_fastnet(depth, widths, search.channels, search.classes)

    widths = _three_widths(search, proportions, count)
    return {"depth": depth, "widths": widths} if widths else None


def _efficientnet(search: Search, total: int) -> Found | None:
    """`total` blocks: the width whose last convolution, taking up what is left, is nearest to its published width."""
    depth = total / sum(stage[0] for stage in STAGES)
    count = _cached_head(lambda width, head: count_efficientnet(width, depth, head, search.channels, search.classes))
    found = _width_and_head(search, count, lambda width: end_channels(width, None)[1])
    return {**found, "depth": depth, "depth_rounding": "spread"} if found else None


def _mobilenet_v2(search: Search, total: int) -> Found | None:
    repeats = scaled_repeats(MOBILENET_V2_REPEATS, total / sum(MOBILENET_V2_REPEATS), "spread")
    count = _cached_head(lambda width, head: count_mobilenet_v2(width, repeats, head, search.channels, search.classes))
    found = _width_and_head(search, count, lambda width: scaled_channels(1280, max(1.0, width)))
    return {**found, "repeats": repeats} if found else None


def _cached_head(count: Callable[[float, int], int]) -> Callable[[float, int], int]:
    """The same count, which is linear in the head, from two of its values a width."""
    known: dict[float, tuple[int, int]] = {}

    def linear(width: float, head: int) -> int:
        if width not in known:
            first = count(width, 1)
            known[width] = (first, count(width, 2) - first)
        first, slope = known[width]
        return first + (head - 1) * slope

    return linear


def _width_and_head(
    search: Search, count: Callable[[float, int], int], published: Callable[[float], int]
) -> Found | None:
    """The width, in hundredths, and the head that fills the limit with it, nearest to its published width."""
    best: tuple[float, Found] | None = None
    for hundredths in range(10, 1001):
        width = hundredths / 100
        nominal = published(width)
        slope = count(width, 2) - count(width, 1)
        head = 1 + (search.limit - count(width, 1)) // slope
        if not search.fits(count(width, max(head, 1))) or head < HEADS[0] * nominal:
            if head < 1:
                break
            continue
        head = min(head, round(HEADS[1] * nominal))
        off = abs(head / nominal - 1)
        full = count(width, head) >= FILLED * search.limit
        key = off if full else 10 + (search.limit - count(width, head)) / search.limit
        if best is None or key < best[0]:
            best = key, {"width": width, "head": head}
    return best[1] if best else None


def _densenet(search: Search, growth: int) -> Found | None:
    """The fullest of all depths, dealt out as in DenseNet-121, and stems of once to four times the growth."""
    best: Found | None = None
    most = 0
    for total in range(4, 400):
        blocks = scaled_repeats([6, 12, 24, 16], total / 58, "spread")
        if not search.fits(count_densenet(blocks, growth, 2 * growth, search.channels, search.classes)):
            break
        for initial in range(growth, 4 * growth + 1):
            parameters = count_densenet(blocks, growth, initial, search.channels, search.classes)
            if search.fits(parameters) and parameters > most:
                best, most = {"blocks": blocks, "growth": growth, "initial": initial}, parameters
    return best


def _from(best: int, choices: range) -> list[int]:
    """Structures in the order of preference."""
    return sorted(choices, key=lambda structure: abs(structure - best))


# By family: the search, and the structures it is asked for, best known first: WRN-28 (its paper's best), ResNet-20
# widened (96.9 % on CIFAR-10 with 4.3 million parameters), the blocks of EfficientNet-B0 and of MobileNet v2,
# DenseNet-BC of growth 24, the fast nets of 95, 94 and 96 %.
SEARCHES: dict[str, tuple[Callable[[Search, Any], Found | None], Sequence[Any]]] = {
    "wrn": (_wrn, _from(28, range(10, 101, 6))),
    "cifar_resnet": (_cifar_resnet, _from(20, range(8, 111, 6))),
    "efficientnet": (_efficientnet, _from(16, range(10, 33))),
    "mobilenet_v2": (_mobilenet_v2, _from(17, range(10, 28))),
    "densenet": (_densenet, _from(24, range(8, 49, 4))),
    "fastnet": (_fastnet, FAST_SHAPES),
}
