"""Tell the model in a checkpoint from what stands beside it: averaged copies, the optimizer, records of training.

Whatever is not recognised as one of these counts as the model: a head or a second network beside `model` is shipped
with it.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featherweight.budget.made_by_code import held_by
from featherweight.budget.python_numbers import CONTAINERS, FEW, are_indices, numbers_in, own_numbers
from featherweight.budget.roles import LEAST, too_many_records
from featherweight.budget.what_counts import new_elements

Path = tuple[str, ...]  # the keys and places that lead to a tensor
Names = dict[str, Tensor]
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")  # netEMA: net, EMA; model_ema: model, ema
AVERAGED = frozenset({"ema", "swa", "averaged", "average", "avg", "shadow"})  # words in names of averaged weights
STAGES = ("best", "last", "latest")  # two checkpoints of one network in a file; the first of these is the model
TRAINING = frozenset(
    {
        "optim", "optims", "optimizer", "optimizers", "optimiser", "optimisers", "opt", "opts", "sched", "scheduler",
        "schedulers", "scaler", "scalers", "rng", "grad", "grads", "gradient", "gradients",
    }
)  # fmt: skip
MOMENTS = re.compile(r"momentum(_buffers?)?|exp_avg\w*|square_avg|velocity")  # of an optimizer, without its name
RECORDS = frozenset({"epoch", "step", "steps", "iteration", "best", "acc", "accuracy", "loss"})  # single numbers
LOGS = frozenset({"history", "metrics", "logs", "callbacks", "loops", "hparams", "hyper", "args", "config", "cfg"})
CURVES = frozenset(
    {
        "losses", "accs", "accuracies", "lr", "lrs", "err", "error", "errors", "f1", "auc", "score", "scores", "metric",
        "histories", "log", "curve", "curves", "time", "times", "seconds", "epochs", "iterations", "iter", "iters",
    }
)  # fmt: skip
OUTCOMES = frozenset(
    {
        "pred", "preds", "prediction", "predictions", "oof", "prob", "probs", "probabilities", "logits", "label",
        "labels", "target", "targets", "ids", "idx", "indices", "confusion", "seed", "seeds", "timestamp", "timestamps",
        "durations",
    }
)  # fmt: skip
MOST, LOOSE = 8, 100_000  # an optimizer keeps at most MOST numbers for each of the model's, generators LOOSE in all
TWISTER = 625  # whole numbers are the state of Python's generator
WRAPPERS = frozenset(
    {"module", "_orig_mod", "model", "net", "_model", "state_dict", "weights", "params", "ema_state_dict"}
)


@dataclass
class Parts:
    """The tensors of a checkpoint by name: the model's, those of averaged copies (EMA, SWA), and all others.

    Many numbers of Python's are a tensor too; `settings` are those of which there are few in one place.
    """

    model: Names = field(default_factory=dict)
    averaged: Names = field(default_factory=dict)
    others: Names = field(default_factory=dict)
    records: Names = field(default_factory=dict)
    settings: list[Any] = field(default_factory=list)


def parts_in(content: Any) -> Parts:
    """Sort all tensors of a checkpoint: mappings and lists of tensors, nested in any way, also in themselves.

    An averaged copy is told by its name and by a twin in the model for each of its tensors; without twins it counts.
    So do the state and the records of training if they are larger than any.
    """
    parts = Parts()
    groups: dict[Path, dict[Path, Tensor]] = {}
    training: Names = {}
    for path, tensor, trains in _tensors_in(content, parts):
        if trains:
            training[".".join(path)] = tensor
        else:
            groups.setdefault(_mark(path, tensor), {})[path] = tensor
    for path in _records(groups.get((), {})):
        parts.others[".".join(path)] = groups[()].pop(path)
    for path in _outcomes(groups.get((), {})):
        parts.records[".".join(path)] = groups[()].pop(path)
    if not groups.get(()) and (marked := [mark for mark in groups if mark]):
        groups[()] = groups.pop(min(marked, key=_stage))  # a file that holds nothing but the average
    parts.model = _named(groups.pop((), {}))
    plain = dict(parts.model)
    for mark, group in groups.items():
        (parts.averaged if _is_copy(mark, group, plain) else parts.model).update(_named(group))
    model = _size(parts.model)
    is_state = _size(training) <= MOST * (model + _size(parts.averaged)) + LOOSE
    (parts.others if is_state or not parts.model else parts.model).update(training)
    seen: dict[int, int] = {}
    records = parts.records.values()
    held = sum(held_by(one) if _is_of_whole_numbers(one) else new_elements(one, seen) for one in records)
    if too_many_records(held + len(parts.settings), model):
        parts.model |= {**parts.records, "settings": _as_numbers(parts.settings)}
    else:
        parts.others |= parts.records
    return parts


def _size(names: Names) -> int:
    seen: dict[int, int] = {}
    return sum(new_elements(one, seen) for one in names.values())


def _tensors_in(content: Any, parts: Parts) -> Iterator[tuple[Path, Tensor, bool]]:
    """Yield every tensor in containers and attributes, in order: the keys that lead to it, the tensor, and whether it
    is the state of training.

    What contains itself is entered once. Arrays, storages, bytes and long lists of numbers are tensors too; the records
    of training among these lists, and settings, are added to `parts`.
    """
    ahead: list[tuple[Path, Any, bool]] = [((), content, False)]
    entered: dict[int, Any] = {}
    summed: set[int] = set()
    while ahead:
        path, thing, trains = ahead.pop()
        tensor = _as_tensor(thing)
        if tensor is not None:
            yield path or ("tensor",), tensor, trains
            thing = vars(tensor) if tensor is thing else None
        if isinstance(thing, argparse.Namespace | SimpleNamespace):
            thing = vars(thing)
        if isinstance(thing, CONTAINERS) and id(thing) not in entered:
            entered[id(thing)] = thing
            if not trains and (numbers := numbers_in(thing, summed)):
                if are_indices(numbers) or _is_record(path, numbers):
                    parts.records[".".join(path)] = _as_numbers(numbers)
                else:
                    yield path or ("numbers",), _as_numbers(numbers), False
            elif not trains and id(thing) not in summed:
                parts.settings += own_numbers(thing)
            inside = list(thing.items()) if isinstance(thing, dict) else list(enumerate(thing))
            inside += list(vars(thing).items()) if hasattr(thing, "__dict__") else []
            for key, inner in reversed(inside):
                if isinstance(inner, str | int | float | None):
                    continue
                ahead.append(((*path, str(key)), inner, trains or _trains(str(key), inner, thing)))


def _as_tensor(thing: Any) -> Tensor | None:
    if isinstance(thing, Tensor):
        return thing
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "fiubc":
        return torch.from_numpy(thing.astype(thing.dtype.newbyteorder("="), copy=False))
    if isinstance(thing, bytes | bytearray) and len(thing) > FEW:
        return torch.frombuffer(bytearray(thing), dtype=torch.uint8)
    if isinstance(thing, torch.UntypedStorage):
        return torch.empty(0, dtype=torch.uint8).set_(thing)
    if isinstance(thing, torch.TypedStorage):
        return torch.empty(0, dtype=thing.dtype).set_(thing._untyped_storage)
    return None


def _as_numbers(numbers: list[Any]) -> Tensor:
    if all(type(one) is int and abs(one) < 2**63 for one in numbers):
        return torch.tensor(numbers)
    kind = torch.complex128 if any(isinstance(one, complex) for one in numbers) else torch.float64
    return torch.tensor(numbers, dtype=kind)


def _is_record(path: Path, numbers: list[Any]) -> bool:
    """Are these numbers a curve of training, an outcome or a setting, by their name; or a random generator's state?"""
    words = CURVES | RECORDS | LOGS | OUTCOMES
    return any(_says(key, words) for key in path) or (
        len(numbers) == TWISTER and all(type(one) is int for one in numbers)
    )


def _trains(key: str, inner: Any, holder: Any) -> bool:
    """Is what stands under this key the state of training: an optimizer's, by its name or its form; of a random
    generator? In weights of this program, is it the normalisation of the images, which is no part of the network?
    """
    words = {word.lower() for word in WORD.findall(key)}
    if isinstance(inner, Tensor):
        if key in ("normalize.mean", "normalize.std"):
            return any(isinstance(name, str) and name.startswith("net.") for name in holder)
        return inner.dtype == torch.uint8 and "rng" in words
    if {"random", "state"} <= words or {"random", "states"} <= words:
        return True
    if isinstance(holder, Mapping) and "param_groups" in holder and key in ("state", "param_groups"):
        return True
    return "." not in key and bool(TRAINING & words or MOMENTS.fullmatch(key))


def _mark(path: Path, tensor: Tensor) -> Path:
    """The parts of a name up to the first that says average, or which checkpoint of several; empty where none does.

    A single number that a log calls the best is no checkpoint.
    """
    parts = tuple(part for key in path for part in key.split("."))
    for at, part in enumerate(parts):
        words = WORD.findall(part)
        place = next((n for n, word in enumerate(words) if word.lower() in AVERAGED), None)
        if place is not None and at + 1 < len(parts):
            return parts[: at + 1]
        if place is not None and place + 1 < len(words):  # `ema_0_weight`, as mmcv writes it beside `0.weight`
            return (*parts[:at], part[: part.index(words[place]) + len(words[place])])
    for at, key in enumerate(path[:-1]):
        if _says(key, LOGS) and tensor.numel() == 1:
            return ()
        if _says(key, STAGES):
            return path[: at + 1]
    return ()


def _stage(mark: Path) -> int:
    words = [word.lower() for word in WORD.findall(mark[-1])]
    return next((place for place, stage in enumerate(STAGES) if stage in words), len(STAGES))


def _is_copy(mark: Path, group: Mapping[Path, Tensor], plain: Names) -> bool:
    """Has each tensor of the group a twin in the model, of its shape and its name? Single numbers need none."""
    tensors = {path: tensor for path, tensor in group.items() if tensor.numel() > 1}
    if not tensors or Counter(one.shape for one in tensors.values()) - Counter(one.shape for one in plain.values()):
        return False
    twins: dict[str, set[torch.Size]] = {}
    for name, tensor in plain.items():
        parts = name.split(".")
        for start in range(len(parts)):
            twins.setdefault(_letters(".".join(parts[start:])), set()).add(tensor.shape)
    start = len(".".join(mark))
    return all(
        path[-1].isdigit() or any(tensor.shape in twins.get(rest, ()) for rest in _rests(".".join(path)[start:]))
        for path, tensor in tensors.items()
    )


def _rests(name: str) -> Iterator[str]:
    """What follows a mark of averages, with and without the names of wrappers."""
    parts = name.strip("._").split(".")
    while parts:
        yield _letters(".".join(parts))
        if parts[0] not in WRAPPERS:
            return
        parts = parts[1:]


def _letters(name: str) -> str:
    """A name without its dots and underscores, which some averages leave out."""
    return re.sub(r"[._]", "", name)


def _records(group: Mapping[Path, Tensor]) -> list[Path]:
    """What beside a model records its training: single numbers by their names, short logs, a few numbers by a name."""
    tops = {len(path) > 1 and "." not in path[0] for path, one in group.items() if one.dim() > 1}  # packed ones dotted
    held = {path: new_elements(one, {}) for path, one in group.items()}  # a view's whole memory
    single = [path for path in group if held[path] == 1 and _says(path[-1], RECORDS)]
    logs = [path for path, one in group.items() if one.dim() < 2 and any(_says(key, LOGS) for key in path[:-1])]
    few = [path for path in group if len(path) == 1] if tops == {True} else []
    logs = logs if sum(held[path] for path in logs) <= LEAST else []
    few = few if sum(held[path] for path in few) <= FEW else []
    found = dict.fromkeys([*single, *logs, *few])
    return list(found) if len(found) < len(group) else []


def _outcomes(group: Mapping[Path, Tensor]) -> list[Path]:
    """What was predicted for the images, and which these were, beside a model that is in a dict of its own.

    Of numbers with a fraction, the last word of the name must say so: `val_probs`, not `target_weight`.
    """
    if not any(len(path) > 1 and one.dim() > 1 for path, one in group.items()):
        return []
    alone = {path[0]: one for path, one in group.items() if len(path) == 1 and _says(path[0], OUTCOMES)}
    return [
        (name,)
        for name, one in alone.items()
        if _is_of_whole_numbers(one) or WORD.findall(name)[-1].lower() in OUTCOMES
    ]


def _is_of_whole_numbers(tensor: Tensor) -> bool:
    is_broken = tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized
    return not is_broken and tensor.layout is torch.strided


def _says(key: str, words: Collection[str]) -> bool:
    return "." not in key and any(word.lower() in words for word in WORD.findall(key))


def _named(group: Mapping[Path, Tensor]) -> Names:
    return {".".join(path): tensor for path, tensor in group.items()}
