"""Counting unusual modules and checkpoints, each compared with a count by hand: whatever training leaves in a file."""

import copy
import datetime
import json
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from featherweight.budget import files_in, weigh_anything
from featherweight.errors import UserError

NET, STATISTICS = 3 * 4 * 9 + 4 + 8 + 10, 9  # a convolution, a batch norm of 4, a linear layer of 4 to 2


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def linear() -> nn.Linear:
    return nn.Linear(10, 5)


def pruned() -> nn.Module:
    return prune.l1_unstructured(linear(), "weight", amount=0.5)


def lists() -> nn.Module:
    module = nn.Module()
    module.rows = nn.ParameterList([torch.zeros(3, 4) for _ in range(3)])
    module.named = nn.ParameterDict({"a": torch.zeros(5), "b": nn.ParameterList([torch.zeros(2)])})
    return module


MODULES = {
    "weight norm": (lambda: parametrizations.weight_norm(linear()), 5 + 50 + 5),
    "weight norm of old": (lambda: torch.nn.utils.weight_norm(linear()), 5 + 50 + 5),
    "spectral norm": (lambda: parametrizations.spectral_norm(linear()), 55),
    "spectral norm of old": (lambda: torch.nn.utils.spectral_norm(linear()), 55),
    "pruned": (pruned, 55),
    "averaged": (lambda: torch.optim.swa_utils.AveragedModel(linear()), 55),
    "lists and dictionaries": (lists, 36 + 5 + 2),
    "complex": (lambda: nn.ParameterList([torch.zeros(3, 4, dtype=torch.complex64)]), 24),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), 8),
    "without numbers": (lambda: net().to("meta"), NET),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "true"), MODULES.values(), ids=MODULES)
def test_modules_and_their_checkpoints(tmp_path, make, true):
    module = make()
    assert weigh_anything(module).parameters == true
    torch.save(module.state_dict(), tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == true


@pytest.mark.filterwarnings("ignore")
def test_what_quantised_layers_hide_counts():
    layer = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear()), {nn.Linear})
    found = weigh_anything(layer)
    assert (found.parameters, found.bits) == (55, 50 * 8 + 5 * 32)


@pytest.mark.filterwarnings("ignore")
def test_modules_that_others_have_made_of_it():
    made = net().eval()
    scripted = torch.jit.script(made)
    for one in (scripted, torch.jit.trace(made, torch.zeros(1, 3, 8, 8)), made.state_dict()):
        assert (weigh_anything(one).parameters, weigh_anything(one).statistics) == (NET, STATISTICS)
    program = torch.export.export(made, (torch.zeros(1, 3, 8, 8),)).module()
    assert weigh_anything(program).parameters == NET + STATISTICS  # it no longer says what is a norm
    assert weigh_anything(torch.compile(made)).parameters == NET
    assert weigh_anything(torch.jit.freeze(scripted)).parameters == NET - 8  # its batch norm is folded
    recurrent = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(5, 7)), {nn.LSTM})
    assert weigh_anything(recurrent).parameters == 4 * 7 * (5 + 7 + 2)


@pytest.mark.parametrize("what", [None, 3, [1], torch.zeros(3), nn.Linear])
def test_what_is_no_model_is_said_to_be_none(what):
    with pytest.raises(UserError, match="expected a module, the state of one, a file, or a name"):
        weigh_anything(what)


def test_lazy_modules_need_an_example():
    module = nn.Sequential(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(UserError, match="pass an example"):
        weigh_anything(module)
    assert weigh_anything(module, torch.rand(1, 3, 5, 5)).parameters == 112 + 8 + 4 * 9 * 2 + 2


def prefixed(before: str) -> dict[str, torch.Tensor]:
    return {before + name: tensor for name, tensor in net().state_dict().items()}


def adam(module: nn.Module) -> dict[str, object]:
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


CHECKPOINTS = {
    "data parallel and compiled": (lambda: prefixed("module._orig_mod."), NET),
    "compiled within": (lambda: prefixed("backbone._orig_mod."), NET),
    "sharded, one flat tensor": (lambda: {"_fsdp_wrapped_module._flat_param": torch.zeros(NET)}, NET),
    "two models": (lambda: {"G": net().state_dict(), "D": linear().state_dict(), "optG": adam(net())}, NET + 55),
    "parts": (lambda: {"encoder": net().state_dict(), "head": linear().state_dict(), "epoch": 3}, NET + 55),
    "folds": (lambda: {"models": [net().state_dict(), net().state_dict()]}, 2 * NET),
    "a list": (lambda: [net().state_dict(), OrderedDict(linear().state_dict())], NET + 55),
    "tensors alone": (lambda: [torch.zeros(3, 4), torch.zeros(12)], 24),
    "arrays": (lambda: {"a": torch.zeros(6), "w": np.zeros((3, 4), np.float32)}, 18),
    "sparse": (lambda: {"a": torch.eye(10).to_sparse(), "b": torch.eye(10).to_sparse_csr()}, 200),
    "float8": (lambda: {"w": torch.eye(8).to(torch.float8_e4m3fn)}, 64),
    "positions": (lambda: {"embeddings.position_ids": torch.arange(50)[None], "w": torch.zeros(6)}, 6),
    "a slice of more": (lambda: {"w": torch.zeros(1000)[:10]}, 1000),
    "transposed": (lambda: (lambda w: {"a": w, "b": w.t()})(torch.zeros(4, 6)), 24),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "true"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints(tmp_path, make, true):
    torch.save(make(), tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == true


LINEAR = torch.nn.Sequential(torch.ao.quantization.QuantStub(), torch.nn.Linear(12, 8))
PACKED = {
    "GPTQ without an order": (
        {
            "qweight": torch.zeros(8, 32, dtype=torch.int32),
            "qzeros": torch.zeros(2, 4, dtype=torch.int32),
            "scales": torch.zeros(2, 32),
        },
        64 * 32,
    ),
    "AWQ": (
        {
            "qweight": torch.zeros(64, 4, dtype=torch.int32),
            "qzeros": torch.zeros(2, 4, dtype=torch.int32),
            "scales": torch.zeros(2, 32),
        },
        64 * 32,
    ),
    "HQQ": (
        {
            "W_q": torch.zeros(32, 16, dtype=torch.uint8),
            "scale": torch.zeros(32, 1),
            "zero": torch.zeros(32, 1),
            "nbits": torch.tensor(4),
            "shape": torch.tensor([32, 32]),
            "bias": torch.zeros(32),
        },
        32 * 32 + 32,
    ),
    "quanto": (
        {
            "weight._data": torch.zeros(10, 10, dtype=torch.int8),
            "weight._scale": torch.zeros(10, 1),
            "input_scale": torch.ones(1),
        },
        100,
    ),
    "nvfp4": (
        {
            "weight": torch.zeros(10, 8, dtype=torch.uint8),
            "weight_scale": torch.zeros(10, 1),
            "weight_scale_2": torch.tensor(1.0),
        },
        160,
    ),
}


@pytest.mark.parametrize("kind", PACKED)
def test_packed_layers_of_files(tmp_path, kind):
    state, true = PACKED[kind]
    torch.save({f"layer.{name}": tensor for name, tensor in state.items()}, tmp_path / "net.pth")
    assert weigh_anything(tmp_path / "net.pth").parameters == true


@pytest.mark.filterwarnings("ignore")
def test_what_watches_before_quantisation_is_no_parameter(tmp_path):
    net = copy.deepcopy(LINEAR).train()
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    watched = torch.ao.quantization.prepare_qat(net)
    watched(torch.rand(3, 12))
    torch.save(watched.state_dict(), tmp_path / "watched.pth")
    torch.save(torch.ao.quantization.convert(watched.eval()).state_dict(), tmp_path / "done.pth")
    assert [weigh_anything(tmp_path / f"{name}.pth").parameters for name in ("watched", "done")] == [104, 104]


@pytest.mark.filterwarnings("ignore")
def test_sparse_tensors_are_the_model_and_nothing_beside_it(tmp_path):
    torch.save({"a": torch.eye(10).to_sparse(), "b": torch.eye(10).to_sparse_csr()}, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.zeros, found.others) == (180, 0)


def test_a_model_between_its_copy_and_its_optimizer(tmp_path):
    module = net()
    told = {"model": module.state_dict(), "ema": copy.deepcopy(module.state_dict()), "optimizer": adam(module)}
    torch.save({**told, "scaler": {"scale": 1.0}}, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.parameters, found.statistics) == (NET, STATISTICS)
    assert found.averaged == NET + STATISTICS
    assert found.others == 2 * NET + 6  # two moments of each, and a step of each of six tensors
    torch.save(told["optimizer"], tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"no tensors by name in it.* it holds state, param_groups"):
        weigh_anything(tmp_path / "b.pth")


def test_shards_are_one_model(tmp_path):
    state = net().state_dict()
    parts = {"model-1-of-2.safetensors": list(state)[:3], "model-2-of-2.safetensors": list(state)[3:]}
    for file, names in parts.items():
        save_file({name: state[name] for name in names}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, names in parts.items() for name in names}}))
    assert files_in(tmp_path) == [index]
    found = weigh_anything(index)
    assert (found.parameters, found.statistics) == (NET, STATISTICS)
    assert found.bytes == sum((tmp_path / file).stat().st_size for file in parts)
    for content in ('{"weight_map": {"a": "../secret.safetensors"}}', "[]", '{"weight_map": {}}', "{"):
        index.write_text(content)
        with pytest.raises(UserError, match="index"):
            weigh_anything(index)
    index.write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(UserError, match=r"gone\.safetensors"):
        weigh_anything(index)


def test_plain_records_of_training_scripts_are_read(tmp_path):
    records = [
        torch.__version__, datetime.datetime.now(datetime.UTC), frozenset({1}), range(9), np.array(["cat", "dog"]),
        np.str_("cat"), pathlib.PureWindowsPath("a"),
    ]  # fmt: skip
    torch.save({"model": {"w": torch.zeros(2, 2)}, "records": records}, tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == 4


def test_the_settings_of_an_optimizer_of_fastai_are_read(tmp_path):
    fastcore = pytest.importorskip("fastcore.foundation", reason="fastcore is not installed: ./run.sh install fastai")
    optimizer = {"state": [{"avg": torch.zeros(2, 2)}], "hypers": fastcore.L({"lr": np.float64(0.1)})}
    torch.save({"model": {"w": torch.zeros(2, 2)}, "opt": optimizer}, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.parameters, found.others) == (4, 4)


def test_arrays_of_objects_run_nothing(tmp_path):
    torch.save({"w": np.array([print], dtype=object), "a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="could run code"):
        weigh_anything(tmp_path / "a.pth")
