"""Layouts in which an image could get another's class without a word: each is read rightly, or refused by name."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow

from described_layouts import classes_of, described, pictures, refused, table
from drawn_pictures import picture
from featherweight.data.csv_file import read
from featherweight.data.detect.id_column import counts_rows
from featherweight.data.file_matching import Index, match
from featherweight.data.image import decode
from featherweight.data.label_rows import split_set
from featherweight.errors import UserError

CLASSES = ["healthy", "rust", "scab"]
RANDOM = np.random.default_rng(0)


def class_folders(folder, classes=CLASSES, each=4):
    for name in classes:
        pictures(folder / name, [f"{name[0]}{n}.png" for n in range(each)])


# --------------------------------------------------------------------------------------------------- ids that are paths


@pytest.mark.parametrize("prefix", ["dataset/", "/content/drive/leaves/", "C:\\leaves\\", "../input/leaves/"])
def test_paths_from_another_folder_name_their_own_part(root, prefix):
    """The same names are in train/ and test/: a row must not point to a file of the other part."""
    rows = []
    for part in ("test", "train"):
        for n in range(6):
            picture(root / part / "img" / f"{n}.png")
            path = prefix + "/".join([part, "img", f"{n}.png"]).replace("/", "\\" if "\\" in prefix else "/")
            rows.append([path, CLASSES[(n + (part == "test")) % 3]])
    table(root / "all.csv", ["path", "label"], rows)
    listing = described(root)[1]
    wanted = {
        f"{part}/img/{n}.png": CLASSES[(n + (part == "test")) % 3] for part in ("train", "test") for n in range(6)
    }
    assert classes_of(root, listing.train) == wanted


def test_paths_of_several_depths_are_cut_alike():
    files = [("x", "train/a/0.png"), ("x", "test/0.png"), ("x", "train/b/0.png")]
    places, _ = match(["/data/old/train/b/0.png", "/data/old/test/0.png", "/data/old/train/a/0.png"], files)
    assert sorted(places.values()) == [0, 1, 2]
    assert places["/data/old/test/0.png"] == 1


def test_a_path_that_is_absent_means_no_file_of_that_name_elsewhere():
    files = [("x", f"test/{n}.png") for n in range(9)] + [("x", f"train/{n}.png") for n in range(8)]
    places, _ = match([f"old/train/{n}.png" for n in range(9)], files)
    assert sorted(places.values()) == list(range(9, 17))


def test_an_id_is_the_end_of_a_path_below_folders_of_any_name():
    """Numbers repeat in every folder, and training and test images have no folder in common."""
    names = ["train/00/7.png", "train/01/7.png", "test/02/7.png", "test/deep/02/1.5.png"]
    places, several = match(["00/7", "02/7", "01/7", "02/1.5"], [("", name) for name in names])
    assert (places, several) == ({"00/7": 0, "01/7": 1, "02/7": 2, "02/1.5": 3}, set())
    assert Index([("", "train/00/7.png"), ("", "test/00/7.png")]).reach(["00/7"]) == {"00/7": [0, 1]}


def test_different_ids_of_one_image_are_a_fault(root):
    pictures(root / "train", [f"{n}.png" for n in range(6)])
    rows = [[f"{n}.png", CLASSES[n % 3]] for n in range(6)] + [["0", "rust"]]
    table(root / "labels.csv", ["image", "label"], rows)
    with pytest.raises(UserError, match=r"different ids of one image \(2\): 0 \(x/train/0.png\), 0.png"):
        described(root)


def test_a_table_in_a_folder_of_images_is_about_that_folder(root):
    for offset, part in enumerate(("train", "validation", "test")):
        pictures(root / part, [f"{n}.png" for n in range(6)])
        lines = [json.dumps({"file_name": f"{n}.png", "label": (n + offset) % 3}) for n in range(6)]
        (root / part / "metadata.jsonl").write_text("\n".join(lines))
    listing = described(root)[1]
    assert classes_of(root, listing.train) == {f"train/{n}.png": str(n % 3) for n in range(6)}
    assert classes_of(root, listing.valid) == {f"validation/{n}.png": str((n + 1) % 3) for n in range(6)}
    assert listing.answers() == {f"{n}.png": str((n + 2) % 3) for n in range(6)}


# --------------------------------------------------------------------------------------------------- which column is id


@pytest.mark.parametrize("heading", ["Unnamed: 0", "", "id"])
def test_a_column_that_numbers_the_rows_is_no_id(root, heading):
    order = [3, 1, 4, 0, 5, 2, 7, 6, 8]
    pictures(root / "train", [f"{n}.png" for n in order])
    table(root / "train.csv", [heading, "image", "label"], [[row, n, CLASSES[n % 3]] for row, n in enumerate(order)])
    assert classes_of(root, described(root)[1].train) == {f"train/{n}.png": CLASSES[n % 3] for n in order}


def test_the_column_called_as_in_the_sample_is_the_id(root):
    order = [3, 1, 4, 0, 5, 2, 7, 6, 8]
    pictures(root / "train", [f"{n}.png" for n in order])
    pictures(root / "test", ["t0.png", "t1.png"])
    rows = [[other, n, CLASSES[n % 3]] for other, n in zip(order[::-1], order, strict=True)]
    table(root / "train.csv", ["number", "image", "label"], rows)
    table(root / "sample_submission.csv", ["Image", "label"], [["t0", "rust"], ["t1", "rust"]])
    assert classes_of(root, described(root)[1].train) == {f"train/{n}.png": CLASSES[n % 3] for n in order}


def test_two_columns_that_name_images_differently_are_refused(root):
    order = [3, 1, 4, 0, 5, 2]
    pictures(root / "train", [f"{n}.png" for n in order])
    rows = [[other, n, CLASSES[n % 3]] for other, n in zip(order[::-1], order, strict=True)]
    table(root / "train.csv", ["one", "other", "label"], rows)
    assert "the columns 'one' and 'other' both name images" in refused(root)
    assert classes_of(root, described(root, id="other")[1].train)["train/3.png"] == CLASSES[0]


@pytest.mark.parametrize(("values", "counted"), [("0 1 2", True), ("1 2 3", True), ("2 3 4", False), ("1 3 2", False)])
def test_what_numbers_rows(values, counted):
    assert counts_rows(values.split()) == counted


def test_options_that_name_nothing_are_refused(root):
    pictures(root / "train", [f"{n}.png" for n in range(6)])
    table(root / "train.csv", ["image", "label"], [[f"{n}.png", CLASSES[n % 3]] for n in range(6)])
    assert "--id nosuch: no table has such a column; there are image, label" in refused(root, id="nosuch")
    assert "--label image: " in refused(root, label="image")
    assert "expected the competition's name" in refused(root, kaggle="Leaf Disease")
    assert "there is no such metric" in refused(root, metric="map@5x")
    competition = described(root, kaggle="https://www.kaggle.com/competitions/leaf-disease/overview")[0]
    assert competition.kaggle == "leaf-disease"


def test_a_label_column_is_not_ignored_beside_class_folders(root):
    class_folders(root / "train")
    (root / "notes.csv").write_text("a,b\n1,2\n")
    assert "--label nosuch: no table with such a column names the images" in refused(root, label="nosuch")


@pytest.mark.parametrize("spelled", ["held", "held/", "./held", "{root}/held"])
def test_the_test_folder_however_it_is_spelled(root, spelled):
    class_folders(root / "train")
    pictures(root / "held", ["0.png", "1.png"])
    assert described(root, test=spelled.format(root=root))[1].predict.ids == ["0.png", "1.png"]


# ------------------------------------------------------------------------------------------------------ what is a class


def test_a_label_table_wins_over_two_folders_of_images(root):
    pictures(root / "images", [f"{n}.png" for n in range(6)])
    pictures(root / "extra_images", [f"x{n}.png" for n in range(12)])
    table(root / "labels.csv", ["file", "species"], [[f"{n}.png", CLASSES[n % 3]] for n in range(6)])
    _, listing, told = described(root)
    assert classes_of(root, listing.train) == {f"images/{n}.png": CLASSES[n % 3] for n in range(6)}
    assert "set apart: 12 images without a class in extra_images/" in told


def test_folders_that_hold_data_are_no_classes(root):
    pictures(root / "images", [f"{n}x.png" for n in "abcdef"])
    pictures(root / "annotations", [f"{n}y.png" for n in "abcdef"])
    assert "nothing that tells their classes" in refused(root)


@pytest.mark.parametrize("how", ["latin1", "sheet", "yolo"])
def test_names_of_files_are_no_classes_where_labels_lie_unread(root, how):
    names = [f"{who}_{n}.png" for who in ("ana", "bob") for n in range(4)]
    pictures(root / "images", names)
    if how == "latin1":
        (root / "labels.csv").write_bytes("file,label\na.png,hêtre\n".encode("latin-1"))
    elif how == "sheet":
        (root / "labels.xlsx").write_bytes(b"PK")
    for name in names if how == "yolo" else ():
        (root / "images" / name.replace("png", "txt")).write_text("0 0.5 0.5 0.2 0.2\n")
    wanted = {"latin1": "not UTF-8 text", "sheet": "save it as CSV", "yolo": "boxes of objects"}[how]
    assert wanted in refused(root)


def test_tables_that_are_not_used_are_told(root):
    names = [f"{who}_{n}.png" for who in ("ana", "bob") for n in range(4)]
    pictures(root / "images", names)
    table(root / "rust.csv", ["file"], [[name] for name in names[:3]])
    assert "the classes are in the names of the files: rust.csv are not used" in described(root)[2]


def test_a_mapping_from_classes_to_files(root):
    names = [f"site{n % 2}_{n}.png" for n in range(6)]
    pictures(root / "images", names)
    (root / "labels.json").write_text(json.dumps({name: names[k::3] for k, name in enumerate(CLASSES)}))
    wanted = {f"images/{name}": CLASSES[n % 3] for n, name in enumerate(names)}
    assert classes_of(root, described(root)[1].train) == wanted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("['a b', 'c']", ("a b", "c")),
        ('["a","c"]', ("a", "c")),
        ("['a' 'c']", ("a", "c")),
        ("[]", ()),
        ("[1, 2]", ("1", "2")),
    ],
)
def test_lists_as_text_are_sets(text, names):
    assert split_set(text, "[]") == names


def test_a_column_of_lists_is_of_sets(root):
    pictures(root / "images", [f"{n}.png" for n in range(9)])
    sets = [["rust", "scab"], ["healthy"], ["scab"]]
    table(root / "labels.csv", ["image", "tags"], [[f"{n}.png", str(sets[n % 3])] for n in range(9)])
    competition, listing, _ = described(root)
    assert (competition.target, competition.classes) == ("several", CLASSES)
    assert set(classes_of(root, listing.train)["images/0.png"]) == {"rust", "scab"}


@pytest.mark.parametrize("text", ["file, label\n0.png, rust\n", '"file", "label"\n"0.png", "rust"\n'])
def test_blanks_after_delimiters_belong_to_no_field(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    found = read(tmp_path / "t.csv")
    assert (found.header, found.rows) == (["file", "label"], [["0.png", "rust"]])


def test_boxes_of_coco_are_refused_as_those_of_a_table_are(root):
    pictures(root / "images", [f"{n}.png" for n in range(6)])
    notes = [{"image_id": n, "category_id": k, "bbox": [0, 0, 2, 2]} for n in range(6) for k in (n % 3, 3)]
    content = {"images": [{"id": n, "file_name": f"{n}.png"} for n in range(6)], "annotations": notes}
    (root / "instances.json").write_text(json.dumps(content))
    assert "boxes or masks of objects" in refused(root)


def test_one_list_for_each_class_is_refused(root):
    pictures(root / "JPEGImages", [f"{n:06}.png" for n in range(8)])
    for name in ("cat", "dog"):
        lines = [f"{n:06} {1 if n % 2 == (name == 'cat') else -1}\n" for n in range(8)]
        (root / f"{name}_train.txt").write_text("".join(lines))
    assert "2 lists say of one class each which images show it" in refused(root)


def test_folders_within_class_folders_are_told(root):
    for outer, inner in (("fruit", "apple"), ("fruit", "pear"), ("herb", "mint"), ("herb", "sage")):
        pictures(root / "train" / outer / inner, [f"{inner}{n}.png" for n in range(3)])
    assert "the classes are the outer folders, and not those within, as fruit/apple, herb/mint" in described(root)[2]


# ---------------------------------------------------------------------------------------------------- parts of the data


def test_shards_called_like_classes_are_no_answers(root):
    class_folders(root / "train", "01234")
    for n in range(8):
        picture(root / "test" / str(n % 4) / f"t{n}.png")
    table(root / "sample_submission.csv", ["id", "label"], [[f"t{n}", 0] for n in range(8)])
    competition, listing, told = described(root)
    assert listing.answers is None
    assert not competition.source.test_labels
    assert "not taken for answers" in told


def test_rows_without_a_class_are_those_to_predict(root):
    pictures(root / "images", [f"i{n}.png" for n in range(12)])
    rows = [[f"i{n}", CLASSES[n % 3] if n < 9 else "", "train" if n < 9 else "test"] for n in range(12)]
    table(root / "all.csv", ["ID", "label", "split"], rows)
    table(root / "SampleSubmission.csv", ["ID", "label"], [[f"i{n}", "rust"] for n in range(9, 12)])
    listing = described(root)[1]
    assert (listing.predict.ids, listing.valid) == (["i9", "i10", "i11"], None)
    assert not listing.answers
    assert len(listing.train.ids) == 9


@pytest.mark.parametrize(("heading", "rest"), [("is_train", 0), ("is_test", 1), ("valid", 1)])
def test_a_flag_says_which_rows_are_held_out(root, heading, rest):
    pictures(root / "images", [f"{n}.png" for n in range(12)])
    rows = [[f"{n}.png", CLASSES[n % 3], int((n < 9) != bool(rest))] for n in range(12)]
    table(root / "all.csv", ["name", "label", heading], rows)
    listing = described(root)[1]
    assert (len(listing.train.ids), listing.valid.ids) == (9, ["9.png", "10.png", "11.png"])


def test_classes_of_what_is_to_be_predicted_are_not_trained_on(root):
    pictures(root / "train", [f"a{n}.png" for n in range(6)])
    pictures(root / "test", [f"b{n}.png" for n in range(6)])
    labels = [[f"a{n}", CLASSES[n % 3]] for n in range(6)]
    table(root / "labels.csv", ["id", "label"], labels)
    table(root / "pseudo_labels.csv", ["id", "label"], [*labels, *([f"b{n}", CLASSES[n % 3]] for n in range(6))])
    table(root / "sample_submission.csv", ["id", "label"], [[f"b{n}", "rust"] for n in range(6)])
    _, listing, told = described(root)
    assert (len(listing.train.ids), len(listing.predict.ids)) == (6, 6)
    assert "not used, though they have classes of images: pseudo_labels.csv (12 rows)" in told


@pytest.mark.parametrize("headings", [True, False])
def test_lists_of_parts_beside_class_folders(root, headings):
    class_folders(root, each=6)
    for part, places in (("train", (0, 1, 2, 3)), ("val", (4,)), ("test", (5,))):
        rows = [[f"{name}/{name[0]}{n}.png", k] for k, name in enumerate(CLASSES) for n in places]
        if headings:
            table(root / f"{part}.csv", ["", "Filename", "Label"], [[place, *row] for place, row in enumerate(rows)])
        else:
            (root / f"{part}.txt").write_text("".join(f"{name} {k}\n" for name, k in rows))
    listing = described(root)[1]
    assert [len(part.ids) for part in (listing.train, listing.valid, listing.predict)] == [12, 3, 3]
    assert classes_of(root, listing.valid)["rust/r4.png"] == "rust"


def test_a_test_set_that_is_still_packed_is_told(root):
    class_folders(root / "train")
    with zipfile.ZipFile(root / "test.zip", "w") as archive:
        archive.writestr("test/0.png", b"x")
    table(root / "sample_submission.csv", ["file", "label"], [["0.png", "rust"]])
    assert "test.zip still packed" in refused(root)


def test_why_a_validation_folder_is_not_held_out(root):
    class_folders(root / "train")
    class_folders(root / "val", [*CLASSES, "unknown"])
    assert "val/ is not held out: it has the classes unknown, and training has not" in described(root)[2]


# ------------------------------------------------------------------------------------------------------- the submission


def with_sample(root, header, values, delimiter=","):
    class_folders(root / "train")
    pictures(root / "test", [f"t{n}.png" for n in range(len(values))])
    table(root / "sample_submission.csv", header, [[f"t{n}", value] for n, value in enumerate(values)], delimiter)


def test_a_sample_of_another_delimiter_is_a_sample(root):
    with_sample(root, ["image", "disease"], ["healthy"] * 3, ";")
    competition, listing, _ = described(root)
    assert (competition.submission.id, competition.submission.label) == ("image", "disease")
    assert listing.predict.ids == ["t0.png", "t1.png", "t2.png"]


def test_a_submission_is_no_table_of_answers(root):
    pictures(root / "train", [f"a{n}.png" for n in range(6)])
    pictures(root / "test", [f"b{n}.png" for n in range(3)])
    table(root / "train.csv", ["id", "label"], [[f"a{n}", CLASSES[n % 3]] for n in range(6)])
    table(root / "test_labels.csv", ["id", "label"], [[f"b{n}", "healthy"] for n in range(3)])
    assert not described(root)[1].answers


def test_counts_of_images_are_no_codes(root):
    with_sample(root, ["id", "label"], [0, 0, 1])
    table(root / "class_counts.csv", ["name", "count"], [[name, 12 + k] for k, name in enumerate(CLASSES)])
    assert described(root)[0].submission.codes


def test_codes_from_one_on_are_taken_where_the_sample_has_a_number_for_any_class(root):
    with_sample(root, ["id", "label"], [0, 0, 0])
    table(root / "classes.csv", ["name", "code"], [["scab", 1], ["rust", 2], ["healthy", 3]])
    assert described(root)[0].submission.spelling == {"healthy": "3", "rust": "2", "scab": "1"}


def test_files_that_say_different_codes_are_refused(root):
    with_sample(root, ["id", "label"], [0, 1, 2])
    for name, order in (("old.csv", CLASSES), ("new.csv", CLASSES[::-1])):
        table(root / name, ["name", "code"], [[label, code] for code, label in enumerate(order)])
    told = refused(root)
    assert "old.csv" in told
    assert "new.csv" in told


def test_the_label_table_says_the_codes(root):
    pictures(root / "train", [f"a{n}.png" for n in range(9)])
    pictures(root / "test", ["t0.png", "t1.png"])
    code = {"rust": 0, "scab": 1, "healthy": 2}
    rows = [[f"a{n}", code[CLASSES[n % 3]], CLASSES[n % 3]] for n in range(9)]
    table(root / "train.csv", ["id", "class_id", "class_name"], rows)
    table(root / "sample_submission.csv", ["id", "target"], [["t0", 0], ["t1", 0]])
    assert described(root)[0].submission.spelling == {"healthy": "2", "rust": "0", "scab": "1"}


@pytest.mark.parametrize("wide", [False, True])
def test_a_file_says_the_names_of_numbers(root, wide):
    pictures(root / "train", [f"a{n}.png" for n in range(9)])
    pictures(root / "test", ["t0.png", "t1.png"])
    table(root / "train.csv", ["id", "label"], [[f"a{n}", n % 3] for n in range(9)])
    table(root / "classes.csv", ["label", "name"], list(enumerate(CLASSES)))
    header, row = (["id", *CLASSES], [0.2, 0.3, 0.5]) if wide else (["id", "label"], ["healthy"])
    table(root / "sample_submission.csv", header, [["t0", *row], ["t1", *row]])
    assert described(root)[0].submission.spelling == dict(zip("012", CLASSES, strict=True))


@pytest.mark.parametrize(
    ("names", "shown", "written"),
    [
        (["1_healthy", "2_rust", "10_scab"], "1", ["1", "2", "10"]),
        (["1_healthy", "2_rust", "10_scab"], "0", ["0", "1", "9"]),  # counted from 0
        (["01.healthy", "02.rust", "10.scab"], "01", ["01", "02", "10"]),
        (["01.healthy", "02.rust", "10.scab"], "2", ["1", "2", "10"]),
    ],
)
def test_classes_by_the_number_before_their_name(root, names, shown, written):
    class_folders(root / "train", names)
    pictures(root / "test", ["t0.png"])
    table(root / "sample_submission.csv", ["id", "label"], [["t0", shown]])
    competition, _, told = described(root)
    assert competition.submission.spelling == dict(zip(names, written, strict=True))
    assert "the numbers in front of the names" in told


@pytest.mark.parametrize("mark", [",", "|", ";"])
def test_the_best_classes_are_separated_as_in_the_sample(root, mark):
    with_sample(root, ["id", "label"], [mark.join(CLASSES)] * 3)
    form = described(root)[0].submission
    assert (form.takes, form.k, form.separator) == ("ranked", 3, mark)


@pytest.mark.parametrize(
    ("mark", "shown", "expected"),
    [
        (",", "healthy, light rust", ", "),
        ("|", "healthy|light rust", "|"),
        ("|", "healthy", "|"),  # as in the labels, since the sample shows none
        (";", "", ";"),
    ],
)
def test_sets_are_separated_as_in_the_sample_or_else_in_the_labels(root, mark, shown, expected):
    kinds = ["healthy", "light rust", f"healthy{mark}light rust", "scab"]
    pictures(root / "train", [f"a{n}.png" for n in range(16)])
    pictures(root / "test", ["t0.png"])
    table(root / "train.csv", ["id", "labels"], [[f"a{n}", kinds[n % 4]] for n in range(16)])
    table(root / "sample_submission.csv", ["id", "labels"], [["t0", shown]])
    form = described(root)[0].submission
    assert (form.takes, form.separator, form.spelling) == ("set", expected, {})


def test_sets_of_numbers_are_written_as_a_file_says(root):
    kinds = ["healthy", "rust", "healthy|rust", "scab"]
    pictures(root / "train", [f"a{n}.png" for n in range(16)])
    pictures(root / "test", ["t0.png"])
    table(root / "train.csv", ["id", "labels"], [[f"a{n}", kinds[n % 4]] for n in range(16)])
    table(root / "classes.csv", ["name", "code"], [["scab", 0], ["rust", 1], ["healthy", 2]])
    table(root / "sample_submission.csv", ["id", "labels"], [["t0", "0 2"]])
    form = described(root)[0].submission
    assert (form.separator, form.spelling) == (" ", {"healthy": "2", "rust": "1", "scab": "0"})


@pytest.mark.parametrize(("classes", "positive"), [(("abnormal", "normal"), "abnormal"), (("cat", "dog"), "dog")])
def test_the_absence_of_something_is_not_what_is_predicted(root, classes, positive):
    class_folders(root / "train", classes)
    pictures(root / "test", ["t0.png"])
    table(root / "sample_submission.csv", ["id", "target"], [["t0", 0.5]])
    assert described(root)[0].submission.positive == positive


def test_a_sample_with_numbered_rows_is_refused(root):
    class_folders(root / "train")
    pictures(root / "test", ["t0.png"])
    table(root / "sample_submission.csv", ["", "id", "label"], [[0, "t0", "rust"]])
    assert "the first column has no heading" in refused(root)


# ----------------------------------------------------------------------------------------------------------- the pixels


def test_pixels_below_zero_have_a_black_too(root):
    for name in CLASSES:
        for n in range(3):
            path = root / "train" / name / f"{n}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(RANDOM.uniform(-25, 0, (8, 8)).astype(np.float32)).save(path)
    competition, listing, told = described(root)
    assert (competition.image.black, competition.image.levels) == (-25, 1)
    assert "image.levels: 1, image.black: -25" in told
    assert np.ptp(decode(listing.train.images[0], competition.image)) > 200
    with pytest.raises(UserError, match=r"set image\.black"):
        decode(listing.train.images[0], competition.image.model_copy(update={"black": 0}))


@pytest.mark.parametrize("veiled", [True, False])
def test_a_fourth_channel_is_transparency_or_refused(root, veiled):
    for name in CLASSES:
        for n in range(3):
            pixels = RANDOM.integers(1, 255, (8, 8, 4), dtype=np.uint8)
            if not veiled:
                pixels[..., 3] = np.where(pixels[..., 3] < 50, 0, 255)
            path = root / "train" / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(pixels, "RGBA").save(path)
    if veiled:
        assert "the fourth channel varies in most pixels of 9 of 9 images" in refused(root)
    else:
        assert "what is transparent becomes white" in described(root)[2]


def test_greys_far_from_zero_are_spread(root):
    for name in CLASSES:
        for n in range(3):
            path = root / "train" / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(RANDOM.integers(32000, 33000, (8, 8)).astype(np.uint16)).save(path)
    competition, listing, _ = described(root)
    assert 32000 <= competition.image.black < 32100
    assert 32900 < competition.image.levels <= 33000
    assert np.ptp(decode(listing.train.images[0], competition.image)) > 200
