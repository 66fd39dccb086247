"""Counting ONNX files: weights inside and outside of the file, packed weights, and hostile files."""

import numpy as np
import pytest

from featherweight.budget import weigh_anything
from featherweight.cli import main
from featherweight.errors import UserError

onnx = pytest.importorskip("onnx", reason="onnx is not installed: ./run.sh install onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper


def graph(initializers, nodes, **opsets):
    made = helper.make_graph(nodes, "g", [], [], initializers)
    return helper.make_model(made)


def test_onnx(tmp_path):
    weight, scale = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32)
    tensors = {"w": weight, "scale": scale, "shift": 0 * scale, "mean": scale, "var": scale,
               "shape": np.array([0, -1]),
               "q": np.ones((4, 9), np.int8), "qs": scale, "qz": np.zeros(4, np.int8)}  # fmt: skip
    nodes = [
        helper.make_node("BatchNormalization", ["x", "scale", "shift", "mean", "var"], ["y"]),
        helper.make_node("DequantizeLinear", ["q", "qs", "qz"], ["z"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones((5, 8), np.float32))),
    ]
    onnx.save(graph([numpy_helper.from_array(one, name) for name, one in tensors.items()], nodes), tmp_path / "a.onnx")
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.statistics, found.zeros) == (108 + 8 + 36 + 40, 8, 4)
    assert found.bits == 32 * (108 + 8 + 40) + 8 * 36


def test_weights_that_are_lists_or_sparse(tmp_path):
    """As a Constant's attribute (GoPlasmatic/Orion#325: 0 counted), as a list of numbers, sparse."""
    values = numpy_helper.from_array(np.ones(5, np.float32), "s")
    places = numpy_helper.from_array(np.arange(5), "s_indices")
    sparse = helper.make_sparse_tensor(values, places, [10, 10])
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 0.0, 3.0] * 20),
        helper.make_node("Constant", [], ["d"], sparse_value=sparse),
        helper.make_node("Constant", [], ["e"], value_ints=[1, -1]),
        helper.make_node("Constant", [], ["f"], value_float=1.0),
    ]
    made = graph([], nodes)
    made.graph.sparse_initializer.append(sparse)
    onnx.save(made, tmp_path / "a.onnx")
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.zeros) == (60 + 2 * 100, 20 + 2 * 95)


def test_onnx_with_weights_outside(tmp_path):
    tensor = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    model = graph([tensor], [helper.make_node("Identity", ["w"], ["y"])])
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.zeros) == (4096, 4096 - 64)
    assert found.bytes == (tmp_path / "a.onnx").stat().st_size + 4 * 4096
    (tmp_path / "a.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"a\.bin beside it ends before w do"):
        weigh_anything(tmp_path / "a.onnx")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(UserError, match=r"its weights are in a\.bin, which is not beside it"):
        weigh_anything(tmp_path / "a.onnx")


def test_hostile_onnx_is_refused_in_one_line(tmp_path, capsys):
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**5, 10**5], raw_data=b"1234")
    onnx.save(graph([huge], []), tmp_path / "huge.onnx")
    away = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    away.external_data.add(key="location", value="../../secret")
    onnx.save(graph([away], []), tmp_path / "away.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "away.onnx").read_bytes()[:9])
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert main.main(["weigh", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 4, said
    assert "10,000,000,000 numbers in" in "\n".join(said)
    assert "outside of its folder" in "\n".join(said)


def test_a_negative_size_weighs_nothing_against_the_others(tmp_path):
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[-4, 3])
    nodes = [onnx.helper.make_node("Identity", ["w"], ["y"])]
    output = onnx.helper.make_tensor_value_info("y", 1, None)
    graph = onnx.helper.make_graph(nodes, "g", [], [output], [tensor])
    (tmp_path / "net.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(UserError, match=r"w is said to have the shape \[-4, 3\]"):
        weigh_anything(tmp_path / "net.onnx")


def test_weights_of_4_bits_in_onnx(tmp_path):
    """robertknight/rten#1036: 64 inputs and 8 outputs, as bytes of two weights (MatMulNBits) and as UINT4 (QDQ)."""
    tensors = [
        numpy_helper.from_array(np.zeros((8, 2, 16), np.uint8), "w"),
        numpy_helper.from_array(np.ones(16, np.float32), "scales"),
        TensorProto(name="q", data_type=TensorProto.UINT4, dims=[8, 64], raw_data=bytes(256)),
    ]
    sizes = {"K": 64, "N": 8, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", **sizes)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [], tensors)), tmp_path / "a.onnx")
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.bits) == (512 + 512, 2 * 4 * 512)


def numbers(name, *shape, kind="f4"):
    return numpy_helper.from_array(np.ones(shape, kind), name)


def constant(name, *shape, kind="f4"):
    """As exporters write it: the tensor has no name, its output has one."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ones(shape, kind)))


def branch(*initializers, nodes):
    return helper.make_graph(
        nodes, "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [8, 4])], initializers
    )


def local(nodes, inputs, **defaults):
    protos = [helper.make_attribute(name, default) for name, default in defaults.items()]
    opset = [helper.make_opsetid("", 21)]
    return helper.make_function("local", "F", inputs, ["o"], nodes, opset, attribute_protos=protos)


def chosen(body):
    """A function that chooses between two branches, each with weights of its own."""
    nodes = [
        helper.make_node("If", ["cond"], ["z"], then_branch=body, else_branch=body),
        helper.make_node("MatMul", ["a", "z"], ["o"]),
    ]
    return [helper.make_node("F", ["x", "cond"], ["y"], domain="local")], [], [local(nodes, ["a", "cond"])]


NORM = ["x", "scale", "shift", "mean", "var"]
HIDDEN = {
    "constants in branches in a function": (*chosen(branch(nodes=[constant("c", 8, 4)])), 64, 0),
    "initializers in branches in a function": (
        *chosen(branch(numbers("w", 8, 4), nodes=[helper.make_node("Identity", ["w"], ["c"])])), 64, 0,
    ),
    "lists of a classical model": (
        [helper.make_node("LinearClassifier", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[1.0] * 640,
                          intercepts=[0.0] * 10)], [], [], 650, 0,
    ),
    "an attribute": ([helper.make_node("Own", ["x"], ["y"], domain="local", w=numbers("w", 100, 10))], [], [], 1000, 0),
    "bnb4": (
        [helper.make_node("MatMulBnb4", ["x", "q", "s"], ["y"], domain="com.microsoft", K=64, N=32)],
        [numbers("q", 1024, kind="u1"), numbers("s", 32)], [], 2048, 0,
    ),
    "a size that is stated too small": (
        [helper.make_node("MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft", K=1, N=1, bits=4)],
        [numbers("q", 32, 2, 16, kind="u1"), numbers("s", 64)], [], 2048, 0,
    ),
    "gathered": (
        [helper.make_node("GatherBlockQuantized", ["q", "i", "s"], ["y"], domain="com.microsoft", bits=4)],
        [numbers("q", 16, 16, kind="u1"), numbers("s", 16, 1)], [], 512, 0,
    ),
    "constants that unpack": (
        [constant("q", 8, 4, kind="i1"), constant("s", 4), constant("z", 4, kind="i1"),
         helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1)], [], [], 32, 0,
    ),
    "a norm of constants": (
        [*(constant(name, 8) for name in NORM[1:]), helper.make_node("BatchNormalization", NORM, ["y"])], [], [],
        16, 16,
    ),
    "a norm in a function": (
        [helper.make_node("F", NORM, ["y"], domain="local")], [numbers(name, 8) for name in NORM[1:]],
        [local([helper.make_node("Identity", ["v"], ["w"]),
                helper.make_node("BatchNormalization", ["a", "b", "c", "m", "w"], ["o"])], ["a", "b", "c", "m", "v"])],
        16, 16,
    ),
    "QLinearMatMul": (
        [helper.make_node("QLinearMatMul", ["x", "xs", "xz", "q", "s", "z", "ys", "yz"], ["y"])],
        [numbers("q", 8, 4, kind="i1"), numbers("s", 4), numbers("z", 4, kind="i1")], [], 32, 0,
    ),
    "MatMulInteger": (
        [helper.make_node("MatMulInteger", ["x", "q", "xz", "z"], ["y"])],
        [numbers("q", 8, 4, kind="i1"), numbers("z", 4, kind="i1")], [], 32, 0,
    ),
    "ConvInteger": (
        [helper.make_node("ConvInteger", ["x", "q", "xz", "z"], ["y"])],
        [numbers("q", 8, 4, 1, 1, kind="i1"), numbers("z", 8, kind="i1")], [], 32, 0,
    ),
    "QGemm": (
        [helper.make_node("QGemm", ["x", "xs", "xz", "q", "s", "z"], ["y"], domain="com.microsoft")],
        [numbers("q", 8, 4, kind="i1"), numbers("s", 4), numbers("z", 4, kind="i1")], [], 32, 0,
    ),
    "weights that unpack too": (
        [helper.make_node("DequantizeLinear", ["q", "w"], ["d"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [numbers("q", 2, kind="i1"), numbers("w", 8, 4)], [], 2 + 32, 0,
    ),
    "statistics that are more than networks have": (
        [helper.make_node("BatchNormalization", NORM, ["y"])], [numbers(name, 8000) for name in NORM[1:]], [],
        4 * 8000, 0,
    ),
    "scales that are more than what they unpack": (
        [helper.make_node("DequantizeLinear", ["q", "s"], ["d"])],
        [numbers("q", 8, 4, kind="i1"), numbers("s", 11_000)], [], 32 + 11_000, 0,
    ),
    "settings that are more than graphs have": (
        [], [*(numbers(f"n{at}", 32, kind="i8") for at in range(320)), numbers("x")], [], 320 * 32 + 1, 0,
    ),
    "settings": ([], [*(numbers(f"n{at}", 32, kind="i8") for at in range(300)), numbers("x")], [], 0, 0),
    "defaults of a function": (
        [helper.make_node("F", ["x"], ["y"], domain="local")], [],
        [local([helper.make_node("Identity", ["a"], ["o"])], ["a"], w=[1.0] * 640, few=[1, 2])], 640, 0,
    ),
    "a function's scale by the name of a weight": (
        [helper.make_node("F", ["x", "n"], ["d"], domain="local"), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [numbers("w", 8, 4)], [local([helper.make_node("DequantizeLinear", ["a", "w"], ["o"])], ["a", "w"])], 32, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "initializers", "functions", "true", "statistics"), HIDDEN.values(), ids=HIDDEN)
def test_what_operators_take_their_inputs_for(tmp_path, nodes, initializers, functions, true, statistics):
    opsets = [helper.make_opsetid(name, 21 if not name else 1) for name in ("", "local", "com.microsoft", "ai.onnx.ml")]
    made = helper.make_graph(nodes, "g", [], [], initializers)
    onnx.save(helper.make_model(made, opset_imports=opsets, functions=functions), tmp_path / "a.onnx")
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.statistics) == (true, statistics)


def test_a_long_chain_is_followed_once(tmp_path):
    chain = [helper.make_node("Identity", [f"n{at}"], [f"n{at + 1}"]) for at in reversed(range(20_000))]
    norm = helper.make_node("BatchNormalization", ["x", "s", "b", "n20000", "v"], ["y"])
    onnx.save(graph([numbers("n0", 8)], [*chain, norm]), tmp_path / "a.onnx")
    found = weigh_anything(tmp_path / "a.onnx")
    assert (found.parameters, found.statistics) == (0, 8)
