# ruff: noqa: E501 - a case is a line
"""More cases of the kinds in `test_hostile`: unusual options, names, formats and settings."""

import gzip
import importlib.util
import io
import lzma
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

import test_hostile
from featherweight.cli.main import main
from featherweight.data import listing
from featherweight.errors import UserError
from test_hostile import CLASSES, DATA, LABELS, NAMES, PICTURES, npy, npz, png, tarred, told, tree, zipped


def twice(name):
    """Return a zip with two members of one name."""
    stream = io.BytesIO(zipped(CLASSES))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(name, b"another")
    return stream.getvalue()


def linking(kind, target):
    """Return a tar with a member that is a link or a device."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in CLASSES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("train/a/x.png")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return stream.getvalue()


WIDE = "\n".join(",".join([*row, *(f"{row[0]}{n}" for n in range(20_000))]) for row in (("id", "label"), ("0", "a")))

# files, the command, words of its message
# What reads it is installed where it is wanted.
PARQUET = "l.parquet: not a Parquet file" if importlib.util.find_spec("pyarrow") else "a Parquet file needs the package"
CASES = [
    # archives
    ({"x.zip": zipped({"../up.png": png()})}, "init x.zip", ""),
    ({"x.zip": zipped({"/etc/up.png": png()})}, "init x.zip", ""),
    ({"x.tar": tarred({"a/../../up.png": png()})}, "init x.tar", ""),
    ({"x.tar.xz": lzma.compress(tarred(CLASSES))[:-30]}, "init x.tar.xz", "cannot be unpacked"),
    ({"x.tgz": gzip.compress(b"no tar")}, "init x.tgz", ""),
    ({"x.zip": b""}, "init x.zip", ""),
    ({"x.7z": b"7z\xbc\xaf\x27\x1c" + bytes(99)}, "init x.7z", "7z x 'x.7z', then init the folder"),
    ({"x.rar": b"Rar!\x1a\x07\x00" + bytes(99)}, "init x.rar", "unrar x 'x.rar', then init the folder"),
    ({"x.zip": b"Rar!\x1a\x07\x00" + bytes(99)}, "init x.zip", "x.zip: cannot be unpacked: it is a RAR archive"),
    ({"x.tar": b"7z\xbc\xaf\x27\x1c" + bytes(99)}, "init x.tar", "it is a 7z archive"),
    ({"x.zip": "\n<!DOCTYPE html><html>sign in"}, "init x.zip", "it is a web page, as a login gives instead of a file"),
    ({"x.zip": '{"code": 403}'}, "init x.zip", "it is an error message in JSON"),
    ({"x.zip": zipped({"a": b"x", "a/b.png": png()})}, "init x.zip", ""),
    # tables
    ({**PICTURES, "l.csv": "id,label\n"}, "init .", ""),
    ({**PICTURES, "l.csv": ""}, "init .", ""),
    ({**PICTURES, "l.csv": LABELS.encode("utf-32")}, "init .", ""),
    ({**PICTURES, "l.csv": LABELS.replace(",a", ",same").replace(",b", ",same")}, "init .", ""),
    # arrays
    ({"a.npz": npz(x=DATA, y=NAMES[:3])}, "init .", ""),
    ({"a.npz": npz(x=DATA * np.nan, y=NAMES)}, "init .", ""),
    ({"x.npy": npy(np.zeros((0, 8, 8), np.uint8)), "y.npy": npy(np.zeros(0, np.uint8))}, "init .", ""),
    ({"train-images-ubyte": b"\0\0\x0d\3" + struct.pack(">III", 2, 2, 2), "train-labels-ubyte": b"\0\0\x08\1\0\0\0\2ab"}, "init .", ""),
    # YAML and settings
    ({"r.yaml": "- a\n- b\n"}, "check r.yaml", ""),
    ({"r.yaml": "42"}, "check r.yaml", ""),
    ({"r.yaml": "extends: r.yaml"}, "check r.yaml", ""),
    ({"r.yaml": "extends: [tiny]"}, "check r.yaml", ""),
    ({"r.yaml": "extends: tiny\ntrain: {epochs: .nan}"}, "check r.yaml", "train.epochs"),
    ({"r.yaml": "extends: tiny\noptimizer: {name: sgd, lr: .inf}"}, "check r.yaml", "lr"),
    ({"r.yaml": "extends: tiny\ntrain: {epochs: 5, epochs: 6}"}, "check r.yaml", ""),
    ({"r.yaml": b"\xff\xfee\0x\0"}, "check r.yaml", ""),
    ({}, "check tiny --set", ""),
    ({}, "check tiny --set =", ""),
    ({}, "check tiny --set train", ""),
    ({}, "check tiny --set train.epochs=", "train.epochs"),
    ({}, "check tiny --set train.epochs=-1", "train.epochs"),
    ({}, "check tiny --set train.epochs=1e400", "train.epochs"),
    ({}, "check tiny --set train.batch_size=99999999999999999999", "train.batch_size"),
    ({}, "check tiny --set seed=-1", "seed"),
    ({}, "check tiny --set image.size=100000", "image.size"),
    ({}, "check tiny --set model.__class__=x", "model"),
    ({}, "check tiny --competition ../../etc/passwd", ""),
    ({}, "check /dev/null", ""),
    ({}, "check .", ""),
    # commands and their options
    ({}, "tiny --seeds 1,,2", "--seeds"),
    ({}, "tiny --seeds a-b", "--seeds"),
    ({}, "tiny --threads 0", "--threads"),
    ({}, "tiny --threads -3", "--threads"),
    ({}, "auto --minutes nan", "minutes"),
    ({}, "auto --minutes inf", "minutes"),
    ({}, "auto --minutes 5 --hours 1", "minutes"),
    ({}, "search fastnet_digits --trials -1", "--trials"),
    ({}, "search fastnet_digits --hours nan", "--hours"),
    ({}, "runs --where lr", "--where"),
    ({}, "runs --where ==", "--where"),
    ({}, "predict nothing .", "nothing"),
    ({}, "export nothing --to safetensors", "nothing"),
    ({"z.zip": zipped({"run.json": b"{}"})}, "load z.zip", ""),
    ({"z.zip": b"PK"}, "load z.zip", ""),
    ({"w.pth": b"\x80\x04."}, "weigh w.pth", ""),
    ({"w.safetensors": struct.pack("<Q", 1 << 60) + b"{}"}, "weigh w.safetensors", ""),
    ({"w.onnx": bytes(50)}, "weigh w.onnx", ""),
    ({"s.csv": "Id,Category\n1\n"}, "score s.csv --competition digits", ""),
    ({"s.csv": b"\0" * 99}, "score s.csv --competition digits", ""),
    ({}, "bundle ../x", ""),
    ({}, "ensemble", ""),
    ({}, "resume", ""),
    ({}, "report \x1b[2J", ""),
    # archives: in archives, twice one name, links, absolute names, devices, other kinds under another name
    ({"x.zip": zipped({"in.zip": zipped({"deep.zip": zipped(CLASSES)})})}, "init x.zip --name n", "still packed"),
    ({"x.zip": twice("train/a/0.png")}, "init x.zip --name n", "it contains 'train/a/0.png' twice"),
    ({"x.tar": linking(tarfile.SYMTYPE, "/etc/passwd")}, "init x.tar --name n", "'train/a/x.png' is a link"),
    ({"x.tar": linking(tarfile.LNKTYPE, "train/a/0.png")}, "init x.tar --name n", "'train/a/x.png' is a link"),
    ({"x.tar": linking(tarfile.CHRTYPE, "")}, "init x.tar --name n", "'train/a/x.png' is a device"),
    ({"x.tar": tarred({**CLASSES, "/abs/x.png": png()})}, "init x.tar --name n", "would land outside its folder"),
    ({"x.tar": tarred({**CLASSES, "train/a/\udce9.png": png()})}, "init x.tar --name n", "is no letter of a name"),
    ({"x.zip": tarred(CLASSES, "w:xz")}, "init x.zip --name n", "x.zip: cannot be unpacked"),
    # files that are recipes in another language, or nearly
    ({"r.json": "{}"}, "check r.json", "a recipe is a YAML file, called r.yaml"),
    ({"r.toml": "[model]"}, "check r.toml", "a recipe is a YAML file, called r.yaml"),
    ({"r.yaml": '[model]\nname = "tiny"\n'}, "check r.yaml", "r.yaml:2: not valid YAML"),
    ({"r.yaml": "model: tiny\nmodel: tiny\n"}, "check r.yaml", "found duplicate key"),
    ({"r.yaml": "extends: tiny\ntrain: &t {epochs: 3}\npredict: *t\n"}, "check r.yaml", "unknown key 'epochs'"),
    ({"a.yaml": "extends: ./b.yaml\n", "b.yaml": "extends: ./a.yaml\n"}, "check a.yaml", "a extends itself"),
    ({"r.yaml/x": "1"}, "check r.yaml", "r.yaml"),
    # numbers as YAML reads them
    ({}, "check tiny --set optimizer.lr=1e999", "must be a finite number, got inf"),
    ({}, "check tiny --set train.epochs=3.0", "must be a valid integer, got 3.0"),
    ({}, "check tiny --set train.epochs=yes", "must be a valid integer, got 'yes'"),
    ({}, "check tiny --set seed=99999999999999999999", "must be less than or equal to"),
    ({}, "check tiny --set split.holdout=-0.0", "must be greater than 0"),
    ({}, "check tiny --set =3", "expected key=value"),
    # tables and folders that tell nothing
    ({**PICTURES, "l.csv": "id\n1\n2\n"}, "init .", "nothing that tells their classes"),
    ({f"train/a/{n}.png": png() for n in range(9)}, "init .", "nothing that tells their classes"),
    ({**PICTURES, "l.xlsx": zipped({"xl/workbook.xml": "<x/>"})}, "init .", "l.xlsx: spreadsheets are not read here: save it as CSV"),
    ({**PICTURES, "l.parquet": b"PAR1" + bytes(99) + b"PAR1"}, "init .", PARQUET),
    ({**PICTURES, "l.csv": WIDE}, "init .", "both name images, and not the same ones"),
    ({}, "weigh /dev/null", "it is a device, no regular file"),
]  # fmt: skip


# Files that are told apart from pictures and tables, or taken for what they are: what `init` says of them.
TAKEN = [
    ({**CLASSES, "__MACOSX/train/a/._0.png": b"\0\5", "train/a/Thumbs.db": b"x", "train/a/._1.png": b"x"}, "18 labelled"),
    ({**CLASSES, "train/a/x.heic": b"\0\0\0\x18ftypheic", "train/a/y.svg": b"<svg/>"}, "18 labelled"),
    ({**CLASSES, "train/a/x.heic": b"1", "train/b/x.HEIC": b"1"}, "left out: 2 .heic (HEIC photographs, which are not read here"),
    ({**CLASSES, "train/e\u0301/1.png": png(), "train/\xe9/1.png": png()}, "perhaps one written in two ways: 'e\\u0301' and '\\xe9'"),
    ({**CLASSES, "train/cat/1.png": png(), "train/Cat /1.png": png()}, "perhaps one written in two ways: 'Cat ' and 'cat'"),
    ({**CLASSES, "train/\u202egpj/1.png": png()}, "classes with letters that cannot be seen: '\\u202egpj'"),
    ({name.replace(".png", ".PNG"): content for name, content in CLASSES.items()}, "18 labelled"),
    ({**PICTURES, "l.csv": "\ufeff" + LABELS}, "9 labelled images of 2 classes (5 of 'a' to 4 of 'b')"),
    ({**PICTURES, "l.csv": LABELS.replace(",", "\t")}, "9 labelled images of 2 classes (5 of 'a' to 4 of 'b')"),
    ({**PICTURES, "l.csv": LABELS.replace(",", ";")}, "9 labelled images of 2 classes (5 of 'a' to 4 of 'b')"),
    ({**PICTURES, "l.csv": LABELS.replace(",a", ",nan").replace(",b", ",None")}, "(5 of 'nan' to 4 of 'None')"),
    ({**PICTURES, "l.csv": LABELS.replace(",a", ",True").replace(",b", ",False")}, "(5 of 'True' to 4 of 'False')"),
    ({**PICTURES, "l.csv": LABELS + "0,b\n"}, "since 1 of 9 have rows of different classes, as 0 (pass --target one)"),
    ({f"train/{name}/{n}.png": png() for name in ("yes", "no", "null", "1e3", "~") for n in range(3)}, "15 labelled images of 5"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "words"), TAKEN, ids=range(len(TAKEN)))
def test_odd_files_are_taken_for_what_they_are(home, tmp_path, monkeypatch, files, words, capsys):
    inside = tmp_path / "given"
    inside.mkdir()
    monkeypatch.chdir(inside)
    test_hostile.put(files)
    assert main(["init", ".", "--name", "n"]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(("files", "line", "words"), CASES, ids=[f"{n}-{case[1][:30]}" for n, case in enumerate(CASES)])
def test_one_message_and_nothing_left(home, tmp_path, monkeypatch, files, line, words):
    inside = tmp_path / "given"
    inside.mkdir()
    monkeypatch.chdir(inside)
    test_hostile.put(files)
    before = tree(inside)
    code, err, seconds = told(line.split(" "))
    assert code == 2, err
    assert words in err.replace(f"{inside}/", "")
    assert "error: " in err
    assert err.count("\n") <= 5
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert seconds < test_hostile.LONGEST
    assert tree(inside) == before
    left = [
        name for name in tree(home) if name not in (*test_hostile.FOLDERS, "studies") and not name.endswith(".lock")
    ]
    assert left == []


def test_utf_8_names_read_as_something_else_are_told_apart(home, tmp_path, monkeypatch):
    """If the locale is not UTF-8, Python reads each byte of such a name as a surrogate character."""
    name = "é.png".encode().decode("ascii", "surrogateescape")
    monkeypatch.setattr(listing.os, "walk", lambda *given, **more: [(str(tmp_path), [], [name])])
    with pytest.raises(UserError, match=r"'?\\xc3\\xa9.png, are UTF-8 text, and Python was told .* set PYTHONUTF8=1"):
        listing.walk(tmp_path)
