"""Black and white level of images given as numbers: one range per data set, the same for all parts."""

import csv
from pathlib import Path

import numpy as np
import pytest

from featherweight import config
from featherweight.cli import main
from featherweight.data.pixel_range import Spread, as_uint8, limits_of
from featherweight.errors import UserError

FRACTIONS = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "data/x").mkdir(parents=True)


def loaded(*options):
    """Run `init` on data/x; return the competition and its decoded data."""
    assert main.main(["init", "data/x", *options]) == 0
    competition = config.load_competition("x")
    return competition, competition.load()


def rows(name, header, lines):
    with Path("data/x", name).open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])


@pytest.mark.parametrize(
    ("spread", "wanted", "measured"),
    [
        (Spread(0, 255, False), (0, 255), False),
        (Spread(0, 16, False), (0, 255), False),  # as scikit-learn's digits, which lose nothing
        (Spread(0, 1, True), (0, 1), False),
        (Spread(0, 0.9, True), (0, 1), False),
        (Spread(0, 1.02, True), (0, 1.02), True),
        (Spread(-1, 1, True), (-1, 1), True),
        (Spread(0, 254.7, True), (0, 255), False),
        (Spread(12, 3900, False), (0, 4095), False),
        (Spread(0, 40000, False), (0, 65535), False),
        (Spread(-1024, 3071, False), (-1024, 3071), True),
    ],
)
def test_black_and_white_of_numbers(spread, wanted, measured):
    assert (spread.limits(), spread.measured) == (wanted, measured)


def test_parts_are_scaled_as_the_training_images_but_for_bytes_beside_fractions():
    twelve, ten, fractions, whole = (
        Spread(0, 4000, False),
        Spread(0, 900, False),
        Spread(0, 1, True),
        Spread(0, 255, False),
    )
    assert limits_of(twelve, ten, "x") == (0, 4095)
    assert limits_of(fractions, whole, "x") == (0, 255)
    assert limits_of(whole, fractions, "x") == (0, 1)
    with pytest.raises(UserError, match=r"set source\.range"):
        limits_of(Spread(-1, 1, True), fractions, "x")
    with pytest.raises(UserError, match=r"beyond 0 .black. to 1 .white"):
        as_uint8(np.full((1, 4, 4), 1.02), "x", (0, 1))
    with pytest.raises(UserError, match="expected black below white"):
        as_uint8(np.full((1, 4, 4), 3), "x", (3, 3))


SCALES = {  # an image's numbers of 0 to 1, as they are handed out
    "fractions": (lambda image: image.round(4), [0, 1]),
    "black and white": (lambda image: (image > 0.5).astype(int), [0, 1]),
    "twelve bits": (lambda image: (image * 4095).astype(int), [0, 4095]),
    "around zero": (lambda image: image * 2 - 1, [-1, 1]),
    "bytes with a point": (lambda image: np.round(image * 255), None),
    "bytes": (lambda image: np.round(image * 255).astype(int), None),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("way", ["columns", "values", "parquet", "npz"])
def test_every_scale_becomes_bytes_and_the_file_says_which(scale, way):
    given, limits = SCALES[scale]
    images = [given(FRACTIONS * (0.4 if n < 9 else 1)) for n in range(12)]  # the test's are brighter
    labels, pixels = [f"c{n % 3}" for n in range(9)], [f"pixel{n}" for n in range(64)]
    flat = [image.ravel().tolist() for image in images]
    if way == "columns":
        rows("train.csv", ["label", *pixels], [[label, *row] for label, row in zip(labels, flat, strict=False)])
        rows("test.csv", pixels, flat[9:])
    elif way == "values":
        text = [" ".join(map(str, row)) for row in flat]
        rows("train.csv", ["label", "pixels"], list(zip(labels, text[:9], strict=True)))
        rows("test.csv", ["id", "pixels"], [[f"t{n}", text[9 + n]] for n in range(3)])
    elif way == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = dict(zip(pixels, np.array(flat).T, strict=True))
        pq.write_table(pa.table({"label": labels, **{k: v[:9] for k, v in columns.items()}}), "data/x/train.parquet")
        pq.write_table(pa.table({k: v[9:] for k, v in columns.items()}), "data/x/test.parquet")
    else:
        np.savez("data/x/all.npz", x_train=np.array(images[:9]), y_train=labels, x_test=np.array(images[9:]))
    competition, data = loaded()
    dim = FRACTIONS * 0.4 > 0.5 if scale == "black and white" else FRACTIONS * 0.4
    bright = FRACTIONS > 0.5 if scale == "black and white" else FRACTIONS
    if way == "npz" and scale in ("fractions", "black and white", "bytes", "bytes with a point"):
        assert not competition.source.range  # 0 to 1 and 0 to 255 go without saying
        if scale == "black and white":
            return
    elif limits:
        assert competition.source.range == pytest.approx(limits)
    np.testing.assert_allclose(data.train.images[0, ..., 0], dim * 255, atol=1)
    np.testing.assert_allclose(data.predict.images[0, ..., 0], bright * 255, atol=1)


@pytest.mark.parametrize(("key", "heading"), [({"values": "pixels"}, ["pixels"]), ({}, [f"p{n}" for n in range(64)])])
def test_fractions_are_not_black_where_the_file_says_no_range(key, heading):
    flat = FRACTIONS.ravel().tolist()
    rows("t.csv", ["label", *heading], [["a", *(flat if len(heading) > 1 else [" ".join(map(str, flat))])]] * 4)
    source = {"name": "pixels", "train": "x/t.csv", **key}
    with pytest.raises(UserError, match=r"not 0 to 255 .set source\.range"):
        config.Competition.model_validate(
            {
                "title": "x",
                "source": source,
                "image": {"size": 8, "mirror": False},
                "classes": ["a", "b"],
                "limit": {"parameters": 9},
            }
        ).load()


def test_features_with_numbers_are_no_pixels(capsys):
    rows(
        "train.csv",
        ["id", "species", *(f"margin{n}" for n in range(64))],
        [[n, "ab"[n % 2], *[0.01 * n] * 64] for n in range(12)],
    )
    assert main.main(["init", "data/x"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("way", ["values", "columns", "parquet"])
def test_parts_that_follow_each_other_are_found_in_the_whole_table(way):
    parts = ["train"] * 240 + ["val"] * 12 + ["test"] * 12
    pixels = [f"pixel{n}" for n in range(64)]
    if way == "values":
        rows("all.csv", ["label", "pixels", "Usage"], [[n % 3, "7 " * 64, part] for n, part in enumerate(parts)])
    elif way == "columns":
        rows("all.csv", ["label", "split", *pixels], [[n % 3, part, *[7] * 64] for n, part in enumerate(parts)])
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {name: [7] * len(parts) for name in pixels}
        table = pa.table({"label": [n % 3 for n in range(len(parts))], "split": parts, **columns})
        pq.write_table(table, "data/x/all.parquet")
    _, data = loaded()
    assert [len(part) for part in (data.train, data.valid, data.predict)] == [240, 12, 12]


def test_parts_that_nothing_explains_are_told(capsys):
    rows("all.csv", ["label", "pixels", "set"], [[n % 3, "7 " * 64, "AB"[n % 2]] for n in range(12)])
    loaded()
    assert "the column 'set' (A, B) is not understood: all rows are trained on" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["None", "NA", "nan", "null", "N/A"])
def test_a_class_may_be_called_as_pandas_calls_nothing(name):
    rows(
        "train.csv", ["label", *(f"pixel{n}" for n in range(64))], [[[name, "b"][n % 2], *[n] * 64] for n in range(12)]
    )
    competition, data = loaded()
    assert set(competition.classes) == {name, "b"}
    assert len(data.train) == 12


def test_an_empty_class_is_none(capsys):
    rows(
        "train.csv",
        ["label", *(f"pixel{n}" for n in range(64))],
        [[["", "b", "c"][n % 3], *[n] * 64] for n in range(12)],
    )
    assert main.main(["init", "data/x"]) == 2
    assert "row 2: there is no value in the column 'label'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- labels of arrays


def arrays(**more):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez("data/x/all.npz", x=images, **more)


HOT = np.eye(3, dtype=int)[np.arange(12) % 3]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"y": np.arange(12) % 2 == 1}, "0"),
        ({"y": HOT}, "0"),
        ({"y": HOT.astype(np.float32)}, "0"),
        ({"filenames": np.array([f"{n}.png" for n in range(12)]), "labels": np.arange(12) % 3}, "0"),
        ({"age": np.arange(12), "target": np.array(["a", "b", "c"] * 4)}, "a"),
        ({"names": np.array([f"{n}" for n in range(12)]), "kinds": np.array(["a", "b"] * 6)}, "a"),
    ],
)
def test_the_array_of_classes(more, wanted):
    arrays(**more)
    competition, data = loaded()
    assert competition.classes[data.train.labels[0]] == wanted
    assert len(competition.classes) == len(set(data.train.labels.tolist())) <= 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"colours": np.arange(12) % 3, "shapes": np.arange(12) % 2}, "2 arrays have a value for each image"),
        ({"fine_labels": np.arange(12) % 4, "coarse_labels": np.arange(12) % 2}, "pass --label"),
        ({"y": np.ones((12, 3), dtype=int)}, "row 1 holds 3 classes of 3"),
    ],
)
def test_arrays_that_do_not_say_which_is_the_class(more, said, capsys):
    arrays(**more)
    assert main.main(["init", "data/x"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) <= 5


def test_the_array_that_is_asked_for():
    arrays(fine_labels=np.arange(12) % 4, coarse_labels=np.arange(12) % 2)
    competition, _ = loaded("--label", "coarse_labels")
    assert competition.classes == ["0", "1"]
