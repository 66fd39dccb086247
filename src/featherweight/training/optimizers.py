"""The optimizers a recipe may name: each takes the parameters; keyword-only arguments are the recipe's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from featherweight.schema import Flag, NonNegative, Positive, Rate

Parameters = Iterable[nn.Parameter]


def sgd(
    parameters: Parameters,
    *,
    lr: Positive = 0.1,
    momentum: Rate = 0.9,
    nesterov: Flag = False,
    weight_decay: NonNegative = 5e-4,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov and momentum > 0)


def adam(
    parameters: Parameters,
    *,
    lr: Positive = 1e-3,
    beta1: Rate = 0.9,
    beta2: Rate = 0.999,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014, arXiv:1412.6980); weight decay, if any, is added to the gradient."""
    return torch.optim.Adam(parameters, lr, (beta1, beta2), weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
}
