"""Folders on the scales: each entrant's subfolder, shards, outside data, and programs with tied weights."""

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featherweight.budget import files_in, weigh_anything
from featherweight.cli import main
from featherweight.errors import UserError


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


def test_shards_are_one_model_without_their_index_too(tmp_path, capsys):
    for number in (1, 2):
        save_file({f"w{number}": torch.rand(10)}, tmp_path / f"m-0000{number}-of-00002.safetensors")
    first, second = sorted(tmp_path.iterdir())
    assert files_in(tmp_path) == [first]
    assert [weigh_anything(one).parameters for one in (first, second)] == [20, 20]
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w1": first.name, "w2": second.name}}))
    first.unlink()
    for fault in (index, second):  # with an index, and without
        assert files_in(tmp_path) == [fault]
        assert main.main(["weigh", str(tmp_path)]) == 2
        assert f"{fault}: not beside it, and part of the model: {first.name}" in capsys.readouterr().err
        index.unlink(missing_ok=True)


def test_a_number_beyond_that_of_all_shards_is_a_model_of_its_own(tmp_path):
    for name, size in (("m-00001-of-00002", 10), ("m-00002-of-00002", 10), ("m-00003-of-00002", 500)):
        save_file({f"w{size}{name}": torch.rand(size)}, tmp_path / f"{name}.safetensors")
    assert [weigh_anything(one).parameters for one in files_in(tmp_path)] == [20, 500]


def test_an_index_that_names_no_files_stops_no_other(tmp_path, capsys):
    torch.save({"w": torch.rand(30)}, tmp_path / "a.pt")
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": {"w": 1}}))
    assert main.main(["weigh", str(tmp_path), "--json"]) == 2
    assert [one["parameters"] for one in json.loads(capsys.readouterr().out)] == [30, None]


def test_what_continues_a_training_lies_beside_the_model(tmp_path, capsys):
    weights = {"w": torch.rand(30)}
    for name, content in (
        ("model.bin", weights),
        ("optimizer.pt", {"state": {0: {"exp_avg": torch.rand(30)}}, "param_groups": []}),
        ("scheduler.pt", {"last_epoch": 3}),
        ("rng_state_0.pth", {"cpu": torch.get_rng_state()}),
        ("training_args.bin", nn.Linear(1, 1)),  # refused
    ):
        torch.save(content, tmp_path / name)
    assert main.main(["weigh", str(tmp_path), "--limit", "6000", "--json"]) == 0
    said = capsys.readouterr()
    assert [one["parameters"] for one in json.loads(said.out)] == [30]
    assert said.err.count(str(tmp_path)) == 4
    for numbers in (20_000, 7000):  # a model by such a name: many numbers, or too many for the limit
        torch.save({"w": torch.rand(numbers)}, tmp_path / "scaler.pt")
        assert main.main(["weigh", str(tmp_path), "--limit", "6000"]) == 3
    (tmp_path / "scaler.pt").unlink()
    (tmp_path / "model.bin").unlink()
    assert main.main(["weigh", str(tmp_path)]) == 2  # beside nothing, they are what was handed in


def test_no_entry_of_another_kind_is_left_out_in_silence(tmp_path, capsys):
    torch.save({"w": torch.rand(30)}, tmp_path / "a.pkl")
    torch.save({"w": torch.rand(20)}, tmp_path / "plain")  # by its name alone it is no entry
    (tmp_path / "b.h5").write_bytes(b"\x89HDF")
    (tmp_path / "net.py").write_text("")
    (tmp_path / "._a.pth").write_bytes(b"\0\5\x16\7")  # what macOS puts beside a.pth
    torch.save({"w": torch.rand(40)}, tmp_path / "._b.pth")  # and what only looks so
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.write(tmp_path / "a.pkl", "c/net.pth")
    assert main.main(["weigh", str(tmp_path), "--json"]) == 2
    assert [one["parameters"] for one in json.loads(capsys.readouterr().out)] == [40, 30, None, None]
    assert weigh_anything(tmp_path / "plain").parameters == 20
    for name, why in (("c.zip", "unpack it, and weigh the folder"), ("net.py", "net.py:NAME"), ("b.h5", "ends in")):
        with pytest.raises(UserError, match=why):
            weigh_anything(tmp_path / name)
