# ruff: noqa: E501 - a case is a line
"""Other members of the kinds in `test_hostile`: options, names, formats and settings that nobody means."""

import gzip
import lzma
import struct

import numpy as np
import pytest

import test_hostile
from test_hostile import CLASSES, DATA, LABELS, NAMES, PICTURES, npy, npz, png, tarred, told, tree, zipped

# files, the command, words of its message
CASES = [
    # archives
    ({"x.zip": zipped({"../up.png": png()})}, "init x.zip", ""),
    ({"x.zip": zipped({"/etc/up.png": png()})}, "init x.zip", ""),
    ({"x.tar": tarred({"a/../../up.png": png()})}, "init x.tar", ""),
    ({"x.tar.xz": lzma.compress(tarred(CLASSES))[:-30]}, "init x.tar.xz", "cannot be unpacked"),
    ({"x.tgz": gzip.compress(b"no tar")}, "init x.tgz", ""),
    ({"x.zip": b""}, "init x.zip", ""),
    ({"x.7z": b"7z\xbc\xaf\x27\x1c" + bytes(99)}, "init x.7z", ""),
    ({"x.rar": b"Rar!\x1a\x07\x00" + bytes(99)}, "init x.rar", ""),
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
]  # fmt: skip


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
