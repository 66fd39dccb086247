"""0 errors over the corpus of known miscounts, as a module, as a file, and by the gate."""

import re

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from featherweight.budget import weigh_anything
from miscounts.cases import CASES, shown
from miscounts.files import FILES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.issue)
def test_networks(case, tmp_path):
    net = case.make().eval()
    if any(nn.parameter.is_lazy(one) for one in net.parameters()):
        net(shown(case))
    assert weigh_anything(net).parameters == case.true
    if case.true < 10**6:
        torch.save(net.state_dict(), tmp_path / "a.pth")
        assert weigh_anything(tmp_path / "a.pth").parameters == case.true


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.issue)
def test_files(file, tmp_path):
    torch.save(file.state(), tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == file.true


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


def test_each_names_an_issue_of_its_own():
    named = [one.issue for one in (*CASES, *FILES)]
    assert len(set(named)) == len(named) >= 40
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", issue) for issue in named)
