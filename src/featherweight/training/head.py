"""The classifier of a network, apart from its body, which may be frozen while the classifier is trained alone."""

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
    """How the classifier of a network with pretrained weights is trained before the rest of the network."""

    start: Literal["random", "probe"] = Field(
        "random",
        description="the classifier's initial weights; probe: a linear probe on the frozen body's features",
    )
    epochs: NonNegativeInt53 = Field(
        0, description="the first epochs train the classifier only; the frozen body is in evaluation mode"
    )


def heads_of(model: Classifier, spec: Choice, shape: Shape) -> list[nn.Linear]:
    """Return the classification layers of a network that `spec` built for this shape: usually one.

    Some published networks have two and return their mean. Raises UserError unless they are linear layers with an
    output per class.
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
            "head: this network does not end in a linear layer, so it has no separate classifier: use "
            "--set head.start=random --set head.epochs=0"
        )
    return heads


def freeze_body(model: Classifier, heads: Sequence[nn.Linear], learning: Sequence[nn.Parameter], frozen: bool) -> None:
    """Freeze all but the classifier, with the body in evaluation mode; or, if not `frozen`, train all of `learning`."""
    model.train()
    own = {id(parameter) for head in heads for parameter in head.parameters()}
    for parameter in learning:
        parameter.requires_grad_(not frozen or id(parameter) in own)
    if frozen:
        for module in model.net.modules():
            if not isinstance(module, nn.Dropout):
                module.training = False
