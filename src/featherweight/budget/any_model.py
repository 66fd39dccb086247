"""The size of any model: a module, a file of weights, a network of a library or of the user's.

A file of weights has only names and tensors, so the names tell which are parameters: batch-norm statistics are counted
separately, and so is what a checkpoint holds beside the model (optimizer, averages). Tensors that share memory count
once, if the file says that they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from featherweight import untrusted_files
from featherweight.budget.checkpoint_parts import Parts, parts_in
from featherweight.budget.folders import FILES, INDEX, refuse_other_kinds, shards, shards_with
from featherweight.budget.folding import copied, not_compiled, runs_on, spared_by_folding
from featherweight.budget.onnx_file import weigh_onnx
from featherweight.budget.packed import unpacked
from featherweight.budget.roles import roles, too_many
from featherweight.budget.tally import ModelSize, Tally, tallied
from featherweight.budget.what_counts import counted, derived, groups
from featherweight.errors import UserError
from featherweight.models import FAMILIES, custom, outline
from featherweight.models.shape import Shape
from featherweight.models.weights_file import read_content, refuse_no_tensors

IMAGENET = Shape(1000, 3, 224)  # what a network by its name is made for


def weigh_anything(what: Any, example: Tensor | None = None, shape: Shape = IMAGENET) -> ModelSize:
    """Return the size of a module, its state, a file (.pth .pt .bin .ckpt .pth.tar .safetensors .pt2 .onnx,
    TorchScript too), `timm/NAME`, `torchvision/NAME` or `FILE.py:NAME`. One shard, or the `.index.json` of a model in
    shards, stands for all of it.

    `example` [B, C, H, W] is passed through a module whose parameters are created by the first images; with it
    multiply-adds and the folded count are computed too. A named network is built for `shape`. No code is run but that
    of FILE.py. Raises UserError for anything else, for damaged files, and for files that could run code.
    """
    if isinstance(what, nn.Module):
        return weigh_module(type(getattr(what, "_orig_mod", what)).__name__, what, example)
    if isinstance(what, Mapping):
        return _of_content("state", Path("state"), what if isinstance(what, dict) else dict(what), None)
    if not isinstance(what, str | Path):
        kind = f"the class {what.__name__}" if isinstance(what, type) else f"an object of type {type(what).__name__}"
        raise UserError(f"cannot weigh {kind}: expected a module, the state of one, a file, or a name")
    name = str(what)
    if name.startswith(custom.LIBRARIES) or (custom.is_custom(name) and not Path(name).exists()):
        if example is not None:
            if example.dim() != 4:
                raise UserError(f"{name}: the example must be images [B, C, H, W], and is {list(example.shape)}")
            shape = shape._replace(channels=example.shape[1], size=example.shape[-1])
        images = torch.empty(1, shape.channels, shape.size, shape.size, device="meta")
        return weigh_module(name, _by_name(name, shape), images)
    path = Path(name).expanduser()
    if path.is_dir():
        why = "it is a link to a folder" if path.is_symlink() else f"it holds no file ending in {', '.join(FILES)}"
        raise UserError(f"cannot read {path}: it is a folder, and {why}")
    size = untrusted_files.regular_file(path).st_size
    if parts := shards(path) if path.name.endswith(INDEX) else shards_with(path):
        content: dict[str, Any] = {}
        for part in parts:
            inside = read_content(part)
            flat = isinstance(inside, Mapping) and not content.keys() & inside.keys()
            content |= inside if flat else {part.name: inside}
            content |= {f"attributes of {part.name}": vars(inside)} if hasattr(inside, "__dict__") else {}
        return _of_content(name, path, content, sum(part.stat().st_size for part in parts))
    if path.suffix.lower() == ".onnx":
        return weigh_onnx(name, path, size)
    refuse_other_kinds(path)
    return _of_content(name, path, read_content(path), size)


def _by_name(name: str, shape: Shape) -> nn.Module:
    """Build a network of a library, or of the user's, whose answers need not be those of a classifier."""
    try:
        try:
            return outline(FAMILIES.validate(name), shape).net
        except ValidationError as error:
            raise UserError(f"{name}: {error.errors()[0]['msg']}") from None
    except UserError:
        net = custom.countable(name, shape) if custom.is_custom(name) else None
        if net is None:
            raise
        return net


def weigh_module(name: str, module: nn.Module, example: Tensor | None = None, size: int | None = None) -> ModelSize:
    """Return the size of a module; `size` is that of its file, in bytes. See `weigh_anything`."""
    if example is not None and any(nn.parameter.is_lazy(one) for one in module.parameters()):
        with torch.no_grad():
            module(example)
    if any(nn.parameter.is_lazy(one) for one in (*module.parameters(), *module.buffers())):
        raise UserError(f"{name}: some of its parameters are created by the first images: pass an example of these")
    caches = derived(module)
    summed = groups([(name, module)], caches=caches)
    parameters = sum(part.parameters for part in summed)
    tally = tallied(counted(module, caches))
    spared = None if example is None else spared_by_folding(module, example)
    return ModelSize(
        name,
        parameters,
        sum(part.statistics for part in summed),
        bits=tally.bits,
        zeros=None if tally.blind else tally.zeros,
        score=tally.score,
        bytes=size,
        macs=None if example is None else macs_of(module, example),
        folded=None if spared is None else parameters - spared,
    )


def macs_of(module: nn.Module, example: Tensor) -> int | None:
    """Return the multiply-adds for one image of `example` [B, C, H, W], by torch's counter; None if it does not run."""
    for device, images in runs_on(module, example):
        counter = FlopCounterMode(display=False)
        with suppress(Exception), torch.no_grad(), not_compiled(), counter:  # whatever a network of somebody's raises
            copied(module).to(device).eval().requires_grad_(False)(images)
            return int(counter.get_total_flops()) // 2 // len(images)
    return None


def _of_content(name: str, path: Path, content: Any, size: int | None) -> ModelSize:
    with untrusted_files.explained(path, "its tensors cannot be counted"):
        parts = parts_in(content)
        if not parts.model:
            refuse_no_tensors(path, content)
        return _of_parts(name, parts, size)


def _of_parts(name: str, parts: Parts, size: int | None) -> ModelSize:
    state = parts.model
    packed, aside = unpacked(state)
    marks = roles(state)
    tally = Tally()
    for key, one in state.items():
        if key in packed:
            tally.add(one, packed[key])
        elif key not in aside and key not in marks:
            tally.add(one)
    norms = [state[key] for key, role in marks.items() if role == "statistic"]
    if too_many(sum(one.numel() for one in norms), tally.numbers):
        for one in norms:
            tally.add(one)
    scales = _more(tally.seen, (state[key] for key in aside))
    statistics = _more(tally.seen, (state[key] for key in marks))
    averaged = _more(tally.seen, parts.averaged.values())
    others = _more(tally.seen, parts.others.values())
    return ModelSize(
        name,
        tally.numbers,
        statistics.numbers,
        averaged.numbers,
        others.numbers,
        tally.bits + scales.bits,
        None if tally.blind else tally.zeros,
        tally.score + scales.bits / 32,
        size,
    )


def _more(seen: dict[int, int], tensors: Iterable[Tensor]) -> Tally:
    """Return the tally of what tensors add to those already seen."""
    tally = Tally(seen)
    for tensor in tensors:
        tally.add(tensor, look=False)
    return tally
