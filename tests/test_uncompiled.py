"""Where nothing is compiled, torch's compiler is not imported, and nothing else is different."""

import subprocess
import sys

import pytest
import torch

from featherweight.runtime.uncompiled import with_its_own_step
from featherweight.training.optimizers import OPTIMIZERS, groups


def test_a_run_imports_no_compiler(home):
    program = """
import sys
from featherweight.cli.main import main
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
