"""Pretrained weights: where they come from, the input that they expect, and how they are loaded into a network.

A family whose constructor takes `pretrained` and `weights` starts from the weights of its library's hub, of a file, or
of a package in the environment. The constructor itself always makes a randomly initialised network: `load_pretrained`
is called once, when a run begins, so a finished run does not need the published file any more.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from featherweight import paths
from featherweight.errors import Unavailable, UserError
from featherweight.models.shape import Shape
from featherweight.models.weight_matching import Loaded, load_matching
from featherweight.models.weights_file import average_beside, model_in, normalize_in, read_content
from featherweight.runtime.torch_internals import build_on_meta
from featherweight.schema import Choice, Flag, Text
from featherweight.untrusted_files import reason

ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
PACKAGE = "package:"
LIBRARIES = ("timm", "torchvision", "efficientnet_pytorch")  # families that take `pretrained` and `weights`
HUB_TIMEOUT_SECONDS = 6.0  # for the first answer of a hub
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIRST_OF_LUKEMELAS = "_conv_stem.weight"  # the name of the first tensor in weights of efficientnet_pytorch
CONVERTING = ("googlenet", "inception_v3")  # torchvision's: with their weights they convert inputs to mean and std 0.5

Pretrained = Annotated[
    Flag, Field(description="start from the library's pretrained weights, where the competition allows it")
]
Weights = Annotated[
    Text | None,
    Field(
        description="start from the weights in this file, or in `package:NAME`, a package of this environment; "
        "null: with `pretrained`, from the library's hub, over the network"
    ),
]


@dataclass(frozen=True)
class ExpectedInput:
    """The input that pretrained weights were trained with.

    Mean and standard deviation are per channel, of pixels in [0, 1]. For evaluation a picture is resized, with this
    interpolation, so that its shorter side is the image size / `crop_pct`, and cropped to its centre.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float


def starts_pretrained(spec: Choice) -> bool:
    """True if a model starts from pretrained weights that are loaded here; a network of the user's loads its own."""
    return spec.name in LIBRARIES and bool(spec.arguments.get("pretrained") or spec.arguments.get("weights"))


def expected_input(spec: Choice) -> ExpectedInput | None:
    """Return the input that a model's pretrained weights expect, as its library says; None if it has none."""
    if not starts_pretrained(spec):
        return None
    variant = spec.arguments["variant"]
    if spec.name == "timm":
        import timm

        settings = timm.get_pretrained_cfg(variant, allow_unregistered=True)
        if settings is None:
            return None
        crop = settings.test_crop_pct or settings.crop_pct
        return ExpectedInput(tuple(settings.mean), tuple(settings.std), settings.interpolation, crop)
    if spec.name == "torchvision":
        from torchvision import models

        chosen = models.get_model_weights(variant).DEFAULT.transforms()
        crop, resized = chosen.crop_size[0], chosen.resize_size[0]
        mean, std = tuple(chosen.mean), tuple(chosen.std)
        if variant in CONVERTING and not spec.arguments["options"].get("transform_input"):
            mean, std = (0.5,) * 3, (0.5,) * 3
        return ExpectedInput(mean, std, chosen.interpolation.value, crop / resized)
    return ExpectedInput(IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.875)  # of efficientnet_pytorch


def weights_path(spec: Choice) -> tuple[Path, str]:
    """Return the file of a model's pretrained weights and a name for it; it is downloaded from the hub if needed.

    Raises UserError for a missing file or package, and Unavailable if the hub cannot be reached.
    """
    wanted = spec.arguments.get("weights")
    if wanted is None:
        return _from_hub(spec), f"the hub of {spec.name}"
    if wanted.startswith(PACKAGE):
        return _in_package(wanted.removeprefix(PACKAGE)), wanted
    if "://" in wanted:
        raise UserError(f"model.weights: {wanted} is an address: download it, and name the file")
    file = Path(wanted).expanduser()
    path = next((one for one in (file, paths.home() / file) if one.is_file()), None)
    if path is None:
        if file.is_dir():
            raise UserError(f"model.weights: {file} is a folder: name the file of weights in it")
        raise UserError(f"model.weights: there is no file {file}, here or in {paths.home()}")
    return path, str(file)


def load_pretrained(net: nn.Module, spec: Choice, shape: Shape) -> Loaded:
    """Load pretrained weights into a network that `spec` built for this shape, in place.

    Raises UserError for weights that do not match this network, and what `weights_path` raises.
    """
    path, source = weights_path(spec)
    content = read_content(path)
    state = model_in(path, content)
    _refuse_other_padding(spec, state, source)
    shapes = _tensor_shapes(spec, shape)
    classifier = class_tensors(spec, shape)
    first = _differing(shapes, _tensor_shapes(spec, shape._replace(channels=shape.channels + 1)))
    translated = _translated(net, state)
    try:
        loaded = load_matching(net, state if translated is None else translated, source, classifier, first)
    except UserError:
        if translated is None:
            raise
        loaded = load_matching(net, state, source, classifier, first)
    return replace(loaded, normalize=normalize_in(content), average=average_beside(content))


def _refuse_other_padding(spec: Choice, state: dict[str, Tensor], source: str) -> None:
    """Raise UserError for a file of efficientnet_pytorch where timm has two networks of its shapes, of which one pads
    and normalises as TensorFlow does: only that one computes what the weights were trained for.
    """
    if spec.name != "timm" or FIRST_OF_LUKEMELAS not in state:
        return
    import timm

    base = spec.arguments["variant"].split(".")[0]
    if not base.startswith("tf_") and timm.is_model(f"tf_{base}"):
        raise UserError(
            f"model.weights: {source} is of efficientnet_pytorch, which pads and normalises as TensorFlow does, and "
            f"timm's {base} does not: set model.variant=tf_{base}"
        )


def class_tensors(spec: Choice, shape: Shape) -> frozenset[str]:
    """Return the names of the tensors whose shapes depend on the number of classes."""
    one_more = shape._replace(num_classes=shape.num_classes + 1)
    return _differing(_tensor_shapes(spec, shape), _tensor_shapes(spec, one_more))


def _tensor_shapes(spec: Choice, shape: Shape) -> dict[str, torch.Size]:
    net = build_on_meta(lambda: spec(*shape))
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def _differing(one: dict[str, torch.Size], other: dict[str, torch.Size]) -> frozenset[str]:
    """Return the names of the tensors whose shapes differ between two networks."""
    return frozenset(name for name, shape in one.items() if other.get(name) != shape)


def _translated(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights with the names and positions of timm's own conversion, or None if it has none."""
    translate = getattr(sys.modules.get(type(net).__module__), "checkpoint_filter_fn", None)
    if translate is None:
        return None
    with suppress(Exception):  # it is written for certain files, and its errors for others mean nothing
        translated = translate(dict(state), net)
        if isinstance(translated, dict) and all(isinstance(tensor, Tensor) for tensor in translated.values()):
            return translated
    return None


def _in_package(name: str) -> Path:
    """Return the only file of weights in a package, which is not imported; `NAME/FILE` selects one of several."""
    module, _, inner = name.partition("/")
    try:
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    if not folders:
        raise UserError(
            f"model.weights: the package '{module}' is not installed: run ./run.sh install {module.replace('_', '-')}"
        )
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in ENDINGS)
    chosen = [file for file in files if not inner or file.name == inner]
    if len(chosen) != 1:
        there = ", ".join(file.name for file in files[:5]) or "none"
        raise UserError(f"model.weights: name the file, {PACKAGE}{module}/FILE; files of weights in it: {there}")
    return chosen[0]


def _from_hub(spec: Choice) -> Path:
    variant = spec.arguments["variant"]
    if spec.name == "timm":
        import timm

        settings = timm.get_pretrained_cfg(variant, allow_unregistered=True)
        if settings is not None and settings.hf_hub_id:
            return _from_hugging_face(settings.hf_hub_id, f"timm/{variant}")
        url = str(settings.url) if settings is not None and settings.url else None
    elif spec.name == "torchvision":
        from torchvision import models

        url = models.get_model_weights(variant).DEFAULT.url
    else:
        from efficientnet_pytorch.utils import url_map

        url = url_map.get(f"efficientnet-{variant}")
    if not url:
        raise UserError(f"model.pretrained: {spec.name} has no pretrained weights of '{variant}'; set weights: FILE")
    return _from_url(url, f"{spec.name}/{variant}")


def _from_hugging_face(repository: str, name: str) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    files = ("model.safetensors", "pytorch_model.bin")
    for file in files:
        cached = hub.try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
    _refuse_unreachable(hub.hf_hub_url(repository, files[0]), name)
    for file in files:
        try:
            return Path(hub.hf_hub_download(repository, file))
        except EntryNotFoundError:
            continue
        except Exception as error:  # of the network, of the hub, of its client
            raise Unavailable(_unreachable(hub.hf_hub_url(repository, file), name, reason(error))) from None
    raise UserError(f"model.pretrained: {repository} on the hub has none of {', '.join(files)}; set weights: FILE")


def _from_url(url: str, name: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    _refuse_unreachable(url, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
    except Exception as error:
        raise Unavailable(_unreachable(url, name, reason(error))) from None
    return path


def _refuse_unreachable(url: str, name: str) -> None:
    """Raise Unavailable unless the address answers: the hub's own client would retry for most of a minute."""
    import requests

    try:
        requests.head(url, timeout=HUB_TIMEOUT_SECONDS, allow_redirects=False)
    except (requests.RequestException, OSError) as error:
        raise Unavailable(_unreachable(url, name, type(error).__name__)) from None


def _unreachable(url: str, name: str, why: str) -> str:
    return (
        f"model.pretrained: the weights of {name} are not on this machine, and {url} cannot be reached ({why}). "
        f"With a network the same command continues; without one set weights: FILE, or weights: {PACKAGE}NAME"
    )
