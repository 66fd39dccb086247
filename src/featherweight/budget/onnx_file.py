"""An ONNX file on the scales: its initializers and constants, graphs within graphs included.

Not counted as parameters: statistics of batch norms, scales and zero points of quantised weights, and the settings of
the graph, which are whole numbers in small tensors (shapes, axes) and single numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featherweight import untrusted_files
from featherweight.budget.tally import ModelSize, score_of
from featherweight.budget.what_counts import FEW
from featherweight.errors import UserError

STATISTICS = {"BatchNormalization": (3, 4)}  # which inputs of these operators hold them
UNPACKING = {
    "DequantizeLinear": (1, 2),
    "QuantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "MatMulNBits": (2, 3, 4),
}
BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8, "FLOAT16": 16,
    "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16, "UINT4": 4, "INT4": 4,
    "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT4E2M1": 4,
}  # fmt: skip
WHOLE = ("INT64", "INT32", "UINT64", "UINT32", "BOOL")


def weigh_onnx(name: str, path: Path, size: int) -> ModelSize:
    """Weigh an ONNX file of `size` bytes; weights outside it must be beside it, and their bytes count.

    Raises UserError for a file that is none, that declares more than it holds, or whose weights are not there.
    """
    untrusted_files.refuse_beyond_memory(path, 2 * size)
    with untrusted_files.explained(path, "no readable ONNX file"):
        import onnx

        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node and not model.graph.initializer:
            raise ValueError("it holds no graph")
        return _weighed(name, path, size, model)


def _weighed(name: str, path: Path, size: int, model: Any) -> ModelSize:
    import onnx

    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node] + [
        one for function in model.functions for one in function.node
    ]
    statistics, unpacking = _inputs(nodes, STATISTICS), _inputs(nodes, UNPACKING)
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    tensors += [tensor for node in nodes if node.op_type == "Constant" for tensor in _constants(node)]
    packed = {node.input[1]: _stands_for(node) for node in nodes if node.op_type == "MatMulNBits"}  # rten #1036
    sparse = [one for graph in graphs for one in graph.sparse_initializer]
    sparse += [
        at.sparse_tensor for node in nodes for at in node.attribute if at.type == onnx.AttributeProto.SPARSE_TENSOR
    ]
    tensors += [one.values for one in sparse]
    aside = bits = 0
    numbers = zeros = sum(max(0, math.prod(one.dims) - math.prod(one.values.dims)) for one in sparse)
    score = 0.0
    outside: set[Path] = set()
    for tensor in tensors:
        outside |= _outside(path, tensor)
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"{tensor.name} is said to have the shape {list(tensor.dims)}")
        kind, count = onnx.TensorProto.DataType.Name(tensor.data_type), math.prod(tensor.dims)
        if tensor.name in statistics:
            aside += count
        elif tensor.name in packed:
            stored = count * BITS.get(kind, 8)
            numbers, bits = numbers + packed[tensor.name], bits + stored
            score += score_of(packed[tensor.name], stored, 0)
        elif tensor.name in unpacking or (count <= FEW and kind in WHOLE) or not tensor.dims:
            continue
        else:
            empty = _zeros(path, tensor)
            numbers, bits, zeros = numbers + count, bits + count * BITS.get(kind, 32), zeros + empty
            score += score_of(count, count * BITS.get(kind, 32), empty)
    size += sum(untrusted_files.regular_file(one).st_size for one in outside)
    return ModelSize(name, numbers, aside, bits=bits, zeros=zeros, score=score, bytes=size)


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _constants(node: Any) -> Iterator[Any]:
    """The tensors of a Constant, which may also be written as a list of numbers."""
    import onnx

    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        elif attribute.floats or attribute.ints:
            values, kind = (attribute.floats, "FLOAT") if attribute.floats else (attribute.ints, "INT64")
            name = node.output[0] if node.output else ""
            yield onnx.helper.make_tensor(name, onnx.TensorProto.DataType.Value(kind), [len(values)], values)


def _inputs(nodes: list[Any], which: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The names of what stands at these places of these operators."""
    return {
        node.input[place]
        for node in nodes
        for place in which.get(node.op_type, ())
        if place < len(node.input) and node.input[place]
    }


def _stands_for(node: Any) -> int:
    """How many weights an operator takes from a tensor of bytes."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return int(attributes.get("K", 0) * attributes.get("N", 0))


def _outside(path: Path, tensor: Any) -> set[Path]:
    """The file beside the ONNX file that a tensor's numbers are in; it must be there and long enough."""
    entry = {one.key: one.value for one in tensor.external_data}
    if "location" not in entry:
        return set()
    where = path.parent / entry["location"]
    if Path(entry["location"]).is_absolute() or ".." in Path(entry["location"]).parts:
        raise UserError(f"{path}: refused: its weights are said to be in {entry['location']}, outside of its folder")
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
