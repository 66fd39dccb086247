"""`init`: from a folder or archive to a competition that trains, predicts and writes a checked CSV with no editing."""

import csv
import gzip
import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image as Pillow

from featherweight import config, submission
from featherweight.cli import main

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "data").mkdir()


def pixels(label, channels=3, size=8):
    """Make an image whose brightness depends on its class."""
    noise = RANDOM.integers(0, 40, (size, size, channels), dtype=np.uint8)
    return noise + np.uint8(60 * label)


def picture(path, label, channels=3, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels(label, channels)
    Pillow.fromarray(image if channels == 3 else image[..., 0]).resize(size, 0).save(path)


def rows(path, header, lines, delimiter=",", ending="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(delimiter.join(map(str, line)) + ending for line in [header, *lines]).encode())


def folders_flat_test(root):
    for n in range(24):
        picture(root / f"train/{'abc'[n % 3]} x/{n}.png", n % 3)
    for n in range(6):
        picture(root / f"test/00{n}.png", n % 3)
    rows(root / "sample_submission.csv", ["file", "kind"], [[f"00{n}", "a x"] for n in reversed(range(6))])


def folders_nested_valid(root):
    for part, count in (("train", 24), ("valid", 6), ("test", 6)):
        for n in range(count):
            picture(root / f"deep/{part}/{part}/{'ab'[n % 2]}_x/in/{n}.jpg", n % 2)
    lines = [[f"{'ab'[n % 2]}_x/in/{n}.jpg", "A X"] for n in range(6)]
    rows(root / "deep/sample.csv", ["id", "label"], [[line[0], "a x"] for line in lines])


def folders_numbered(root):
    for n in range(24):
        picture(root / f"train/{'abc'[n % 3]}/{n}.png", n % 3, channels=1)
    for n in range(6):
        picture(root / f"test/test/{n}.png", n % 3, channels=1)
    rows(root / "sampleSubmission.csv", ["Id", "Target"], [[f"{n}.png", 0] for n in range(6)])


def classes_alone(root):
    for n in range(24):
        picture(root / f"{'abc'[n % 3]}/{n}.webp", n % 3)


def table_crlf(root):
    rows(root / "trainLabels.csv", ["ID", "Class"], [[n, "aAb"[n % 3]] for n in range(1, 25)], ending="\r\n")
    for n in range(1, 31):
        picture(root / f"{'train' if n < 25 else 'test'}Resized/{n}.Bmp", n % 3)
    rows(root / "sampleSubmission.csv", ["ID", "Class"], [[n, "a"] for n in range(25, 31)], ending="\r\n")


def table_semicolon_mixed_sizes(root):
    lines = [[n, f"{n:03d}.jpg", f"{n % 7}", ["dog", "cat"][n % 2]] for n in range(24)]
    rows(root / "train.csv", ["row", "image", "weight", "species"], lines, ";")
    for n in range(24):
        picture(root / f"images/{n:03d}.jpg", n % 2, size=(10 + n, 14))
    for n in range(24, 30):
        picture(root / f"images/{n:03d}.jpg", n % 2, size=(20, 14))
    rows(root / "sample_submission.csv", ["image", "species"], [[f"{n:03d}.jpg", "dog"] for n in range(24, 30)])


def probabilities(root):
    names = ["acantharia", "copepod", "shrimp"]
    for n in range(24):
        picture(root / f"train/{names[n % 3]}/{n}.jpg", n % 3, channels=1)
    for n in range(6):
        picture(root / f"test/{n}.jpg", n % 3, channels=1)
    header = ["image", "shrimp", "acantharia", "copepod"]
    rows(root / "sampleSubmission.csv", header, [[f"{n}.jpg", 0.3, 0.3, 0.4] for n in range(6)])


def pixel_rows(root):
    heading = [f"pixel{n}" for n in range(64)]
    rows(root / "train.csv", ["label", *heading], [[n % 3, *pixels(n % 3, 1).ravel()] for n in range(24)])
    rows(root / "test.csv", heading, [pixels(n % 3, 1).ravel() for n in range(6)])
    rows(root / "sample_submission.csv", ["ImageId", "Label"], [[n + 1, 0] for n in range(6)])


def npz(root):
    root.mkdir()
    images = np.stack([pixels(n % 3) for n in range(30)])
    labels = np.arange(30) % 3
    np.savez(root / "all.npz", x_train=images[:24], y_train=labels[:24], x_test=images[24:], y_test=labels[24:])


def npy(root):
    root.mkdir()
    images = np.stack([pixels(n % 3) for n in range(30)]) / 255
    np.save(root / "train_images.npy", images[:24])
    np.save(root / "train_labels.npy", np.arange(24) % 3)
    np.save(root / "test_images.npy", images[24:])
    np.save(root / "test_ids.npy", np.arange(100, 106))
    rows(root / "sample_submission.csv", ["ID", "Label"], [[n, 0] for n in range(100, 106)])


def cifar(root):
    root.mkdir()
    images = np.stack([pixels(n % 3) for n in range(30)])
    flat = images.transpose(0, 3, 1, 2).reshape(30, -1)
    for n in range(2):
        part = slice(12 * n, 12 * n + 12)
        content = {b"data": flat[part], b"labels": (np.arange(30) % 3)[part].tolist()}
        (root / f"data_batch_{n + 1}").write_bytes(pickle.dumps(content))
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat", b"dog", b"eel"]}))
    (root / "test_nolabel.pkl").write_bytes(pickle.dumps({b"data": images[24:], b"ids": np.arange(6)}))
    rows(root / "sample_submission.csv", ["ID", "Labels"], [[n, 0] for n in range(6)])


def arrays_counted_from_1(root):
    npz(root)
    rows(root / "sample_submission.csv", ["ImageId", "Label"], [[n, 0] for n in range(1, 7)])


def pixel_rows_counted_from_0(root):
    pixel_rows(root)
    rows(root / "sample_submission.csv", ["ImageId", "Label"], [[n, 0] for n in range(6)])


def pickles_counted_from_1(root):
    cifar(root)
    images = np.stack([pixels(n % 3) for n in range(6)])
    (root / "test_nolabel.pkl").write_bytes(pickle.dumps({b"data": images}))
    rows(root / "sample_submission.csv", ["ID", "Labels"], [[n, 0] for n in range(1, 7)])


def idx_counted_from_1(root):
    idx(root)
    rows(root / "sample_submission.csv", ["ImageId", "Label"], [[n, 0] for n in range(1, 7)])


def two_classes_one_column(root):
    lines = [[f"{n:03d}", n % 2] for n in range(24)]
    rows(root / "train.csv", ["id", "has_cactus"], lines)
    for n in range(30):
        picture(root / f"{'train' if n < 24 else 'test'}/{n:03d}.jpg", n % 2)
    rows(root / "sample_submission.csv", ["id", "has_cactus"], [[f"{n:03d}", 0.5] for n in range(24, 30)])


def cats_and_dogs(root):
    for n in range(24):
        picture(root / f"train/{['dog', 'cat'][n % 2]}/{n}.jpg", n % 2)
    for n in range(6):
        picture(root / f"test/{n + 1}.jpg", n % 2)
    rows(root / "sample_submission.csv", ["id", "Cat"], [[n + 1, 0.25] for n in range(6)])


def idx(root):
    root.mkdir()

    def write(name, array):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (root / name).write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))

    for part, count in (("train", 24), ("t10k", 6)):
        write(f"{part}-images-idx3-ubyte.gz", np.stack([pixels(n % 3, 1)[..., 0] for n in range(count)]))
        write(f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 3)


LAYOUTS = {
    # layout: source, what the file says, test rows (0: no test)
    folders_flat_test: ("folders", {"metric": "accuracy", "mirror": True, "channels": 3, "size": 8}, 6),
    folders_nested_valid: ("folders", {"size": 8, "spelling": {"a_x": "a x", "b_x": "b x"}}, 6),
    folders_numbered: ("folders", {"codes": True, "channels": 1, "mirror": False}, 6),
    classes_alone: ("folders", {}, 0),
    table_crlf: ("table", {"mirror": False, "classes": ["A", "a", "b"]}, 6),
    table_semicolon_mixed_sizes: ("table", {"classes": ["cat", "dog"]}, 6),
    probabilities: ("folders", {"metric": "log_loss", "takes": "probabilities"}, 6),
    pixel_rows: ("pixels", {"channels": 1, "size": 8, "mirror": False}, 6),
    npz: ("arrays", {"classes": ["0", "1", "2"], "channels": 3}, 6),
    npy: ("arrays", {"classes": ["0", "1", "2"]}, 6),
    cifar: ("pickles", {"classes": ["cat", "dog", "eel"], "codes": True}, 6),
    idx: ("idx", {"channels": 1}, 6),
    arrays_counted_from_1: ("arrays", {}, 6),
    pixel_rows_counted_from_0: ("pixels", {}, 6),
    pickles_counted_from_1: ("pickles", {"codes": True}, 6),
    idx_counted_from_1: ("idx", {}, 6),
    two_classes_one_column: ("table", {"metric": "auc", "takes": "probability", "positive": "1"}, 6),
    cats_and_dogs: ("folders", {"metric": "auc", "takes": "probability", "positive": "cat"}, 6),
}


def sample_of(home, competition):
    """Return the rows of the sample submission."""
    with (home / "data" / competition.submission.sample).open() as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_init_tells_what_a_layout_is(home, layout, capsys):
    kind, wanted, tested = LAYOUTS[layout]
    layout(home / "data" / "mine")
    assert main.main(["init", "data/mine"]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    competition = config.load_competition("mine")
    parts = (competition, competition.image, competition.submission)
    said = {key: value for part in parts for key, value in part.model_dump().items()}
    assert competition.source.name == kind
    assert {key: said[key] for key in wanted if key != "metric"} == {k: v for k, v in wanted.items() if k != "metric"}
    assert competition.metric.name == wanted.get("metric", "accuracy")
    assert told.endswith("next: ./run.sh auto --competition mine --minutes 20\n")
    data = competition.load()
    assert len(data.train) in (24, 30)
    assert (len(data.predict.ids) if data.predict else 0) == tested
    if competition.submission.sample:
        form = submission.form(competition, data.predict.ids)
        assert form.ids == [line[0] for line in sample_of(home, competition)[1:]]
        assert sorted(form.images) == sorted(data.predict.ids)


@pytest.mark.some(2)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_init_then_train_predict_and_check(home, layout, capsys):
    tested = LAYOUTS[layout][-1]
    layout(home / "data" / "mine")
    assert main.main(["init", "data/mine"]) == 0, capsys.readouterr().err
    competition = config.load_competition("mine")
    settings = [
        "--set",
        "train.epochs=1",
        "--set",
        "predict.views=[]",
        "--set",
        "split.holdout=0.3",
        "--threads",
        "1",
        "--no-report",
    ]
    assert main.main(["tiny", "--competition", "mine", "--name", "r", *settings]) == 0, capsys.readouterr().err
    written = home / "submissions" / "r.csv"
    assert written.exists() == (tested > 0)
    if tested:
        capsys.readouterr()
        assert main.main(["score", str(written), "--competition", "mine"]) == 0
        with written.open() as stream:
            lines = list(csv.reader(stream))
        assert len(lines) == tested + 1
        if competition.submission.sample:
            sample = sample_of(home, competition)
            assert lines[0] == sample[0]
            assert [line[0] for line in lines] == [line[0] for line in sample]


@pytest.mark.parametrize("ending", ["zip", "gztar"])
def test_init_of_an_archive(home, ending, capsys):
    table_crlf(home / "there" / "street view")
    archive = shutil.make_archive(str(home / "street-view"), ending, home / "there")
    assert main.main(["init", archive, "--metric", "macro_f1", "--limit", "1000000", "--mirror"]) == 0
    competition = config.load_competition("street-view")
    assert competition.metric.name == "macro_f1"
    assert competition.limit.parameters == 1_000_000
    assert competition.image.mirror
    assert competition.source.labels == "street-view/street view/trainLabels.csv"
    assert (home / "data/street-view/street view/trainLabels.csv").exists()
    capsys.readouterr()
    assert main.main(["init", archive]) == 2
    assert "is there already; delete it, or take another --name" in capsys.readouterr().err


SOLVED = """id,has_cactus,Usage
024,0,Public
025,1,Public
026,0,Private
027,1,Private
028,0,Ignored
029,1,Private
"""


def test_a_solution_is_scored_in_its_parts(home, capsys):
    two_classes_one_column(home / "data" / "mine")
    assert main.main(["init", "data/mine", "--metric", "log_loss"]) == 0
    (home / "solution.csv").write_text(SOLVED)
    said = [0.5, 0.5, 0.25, 0.75, 0.5, 1]
    rows(home / "mine.csv", ["id", "has_cactus"], [[f"{24 + n:03d}", p] for n, p in enumerate(said)])
    capsys.readouterr()
    words = ["score", "mine.csv", "--competition", "mine"]
    assert main.main([*words, "--solution", "solution.csv"]) == 0
    heading, *told = capsys.readouterr().out.splitlines()
    assert heading == "mine.csv as a submission of mine (mine)"
    assert [line.split(" (")[0] for line in told[:3]] == [
        "log_loss 0.3923",  # all five: (2 ln 2 + 2 ln 4/3) / 5
        "Public log_loss 0.6931",
        "Private log_loss 0.1918",
    ]
    assert [line.split(", ")[-1] for line in told[:3]] == ["5 images)", "2 images)", "3 images)"]
    assert main.main(words) == 0
    assert "valid submission of 6 rows; the answers are not known here" in capsys.readouterr().out
    assert main.main([*words, "--solution", "nowhere.csv"]) == 2
    assert "cannot read" in capsys.readouterr().err
    (home / "solution.csv").write_text(SOLVED.replace("029", "030"))
    assert main.main([*words, "--solution", "solution.csv"]) == 2
    assert "solution.csv: row 7: the id '030' is not one of the images to predict" in capsys.readouterr().err


def test_zeros_in_the_sample_are_probabilities_if_the_metric_says_so(home, capsys):
    two_classes_one_column(home / "data" / "mine")
    rows(home / "data/mine/sample_submission.csv", ["id", "has_cactus"], [[f"{n:03d}", 0] for n in range(24, 30)])
    assert main.main(["init", "data/mine", "--name", "labels"]) == 0
    assert main.main(["init", "data/mine", "--name", "chances", "--metric", "auc"]) == 0
    assert (
        "submission.takes: probability, that of '1' (set submission.positive, if it is '0')" in capsys.readouterr().out
    )
    assert config.load_competition("labels").submission.takes == "labels"
    assert config.load_competition("chances").submission.takes == "probability"


def test_faults_are_told_and_left_to_the_user(home, capsys):
    table_crlf(home / "data" / "mine")
    (home / "data/mine/trainResized/3.Bmp").unlink()
    assert main.main(["init", "data/mine"]) == 0
    told = capsys.readouterr().out
    assert "labels without an image (1): 3" in told
    assert main.main(["tiny", "--competition", "mine"]) == 2
    assert "set source.faults: leave out" in capsys.readouterr().err


def empty(root):
    root.mkdir()


def strangers(root):
    root.mkdir()
    (root / "readme.md").write_text("hello")


def one_class(root):
    for n in range(3):
        picture(root / f"train/{n}.png", 1)
    rows(root / "labels.csv", ["id", "label"], [[n, "a"] for n in range(3)])


def wrong_sample(root):
    folders_flat_test(root)
    rows(root / "sample_submission.csv", ["file", "kind"], [["x", "a x"]])


def wrong_columns(root):
    probabilities(root)
    rows(root / "sampleSubmission.csv", ["image", "shrimp", "krill"], [["1.jpg", 0, 0]])


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (empty, "cannot tell what this is; it holds nothing. Known: "),
        (strangers, "cannot tell what this is; it holds 1 .md. Known: "),
        (one_class, "all 3 labelled images have the class 'a'; two are needed"),
        (
            wrong_sample,
            "the 1 ids are not those of the 6 images to predict; for example 'x' has no image and '000.png' has no row",
        ),
        (wrong_columns, "row 1: the columns are not the classes; for example 'acantharia' is in only one"),
    ],
)
def test_what_cannot_be_made_a_competition_leaves_no_file(home, layout, message, capsys):
    layout(home / "data" / "mine")
    assert main.main(["init", "data/mine"]) == 2
    assert message in capsys.readouterr().err
    assert not (home / "configs/competitions/mine.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder or archive nowhere"),
        (["data", "--metric", "acuracy"], "there is no such metric; did you mean 'accuracy'?"),
        (["data", "--name", "../x"], "--name ../x: expected a plain name"),
    ],
)
def test_wrong_words(home, words, message, capsys):
    assert main.main(["init", *words]) == 2
    assert message in capsys.readouterr().err


REAL = {
    "plant_seedlings64": ("folders", 12, 64, 4750, 794),
    "streetview_julia": ("table", 62, 20, 6283, 6220),
    "cifar10_lossless4k": ("table", 10, 32, 4000, 0),
}


@pytest.mark.parametrize(
    "name",
    ["plant_seedlings64", "cifar10_lossless4k", pytest.param("streetview_julia", marks=pytest.mark.slow)],
)
def test_real_competitions(home, shared, name, capsys):
    archive = shared / f"{name}.tar.gz"
    kind, classes, size, train, test = REAL[name]
    assert main.main(["init", str(archive)]) == 0, capsys.readouterr().err
    competition = config.load_competition(name)
    assert (competition.source.name, len(competition.classes), competition.image.size) == (kind, classes, size)
    listing = competition.source(home / "data")
    assert (len(listing.train.ids), len(listing.predict.ids) if listing.predict else 0) == (train, test)


def test_cifar10_jpeg_folders(home, shared):
    for part in ("train", "test"):
        with tarfile.open(shared / f"cifar10_jpeg_{part}.tar.gz") as bundle:
            some = [member for member in bundle if member.name.endswith(("00.jpg", "01.jpg"))]
            bundle.extractall(home / "data/c", members=some, filter="data")
    assert main.main(["init", "data/c"]) == 0
    assert len(config.load_competition("c").classes) == 10
