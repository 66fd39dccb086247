"""A full disk: at every write in turn there is one message with the file, no partial file, and the run can continue."""

import errno
import importlib
import io
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featherweight import atomic
from featherweight.cli.main import main
from featherweight.data import pack_writer
from featherweight.errors import UserError
from featherweight.export import formats, quantize
from featherweight.runs import ledger
from kaggle_server import archive

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
AGAIN = ("result.json", "holdout_probs.npy", "predict_probs.npy", "holdout.csv", "weights.safetensors")


@pytest.fixture
def filled(monkeypatch):
    """Return `filled(n)`, after which the disk accepts n more writes."""
    left = [10**9]
    sync = os.fsync

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(*FULL.args)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda count: left.__setitem__(0, count)


def test_a_file_that_finds_no_room_is_named_and_the_old_one_stays(tmp_path, filled):
    path = tmp_path / "kept.txt"
    atomic.write_text(path, "old")
    filled(0)
    with pytest.raises(OSError, match=r"kept.txt"):
        atomic.write_text(path, "new")
    with pytest.raises(OSError, match=r"kept.txt"), atomic.text_stream(path) as stream:
        stream.write("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pack_takes_its_room_before_it_is_written_to(tmp_path, monkeypatch):
    """Writing to a hole of a mapped file on a full disk would kill the process."""
    array = pack_writer._reserved(tmp_path / "images.npy", (100, 64, 64, 3))
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= array.nbytes

    def full(*given):
        raise OSError(*FULL.args)

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"other.npy"):
        pack_writer._reserved(tmp_path / "other.npy", (9, 8, 8, 3))


def test_a_run_on_a_full_disk_goes_on_from_every_write(finished, home, filled, capsys):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    folder = home / "runs" / "first"
    before = {name: (folder / name).read_bytes() for name in AGAIN}
    for count in range(100):
        for name in AGAIN[:-1]:
            (folder / name).unlink(missing_ok=True)
        filled(count)
        code = main(["resume", "first", "--no-report"])
        filled(10**9)
        said = capsys.readouterr().err
        assert [path.name for path in home.rglob("*.part")] == []
        if code == 0:
            break
        assert code == 2, said
        assert said.startswith("error: cannot read or write")
        assert len(said.splitlines()) == 1
    assert 4 <= count < 100  # so many writes there were
    after = {name: (folder / name).read_bytes() for name in AGAIN}
    assert {name for name in AGAIN if after[name] != before[name]} <= {"result.json"}
    np.testing.assert_array_equal(np.load(folder / "predict_probs.npy").shape, (359, 10))


class _Full(io.FileIO):
    """A file on a disk that accepts a number of writes, and half of the next one."""

    left = 10**9

    @classmethod
    def take(cls):
        cls.left -= 1
        return cls.left >= 0

    def write(self, data):
        content = bytes(data)
        if self.take():
            return super().write(content)
        super().write(content[: len(content) // 2])
        raise OSError(*FULL.args)


@pytest.fixture
def disk(monkeypatch):
    """Return `disk(n)`: n more files, folders or pieces of a file can be written, and the next one fails."""
    opened, created, folder = io.open, os.open, os.mkdir

    def named(path):
        if not Path(path).exists() and not _Full.take():
            raise OSError(*FULL.args, str(path))

    def open_(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *rest):
        if not set(mode) & set("wxa"):
            return opened(file, mode, buffering, encoding, errors, newline, *rest)
        if not isinstance(file, int):
            named(file)
        raw = io.BufferedWriter(_Full(file, mode.replace("b", ""), *rest))
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding, errors, newline)

    def create(path, flags, *given, **more):
        if flags & os.O_CREAT:
            named(path)
        return created(path, flags, *given, **more)

    def make(path, *given, **more):
        named(path)
        folder(path, *given, **more)

    monkeypatch.setattr(io, "open", open_)
    monkeypatch.setattr(os, "open", create)
    monkeypatch.setattr(os, "mkdir", make)
    monkeypatch.setattr(_Full, "left", 10**9)
    return lambda count: setattr(_Full, "left", count)


# The command, the file that it makes, and every how many-th write is one that fails.
WRITING = [
    ("init {given} --name pictures", "configs/competitions/pictures.yaml", 1),
    ("init {given}.zip --name pictures", "configs/competitions/pictures.yaml", 1),
    ("init {given}.tar.gz --name pictures", "configs/competitions/pictures.yaml", 1),
    ("predict first digits --out {home}/out/p.csv", "out/p.csv", 1),
    ("bundle first --out {home}/out/b.zip", "out/b.zip", 1),
    ("resume first --no-report", "submissions/first.csv", 1),
    ("report first", "runs/first/report/report.html", 13),
    ("export first --to torchscript --out {home}/out", "out/first.torchscript", 1),
    ("export first --to script --out {home}/out", "out/first.py", 20),
    ("export first --to safetensors --out {home}/out", "out/first.safetensors", 5),
    ("export first --to pt2 --out {home}/out", "out/first.pt2", 3),
    ("export first --to onnx --out {home}/out", "out/first.onnx", 4),
    ("export first --to onnx --int8 --out {home}/out", "out/first.int8.onnx", 9),
]


CONVERTED = {}


@pytest.fixture
def converted_once(monkeypatch):
    """Cache the conversions, which write nothing, take seconds, and are the same for the one run of these tests."""

    def keeping(name, convert):
        def kept(*given, **more):
            if name not in CONVERTED:
                CONVERTED[name] = convert(*given, **more)
            return CONVERTED[name]

        return kept

    monkeypatch.setattr(formats, "_program", keeping("pt2", formats._program))
    monkeypatch.setattr(torch.onnx, "export", keeping("onnx", torch.onnx.export))


@pytest.mark.some(4)
@pytest.mark.usefixtures("converted_once")
@pytest.mark.parametrize(("words", "made", "step"), WRITING, ids=[one[0].replace(" {home}/", "") for one in WRITING])
def test_every_command_says_which_file_found_no_room(words, made, step, finished, home, tmp_path, disk, capsys):
    if "onnx" in words:
        pytest.importorskip("onnxscript", reason="it is not installed: ./run.sh install onnx onnxruntime onnxscript")
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "given" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (name[0] == "a" and "red") or "blue").save(tmp_path / "given" / name)
    for kind in ("zip", "gztar"):
        shutil.make_archive(str(tmp_path / "given"), kind, tmp_path / "given")
    shutil.copytree(finished, home, dirs_exist_ok=True)
    (home / made).unlink(missing_ok=True)
    (home / "out").mkdir()
    if words.startswith("resume"):
        (home / "runs" / "first" / "result.json").unlink()
    for count in range(0, 300, step):
        disk(count)
        code = main(words.format(given=tmp_path / "given", home=home).split())
        disk(10**9)
        said = capsys.readouterr().err
        assert not [path for path in home.rglob(".*") if path.name != ".new"], f"left after {count} writes"
        if code == 0:
            break
        assert code == 2, said
        assert said.startswith("error: cannot read or write /"), said
        assert len(said.splitlines()) == 1
        assert not (home / made).exists() or words.startswith("resume")
    assert code == 0  # with the same workspace, after all those faults
    assert count > 1  # so many writes there were
    assert (home / made).exists()


@pytest.fixture
def kaggle(fake_kaggle):
    """Start the simulated Kaggle and import its client, which creates its folder at import."""
    importlib.import_module("kaggle")
    return fake_kaggle


def test_submit_on_a_full_disk_uploads_once(finished, home, kaggle, disk, capsys):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    told = []
    for count in range(100):
        disk(count)
        code = main(["submit", "first"])
        disk(10**9)
        said = capsys.readouterr().err
        if code == 0:
            break
        assert code == 2, said
        assert len(said.splitlines()) == 1
        told.append(said)
    assert len(kaggle.submissions) == 1
    assert any(said.startswith("error: cannot read or write /") for said in told)
    assert "it was submitted as 1000, and " in told[-1]
    known = ledger.records(ledger.submissions())
    assert [(row["reference"], row["status"]) for row in known] == [("1000", "PENDING")]


def test_download_on_a_full_disk_begins_again(home, kaggle, disk, capsys):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    kaggle.data = archive({f"train/{name}/{n}.png": picture.getvalue() for name in "ab" for n in range(2)})
    for count in range(100):
        disk(count)
        code = main(["download", "tiny-weights"])
        disk(10**9)
        said = capsys.readouterr()
        assert not list(home.rglob(".*.part")), f"left after {count} writes"
        if code == 0 and "next: ./run.sh auto" in said.out:
            break
        assert (code, said.err[:28]) == (2, "error: cannot read or write "), said
        assert "/" in said.err
        assert len(said.err.splitlines()) == 1
    assert count > 5
    assert sorted(path.name for path in (home / "data").iterdir()) == ["tiny-weights"]


@pytest.mark.parametrize("said", ["Optimization failed\nno room", ValueError("no room")])
def test_what_onnxruntime_only_logs_ends_the_export(said, tmp_path, caplog):
    """Its C++ parts skip what they cannot write; the next step would read half a file, or another graph."""
    refused = pytest.raises(UserError, match=rf"\(no room\); is there room in {tmp_path}\?")
    with refused, quantize._refused_failures(str(tmp_path / "x")):
        if isinstance(said, Exception):
            raise said
        logging.getLogger("onnxruntime.quantization.shape_inference").error(said)
    assert not caplog.records
