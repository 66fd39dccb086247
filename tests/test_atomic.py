import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from featherweight import atomic


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file"
    atomic.write_text(path, "one")
    atomic.write_text(path, "two\r\n")
    assert path.read_bytes() == b"two\r\n"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_the_umask_is_not_touched(tmp_path, monkeypatch):
    """It belongs to the whole process: while it is 0, files of other threads are writable for everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    atomic.write_text(tmp_path / "file", "x")
    with atomic.text_stream(tmp_path / "other") as stream:
        stream.write("y")
    assert [(tmp_path / name).read_text() for name in ("file", "other")] == ["x", "y"]


def test_an_unfinished_folder_is_deleted_and_a_finished_one_moved(tmp_path):
    beside, target = tmp_path / ".x.part", tmp_path / "x"
    beside.mkdir()
    (beside / "of a killed process").touch()
    with pytest.raises(IsADirectoryError), atomic.unfinished(beside) as folder:
        folder.write_text("")
    assert not list(tmp_path.iterdir())
    with atomic.unfinished(beside) as folder:
        (folder / "whole").touch()
        atomic.move(folder, target)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["x", "x/whole"]


def test_a_link_stays_one_and_what_is_no_file_stays_what_it_is(tmp_path):
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to("file")
    atomic.write_text(link, "x")
    assert link.is_symlink()
    assert (tmp_path / "file").read_text() == "x"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "file" / "below", Path("/proc/x.html")):
        with pytest.raises(atomic.NotWritten) as fault:
            atomic.write_text(path, "x")
        assert str(path).startswith(fault.value.filename)
    assert pipe.is_fifo()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "link", "pipe"]


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, fault):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def refusing(self, other):
        if self.name == "new":
            raise fault
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(fault), atomic.replaced_folder(target) as fresh:
        (fresh / "new").touch()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    """In a separate process the system refuses files over 1 kB, which acts like a full disk."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "from pathlib import Path; from featherweight import atomic; atomic.write_bytes(Path('file'), b'x' * 100_000)"
    )

    def refuse_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    env = {"PYTHONPATH": str(Path(atomic.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        preexec_fn=refuse_large_files,
        capture_output=True,
        text=True,
    )
    assert "OSError" in done.stderr
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
