"""Limits of a competition besides parameters: bytes, multiply-adds, MicroNet's score, the folded count.

Each is computed only if the competition has such a limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from featherweight.budget.any_model import macs_of
from featherweight.budget.folding import spared_by_folding
from featherweight.budget.tally import tallied
from featherweight.budget.what_counts import counted, groups
from featherweight.config import Competition
from featherweight.errors import UserError
from featherweight.models import Classifier

WORDS = {
    "bytes": "bytes of stored weights",
    "macs": "multiply-adds for one image",
    "score": "32-bit parameters by MicroNet's score",
    "folded": "parameters with batch norms folded and branches merged",
}
DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """A model's value of a limited quantity, and the limit; `key` is the competition's, one of WORDS."""

    key: str
    value: float
    limit: float

    @property
    def is_over(self) -> bool:
        """True if the limit is exceeded."""
        return self.value > self.limit

    def __str__(self) -> str:
        value, limit = (f"{one:,.1f}" if self.key == "score" else f"{one:,.0f}" for one in (self.value, self.limit))
        return f"{value} {WORDS[self.key]} ({limit} allowed)"


def measured(model: Classifier, competition: Competition, macs: int | None = None) -> tuple[Measure, ...]:
    """Return a model's values of the limited quantities; the model may be on the meta device. `macs`, if known.

    Raises UserError if a value cannot be computed.
    """
    limits = competition.limit.others
    if not limits:
        return ()
    shape = competition.shape
    example = torch.empty(1, shape.channels, shape.size, shape.size, device="meta")
    amounts: dict[str, float | None] = {}
    if "bytes" in limits:
        amounts["bytes"] = stored_bytes(model.state_dict())
    if "macs" in limits:
        amounts["macs"] = macs_of(model, example) if macs is None else macs
    if "score" in limits:
        amounts["score"] = tallied(counted(model)).score
    if "folded" in limits:
        spared = spared_by_folding(model, example)
        parameters = sum(group.parameters for group in groups([("model", model)]))
        amounts["folded"] = None if spared is None else parameters - spared
    unknown = [key for key, value in amounts.items() if value is None]
    if unknown:
        raise UserError(f"limit.{unknown[0]}: the {WORDS[unknown[0]]} are unknown, since the model does not run alone")
    return tuple(Measure(key, value, limits[key]) for key, value in amounts.items() if value is not None)


def together(members: Iterable[tuple[Measure, ...]]) -> tuple[Measure, ...]:
    """Return the values of several models that are shipped together."""
    sums: dict[str, Measure] = {}
    for measures in members:
        for one in measures:
            before = sums[one.key].value if one.key in sums else 0
            sums[one.key] = Measure(one.key, before + one.value, one.limit)
    return tuple(sums.values())


def stored_bytes(state: Mapping[str, Tensor]) -> int:
    """Return the length of the safetensors file in bytes: 8, a JSON header padded to a multiple of 8, the tensors."""
    header, end = {}, 0
    for name in sorted(state, key=lambda name: (-state[name].element_size(), name)):
        tensor = state[name]
        size = tensor.numel() * tensor.element_size()
        dtype = DTYPES.get(tensor.dtype, "F32")
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + (text + 7) // 8 * 8 + end
