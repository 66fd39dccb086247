"""Weights of a file that are packed several to a number, and the tensors that only unpack them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

UNPACKING = (
    "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_g_idx",
    "weight_shape", "input_scale", "input_global_scale",
)  # fmt: skip
OBSERVERS = ("activation_post_process", "weight_fake_quant")  # of torch's quantisation, before it is done


def unpacked(state: Mapping[str, Tensor]) -> tuple[dict[str, int], set[str]]:
    """What tensors of several weights in one number stand for, by name; and the names of what only unpacks them.

    bitsandbytes stores two 4-bit weights in a byte (transformers #25978, peft #1020); GPTQ and AWQ store eight in an
    int32, along the inputs or along the outputs; AQLM a code for a group of weights, and a book of groups (peft #1594);
    mxfp4 and nvfp4 two in a byte (huggingface.js #2323); compressed-tensors and HQQ as many as the shape beside them
    says. Scales of 8-bit weights only unpack them too, those of torch, quanto and bitsandbytes.
    """
    packed: dict[str, int] = {}
    aside: set[str] = set()
    for key, tensor in state.items():
        module, _, last = key.rpartition(".")
        beside = f"{module}." if module else ""
        if any(f"{key}.quant_state.bitsandbytes__{kind}" in state for kind in ("nf4", "fp4")):
            packed[key] = 2 * tensor.numel()
            aside |= {name for name in state if name.startswith(f"{key}.")}
        elif last == "qweight" and f"{beside}scales" in state and tensor.ndim == 2:
            scales, order = state[f"{beside}scales"], state.get(f"{beside}g_idx")
            inputs = _inputs(tensor, scales, state.get(f"{beside}qzeros")) if order is None else len(order)
            packed[key] = inputs * scales.shape[-1]
            aside |= {f"{beside}{name}" for name in ("scales", "qzeros", "g_idx")} & set(state)
        elif last == "codes" and f"{beside}codebooks" in state and tensor.ndim == 3:
            packed[key] = tensor[..., 0].numel() * state[f"{beside}codebooks"][0, 0].numel()
            aside |= {f"{beside}{name}" for name in ("codebooks", "scales")} & set(state)
        elif last.endswith("_blocks") and tensor.dtype == torch.uint8 and f"{key[:-7]}_scales" in state:
            packed[key] = 2 * tensor.numel()
            aside.add(f"{key[:-7]}_scales")
        elif last == "weight_packed" and f"{beside}weight_shape" in state:
            packed[key] = math.prod(state[f"{beside}weight_shape"].tolist())
            aside |= {f"{beside}{name}" for name in UNPACKING} & set(state)
        elif last == "W_q" and f"{beside}shape" in state:
            packed[key] = math.prod(state[f"{beside}shape"].tolist())
            aside |= {name for name in state if name.startswith(beside)} - {key, f"{beside}bias"}
        elif last == "weight_packed" or (last == "weight" and f"{beside}weight_scale_2" in state):
            if tensor.dtype == torch.uint8 and f"{beside}weight_scale" in state:
                packed[key] = 2 * tensor.numel()
                aside |= {f"{beside}{name}" for name in UNPACKING} & set(state)
        elif last == "_data" and f"{beside}_scale" in state:
            home = module.rpartition(".")[0]
            aside |= {f"{beside}_scale", f"{home}.input_scale", f"{home}.output_scale"} & set(state)
        elif last == "zero_point" and f"{beside}scale" in state:
            aside |= {key, f"{beside}scale"}
        elif any(name in OBSERVERS for name in key.split(".")):
            aside.add(key)
        elif last == "weight" and tensor.element_size() == 1:
            aside |= {f"{beside}{name}" for name in ("SCB", "weight_format", *UNPACKING)} & set(state)
        if tensor.is_quantized:
            home = module.removesuffix("._packed_params._packed_params")
            aside |= {f"{home}.{name}" for name in ("scale", "zero_point")} & set(state)
    return packed, aside


def _inputs(packed: Tensor, scales: Tensor, zeros: Tensor | None) -> int:
    """How many inputs a layer has whose weights are packed along them (GPTQ), or along its outputs (AWQ)."""
    if zeros is None or packed.shape[-1] != scales.shape[-1]:
        return len(packed)
    return len(packed) * scales.shape[-1] // zeros.shape[-1]
