"""Shapes computed on the meta device are those that torch itself computes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.runtime.torch_internals import build_on_meta, on_meta_device


def assert_same_shape(make: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        real = make()
        with on_meta_device():
            on_meta = make()
    assert on_meta.is_meta
    assert on_meta.shape == real.shape


windows = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(windows, windows, st.tuples(st.integers(0, 2), st.integers(0, 2)), windows, st.integers(1, 3))
def test_convolutions(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int
):
    def make() -> Tensor:
        made: Tensor = nn.Conv2d(6, 12, kernel, stride, padding, dilation, groups)(torch.empty(2, 6, 14, 13))
        return made

    assert_same_shape(make)


@given(windows, st.none() | windows, st.booleans())
def test_pools(window: tuple[int, int], stride: tuple[int, int] | None, ceil: bool):
    assert_same_shape(lambda: F.max_pool2d(torch.empty(2, 3, 9, 8), window, stride, ceil_mode=ceil))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(2, 3, 4, 5).mean((2, 3)),
        lambda: torch.empty(2, 3, 4, 5).mean(-1),
        lambda: torch.empty(2, 3, 4, 5).mean((-2, 1), keepdim=True),
        lambda: torch.empty(2, 3, 4, 5).amax((2, 3), keepdim=True),
        lambda: torch.empty(2, 3).sum(0),
        lambda: torch.empty(2, 3).sum(),
        lambda: torch.empty(2, 3, 1, 1) * torch.empty(2, 3, 4, 5),
        lambda: torch.empty(2, 3, 4, 5) + torch.empty(3, 1, 1),
        lambda: torch.empty(2, 3, 1) + torch.empty(1, 4),
        lambda: torch.empty(2, 3) / 2,
        lambda: torch.empty(5, 2, 3) @ torch.empty(5, 3, 4),
        lambda: torch.empty(5, 2, 3) @ torch.empty(3, 4),
        lambda: nn.Linear(3, 4)(torch.empty(5, 2, 3)),
        lambda: nn.ConvTranspose2d(3, 4, 2, stride=2)(torch.empty(1, 3, 4, 4)),
    ],
)
def test_other_shapes(make: Callable[[], Tensor]):
    assert_same_shape(make)


@pytest.mark.parametrize(
    "make",
    [
        lambda: F.conv2d(torch.empty(1, 3, 8, 8), torch.empty(4, 2, 3, 3)),
        lambda: F.conv2d(torch.empty(1, 3, 2, 2), torch.empty(4, 3, 3, 3)),
        lambda: F.max_pool2d(torch.empty(1, 3, 2, 2), 3),
        lambda: torch.empty(2, 3) @ torch.empty(2, 3),
        lambda: torch.empty(2, 3) + torch.empty(2),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Tensor]):
    with pytest.raises(RuntimeError), torch.no_grad(), on_meta_device():
        make()


def test_a_weigh_in_imports_neither_a_compiler_nor_an_algebra_package():
    program = """
import sys
from featherweight.cli.main import main
for recipe in ("wrn16_4", "fastnet94", "efficientnet_b0", "cct7"):
    assert main(["check", recipe]) == 0
print(*sorted({"sympy", "torch._dynamo", "pandas", "sklearn", "timm"} & set(sys.modules)), file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stderr.strip() == ""


def test_numbers_that_a_network_computes_while_it_is_built_are_computed():
    with on_meta_device():
        steps = torch.arange(4, device="cpu", dtype=torch.float32) * 2 + 1
        assert (steps / 2).tolist() == [0.5, 1.5, 2.5, 3.5]


class AsksForNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, int(width)) for width in torch.linspace(1, 3, 3).tolist())
        self.rate = torch.rand(1).item()


def test_a_network_that_asks_for_numbers_while_it_is_built_is_outlined_too():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    net = build_on_meta(AsksForNumbers)
    assert [tuple(layer.weight.shape) for layer in net.layers] == [(1, 2), (2, 2), (3, 2)]
    assert all(parameter.is_meta for parameter in net.parameters())
    assert torch.equal(torch.rand(3), expected)
