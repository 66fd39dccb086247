"""Without compilation, torch's compiler is not imported, and nothing else changes."""

import copy
import importlib.util
import subprocess
import sys

import pytest
import torch

from featherweight.config import load_recipe
from featherweight.models import outline
from featherweight.models.shape import Shape
from featherweight.runtime import torch_internals
from featherweight.runtime.torch_internals import with_its_own_step
from featherweight.training.optimizers import OPTIMIZERS, groups


@pytest.mark.slow
def test_a_run_imports_no_compiler(home):
    program = """
import sys
from featherweight.budget import memory
from featherweight.cli.main import main
memory.PLENTY = 0  # else a machine short of memory counts a forward pass first, which imports it
settings = ["train.epochs=1", "averages=[ema, lookahead]", "ship=ema", "sam={}"]
assert main(["tiny", *(f"--set={setting}" for setting in settings), "--threads=1", "--no-report"]) == 0
print(*sorted({"sympy", "torch._dynamo", "timm", "torchvision"} & set(sys.modules)), file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stderr.strip() == ""


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_step_of_its_own_is_torchs_step(name):
    def stepped(prepare):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))
        optimizer = prepare(OPTIMIZERS[name](groups(model)))
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 3, 4, 4)).square().sum().backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(stepped(with_its_own_step), stepped(lambda optimizer: optimizer))


def without_internals(monkeypatch):
    """Load the module as if torch had other internals."""
    monkeypatch.setitem(sys.modules, "torch.utils._python_dispatch", None)
    spec = importlib.util.find_spec("featherweight.runtime.torch_internals")
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patched:
        patched.delattr(torch.utils.flop_counter, "_FlopCounterMode")
        spec.loader.exec_module(module)
        module.spare_the_flop_counter()
    monkeypatch.undo()
    return module


def test_other_insides_of_torch_change_nothing_but_the_time(monkeypatch):
    module = without_internals(monkeypatch)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 2)
    )
    module.spare_optimizers()
    with torch.no_grad(), module.on_meta_device():
        on_meta = copy.deepcopy(net).to("meta")(torch.empty(1, 3, 8, 8))
    assert on_meta.is_meta
    assert on_meta.shape == (1, 2)
    assert module.ptflops_macs(net, torch.empty(1, 3, 8, 8)) is None


def test_what_has_no_values_is_not_initialised(monkeypatch):
    monkeypatch.setattr(torch.nn.init, "_calculate_correct_fan", lambda *given: 1 / 0)
    with torch_internals.on_meta_device():
        layer = torch.nn.Conv2d(3, 4, 3)
        with pytest.raises(ZeroDivisionError):  # for torch to refuse
            torch.nn.init.kaiming_uniform_(layer.bias)
    assert (layer.weight.shape, layer.weight.is_meta) == ((4, 3, 3, 3), True)


def test_a_rule_for_other_arguments_leaves_it_to_torch(monkeypatch):
    monkeypatch.setitem(torch_internals.PRODUCTS, torch.ops.aten.mm.default, lambda one: one)
    with torch_internals.on_meta_device():
        assert (torch.empty(2, 3) @ torch.empty(3, 4)).shape == (2, 4)


@pytest.mark.parametrize("recipe", ["wrn16_4", "cct7", "mobilenet_v3"])
def test_ptflops_counts_what_its_table_of_operators_counts(recipe):
    from ptflops import get_model_complexity_info

    model = outline(load_recipe(recipe).model, Shape(10, 3, 32))
    images = torch.empty(1, 3, 32, 32, device="meta")
    with torch_internals.on_meta_device():
        theirs, _ = get_model_complexity_info(
            model, (3, 32, 32), backend="aten", as_strings=False, print_per_layer_stat=False, verbose=False,
            input_constructor=lambda shape: {"images": images},
        )  # fmt: skip
    modules = dict(sys.modules)
    assert torch_internals.ptflops_macs(model, images)[0] == theirs > 0
    assert sys.modules == modules
