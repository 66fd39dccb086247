"""What the inputs of ONNX operators are: weights, statistics of norms, or scales and zero points that only unpack.

The names that the operators' schemas give their inputs say it; for operators of onnxruntime, whose schemas the onnx
package does not have, a table does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WEIGHT, STATISTIC, UNPACKING = "weight", "statistic", "unpacking"
STATISTICS = frozenset({"mean", "var", "input_mean", "input_var"})
# The inputs that unpack, by position, of com.microsoft's operators.
OF_ONNXRUNTIME: dict[str, tuple[int, ...]] = {
    "DequantizeLinear": (1, 2),
    "QuantizeLinear": (1, 2),
    "MatMulNBits": (2, 3, 4),
    "MatMulBnb4": (2,),
    "GatherBlockQuantized": (2, 3),
    "QMoE": (3, 6, 9, 11, 12, 13),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearReduceMean": (1, 2, 3, 4),
    "QLinearWhere": (2, 3, 5, 6, 7, 8),
    "QAttention": (3, 4, 6, 7),
    "QEmbedLayerNormalization": tuple(range(8, 18)),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
}


@dataclass(frozen=True)
class Scope:
    """A graph or a function of a file, with the graphs within its operators: names mean the same in all of it."""

    graphs: tuple[Any, ...]
    nodes: tuple[Any, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def scopes_of(model: Any) -> tuple[Scope, dict[tuple[str, str], Scope]]:
    """The main graph of a model, and its functions by domain and name."""
    functions = {}
    for one in model.functions:
        graphs, nodes = _within(one.node)
        functions[one.domain, one.name] = Scope(graphs, nodes, tuple(one.input), tuple(one.output))
    graphs, nodes = _within(model.graph.node)
    return Scope((model.graph, *graphs), nodes), functions


def _within(nodes: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The graphs in attributes of operators, and theirs, and the operators of all of them."""
    graphs: list[Any] = []
    found: list[Any] = []
    ahead = list(nodes)
    while ahead:
        node = ahead.pop()
        found.append(node)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                graphs.append(inner)
                ahead += inner.node
    return tuple(graphs), tuple(found)


class Roles:
    """What the names in the scopes of a file are used as."""

    def __init__(self, functions: dict[tuple[str, str], Scope]) -> None:
        self._functions = functions
        self._known: dict[int, dict[str, set[str]]] = {}

    def aside(self, scope: Scope) -> dict[str, str]:
        """The names that are only STATISTIC or only UNPACKING, and which; a name that is used as both is a weight."""
        return {
            name: min(roles) for name, roles in self._uses(scope).items() if len(roles) == 1 and WEIGHT not in roles
        }

    def _uses(self, scope: Scope) -> dict[str, set[str]]:
        if id(scope) in self._known:
            return self._known[id(scope)]
        uses: dict[str, set[str]] = {name: {WEIGHT} for name in scope.outputs}
        self._known[id(scope)] = uses  # for a function that is said to call itself
        uses |= {one.name: {WEIGHT} for graph in scope.graphs for one in graph.output}
        source = {}  # of what an Identity passes on, which is used as that is
        for node in scope.nodes:
            if node.op_type == "Identity" and node.input and node.output:
                source[node.output[0]] = node.input[0]
                continue
            for name, role in zip(node.input, self._of_inputs(node), strict=False):
                uses.setdefault(name, set()).add(role)
        ahead = [name for name in source if name in uses]
        while ahead:
            name = ahead.pop()
            before = uses.setdefault(source[name], set())
            if not uses[name] <= before:
                before |= uses[name]
                ahead += [source[name]] if source[name] in source else []
        return uses

    def _of_inputs(self, node: Any) -> Iterator[str]:
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            uses = self._uses(function)
            for name in function.inputs:
                roles = uses.get(name, set())
                yield min(roles) if len(roles) == 1 else WEIGHT
            return
        for place in range(len(node.input)):
            yield _role(node.domain, node.op_type, place)


@functools.cache
def _role(domain: str, operator: str, place: int) -> str:
    import onnx

    try:
        names = [one.name for one in onnx.defs.get_schema(operator, domain if domain != "ai.onnx" else "").inputs]
    except onnx.defs.SchemaError:
        return UNPACKING if place in OF_ONNXRUNTIME.get(operator, ()) else WEIGHT
    name = names[min(place, len(names) - 1)] if names else ""
    if name.endswith(("_scale", "_zero_point")):
        return UNPACKING
    return STATISTIC if name in STATISTICS else WEIGHT
