"""A network's classifier, apart from its body, which is frozen while the classifier learns alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from featherweight.errors import UserError
from featherweight.models import Classifier
from featherweight.models.pretrained_weights import class_tensors
from featherweight.models.shape import Shape
from featherweight.schema import Choice, NonNegativeInt53, Section


class Head(Section):
    """What is done about the classifier of a network with pretrained weights before all of it is trained."""

    start: Literal["random", "probe"] = Field(
        "random",
        description="the classifier's first weights; probe: a linear probe on the frozen body's features",
    )
    epochs: NonNegativeInt53 = Field(
        0, description="the first of train.epochs, in which it alone learns; the frozen body is in evaluation mode"
    )


def heads_of(model: Classifier, spec: Choice, shape: Shape) -> list[nn.Linear]:
    """The layers that give the classes, of a network that `spec` made for this shape: mostly one; some published ones
    have two, whose mean they answer.

    Raises UserError where they are not linear layers with an output for each class.
    """
    try:
        names = class_tensors(spec, shape)
    except UserError:  # a network of the user's that is written for one number of classes
        linear = [name for name, module in model.net.named_modules() if isinstance(module, nn.Linear)]
        names = frozenset(f"{name}.weight" for name in linear[-1:])
    owners = {name.rpartition(".")[0] for name in names}
    found = [module for name, module in model.net.named_modules() if name in owners]
    heads = [one for one in found if isinstance(one, nn.Linear) and one.out_features == shape.num_classes]
    if not heads or len(heads) < len(found):
        raise UserError(
            "head: this network does not end in a linear layer, so it has no classifier apart: "
            "--set head.start=random --set head.epochs=0"
        )
    return heads


def freeze_body(model: Classifier, heads: Sequence[nn.Linear], learning: Sequence[nn.Parameter], frozen: bool) -> None:
    """Let the classifier alone learn, the rest in evaluation mode; or all of `learning`, in training mode."""
    model.train()
    own = {id(parameter) for head in heads for parameter in head.parameters()}
    for parameter in learning:
        parameter.requires_grad_(not frozen or id(parameter) in own)
    if frozen:
        for module in model.net.modules():
            if not isinstance(module, nn.Dropout):
                module.training = False
