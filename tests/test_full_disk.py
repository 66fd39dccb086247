"""A disk that is full: at every write in turn, one message with the file, nothing half-written, and the run goes on."""

import errno
import os
import shutil

import numpy as np
import pytest

from featherweight import atomic
from featherweight.cli.main import main
from featherweight.data import pack_writer

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
AGAIN = ("result.json", "holdout_probs.npy", "predict_probs.npy", "holdout.csv", "weights.safetensors")


@pytest.fixture
def filled(monkeypatch):
    """`filled(n)`: the disk takes n more writes."""
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
    """Writing into a hole of a mapped file on a full disk would kill the process."""
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
