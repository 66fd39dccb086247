"""Counting tensors of every type, size and packing, each compared with a count by hand; no declared size hangs it."""

import json

import pytest
import torch

import featherweight as fw
from featherweight.budget import weigh_anything
from featherweight.errors import UserError


def safetensors(path, **tensors):
    """Write a file by hand, for types that a library may not write: all bytes 1, with the given shapes and types."""
    header, end = {}, 0
    for name, (kind, shape, size) in tensors.items():
        header[name.replace("_", ".")] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\1" * end)
    return path


def saved(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    return weigh_anything(tmp_path / "a.pth")


def test_views_larger_than_their_memory_are_looked_at_once(tmp_path):
    found = saved(tmp_path, {"w": torch.zeros(1).expand(10**6, 10**6)})
    assert (found.parameters, found.zeros) == (1, 1)
    found = saved(tmp_path, {"w": torch.tensor([0.0, 1, 2, 3, 4])[:, None].expand(5, 50)})
    assert (found.parameters, found.zeros) == (5, 1)
    found = saved(tmp_path, {"w": torch.eye(4)[:, ::2]})
    assert (found.parameters, found.zeros) == (16, 12)
    found = saved(tmp_path, {"w": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)[:1].expand(10**5)})
    assert (found.parameters, found.zeros) == (4, 0)


@pytest.mark.parametrize(
    ("kind", "shape", "size", "numbers", "bits", "zeros"),
    [
        ("U16", [4, 4], 32, 16, 256, 0),
        ("U32", [4, 4], 64, 16, 512, 0),
        ("U64", [4, 4], 128, 16, 1024, 0),
        ("F8_E4M3", [4, 4], 16, 16, 128, 0),
        ("F8_E8M0", [4, 4], 16, 16, 128, 0),
        ("F4", [4, 4], 8, 16, 64, 8),  # 0x01: a number and a 0
        ("C64", [4, 4], 128, 32, 1024, 0),
    ],
)
def test_kinds_of_numbers(tmp_path, kind, shape, size, numbers, bits, zeros):
    found = fw.weigh(safetensors(tmp_path / "a.safetensors", w=(kind, shape, size)))
    assert (found.parameters, found.bits, found.zeros) == (numbers, bits, zeros)


def test_signs_of_zeros_of_8_bits(tmp_path):
    whole = torch.tensor([0.0, -0.0, 1.0, -1.0])
    for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
        assert saved(tmp_path, {"w": whole.to(kind)}).zeros == 2


def test_unsigned_numbers(tmp_path):
    assert saved(tmp_path, {"w": torch.tensor([0, 0, 7]).to(torch.uint16)}).zeros == 2


def test_what_cannot_be_counted_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be counted"):
        saved(tmp_path, {"w": torch.nested.nested_tensor([torch.rand(2), torch.rand(3)])})


@pytest.mark.filterwarnings("ignore")
def test_symmetric_gptq_and_marlin(tmp_path):
    """64 inputs and 32 outputs of 4 bits: no zero points, no order."""
    gptq = {"l.qweight": torch.zeros(8, 32, dtype=torch.int32), "l.scales": torch.rand(2, 32)}
    marlin = {"l.B": torch.zeros(4, 64, dtype=torch.int32), "l.s": torch.rand(2, 32)}
    for state in (gptq, marlin):
        assert saved(tmp_path, state).parameters == 64 * 32


@pytest.mark.parametrize(("columns", "groups", "inputs"), [(8, 1, 64), (16, 1, 64), (16, 2, 128)])
def test_mlx(tmp_path, columns, groups, inputs):
    sizes = {"scales": ("F16", [8, groups], 16 * groups), "biases": ("F16", [8, groups], 16 * groups)}
    layer = {f"l_{name}": entry for name, entry in sizes.items()}
    path = safetensors(tmp_path / "a.safetensors", l_weight=("U32", [8, columns], 32 * columns), **layer)
    assert weigh_anything(path).parameters == 8 * inputs


def test_a_shape_that_is_too_small_for_what_is_packed_is_not_believed(tmp_path):
    packed = torch.zeros(100, 100, dtype=torch.int32)
    state = {"l.weight_packed": packed, "l.weight_shape": torch.tensor([1, 1]), "l.weight_scale": torch.rand(1)}
    assert saved(tmp_path, state).parameters == 4 * 100 * 100
