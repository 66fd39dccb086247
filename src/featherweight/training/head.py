"""A network's classifier, apart from its body, which is frozen while the classifier learns alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from featherweight.errors import UserError
from featherweight.models import Classifier
from featherweight.schema import Index, Section


class Head(Section):
    """What is done about the classifier of a network with pretrained weights before all of it is trained."""

    start: Literal["random", "probe"] = Field(
        "random",
        description="the classifier's first weights; probe: a linear probe on the frozen body's features",
    )
    epochs: Index = Field(
        0, description="the first of train.epochs, in which it alone learns; the frozen body is in evaluation mode"
    )


def classifier_of(model: Classifier, classes: int) -> nn.Linear:
    """The last linear layer. Raises UserError for a network that does not end in one of this many outputs."""
    layers = [module for module in model.net.modules() if isinstance(module, nn.Linear)]
    if not layers or layers[-1].out_features != classes:
        raise UserError("head: this network does not end in a linear layer, so it has no classifier apart")
    return layers[-1]


def freeze_body(model: Classifier, head: nn.Linear, learning: Sequence[nn.Parameter], frozen: bool) -> None:
    """Let the classifier alone learn, the rest in evaluation mode; or all of `learning`, in training mode."""
    model.train()
    own = {id(parameter) for parameter in head.parameters()}
    for parameter in learning:
        parameter.requires_grad_(not frozen or id(parameter) in own)
    if frozen:
        for module in model.net.modules():
            if not isinstance(module, nn.Dropout):
                module.training = False
