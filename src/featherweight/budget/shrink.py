"""How a model that is too heavy gets lighter: what to give up first, and which argument to turn down then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from featherweight import yaml
from featherweight.schema import Choice, OneOf

# What a family gives up before its width: VGG its hidden layers, EfficientNet the rounding up of every stage's depth.
GIVES_UP: dict[str, dict[str, Any]] = {"vgg": {"head": "linear"}, "efficientnet": {"depth_rounding": "spread"}}
# The argument that makes a family narrower; counts (and lists of counts) shrink to whole ones.
TURNS_DOWN = {
    "wrn": "width",
    "cifar_resnet": "width",
    "resnet": "width",
    "efficientnet": "width",
    "fastnet": "widths",
    "mlp": "hidden",
    "compact_transformer": "width",
    "vgg": "width",
    "densenet": "growth",
    "mobilenet_v2": "width",
    "googlenet": "width",
}
# Networks of the libraries whose width cannot be set there, as the families here that are the same at width 1.
SAME: dict[str, dict[str, Any]] = {
    **{f"resnet{depth}": {"name": "resnet", "depth": depth} for depth in (18, 34, 50, 101, 152)},
    **{f"vgg{depth}": {"name": "vgg", "depth": depth} for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": {"name": "vgg", "depth": depth, "batch_norm": True} for depth in (11, 13, 16, 19)},
    "densenet121": {"name": "densenet", "blocks": [6, 12, 24, 16]},
    "densenet169": {"name": "densenet", "blocks": [6, 12, 32, 32]},
    "densenet201": {"name": "densenet", "blocks": [6, 12, 48, 32]},
    "mobilenet_v2": {"name": "mobilenet_v2"},
    "mobilenetv2_100": {"name": "mobilenet_v2"},
    "googlenet": {"name": "googlenet"},
    **{
        name: {"name": "efficientnet", "width": width, "depth": depth}
        for number, width, depth in ((0, 1.0, 1.0), (1, 1.0, 1.1), (2, 1.1, 1.2), (3, 1.2, 1.4), (4, 1.4, 1.8))
        for name in (f"b{number}", f"efficientnet_b{number}", f"tf_efficientnet_b{number}")
    },
}


def nearest_that_fits(spec: Choice, families: OneOf, fits: Callable[[Choice], bool]) -> Choice | None:
    """The widest variant of a model that `fits`, all else being as it is; None where there is none, or no way to it."""
    for heavy in _starts(spec, families):
        if heavy != spec and fits(heavy):
            return heavy
    key = "widths" if heavy.arguments.get("widths") else TURNS_DOWN.get(heavy.name)
    if key is None:
        return None
    whole = getattr(heavy, key)
    low, high = 0, round(whole * 100) if isinstance(whole, float) else whole if isinstance(whole, int) else 1000
    best = None
    while high - low > 1:  # what `low` stands for fits (0 is nothing at all), what `high` stands for doesn't
        middle = (low + high) // 2
        variant = _with(families, heavy, {key: _turned(heavy, whole, middle)})
        if fits(variant):
            low, best = middle, variant
        else:
            high = middle
    return best


def line(spec: Choice) -> str:
    """A model as one would write it in a recipe: its name and what differs from the defaults."""
    return yaml.dump_flow({"name": spec.name, **spec.model_dump(mode="json", exclude_defaults=True)})


def _starts(spec: Choice, families: OneOf) -> Iterator[Choice]:
    """The model, or the family here that it is a member of; then without what it gives up first."""
    if "variant" in spec.arguments and spec.arguments["variant"] in SAME:
        same = families.validate(SAME[spec.arguments["variant"]])
        given = spec.model_dump(exclude_defaults=True, exclude={"name", "variant"})
        kept = {key: value for key, value in given.items() if key in type(same).model_fields}
        spec = _with(families, same, kept)
    yield spec
    if spec.name in GIVES_UP:
        yield _with(families, spec, GIVES_UP[spec.name])


def _turned(spec: Choice, whole: Any, part: int) -> Any:
    if isinstance(whole, float):
        return part / 100
    if isinstance(whole, list):
        return [max(1, width * part // 1000) for width in whole]
    heads = spec.arguments.get("heads", 1)
    return max(1, part // heads) * heads


def _with(families: OneOf, spec: Choice, changes: dict[str, Any]) -> Choice:
    return families.validate({"name": spec.name, **spec.arguments, **changes})
