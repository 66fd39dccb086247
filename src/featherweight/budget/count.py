"""The check of a model against the parameter limit. What counts: `budget.what_counts`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from featherweight.budget.caches import Caches
from featherweight.budget.other_limits import Measure, measured, together
from featherweight.budget.shrink import line, nearest_that_fits
from featherweight.budget.what_counts import Group, groups, refuse_untrainable
from featherweight.config import Competition, Recipe
from featherweight.errors import OverBudget, UserError
from featherweight.models import FAMILIES, Classifier, outline, outline_run
from featherweight.models.blocks import STEM_RULE
from featherweight.models.custom import CustomModel, pretrained_argument
from featherweight.models.pretrained_weights import starts_pretrained
from featherweight.runtime.torch_internals import ptflops_macs, spare_the_flop_counter
from featherweight.schema import Choice


@dataclass(frozen=True)
class BudgetCheck:
    """The parameters of a model, and the limit.

    `macs`: multiply-adds for one image; `macs_check`: ptflops' count, minus bias additions. `sides`: heights of the
    maps through the network, in pixels, the image's first; `stem`: the rule that the first of them follow, in words.
    """

    name: str
    groups: list[Group]
    limit: int
    counts_statistics: bool
    macs: int
    macs_check: int | None = None
    sides: tuple[int, ...] = ()
    stem: str = ""
    measures: tuple[Measure, ...] = ()  # of the competition's other limits
    find_lighter: Callable[[], Choice | None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def parameters(self) -> int:
        """Parameters that always count."""
        return sum(group.parameters for group in self.groups)

    @property
    def statistics(self) -> int:
        """Values in buffers that hold statistics."""
        return sum(group.statistics for group in self.groups)

    @property
    def counted(self) -> int:
        """Parameters counted against the limit."""
        return self.parameters + (self.statistics if self.counts_statistics else 0)

    @property
    def room(self) -> int:
        """Parameters left below the limit; negative if it is exceeded."""
        return self.limit - self.counted

    @property
    def within_limit(self) -> bool:
        """True if every limit of the competition is met."""
        return self.room >= 0 and not any(one.is_over for one in self.measures)

    @property
    def excess(self) -> str:
        """The exceeded limits, in words; empty if all are met."""
        own = [f"{self.counted:,} parameters, {-self.room:,} over the limit"] if self.room < 0 else []
        return "; ".join([*own, *(str(one) for one in self.measures if one.is_over)])

    def refuse_if_over(self) -> None:
        """Raise OverBudget if a limit is exceeded, with the largest groups and the nearest variant within it."""
        if self.within_limit:
            return
        if self.room >= 0:
            raise OverBudget(f"{self.name} is over what the competition allows: {self.excess}. Choose a smaller model.")
        largest = sorted(self.groups, key=lambda group: -group.parameters)[:3]
        parts = ", ".join(f"{group.name} {group.parameters:,}" for group in largest if group.parameters)
        lighter = self.find_lighter()
        raise OverBudget(
            f"{self.name} has {self.counted:,} parameters, {-self.room:,} over the limit of {self.limit:,}. "
            f"The largest parts: {parts}. "
            + (f"The nearest variant within the limit: model: {line(lighter)}" if lighter else "Choose a smaller one.")
        )


def weigh(recipe: Recipe, competition: Competition, name: str, cross_check: bool = False) -> BudgetCheck:
    """Check a recipe's model against a competition's limits, without data or memory: it runs once on the meta device.

    `cross_check` also counts MACs with ptflops' aten backend. Raises UserError for pretrained weights and pseudo-labels
    where the competition does not allow them.
    """
    competition = competition.seen_by(recipe)
    if starts_pretrained(recipe.model) and not competition.limit.allow_pretrained:
        raise UserError(
            f"model.pretrained: {competition.title} does not allow weights trained on other images "
            f"(limit.allow_pretrained in the competition's file)"
        )
    own = pretrained_argument(recipe.model) if isinstance(recipe.model, CustomModel) else ""
    if own and not competition.limit.allow_pretrained:
        raise UserError(
            f"model: {recipe.model.name} is called with {own}, and {competition.title} does not allow weights trained "
            f"on other images: --set model.{own.partition('=')[0]}=false, or null (limit.allow_pretrained in the "
            f"competition's file)"
        )
    if recipe.pseudo is not None and not competition.limit.allow_pseudo_labels:
        raise UserError(
            f"pseudo: {competition.title} does not allow training on its images to predict "
            f"(limit.allow_pseudo_labels in the competition's file)"
        )
    shape = competition.shape
    model = outline(recipe.model, shape)
    if isinstance(recipe.model, CustomModel) and recipe.train.epochs:
        refuse_untrainable(model, recipe.model.name)
    for parameter in model.parameters():  # else the counter would track gradients
        if not nn.parameter.is_lazy(parameter):  # created by the first batch
            parameter.requires_grad_(False)
    caches = Caches(model)
    sides = _watch_sides(model, shape.size)
    counter = FlopCounterMode(display=False)
    spare_the_flop_counter()
    with outline_run(model, shape) as example, counter, caches:
        model(example)  # also creates lazy parameters, so it comes before the count
    flops = {module: sum(by_operator.values()) for module, by_operator in counter.get_flop_counts().items()}
    checked = ptflops_macs(model, example) if cross_check and example.is_meta else None
    macs_check = None if checked is None else checked[0] - checked[1]
    stem = recipe.model.arguments.get("stem", "")
    rule = STEM_RULE if stem == "auto" else f"shrinks by {stem}, as the recipe says" if stem else ""
    weighed = _weighed(model, competition, name, flops, macs_check, caches.derived)

    def fits(spec: Choice) -> bool:
        return count_parameters(spec, competition) <= competition.limit.parameters

    measures = measured(model, competition, weighed.macs)
    find_lighter = functools.partial(nearest_that_fits, recipe.model, FAMILIES, fits)
    return dataclasses.replace(weighed, sides=tuple(sides), stem=rule, measures=measures, find_lighter=find_lighter)


def weigh_all(recipes: Mapping[str, Recipe], competition: Competition) -> list[BudgetCheck]:
    """Check recipes by name; a model that several share is counted once.

    Where the competition does not allow pretrained weights, recipes that start from them are left out.
    """
    if not competition.limit.allow_pretrained:
        recipes = {name: recipe for name, recipe in recipes.items() if not starts_pretrained(recipe.model)}
    known: dict[object, BudgetCheck] = {}
    keys = {name: network_of(recipe) for name, recipe in recipes.items()}
    for name, recipe in recipes.items():
        key = keys[name]
        if key not in known:
            known[key] = weigh(recipe, competition, name)
    return [dataclasses.replace(known[key], name=name) for name, key in keys.items()]


def network_of(recipe: Recipe) -> Hashable:
    """Return what recipes have in common that weigh the same: their network, as it sees the images."""
    return recipe.model.model_dump_json(), recipe.image, recipe.pseudo is None


def count_parameters(spec: Choice, competition: Competition) -> int:
    """Return the number of parameters that count, of a model built without memory and without lazy layers."""
    model = outline(spec, competition.shape)
    return _weighed(model, competition, spec.name, {}, None).counted


def weigh_model(model: Classifier, competition: Competition, name: str) -> BudgetCheck:
    """Check an existing model, for example one that was loaded from the weights to be shipped."""
    weighed = _weighed(model, competition, name, {}, None)
    return dataclasses.replace(weighed, measures=measured(model, competition))


def weigh_ensemble(
    members: Mapping[str, Classifier], competition: Competition, name: str, seen: Mapping[str, Competition] = {}
) -> BudgetCheck:
    """Check models that are shipped together: their parameters are summed; those that members share count once.

    `seen` is the competition as a member sees it, with its own image size, if that differs.
    """
    summed = groups(list(members.items()))
    measures = together(measured(member, seen.get(each, competition)) for each, member in members.items())
    return BudgetCheck(name, summed, competition.limit.parameters, competition.limit.buffers, 0, measures=measures)


def _weighed(
    model: Classifier,
    competition: Competition,
    name: str,
    flops: Mapping[str, int],
    macs_check: int | None,
    caches: Mapping[int, Tensor] = {},
) -> BudgetCheck:
    root = type(model).__name__
    parts = [(f"net.{child}", module) for child, module in model.net.named_children()]
    parts += [("net", model.net), ("normalize", model.normalize), ("model", model)]
    macs = {label: flops.get(f"{root}.{label}", 0) // 2 for label, _ in parts[:-1]}
    macs["net"] -= sum(macs[label] for label, _ in parts[:-3])  # those not in the groups before it
    return BudgetCheck(
        name,
        groups(parts, macs, caches),
        competition.limit.parameters,
        competition.limit.buffers,
        flops.get("Global", 0) // 2,
        macs_check,
    )


def _watch_sides(model: nn.Module, side: int) -> list[int]:
    """Return a list that fills with the sides of the maps, each smaller than the one before, when the model is run."""
    sides = [side]

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        came, went = inputs[0].shape[-1], output.shape[-1]
        if came == sides[-1] and went < came:
            sides.append(went)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_hook(note)
    return sides
