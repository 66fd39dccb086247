"""Networks of timm, torchvision and efficientnet-pytorch: thin constructors, which apply the stem rule.

The libraries are imported when a network is built, since that takes seconds. Pretrained weights (`pretrained`,
`weights`) are loaded by `pretrained_weights.load_pretrained` when a run begins.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from featherweight.errors import UserError, nearest
from featherweight.models.blocks import ActivationName, Momentum, Stem, set_activation, set_batch_norm, stem_shrinks
from featherweight.models.family import Family
from featherweight.models.narrowing import Widths, narrowed
from featherweight.models.pretrained_weights import Pretrained, Weights
from featherweight.models.timm_width import widened
from featherweight.runtime.torch_internals import build_on_meta
from featherweight.schema import HalfOpenFraction, Positive, ScaleFactor, Text

PUBLISHED_SIDE = 224  # pixels, at which the halvings of a published network are distinguished
Options = Annotated[
    dict[str, Any], Field(description="further arguments of the library's constructor, as it names them")
]


def timm(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    variant: Annotated[Text, Field(description="a model of timm's; `name: timm/VARIANT` says the same")],
    stem: Stem = "auto",
    dropout: Annotated[HalfOpenFraction | None, Field(description="before the classifier; null: the library's")] = None,
    drop_connect: Annotated[
        HalfOpenFraction | None, Field(description="timm's drop_path_rate; null: the library's")
    ] = None,
    bn_momentum: Momentum | None = None,
    bn_eps: Positive | None = None,
    width: Annotated[ScaleFactor, Field(description="multiplies all channels, in families that timm makes so")] = 1.0,
    options: Options = {},
    widths: Widths = {},
    pretrained: Pretrained = False,
    weights: Weights = None,
) -> nn.Module:
    """Any network of timm (https://huggingface.co/docs/timm), by its name there.

    A network made for one image size, such as a transformer with positions for patches, is built for the competition's
    size and keeps its patch size. Further arguments are given in `options`, for example `options: {act_layer: gelu}`.
    Raises UserError for a name that timm does not know, and for arguments that the network does not take.
    """
    import timm as library

    base = variant.split(".")[0]
    if not library.is_model(base):
        last = variant.rpartition("/")[2]  # of an address on the hub, `hf_hub:timm/NAME`
        known = last != variant and library.is_model(last.split(".")[0])
        hint = f"; did you mean '{last}'?" if known else nearest(base, library.list_models())
        raise UserError(f"model.variant: timm has no model called '{variant}'{hint}")
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels, **options}
    if dropout is not None:
        arguments["drop_rate"] = dropout
    if drop_connect is not None:
        arguments["drop_path_rate"] = drop_connect
    settings = library.get_pretrained_cfg(variant, allow_unregistered=True)
    fixed = settings is not None and settings.fixed_input_size
    if fixed:
        arguments["img_size"] = image_size

    if drop_connect is not None and not drops_paths(variant):
        del arguments["drop_path_rate"]  # `contradictions` says so: a recipe may inherit it from another network's

    def make() -> nn.Module:
        plain = width == 1
        net = library.create_model(variant, **arguments) if plain else widened(variant, width, arguments)
        return narrowed(net, widths)

    return build_adapted(make, f"timm/{variant}", channels, image_size, None if fixed else stem, bn_momentum, bn_eps)


@functools.cache
def drops_paths(variant: str) -> bool:
    """True if a network of timm takes a drop path rate."""
    import timm as library

    try:
        build_on_meta(lambda: library.create_model(variant, drop_path_rate=0.1))
    except TypeError as error:
        return "drop_path_rate" not in str(error)
    except (RuntimeError, ValueError, AssertionError):  # for another reason, which is reported when it is built
        return True
    return True


def torchvision(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    variant: Annotated[Text, Field(description="a classifier of torchvision's; or `name: torchvision/VARIANT`")],
    stem: Stem = "auto",
    bn_momentum: Momentum | None = None,
    bn_eps: Positive | None = None,
    options: Options = {},
    widths: Widths = {},
    pretrained: Pretrained = False,
    weights: Weights = None,
) -> nn.Module:
    """Any classifier of torchvision, by its name there, without auxiliary heads.

    Further arguments are given in `options`, for example `options: {dropout: 0.3}` or `{stochastic_depth_prob: 0.1}`.
    """
    from torchvision import models as library

    known = library.list_models(module=library)
    if variant not in known:
        raise UserError(f"model.variant: torchvision has no classifier called '{variant}'{nearest(variant, known)}")
    arguments = dict(options)
    if variant in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": False, "init_weights": True, **arguments}

    def make() -> nn.Module:
        net = library.get_model(variant, weights=None, num_classes=num_classes, **arguments)
        return narrowed(with_input_channels(net, channels), widths)

    return build_adapted(make, f"torchvision/{variant}", channels, image_size, stem, bn_momentum, bn_eps)


def efficientnet_pytorch(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    variant: Annotated[Text, Field(description="b0 to b8, l2")] = "b0",
    width: Annotated[ScaleFactor | None, Field(description="null: the variant's; rounded to multiples of 8")] = None,
    depth: Annotated[ScaleFactor | None, Field(description="null: the variant's; every stage is rounded up")] = None,
    stem: Stem = "auto",
    dropout: HalfOpenFraction | None = None,
    drop_connect: HalfOpenFraction | None = None,
    bn_momentum: Momentum | None = None,
    bn_eps: Positive | None = None,
    pretrained: Pretrained = False,
    weights: Weights = None,
) -> nn.Module:
    """EfficientNet of efficientnet-pytorch 0.7.1 (LOGBOOK A7 to A17), with its own defaults.

    Those of B0 are dropout 0.2, drop connect 0.2, batch-norm momentum 0.01 and epsilon 1e-3. Its activation is fixed
    and its depth is rounded up: `efficientnet` has other choices.
    """
    from efficientnet_pytorch import VALID_MODELS, EfficientNet

    if f"efficientnet-{variant}" not in VALID_MODELS:
        known = ", ".join(name.removeprefix("efficientnet-") for name in VALID_MODELS)
        raise UserError(f"model.variant: efficientnet-pytorch has no '{variant}'; there are {known}")
    arguments = {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "dropout_rate": dropout,
        "drop_connect_rate": drop_connect,
    }
    arguments = {key: value for key, value in arguments.items() if value is not None}

    def make() -> nn.Module:
        # Without an image size its padding is computed from its input, whatever the strides before.
        net: nn.Module = EfficientNet.from_name(
            f"efficientnet-{variant}", channels, num_classes=num_classes, image_size=None, **arguments
        )
        return net

    return build_adapted(make, f"efficientnet_pytorch/{variant}", channels, image_size, stem, bn_momentum, bn_eps)


def with_input_channels(model: nn.Module, channels: int) -> nn.Module:
    """Return the model with its first convolution replaced by one for this number of input channels."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and channels != module.in_channels:
            parent, _, child = name.rpartition(".")
            fresh = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            setattr(model.get_submodule(parent), child, fresh)
        if isinstance(module, nn.Conv2d):
            break
    return model


def build_adapted(
    make: Callable[[], nn.Module],
    name: str,
    channels: int,
    image_size: int,
    stem: Any,
    bn_momentum: float | None,
    bn_eps: float | None,
    activation: ActivationName | None = None,
) -> nn.Module:
    """Return `build_at_size`'s network with these settings of its batch norms and, if given, this activation."""
    model = build_at_size(make, name, channels, image_size, stem)
    set_batch_norm(model, bn_momentum, bn_eps)
    if activation is not None:
        set_activation(model, activation)
    return model


def build_at_size(make: Callable[[], nn.Module], name: str, channels: int, image_size: int, stem: Any) -> nn.Module:
    """Return the network that `make` builds, its first halvings left out as the stem rule says (None: no rule).

    These are found by running the network, without memory, at 224 px. Kernels stay as published, so the number of
    parameters does not depend on the image size. Raises UserError if the network cannot be built, or cannot take images
    of this size.
    """
    try:
        twin = build_on_meta(make)
        strides = _spared_strides(twin, channels, 4 // stem_shrinks(image_size, stem)) if stem is not None else {}
        _set_strides(twin, strides)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Using padding='same'")  # of a patch embedding: intended
            twin(torch.empty(1, channels, image_size, image_size, device="meta"))
    except TypeError as error:
        raise UserError(f"model: {name} does not take these arguments ({error})") from None
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model: {name} cannot take images of {image_size} px ({reason})") from None
    if torch.get_default_device().type == "meta":
        return twin
    model = make()
    _set_strides(model, strides)
    return model


def _spared_strides(model: nn.Module, channels: int, undone: int) -> dict[str, int]:
    """Return strides, by module, that shrink images by `undone` (1, 2 or 4) times less; the first ones change.

    All modules that take maps of one size change together, so that parallel branches stay alike.
    """
    if undone == 1:
        return {}
    sides: dict[str, int] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        sides.setdefault(name, inputs[0].shape[-1])

    strided = {name: module for name, module in model.named_modules() if _stride(module) > 1}
    hooks = [module.register_forward_pre_hook(functools.partial(note, name)) for name, module in strided.items()]
    with torch.no_grad():
        model(torch.empty(1, channels, PUBLISHED_SIDE, PUBLISHED_SIDE, device="meta"))
    for hook in hooks:
        hook.remove()
    strides = {}
    for name, side in sides.items():
        before = round(PUBLISHED_SIDE / side)
        after = before * _stride(strided[name])
        stride = max(1, after // undone) // max(1, before // undone)
        if stride != _stride(strided[name]):
            strides[name] = stride
    return strides


def _stride(module: nn.Module) -> int:
    """Return a convolution's or pooling's stride; 1 for everything else, and for pooling to one pixel."""
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return 1
    stride = module.stride
    return int(stride[0]) if isinstance(stride, tuple | list) else int(stride)


def _set_strides(model: nn.Module, strides: dict[str, int]) -> None:
    for name, stride in strides.items():
        module: Any = model.get_submodule(name)
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0]
            if kernel % 2 == 0 and module.padding == (0, 0):  # patches that overlap only now
                module.padding = "same" if stride == 1 else ((kernel - stride) // 2,) * 2
            module.stride = (stride, stride)
        elif stride == 1:  # pooling of stride 1 would only blur
            module.kernel_size, module.stride, module.padding = 1, 1, 0
        else:
            module.stride = stride


FAMILIES = (
    Family("efficientnet_pytorch", efficientnet_pytorch),
    Family("timm", timm),
    Family("torchvision", torchvision),
)
