"""The size of any model, and how it is computed from its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from featherweight.budget.what_counts import new_elements, numbers_in_each

SEEN_BY_NUMPY = (torch.float32, torch.float16, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64)
UNSIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


@dataclass(frozen=True)
class ModelSize:
    """The size of a model; None stands for unknown values.

    `parameters`: frozen or not, shared ones once, packed ones at their unpacked size. `statistics`: values in those of
    norms. `averaged`, `others`: values that a checkpoint holds beside the model: an averaged copy (EMA), and the rest,
    mainly the optimizer's state. `bits` of storage of the parameters; `zeros`: how many are 0; `bytes` of the file.
    `score`: MicroNet's, see `score_of`. `macs`: multiply-adds for one image. `folded`: parameters after batch norms are
    folded and branches merged.
    """

    name: str
    parameters: int
    statistics: int = 0
    averaged: int = 0
    others: int = 0
    bits: int | None = None
    zeros: int | None = None
    score: float | None = None
    bytes: int | None = None
    macs: int | None = None
    folded: int | None = None


@dataclass
class Tally:
    """Sums over tensors; shared memory counts once, and in full, however small its views are."""

    seen: dict[int, int] = field(default_factory=dict)
    numbers: int = 0
    bits: int = 0
    zeros: int = 0
    score: float = 0.0
    blind: bool = False  # tensors without numbers in them were among these, on the meta device

    def add(self, tensor: Tensor, stands_for: int | None = None, look: bool = True) -> None:
        """Add a tensor; `stands_for` is the number of weights packed in it; `look` says whether zeros are counted."""
        new = new_elements(tensor, self.seen)
        if not new:
            return
        numbers = new if stands_for is None else stands_for
        bits = new * tensor.element_size() * 8 // numbers_in_each(tensor)
        zeros = _zeros(tensor, new) if look and stands_for is None else 0
        self.blind |= tensor.is_meta
        self.numbers, self.bits, self.zeros = self.numbers + numbers, self.bits + bits, self.zeros + zeros
        self.score += score_of(numbers, bits, zeros)


def score_of(numbers: int, bits: int, zeros: int) -> float:
    """Return a tensor's part of the storage term of the MicroNet challenge (2019), in 32-bit parameters.

    A value of 32 bits is 1, of 8 bits 1/4; if many are zero, the others and a mask of one bit per value.
    """
    if not numbers:
        return 0.0
    sparse = (numbers - zeros) * bits / numbers + numbers
    return min(bits, sparse) / 32


def tallied(tensors: Iterable[Tensor]) -> Tally:
    """Return the tally of these tensors."""
    tally = Tally()
    for tensor in tensors:
        tally.add(tensor)
    return tally


def _zeros(tensor: Tensor, numbers: int) -> int:
    """Return how many values are 0 in the whole memory that a tensor is a view of."""
    if tensor.is_meta:
        return 0
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        stored = tensor.coalesce() if tensor.layout is torch.sparse_coo else tensor
        return numbers - int(torch.count_nonzero(stored.values()))
    whole = tensor
    if not tensor.is_contiguous() or tensor.nbytes != tensor.untyped_storage().nbytes():
        if tensor.is_quantized:  # whose view may be said to be of any size
            return 0
        whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())
    whole = whole.dequantize() if whole.is_quantized else _comparable(whole)
    if whole.dtype in SEEN_BY_NUMPY and whole.device.type == "cpu":  # which starts no threads for each small tensor
        return numbers - int(np.count_nonzero(whole.numpy()))
    return numbers - int(torch.count_nonzero(whole))


def _comparable(whole: Tensor) -> Tensor:
    """Contiguous numbers in a kind that torch counts zeros of, 0 where they are 0."""
    if whole.is_complex():
        return torch.view_as_real(whole)
    if whole.dtype in UNSIGNED:
        return whole.view(UNSIGNED[whole.dtype])
    if not whole.is_floating_point() or whole.element_size() > 1:
        return whole
    kind, stored = str(whole.dtype), whole.view(torch.uint8)
    if kind.endswith("e8m0fnu"):  # powers of two: none is 0
        return torch.ones_like(stored)
    if kind.endswith("_x2"):  # two numbers of 4 bits, the first of each the sign
        return torch.cat([stored & 0x07, stored & 0x70])
    return stored if kind.endswith("fnuz") else stored & 0x7F  # without the sign: -0 is 0 too
