# ruff: noqa: E501 - a case is a line
"""Hostile input for the command line: each gets one message and an exit code, and leaves no files behind.

A case makes files in an empty folder and states the command, its exit code and words of its message. All cases of a
table run through `main` in one process with limited memory.
"""

import bz2
import contextlib
import errno
import gzip
import io
import os
import pickle
import shutil
import socket
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from featherweight.cli.main import main
from featherweight.config import load_competition
from featherweight.data.listing import walk
from featherweight.errors import UserError

FOLDERS = ("runs", "runs/.new", "data", "submissions", "configs", "configs/competitions")  # may be made, to be empty
LONGEST = 20  # seconds of the processor that one command takes at most; most take a tenth of one


def png(size=(8, 8), color="red"):
    stream = io.BytesIO()
    Pillow.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def declaring(width, height):
    """Return a PNG of a few bytes whose header states this size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text):
    """Return a .npy file with this header and no values."""
    raw = text.encode().ljust(118 - 10) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw


def zipped(members, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(members, mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def idx(shape, content=b""):
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


CLASSES = {f"train/{name}/{n}.png": png(color=color) for name, color in (("a", "red"), ("b", "blue")) for n in range(9)}
PICTURES = {f"images/{n}.png": png() for n in range(9)}
LABELS = "id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(9))
TAR = tarred(CLASSES)
BORDER = 512 * 2 * 9  # after the ninth of its members, which take two blocks each
DATA = np.zeros((6, 8, 8, 3), np.uint8)
NAMES = np.array(["a", "b"] * 3)


def long_name(size=3 << 30):
    """Return a compressed tar whose first header announces a name of this size, which is all zeros."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(info.tobuf(tarfile.GNU_FORMAT)) + packer.compress(bytes(1 << 24)) + packer.flush()


def sparse():
    info = tarfile.TarInfo("big")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398], block[398:410] = b"77777777777\0", b"00000000000\0"
    block[483:495] = b"77777777777\0"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 8 * 32)
    return bytes(block) + bytes(1024)


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def bomb(gigabytes=64):
    """Return a small .npz whose array has this size, according to its header and the archive's directory."""
    head = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': (6, {gigabytes << 12}, 32768), }}")
    return swollen(zipped({"x.npy": head + bytes(1 << 22), "y.npy": npy(NAMES)}), 0xFFFFFFFE)


def swollen(archive, size):
    """Return the same zip, with a directory that states this unpacked size for the first member."""
    place = archive.index(b"PK\x01\x02") + 24
    return archive[:place] + struct.pack("<I", size) + archive[place + 4 :]


TOO_DEEP = "[" * 3000 + "]" * 3000
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

# files (or a function of the folder that makes them), the command, its exit code, words of its message
INIT = [
    # archives
    ({"x.tar": TAR[:BORDER]}, "init x.tar", "x.tar: cannot be unpacked (it is cut short: the mark of its end is missing)"),
    ({"x.tar": TAR[: BORDER + 200]}, "init x.tar", "cut short"),
    ({"x.tar": TAR[:BORDER] + bytes(512)}, "init x.tar", ""),
    ({"x.tar.gz": long_name()}, "init x.tar.gz", "x.tar.gz: cannot be unpacked"),
    ({"x.tar": sparse()}, "init x.tar", "x.tar: cannot be unpacked"),
    ({"x.zip": zipped({".": b"x", **CLASSES})}, "init x.zip", "it contains a file called '.', which is not a valid name"),
    ({"x.zip": zipped({"a/b\x1b[2J.png": png()})}, "init x.zip", "which is no letter of a name"),
    ({"x.zip": zipped({f"train/a/{'n' * 250}.png": png()})}, "init x.zip", "is longer than a file's may be"),
    ({"x.zip": swollen(zipped({"z": bytes(1 << 20)}), 2 << 30)}, "init x.zip", "it unpacks to more than"),
    ({"x.tar.bz2": bz2.compress(TAR)[:-20]}, "init x.tar.bz2", "cannot be unpacked"),
    ({"x.zip": zipped({"train.zip": zipped(CLASSES)[:-30]})}, "init x.zip", "x.zip: train.zip in it: cannot be unpacked"),
    ({"x.zip": b"PK\x05\x06" + bytes(18)}, "init x.zip", ""),
    # tables
    ({**PICTURES, "l.csv": LABELS.replace(",a", ",ä").encode("latin-1")}, "init .", "l.csv: line 2: not UTF-8 text (byte 11): it may be Latin-1"),
    ({**PICTURES, "l.csv": LABELS.encode("utf-16-le")}, "init .", "it looks like UTF-16 without its mark"),
    ({**PICTURES, "l.csv": LABELS.replace("3,b", "3,b,c")}, "init .", "l.csv: row 5: expected 2 fields, got 3"),
    ({**PICTURES, "l.csv": LABELS.replace("3,b", '3,"b')}, "init .", "l.csv: line 5: not a CSV file (a quote is opened there and never closed)"),
    ({**PICTURES, "l.csv": LABELS.replace("3,b", "3,\0")}, "init .", "l.csv: line 5: not a CSV file (it holds a zero byte)"),
    ({**PICTURES, "l.csv": LABELS.replace("id,label", "id,id")}, "init .", "l.csv: row 1: there are two columns called 'id'"),
    ({**PICTURES, "l.csv": LABELS.replace("3,b", f"3,{'b' * 200_000}")}, "init .", "l.csv: line 5: not a CSV file (a field there is longer than 131,072 letters"),
    # arrays
    ({"a.npz": npz(x=DATA, y=NAMES)[:-40]}, "init .", "a.npz: not an array file"),
    ({"a.npz": flipped(npz(x=DATA, y=NAMES), 300)}, "init . --name n", "a.npz: not an array file (Bad CRC-32"),
    ({"a.npz": bomb()}, "init .", "of memory, but only"),
    ({"x.npy": header("{'descr': '|u1', 'fortran_order': False, 'shape': (9, 8, 8), } (")}, "init .", "x.npy: not an array file"),
    ({"x.npy": header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 99999, 8), }"), "y.npy": npy(np.zeros(99999999, np.uint8))}, "init .", "x.npy: "),
    ({"train_x.npy": npy(DATA), "train_y.npy": npy(np.array([b"\xe9", b"b"] * 3))}, "init .", "the label b'\\xe9' is not UTF-8 text"),
    ({"train_x.npy": npy(np.array([{}], object), allow_pickle=True)}, "init .", "it holds Python objects"),
    ({"train-images-ubyte.gz": gzip.compress(idx((2**31, 2**11, 2)) + bytes(9999)), "train-labels-ubyte": idx((2,), b"12")}, "init .", "train-images-ubyte.gz: says that it holds"),
    ({"train-images-ubyte.gz": gzip.compress(idx((6, 8, 8), bytes(384)))[:-4], "train-labels-ubyte": idx((6,), b"121212")}, "init .", "train-images-ubyte.gz: cannot be read"),
    ({"data_batch_1": pickle.dumps({"data": DATA, "labels": [0] * 6})[:-9]}, "init .", "data_batch_1: not a pickle of arrays"),
    ({"data_batch_1": b"\x80\x02Nr\xff\xff\xff\x7f."}, "init .", "data_batch_1: reading it takes more memory"),
    ({"data_batch_1": b"\x80\x04}(\x8c\x04data\x8e" + struct.pack("<Q", 1 << 50) + b"abu."}, "init .", "data_batch_1: "),
    # names and folders
    ({b"train/a/caf\xe9.png": png(), **CLASSES}, "init .", "the names of 1 image are not UTF-8 text, for example a/caf\\xe9.png; rename"),
    ({b"train/caf\xe9/1.png": png(), **CLASSES}, "init .", "are not UTF-8 text"),
    ({}, "init .", "cannot tell what this is; it holds nothing"),
    ({}, "init nowhere", "there is no folder or archive nowhere"),
    (CLASSES, f"init . --name {'n' * 250}", "expected 150 letters or fewer"),
    (CLASSES, "init . --name ../up", "expected a plain name"),
]  # fmt: skip

RUNS = [
    # YAML
    ({"r.yaml": LAUGHS}, "check r.yaml", "refused: with all its aliases it has more than 200,000 values"),
    ({"r.yaml": f"x: {TOO_DEEP}"}, "check r.yaml", "3,000 nested brackets"),
    ({"r.yaml": "x: !!python/object/apply:os.system [ls]"}, "check r.yaml", "refused: the tag"),
    ({"r.yaml": "x: !!omap [a: 1]"}, "check r.yaml", "only plain values are read"),
    ({"r.yaml": "? [1, 2]\n: 3"}, "check r.yaml", "a key is a list or a section"),
    ({"r.yaml": "x: &a {<<: *a}"}, "check r.yaml", "not valid YAML"),
    ({"r.yaml": "a: &a {b: 1}\nx: {<<: *a}"}, "check r.yaml", "unknown key 'a'"),
    ({"r.yaml": "<<: 3"}, "check r.yaml", "not valid YAML"),
    ({"r.yaml": bytes(2 << 20)}, "check r.yaml", "2,097,152 bytes, and at most 1,048,576 are allowed"),
    ({}, f"check tiny --set x={TOO_DEEP}", "3,000 nested brackets"),
    # numbers
    ({}, "check wrn16_4 --set model.width=1e9", "model.width: must be less than or equal to 1000"),
    (
        {},
        "check tiny --set model.name=efficientnet --set model.resolution=1e-9",
        "model.resolution: 1e-09 leaves no pixel of images of 8 px",
    ),
    ({}, "check tiny --set model.name=fpn --set model.levels=99", "has only 5 maps"),
    ({}, "check wrn16_4 --set model.depth=1000000", "it has more than 10,000 layers: choose a smaller depth"),
    ({}, f"check tiny --set train.epochs={'9' * 400}", "train.epochs: must be less than or equal to 1000000"),
    ({}, f"check tiny --set train.epochs={'9' * 5000}", "not valid YAML"),
    ({}, "tiny --seeds 0-1000000000", "--seeds 0-1000000000: expected 1,000 seeds or fewer"),
    ({}, "tiny --seeds 5-1", "expected seeds as in 0-4"),
    ({}, "tiny --folds 100000", "--folds 100000: expected 2 to 1,000"),
    ({}, "tiny --threads 1000000", "--threads 1000000: expected 1,024 at the most"),
    ({}, "auto --minutes 5 --threads 0", "--threads 0: expected 1 or more"),
    ({}, "auto --minutes 5 --threads 1000000000", "expected 1,024 at the most"),
    ({}, "logbook a --threads -1", "--threads -1: expected 1 or more"),
    ({}, "search fastnet_digits --trials 10000000000", "--trials 10000000000: expected 1 to 1,000,000"),
    ({}, "search fastnet_digits --hours 1e308", "--hours 1e+308: expected more than 0 and less than 100,000"),
    ({}, "fill wrn --max-macs nan", "--max-macs: expected a number above 0"),
    (
        {},
        "fill wrn --max-macs 300",
        "300 multiply-adds are too few for any network; millions are written with an M, as 300M",
    ),
    ({}, "weigh timm/x --max-macs 9.9k", "9.9k multiply-adds are too few for any network; millions are written with"),
    ({}, "fill wrn --max-macs 1e308", "--max-macs: expected at most 1e+15, got 1e+308"),
    ({}, "fill wrn --limit 1e308", "--limit: expected at most 1e+15"),
    ({}, "fill wrn --count 0", "--count: expected a number above 0"),
    ({}, "models wrn --count -1", "--count: expected a number above 0"),
    ({}, "leaderboard x --top 1e9", "--top: expected at most 1,000,000, got 1,000,000,000"),
    ({}, "tiny --procs 100000", "--procs 100000: expected 256 at the most"),
    ({}, "tiny --device meta", "--device meta: expected auto or one of cpu, cuda, mps"),
    ({}, "tiny --set split.subset=1", "split.subset: must be greater than or equal to 2"),
    ({}, "tiny --set split.subset=3", "split.holdout: 0.1 of 3 images holds out none"),
    ({}, f"tiny --name {'n' * 250}", "expected 150 letters or fewer, got 250"),
    ({}, f"tiny --name {'é' * 100}", "expected 150 bytes or fewer, got 200"),
    ({}, "tiny --name a\x1b[2Jb", "expected a plain name"),
    ({}, "tiny --name .hidden", "expected a plain name"),
    ({"runs": ""}, "tiny --name x", "cannot write in"),
]


def put(files):
    for name, content in files.items():
        path = Path(os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def told(words):
    """Run the command; return its exit code, its stderr and its processor seconds."""
    began = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
    return code, err.getvalue(), time.process_time() - began


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(("files", "line", "words"), INIT + RUNS, ids=[f"{n}" for n in range(len(INIT + RUNS))])
def test_one_message_and_nothing_left(home, tmp_path, monkeypatch, files, line, words):
    inside = tmp_path / "given"
    inside.mkdir()
    monkeypatch.chdir(inside)
    put(files)
    if "runs" in files:
        (home / "runs").write_text("in the way")
    before = tree(inside)
    code, err, seconds = told(line.split(" "))
    assert code == 2, err
    assert words in err.replace(f"{inside}/", "")
    assert err.startswith("error: ")
    assert err.count("\n") <= 5
    assert "Traceback" not in err
    assert seconds < LONGEST
    assert tree(inside) == before
    assert [name for name in tree(home) if name not in FOLDERS and not name.endswith(".lock")] == []


# ------------------------------------------------------------------------------------------- own files, damaged


def torch_saved(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


# a file of a finished run, what stands in it now, the command, its exit code, words of its message
DAMAGED = [
    ("run.json", b"{}", "report first", 2, "run.json: the file is damaged"),
    ("run.json", b"\xff\xfe", "resume first", 2, "run.json: not UTF-8 text"),
    ("run.json", b"[1]", "report first", 2, "run.json: the file is damaged"),
    ("split.json", b'{"train": 3}', "report first", 2, "split.json: the file is damaged"),
    ("split.json", b"{", "resume first", 2, "split.json: the file is damaged"),
    ("history.csv", b"", "report first", 2, "history.csv: the file is damaged"),
    ("history.csv", b"a,b\n1,2,3\n4\n", "resume first", 2, "history.csv: the file is damaged"),
    ("history.csv", b"epoch,lr\n1,2\n", "report first", 2, "history.csv: the file is damaged"),
    ("temperature.txt", b"nan", "report first", 2, "temperature.txt: the file is damaged"),
    ("temperature.txt", b"nan", "export first --to script", 2, "temperature.txt: the file is damaged"),
    ("decision.json", b"[1]", "predict first digits", 2, "decision.json: the file is damaged"),
    ("decision.json", b'{"kind": "cut", "values": []}', "predict first digits", 2, "decision.json: the file is damaged; delete it, and"),
    ("leaderboard.json", b"{}", "report first", 2, "leaderboard.json: the file is damaged; delete it to continue without it"),
    ("result.json", b"{}", "report first", 2, "result.json: the file is damaged"),
    ("result.json", b"{", "report first", 2, "delete it, and ./run.sh resume first scores it again"),
    ("result.json", b'{"holdout": 3}', "report first", 2, "delete it, and ./run.sh resume first scores it again"),
    ("groups.json", b"[1]", "report first", 2, "groups.json: the file is damaged; delete it to continue without it"),
    ("soup.json", b"{", "report first", 2, "soup.json: the file is damaged; restore it from a copy, or start a new run"),
    ("recipe.yaml", b"model: {", "resume first", 2, "recipe.yaml"),
    ("competition.yaml", b"\x00", "resume first", 2, "competition.yaml"),
    ("weights.safetensors", b"weights", "resume first", 2, "weights.safetensors: these weights do not fit the recipe"),
    ("weights.safetensors", b"weights", "bundle first", 2, "weights.safetensors: these weights do not fit the recipe"),
    ("weights.safetensors", b"\xff" * 8 + b"{}", "resume first", 2, "weights.safetensors: these weights do not fit"),
    ("holdout_probs.npy", b"", "resume first", 0, "computed again from the weights"),
    ("predict_probs.npy", npy(np.zeros((3, 3))), "resume first", 0, "computed again from the weights"),
    ("checkpoint.pt", torch_saved({"step": 3}), "resume first", 2, "checkpoint.pt: this checkpoint is damaged, or of another version; delete it to train anew"),
    ("checkpoint.pt", zipped({"x/data.pkl": b"x"}), "resume first", 2, "checkpoint.pt: this checkpoint is damaged"),
]  # fmt: skip


@pytest.mark.some(2)
@pytest.mark.parametrize(("name", "content", "line", "wanted", "words"), DAMAGED, ids=[f"{n}-{row[0]}" for n, row in enumerate(DAMAGED)])  # fmt: skip
def test_own_files_damaged(home, finished, name, content, line, wanted, words, capsys):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    folder = home / "runs" / "first"
    before = {path.name: path.read_bytes() for path in folder.glob("*.np*")}
    (folder / name).write_bytes(content)
    if name == "checkpoint.pt":
        (folder / "weights.safetensors").unlink()
        (folder / "result.json").unlink()
    assert main(line.split(" ")) == wanted
    out, err = capsys.readouterr()
    assert words in (out if wanted == 0 else err)
    assert "Traceback" not in err
    assert err.count("\n") <= 5
    assert (folder / "run.json").exists()
    if wanted == 0:
        assert {path.name: path.read_bytes() for path in folder.glob("*.np*")} == before


# What `submit first` says, and that it has sent something only where what is damaged has no part in it.
SUBMITTED = [
    ("runs/first/run.json", b"{}", 2, "run.json: the file is damaged"),
    ("runs/first/recipe.yaml", b"model: {", 2, "recipe.yaml"),
    ("runs/first/weights.safetensors", b"weights", 2, "weights.safetensors: these weights do not fit the recipe"),
    ("submissions/first.csv", b"", 2, "first.csv --competition"),
    ("submissions/first.csv", b"Id,Category\n1,\xff\n", 2, "first.csv is not what first wrote"),
    ("submissions/ledger.csv", b"", 2, "ledger.csv: row 1: this is not a ledger"),
    ("submissions/ledger.csv", b"date,run\n\"", 2, "ledger.csv: row 2: expected 2 fields, got 1"),
    ("configs/competitions/ours.yaml", b"kaggle: [", 0, ""),  # as the run has it
    ("runs/first/result.json", b"{", 0, ""),
    ("runs/first/history.csv", b"", 0, ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "wanted", "words"), SUBMITTED, ids=[f"{n}-{row[0]}" for n, row in enumerate(SUBMITTED)])  # fmt: skip
def test_submit_with_own_files_damaged(home, finished, fake_kaggle, name, content, wanted, words):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    (home / name).write_bytes(content)
    code, err, _ = told(["submit", "first"])
    assert code == wanted, err
    assert words in err
    assert "Traceback" not in err
    assert err.count("\n") <= 5
    assert len(fake_kaggle.submissions) == (wanted == 0)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n", b'date,run\n"'])
def test_a_damaged_ledger_is_found_before_anything_is_trained(home, content, capsys):
    (home / "submissions").mkdir()
    (home / "submissions" / "ledger.csv").write_bytes(content)
    assert main(["tiny", "--name", "x"]) == 2
    said = capsys.readouterr()
    assert "epoch 1/" not in said.out
    assert "ledger.csv" in said.err
    assert not (home / "runs" / "x").exists()


def folder_competition(home, **files):
    """Make a competition of two class folders in the workspace; return the folder too."""
    folder = home / "data" / "d"
    for name, content in {**CLASSES, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "c.yaml").write_text(
        "title: T\nsource: {name: folders, path: d}\nimage: {size: 8, mirror: true}\nclasses: [a, b]\n"
        "limit: {parameters: 5000000}\n"
    )
    return folder


@pytest.mark.parametrize("name", ["images.npy", "pack.json", "note"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY\x01\x00", b"\xff\xfe"])
def test_a_damaged_pack_is_made_again(home, capsys, name, content):
    folder_competition(home)
    competition = load_competition("c")
    before = np.array(competition.load().train.images)  # a copy: the file is cut under its map
    packs = home / "data" / ".packs"
    found = [path for path in packs.rglob("*") if path.name == name or (name == "note" and path.suffix == ".json" and path.parent == packs)]  # fmt: skip
    assert found
    for path in found:
        path.write_bytes(content)
    for _ in range(2):
        assert (np.asarray(competition.load().train.images) == before).all()
    assert capsys.readouterr().out.count("packed again") == (0 if name == "note" else 1)


# ------------------------------------------------------------------------------------------------- special files


def special(kind, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    else:
        path.symlink_to({"zero": "/dev/zero", "broken": "nowhere", "loop": path.name, "folder": "/"}[kind])


KINDS = {
    "fifo": "it is a FIFO",
    "socket": "it is a socket",
    "zero": "it is a device",
    "broken": "No such file or directory",
    "loop": "Too many levels of symbolic links",
}


@pytest.mark.parametrize("kind", KINDS)
def test_special_pictures_are_never_opened(home, kind, capsys):
    folder = folder_competition(home)
    special(kind, folder / "train" / "a" / "x.png")
    assert main(["init", str(folder), "--name", "other"]) == 0  # it looks at a few, and says that they cannot be read
    competition = load_competition("c")
    with pytest.raises(UserError, match=KINDS[kind]):
        competition.load()
    assert len(load_competition("c", ["image.unreadable=leave out"]).load().train) == 18
    assert main(["inspect", "c"]) == 2
    assert KINDS[kind] in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["fifo", "socket", "zero"])
@pytest.mark.parametrize(
    "name", ["l.csv", "a.npz", "x.npy", "train-ubyte", "data_batch_1", "y.tar.gz", "z.zip", "r.yaml"]
)
def test_special_files_of_other_kinds_are_never_opened(home, tmp_path, monkeypatch, kind, name):
    inside = tmp_path / "given"
    monkeypatch.chdir(tmp_path)
    special(kind, inside / name)
    for line in ("init given", f"init given/{name}", f"check given/{name}", f"score given/{name}", f"tiny --competition given/{name}"):  # fmt: skip
        code, err, seconds = told(line.split(" "))
        assert (code, "Traceback" in err) == (2, False), (line, err)
        assert seconds < LONGEST


def test_a_folder_that_may_not_be_read(home, monkeypatch):
    folder = folder_competition(home)
    scan = os.scandir

    def refused(path):  # root may read all, so the refusal is the system's in word alone
        if str(path).endswith("train/b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"cannot read the folder .*/train/b: Permission denied"):
        walk(folder / "train")


def test_columns_and_classes_of_one_name_are_refused(home):
    folder_competition(home)
    with pytest.raises(UserError, match=r"submission.label: 'id' is already the name of the column of ids"):
        load_competition("c", ["submission.label=id"])
    with pytest.raises(UserError, match=r"submission.spelling: 'a' and 'b' would both be written 'x'"):
        load_competition("c", ["submission.spelling={a: x, b: x}"])


def test_the_next_command_repeats_the_changes(home, capsys):
    assert main(["check", "tiny", "--set", "train.epochs=3", "--seed", "4"]) == 0
    assert "next: ./run.sh tiny --competition digits --set train.epochs=3 --seed 4\n" in capsys.readouterr().out
