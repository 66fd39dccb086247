# ruff: noqa: E501, PT017 - a case is a line
"""Common faults in users' files, each with its one-line message; and readers with random bytes."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydantic import TypeAdapter

from featherweight import config, submission, yaml
from featherweight.config import Competition, load_competition
from featherweight.data import csv_file, pack
from featherweight.data.archive import unpack
from featherweight.data.image import Image
from featherweight.data.safe_arrays import read_idx
from featherweight.data.safe_pickles import read as read_pickle
from featherweight.errors import UserError

CHOOSE = TypeAdapter(Competition.model_fields["source"].rebuild_annotation()).validate_python
IMAGE = Image(size=8, channels=3, mirror=False)


@pytest.fixture
def root(home):
    (home / "data").mkdir()
    return home / "data"


def put(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def png(size=(8, 8)):
    stream = io.BytesIO()
    Pillow.new("RGB", size, "red").save(stream, "PNG")
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def idx(shape, content, kind=8):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def dumped(**content):
    return pickle.dumps(content)


SCALE = "; expected 0 to 255, or 0 to 1: what is black and what is white?\nset source.range: [BLACK, WHITE]"
FOLDERS = {"name": "folders", "path": "d"}
TABLE = {"name": "table", "labels": "l.csv", "images": ["i"]}
PIXELS = {"name": "pixels", "train": "t.csv"}
ARRAYS = {"name": "arrays", "train": "x.npy", "labels": "y.npy"}
NPZ = {"name": "arrays", "train": "a.npz:x", "labels": "a.npz:y"}
IDX = {"name": "idx", "images": "i", "labels": "l"}
PICKLE = {"name": "pickles", "train": ["p"]}
HEAD = ",".join(["label", *(f"p{n}" for n in range(16))])
ROW = ",".join(["a", *["0"] * 16])
X, Y = npy(np.zeros((2, 8, 8, 3), np.uint8)), npy(np.array(["a", "b"]))
DATA = np.zeros((2, 8, 8, 3), np.uint8)
NO_FIT = "ROOT/l.csv does not fit together; repair it, or set source.faults: leave out\n  "

SOURCES = [
    # folders
    (FOLDERS, {}, "there is no data folder ROOT/d: put train/<class>/* and test/* there"),
    ({**FOLDERS, "train": ["one", "two"]}, {}, "there is no data folder ROOT/d: put one/<class>/* and test/* there"),
    (FOLDERS, {"d/x": ""}, "there are no images in ROOT/d/train: expected train/<class>/*.jpg, .png, ..."),
    (FOLDERS, {"d/train/a/notes.txt": ""}, "there are no images in ROOT/d/train: expected train/<class>/*.jpg, .png, ..."),
    (
        FOLDERS,
        {"d/train/1.png": png(), "d/train/2.png": png()},
        "ROOT/d/train/1.png: this image is in no class folder, nor are 1 more; expected train/<class>/1.png",
    ),
    ({**FOLDERS, "valid": "v"}, {"d/train/a/1.png": png()}, "there is no validation folder ROOT/d/v"),
    (
        FOLDERS,
        {"d/train/A/1.png": png()},
        "the image A/1.png has the class 'A', which the competition does not list; did you mean 'a'?",
    ),
    (
        FOLDERS,
        {"d/train/a/1.png": b""},
        "1 of 1 training images cannot be read; repair or remove them, or set image.unreadable: leave out\n"
        "ROOT/d/train/a/1.png: cannot be read as an image (the file is empty)",
    ),
    (
        FOLDERS,
        {"d/train/a/1.png": "<html>"},
        "1 of 1 training images cannot be read; repair or remove them, or set image.unreadable: leave out\n"
        "ROOT/d/train/a/1.png: cannot be read as an image (it is a web page)",
    ),
    # label tables
    (TABLE, {}, "there is no image folder ROOT/i"),
    (TABLE, {"i/1.png": png()}, "cannot read ROOT/l.csv: No such file or directory"),
    (TABLE, {"i/1.png": png(), "l.csv": ""}, "ROOT/l.csv: the file is empty"),
    (TABLE, {"i/1.png": png(), "l.csv": "\n\n,\n"}, "ROOT/l.csv: the file is empty"),
    (
        TABLE,
        {"i/1.png": png(), "l.csv": "id\n1\n"},
        "ROOT/l.csv: row 1: expected a column of ids and one of labels, got 'id'",
    ),
    (TABLE, {"i/1.png": png(), "l.csv": "id,id\n1,a\n"}, "ROOT/l.csv: row 1: there are two columns called 'id'"),
    (TABLE, {"i/1.png": png(), "l.csv": "id,label\n1,a\n2\n"}, "ROOT/l.csv: row 3: expected 2 fields, got 1"),
    (
        TABLE,
        {"i/1.png": png(), "l.csv": "id,label\n1,a,b\n2,a\n3\n"},
        "ROOT/l.csv: row 2: expected 2 fields, got 3, and 1 more rows",
    ),
    (TABLE, {"i/1.png": png(), "l.csv": 'id,label\n1,"a\n'}, "ROOT/l.csv: line 2: not a CSV file (a quote is opened there and never closed)"),
    (TABLE, {"i/1.png": png(), "l.csv": b"id,label\n1,\xe9\n"}, "ROOT/l.csv: line 2: not UTF-8 text (byte 11): it may be Latin-1, or a code page of Windows; save it as UTF-8"),
    (TABLE, {"i/1.png": png(), "l.csv": b"id,label\n1,\0\n"}, "ROOT/l.csv: line 2: not a CSV file (it holds a zero byte)"),
    (
        {**TABLE, "label": "lable"},
        {"i/1.png": png(), "l.csv": "id,label\n1,a\n"},
        "ROOT/l.csv: row 1: there is no column 'lable'; did you mean 'label'?; the columns are id, label",
    ),
    (TABLE, {"i/1.png": png(), "l.csv": "id,label\n2,a\n"}, NO_FIT + "labels without an image (1): 2\n  images without a label (1): i/1.png"),
    (TABLE, {"i/1.png": png(), "l.csv": "id,label\n1,\n"}, NO_FIT + "rows without a label (1): row 2 (1)"),
    (TABLE, {"i/1.png": png(), "l.csv": "id,label\n1,a\n1,b\n"}, NO_FIT + "ids with several labels (1): 1 (a, b)"),
    (
        TABLE,
        {"i/x/1.png": png(), "i/y/1.png": png(), "l.csv": "id,label\n1,a\n"},
        NO_FIT + "ids that could be several files (1): 1\n  images without a label (2): i/x/1.png, i/y/1.png",
    ),
    (
        {**TABLE, "faults": "leave out"},
        {"i/1.png": png(), "l.csv": "id,label\n2,a\n"},
        "ROOT/l.csv: no row has both a label and an image",
    ),
    (
        {**TABLE, "test": ["t", "u"]},
        {"i/1.png": png(), "t/9.png": png(), "u/9.png": png(), "l.csv": "id,label\n1,a\n"},
        "ROOT/t: there are several images to predict called 9",
    ),
    # rows of pixels
    (PIXELS, {}, "there is no file ROOT/t.csv"),
    (PIXELS, {"t.csv": ""}, "ROOT/t.csv: the file is empty"),
    (PIXELS, {"t.csv": f"{HEAD}\n"}, "ROOT/t.csv: there are no rows"),
    (PIXELS, {"t.csv": f"{HEAD[5:]}\n"}, "ROOT/t.csv: row 1: there is no column 'label'; the columns are , " + HEAD[6:].replace(",", ", ")),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW}\n{ROW[:-1]}256\n"}, "ROOT/t.csv: row 3: p15: expected a pixel of 0 to 255, got '256'"),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW[:-1]}-1\n"}, "ROOT/t.csv: row 2: p15: expected a pixel of 0 to 255, got '-1'"),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW[:-1]}x\n"}, "ROOT/t.csv: row 2: p15: expected a pixel of 0 to 255, got 'x'"),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW[:-1]}\n"}, "ROOT/t.csv: row 2: p15: expected a pixel of 0 to 255, got 'nan'"),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW[1:]}\n"}, "ROOT/t.csv: row 2: there is no value in the column 'label'"),
    (PIXELS, {"t.csv": f"{HEAD},p16\n{ROW},0\n"}, "ROOT/t.csv: 17 pixel columns are not those of a square image of 1 or 3 channels"),
    (PIXELS, {"t.csv": f"{HEAD}\n{ROW},1\n"}, "ROOT/t.csv: row 2: expected 17 fields, got 18"),
    # arrays
    (ARRAYS, {}, "there is no file ROOT/x.npy"),
    (ARRAYS, {"x.npy": X}, "there is no file ROOT/y.npy"),
    (ARRAYS, {"x.npy": b"", "y.npy": Y}, "ROOT/x.npy: not an array file (it is empty)"),
    (ARRAYS, {"x.npy": npy(np.zeros(3)), "y.npy": Y}, "x.npy: expected images [N, H, W] or [N, H, W, C], got an array of 3"),
    (ARRAYS, {"x.npy": npy(np.zeros((2, 8, 8, 5))), "y.npy": Y}, "x.npy: expected 1 or 3 channels, got an array of 2x8x8x5"),
    (ARRAYS, {"x.npy": npy(np.full((2, 8, 8), -1)), "y.npy": Y}, "x.npy: pixels go from -1 to -1" + SCALE),
    (ARRAYS, {"x.npy": npy(np.full((2, 8, 8), np.nan)), "y.npy": Y}, "x.npy: pixels go from nan to nan; expected finite numbers"),
    (ARRAYS, {"x.npy": npy(np.full((2, 8, 8), 300.5)), "y.npy": Y}, "x.npy: pixels go from 300.5 to 300.5" + SCALE),
    (ARRAYS, {"x.npy": npy(np.full((2, 8, 8), "a")), "y.npy": Y}, "x.npy: expected numbers, got <U1"),
    (ARRAYS, {"x.npy": npy(np.array([{}]), allow_pickle=True), "y.npy": Y}, "ROOT/x.npy: not an array file (it holds Python objects)"),
    (ARRAYS, {"x.npy": X, "y.npy": npy(np.arange(3))}, "y.npy: 3 labels for 2 images"),
    (ARRAYS, {"x.npy": X, "y.npy": npy(np.array([0.5, 1]))}, "y.npy: the labels are fractions; expected whole numbers or names"),
    (ARRAYS, {"x.npy": X, "y.npy": npy(3 * np.eye(2))}, "y.npy: expected one label per image, got an array of 2x2"),
    (NPZ, {"a.npz": npz(x=DATA)}, "ROOT/a.npz: there is no array 'y'; there are x"),
    ({**NPZ, "train": "a.npz"}, {"a.npz": npz(x=DATA)}, "ROOT/a.npz: name the array, as in a.npz:KEY; there are x"),
    (NPZ, {"a.npz": npz(x=DATA)[:200]}, "ROOT/a.npz: not an array file (File is not a zip file)"),
    # idx
    (IDX, {}, "there is no file ROOT/i"),
    (IDX, {"i": b"", "l": b""}, "ROOT/i: not an idx file (it does not begin with two zero bytes)"),
    (IDX, {"i": b"\x89PNG", "l": b""}, "ROOT/i: not an idx file (it does not begin with two zero bytes)"),
    (IDX, {"i": idx((1, 2, 2), b"1234", 0x0D), "l": b""}, "ROOT/i: an idx file of type 0x0d; expected unsigned bytes (0x08)"),
    (IDX, {"i": bytes([0, 0, 8, 9]), "l": b""}, "ROOT/i: an idx file of 9 dimensions; expected 1 to 4, and their sizes"),
    (IDX, {"i": idx((2, 2, 2), b"123"), "l": b""}, "ROOT/i: says that it holds 2x2x2 bytes, but holds 3"),
    (IDX, {"i": idx((1, 2, 2), b"12345"), "l": b""}, "ROOT/i: says that it holds 1x2x2 bytes, but holds more"),
    (IDX, {"i": idx((2**31, 2**31, 2), b""), "l": b""}, "ROOT/i: says that it holds 2147483648x2147483648x2 bytes, and is too short for that"),
    (IDX, {"i": gzip.compress(idx((1, 2, 2), b"1234"))[:-6], "l": b""}, "ROOT/i: cannot be read (Compressed file ended before the end-of-stream marker was reached)"),
    (IDX, {"i": idx((2, 2, 2), b"12345678"), "l": idx((3,), b"123")}, "ROOT/l: 3 labels for 2 images"),
    # pickles
    (PICKLE, {}, "there is no file ROOT/p"),
    (PICKLE, {"p": b""}, "ROOT/p: not a pickle of arrays (Ran out of input)"),
    (PICKLE, {"p": dumped(data=DATA)[:-30]}, "ROOT/p: not a pickle of arrays (pickle data was truncated)"),
    (PICKLE, {"p": pickle.dumps([1, 2])}, "ROOT/p: expected a pickled dictionary, got list"),
    (PICKLE, {"p": dumped(images=[1])}, "ROOT/p: there is no 'data' in it; there are images"),
    (PICKLE, {"p": dumped(data=DATA)}, "ROOT/p: there are no labels in it; there are data"),
    (PICKLE, {"p": dumped(data=DATA, labels=[1])}, "ROOT/p: labels: 1 labels for 2 images"),
    (PICKLE, {"p": dumped(data=np.zeros((2, 100), np.uint8), labels=[1, 1])}, "ROOT/p: 100 values per image are not those of a square image of 3 channels"),
    (PICKLE, {"p": dumped(data=[[1], [1, 2]], labels=[1, 1])}, "ROOT/p: 'data' is no array: its images have different sizes"),
    (PICKLE, {"p": pickle.dumps(print)}, "ROOT/p: refused: this pickle wants to run builtins.print; nothing in it was run"),
    (PICKLE, {"p": b"cos\nsystem\n(S'true'\ntR."}, "ROOT/p: refused: this pickle wants to run os.system; nothing in it was run"),
    ({**PICKLE, "names": "n"}, {"p": dumped(data=DATA, labels=[0, 5]), "n": dumped(label_names=["a", "b"])}, "ROOT/n: there is no name for the label 5; there are 2"),
    ({**PICKLE, "names": "n"}, {"p": dumped(data=DATA, labels=[0, 1]), "n": dumped(x=1)}, "ROOT/n: there is no 'label_names' in it; there are x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "files", "message"), SOURCES, ids=[f"{row[0]['name']}-{n}" for n, row in enumerate(SOURCES)]
)
def test_data_that_are_not_as_they_should_be(root, source, files, message):
    put(root, files)
    with pytest.raises(UserError) as error:
        pack.load(CHOOSE(source), IMAGE, ["a", "b"])
    assert str(error.value).replace(str(root), "ROOT") == message


GOOD = {
    "title": "T",
    "source": {"name": "folders", "path": "d"},
    "image": {"size": 8, "mirror": True},
    "classes": ["a", "b"],
    "limit": {"parameters": 1000},
}
CONFIGS = [
    ({"sorce": 1}, "FILE:13: sorce: unknown key 'sorce'; did you mean 'source'?"),
    ({"source": "folder"}, "FILE:2: source: there is no 'folder'; did you mean 'folders'?; there are digits, folders, file_names, table, pixels, arrays, pickles, idx, torchvision"),
    ({"source": {"name": "folders"}}, "FILE:2: source.path: this key is missing"),
    ({"source": {"name": "idx", "images": "i", "label": "l"}}, "FILE:5: source.label: unknown key 'label'; did you mean 'labels'?"),
    ({"source": {"name": "torchvision", "dataset": "MNISTT"}}, "FILE:4: source.dataset: must be 'MNIST', 'FashionMNIST', 'KMNIST', 'QMNIST', 'CIFAR10', 'CIFAR100', 'SVHN', 'STL10' or 'USPS', got 'MNISTT'"),
    ({"image": {"size": 3, "mirror": True}}, "FILE:6: image.size: must be greater than or equal to 4, got 3"),
    ({"image": {"size": 8}}, "FILE:5: image.mirror: this key is missing"),
    ({"image": {"size": 8, "mirror": True, "fit": "squash"}}, "FILE:8: image.fit: must be 'stretch', 'crop' or 'pad', got 'squash'"),
    ({"image": {"size": 8, "mirror": True, "channels": 2}}, "FILE:8: image.channels: must be 1 or 3, got 2"),
    ({"classes": ["a"]}, "FILE:8: classes: list should have at least 2 items after validation, not 1"),
    ({"classes": ["a", "a"]}, "FILE: classes named twice: a"),
    ({"metric": "acuracy"}, "FILE:13: metric: there is no 'acuracy'; did you mean 'accuracy'?; there are accuracy, macro_f1, micro_f1, weighted_f1, macro_fbeta, micro_fbeta, samples_f1, samples_fbeta, balanced_accuracy, quadratic_kappa, matthews, log_loss, weighted_log_loss, brier, auc, mean_average_precision, top_k, map_at_k"),
    ({"metric": "auc"}, "FILE: the metric auc is computed from probabilities: set submission.takes: probabilities"),
    ({"submission": {"takes": "probability"}, "classes": ["a", "b", "c"]}, "FILE: submission.takes: one probability is enough only for two classes, but there are 3; set submission.takes: probabilities, one column per class"),
    ({"submission": {"takes": "probability", "positive": "c"}}, "FILE: submission.positive: there is no class 'c'; there are a, b"),
    ({"submission": {"positive": "a"}}, "FILE: submission.positive: only where submission.takes is probability"),
    ({"source": {"name": "folders", "path": "d", "torchvision": "Food101"}}, "FILE:5: source.torchvision: must be 'MNIST', 'FashionMNIST', 'KMNIST', 'QMNIST', 'CIFAR10', 'CIFAR100', 'SVHN', 'STL10' or 'USPS', got 'Food101'"),
    ({"source": {"name": "idx", "images": "i", "labels": "l", "first_id": -1}}, "FILE:6: source.first_id: must be greater than or equal to 0, got -1"),
    ({"submission": {"spelling": {"c": "C"}}}, "FILE: submission.spelling: there is no class 'c'"),
    ({"group": "("}, "FILE:13: group: not a regular expression (missing ), unterminated subpattern at position 0)"),
    ({"limit": {"parameters": -1}}, "FILE:12: limit.parameters: must be greater than or equal to 1, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), CONFIGS, ids=[next(iter(row[0])) + str(n) for n, row in enumerate(CONFIGS)]
)
def test_competition_files_that_are_not_as_they_should_be(tmp_path, change, message):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.dump({**GOOD, **change}))
    with pytest.raises(UserError) as error:
        load_competition(str(path))
    assert str(error.value).replace(str(path), "FILE") == message


ARCHIVES = [
    ("x.zip", zipped(a="1")[:-10], "ROOT/x.zip: cannot be unpacked (File is not a zip file); download it again"),
    ("x.zip", b"", "ROOT/x.zip: cannot be unpacked (File is not a zip file); download it again"),
    (
        "x.tar.gz",
        b"text",
        "ROOT/x.tar.gz: cannot be unpacked (file could not be opened successfully); download it again",
    ),
    ("x.zip", zipped(**{"../a": "1"}), "ROOT/x.zip: refused: '../a' would land outside its folder"),
    ("x.zip", zipped(a=bytes(2000)), "ROOT/x.zip: refused: it unpacks to more than 1,000 bytes"),
]


@pytest.mark.parametrize(("name", "content", "message"), ARCHIVES, ids=range(len(ARCHIVES)))
def test_archives_that_are_not_as_they_should_be(root, name, content, message):
    put(root, {name: content})
    with pytest.raises(UserError) as error:
        unpack(root / name, root / "out", largest=1000)
    assert str(error.value).replace(str(root), "ROOT") == message


def test_there_are_enough_of_them():
    assert len(SOURCES) + len(CONFIGS) + len(ARCHIVES) >= 60


# ------------------------------------------------------------------------------------------------------------- noise

NOISE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@NOISE
@given(st.one_of(st.binary(max_size=300), st.text(alphabet='ab,;\t"\r\n\ufeff1|', max_size=80).map(str.encode)))
def test_any_bytes_are_a_table_or_refused(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    csv_file.beginning(path, 5)
    try:
        table = csv_file.read(path)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert all(len(row) == len(table.header) for row in table.rows)
    assert len(table.numbers) == len(table.rows)


FIELDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


@NOISE
@given(
    st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    st.sampled_from(csv_file.DELIMITERS),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_comes_back_as_it_was_written(tmp_path, rows, delimiter, mark, ending):
    import csv

    rows = [[f"h{n}" for n in range(len(rows[0]))], *rows]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerows(rows)
    (tmp_path / "x.csv").write_bytes((("\ufeff" if mark else "") + text.getvalue()).encode())
    table = csv_file.read(tmp_path / "x.csv", delimiter)
    assert [table.header, *table.rows] == [row for row in rows if any(field.strip() for field in row)]


@NOISE
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda tail: b"\0\0\x08" + tail)), st.booleans())
def test_any_bytes_are_an_idx_file_or_refused(tmp_path, content, packed):
    (tmp_path / "i").write_bytes(gzip.compress(content) if packed else content)
    try:
        array = read_idx(tmp_path / "i")
    except UserError as error:
        assert str(tmp_path) in str(error)
        return
    assert array.dtype == np.uint8


@NOISE
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"\x80\x04" + tail + b".")))
def test_any_bytes_are_a_pickle_or_refused(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    try:
        assert isinstance(read_pickle(tmp_path / "p"), dict)
    except UserError as error:
        assert str(tmp_path) in str(error)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 300), st.floats(), st.sampled_from(["a", "", "folders", "digits"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "path", "size", "mirror", "x", "parameters"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@NOISE
@given(st.dictionaries(st.sampled_from([*Competition.model_fields, "x"]), VALUES, max_size=4))
def test_any_competition_file_loads_or_is_refused(tmp_path, change):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.dump({**GOOD, **change}))
    try:
        competition = config.load_competition(str(path))
    except UserError as error:
        assert str(path) in str(error)
        return
    assert len(competition.classes) >= 2


@NOISE
@given(st.text(max_size=60))
def test_any_text_is_a_competition_file_or_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8", errors="ignore")
    with pytest.raises(UserError, match=r"c\.yaml"):
        config.load_competition(str(path))


@NOISE
@given(st.text(alphabet='Id,Labe\n\r"071cat', max_size=60))
def test_any_text_is_a_submission_or_refused(tmp_path, text):
    path = tmp_path / "s.csv"
    path.write_text(text)
    try:
        given_back = submission.check(path, submission.Form(("Id", "Label"), ["07"], ["cat"]))
    except UserError as error:
        assert str(path) in str(error)
        return
    assert given_back.tolist() == [0]
