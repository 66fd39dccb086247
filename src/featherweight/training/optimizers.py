"""The optimizers a recipe may name: each takes parameter groups; keyword-only arguments are the recipe's keys.

All come from torch and timm. A schedule multiplies the rate of every group, so groups may start from different rates.
`fused` is one kernel for all parameters: a fraction of the time on a CPU and a GPU alike, where else hundreds of small
operations follow one another, and a gradient scaler need not make the host wait. The optimizers that have no such
kernel wait once a step in fp16, and in fp16 alone, as the scaler has to know whether the gradients overflowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, Strict
from torch import nn

from featherweight.runtime.torch_internals import JoinableSGD, spare_optimizers, with_its_own_step
from featherweight.schema import Flag, HalfOpenFraction, NonNegative, NonNegativeInt53, Positive
from featherweight.training.muon import Muon

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
LAYERS = 20  # with a rate of their own, at most
Groups = list[dict[str, Any]]  # each {"params": [...]}, perhaps with keys that differ from the optimizer's, as in torch


def prepare(
    choice: Callable[[Groups], torch.optim.Optimizer],
    model: nn.Module,
    decay_norms: bool = True,
    bias_rate: float = 1.0,
    heads: Sequence[nn.Linear] = (),
) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, over a model's `groups`, each learning at its own multiple of the rate.

    Biases that learn at a multiple of the rate decay by the rate itself: a step takes off of them what it takes off of
    the others. Of layers that learn slower by `layer_decay` it takes off as much less.
    """
    spare_optimizers()
    decay = getattr(choice, "layer_decay", 1.0)  # a plain function has none
    optimizer = with_its_own_step(choice(groups(model, decay_norms, bias_rate, by_layer=decay != 1, heads=heads)))
    for group in optimizer.param_groups:
        group["lr"] *= group.get("rate", 1.0) * decay ** group.get("below", 0)
        group["weight_decay"] /= group.get("rate", 1.0)
    return optimizer


def layers(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters in layers, from the input to the classifier, as the model's definition lists them.

    A layer is a numbered block, or a module outside of one with the norm that follows it. In a network with more than
    LAYERS of them neighbours are put together, so that a rate that falls by layer reaches the first ones.
    """
    blocks: list[list[nn.Parameter]] = []
    before = ""
    for name, parameter in model.named_parameters():
        parts = name.split(".")[:-1]
        numbers = [index for index, part in enumerate(parts) if part.isdigit()]
        block = ".".join(parts[: numbers[-1] + 1] if numbers else parts)
        if not blocks or (block != before and parameter.ndim > 1):
            blocks.append([])
            before = block
        blocks[-1].append(parameter)
    body, head = blocks[:-1], blocks[-1:]
    if len(body) < LAYERS:
        return blocks
    together: list[list[nn.Parameter]] = [[] for _ in range(LAYERS - 1)]
    for index, layer in enumerate(body):
        together[index * (LAYERS - 1) // len(body)] += layer
    return together + head


def groups(
    model: nn.Module,
    decay_norms: bool = True,
    bias_rate: float = 1.0,
    by_layer: bool = False,
    heads: Sequence[nn.Linear] = (),
) -> Groups:
    """The trainable parameters; without `decay_norms`, those of one dimension (norms, biases) get no weight decay.

    `by_layer`: each knows how many `layers` it is below the last one. The biases of norms have `rate`, the multiple of
    the optimizer's rate that they learn at, where it is not 1. Of several `heads` none is below another.
    """
    several = {id(parameter) for head in heads for parameter in head.parameters()} if len(heads) > 1 else set()
    biases = {id(module.bias) for module in model.modules() if isinstance(module, NORMS)} if bias_rate != 1 else set()
    deep = layers(model) if by_layer else []
    below = {id(parameter): len(deep) - 1 - index for index, layer in enumerate(deep) for parameter in layer}
    below |= dict.fromkeys(several, 0)
    parts: dict[tuple[int, bool, bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            spared = not decay_norms and parameter.ndim <= 1
            place = below.get(id(parameter), 0), id(parameter) in biases, spared, id(parameter) in several
            parts.setdefault(place, []).append(parameter)
    return [
        {
            "params": members,
            **({"weight_decay": 0.0} if spared else {}),
            **({"rate": bias_rate} if faster else {}),
            **({"below": depth} if depth else {}),
            **({"classifies": True} if last else {}),
        }
        for (depth, faster, spared, last), members in sorted(parts.items(), key=lambda part: part[0])
    ]


def sgd(
    parameters: Groups,
    *,
    lr: Positive = 0.1,
    momentum: HalfOpenFraction = 0.9,
    nesterov: Flag = False,
    weight_decay: NonNegative = 5e-4,
    decoupled: Flag = False,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, or plain with momentum 0.

    `decoupled`, as in airbench, divides `weight_decay` by `lr`, and not as in SGDW it goes through the momentum: in the
    long run a step at the full rate takes the part weight_decay / (1 - momentum) off the weights.
    """
    decay = weight_decay / lr if decoupled else weight_decay
    nesterov = nesterov and momentum > 0
    return JoinableSGD(parameters, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True)


def adam(
    parameters: Groups,
    *,
    lr: Positive = 1e-3,
    beta1: HalfOpenFraction = 0.9,
    beta2: HalfOpenFraction = 0.999,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014, arXiv:1412.6980); weight decay, if any, is added to the gradient."""
    return torch.optim.Adam(parameters, lr, (beta1, beta2), weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Groups,
    *,
    lr: Positive = 1e-3,
    beta1: HalfOpenFraction = 0.9,
    beta2: HalfOpenFraction = 0.999,
    weight_decay: NonNegative = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay: each step shrinks the weights by lr * weight_decay (arXiv:1711.05101)."""
    return torch.optim.AdamW(parameters, lr, (beta1, beta2), weight_decay=weight_decay, fused=True)


def nadam(
    parameters: Groups,
    *,
    lr: Positive = 2e-3,
    beta1: HalfOpenFraction = 0.9,
    beta2: HalfOpenFraction = 0.999,
    weight_decay: NonNegative = 0.0,
    decoupled: Flag = False,
) -> torch.optim.Optimizer:
    """Adam with Nesterov momentum (Dozat 2016; LOGBOOK A14); `decoupled` decays as AdamW does."""
    return _NAdam(parameters, lr, (beta1, beta2), weight_decay=weight_decay, decoupled_weight_decay=decoupled)


class _NAdam(torch.optim.NAdam):
    """Torch's, but for the products of its momenta, which it reads on the host: they stay there in a resumed run too.

    Torch sends all that it loads to the parameters' device, but for the step; each product would make a GPU wait.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        super().load_state_dict(state_dict)
        for state, saved in zip(self.state.values(), state_dict["state"].values(), strict=True):
            state["mu_product"] = saved["mu_product"].cpu()


def adagrad(parameters: Groups, *, lr: Positive = 1e-2, weight_decay: NonNegative = 0.0) -> torch.optim.Optimizer:
    """Adagrad (Duchi et al. 2011): each rate falls with the sum of its squared gradients."""
    return torch.optim.Adagrad(parameters, lr, weight_decay=weight_decay)


def rmsprop(
    parameters: Groups,
    *,
    lr: Positive = 1e-2,
    alpha: HalfOpenFraction = 0.99,
    momentum: HalfOpenFraction = 0.0,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """RMSprop (Hinton 2012), `alpha` being the memory of the squared gradients."""
    return torch.optim.RMSprop(parameters, lr, alpha, momentum=momentum, weight_decay=weight_decay)


def lion(
    parameters: Groups,
    *,
    lr: Positive = 1e-4,
    beta1: HalfOpenFraction = 0.9,
    beta2: HalfOpenFraction = 0.99,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """The sign of an interpolated momentum (arXiv:2302.06675): a tenth of AdamW's rate, ten times its decay."""
    from timm.optim.lion import Lion  # brings torchvision, seconds to import

    optimizer: torch.optim.Optimizer = Lion(parameters, lr, (beta1, beta2), weight_decay)
    return optimizer


def muon(
    parameters: Groups,
    *,
    lr: Positive = 0.02,
    momentum: HalfOpenFraction = 0.95,
    nesterov: Flag = True,
    iterations: NonNegativeInt53 = 5,
    normalize: Flag = False,
    weight_decay: NonNegative = 0.0,
    rest: Literal["adamw", "sgd"] = "adamw",
    rest_lr: Positive = 1e-3,
    rest_weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Momentum orthogonalised by Newton-Schulz `iterations` (Jordan 2024), for filters and matrices; `rest` for others.

    A filter [out, in, h, w] is taken as a matrix [out, in * h * w]; `normalize` holds its norm to an orthogonal one's,
    as in the speed runs. The others are norms, biases and the classifier, which is the last matrix unless the network
    has several heads; they learn at `rest_lr`, SGD's with Nesterov momentum 0.9.
    """
    to_last = sorted(parameters, key=lambda group: -int(group.get("below", 0)))  # the classifier's layer at the end
    matrices = [parameter for group in to_last for parameter in group["params"] if parameter.ndim > 1]
    several = {id(parameter) for group in parameters if group.get("classifies") for parameter in group["params"]}
    hidden = {id(matrix) for matrix in (matrices if several else matrices[:-1])} - several
    ours, others = (_only(parameters, hidden, inside) for inside in (True, False))
    if rest == "sgd":
        other = sgd(others, lr=rest_lr, nesterov=True, weight_decay=rest_weight_decay)
    else:
        other = adamw(others, lr=rest_lr, weight_decay=rest_weight_decay)
    if not ours:
        return other
    members = Muon(
        ours,
        lr,
        momentum=momentum,
        nesterov=nesterov,
        iterations=iterations,
        normalize=normalize,
        weight_decay=weight_decay,
    )
    return Together(members, other)


def _only(parameters: Groups, chosen: set[int], inside: bool) -> Groups:
    """The groups cut down to the parameters whose id is among the chosen, or is not."""
    cut = [{**group, "params": [p for p in group["params"] if (id(p) in chosen) == inside]} for group in parameters]
    return [group for group in cut if group["params"]]


class Together(torch.optim.Optimizer):
    """Several optimizers, each with parameters of its own, as one."""

    def __init__(self, *members: torch.optim.Optimizer) -> None:
        self.members = members
        super().__init__([{"params": group["params"]} for member in members for group in member.param_groups], {})
        self._share()

    def _share(self) -> None:
        # The members' own groups, not copies, so that a rate set here is the rate they step with.
        self.param_groups = [group for member in self.members for group in member.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step every member."""
        for member in self.members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """Every member's state."""
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Fill every member."""
        for member, state in zip(self.members, state_dict["members"], strict=True):
            member.load_state_dict(state)
        self._share()


SHARED: dict[str, Any] = {
    "layer_decay": (
        Annotated[float, Strict(), Field(gt=0, le=1)],
        Field(1.0, description="the rate of a layer, as a part of that of the layer after it (arXiv:1801.06146)"),
    )
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "nadam": nadam,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "lion": lion,
    "muon": muon,
}
