"""Structural pruning: a network over the limit is cut to just below it, and its most important channels are kept.

torch-pruning traces the network to find which channels of which layers belong together (arXiv:2301.12900), and how
large their weights are. A channel's importance is its share of the squared weights that are left in its layers, its
cost the number of its parameters; those with the least importance per parameter go first, so early layers, which are
cheap, mostly stay (torch-pruning's own rankings ignore costs). Attention and the classifier keep their shapes. The
result is the same network with `widths` in its recipe, so only this module needs torch-pruning.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from featherweight import atomic, paths, yaml
from featherweight.budget.what_counts import derived, groups
from featherweight.config import Competition, Recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES, Classifier, build
from featherweight.models.narrowing import widths_between
from featherweight.models.pretrained_weights import load_pretrained, starts_pretrained
from featherweight.runtime.torch_internals import build_on_meta
from featherweight.schema import Choice
from featherweight.untrusted_files import reason

TOLERANCE = 0.005  # fraction of the limit that the cut network may stay below it
CAPS = (0.5, 0.75, 0.9)  # fractions of a layer's channels that may be removed; the first that is enough is used
CUTTABLE = ("timm", "torchvision")  # families with the key `widths`


@dataclass(frozen=True)
class Trimmed:
    """A network cut to a limit: `spec` builds it, `net` has its weights; its parameters before and after."""

    spec: Choice
    net: nn.Module
    before: int
    after: int


@dataclass(frozen=True)
class _Channels:
    """Channels that belong together, through all their layers; named by the first of these.

    `importance` [channels]: per parameter. If the layers have `parts` (grouped convolutions), one channel of each part
    is removed, and the importance is that of one part.
    """

    layer: str
    importance: Tensor
    parts: int

    def take(self, net: nn.Module, graph: Any, pruning: Any, gone: list[int]) -> None:
        """Remove these channels from a network, in place, by torch-pruning's graph of it."""
        width, layer = len(self.importance), net.get_submodule(self.layer)
        indices = [index + part * width for part in range(self.parts) for index in gone]
        prune = pruning.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else pruning.prune_linear_out_channels
        graph.get_pruning_group(layer, prune, indices).prune()


class _Cutter:
    """Cuts copies of a network, given the number of channels to remove from each of `channels`."""

    def __init__(self, net: nn.Module, example: Tensor, fixed: set[str], weighed: Callable[[nn.Module], int]) -> None:
        self.net, self.example = net, example
        net = copy.deepcopy(net)  # tracing leaves in some networks what cannot be copied
        graph, pruning = self._traced(net)
        names = {module: name for name, module in net.named_modules()}
        ignored = [module for module, name in names.items() if name in fixed]
        importance = pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer=None)
        coupled: list[_Channels] = []
        for group in graph.get_all_groups(ignored_layers=ignored, root_module_types=(nn.Conv2d, nn.Linear)):
            size = importance(group)
            if size is not None:
                parts = max(_parts(dependency.target.module) for dependency, _ in group)
                layers = sum(isinstance(dependency.target.module, nn.Conv2d | nn.Linear) for dependency, _ in group)
                size = _lasting(size.detach().view(parts, -1).mean(0), layers)
                coupled.append(_Channels(names[group[0][0].target.module], size, parts))
        self.channels: list[_Channels] = []
        before = weighed(net)
        for one in coupled:  # cut by one channel after the other, since the next ones cost about the same without it
            if len(one.importance) > 1:
                one.take(net, graph, pruning, [0])
                after = weighed(net)
                self.channels.append(replace(one, importance=one.importance / (before - after)))
                before = after

    def _traced(self, net: nn.Module) -> tuple[Any, Any]:
        import torch_pruning

        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # of parameters outside of layers: whether they are cut right is tested
            graph = torch_pruning.DependencyGraph().build_dependency(net, self.example, verbose=False)
        return graph, torch_pruning

    def cut(self, counts: list[int]) -> nn.Module:
        """Return a copy without the least important channels, this many of each."""
        net = copy.deepcopy(self.net)
        graph, pruning = self._traced(net)
        for one, count in zip(self.channels, counts, strict=True):
            if count:
                one.take(net, graph, pruning, torch.argsort(one.importance)[:count].tolist())
        return net

    def counts(self, number: int, cap: float) -> list[int]:
        """Return how many are removed of each, if this many are in all, and at most this fraction of each."""
        ranked = torch.cat([one.importance for one in self.channels])
        threshold = ranked.sort().values[number - 1] if number else float("-inf")
        return [min(int((one.importance <= threshold).sum()), int(cap * len(one.importance))) for one in self.channels]

    @property
    def total(self) -> int:
        """Number of all channels that can be removed."""
        return sum(len(one.importance) for one in self.channels)


def _lasting(sizes: Tensor, layers: int) -> Tensor:
    """Return each channel's share of what is left of its group once all smaller ones are gone, over its layers.

    So the more of a layer is gone, the more important is the rest (LAMP, arXiv:2010.07611, for channels, not weights).
    """
    ascending, order = sizes.sort()
    left = ascending.flip(0).cumsum(0).flip(0)
    return torch.empty_like(sizes).index_copy_(0, order, layers * ascending / left.clamp_min(1e-12))


def refuse_uncuttable(spec: Choice) -> None:
    """Raise UserError for a family that cannot be cut, and where torch-pruning is not installed."""
    if spec.name not in CUTTABLE:
        raise UserError(f"trim cuts networks of {' and '.join(CUTTABLE)}, not of '{spec.name}': use ./run.sh fill")
    try:
        import torch_pruning  # noqa: F401
    except ImportError:
        raise UserError("trim needs the package torch-pruning: ./run.sh install torch-pruning") from None


def trim(model: Classifier, spec: Choice, competition: Competition, limit: int) -> Trimmed:
    """Cut the model that `spec` made for a competition to at most `limit` parameters, as the competition counts them.

    It ends at most TOLERANCE below. Raises UserError for one that is not over the limit, that cannot be traced or cut,
    or cannot be cut that far or that closely.
    """
    refuse_uncuttable(spec)
    shape = competition.shape

    def weighed(net: nn.Module) -> int:
        parts = groups([("model", Classifier(net, shape.channels))], caches=derived(net))
        return sum(part.parameters + (part.statistics if competition.limit.buffers else 0) for part in parts)

    before = weighed(model.net)
    if before <= limit:
        raise UserError(f"--limit {limit}: the network has {before:,} parameters, which is already within it")
    net = copy.deepcopy(model.net).cpu().float().eval().requires_grad_()
    example = torch.rand(2, shape.channels, shape.size, shape.size)
    named = spec.arguments["variant"]
    try:
        cutter = _Cutter(net, example, _fixed(net, spec, competition), weighed)
        cut = _closest(cutter, weighed, limit)
    except UserError:
        raise
    except Exception as error:  # of a tracer and cutter of networks that they do not know
        fault = f"{type(error).__name__}: {reason(error)}"
        raise UserError(f"{named} cannot be cut: torch-pruning cannot trace it ({fault})") from None
    if cut is None:
        least = weighed(cutter.cut(cutter.counts(cutter.total, CAPS[-1])))
        raise UserError(
            f"{named} cannot be cut to {limit:,} parameters: without nine tenths of all removable channels it has "
            f"{least:,} (attention keeps its width): use --limit {least}, or a smaller network"
        )
    after = weighed(cut)
    if after < (1 - TOLERANCE) * limit:
        raise UserError(
            f"{named} cannot be cut to within {TOLERANCE:.1%} below {limit:,} parameters: {after:,} is the closest, "
            f"and every further channel costs too much: use --limit {after}"
        )
    whole = build_on_meta(lambda: _changed(spec, widths={})(*shape))
    narrow = _changed(spec, widths=widths_between(whole, cut))
    _refuse_other_answers(narrow, cut, competition, example)
    return Trimmed(narrow, cut, before, after)


def _closest(cutter: _Cutter, weighed: Callable[[nn.Module], int], limit: int) -> nn.Module | None:
    """Return the cut network that is closest below a limit; None if there is none."""
    high, cut = cutter.total, None
    for cap in CAPS:
        cut = cutter.cut(cutter.counts(high, cap))
        if weighed(cut) <= limit:
            break
    else:
        return None
    low = 0
    while high - low > 1:  # without `high` channels it is within the limit, without `low` it is not
        middle = (low + high) // 2
        tried = cutter.cut(cutter.counts(middle, cap))
        if weighed(tried) <= limit:
            high, cut = middle, tried
        else:
            low = middle
    return _filled(cutter, cutter.counts(high, cap), cut, weighed, limit)


def _filled(
    cutter: _Cutter, counts: list[int], cut: nn.Module, weighed: Callable[[nn.Module], int], limit: int
) -> nn.Module:
    """Restore channels where the last cut removed too many, the most important first, to get close to the limit."""
    while weighed(cut) < (1 - TOLERANCE) * limit:
        gone = [
            (float(one.importance.sort().values[count - 1]), place)
            for place, (one, count) in enumerate(zip(cutter.channels, counts, strict=True))
            if count
        ]
        for _, place in sorted(gone, reverse=True):
            tried = [count - (at == place) for at, count in enumerate(counts)]
            larger = cutter.cut(tried)
            if weighed(larger) <= limit:
                counts, cut = tried, larger
                break
        else:
            return cut
    return cut


def _fixed(net: nn.Module, spec: Choice, competition: Competition) -> set[str]:
    """Return the layers that keep their outputs: the classifier's last, and attention's, which divides by heads."""
    more = build_on_meta(lambda: spec(*competition.shape._replace(num_classes=competition.shape.num_classes + 1)))
    shapes = {name: parameter.shape for name, parameter in more.named_parameters()}
    fixed = {name.rpartition(".")[0] for name, one in net.named_parameters() if one.shape != shapes[name]}
    for name, module in net.named_modules():
        if hasattr(module, "num_heads"):
            fixed |= {f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules()}
    return fixed


def _parts(module: Any) -> int:
    """Return how many parts of equal width a layer divides its channels into; 1 for a depthwise convolution."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    grouped = isinstance(module, nn.Conv2d) and module.groups < module.out_channels
    return module.groups if grouped else 1


def _changed(spec: Choice, **keys: Any) -> Choice:
    changed: Choice = FAMILIES.validate({**spec.model_dump(mode="json", exclude_unset=True), "name": spec.name, **keys})
    return changed


def _refuse_other_answers(spec: Choice, cut: nn.Module, competition: Competition, example: Tensor) -> None:
    """Raise UserError unless the recipe's network gives the outputs of the network that was cut, and finite ones."""
    try:
        twin = build(spec, competition.shape).net.eval()
        twin.load_state_dict(cut.state_dict())
        with torch.no_grad():
            expected, got = cut(example), twin(example)
    except Exception as error:
        raise UserError(
            f"{spec.arguments['variant']} cannot be cut: its layers cannot have other widths ({reason(error)})"
        ) from None
    if not torch.isfinite(got).all() or not torch.allclose(expected, got, rtol=1e-4, atol=1e-5):
        raise UserError(f"{spec.arguments['variant']} cannot be cut: its layers depend on more than their shapes")


def started(spec: Choice, competition: Competition) -> tuple[Classifier, tuple[str, ...]]:
    """Return the model that `spec` builds, with its pretrained weights if it has some, and the tensors without any."""
    model = build(spec, competition.shape)
    fresh = load_pretrained(model.net, spec, competition.shape).fresh if starts_pretrained(spec) else ()
    return model, fresh


def as_recipe(cut: Trimmed, recipe: Recipe, path: Path, trained: bool) -> Recipe:
    """Return the recipe with the cut network, which starts from the weights beside `path` if it has any."""
    has_weights = trained or starts_pretrained(cut.spec)
    beside = str(path.with_suffix(".safetensors").relative_to(paths.home())) if has_weights else None
    model = _changed(cut.spec, pretrained=False, weights=beside)
    return Recipe.model_validate({**recipe.model_dump(mode="json", exclude_unset=True), "model": model})


def write(cut: Trimmed, recipe: Recipe, path: Path, fresh: Collection[str]) -> None:
    """Write the recipe, and beside it its weights, without those that were initialised at random."""
    if recipe.model.arguments["weights"]:
        state = {name: tensor.contiguous() for name, tensor in cut.net.state_dict().items() if name not in fresh}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path.with_suffix(".safetensors"), save(state))
    head = f"# {cut.spec.arguments['variant']}, {cut.before:,} parameters cut to {cut.after:,} by ./run.sh trim.\n"
    line = f"#   ./run.sh {path.stem}\n"
    atomic.write_text(path, head + line + yaml.dump(recipe.model_dump(mode="json", exclude_unset=True), compact=True))
