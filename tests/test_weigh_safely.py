"""Anybody's model is weighed without running code in its file, and one bad file does not affect the others."""

import json
import os
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops import FrozenBatchNorm2d

from featherweight.budget import files_in, weigh_anything
from featherweight.cli import main
from featherweight.cli.models import weigh
from featherweight.errors import UserError


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_modules_files_and_names_weigh_the_same(tmp_path):
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.ckpt")
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    expected = 112 + 8 + 10
    assert weigh_anything(model).parameters == expected
    assert weigh_anything(tmp_path / "a.safetensors").parameters == expected
    found = weigh_anything(tmp_path / "a.ckpt")
    assert (found.parameters, found.statistics) == (expected, 9)
    assert found.others >= 2 * expected
    assert weigh_anything("timm/resnet18").parameters == 11_689_512


def test_shared_and_frozen_parameters_count_once(tmp_path):
    tied = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    tied[1].weight = tied[0].weight
    tied.requires_grad_(False)
    torch.save(tied.state_dict(), tmp_path / "tied.pth")
    assert weigh_anything(tied).parameters == weigh_anything(tmp_path / "tied.pth").parameters == 25


def test_a_folder_with_bad_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Runs()}, "evil.pth")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "evil.pth").read_bytes()[:200])
    header = b'{"w":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}'
    (tmp_path / "huge.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    torch.save(net().state_dict(), "good.pth")
    assert main.main(["weigh", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    assert [one["parameters"] for one in json.loads(said.out)] == [130, None, None, None]
    assert len(said.err.strip().splitlines()) == 3
    assert "could run code" in said.err
    assert not (tmp_path / "ran").exists()
    assert main.main(["weigh", "good.pth", "--limit", "129"]) == 3
    assert main.main(["weigh", "good.pth", "--limit", "130"]) == 0


def weighed(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    return weigh_anything(tmp_path / "w.pth").parameters


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it begins with '<!DOCTYPE html><html>'"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b\x08\x00gz", "it begins with "),
    ],
)
def test_what_only_is_called_weights_is_said_to_be_none(tmp_path, content, words):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match=words):
        weigh_anything(tmp_path / "net.pth")


@pytest.mark.parametrize("ending", [".safetensors", ".onnx"])
def test_a_pointer_of_git_lfs_is_said_to_be_one(tmp_path, ending):
    path = tmp_path / f"net{ending}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="git lfs pull"):
        weigh_anything(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://example.org/a.pth", "an address; download"),
        ("timm/", "expected timm/NAME"),
        ("timm/hf_hub:timm/x", "timm has no model called 'hf_hub:timm/x'"),
    ],
)
def test_names_that_are_none(name, words, capsys):
    assert main.main(["weigh", name]) == 2
    assert words in capsys.readouterr().err


def test_many_files_are_weighed_by_several_processes(tmp_path, tmp_path_factory, monkeypatch, capsys):
    begun, begin = tmp_path_factory.mktemp("begun"), weigh._begin
    monkeypatch.setattr("featherweight.runtime.cores.cores", lambda: 2)
    monkeypatch.setattr(weigh, "_begin", lambda parts: (begin(parts), (begun / str(os.getpid())).touch()))
    monkeypatch.setattr(weigh, "MANY", 3)
    for count in (1, 2, 3):
        torch.save({"w": torch.ones(count)}, tmp_path / f"{count}.pth")
    (tmp_path / "bad.pth").write_bytes(b"PK")
    assert main.main(["weigh", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    assert [one["parameters"] for one in json.loads(said.out)] == [1, 2, 3, None]
    assert "bad.pth: damaged" in said.err
    assert list(begun.iterdir()) or not sys.platform.startswith("linux")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("1000", 0),
        ("1e3", 0),
        ("1_000", 0),
        ("1,000", 0),
        ("1k", 0),
        ("999", 3),
        ("0.9k", 3),
        ("0", 2),
        ("-1", 2),
        ("x", 2),
    ],
)
def test_limits_as_people_write_them(tmp_path, words, code):
    torch.save({"w": torch.ones(1000)}, tmp_path / "net.pth")
    assert main.main(["weigh", str(tmp_path / "net.pth"), f"--limit={words}"]) == code


def test_views_of_one_memory_count_whole_whichever_comes_first(tmp_path):
    memory = torch.rand(1000)
    assert weighed(tmp_path, {"a": memory[:1], "b": memory[1:]}) == 1000
    assert weighed(tmp_path, {"b": memory[1:], "a": memory[:1]}) == 1000


def test_packed_weights_count_as_what_they_stand_for(tmp_path):
    """64 inputs, 32 outputs: 2,048 weights of 4 bits, as stored by bitsandbytes, GPTQ and AWQ, and a bias."""
    bias = {"l.bias": torch.rand(32)}
    bitsandbytes = {
        "l.weight": torch.zeros(1024, 1, dtype=torch.uint8),
        "l.weight.absmax": torch.rand(32),
        "l.weight.quant_map": torch.rand(16),
        "l.weight.quant_state.bitsandbytes__nf4": torch.zeros(90, dtype=torch.uint8),
    }
    gptq = {
        "l.qweight": torch.zeros(8, 32, dtype=torch.int32),
        "l.qzeros": torch.zeros(2, 4, dtype=torch.int32),
        "l.scales": torch.rand(2, 32),
        "l.g_idx": torch.arange(64, dtype=torch.int32),
    }
    awq = {
        "l.qweight": torch.zeros(64, 4, dtype=torch.int32),
        "l.qzeros": torch.zeros(2, 4, dtype=torch.int32),
        "l.scales": torch.rand(2, 32),
    }
    for state in (bitsandbytes, gptq, awq):
        assert weighed(tmp_path, {**state, **bias}) == 2048 + 32


def test_a_file_by_an_ending_in_capitals(tmp_path):
    torch.save(net().state_dict(), tmp_path / "MODEL.PTH")
    save_file({"w": torch.ones(3)}, tmp_path / "W.SafeTensors")
    torch.save({"state_dict": {"w": torch.ones(5)}}, tmp_path / "best.pth.tar")
    assert sorted(weigh_anything(file).parameters for file in files_in(tmp_path)) == [3, 5, 130]


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4)


def small_swin():
    return SwinTransformer([4, 4], embed_dim=8, depths=[2], num_heads=[1], window_size=[2, 2], num_classes=2)


@pytest.mark.parametrize("make", [Frozen, small_swin])
def test_buffers_of_libraries_weigh_the_same_in_a_module_and_a_file(make, tmp_path):
    """Statistics of frozen norms, indices of transformers; a frozen norm's scale and shift are counted."""
    made = make()
    torch.save(made.state_dict(), tmp_path / "net.pth")
    own = 2 * 4 if make is Frozen else 0
    expected = sum(one.numel() for one in made.parameters()) + own
    assert weigh_anything(tmp_path / "net.pth").parameters == weigh_anything(made).parameters == expected
