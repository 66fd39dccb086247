"""Loading pretrained weights into a network: by name, or by order if another program named them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherweight.errors import UserError, count_of

ROLES = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # of batch norms: unused with a momentum, and missing in old files


@dataclass(frozen=True)
class Loaded:
    """What was loaded of pretrained weights: the number of a network's tensors, and the parts that could not be loaded.

    `prefix`: what precedes the network's own names in the file. `unused`: tensors of the file whose names do not begin
    with it. `renamed`: names differed, so tensors were matched by order and shape. `adapted`: tensors adapted to the
    number of channels. `fresh`: tensors that keep their random initialisation. `classifier`: the file's classifier was
    loaded as well. `average`: the key of averaged weights that the file has too, and that were not taken.
    """

    source: str
    tensors: int
    total: int
    renamed: bool
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    classifier: bool = False
    prefix: str = ""
    unused: int = 0
    average: str = ""
    normalize: tuple[Tensor, Tensor] | None = None  # the mean and standard deviation that the file has

    def __str__(self) -> str:
        text = f"{self.tensors} of {self.total} tensors loaded from {self.source}"
        text += f", where they are called {self.prefix}*" if self.prefix else ""
        text += f"; {count_of(self.unused, 'tensor')} of other parts left out" if self.unused else ""
        text += "; names differ, so tensors were matched by order and shape" if self.renamed else ""
        text += f"; adapted to the channels: {', '.join(self.adapted)}" if self.adapted else ""
        text += "; mean and standard deviation from there" if self.normalize else ""
        text += "; the classifier too, which has as many classes there" if self.classifier else ""
        average = f"; its averaged weights ({self.average}) were not taken: save them alone to use them"
        text += average if self.average else ""
        return text + (f"; not loaded, so initialised at random: {', '.join(self.fresh)}" if self.fresh else "")


def load_matching(
    net: nn.Module, state: Mapping[str, Tensor], source: str, classifier: Collection[str], first: Collection[str]
) -> Loaded:
    """Copy weights into the network, in place.

    `classifier` and `first` name the tensors whose shapes depend on the number of classes and of channels: only these
    may differ. Those of the classifier keep their initial values. A first convolution is adapted to another number of
    input channels, not to another kernel or width. Raises UserError, and changes nothing, if any other tensor has no
    match.
    """
    wanted = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith(COUNTER)}
    whole = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    prefixes = _prefixes([name for name in wanted if name not in classifier], whole)
    if len(prefixes) > 1:
        named = ", ".join(f"{one}*" for one in prefixes)
        raise UserError(
            f"model.weights: this network is in {source} more than once, as {named}: "
            f"save the tensors of one of them in a file of their own"
        )
    prefix = next(iter(prefixes), "")
    state = {name.removeprefix(prefix): tensor for name, tensor in whole.items() if name.startswith(prefix)}
    names = _by_name(wanted, state, classifier, first)
    renamed = names is None
    if names is None:
        names = _by_order(wanted, state, classifier, first)
    if names is None:
        raise UserError(_mismatch(wanted, state, source, classifier))
    adapted, fresh = [], []
    fitted: dict[str, Tensor] = {}
    for name, theirs in names.items():
        source_tensor = state[theirs]
        if source_tensor.is_floating_point() and not bool(torch.isfinite(source_tensor).all()):
            raise UserError(f"{source}: {theirs} has values that are not finite")
        if source_tensor.shape == wanted[name].shape:
            fitted[name] = source_tensor
        elif name in first and name not in classifier and source_tensor.dim() == wanted[name].dim() == 4:
            fitted[name] = _adapted(source_tensor, wanted[name].shape[1])
            adapted.append(name)
    fresh = [name for name in wanted if name not in fitted]
    with torch.no_grad():
        for name, tensor in fitted.items():
            wanted[name].copy_(tensor)  # `state_dict` shares the network's memory
    return Loaded(
        source,
        len(fitted),
        len(wanted),
        renamed,
        tuple(adapted),
        tuple(fresh),
        classifier=bool(classifier) and not fresh,
        prefix=prefix,
        unused=len(whole) - len(state),
    )


def _prefixes(body: Collection[str], state: Mapping[str, Tensor]) -> list[str]:
    """Return what precedes the network's own names in a file in which it is a part of a larger model, as in
    `backbone.conv1.weight`; empty if it is no part, several if the file has it more than once.
    """
    some = next(iter(body), "")
    found = {name.removesuffix(some) for name in state if name.endswith(f".{some}")} if some not in state else set()
    return sorted(prefix for prefix in found if all(prefix + name in state for name in body))


def _fits(name: str, tensor: Tensor, wanted: Tensor, classifier: Collection[str], first: Collection[str]) -> bool:
    """True if a tensor of the file can be copied into `wanted`, adapted to its channels, or left out."""
    fits = tensor.shape == wanted.shape or name in classifier or (name in first and _but_for_channels(tensor, wanted))
    return fits and tensor.is_floating_point() == wanted.is_floating_point()


def _but_for_channels(tensor: Tensor, wanted: Tensor) -> bool:
    """True if two tensors have the same shape but for their input channels: dimension 1, or the only one."""
    if tensor.dim() != wanted.dim() or tensor.dim() < 2:
        return tensor.dim() == wanted.dim()
    return tensor.shape[0] == wanted.shape[0] and tensor.shape[2:] == wanted.shape[2:]


def _by_name(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], classifier: Collection[str], first: Collection[str]
) -> dict[str, str] | None:
    body = [name for name in wanted if name not in classifier]
    if any(name not in state or not _fits(name, state[name], wanted[name], classifier, first) for name in body):
        return None
    unknown = [name for name in state if name not in wanted and not _spare(name, classifier)]
    if unknown:  # the file is of a larger network that begins like this one
        return None
    return {name: name for name in wanted if name in state}


def _spare(name: str, classifier: Collection[str]) -> bool:
    """True if a tensor of the file may be unused: a classifier's bias, its second head, and heads for training."""
    parts = name.split(".")
    heads = {one.rpartition(".")[0] for one in classifier}
    return name.rpartition(".")[0] in heads or parts[0] in ("aux1", "aux2", "AuxLogits", "head_dist")


def _by_order(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], classifier: Collection[str], first: Collection[str]
) -> dict[str, str] | None:
    ours, theirs = list(wanted), list(state)
    if len(theirs) == len(ours) - len([name for name in ours if name in classifier]):
        ours = [name for name in ours if name not in classifier]  # the file has no classifier
    if len(ours) != len(theirs):
        return None
    for name, other in zip(ours, theirs, strict=True):
        role, role_there = name.rpartition(".")[2], other.rpartition(".")[2]
        if (role in ROLES and role_there in ROLES and role != role_there) or not _fits(
            name, state[other], wanted[name], classifier, first
        ):
            return None
    return dict(zip(ours, theirs, strict=True))


def _adapted(weight: Tensor, channels: int) -> Tensor:
    """Return a first convolution for other channels: summed for one, else repeated and rescaled to the same sum."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // weight.shape[1]), 1, 1)[:, :channels]
    return repeated * (weight.shape[1] / channels)


def _mismatch(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, classifier: Collection[str]
) -> str:
    body = [name for name in wanted if name not in classifier]
    matching = [name for name in body if name in state and state[name].shape == wanted[name].shape]
    text = f"model.weights: {source} does not match this network: {len(matching)} of {len(body)} tensors match"
    lacking = next((name for name in body if name not in matching), None)
    if lacking is not None and lacking in state:
        text += f"; {lacking} is {_shape(state[lacking])} there, {_shape(wanted[lacking])} here"
    elif lacking is not None:
        text += f"; {lacking} ({_shape(wanted[lacking])}) is missing"
    extra = next((name for name in state if name not in wanted), None)
    text += f", and {extra} ({_shape(state[extra])}) is unexpected" if extra is not None else ""
    if not matching and list(state) == sorted(state):  # as .safetensors files are read
        text += ". By order they cannot be matched: a .safetensors file does not keep it, but a .pth file does"
    return f"{text}. Choose weights for model.variant, or the variant of these weights"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a number"
