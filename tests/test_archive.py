"""Archives: which are unpacked, and which are refused without leaving files behind."""

import io
import stat
import tarfile
import zipfile

import pytest
from filelock import FileLock

from featherweight.data.archive import unpack
from featherweight.errors import UserError


def make_zip(path, members, **changes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


MEMBERS = [("train/a/1.png", b"one"), ("labels.csv", b"id,label\n"), ("__MACOSX/x", b"x"), ("train/.DS_Store", b"x")]


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tgz", "tar", "tar.bz2", "tar.xz"])
def test_every_kind_of_archive(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    if ending == "zip":
        make_zip(path, MEMBERS)
    else:
        make_tar(path, MEMBERS, {"tar": "w", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}.get(ending, "w:gz"))
    unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {"train/a/1.png": b"one", "labels.csv": b"id,label\n"}


def test_archives_inside_archives(tmp_path):
    inner = make_zip(tmp_path / "train.zip", [("train/a/1.png", b"one")]).read_bytes()
    other = make_tar(tmp_path / "t.tar.gz", [("2.png", b"two")]).read_bytes()
    unpack(make_zip(tmp_path / "x.zip", [("train.zip", inner), ("test.tar.gz", other)]), tmp_path / "out")
    assert tree(tmp_path / "out") == {"train/a/1.png": b"one", "test/2.png": b"two"}


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


REFUSED = {
    "up": (lambda p: make_zip(p / "x.zip", [("../evil", b"x")]), "refused: '../evil' would land outside its folder"),
    "deep up": (
        lambda p: make_zip(p / "x.zip", [("a/../../e", b"")]),
        "refused: 'a/../../e' would land outside its folder",
    ),
    "absolute": (
        lambda p: make_zip(p / "x.zip", [("/etc/x", b"x")]),
        "refused: '/etc/x' would land outside its folder",
    ),
    "windows": (lambda p: make_zip(p / "x.zip", [("C:\\x", b"x")]), "refused: 'C:\\x' would land outside its folder"),
    "back": (lambda p: make_zip(p / "x.zip", [("..\\x", b"x")]), "refused: '..\\x' would land outside its folder"),
    "tar up": (lambda p: make_tar(p / "x.tgz", [("../x", b"x")]), "refused: '../x' would land outside its folder"),
    "twice": (lambda p: make_tar(p / "x.tgz", [("a", b"1"), ("a", b"2")]), "refused: it contains 'a' twice"),
    "file and folder": (
        lambda p: make_tar(p / "x.tgz", [("a", b"1"), ("a/b", b"2")]),
        "refused: 'a' is a file and a folder in it",
    ),
    "tar link": (lambda p: make_tar(p / "x.tgz", [(link("l"), b"")]), "refused: 'l' is a link"),
    "hard link": (lambda p: make_tar(p / "x.tgz", [(link("l", tarfile.LNKTYPE), b"")]), "refused: 'l' is a link"),
    "device": (lambda p: make_tar(p / "x.tgz", [(link("l", tarfile.CHRTYPE), b"")]), "refused: 'l' is a device"),
    "zip link": (
        lambda p: make_zip(p / "x.zip", [("l", b"/etc/passwd")], external_attr=(stat.S_IFLNK | 0o777) << 16),
        "refused: 'l' is a link",
    ),
    "bomb": (
        lambda p: make_zip(p / "x.zip", [("z", bytes(2_000_000))]),
        "refused: it unpacks to more than 1,000,000 bytes",
    ),
    "tar bomb": (
        lambda p: make_tar(p / "x.tgz", [("z", bytes(2_000_000))]),
        "refused: it unpacks to more than 1,000,000 bytes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_nothing_left_behind(tmp_path, name):
    make, message = REFUSED[name]
    archive = make(tmp_path)
    inside = tmp_path / "in"
    with pytest.raises(UserError) as error:
        unpack(archive, inside / "out", largest=1_000_000)
    assert str(error.value) == f"{archive}: {message}"
    assert list(inside.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", archive.name]


def locked(path):
    content = bytearray(make_zip(path / "x.zip", [("a", b"secret")]).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (path / "x.zip").write_bytes(content)
    return path / "x.zip"


def test_a_locked_zip(tmp_path):
    with pytest.raises(UserError, match="refused: 'a' is locked with a password"):
        unpack(locked(tmp_path), tmp_path / "out")


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "html"])
def test_broken_archives(tmp_path, ending, how):
    path = tmp_path / f"x.{ending}"
    members = [(f"{n}.png", bytes(range(256)) * 50) for n in range(20)]
    (make_zip if ending == "zip" else make_tar)(path, members)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "cut": content[:middle],
            "flipped": content[: middle - 20]
            + bytes(b ^ 255 for b in content[middle - 20 : middle + 20])
            + content[middle + 20 :],
            "empty": b"",
            "html": b"<html>Please sign in</html>" * 100,
        }[how]
    )
    with pytest.raises(
        UserError, match=r"cannot be unpacked \(.*\); download it again|it is a web page, as a login gives"
    ):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_remains_go_by_their_lock_and_not_by_a_process_number(tmp_path):
    """On a shared disk a process id says nothing: it may be of another machine, or be reused by now."""
    archive = make_zip(tmp_path / "x.zip", [("a", b"1")])
    remains = tmp_path / ".out.part" / "half"
    remains.mkdir(parents=True)
    lock = FileLock(tmp_path / ".out.lock")
    with lock, pytest.raises(UserError, match="another process is unpacking it; nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert remains.exists()
    unpack(archive, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.zip"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(UserError, match="already exists; nothing was unpacked"):
        unpack(make_zip(tmp_path / "x.zip", MEMBERS), tmp_path / "out")
    assert tree(tmp_path / "out") == {"mine": b"mine"}
