"""Weights files that parameter counters are known to count wrong: packed, quantised and tied weights.

`state` makes the content of the file; `true` is the number of weights that it represents, counted by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class File:
    """A weights file; `issue` is owner/repository#number on GitHub."""

    issue: str
    what: str
    state: Callable[[], State]
    true: int


def four_bits(outputs: int, inputs: int, kind: str = "nf4", name: str = "l") -> State:
    """Make a layer as bitsandbytes stores it: two weights per byte, and a scale per 64 weights."""
    weight = f"{name}.weight"
    return {
        weight: torch.zeros(outputs * inputs // 2, 1, dtype=torch.uint8),
        f"{weight}.absmax": torch.rand(outputs * inputs // 64),
        f"{weight}.quant_map": torch.rand(16),
        f"{weight}.quant_state.bitsandbytes__{kind}": torch.zeros(90, dtype=torch.uint8),
    }


def twice_quantised() -> State:
    nested = {"l.weight.nested_absmax": torch.rand(1), "l.weight.nested_quant_map": torch.rand(256)}
    return four_bits(16, 64) | nested


def gptq(inputs: int, outputs: int) -> State:
    return {
        "l.qweight": torch.zeros(inputs // 8, outputs, dtype=torch.int32),
        "l.qzeros": torch.zeros(2, outputs // 8, dtype=torch.int32),
        "l.scales": torch.rand(2, outputs),
        "l.g_idx": torch.arange(inputs, dtype=torch.int32),
    }


def awq(inputs: int, outputs: int) -> State:
    """Make a layer as AWQ packs it: eight outputs in an int32."""
    return {
        "l.qweight": torch.zeros(inputs, outputs // 8, dtype=torch.int32),
        "l.qzeros": torch.zeros(inputs // 32, outputs // 8, dtype=torch.int32),
        "l.scales": torch.rand(inputs // 32, outputs).half(),
    }


def mlx(outputs: int, inputs: int) -> State:
    """Make a layer of 8 bits as MLX packs it: four weights in a uint32, and a scale and a bias per 64 weights."""
    return {
        "l.weight": torch.zeros(outputs, inputs // 4, dtype=torch.uint32),
        "l.scales": torch.rand(outputs, inputs // 64).bfloat16(),
        "l.biases": torch.rand(outputs, inputs // 64).bfloat16(),
    }


def aqlm(outputs: int, inputs: int, group: int = 8) -> State:
    """Make an AQLM layer: a 16-bit code per eight weights of an output, a codebook, and a scale per output."""
    return {
        "l.codes": torch.zeros(outputs, inputs // group, 1, dtype=torch.int16),
        "l.codebooks": torch.rand(1, 256, 1, group),
        "l.scales": torch.rand(outputs, 1, 1, 1),
    }


def mxfp4() -> State:
    """Make an MXFP4 layer: per 32 weights, 16 bytes with 4 bits per weight, and one exponent."""
    blocks = torch.zeros(4, 8, 2, 16, dtype=torch.uint8)
    return {"mlp.up_proj_blocks": blocks, "mlp.up_proj_scales": torch.zeros(4, 8, 2, dtype=torch.uint8)}


def compressed(outputs: int, inputs: int, bits: int, name: str = "l") -> State:
    """Make a layer as compressed-tensors packs it: 32 / bits weights per int32, with their shape and scales."""
    return {
        f"{name}.weight_packed": torch.zeros(outputs, inputs * bits // 32, dtype=torch.int32),
        f"{name}.weight_scale": torch.rand(outputs, inputs // 32),
        f"{name}.weight_shape": torch.tensor([outputs, inputs]),
    }


def eight_bits() -> State:
    return {"l.weight": torch.zeros(8, 6, dtype=torch.int8), "l.SCB": torch.rand(8), "l.bias": torch.rand(8)}


def tied_names() -> State:
    table = torch.rand(20, 4)
    return {"tok_embeddings.weight": table, "layer.weight": torch.rand(4, 4), "output.weight": table}


def embedded() -> State:
    return {"embed.weight": torch.rand(30, 8).half(), **four_bits(8, 64)}


def adapters() -> State:
    return {**four_bits(16, 64), "l.lora_A.weight": torch.rand(2, 64), "l.lora_B.weight": torch.rand(16, 2)}


FILES = (
    File("huggingface/transformers#25978", "nf4 weights, two a byte", lambda: four_bits(16, 64), 1024),
    File("huggingface/transformers#26132", "fp4 weights, and a bias",
         lambda: {**four_bits(100, 64, "fp4"), "l.bias": torch.rand(100)}, 6400 + 100),
    File("huggingface/peft#1020", "a base model of 4 bits under adapters", adapters, 1024 + 128 + 32),
    File("huggingface/peft#733", "two layers of 4 bits", lambda: four_bits(8, 64) | four_bits(4, 64, name="m"),
         512 + 256),
    File("huggingface/peft#1594", "AQLM's codes, eight weights each", lambda: aqlm(32, 64), 32 * 64),
    File("bitsandbytes-foundation/bitsandbytes#834", "scales quantised too", twice_quantised, 1024),
    File("bitsandbytes-foundation/bitsandbytes#1371", "8-bit weights with their scales", eight_bits, 48 + 8),
    File("unslothai/unsloth#1584", "4-bit layers under an embedding of 16 bits", embedded, 240 + 512),
    File("unslothai/unsloth#2855", "a layer of 4 bits, its norm in full",
         lambda: {**four_bits(8, 64), "norm.weight": torch.rand(64)}, 512 + 64),
    File("jllllll/bitsandbytes#2", "weights halved on the device",
         lambda: {"l.bias": torch.rand(64), **four_bits(64, 64)}, 4096 + 64),
    File("NVIDIA-NeMo/Automodel#1354", "a quantised model in full", lambda: {**gptq(64, 32), "l.bias": torch.rand(32)},
         2048 + 32),
    File("huggingface/huggingface.js#2323", "mxfp4 blocks and exponents", mxfp4, 4 * 8 * 2 * 32),
    File("huggingface/huggingface.js#2003", "compressed-tensors, eight weights in an int32",
         lambda: compressed(8, 64, 4), 512),
    File("ome-projects/ome#638", "int4 layers of compressed-tensors beside one of float8",
         lambda: {**compressed(8, 32, 4), **compressed(4, 32, 8, "m"), "n.weight_scale": torch.rand(1),
                  "n.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}, 256 + 128 + 16),
    File("huggingface/transformers#34317", "GPTQ layers, of which the embedding alone is seen",
         lambda: {"embed.weight": torch.rand(20, 64).half(), **gptq(64, 32), "norm.weight": torch.rand(64)},
         1280 + 2048 + 64),
    File("huggingface/hub-docs#2704", "8 bits, four in a uint32",
         lambda: {**mlx(16, 128), "norm.weight": torch.rand(9)}, 2048 + 9),
    File("huggingface/transformers#30133", "4 bits stored as bfloat16",
         lambda: four_bits(16, 64) | {"l.weight": torch.zeros(256, 1, dtype=torch.bfloat16)}, 1024),
    File("huggingface/huggingface.js#1770", "AWQ and GPTQ, without what unpacks them",
         lambda: {**awq(64, 32), **{f"m{key[1:]}": one for key, one in gptq(64, 32).items()}}, 2 * 2048),
    File("AlexsJones/llmfit#1045", "int4 layers of AWQ beside an embedding",
         lambda: {**awq(128, 16), "embed.weight": torch.rand(20, 128).half()}, 2048 + 2560),
    File("NVIDIA-NeMo/Automodel#1290", "a base model of 4 bits, its head and its norm in full",
         lambda: {**four_bits(32, 64), "norm.weight": torch.rand(64), "head.weight": torch.rand(10, 32)},
         2048 + 64 + 320),
    File("karpathy/llama2.c#378", "a head under a second name", tied_names, 80 + 16),
)  # fmt: skip
