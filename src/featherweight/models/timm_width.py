"""Networks of timm, wider or narrower than their named variants.

Many families have a multiplier of all channels (EfficientNet, MobileNet v3 and v4, MNASNet, GhostNet, ReXNet, TinyNet,
LCNet, MixNet), which each variant fixes internally: the function that makes the variant is called with another one.
Others take the channels of their stages (ConvNeXt, EdgeNeXt, RepViT, EfficientFormer v2, MambaOut).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from torch import nn

from featherweight.errors import UserError

MULTIPLIERS = ("channel_multiplier", "model_width", "width_mult", "width")
STAGES = ("dims", "embed_dims", "embed_dim")
ROUND = 8  # channels of stages are multiples of this, if the variant's are, and of their heads of attention


def widened(variant: str, width: float, arguments: Mapping[str, Any]) -> nn.Module:
    """Return timm's variant with all channels multiplied by `width`, rounded as its family does.

    Raises UserError if its family has neither a multiplier nor stages, or cannot be built at that width.
    """
    import timm

    net: Any = timm.create_model(variant, **arguments)
    takes = inspect.signature(type(net)).parameters
    stages = next((key for key in STAGES if key in takes), None)
    try:
        if stages is not None:
            channels = [one["num_chs"] for one in net.feature_info]
            heads = _heads(net)
            steps = [math.lcm(math.gcd(ROUND, *channels), heads.get(own, 1)) for own in channels]
            scaled = [max(step, round(own * width / step) * step) for own, step in zip(channels, steps, strict=True)]
            return timm.create_model(variant, **{**arguments, stages: scaled})
        entry = _entry(variant, width, {key: takes[key].default for key in MULTIPLIERS if key in takes})
        return entry(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"model.width: timm cannot make {variant} {width:g} times as wide ({told})") from None


def _heads(net: nn.Module) -> dict[int, int]:
    """Return the number of heads of attention by its number of channels, which must be a multiple of it."""
    heads: dict[int, int] = {}
    for module in net.modules():
        number = getattr(module, "num_heads", None)
        linear = next((one for one in module.modules() if isinstance(one, nn.Linear)), None)
        if isinstance(number, int) and linear is not None:
            heads.setdefault(linear.in_features, number)
    return heads


def _entry(variant: str, width: float, defaults: Mapping[str, float]) -> Callable[..., nn.Module]:
    """Return timm's function of the variant, in a copy that calls its family's constructor with another multiplier.

    timm has no argument for this: its functions pass the multiplier themselves, and a second one is an error. The copy
    has globals of its own, so nothing in timm changes for others. `defaults` are the network's.
    """
    import timm

    entry: Any = inspect.unwrap(timm.models.model_entrypoint(variant.split(".")[0]))
    for name in entry.__code__.co_names:
        maker = entry.__globals__.get(name)
        if isinstance(maker, FunctionType) and (defaults or _takes(maker)):
            inside = {**entry.__globals__, name: _multiplying(maker, width, defaults)}
            own = FunctionType(entry.__code__, inside, entry.__name__, entry.__defaults__, entry.__closure__)
            own.__kwdefaults__ = entry.__kwdefaults__
            return own
    raise UserError(f"model.width: timm makes no {variant} of other widths; ./run.sh trim cuts one to a limit")


def _takes(maker: FunctionType) -> bool:
    return any(key in inspect.signature(maker).parameters for key in MULTIPLIERS)


def _multiplying(maker: Callable[..., Any], width: float, defaults: Mapping[str, float]) -> Callable[..., Any]:
    """Return the function with its multiplier scaled: the one that it is given, or else the network's default."""

    def make(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(maker).bind(*args, **kwargs)
        given.apply_defaults()
        inner = given.arguments.get("kwargs", {})
        for key in MULTIPLIERS:
            if key in given.arguments:
                given.arguments[key] *= width
                break
            if key in inner or key in defaults:
                inner[key] = width * inner.get(key, defaults.get(key, 1.0))
                break
        return maker(*given.args, **given.kwargs)

    return make
