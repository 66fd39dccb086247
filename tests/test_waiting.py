"""Between two readings of the losses no GPU waits for the host, whatever a recipe names.

On a GPU torch refuses operations that wait. Elsewhere tensors without data (device `meta`) stand for the GPU's: an
operation that would read values from one fails, and so does a blocking copy to one.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featherweight.augment.mixing import MIXINGS
from featherweight.augment.table import AUGMENTATIONS, Augmentation
from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.models import FAMILIES, build
from featherweight.models.shape import Shape
from featherweight.runtime import processes
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.runtime.processes import ALONE, Processes
from featherweight.schema import OneOf
from featherweight.training import trainer
from featherweight.training.averaging import AVERAGES
from featherweight.training.batches import Batch, Batches
from featherweight.training.distillation import NO_TEACHERS, Teachers
from featherweight.training.examples import Examples
from featherweight.training.losses import LOSSES
from featherweight.training.optimizers import OPTIMIZERS
from featherweight.training.sampling import SAMPLINGS
from test_devices import CLASSES, MODELS, PACK, SIDE

GPU = torch.cuda.is_available()
WRN = {"name": "wrn", "depth": 10, "width": 0.25, "dropout": 0.1, "drop_connect": 0.1}
MLP = {"name": "mlp", "hidden": [4]}  # where the network is not the point: kernels without numbers are slow


class Waits(RuntimeError):
    """Raised where a GPU would wait for the host."""


class Unread(TorchDispatchMode):
    """Refuses blocking copies from the host to `meta`. Reading from `meta` fails without it."""

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        result = function(*given, **(named or {}))
        name = function._schema.name
        copies = name in ("aten::_to_copy", "aten::copy_")
        seen = tree_leaves((given, named, result if copies else None))
        # A single number of the host goes along with the order to compute, unless it is to be copied.
        places = {x.device.type for x in seen if isinstance(x, Tensor) and (x.ndim or copies)}
        later = (named or {}).get("non_blocking") or (name == "aten::copy_" and given[2:] == (True,))
        if {"cpu", "meta"} <= places and not later:
            raise Waits(f"{name} takes what is on the host")
        return result


class Unmade(TorchFunctionMode):
    """Refuses tensors on `meta` made from numbers of the host, since these are copied with blocking."""

    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        result = function(*given, **(named or {}))
        if function in (torch.tensor, torch.as_tensor) and result.is_meta:
            raise Waits(f"torch.{function.__name__} sends what it is given")
        return result


class Kernels(TorchDispatchMode):
    """Kernels that torch lacks for `meta`."""

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        match function._schema.name:
            case "aten::_fused_sgd_" | "aten::_amp_foreach_non_finite_check_and_unscale_":
                return None
            case "aten::_amp_update_scale_":
                return given[0]
            case "aten::batch_norm_update_stats":
                return given[1].clone(), given[2].clone()
        return function(*given, **(named or {}))


@contextmanager
def unwaiting() -> Iterator[None]:
    """Within this context, operations that make a GPU wait raise an error."""
    if GPU:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with Unmade(), Unread():
            yield


class WithoutNumbers(Runtime):
    """A stand-in for a GPU."""

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()

    def has_room(self, size: int) -> bool:
        return self.processes.count == 1


class Done(Exception):
    """Raised after enough steps were watched."""


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Train for some steps and watch all but the first; before the third, continue as after an interruption."""
    optimizers: list[torch.optim.Optimizer] = []

    def prepared(*given: Any) -> torch.optim.Optimizer:
        optimizers.append(prepare(*given))
        return optimizers[-1]

    def watched(self: Batches, epoch: int, *given: Any) -> Iterator[Batch]:
        batches = epoch_of(self, epoch, *given)
        for step in range(3):
            if step == 2:
                optimizers[-1].load_state_dict(optimizers[-1].state_dict())
            with unwaiting() if step else nullcontext():
                yield next(batches)
        raise Done

    prepare, epoch_of = trainer.prepare, Batches.epoch
    monkeypatch.setattr(trainer, "prepare", prepared)
    monkeypatch.setattr(trainer, "READ_SECONDS", math.inf)
    monkeypatch.setattr(Batches, "epoch", watched)
    if not GPU:
        monkeypatch.setattr(trainer, "standardize", lambda *given: None)  # reads from the device, before the first step
        monkeypatch.setattr(trainer, "start_from_images", lambda *given: None)
        for module, kind in itertools.product(("optim.optimizer", "utils._foreach_utils"), ("fused", "foreach")):
            # What has kernels of many tensors on a GPU takes the same way here.
            name = f"_get_{kind}_kernels_supported_devices"
            monkeypatch.setattr(sys.modules[f"torch.{module}"], name, lambda: ["cuda", "meta"], raising=False)

    def run(
        augment: list[Augmentation] = [],
        teachers: Teachers = NO_TEACHERS,
        several: Processes = ALONE,
        precision: str = "fp32",
        model: dict[str, Any] = WRN,
        side: int = SIDE,
        **changes: Any,
    ) -> None:
        told = {"epochs": 5, "batch_size": 6, "checkpoint_seconds": 999, **changes.pop("train", {})}
        recipe = Recipe.model_validate({"model": model, "optimizer": "sgd", "train": told, **changes})
        runtime = make_runtime("cuda" if GPU else "cpu", precision if GPU else "fp32")
        if not GPU:
            runtime = WithoutNumbers(torch.device("meta"), torch.float16 if precision == "fp16" else None)
        runtime = replace(runtime, processes=several)
        images = np.resize(PACK.images, (len(PACK), side, side, 3))
        pack = Pack(PACK.ids, images, PACK.labels)
        network = build(recipe.model, Shape(CLASSES, 3, side))
        examples = Examples(pack, pack, CLASSES, augment, teachers)
        with pytest.raises(Done), nullcontext() if GPU else Kernels():
            trainer.Trainer(recipe, network, examples, runtime, tmp_path).fit()

    return run


@pytest.mark.some(2)
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations(train, name):
    train([OneOf(AUGMENTATIONS).validate(name)], model=MLP)


@pytest.mark.some(2)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers(train, name, precision):
    if precision == "fp16" and name not in ("sgd", "adam", "adamw"):
        pytest.skip("without a fused kernel the scaler asks the GPU whether to take the step")
    train(optimizer=name, precision=precision, train={"clip": 1.0})
    if name in ("sgd", "adamw"):  # it sees gradients alone, whatever steps on them
        train(optimizer=name, precision=precision, sam={"rho": 0.05, "adaptive": True})


@pytest.mark.some(2)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses(train, name):
    weighs = {"weights": "effective"} if name in ("cross_entropy", "focal") else {}
    train(loss={"name": name, **weighs}, model=MLP)


@pytest.mark.some(2)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_networks(train, name):
    train(model={"name": name, **MODELS[name]}, side=32)


@pytest.mark.parametrize("name", sorted(SAMPLINGS))
def test_all_else_at_once(train, name):
    known = Teachers(
        [build(FAMILIES.validate(WRN), Shape(CLASSES, 3, SIDE))], torch.full((len(PACK), CLASSES), 1 / CLASSES), 1
    )
    train(
        mix=sorted(MIXINGS),
        sampling=name,
        teachers=known,
        distill={"teachers": ["somebody"]},
        progressive={"scales": [0.5], "until": [0.9]},
        ship="raw",
        averages=[*sorted({*AVERAGES} - {"lookahead"}), {"name": "lookahead", "every": 2}],
        train={"accumulate": 2, "clip": 1.0, "decay_norms": False, "bias_rate": 8},
    )


def test_several_processes(train, monkeypatch):
    """Only their own operations are watched; messages between them are left out."""
    monkeypatch.setattr(processes.dist, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(processes.dist, "all_gather", lambda tensors, tensor: None)
    train(several=Processes(1, 2), mix=sorted(MIXINGS), sam={"rho": 0.05}, train={"accumulate": 2, "clip": 1.0})


PLANTED: dict[str, Augmentation] = {
    "a number is read": lambda images, draws: images * float(images.mean()),
    "a number is asked": lambda images, draws: images if images.sum() > 0 else -images,
    "images are counted": lambda images, draws: images[images.mean((1, 2, 3)) > -1],
    "places are of the host": lambda images, draws: images[torch.arange(len(images))],
    "a number is sent at once": lambda images, draws: images * torch.tensor(1.0).to(images.device),
    "numbers are sent at once": lambda images, draws: images + torch.zeros(16).to(images.device),
    "numbers are made there": lambda images, draws: images + torch.tensor([0.0], device=images.device),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_waits_is_found(train, name):
    with pytest.raises(RuntimeError):
        train([PLANTED[name]], model=MLP)
