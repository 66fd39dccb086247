"""The optimizers that a recipe may name: each takes parameter groups; keyword-only arguments are the recipe's keys.

All come from torch and timm. A schedule multiplies the rate of every group, so groups may have different rates. `fused`
runs one kernel for all parameters instead of hundreds of small operations: faster on CPU and GPU, and with a gradient
scaler the host need not wait. The other optimizers wait once per step in fp16, where the scaler has to know whether the
gradients overflowed.
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
MAX_LAYERS = 20  # the most layers with different rates
Groups = list[dict[str, Any]]  # each {"params": [...]}, and keys that differ from the optimizer's, as in torch


def prepare(
    choice: Callable[[Groups], torch.optim.Optimizer],
    model: nn.Module,
    decay_norms: bool = True,
    bias_rate: float = 1.0,
    heads: Sequence[nn.Linear] = (),
) -> torch.optim.Optimizer:
    """Return the optimizer that a recipe names, over a model's `groups`, each with its multiple of the learning rate.

    A group with a multiple of the rate has its weight decay divided by that multiple, so a step shrinks its weights by
    the same fraction as the others. With `layer_decay` the decay falls with the layer's rate.
    """
    spare_optimizers()
    decay = getattr(choice, "layer_decay", 1.0)  # a plain function has none
    optimizer = with_its_own_step(choice(groups(model, decay_norms, bias_rate, by_layer=decay != 1, heads=heads)))
    for group in optimizer.param_groups:
        group["lr"] *= group.get("rate", 1.0) * decay ** group.get("below", 0)
        group["weight_decay"] /= group.get("rate", 1.0)
    return optimizer


def layers(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters in layers, from the input to the classifier, in the order of the model's definition.

    A layer is a numbered block, or a module outside of one with the norm after it. Of more than MAX_LAYERS layers
    neighbours are merged, so that a rate that decays by layer still reaches the first ones.
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
    if len(body) < MAX_LAYERS:
        return blocks
    together: list[list[nn.Parameter]] = [[] for _ in range(MAX_LAYERS - 1)]
    for index, layer in enumerate(body):
        together[index * (MAX_LAYERS - 1) // len(body)] += layer
    return together + head


def groups(
    model: nn.Module,
    decay_norms: bool = True,
    bias_rate: float = 1.0,
    by_layer: bool = False,
    heads: Sequence[nn.Linear] = (),
) -> Groups:
    """Return the trainable parameters in groups; without `decay_norms`, one-dimensional ones have no weight decay.

    `by_layer`: each group knows how many layers it is `below` the last one; of several `heads` none is below another.
    Where `bias_rate` is not 1, it is the `rate` of the biases of norms, as a multiple of the optimizer's.
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
    """Stochastic gradient descent with momentum; plain with momentum 0.

    `decoupled` divides `weight_decay` by `lr`, as in airbench. Unlike in SGDW the decay goes through the momentum: a
    step at the full rate shrinks the weights by about the fraction weight_decay / (1 - momentum).
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
    """Adam with Nesterov momentum (Dozat 2016; LOGBOOK A14); `decoupled` applies weight decay as AdamW does."""
    return _NAdam(parameters, lr, (beta1, beta2), weight_decay=weight_decay, decoupled_weight_decay=decoupled)


class _NAdam(torch.optim.NAdam):
    """Torch's NAdam, whose products of momenta stay on the host after a resume, too: torch would move them to the GPU,
    and each step, which reads them, would wait for it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state and keep the products of the momenta on the host."""
        super().load_state_dict(state_dict)
        for state, saved in zip(self.state.values(), state_dict["state"].values(), strict=True):
            state["mu_product"] = saved["mu_product"].cpu()


def adagrad(parameters: Groups, *, lr: Positive = 1e-2, weight_decay: NonNegative = 0.0) -> torch.optim.Optimizer:
    """Adagrad (Duchi et al. 2011): the rate of each parameter falls with the sum of its squared gradients."""
    return torch.optim.Adagrad(parameters, lr, weight_decay=weight_decay)


def rmsprop(
    parameters: Groups,
    *,
    lr: Positive = 1e-2,
    alpha: HalfOpenFraction = 0.99,
    momentum: HalfOpenFraction = 0.0,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """RMSprop (Hinton 2012); `alpha` is the decay of the average of squared gradients."""
    return torch.optim.RMSprop(parameters, lr, alpha, momentum=momentum, weight_decay=weight_decay)


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
    """Muon: momentum orthogonalised by Newton-Schulz `iterations`, for filters and matrices (Jordan 2024).

    A filter [out, in, h, w] is a matrix [out, in * h * w]; `normalize` fixes its norm to an orthogonal matrix's, as in
    the speed runs. Norms, biases and the classifier (the last matrix; of several heads all) learn by `rest` at
    `rest_lr`: AdamW, or SGD with Nesterov momentum 0.9.
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
    return ChainedOptimizer(members, other)


def _only(parameters: Groups, chosen: set[int], inside: bool) -> Groups:
    """Return the groups reduced to the parameters whose id is among `chosen`, or is not."""
    cut = [{**group, "params": [p for p in group["params"] if (id(p) in chosen) == inside]} for group in parameters]
    return [group for group in cut if group["params"]]


class ChainedOptimizer(torch.optim.Optimizer):
    """Several optimizers, each with its own parameters, as one."""

    def __init__(self, *members: torch.optim.Optimizer) -> None:
        self.members = members
        super().__init__([{"params": group["params"]} for member in members for group in member.param_groups], {})
        self._share()

    def _share(self) -> None:
        # The members' own groups, not copies, so that a rate set here is the rate they step with.
        self.param_groups = [group for member in self.members for group in member.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step every optimizer."""
        for member in self.members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every optimizer."""
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of every optimizer."""
        for member, state in zip(self.members, state_dict["members"], strict=True):
            member.load_state_dict(state)
        self._share()


SHARED: dict[str, Any] = {
    "layer_decay": (
        Annotated[float, Strict(), Field(gt=0, le=1)],
        Field(1.0, description="the rate of a layer, as a fraction of that of the layer after it (arXiv:1801.06146)"),
    )
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "nadam": nadam,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "muon": muon,
}
