"""No errors on the corpus of known miscounts: as a module, as a file, and in the gate."""

import re

import pytest
import torch
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


def test_each_names_an_issue_of_its_own():
    named = [one.issue for one in (*CASES, *FILES)]
    assert len(set(named)) == len(named) >= 40
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", issue) for issue in named)
