"""Weights that are packed several to a number in a file, and the tensors that serve only to unpack them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from featherweight.budget.roles import LEAST, Widths

UNPACKING = (
    "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_g_idx",
    "weight_shape", "input_scale", "input_global_scale",
)  # fmt: skip
BESIDE = ("scales", "g_idx", "qzeros", "s", "codebooks", "weight_shape", "shape", "weight_scale", "weight_scale_2")
OBSERVERS = ("activation_post_process", "weight_fake_quant")  # of torch's quantisation, before it is done
OBSERVED = ("scale", "zero_point", "eps", "min_val", "max_val", "histogram", "fake_quant_enabled", "observer_enabled")
BINS = 2048  # of an observer's histogram
HALF = 2  # weights for each number that unpacks them, at least: scales and zero points are those of groups
PADDED = 3  # weights of 8 bits at most that fill up the last 32 bits of a row


def unpacked(state: Mapping[str, Tensor]) -> tuple[dict[str, int], set[str]]:
    """Return how many weights packed tensors hold, by name, and the names of tensors that serve only to unpack them.

    bitsandbytes stores two 4-bit weights in a byte (transformers #25978, peft #1020); GPTQ and AWQ eight in an int32,
    along the inputs or along the outputs; AQLM a code for a group of weights, and a codebook (peft #1594); MLX as many
    as fit into 32 bits; mxfp4 and nvfp4 two in a byte (huggingface.js #2323); compressed-tensors and HQQ as many as a
    stored shape says. Scales of 8-bit weights (torch, quanto, bitsandbytes) serve only to unpack them, too. Shapes that
    a file states are trusted down to one weight per byte; what unpacks weights counts if it is more than half as many
    numbers as these, unless all this together is little (tables, texts).
    """
    packed: dict[str, int] = {}
    aside: set[str] = set()
    more, too_many = 0, set[str]()  # numbers beyond half as many as the weights that they unpack, and their names
    watched = [key for key in state if any(name in OBSERVERS for name in key.split("."))]
    for key, tensor in state.items():
        count, named = _packed(key, tensor, state)
        if count is None:
            named = _unpacking(key, tensor, state)
        else:
            rows = len(tensor) if tensor.dim() else 1
            packed[key] = count if count + PADDED * rows >= tensor.nbytes else tensor.nbytes
        beside = named & state.keys() - {key}
        beyond = sum(state[name].numel() for name in beside) - packed.get(key, tensor.numel()) // HALF
        if beyond > 0:
            more, too_many = more + beyond, too_many | beside
        aside |= beside
        home = key.rpartition(".")[0]
        if key.endswith(".zero_point") and f"{home}.scale" in state:
            aside |= _single(home, state)
        if tensor.is_quantized:
            aside |= _single(home.removesuffix("._packed_params._packed_params"), state)
    if more > LEAST:
        aside -= too_many
    widths = Widths(one for key, one in state.items() if key not in watched)
    small = [key for key in watched if state[key].numel() <= BINS or widths.has(state[key].numel())]
    return packed, aside.union(key for key in small if key.rpartition(".")[2] in OBSERVED)


def _single(home: str, state: Mapping[str, Tensor]) -> set[str]:
    """Return the scale and the zero point of a layer's output, each one number."""
    names = {f"{home}.{name}" for name in ("scale", "zero_point")}
    return {name for name in names if name in state and state[name].numel() == 1}


def _packed(key: str, tensor: Tensor, state: Mapping[str, Tensor]) -> tuple[int | None, set[str]]:
    """Return how many weights a tensor holds, None if it is not packed, and the names of what unpacks it."""
    module, _, last = key.rpartition(".")
    home = f"{module}." if module else ""
    beside = {name: state[f"{home}{name}"] for name in BESIDE if f"{home}{name}" in state}
    scales = beside.get("scales")

    def named(*names: str) -> set[str]:
        return {f"{home}{name}" for name in names}

    if any(f"{key}.quant_state.bitsandbytes__{kind}" in state for kind in ("nf4", "fp4")):
        return 2 * tensor.nbytes, {name for name in state if name.startswith(f"{key}.")}  # stored as any type
    if last == "qweight" and scales is not None and tensor.ndim == 2:
        order = beside.get("g_idx")
        inputs = _inputs(tensor, scales, beside.get("qzeros")) if order is None else len(order)
        return inputs * scales.shape[-1], named("scales", "qzeros", "g_idx")
    if last == "B" and tensor.dtype == torch.int32 and "s" in beside:  # Marlin's own
        return 8 * tensor.numel(), named("s")
    if last == "weight" and tensor.dtype == torch.uint32 and scales is not None:
        return tensor.numel() * 32 // _bits_of_mlx(tensor, scales), named("scales", "biases")
    if last == "codes" and "codebooks" in beside and tensor.ndim == 3:
        return tensor[..., 0].numel() * beside["codebooks"][0, 0].numel(), named("codebooks", "scales")
    if last.endswith("_blocks") and tensor.dtype == torch.uint8 and f"{key[:-7]}_scales" in state:
        return 2 * tensor.numel(), {f"{key[:-7]}_scales"}
    if last == "weight_packed" and "weight_shape" in beside:
        return math.prod(beside["weight_shape"].tolist()), named(*UNPACKING)
    if last == "W_q" and "shape" in beside:
        others = {name for name in state if name.rpartition(".")[0] == module} - {key, f"{home}bias"}
        return math.prod(beside["shape"].tolist()), others
    of_four_bits = last == "weight_packed" or (last == "weight" and "weight_scale_2" in beside)
    if of_four_bits and tensor.dtype == torch.uint8 and "weight_scale" in beside:
        return 2 * tensor.numel(), named(*UNPACKING)
    return None, set()


def _unpacking(key: str, tensor: Tensor, state: Mapping[str, Tensor]) -> set[str]:
    """Return the names of what only unpacks a tensor with one weight per number."""
    module, _, last = key.rpartition(".")
    home = f"{module}." if module else ""
    if last == "_data" and f"{home}_scale" in state:
        above = module.rpartition(".")[0]
        return {f"{home}_scale", f"{above}.input_scale", f"{above}.output_scale"}
    if last == "weight" and tensor.element_size() == 1:
        return {f"{home}{name}" for name in ("SCB", "weight_format", *UNPACKING)}
    return set()


def _inputs(packed: Tensor, scales: Tensor, zeros: Tensor | None) -> int:
    """Return the number of inputs of a layer whose weights are packed along them (GPTQ), or along its outputs (AWQ).

    The zero points tell the bits of a weight; without them it is 4, as kernels without zero points expect.
    """
    if packed.shape[-1] != scales.shape[-1]:
        return len(packed)
    if zeros is None:
        return len(packed) * packed.element_size() * 2
    return len(packed) * scales.shape[-1] // zeros.shape[-1]


def _bits_of_mlx(packed: Tensor, scales: Tensor) -> int:
    """Return the bits of a weight of MLX, by how many share a scale: 64, the default, else 32 or 128."""
    bits = {size: packed.shape[-1] * 32 // (size * max(1, scales.shape[-1])) for size in (64, 32, 128)}
    return next((one for one in bits.values() if one in (2, 3, 4, 5, 6, 8)), 2)
