"""The size of an ONNX file: its initializers and constants, including those of nested graphs.

Not counted as parameters: batch-norm statistics, scales and zero points of quantised weights, and the settings of the
graph, which are integers in small tensors (shapes, axes) and single numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight import untrusted_files
from featherweight.budget.onnx_roles import STATISTIC, UNPACKING, WEIGHT, Roles, Scope, scopes_of
from featherweight.budget.python_numbers import FEW
from featherweight.budget.roles import LEAST, too_many
from featherweight.budget.tally import ModelSize, score_of
from featherweight.errors import UserError

BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8, "FLOAT16": 16,
    "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16, "UINT4": 4, "INT4": 4,
    "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT4E2M1": 4,
}  # fmt: skip
PACKED = {"MatMulNBits": (1,), "MatMulBnb4": (1,), "GatherBlockQuantized": (0,), "QMoE": (2, 5, 8)}
SETTING = "setting"  # of the graph: axes, shapes, single numbers
WHOLE = ("INT64", "INT32", "UINT64", "UINT32", "BOOL")


def weigh_onnx(name: str, path: Path, size: int) -> ModelSize:
    """Return the size of a model in an ONNX file of `size` bytes; external weights must be beside it, and count.

    Raises UserError for other files, for one that declares more than it holds, and for missing weights.
    """
    untrusted_files.beginning(path, 1)
    untrusted_files.refuse_beyond_memory(path, 2 * size)
    onnx = _library(path)
    with untrusted_files.explained(path, "not a readable ONNX file"):
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node and not model.graph.initializer:
            raise ValueError("it holds no graph")
        return _weighed(name, path, size, model)


def outside_files(path: Path) -> set[Path]:
    """Return the files beside an ONNX file that its weights are in. Raises UserError as `weigh_onnx`."""
    untrusted_files.refuse_beyond_memory(path, 2 * untrusted_files.regular_file(path).st_size)
    onnx = _library(path)
    with untrusted_files.explained(path, "not a readable ONNX file"):
        main, functions = scopes_of(onnx.load(str(path), load_external_data=False))
        scopes = (main, *functions.values())
        tensors = [one for scope in scopes for graph in scope.graphs for one in graph.initializer]
        tensors += [one for scope in scopes for node in scope.nodes for one in _constants(node)]
        return {file for tensor in tensors for file in _outside(path, tensor)}


def _library(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise UserError(f"{path}: the package onnx is needed to read it: ./run.sh install onnx") from None
    return onnx


def _weighed(name: str, path: Path, size: int, model: Any) -> ModelSize:
    main, functions = scopes_of(model)
    roles = Roles(functions)
    sums = _Sums(path)
    for scope in (main, *functions.values()):
        aside = roles.aside(scope)
        packed = {node.input[place]: node for node in scope.nodes for place in _packed_inputs(node)}
        for node in scope.nodes:
            if node.op_type != "ConstantOfShape":  # whose tensor is one number
                named = node.output[0] if node.op_type == "Constant" and node.output else ""
                for tensor in _constants(node):
                    sums.add(tensor, aside.get(named), packed.get(named))
        for tensor in (one for graph in scope.graphs for one in graph.initializer):
            sums.add(tensor, aside.get(tensor.name), packed.get(tensor.name))
        for one in _sparse(scope):
            sums.add_sparse(one)
    defaults = [one for function in model.functions for one in function.attribute_proto]
    for tensor in _of_attributes(defaults, FEW):
        sums.add(tensor)
    sums.add_what_is_too_much()
    size += sum(untrusted_files.regular_file(one).st_size for one in sums.outside)
    return ModelSize(
        name, sums.numbers, sums.aside(STATISTIC), bits=sums.bits, zeros=sums.zeros, score=sums.score, bytes=size
    )


@dataclass
class _Sums:
    """What the tensors of a file add up to."""

    path: Path
    numbers: int = 0
    bits: int = 0
    zeros: int = 0
    score: float = 0.0
    outside: set[Path] = field(default_factory=set)
    kept: dict[str, list[Any]] = field(default_factory=dict)  # tensors that do not count, by their role

    def aside(self, role: str) -> int:
        """Return how many numbers do not count because of this role."""
        return sum(math.prod(one.dims) for one in self.kept.get(role, ()))

    def add_what_is_too_much(self) -> None:
        """Add the tensors of a role in which there are more numbers than a network needs: weights by another name."""
        known = self.numbers
        are_weights = {
            STATISTIC: too_many(self.aside(STATISTIC), known),
            UNPACKING: self.aside(UNPACKING) > known + LEAST,
            SETTING: too_many(self.aside(SETTING), known),
        }
        for role in [role for role, true in are_weights.items() if true]:
            for tensor in self.kept.pop(role):
                self.add(tensor, WEIGHT)

    def add(self, tensor: Any, role: str | None = None, unpacked_by: Any = None) -> None:
        """Add a tensor that is used as `role`, or is unpacked by an operator."""
        import onnx

        self.outside |= _outside(self.path, tensor)
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"{tensor.name} is said to have the shape {list(tensor.dims)}")
        kind, count = onnx.TensorProto.DataType.Name(tensor.data_type), math.prod(tensor.dims)
        if role is None and ((count <= FEW and kind in WHOLE) or not tensor.dims):
            role = SETTING
        if role not in (None, WEIGHT):
            self.kept.setdefault(role, []).append(tensor)
        elif unpacked_by is not None and BITS.get(kind, 8) == 8:
            numbers, stored = _stands_for(unpacked_by, count), count * 8
            self.numbers, self.bits = self.numbers + numbers, self.bits + stored
            self.score += score_of(numbers, stored, 0)
        else:
            zeros, stored = _zeros(self.path, tensor), count * BITS.get(kind, 32)
            self.numbers, self.bits, self.zeros = self.numbers + count, self.bits + stored, self.zeros + zeros
            self.score += score_of(count, stored, zeros)

    def add_sparse(self, tensor: Any) -> None:
        """Add the numbers that a sparse tensor stands for."""
        absent = max(0, math.prod(tensor.dims) - math.prod(tensor.values.dims))
        self.numbers, self.zeros = self.numbers + absent, self.zeros + absent
        self.add(tensor.values)


def _sparse(scope: Scope) -> Iterator[Any]:
    for graph in scope.graphs:
        yield from graph.sparse_initializer
    for node in scope.nodes:
        for attribute in node.attribute:
            yield from ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ())
            yield from attribute.sparse_tensors


def _constants(node: Any) -> Iterator[Any]:
    """The tensors in an operator's attributes; numbers in lists are one too, but for the few that set an operator.

    All of a Constant's count, and all those of classical models (ai.onnx.ml).
    """
    every = node.op_type == "Constant" or node.domain == "ai.onnx.ml"
    yield from _of_attributes(node.attribute, 0 if every else FEW)


def _of_attributes(attributes: Iterable[Any], few: int) -> Iterator[Any]:
    import onnx

    for attribute in attributes:
        yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)
        for values, kind in ((attribute.floats, "FLOAT"), (attribute.ints, "INT64")):
            if len(values) > few:
                yield onnx.helper.make_tensor("", onnx.TensorProto.DataType.Value(kind), [len(values)], values)


def _packed_inputs(node: Any) -> Iterator[int]:
    """Yield the indices of an operator's inputs that hold weights of fewer than 8 bits in bytes."""
    places = PACKED.get(node.op_type, ())
    yield from (place for place in places if place < len(node.input) and node.input[place])


def _stands_for(node: Any, count: int) -> int:
    """Return how many weights an operator reads from a tensor of bytes; sizes that it states are trusted as far as
    its columns can be padded, to whole blocks, and not below one half.
    """
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    bits = attributes.get("bits", attributes.get("expert_weight_bits", 4))
    room = count * 8 // bits if bits in (2, 3, 4, 5, 6, 8) else 4 * count
    stated = int(attributes.get("K", 0) * attributes.get("N", 0))
    padding = attributes.get("N", 0) * max(0, attributes.get("block_size", 0) - 1)
    return stated if room < 2 * stated and 0 <= room - stated <= padding else room


def _outside(path: Path, tensor: Any) -> set[Path]:
    """Return the file of a tensor's external data; it must be beside the ONNX file and long enough."""
    entry = {one.key: one.value for one in tensor.external_data}
    if "location" not in entry:
        return set()
    where = path.parent / entry["location"]
    if Path(entry["location"]).is_absolute() or ".." in Path(entry["location"]).parts:
        raise UserError(f"{path}: refused: its weights would be in {entry['location']}, outside of its folder")
    if not where.is_file():
        raise UserError(f"{path}: its weights are in {entry['location']}, which is not beside it")
    if int(entry.get("offset", 0)) + int(entry.get("length", 0)) > untrusted_files.regular_file(where).st_size:
        raise UserError(f"{path}: {entry['location']} beside it ends before {tensor.name or 'its weights'} do")
    return {where}


def _zeros(path: Path, tensor: Any) -> int:
    import numpy as np
    from onnx import numpy_helper

    with untrusted_files.explained(path, f"the numbers of {tensor.name} are not as declared"):
        if not tensor.external_data and math.prod(tensor.dims) > 8 * tensor.ByteSize():
            raise ValueError(f"{math.prod(tensor.dims):,} numbers in {tensor.ByteSize():,} bytes")
        return int(math.prod(tensor.dims) - np.count_nonzero(numpy_helper.to_array(tensor, base_dir=str(path.parent))))
