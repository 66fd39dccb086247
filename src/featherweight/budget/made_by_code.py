"""Values that the code of networks makes, each computed again and compared: indices, coordinates, masks, cosines.

What is only called so may hold weights. So may whole numbers that follow no rule; `held_by` says how many.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Buffers of transformers: whole numbers; coordinates and masks, as Swin has them; and of csatv2, a transform.
INDICES = ("position_ids", "relative_position_index", "attention_bias_idxs", "token_type_ids")
COORDINATES, MASK, TRANSFORM = "relative_coords_table", "attn_mask", "weights"
MADE = (*INDICES, COORDINATES, MASK, TRANSFORM)
STRIDES = (1, 2, 4)  # between the positions that ask, where these are fewer than those that are asked
OF_CLASS = 3  # rows of a table for the class token: to it, from it, and its own
MASKED = -100.0
WHOLE = (torch.int64, torch.bool)


def is_made(name: str, tensor: Tensor) -> bool:
    """True for a buffer of this name with the values that code gives it; on the meta device the names of indices and of
    coordinates are believed.
    """
    tensor = tensor if tensor.is_meta else tensor.detach().cpu()
    if name == COORDINATES:
        return _is_grid(tensor)
    if name not in MADE or tensor.is_meta or not is_whole(tensor):
        return name in INDICES and tensor.is_meta
    if name == TRANSFORM:
        return _is_cosine_transform(tensor)
    if name == MASK:
        return _is_mask_of_windows(tensor)
    if tensor.dtype != torch.int64:
        return False
    if name == "position_ids":
        return bool((tensor == torch.arange(tensor.shape[-1])).all()) if tensor.dim() else False
    if name == "token_type_ids":
        return not tensor.any()
    flat = tensor.flatten()
    return any(torch.equal(flat, made) for made in _relative_indices(len(flat), int(flat.max()) + 1))


def _relative_indices(length: int, rows: int) -> Iterator[Tensor]:
    """Yield the indices, int64 [length], that code makes of all pairs of positions in a window, into a table of `rows`.

    A row for each offset (Swin, MaxViT), these and OF_CLASS (BEiT), or one for each offset without its sign (LeViT).
    """
    side = math.isqrt(length)
    if rows > 8 * side + OF_CLASS:
        return
    for class_token in (0, 1):
        for window in _windows(side - class_token) if side**2 == length else ():
            offsets = math.prod(2 * one - 1 for one in window)
            if rows == offsets + class_token * OF_CLASS:
                place = torch.arange(offsets).view([2 * one - 1 for one in window])
                place = place[tuple(slice(one) for one in window)].flatten()
                index = place[:, None] - place + offsets // 2
                if class_token:
                    index = torch.nn.functional.pad(index, (1, 0, 1, 0))
                    index[0], index[:, 0], index[0, 0] = offsets, offsets + 1, offsets + 2
                yield index.flatten()
    for height, width in _sides(rows):
        for stride in STRIDES:
            if -(-height // stride) * -(-width // stride) * rows == length:
                down, across = (torch.arange(one)[::stride, None] - torch.arange(one) for one in (height, width))
                yield (down.abs()[:, None, :, None] * width + across.abs()[None, :, None]).flatten()


def _windows(places: int) -> Iterator[tuple[int, int, int]]:
    """Yield the windows of so many places: depth, which is 1 for images, height and width."""
    for depth, area in _sides(places):
        yield from ((depth, height, width) for height, width in _sides(area))


def _sides(area: int) -> Iterator[tuple[int, int]]:
    return ((one, area // one) for one in range(1, area + 1) if area % one == 0)


def _is_grid(tensor: Tensor) -> bool:
    """True for coordinates [1, H, W, 2], one the same in a row and the other in a column, at equal distances on the
    logarithmic scale of Swin v2 (Liu et al. 2022, equation 4).
    """
    if tensor.is_meta or tensor.dim() != 4 or (tensor.shape[0], tensor.shape[-1]) != (1, 2) or not is_whole(tensor):
        return tensor.is_meta
    down, across = tensor.double().unbind(-1)
    is_regular = all(_is_even(8 ** line.abs() * line.sign() - line.sign()) for line in (down[0, :, 0], across[0, 0]))
    return is_regular and bool((down == down[:, :, :1]).all() and (across == across[:, :1]).all())


def _is_even(line: Tensor) -> bool:
    """True for values [N] at equal distances, as far as half precision tells."""
    even = torch.linspace(float(line[0]), float(line[-1]), len(line), dtype=line.dtype)
    return bool(((line - even).abs() <= 0.01 * line.abs().max()).all())


def _is_mask_of_windows(mask: Tensor) -> bool:
    """True for a mask [N, W * W, W * W] of Swin's shifted windows: what the shift has brought together from two ends of
    the image does not attend to each other.
    """
    if mask.dim() != 3 or mask.shape[1] != mask.shape[2] or not mask.is_floating_point():
        return False
    side, found = math.isqrt(mask.shape[1]), mask.float()
    return side**2 == mask.shape[1] and any(
        torch.equal(found, torch.where(region[:, :, None] == region[:, None], 0.0, MASKED))
        for region in (_regions(side, down, across) for down, across in _sides(len(mask)))
    )


def _regions(side: int, down: int, across: int) -> Tensor:
    """Return the region of each place, int64 [N, W * W], in windows that lie in so many rows and columns."""
    ends = [torch.arange(count * side) - (count - 1) * side for count in (down, across)]
    rows, columns = ((end >= 0).long() + (end >= side - side // 2) for end in ends)
    regions = (3 * rows[:, None] + columns).view(down, side, across, side)
    return regions.transpose(1, 2).reshape(down * across, side**2)


def _is_cosine_transform(tensor: Tensor) -> bool:
    """True for the orthonormal discrete cosine transform (DCT-II) as a matrix [N, N], or for its transpose."""
    square = tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1]
    if not square or not tensor.is_floating_point() or tensor.element_size() < 2:
        return False
    side = len(tensor)
    steps = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (steps + 0.5) * steps[:, None]) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    # Computed in float32, then rounded to the kind in which it is stored: relative to the largest value.
    near = 16 * torch.finfo(torch.float32).eps + torch.finfo(tensor.dtype).eps * math.sqrt(2 / side)
    found = tensor.double()
    return any(torch.allclose(found, one, rtol=0, atol=near) for one in (matrix, matrix.T))


def held_by(whole: Tensor) -> int:
    """Return how many numbers of 32 bits whole numbers can hold: few if they follow a rule, however many they are.

    They are compressed, and so are their differences: no more can be read out of them than is left of either. 0 on the
    meta device.
    """
    if whole.is_meta:
        return 0
    if not is_whole(whole):  # a view may be said to be of any size
        whole = torch.empty(0, dtype=whole.dtype, device=whole.device).set_(whole.untyped_storage())
    numbers = whole.detach().cpu().numpy().astype(np.int64).ravel()
    if not len(numbers):
        return 0
    frequent = zlib.compressobj(1, strategy=zlib.Z_HUFFMAN_ONLY)  # the classes of images, in any order
    left = len(frequent.compress(_smallest(numbers)) + frequent.flush())
    return min(left, len(zlib.compress(_smallest(np.diff(numbers, prepend=0)), 1))) // 4


def _smallest(numbers: NDArray[np.int64]) -> bytes:
    """Return the bytes of numbers in the smallest kind that holds them all."""
    kind = np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max()))
    return numbers.astype(np.int64 if kind.kind == "f" else kind).tobytes()  # a float would round the largest


def is_whole(tensor: Tensor) -> bool:
    """True for numbers that are all in memory; a view may be said to be of any size."""
    return 0 < tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
