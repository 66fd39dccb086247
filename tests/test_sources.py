"""Sources: every layout of data, made here from generated images, is listed and packed."""

import bz2
import collections
import gzip
import hashlib
import pickle
import struct
import typing
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image as Pillow
from pydantic import TypeAdapter

from featherweight.config import Competition
from featherweight.data import pack
from featherweight.data.image import Image
from featherweight.data.sources import SOURCES
from featherweight.data.sources.torchvision import Named
from featherweight.errors import UserError

CHOOSE = TypeAdapter(Competition.model_fields["source"].rebuild_annotation()).validate_python
GREY = Image(size=8, channels=1, mirror=False)
COLOUR = Image(size=8, channels=3, mirror=False)


@pytest.fixture
def root(home):
    (home / "data").mkdir()
    return home / "data"


def picture(path: Path, value: int, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size, (value, value, value)).save(path)


def load(source, classes=("a", "b"), image=COLOUR):
    return pack.load(CHOOSE(source), image, classes)


def means(part):
    return {id: round(float(pixels.mean())) for id, pixels in zip(part.ids, part.images, strict=True)}


def named(part, classes=("a", "b")):
    return {id: classes[label] for id, label in zip(part.ids, part.labels, strict=True)}


# ------------------------------------------------------------------------------------------------------------ folders


def test_folders_at_any_depth_with_validation_and_flat_test(root):
    picture(root / "d/train/a/1.png", 10)
    picture(root / "d/train/a/more/deep/2.jpg", 20)
    picture(root / "d/train/b/1.png", 30)
    picture(root / "d/train/.hidden/3.png", 30)
    picture(root / "d/train/b/._1.png", 30)
    (root / "d/train/b/Thumbs.db").write_bytes(b"no image")
    picture(root / "d/valid/b/9.png", 40)
    picture(root / "d/test/x.png", 50)
    source = {"name": "folders", "path": "d", "valid": "valid"}
    data = load(source)
    assert named(data.train) == {"a/1.png": "a", "a/more/deep/2.jpg": "a", "b/1.png": "b"}
    assert means(data.train) == {"a/1.png": 10, "a/more/deep/2.jpg": 20, "b/1.png": 30}
    assert named(data.valid) == {"b/9.png": "b"}
    assert means(data.predict) == {"x.png": 50}
    assert data.predict.labels is None
    assert pack.answers(CHOOSE(source)) is None


def test_test_folders_called_as_the_classes_are_answers(root):
    for part in ("train", "test"):
        picture(root / f"d/{part}/a/1.png", 10)
        picture(root / f"d/{part}/b/1.png", 30)
    assert pack.answers(CHOOSE({"name": "folders", "path": "d"})) == {"a/1.png": "a", "b/1.png": "b"}
    picture(root / "d/test/unknown/1.png", 30)
    assert pack.answers(CHOOSE({"name": "folders", "path": "d"})) is None


def test_a_link_that_leads_back_up_ends(root):
    picture(root / "d/train/a/1.png", 10)
    (root / "d/train/a/again").symlink_to(root / "d/train")
    assert len(load({"name": "folders", "path": "d"}).train) == 1


# -------------------------------------------------------------------------------------------------------------- table


def csv(root, text, encoding="utf-8"):
    (root / "d").mkdir(exist_ok=True)
    (root / "d/labels.csv").write_bytes(text.encode(encoding))


TABLE = {"name": "table", "labels": "d/labels.csv", "images": ["d/train"], "test": ["d/test"]}


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n007,a\n8,b\n",
        "\ufeffid,label\r\n007,a\r\n8,b\r\n\r\n,\r\n",
        "id;label\n007;a\n8;b\n",
        "id\tlabel\n007\ta\n8\tb\n",
        'id,label\n"007","a"\n"8","b"\n',
        "image name,class\n007.png,a\n8.jpg,b\n",
        "id,label,note\n007,a,x\n8,b,y\n",
        "id,label\ntrain/007.png,a\ntrain/8.jpg,b\n",
        "id,label\nd/train/007.png,a\nd/train/8.jpg,b\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_as_people_write_them(root, text, encoding):
    csv(root, text, encoding)
    picture(root / "d/train/007.png", 10)
    picture(root / "d/train/8.jpg", 20)
    picture(root / "d/test/009.png", 30)
    data = load(TABLE)
    assert list(means(data.train).values()) == [10, 20]
    assert list(named(data.train).values()) == ["a", "b"]
    bare = ".png" not in text
    assert data.train.ids[0] == text.replace('"', "").splitlines()[1].replace(";", ",").replace("\t", ",").split(",")[0]
    assert data.predict.ids == ["009" if bare else "009.png"]


def test_data_outside_the_data_folder_and_ids_with_another_ending(root, tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else/labels.csv").write_text("id,label\nx.jpg,a\ny.jpg,b\n")
    for n, name in enumerate("xyz"):
        picture(tmp_path / f"else/i/{name}.png", n)
    source = {"name": "table", "labels": f"{tmp_path}/else/labels.csv", "images": [f"{tmp_path}/else/i"]}
    with pytest.raises(UserError, match=r"images without a label \(1\): .*else/i/z\.png"):
        load(source)
    data = load({**source, "test": source["images"]})
    assert means(data.train) == {"x.jpg": 0, "y.jpg": 1}
    assert means(data.predict) == {"z.png": 2}


def test_columns_by_name_and_groups(root):
    csv(root, "row,kind,file,plant\n1,a,x,p1\n2,b,y,p2\n")
    picture(root / "d/train/x.png", 10)
    picture(root / "d/train/y.png", 20)
    data = load({**TABLE, "test": [], "id": "file", "label": "kind", "group": "plant"})
    assert named(data.train) == {"x": "a", "y": "b"}
    assert data.train.groups == ["p1", "p2"]
    assert data.predict is None


def test_several_folders_and_test_images_among_the_training_images(root):
    csv(root, "id,label\n1,a\n2,b\n")
    picture(root / "d/part1/1.png", 10)
    picture(root / "d/part2/2.png", 20)
    picture(root / "d/part2/3.png", 30)
    data = load({**TABLE, "images": ["d/part1", "d/part2"], "test": ["d/part1", "d/part2"]})
    assert means(data.train) == {"1": 10, "2": 20}
    assert means(data.predict) == {"3": 30}


def test_every_fault_of_a_table_is_told_at_once(root, capsys):
    csv(root, "id,label\n1,a\n2,b\n3,\n4,a\n5,a\n5,b\n6,a\n6,a\n")
    for name in ("1", "2", "3", "5", "6", "7"):
        picture(root / f"d/train/{name}.png", 10)
    with pytest.raises(UserError) as error:
        load({**TABLE, "test": []})
    assert str(error.value) == (
        f"{root}/d/labels.csv does not fit together; repair it, or set source.faults: leave out\n"
        "  rows without a label (1): row 4 (3)\n"
        "  ids with several labels (1): 5 (a, b)\n"
        "  labels without an image (1): 4\n"
        "  images without a label (1): d/train/7.png"
    )
    data = load({**TABLE, "test": [], "faults": "leave out"})
    assert named(data.train) == {"1": "a", "2": "b", "6": "a"}
    assert "left out" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- pixels, arrays, idx


def test_pixel_rows(root):
    rows = np.arange(5)[:, None] * np.ones((1, 64), dtype=int)
    heading = ",".join(f"pixel{n}" for n in range(64))
    lines = [f"{'ab'[n % 2]},{','.join(map(str, row))}" for n, row in enumerate(rows)]
    (root / "train.csv").write_text(f"label,{heading}\n" + "\n".join(lines) + "\n\n")
    (root / "test.csv").write_text(heading + "\n" + ",".join(["200"] * 64) + "\n")
    data = load({"name": "pixels", "train": "train.csv", "test": "test.csv"}, image=GREY)
    assert means(data.train) == {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}
    assert named(data.train)["2"] == "b"
    assert means(data.predict) == {"1": 200}


@pytest.mark.parametrize("order", ["last", "first"])
def test_pixel_rows_of_three_channels(root, order):
    image = np.zeros((8, 8, 3), dtype=int)
    image[..., 2] = 90
    row = image if order == "last" else image.transpose(2, 0, 1)
    heading = ",".join(f"p{n}" for n in range(192))
    (root / "t.csv").write_text(f"id,label,{heading}\nx,a,{','.join(map(str, row.ravel()))}\n")
    data = load({"name": "pixels", "train": "t.csv", "id": "id", "channels": order})
    assert data.train.ids == ["x"]
    np.testing.assert_array_equal(data.train.images[0], image)


@pytest.mark.parametrize("kind", ["uint8", "float", "bool", "uint16", "first"])
def test_arrays(root, kind):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    given = {
        "uint8": images,
        "float": images / 255,
        "bool": images > 127,
        "uint16": images.astype(np.uint16) * 257,
        "first": images.transpose(0, 3, 1, 2),
    }[kind]
    np.savez(root / "all.npz", x=given, y=np.array([[0], [1], [0], [1]]), t=given[:2], i=np.array(["007", "8"]))
    np.save(root / "y.npy", np.array([0, 1, 0, 1.0]))
    np.save(root / "answers.npy", np.array([1, 0]))
    source = {
        "name": "arrays",
        "train": "all.npz:x",
        "labels": "all.npz:y",
        "test": "all.npz:t",
        "ids": "all.npz:i",
        "answers": "answers.npy",
    }
    for labels in ("all.npz:y", "y.npy"):
        data = load({**source, "labels": labels}, ("0", "1"))
        wanted = np.where(images > 127, 255, 0) if kind == "bool" else images
        np.testing.assert_array_equal(data.train.images, wanted)
        assert data.train.labels.tolist() == [0, 1, 0, 1]
        assert data.predict.ids == ["007", "8"]
    assert pack.answers(CHOOSE(source)) == {"007": "1", "8": "0"}


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.mark.parametrize("packed", [False, True])
def test_idx(root, packed):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    files = {"i": images, "l": np.arange(6) % 2, "ti": images[:2], "tl": np.array([1, 0])}
    for name, array in files.items():
        content = idx_bytes(array)
        (root / name).write_bytes(gzip.compress(content) if packed else content)
    source = {"name": "idx", "images": "i", "labels": "l", "test_images": "ti", "test_labels": "tl"}
    data = load(source, ("0", "1"), GREY)
    np.testing.assert_array_equal(data.train.images[..., 0], images)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert pack.answers(CHOOSE(source)) == {"0": "1", "1": "0"}


# ------------------------------------------------------------------------------------------------------------ pickles


def cifar(root, protocol=2):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    rows = images.transpose(0, 3, 1, 2).reshape(4, -1)
    (root / "c").mkdir()
    for n in (0, 1):
        content = {b"data": rows[2 * n : 2 * n + 2], b"labels": [0, 1], b"filenames": [b"x", b"y"]}
        (root / f"c/data_batch_{n + 1}").write_bytes(pickle.dumps(content, protocol))
    (root / "c/batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b"]}, protocol))
    return images


@pytest.mark.parametrize("protocol", range(6))
def test_cifar_batches_and_a_test_pickle_with_ids(root, protocol):
    images = cifar(root, protocol)
    (root / "c/test.pkl").write_bytes(pickle.dumps({"data": images[:2], "ids": np.array([7, 5])}, protocol))
    source = {
        "name": "pickles",
        "train": ["c/data_batch_1", "c/data_batch_2"],
        "test": "c/test.pkl",
        "names": "c/batches.meta",
    }
    data = load(source, image=Image(size=32, channels=3, mirror=True))
    np.testing.assert_array_equal(data.train.images, images)
    assert list(named(data.train).values()) == ["a", "b", "a", "b"]
    assert data.predict.ids == ["7", "5"]
    assert pack.answers(CHOOSE(source)) == {}


def test_coarse_and_fine_labels(root):
    images = np.zeros((2, 3072), dtype=np.uint8)
    content = {"data": images, "fine_labels": [0, 1], "coarse_labels": [1, 0]}
    (root / "train").write_bytes(pickle.dumps(content))
    meta = {"fine_label_names": ["a", "b"], "coarse_label_names": ["b", "a"]}
    (root / "meta").write_bytes(pickle.dumps(meta))
    for labels in ("fine", "coarse"):
        source = {"name": "pickles", "train": ["train"], "names": "meta", "labels": labels}
        assert load(source).train.labels.tolist() == [0, 1]


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def touch(path):
    Path(path).touch()


@pytest.mark.parametrize("call", [eval, exec, __import__("os").system, open, getattr, touch, __import__, Pillow.open])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_is_refused_and_nothing_in_it_runs(root, call, protocol):
    mark = root / "ran"
    argument = {
        eval: f"open({str(mark)!r}, 'w')",
        exec: f"open({str(mark)!r}, 'w')",
        __import__("os").system: f"touch {mark}",
    }
    content = {"data": [Hostile(call, argument.get(call, str(mark)))], "labels": [0]}
    (root / "evil").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=r"evil: refused: this pickle wants to run .*; nothing in it was run"):
        load({"name": "pickles", "train": ["evil"]})
    assert not mark.exists()


def test_containers_and_strings_are_admitted(root):
    content = collections.OrderedDict(data=np.zeros((2, 8, 8, 3), np.uint8), labels=["a", np.str_("b")], x={1, b"z"})
    (root / "t").write_bytes(pickle.dumps(content))
    assert load({"name": "pickles", "train": ["t"]}).train.labels.tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------------- named sets


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def mnist_like(folder, name, monkeypatch):
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:, :28, :28, 0]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(10)))
    return IMAGES[:, :28, :28, :1]


def qmnist(folder, name, monkeypatch):
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    told = np.stack([np.arange(10)] + [np.full(10, 7)] * 7, axis=1).astype(">i4")  # the class, then who wrote it
    for part in ("train", "test"):
        (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:, :28, :28, 0]))
        head = bytes([0, 0, 0x0C, 2]) + struct.pack(">2I", *told.shape)
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(head + told.tobytes())
    return IMAGES[:, :28, :28, :1]


def cifar_like(folder, name, monkeypatch):
    kind = getattr(torchvision.datasets, name)
    key, classes = ("labels", 10) if name == "CIFAR10" else ("fine_labels", 100)
    inside = folder / kind.base_folder
    inside.mkdir(parents=True)
    rows = IMAGES.transpose(0, 3, 1, 2).reshape(10, -1)

    def batch(file, part):
        (inside / file).write_bytes(pickle.dumps({"data": rows[part], key: list(range(10))[part]}))
        return [file, md5(inside / file)]

    whole = slice(None)
    halves = [slice(2 * n, 2 * n + 2) for n in range(5)]
    parts = halves if name == "CIFAR10" else [whole]
    files = [file for file, _ in kind.train_list]
    monkeypatch.setattr(kind, "train_list", [batch(*pair) for pair in zip(files, parts, strict=True)])
    monkeypatch.setattr(kind, "test_list", [batch(kind.test_list[0][0], whole)])
    meta = inside / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: [f"c{n}" for n in range(classes)]}))
    monkeypatch.setitem(kind.meta, "md5", md5(meta))
    return IMAGES


def svhn(folder, name, monkeypatch):
    folder.mkdir(parents=True)
    labels = np.array([10, *range(1, 10)], dtype=np.uint8)[:, None]  # its authors call a zero 10
    for part in ("train", "test"):
        path = folder / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": IMAGES.transpose(1, 2, 3, 0), "y": labels})
        monkeypatch.setitem(torchvision.datasets.SVHN.split_list, part, ["", path.name, md5(path)])
    return IMAGES


def stl10(folder, name, monkeypatch):
    kind = torchvision.datasets.STL10
    inside = folder / kind.base_folder
    inside.mkdir(parents=True)
    images = np.random.default_rng(1).integers(0, 256, (10, 96, 96, 3), dtype=np.uint8)
    for part in ("train", "test", "unlabeled"):
        (inside / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())  # column after column
        (inside / f"{part}_y.bin").write_bytes(np.arange(1, 11, dtype=np.uint8).tobytes())
    (inside / "class_names.txt").write_text("".join(f"c{n}\n" for n in range(10)))
    for listed in ("train_list", "test_list"):
        files = [file for file, _ in getattr(kind, listed)]
        monkeypatch.setattr(kind, listed, [[file, md5(inside / file)] for file in files])
    return images


def usps(folder, name, monkeypatch):
    folder.mkdir(parents=True)
    images = np.where(IMAGES[:, :16, :16, :1] > 127, 255, 0).astype(np.uint8)
    lines = []
    for number, image in enumerate(images):
        values = image.ravel() / 127.5 - 1
        lines.append(f"{number + 1} " + " ".join(f"{n}:{value:g}" for n, value in enumerate(values, start=1)) + " \n")
    for file in ("usps.bz2", "usps.t.bz2"):
        (folder / file).write_bytes(bz2.compress("".join(lines).encode()))
    return images


IMAGES = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
NAMED = {
    "MNIST": (mnist_like, [str(n) for n in range(10)]),
    "FashionMNIST": (mnist_like, torchvision.datasets.FashionMNIST.classes),
    "KMNIST": (mnist_like, torchvision.datasets.KMNIST.classes),
    "QMNIST": (qmnist, [str(n) for n in range(10)]),
    "CIFAR10": (cifar_like, [f"c{n}" for n in range(10)]),
    "CIFAR100": (cifar_like, [f"c{n}" for n in range(10)]),
    "SVHN": (svhn, [str(n) for n in range(10)]),
    "STL10": (stl10, [f"c{n}" for n in range(10)]),
    "USPS": (usps, [str(n) for n in range(10)]),
}


def test_every_named_set_is_tried_here():
    assert set(typing.get_args(Named)) == set(NAMED)


@pytest.fixture
def nowhere(monkeypatch):
    """Block downloads: torchvision's go to a closed port of this machine."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", NAMED)
def test_torchvision_sets_from_local_files(root, nowhere, name, monkeypatch):
    """Files in the original formats; torchvision is given their checksums, and compares them."""
    make, classes = NAMED[name]
    images = make(root / "torchvision" / name, name, monkeypatch)
    source = {"name": "torchvision", "dataset": name}
    assert pack.answers(CHOOSE(source)) == {str(place): label for place, label in enumerate(classes)}
    image = Image(size=images.shape[1], channels=images.shape[3], mirror=False)
    data = load(source, classes, image)
    for part in (data.train, data.predict):
        np.testing.assert_array_equal(part.images, images)
        assert part.ids == [str(n) for n in range(10)]
    assert data.train.labels.tolist() == list(range(10))


@pytest.mark.parametrize("name", NAMED)
def test_a_named_set_that_is_nowhere(root, nowhere, name):
    with pytest.raises(UserError, match=rf"{name} is not in .*/{name}, and cannot be downloaded \(.*\); with"):
        load({"name": "torchvision", "dataset": name})


@pytest.mark.parametrize("name", NAMED)
def test_a_named_set_with_a_broken_file(root, nowhere, name, monkeypatch):
    folder = root / "torchvision" / name
    NAMED[name][0](folder, name, monkeypatch)
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(
        UserError, match=rf"/{name}: torchvision does not take these files for {name} \(.*\), and cannot"
    ):
        load({"name": "torchvision", "dataset": name})


def test_classes_in_file_names(root):
    for n in range(6):
        picture(root / f"all/train/{['a', 'b'][n % 2]}.{n}.png", n)
        picture(root / f"all/test/{n}.png", n)
    source = {"name": "file_names", "train": "all/train", "test": "all/test", "pattern": r"^(\w+?)\."}
    data = load(source)
    assert named(data.train) == {f"{'ab'[n % 2]}.{n}.png": "ab"[n % 2] for n in range(6)}
    assert len(data.predict) == 6
    with pytest.raises(UserError, match=r"finds no class in 6 of 6 names: a\.0\.png"):
        load({**source, "pattern": "^(x+)"})
    with pytest.raises(UserError, match="put parentheses around the class"):
        load({**source, "pattern": "x"})


def test_every_source_is_tried_here():
    text = Path(__file__).read_text()
    assert {name for name in SOURCES if f'"name": "{name}"' not in text} <= {"digits"}


def test_digits(root):
    data = load({"name": "digits"}, [str(n) for n in range(10)], GREY)
    assert (len(data.train), len(data.predict)) == (1438, 359)


def test_npz_of_objects_is_refused(root):
    with zipfile.ZipFile(root / "x.npz", "w") as archive, archive.open("x.npy", "w") as stream:
        np.lib.format.write_array(stream, np.array([Hostile(touch, str(root / "ran"))], dtype=object))
    with pytest.raises(UserError, match=r"x\.npz: not an array file \(it holds Python objects\)"):
        load({"name": "arrays", "train": "x.npz:x", "labels": "x.npz:x"})
    assert not (root / "ran").exists()
