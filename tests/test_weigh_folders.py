"""Folders on the scales: each entrant's subfolder, shards, outside data, and programs with tied weights."""

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.budget import files_in, weigh_anything
from featherweight.cli import main


def test_entrants_with_a_folder_each(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("alice", "bob/last", "carol", ".git"):
        (tmp_path / "entries" / place).mkdir(parents=True)
    torch.save({"w": torch.rand(30)}, "entries/alice/net.pth")
    torch.save({"w": torch.rand(20)}, "entries/bob/last/net.pth")
    torch.save({"w": torch.rand(10)}, "entries/top.pth")
    (tmp_path / "entries" / "bob" / "bad.safetensors.index.json").write_text("{")
    (tmp_path / "entries" / "link").symlink_to(tmp_path / "entries" / "bob", target_is_directory=True)
    assert main.main(["weigh", "entries", "--limit", "25"]) == 3
    said = capsys.readouterr()
    assert "alice/net.pth" in said.out.replace("\n", "")
    faults = said.err.strip().splitlines()
    assert len(faults) == 3
    assert "carol: it is a folder, and it holds no file ending in" in faults[1]
    assert "link: it is a folder, and it is a link" in faults[2]
    assert main.main(["weigh", "entries/carol"]) == 2


def test_data_outside_of_an_onnx_file_is_no_model(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: ./run.sh install onnx")
    tensor = onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [tensor])
    path = tmp_path / "a.onnx"
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=True, location="a.bin", size_threshold=0)
    assert files_in(tmp_path) == [path]
    torch.save({"w": torch.rand(9)}, tmp_path / "a.bin")  # what another's file says does not hide a model
    assert files_in(tmp_path) == [tmp_path / "a.bin", path]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.register_buffer("places", torch.arange(64), persistent=False)

    def forward(self, x):
        return self.b(self.a(x)) + self.places[:8]


@pytest.mark.filterwarnings("ignore")
def test_exported_programs_share_tied_weights_and_leave_out_what_the_code_makes(tmp_path):
    torch.export.save(torch.export.export(Tied(), (torch.zeros(1, 8),)), tmp_path / "a.pt2")
    assert weigh_anything(tmp_path / "a.pt2").parameters == weigh_anything(Tied()).parameters == 64 + 8 + 8


def test_shards_saved_by_torch_count_whole(tmp_path):
    torch.save({"a": torch.rand(3, 1), "more": {"w": torch.rand(5, 5)}}, tmp_path / "one.bin")
    torch.save({"b": torch.rand(4)}, tmp_path / "two.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "one.bin", "b": "two.bin"}}')
    assert files_in(tmp_path) == [index]
    assert weigh_anything(index).parameters == 3 + 25 + 4
