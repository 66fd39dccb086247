"""How `init` reads the layouts of competitions, on small examples: classes by path, ids, groups, form."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from featherweight import config
from featherweight.cli import main
from featherweight.data import numbered_names, tables
from featherweight.data.csv_file import Table
from featherweight.data.detect import columns, folder_roles
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.file_matching import Index, match
from featherweight.errors import UserError

RANDOM = np.random.default_rng(0)
NOTHING_KNOWN = columns.Context(None, frozenset(), has_test=False)


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "data").mkdir()


def picture(path, seed=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = RANDOM if seed is None else np.random.default_rng(seed)
    Pillow.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def described(*options, name="x"):
    """Run `init` on data/x with these options; return the competition and the output of `inspect --list`."""
    assert main.main(["init", f"data/{name}", *options]) == 0
    assert main.main(["inspect", name, "--list", "list.csv"]) == 0
    with Path("list.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) == {"id", "path", "class", "group", "part"}
    return config.load_competition(name), rows


def classes(rows, part="train"):
    return {row["path"]: row["class"] for row in rows if row["part"] == part}


def refused(capsys, *options):
    capsys.readouterr()
    assert main.main(["init", "data/x", *options]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) <= 5, told
    return told


# ------------------------------------------------------------------------------------------------- the label's column


def whales(root, sample=True):
    rows = [[f"{n:03d}.jpg", ["orca", "beluga"][n % 2], f"{n % 6 * 0x1111111:012x}"] for n in range(24)]
    for row in rows:
        picture(root / "train_images" / row[0])
    for n in range(24, 30):
        picture(root / f"test_images/{n:03d}.jpg")
    table(root / "train.csv", ["image", "species", "individual_id"], rows)
    if sample:
        five = " ".join(f"{n * 0x1010101:012x}" for n in range(1, 6))
        table(root / "sample_submission.csv", ["image", "predictions"], [[f"{n:03d}.jpg", five] for n in range(24, 30)])
    return {f"train_images/{row[0]}": row[2] for row in rows}


def test_the_label_is_the_column_whose_values_look_like_the_samples(home):
    wanted = whales(home / "data/x")
    competition, rows = described()
    assert classes(rows) == wanted
    assert (competition.submission.takes, competition.submission.k) == ("ranked", 5)


def test_labels_that_nothing_tells_apart_are_refused_with_the_flag(home, capsys):
    whales(home / "data/x", sample=False)
    table(home / "data/x/train.csv", ["image", "colour", "fur"], [[f"{n:03d}.jpg", n % 3, n % 4] for n in range(24)])
    told = refused(capsys)
    assert "cannot tell which column is the class" in told
    assert "colour (3 values: 0, 1, 2)" in told
    assert "fur (4 values" in told
    assert "pass --label COLUMN" in told
    _, rows = described("--label", "fur")
    assert classes(rows)["train_images/005.jpg"] == "1"
    assert "no such column; did you mean 'fur'?" in refused(capsys, "--name", "y", "--label", "furr")


def test_what_is_known_of_the_test_images_is_not_the_class(home, capsys):
    root = home / "data/x"
    for n in range(60):
        picture(root / f"images/{n}.jpg")
    rows = [[n, "mf"[n % 2], n % 5 * 10, ["benign", "bad"][n // 3 % 2]] for n in range(20)]
    table(root / "train.csv", ["image_name", "sex", "age_approx", "outcome"], rows)
    table(
        root / "test.csv",
        ["image_name", "sex", "age_approx"],
        [row[:3] for row in [[n, "m", 10] for n in range(20, 60)]],
    )
    _, rows = described()
    assert classes(rows)["images/3.jpg"] == "bad"
    assert len(classes(rows, "predict")) == 40
    assert "label: outcome (is not known of the images to predict); others: " in capsys.readouterr().out


def test_a_table_is_believed_over_folders_which_is_said(home, capsys):
    root = home / "data/x"
    rows = []
    for n in range(40):
        picture(root / f"train_images/{n % 2}/{n}.jpg")
        rows.append([f"{n}.jpg", n % 2, f"h{n % 5}"])
    table(root / "train.csv", ["image", "chain", "hotel_id"], rows)
    assert "chain (2 values: 0, 1)" in refused(capsys)
    picture(root / "test_images/40.jpg")
    table(root / "sample_submission.csv", ["image", "hotel_id"], [["40.jpg", "h0 h1 h2 h3 h4"]])
    _, rows = described()
    assert classes(rows)["train_images/1/7.jpg"] == "h2"
    assert "are not the classes: the table's are used" in capsys.readouterr().out


def test_folders_of_patients_are_no_classes(home, capsys):
    root = home / "data/x"
    rows = []
    for n in range(30):
        picture(root / f"train/patient{n // 2:03d}/{n}.jpg")
        rows.append([f"train/patient{n // 2:03d}/{n}.jpg", n % 2, n % 3])
    table(root / "train.csv", ["Path", "Edema", "Mass"], rows)
    assert "cannot tell which column is the class" in refused(capsys)


# -------------------------------------------------------------------------------------------------------- which files


def test_the_same_names_in_train_and_test_are_different_images(home):
    root = home / "data/x"
    for n in range(1, 21):
        picture(root / f"train/{n}.png")
    for n in range(1, 31):
        picture(root / f"test/{n}.png")
    table(root / "trainLabels.csv", ["id", "label"], [[n, "ab"[n % 2]] for n in range(1, 21)])
    table(root / "sampleSubmission.csv", ["id", "label"], [[n, "a"] for n in range(1, 31)])
    _, rows = described()
    assert classes(rows) == {f"train/{n}.png": "ab"[n % 2] for n in range(1, 21)}
    assert set(classes(rows, "predict")) == {f"test/{n}.png" for n in range(1, 31)}


def test_of_two_formats_the_common_one_is_taken_and_it_is_said(home, capsys):
    root = home / "data/x"
    for n in range(12):
        picture(root / f"train-jpg/train_{n}.jpg")
        picture(root / f"train-tif/train_{n}.tif")
    table(root / "train.csv", ["image", "label"], [[f"train_{n}", "ab"[n % 2]] for n in range(12)])
    _, rows = described()
    assert set(classes(rows)) == {f"train-jpg/train_{n}.jpg" for n in range(12)}
    assert "12 ids match a file in train-jpg and another in train-tif" in capsys.readouterr().out


def test_several_training_folders_thumbnails_and_rubbish(home):
    root = home / "data/x"
    rows = [[".DS_Store", ""]]
    for n in range(24):
        picture(root / f"train_{n % 2 + 1}/{n}.jfif")
        picture(root / f"thumbnails/{n}_thumbnail.png")
        rows.append([f"{n}.jfif", "ab"[n // 2 % 2]])
    table(root / "labels.csv", ["filename", "style"], rows)
    competition, rows = described()
    assert classes(rows) == {f"train_{n % 2 + 1}/{n}.jfif": "ab"[n // 2 % 2] for n in range(24)}
    assert competition.source.images == ["x/train_1", "x/train_2"]


def test_ids_by_another_column_as_in_coco(home):
    root = home / "data/x"
    images, notes = [], []
    for n in range(24):
        name = f"{n % 3:03d}/{n:05d}.jpg"
        picture(root / "train_images" / name)
        images.append({"id": f"i{n}", "file_name": name, "location": n // 3})
        notes += [{"id": 2 * n + k, "image_id": f"i{n}", "category_id": n % 3 * 100} for k in range(2)]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": []}))
    tests = []
    for n in range(6):
        picture(root / f"test_images/test-{n:03d}.jpg")
        tests.append({"image_id": str(n), "file_name": f"test-{n:03d}.jpg"})
    (root / "test.json").write_text(json.dumps(tests))
    table(root / "sample_submission.csv", ["Id", "Predicted"], [[n, 42] for n in range(6)])
    competition, rows = described()
    assert classes(rows)["train_images/001/00004.jpg"] == "100"
    assert [row["id"] for row in rows if row["part"] == "predict"] == [str(n) for n in range(6)]
    assert competition.source.group == "location"
    assert not competition.submission.codes


def test_parts_by_a_column_and_by_tables(home):
    for name in ("x", "y"):
        root, rows = home / "data" / name, {"train": [], "val": [], "test": []}
        for n in range(40):
            picture(root / f"images/{n:02d}.png")
            rows[["train", "train", "train", "val", "test"][n % 5]].append([f"{n:02d}.png", "ab"[n // 5 % 2]])
        if name == "x":
            given = [[*row, part] for part, there in rows.items() for row in there]
            table(root / "all.csv", ["file", "label", "split"], given)
        else:
            for part, there in rows.items():
                table(root / f"{part}.csv", ["file", "label"], there)
        _, listed = described(name=name)
        counts = {part: len(classes(listed, part)) for part in ("train", "holdout", "predict")}
        assert counts == {"train": 24, "holdout": 8, "predict": 8}
        assert classes(listed, "holdout")["images/03.png"] == "a"


# -------------------------------------------------------------------------------------------- sets, one-hot, no classes


@pytest.mark.parametrize(("mark", "heading"), [(" ", "labels"), ("|", "anything"), (",", "tags")])
def test_sets_of_classes(home, mark, heading):
    sets = [["scab"], ["rust"], ["scab", "rust"], ["healthy"]]
    for n in range(16):
        picture(home / f"data/x/train/{n}.jpg")
    rows = [[f"{n}.jpg", mark.join(sets[n % 4])] for n in range(16)]
    table(home / "data/x/train.csv", ["image", heading], rows)
    competition, rows = described()
    assert (competition.target, competition.submission.takes) == ("several", "set")
    assert competition.classes == ["healthy", "rust", "scab"]
    assert {row["class"] for row in rows} == {"scab", "rust", "scab rust", "healthy"}


@pytest.mark.parametrize(
    "names",
    [
        ["Common wheat", "Sugar beet", "Fat Hen", "Maize"],
        ["cancer", "no cancer"],
        ["mask", "no mask", "mask worn wrong"],
        ["dog", "hot dog", "cat"],
        ["fox", "red fox", "arctic fox"],
    ],
)
@pytest.mark.parametrize("heading", ["label", "labels"])
def test_classes_with_spaces_are_no_sets(home, names, heading):
    for n in range(24):
        picture(home / f"data/x/train/{n}.jpg")
    table(home / "data/x/train.csv", ["image", heading], [[f"{n}.jpg", names[n % len(names)]] for n in range(24)])
    competition, _ = described()
    assert (competition.target, competition.classes) == ("one", sorted(names))


def test_names_of_words_that_others_share_are_refused_until_a_target_is_said(home, capsys):
    for n in range(24):
        picture(home / f"data/x/train/{n}.jpg")
    names = ["red fox", "arctic fox", "red wolf", "arctic wolf"]
    table(home / "data/x/train.csv", ["image", "labels"], [[f"{n}.jpg", names[n % 4]] for n in range(24)])
    told = refused(capsys)
    assert "cannot tell whether 'red fox' is one class, or the 2 classes red and fox" in told
    for target, wanted in (("one", sorted(names)), ("several", ["arctic", "fox", "red", "wolf"])):
        assert main.main(["init", "data/x", "--name", target, "--target", target]) == 0
        assert config.load_competition(target).classes == wanted


def test_one_column_per_class(home):
    for n in range(24):
        picture(home / f"data/x/images/{n}.jpg")
        picture(home / f"data/y/images/{n}.jpg")
    names = ["MEL", "NV", "BCC"]
    table(
        home / "data/x/truth.csv",
        ["image", *names],
        [[n, *(f"{float(n % 3 == k)}" for k in range(3))] for n in range(24)],
    )
    table(home / "data/x/meta.csv", ["image", "age", "lesion_id"], [[n, 50, f"L{n // 2}"] for n in range(24)])
    competition, rows = described()
    assert classes(rows)["images/4.jpg"] == "NV"
    assert competition.target == "one"
    assert {row["group"] for row in rows} == {f"L{n}" for n in range(12)}
    table(home / "data/y/train.csv", ["id", *names], [[n, n % 2, 1, n // 2 % 2] for n in range(20)])
    table(home / "data/y/sample_submission.csv", ["id", *names], [[n, 0, 0, 0] for n in range(20, 24)])
    competition, rows = described(name="y")
    assert (competition.target, competition.submission.takes) == ("several", "probabilities")
    assert classes(rows)["images/3.jpg"] == "MEL NV BCC"


def test_a_class_that_no_image_has_keeps_its_column(home, capsys):
    for n in range(24):
        picture(home / f"data/x/images/{n}.jpg")
    names = ["MEL", "NV", "VASC"]
    table(home / "data/x/train.csv", ["id", *names], [[n, n % 2, n // 2 % 2, 0] for n in range(20)])
    table(home / "data/x/sample_submission.csv", ["id", *names], [[n, 0.5, 0.5, 0.5] for n in range(20, 24)])
    competition, _ = described()
    assert (competition.target, competition.classes) == ("several", names)
    assert "no labelled image has the class VASC" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "headings"),
    [
        (["cat", "cow", "dog"], ["prob_cat", "prob_cow", "prob_dog"]),
        (["cat", "cow", "dog"], ["cat_prob", "cow_prob", "dog_prob"]),
        (["Cat", "Cow", "Red Fox"], ["p_cat", "p_cow", "p_red_fox"]),
        (["0", "1", "2"], ["class_0", "class_1", "class_2"]),
        (["0", "1", "2"], ["class0", "class1", "class2"]),
        (["cat", "cow", "dog"], ["class_0", "class_1", "class_2"]),
        (["cat", "cow", "dog"], ["c1", "c2", "c3"]),
    ],
)
def test_columns_of_a_sample_that_call_the_classes_otherwise(home, names, headings):
    for n in range(16):
        picture(home / f"data/x/{'train' if n < 12 else 'test'}/{n}.jpg")
    table(home / "data/x/train.csv", ["image", "label"], [[f"{n}.jpg", names[n % 3]] for n in range(12)])
    table(home / "data/x/sample_submission.csv", ["image", *headings], [[f"{n}.jpg", 1, 0, 0] for n in range(12, 16)])
    competition, _ = described()
    assert competition.submission.takes == "probabilities"
    assert [competition.submission.spelling[name] for name in names] == headings


def test_columns_that_are_no_classes_are_refused_with_the_way_out(home, capsys):
    for n in range(16):
        picture(home / f"data/x/{'train' if n < 12 else 'test'}/{n}.jpg")
    table(home / "data/x/train.csv", ["image", "label"], [[f"{n}.jpg", "abc"[n % 3]] for n in range(12)])
    table(home / "data/x/sample_submission.csv", ["image", "u", "v"], [[f"{n}.jpg", 1, 0] for n in range(12, 16)])
    told = refused(capsys)
    assert "the columns are not the classes" in told
    assert "submission.spelling" in told


def several_targets(root):
    table(root / "train.csv", ["image", "root", "vowel"], [[f"{n}.jpg", n % 3, n % 2] for n in range(12)])
    table(root / "test.csv", ["row", "part"], [[f"r{n}", ["root", "vowel"][n % 2]] for n in range(4)])


def regression(root):
    table(root / "train.csv", ["image", "score"], [[f"{n}.jpg", n * 7 % 12] for n in range(12)])
    table(root / "sample_submission.csv", ["image", "score"], [["12.jpg", 37.5]])
    picture(root / "test/12.jpg")


def masks(root):
    table(root / "train.csv", ["image", "label"], [[f"{n}.jpg", n % 2] for n in range(12)])
    table(root / "sample_submission.csv", ["image", "EncodedPixels"], [["1.jpg", "1 2"]])


def boxes(root):
    table(root / "train.csv", ["image", "class", "bbox"], [[f"{n // 2}.jpg", "ab"[n % 2], "[1,2]"] for n in range(24)])


def confidences(root):
    table(root / "train.csv", ["image", "landmark_id"], [[f"{n}.jpg", n % 3] for n in range(12)])
    table(root / "sample_submission.csv", ["image", "landmarks"], [["12.jpg", "1 0.5"]])
    picture(root / "test/12.jpg")


def one_prediction_for_several(root):
    table(
        root / "train.csv",
        ["image", "who", "side", "label"],
        [[f"{n}.jpg", n // 4, "LR"[n // 2 % 2], n % 2] for n in range(12)],
    )
    picture(root / "test/77.jpg")
    table(root / "test.csv", ["image", "who", "side", "row"], [["77.jpg", 9, "L", "9_L"]])
    table(root / "sample_submission.csv", ["row", "label"], [["9_L", 0.5]])


def channels(root):
    for n in range(12):
        for colour in ("red", "green"):
            picture(root / f"train/p{n}_{colour}.png")
    table(root / "train.csv", ["Id", "Target"], [[f"p{n}", n % 2] for n in range(12)])


def records(root):
    (root / "train.tfrec").write_bytes(b"x")


def still_packed(root):
    (root / "train.zip").write_bytes(b"PK")


def no_labels(root):
    pass


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (several_targets, "2 targets (root, vowel), as 'part' in test.csv says"),
        (regression, "'score' is a number to predict (regression)"),
        (masks, "asks for masks or boxes"),
        (boxes, "boxes or masks of objects"),
        (confidences, "each value is a class with its confidence, as '1 0.5'"),
        (one_prediction_for_several, "stands for several images: a prediction is asked for one for each who and side"),
        (channels, "a row for several images each: 'p0'"),
        (records, "the images are in TFRecord files (1 .tfrec)"),
        (still_packed, "train.zip still packed: cd "),
        (no_labels, "nothing that tells their classes"),
    ],
)
def test_what_is_not_read_is_refused_by_name(home, layout, message, capsys):
    root = home / "data/x"
    root.mkdir()
    if layout not in (channels, records, still_packed):
        for n in range(12):
            picture(root / f"train/{n}.jpg")
    layout(root)
    assert message in refused(capsys)


# ----------------------------------------------------------------------------------------------- numbers, names, codes


@pytest.mark.parametrize(
    ("names", "sample", "written"),
    [
        (["1", "2", "10"], "0", {"1": "1", "2": "2", "10": "10"}),
        (["00000", "00042"], "0", {"00000": "0", "00042": "42"}),
        (["00000", "00042"], "00000", {"00000": "00000", "00042": "00042"}),
        (["3", "7"], "3.0", {"3": "3.0", "7": "7.0"}),
        (["ant", "bee"], "0", {"ant": "0", "bee": "1"}),
    ],
)
def test_numbers_are_written_as_numbers(home, names, sample, written):
    for n in range(12):
        picture(home / f"data/x/train/{names[n % len(names)]}/{n}.png")
    for n in range(4):
        picture(home / f"data/x/test/{n}.png")
    table(home / "data/x/sample_submission.csv", ["id", "label"], [[n, sample] for n in range(4)])
    competition, _ = described()
    form = competition.submission
    spelled = (
        [str(n) for n in range(len(names))] if form.codes else [form.spelling.get(c, c) for c in competition.classes]
    )
    assert dict(zip(competition.classes, spelled, strict=True)) == written
    assert form.codes == (names[0] == "ant")


def test_codes_of_a_mapping_file(home, capsys):
    for n in range(12):
        picture(home / f"data/x/train/{['zebra', 'ant'][n % 2]}/{n}.png")
    picture(home / "data/x/test/0.png")
    table(home / "data/x/classes.csv", ["class_id", "name"], [[0, "zebra"], [1, "ant"]])
    table(home / "data/x/sample_submission.csv", ["id", "label"], [[0, 0]])
    competition, _ = described()
    assert competition.submission.spelling == {"ant": "1", "zebra": "0"}
    assert "classes.csv says which" in capsys.readouterr().out


def test_classes_in_file_names(home, capsys):
    for n in range(24):
        picture(home / f"data/x/train/{['cat', 'dog'][n % 2]}.{n}.jpg")
    for n in range(4):
        picture(home / f"data/x/test/{n}.jpg")
    table(home / "data/x/sample_submission.csv", ["id", "label"], [[n, 0.5] for n in range(4)])
    competition, rows = described()
    assert classes(rows)["train/dog.3.jpg"] == "dog"
    assert (competition.submission.takes, competition.submission.positive) == ("probability", "dog")
    assert "source.pattern: " in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- other formats


def test_class_folders_with_lists_and_an_official_split(home):
    root = home / "data/x"
    lists = {"train": "", "test": ""}
    for n in range(24):
        picture(root / f"images/{'ab'[n % 2]}_pie/{n}.jpg")
        lists["train" if n < 18 else "test"] += f"{'ab'[n % 2]}_pie/{n}\n"
    (root / "meta").mkdir()
    for part, text in lists.items():
        (root / f"meta/{part}.txt").write_text(text)
    _, rows = described()
    assert (len(classes(rows)), len(classes(rows, "predict"))) == (18, 6)
    root = home / "data/y"
    names = [f"{'ab'[n % 2]}.bird/bird_{n}.jpg" for n in range(24)]
    for name in names:
        picture(root / "images" / name)
    (root / "images.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(names, 1)))
    (root / "train_test_split.txt").write_text("".join(f"{n} {n % 3 % 2}\n" for n in range(1, 25)))
    _, rows = described(name="y")
    assert len(classes(rows)) == 8
    assert classes(rows, "holdout")["images/b.bird/bird_1.jpg"] == "b.bird"


def test_a_flat_validation_folder_with_its_list(home):
    root = home / "data/x"
    lines = ""
    for n in range(16):
        picture(root / f"train/n0{n % 2}/images/n0{n % 2}_{n}.JPEG")
    for n in range(6):
        picture(root / f"val/images/val_{n}.JPEG")
        lines += f"val_{n}.JPEG\tn0{n % 2}\t0\t32\n"
    (root / "val/val_annotations.txt").write_text(lines)
    _, rows = described()
    assert classes(rows)["train/n01/images/n01_3.JPEG"] == "n01"
    assert classes(rows, "holdout")["val/images/val_3.JPEG"] == "n01"


def test_one_array_per_image(home):
    root = home / "data/x"
    for n in range(20):
        path = root / f"{'train' if n < 16 else 'test'}/{n % 4}/s{n}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, RANDOM.normal(0, 0.1, (9, 7)).astype(np.float16).clip(0, 1))
    table(root / "train_labels.csv", ["id", "target"], [[f"s{n}", n % 2] for n in range(16)])
    table(root / "sample_submission.csv", ["id", "target"], [[f"s{n}", 0.5] for n in range(16, 20)])
    competition, rows = described()
    assert classes(rows)["train/3/s7.npy"] == "1"
    assert competition.submission.takes == "probability"


def test_pixels_as_text_with_their_parts(home):
    rows = [
        [n % 3, " ".join(["7"] * 64), ["Training", "Training", "PublicTest", "PrivateTest"][n % 4]] for n in range(16)
    ]
    table(home / "data/x/fer.csv", ["emotion", "pixels", "Usage"], rows)
    competition, rows = described()
    assert competition.source.values == "pixels"
    assert classes(rows)["fer.csv:2"] == "1"
    assert [len(classes(rows, part)) for part in ("train", "holdout", "predict")] == [8, 4, 4]


def test_files_with_their_parts_are_divided_as_pixels_are(home):
    """One competition's labels, once with pixels in the table and once with image files."""
    parts = ["Training", "Training", "PublicTest", " PrivateTest "]
    for n in range(16):
        picture(home / f"data/x/images/{n}.png")
    table(
        home / "data/x/fer.csv", ["image", "emotion", "Usage"], [[f"{n}.png", n % 3, parts[n % 4]] for n in range(16)]
    )
    competition, rows = described()
    assert (competition.source.valid_rows, competition.source.test_rows) == (["PublicTest"], ["PrivateTest"])
    assert [len(classes(rows, part)) for part in ("train", "holdout", "predict")] == [8, 4, 4]


def test_a_labelled_test_table_of_pixels_with_ids_of_its_own(home):
    pixels = [f"pixel{n}" for n in range(64)]
    table(home / "data/x/train.csv", ["label", *pixels], [[n % 3, *[n] * 64] for n in range(12)])
    table(home / "data/x/test.csv", ["id", "label", *pixels], [[f"t{n}", n % 3, *[n] * 64] for n in range(5)])
    table(home / "data/x/more.csv", ["label", *pixels], [[n % 3, *[n] * 64] for n in range(12)])
    competition, rows = described()
    assert competition.source.test_label == "label"
    assert [row["id"] for row in rows if row["part"] == "predict"] == [f"t{n}" for n in range(5)]
    assert classes(rows)["train.csv:5"] == "1"


def test_bands_of_json_have_one_scale(home, capsys):
    def record(n):
        return {"id": f"i{n}", "band_1": [-30.0 + n] * 64, "band_2": [-20.0] * 64, "angle": "na"}

    root = home / "data/x"
    root.mkdir()
    (root / "train.json").write_text(json.dumps([{**record(n), "is_iceberg": n % 2} for n in range(12)]))
    (root / "test.json").write_text(json.dumps([record(n) for n in range(12, 15)]))
    table(root / "sample_submission.csv", ["id", "is_iceberg"], [[f"i{n}", 0.5] for n in range(12, 15)])
    competition, rows = described()
    assert classes(rows)["train.json:4"] == "1"
    assert competition.source.range == [-30.0, -16.0]  # of the images to predict too
    assert (competition.submission.takes, competition.submission.positive) == ("probability", "1")
    assert "pixels from -30 (black) to -16 (white)" in capsys.readouterr().out


def test_hdf5_arrays_in_three_parts(home):
    h5py = pytest.importorskip("h5py")
    (home / "data/x").mkdir()
    for part, count in (("train", 20), ("valid", 6), ("test", 6)):
        with h5py.File(home / f"data/x/patch_{part}_x.h5", "w") as file:
            file["x"] = RANDOM.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        with h5py.File(home / f"data/x/patch_{part}_y.h5", "w") as file:
            file["y"] = np.arange(count).reshape(-1, 1, 1, 1) % 2
    _, rows = described()
    assert classes(rows)["patch_train_x.h5:2"] == "1"
    assert [len(classes(rows, part)) for part in ("train", "holdout", "predict")] == [20, 6, 6]


def test_parquet_of_paths(home):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"images/{n}.jpg" for n in range(12)]
    for name in names:
        picture(home / "data/x" / name)
    pq.write_table(pa.table({"path": names, "label": ["cat", "dog"] * 6}), home / "data/x/train.parquet")
    _, rows = described()
    assert classes(rows)["images/3.jpg"] == "dog"


def test_a_missing_package_is_named_with_its_command(home, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (home / "data/x").mkdir()
    (home / "data/x/a.h5").write_bytes(b"x")
    assert "./run.sh install h5py" in refused(capsys)


def test_twelve_bits_get_one_scale(home, capsys):
    for n in range(12):
        path = home / f"data/x/train/{'ab'[n % 2]}/{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.full((8, 8), 300 * n + 200, np.uint16)).save(path)
    competition, _ = described()
    assert competition.image.levels == 4095
    assert "pixels of more than 8 bits go from 200 to 3500" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- groups


def test_a_column_of_patients_is_the_group_and_the_leak_is_said(home, capsys):
    for n in range(40):
        picture(home / f"data/x/images/{n}.jpg")
    rows = [[n, f"P{n // 4}", "mf"[n % 2], ["benign", "bad"][n // 4 % 2]] for n in range(40)]
    table(home / "data/x/train.csv", ["image", "patient_id", "sex", "diagnosis"], rows)
    _, rows = described()
    assert {row["path"]: row["group"] for row in rows}["images/7.jpg"] == "P1"
    assert "100% of the held-out images would have related images in training" in capsys.readouterr().out
    assert main.main(["init", "data/x", "--name", "y", "--group", "none"]) == 0
    assert config.load_competition("y").source.group is None


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        (lambda n: f"{n // 4:05d}_{n % 4:05d}.png", True),  # tracks
        (lambda n: f"IM-{n // 4:04d}-{n % 4:04d}.png", True),
        (lambda n: f"person{n // 4}_virus_{n}.png", True),
        (lambda n: f"{n}_100.png", False),  # the size, not a frame
        (lambda n: f"img_{n * 37 % 101}.png", False),
        (lambda n: f"2017-06-{n % 28 + 1:02d}__{n * 7 % 24:02d}-{n:02d}.png", False),
    ],
)
def test_numbered_sequences_in_names(name, grouped):
    ids = [f"{'ab'[n // 4 % 2]}/{name(n)}" for n in range(80)]
    pattern = numbered_names.sequences(ids, ["ab"[n // 4 % 2] for n in range(80)])
    assert (pattern is not None) == grouped
    if pattern:
        keys = numbered_names.keys(ids, pattern)
        assert len(set(keys)) == 20
        assert all(len(set(keys[n : n + 4])) == 1 for n in range(0, 80, 4))


def test_a_class_of_one_track_does_not_hide_the_tracks_of_the_others():
    ids = [f"{n // 40}/{n // 8 % 5:05d}_{n % 8:05d}.png" for n in range(200)]
    one_track = [id for id in ids if id[0] != "0" or id.startswith("0/00000_")]
    for some in (ids, one_track):
        assert numbered_names.sequences(some, [id[0] for id in some]) is not None
    per_class = [f"{n // 40}/class{n // 40}_{n % 40:05d}.png" for n in range(400)]
    assert numbered_names.sequences(per_class, [id[0] for id in per_class]) is None


def test_near_copies_under_one_name_in_several_folders(home, capsys):
    for n in range(12):
        for kind in ("Cover", "Hidden"):
            image = np.kron(np.random.default_rng(n).integers(0, 200, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            path = home / f"data/x/{kind}/{n:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(image + (kind == "Hidden")).save(path)
    competition, _ = described()
    assert competition.group == "([^/]+)$"
    assert "which joins 24 near-duplicates" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- known competitions


def test_facts_of_a_known_competition(home, capsys):
    root = home / "data/alaska2-image-steganalysis"
    for n in range(10):
        for kind in ("Cover", "JMiPOD", "UERD"):
            picture(root / f"{kind}/{n:05d}.png")
    picture(root / "Test/0001.png")
    table(root / "sample_submission.csv", ["Id", "Label"], [["0001.png", 0]])
    competition, rows = described(name="alaska2-image-steganalysis")
    assert classes(rows)["Cover/00003.png"] == "0"
    assert classes(rows)["UERD/00003.png"] == "1"
    assert (competition.submission.takes, competition.submission.positive) == ("probability", "1")
    assert competition.kaggle == "alaska2-image-steganalysis"
    assert "since the folder is called so (pass --kaggle none" in capsys.readouterr().out


def test_the_facts_are_sound():
    from featherweight.describe import known_competitions
    from featherweight.describe.competition_file import TARGETS

    found = known_competitions.competitions()
    assert len(found) >= 60
    for slug, facts in found.items():
        assert slug == slug.lower()
        assert facts.target is None or facts.target in TARGETS
        assert bool(facts.k) == (facts.takes == "ranked")
    with pytest.raises(UserError, match="a number to predict"):
        known_competitions.known("petfinder-pawpularity-score")


# ---------------------------------------------------------------------------------------------------------- properties

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.dictionaries(words, st.one_of(words, st.integers(), st.none(), st.booleans())), max_size=6))
def test_any_records_become_a_table_or_one_message(tmp_path_factory, given_records):
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(given_records))
    try:
        found = tables.read(path)
    except UserError:
        return
    assert all(len(row) == len(found.header) for row in found.rows)
    assert len(found.rows) == len(found.numbers)


@given(st.binary(max_size=200))
def test_no_bytes_end_in_a_traceback(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("x.json", "x.txt", "x.csv"):
        (folder / name).write_bytes(content)
        for read in (tables.read, tables.read_list):
            try:
                found = read(folder / name)
            except UserError:
                continue
            assert all(len(row) == len(found.header) for row in found.rows)


@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True), min_size=2, max_size=30))
def test_what_separates_sets_is_found_wherever_parts_stand_alone(sets):
    values = [" ".join(parts) for parts in sets] + list("abcde")
    found = columns.separator(columns.Column("x", values).counts, "x", None)
    assert found == (" " if any(len(parts) > 1 for parts in sets) else None)


@given(st.dictionaries(st.integers(0, 30), st.lists(st.integers(0, 2), min_size=1, unique=True), min_size=1))
def test_every_id_gets_one_of_its_files(reach):
    folders = ["train", "test", "other"]
    files = [f"{folder}/{id}.jpg" for id in range(31) for folder in folders]
    given_reach = {str(id): [3 * id + where for where in there] for id, there in reach.items()}
    chosen, _ = folder_roles.settle(given_reach, files, "train")
    assert {id: place in given_reach[id] for id, place in chosen.items()} == dict.fromkeys(given_reach, True)
    assert all(files[chosen[str(id)]].startswith("train/") for id, there in reach.items() if 0 in there)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20, unique=True))
def test_ids_match_files_in_every_way_of_naming_them(numbers):
    files = [("images", f"{n:05d}.jpg") for n in range(101)]
    for spelled in (
        str,
        "{:05d}".format,
        "{:05d}.jpg".format,
        "images/{:05d}.jpg".format,
        "./images/{:05d}.jpg".format,
    ):
        place_of, several = match([spelled(n) for n in numbers], files)
        assert not several
        assert place_of == {spelled(n): n for n in numbers}
    assert Index(files).reach(["x"]) == {}


def test_a_tie_between_columns_is_no_choice(tmp_path):
    found = Table(
        tmp_path / "t.csv", ["id", "first", "second"], [[str(n), str(n % 2), str(n % 3)] for n in range(12)], []
    )
    context = columns.Context(
        SampleSubmission(tmp_path / "s.csv", ["id", "answer"], ["12"], ["0"]), frozenset(), has_test=False
    )
    with pytest.raises(UserError, match="cannot tell which column is the class"):
        columns.choose(found, ["id"], context, None)


@pytest.mark.parametrize("heading", ["damage", "stage", "cell_type", "candidate", "disorder", "thyroid", "age"])
def test_a_column_beside_the_ids_alone_is_the_class(tmp_path, heading):
    rows = [[str(n), ["mild", "severe"][n % 2]] for n in range(12)]
    chosen, _ = columns.choose(Table(tmp_path / "t.csv", ["id", heading], rows, []), ["id"], NOTHING_KNOWN, None)
    assert chosen.name == heading


def test_two_columns_that_say_the_same_are_no_tie(tmp_path):
    rows = [[str(n), str(n % 3), ["jute", "maize", "rice"][n % 3]] for n in range(12)]
    found = Table(tmp_path / "t.csv", ["id", "crop_code", "crop"], rows, [])
    assert columns.choose(found, ["id"], NOTHING_KNOWN, None)[0].name == "crop"


def test_numbers_called_as_metadata_are_no_classes_unasked(tmp_path):
    found = Table(tmp_path / "t.csv", ["id", "PatientAge"], [[str(n), str(n % 4)] for n in range(12)], [])
    with pytest.raises(UserError, match="cannot tell which column is the class"):
        columns.choose(found, ["id"], NOTHING_KNOWN, None)


def test_the_column_known_of_a_competition_is_its_label(tmp_path):
    rows = [[str(n), str(n % 2), str(n % 3)] for n in range(12)]
    found = Table(tmp_path / "t.csv", ["id", "label", "fur"], rows, [])
    assert columns.choose(found, ["id"], NOTHING_KNOWN, None)[0].name == "label"
    known = columns.Context(None, frozenset(), has_test=False, likely="fur")
    assert columns.choose(found, ["id"], known, None)[0].name == "fur"


def test_the_column_of_ids_known_of_a_competition_is_taken(home):
    root = home / "data/noaa-right-whale-recognition"
    rows = []
    for n in range(12):
        picture(root / f"imgs/w_{n}.jpg")
        rows.append([f"w_{n}.jpg", f"w_{(n + 5) % 12}.jpg", f"whale_{n % 3}"])
    table(root / "train.csv", ["other", "Image", "whaleID"], rows)
    _, listed = described(name="noaa-right-whale-recognition")
    assert classes(listed)["imgs/w_5.jpg"] == "whale_0"


@pytest.mark.parametrize("sample", [True, False])
def test_a_column_of_measured_numbers_is_refused_as_regression(here, capsys, sample):
    for n in range(24):
        picture(Path("data") / "x" / "train" / f"{n}.png", n)
    table(Path("data") / "x" / "train.csv", ["id", "age"], [[n, f"{3 * n}.{n % 7}5"] for n in range(24)])
    if sample:
        picture(Path("data") / "x" / "test" / "100.png", 100)
        table(Path("data") / "x" / "sample_submission.csv", ["id", "age"], [[100, "33.5"]])
    assert "'age' holds fractions: numbers to predict (regression)" in refused(capsys)
