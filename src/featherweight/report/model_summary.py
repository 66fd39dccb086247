"""Models described: the families, a picture of a model's stages, its graph, and recipes plotted by size and cost."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from featherweight import atomic, budget, plotting
from featherweight.budget import BudgetCheck
from featherweight.config import Competition, Recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES, MODELS, build, outline, outline_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUNK = 0.8  # share of the parameters above which a container is drawn as its parts
LOGBOOK = re.compile(r"[a-d](\d|_)")  # recipes of the logbook are named by experiment, not by network
PARTS = 44  # parts of a container that are drawn, enough for VGG-19 with batch norm; larger ones are drawn as one


@dataclass(frozen=True)
class Stage:
    """A part of a model as it is drawn: its name, its output (C x H x W), and its parameters."""

    name: str
    output: str
    parameters: int


def stages(recipe: Recipe, competition: Competition) -> list[Stage]:
    """Return the parts of a recipe's model that have parameters, in the order in which an image passes them."""
    model = outline(recipe.model, competition.shape)
    parts = _parts(model.net)
    outputs: dict[str, str] = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Mapping | list | tuple):  # several maps: the last is shown
            output = list(output.values() if isinstance(output, Mapping) else output)[-1]
        if isinstance(output, Tensor):
            outputs.setdefault(name, " x ".join(map(str, output.shape[1:])))

    for name, module in parts.items():
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
    with outline_run(model, competition.shape) as images:
        model(images)
    counted = {group.name: group.parameters for group in budget.groups([*parts.items(), ("the rest", model)])}
    order = [*outputs, *(name for name in counted if name not in outputs)]
    return [Stage(name, outputs.get(name, ""), counted[name]) for name in order if counted.get(name)]


def draw(recipe: Recipe, competition: Competition, name: str, path: Path) -> None:
    """Write a PNG: the stages from top to bottom with their shapes, and beside them their parameters as bars."""
    parts = stages(recipe, competition)
    total, limit = sum(stage.parameters for stage in parts), competition.limit.parameters
    picture, axes = plotting.figure(1, 2, width=5.5, height=max(2.5, 0.42 * len(parts) + 1))
    blocks, bars = axes[0]
    image = competition.image
    rows = [f"image   {image.channels} x {image.size} x {image.size}"]
    rows += [f"{stage.name}   {stage.output}".rstrip() for stage in parts]
    for place, text in enumerate(rows):
        box = {"boxstyle": "round,pad=0.35", "facecolor": "0.95" if place else "white", "edgecolor": "0.5"}
        blocks.text(0.5, place, text, ha="center", va="center", fontsize=9, bbox=box)
        if place:
            arrow = {"arrowstyle": "->", "color": "0.5"}
            blocks.annotate("", (0.5, place - 0.32), (0.5, place - 0.68), arrowprops=arrow)
    blocks.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    blocks.axis("off")
    blocks.set_title(f"{name} on {competition.title}", fontsize="medium")
    bars.barh(range(1, len(rows)), [stage.parameters for stage in parts], color="tab:blue")
    for place, stage in enumerate(parts, 1):
        bars.text(stage.parameters, place, f" {stage.parameters:,}", va="center", fontsize=8)
    bars.set(ylim=(len(rows) - 0.4, -0.6), xticks=[], yticks=[], xmargin=0.25)
    bars.set_title(f"{total:,} of {limit:,} parameters ({total / limit:.1%})", fontsize="medium")
    plotting.save(picture, path)


def graph(recipe: Recipe, competition: Competition, path: Path) -> None:
    """Write the model's graph as one HTML file that opens offline and unfolds on a click (torchvista).

    Raises UserError if torchvista is not installed.
    """
    try:
        import torchvista
    except ImportError:
        raise UserError("the graph needs torchvista, which is not installed: ./run.sh install torchvista") from None
    image = competition.image
    model = build(recipe.model, competition.shape).eval()
    example = torch.rand(1, image.channels, image.size, image.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part.html")
    try:
        # It prints into notebooks.
        with contextlib.redirect_stdout(io.StringIO()), _operations_by_name(torchvista.FUNCTIONS):
            torchvista.trace_model(model, example, export_format="html", export_path=str(beside))
        atomic.write_bytes(path, beside.read_bytes())
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _operations_by_name(traced: list[dict[str, str]]) -> Iterator[None]:
    """Remove torch's own dispatcher from the functions that torchvista draws.

    A function stored in a module, such as F.relu, reaches torch through it and would be drawn under the dispatcher's
    name instead of the operation's.
    """
    dispatcher = [entry for entry in traced if entry["function"] == "handle_torch_function"]
    for entry in dispatcher:
        traced.remove(entry)
    try:
        yield
    finally:
        traced += dispatcher


def plot(weighed: Sequence[BudgetCheck], path: Path) -> None:
    """Write a PNG of models by their parameters and multiply-adds, both logarithmic, with the limit as a line.

    Recipes with the same model are one point. Points are named if there is room.
    """
    picture, axes = plotting.figure(1, 1, width=10, height=7)
    plane = axes[0, 0]
    for within, color in ((True, "tab:blue"), (False, "tab:red")):
        shown = [one for one in weighed if (one.room >= 0) == within]
        plane.scatter(
            [one.counted for one in shown], [one.macs for one in shown], s=14, color=color, zorder=4
        )  # over the names
    _label(plane, weighed)
    plane.axvline(weighed[0].limit, color="tab:red", linewidth=1, linestyle="--")
    plane.set(xscale="log", yscale="log", xlabel="parameters", ylabel="multiply-adds for one image")
    plotting.plain_logarithms(plane)
    plane.set_title(f"The limit of {weighed[0].limit:,} parameters", fontsize="medium")
    plane.set_xlim(right=2.5 * max(one.counted for one in weighed))  # room for the name of the last
    plane.grid(alpha=0.3)
    plotting.save(picture, path)


def _label(plane: Axes, weighed: Sequence[BudgetCheck]) -> None:
    """Name the points by one recipe each, the largest first, without names that would overlap."""
    points: dict[tuple[int, int], list[str]] = {}
    for one in weighed:
        points.setdefault((one.counted, one.macs), []).append(one.name)
    taken: list[tuple[float, float, float]] = []  # left, right and height of the names so far, in decades
    for (parameters, macs), names in sorted(points.items(), reverse=True):
        named = min(names, key=lambda name: (bool(LOGBOOK.match(name)), len(name)))
        text = named + (f" +{len(names) - 1}" if len(names) > 1 else "")
        left, height = math.log10(parameters), math.log10(max(macs, 1))
        right = left + 0.027 * len(text)
        if any(left < end and right > begin and abs(height - other) < 0.07 for begin, end, other in taken):
            continue
        taken.append((left, right, height))
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
        plane.annotate(text, (parameters, macs), (4, 2), textcoords="offset points", fontsize=7, bbox=behind)


def summary(family: str) -> str:
    """Return the first line of a family's description."""
    return (inspect.getdoc(MODELS[family]) or "").split("\n\n")[0].replace("\n", " ")


def arguments(family: str) -> list[tuple[str, str, str]]:
    """Return a family's keys: the name, the default (empty if required) and the meaning."""
    fields = FAMILIES.sections[family].model_fields
    return [
        (key, "" if field.is_required() else str(field.get_default(call_default_factory=True)), field.description or "")
        for key, field in fields.items()
        if key != "name"
    ]


def _parts(net: nn.Module) -> dict[str, nn.Module]:
    """Return a network's children; a container with nearly all parameters is replaced by its children."""
    total = sum(parameter.numel() for parameter in net.parameters())
    parts: dict[str, nn.Module] = {}
    for name, child in net.named_children():
        inner = dict(child.named_children()) if isinstance(child, nn.Sequential | nn.ModuleList) else {}
        trunk = sum(parameter.numel() for parameter in child.parameters()) >= TRUNK * total
        if trunk and 1 < len(inner) <= PARTS:
            parts |= {f"{name}.{part}": module for part, module in inner.items()}
        else:
            parts[name] = child
    return parts
