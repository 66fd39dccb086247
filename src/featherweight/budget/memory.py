"""The memory of a training step, computed from shapes before any of it is allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from featherweight.config import Competition, Recipe
from featherweight.console import say
from featherweight.errors import UserError
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime
from featherweight.runtime.torch_internals import build_on_meta
from featherweight.untrusted_files import gigabytes

BASE = 0.8e9  # bytes of a process that has imported torch and timm, before its first step
COPIES = 6  # of every parameter at most: weights, gradients, two moments, an average, the best so far
SPARE = 1.5  # factor on the activations: for backward's results, augmentation, gaps between blocks
INPUTS = 4  # float32 copies of a whole batch's images at most: as read, padded for a crop (1.6 times), as augmented
HALVED = 0.6  # factor on them in bf16 or fp16: most take half, some stay in float32
ROOM = 0.7  # fraction of the free memory that is planned for: other programs and kernels need some
AT_ONCE = 2 * 10**9  # bytes of activations that a CPU holds at most, where nothing is lost by cutting a batch
SMALL, PLENTY = 2**17, 8 * 2**30  # a batch of SMALL pixels fits into PLENTY bytes with any network within a limit
IMAGES = 2  # that are counted, since batch norm refuses a single one on maps of one pixel


def activation_bytes(make: Callable[[], nn.Module], shape: Shape) -> int | None:
    """Return the bytes per image that a forward pass in float32 keeps for the backward pass.

    None if shapes are not enough, as for a network that depends on the values of its activations.
    """
    storages: dict[int, Any] = {}  # the storages themselves, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    model = build_on_meta(make).train()
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    images = torch.empty(IMAGES, shape.channels, shape.size, shape.size, device="meta")
    try:
        with torch.random.fork_rng(devices=()), saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(images)  # alive while its graph is counted
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return None
    del output
    return sum(int(storage.nbytes()) for address, storage in storages.items() if address not in own) // IMAGES


def step_bytes(activations: int, parameters: int, images: int, values: int) -> int:
    """Return the memory of a process that trains `images` at a time, in bytes.

    `activations`: bytes per image; `values`: numbers in the images of the whole batch, of which those are a part.
    """
    return int(BASE + SPARE * activations * images + 4 * INPUTS * values + 4 * COPIES * parameters)


def within_memory(recipe: Recipe, competition: Competition, runtime: Runtime, parts: int = 1) -> Recipe:
    """Return the recipe with its batches cut into parts (`train.accumulate`) that fit into the free memory.

    On a CPU a batch is also cut so that a part's activations take AT_ONCE at most, if batch norms are frozen: then the
    results differ only by rounding and by what dropout draws. This depends on shapes and not on the free memory: the
    same recipe gives the same bytes. A change is printed. A batch is shared by `parts` processes: on GPUs each has this
    memory for itself, elsewhere all share it. Raises UserError if not even two images at a time fit.
    """
    batch, shape = recipe.train.batch_size, competition.shape
    free = runtime.free_memory()
    small = batch * shape.size**2 <= SMALL
    if free is None or (small and free > PLENTY):
        return recipe
    each = activation_bytes(lambda: build(recipe.model, shape), shape)
    if each is None:
        return recipe
    each = round(each * (HALVED if runtime.dtype else 1))
    parameters = sum(tensor.numel() for tensor in build_on_meta(lambda: build(recipe.model, shape)).parameters())
    shared = parts if runtime.device.type == "cuda" else 1
    room = int(ROOM * free)
    at_once = AT_ONCE if recipe.train.freeze_norms and runtime.device.type == "cpu" and not small else room

    def images(accumulate: int) -> int:
        return -(-batch // (accumulate * shared))

    def needed(accumulate: int) -> int:
        return step_bytes(each, parameters, images(accumulate), images(1) * shape.channels * shape.size**2)

    accumulate, most = recipe.train.accumulate, max(1, batch // (2 * parts))
    whole = needed(accumulate)
    while (needed(accumulate) > room or each * images(accumulate) > at_once) and accumulate * 2 <= most:
        accumulate *= 2
    left = f"it may use {gigabytes(room)} of the {gigabytes(free)} that are free"
    if needed(accumulate) > room:
        raise UserError(
            f"training at {shape.size} px needs about {gigabytes(needed(accumulate))} of memory even with "
            f"{-(-batch // accumulate)} of {batch} images at a time; {left}: choose a smaller image.size, "
            "train.batch_size or model"
        )
    if accumulate == recipe.train.accumulate:
        return recipe
    frozen = f"this way {gigabytes(needed(accumulate))}, and nothing is lost, since batch norms are frozen"
    say(
        f"  train.accumulate: {accumulate}, since a step of {batch} images at {shape.size} px would need about "
        f"{gigabytes(whole)} of memory; {left if whole > room else frozen}"
    )
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"accumulate": accumulate})})
