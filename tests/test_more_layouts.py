"""Kinds of layouts that real data sets have: what `init` makes of them, or why it refuses them."""

import shlex

import numpy as np
import pytest

from described_layouts import classes_of, described, pictures, refused, table
from drawn_pictures import picture
from featherweight import config, paths
from featherweight.console import one_command
from featherweight.data.detect.folder_roles import settle
from featherweight.describe.competition_file import Options, init

CLASSES = ["cat", "dog", "owl"]


@pytest.fixture
def root(home):
    return home / "data" / "x"


def rows_of(names):
    return [[name, CLASSES[number % 3]] for number, name in enumerate(names)]


# ----------------------------------------------------------------------------------------------- tables and their files


def test_images_of_every_part_may_have_the_same_names(root):
    for part, count in (("train", 12), ("val", 6), ("test", 9)):
        pictures(root / part, [f"{n}.png" for n in range(count)])
    table(root / "train.csv", ["ImageID", "label"], rows_of(range(12)))
    table(root / "val.csv", ["ImageID", "label"], rows_of(range(5, -1, -1)))
    table(root / "sample_submission.csv", ["ImageID", "label"], [[n, "owl"] for n in range(9)])
    competition, listing, _ = described(root)
    assert classes_of(root, listing.train) == {f"train/{n}.png": CLASSES[n % 3] for n in range(12)}
    assert classes_of(root, listing.valid) == {f"val/{n}.png": CLASSES[(5 - n) % 3] for n in range(6)}
    assert [*map(str, listing.predict.images)] == [str(root / f"test/{n}.png") for n in range(9)]
    assert competition.classes == CLASSES


def test_a_list_of_test_images_keeps_them_out_of_training(root):
    names = [f"{n:03}.png" for n in range(18)]
    pictures(root / "images_1", names[:9])
    pictures(root / "images_2", names[9:])
    table(root / "labels.csv", ["image", "label"], rows_of(names))
    (root / "test_list.txt").write_text("\n".join(names[::3]))
    (root / "train_val_list.txt").write_text("\n".join(name for name in names if name not in names[::3]))
    _, listing, told = described(root)
    assert listing.predict.ids == names[::3]
    assert listing.answers() == dict.fromkeys(names[::3], "cat")
    assert [*listing.train.ids] == [name for name in names if name not in names[::3]]
    assert "test_list.txt: their classes are seen by the scorer alone" in told


def test_ids_of_hidden_test_images_are_not_those_of_training(root):
    pictures(root / "train", [f"{n}.png" for n in range(12)])
    table(root / "train.csv", ["id", "label"], rows_of(range(12)))
    table(root / "test.csv", ["id"], [[n] for n in range(4)])
    _, listing, _ = described(root)
    assert len(listing.train.ids) == 12
    assert listing.predict is None


def test_other_lists_beside_a_label_table_are_told(root):
    names = [f"{n:03}.png" for n in range(18)]
    pictures(root / "images", names)
    table(root / "labels.csv", ["image", "label"], rows_of(names))
    (root / "val_list.txt").write_text("\n".join(names[::3]))
    _, listing, told = described(root)
    assert len(listing.train.ids) == 18
    assert "lists of images that are not used: val_list.txt" in told


def test_of_two_folders_with_all_images_the_choice_does_not_depend_on_their_order():
    files = [*(f"small/{n}.png" for n in range(9)), *(f"small_cropped/{n}.png" for n in range(9))]
    reach = {str(n): [n, n + 9] for n in range(9)}
    assert settle(reach, files, "train")[0] == {str(n): n for n in range(9)}


def test_the_sample_of_the_last_stage_asks_for_more_images(root):
    pictures(root, [f"train/{name}/{n}.png" for name in CLASSES for n in range(4)])
    pictures(root, [f"test_{stage}/{stage}{n}.png" for stage in "ab" for n in range(4)])
    ids = {"a": [f"a{n}.png" for n in range(4)]}
    ids["b"] = [*ids["a"], *(f"b{n}.png" for n in range(4))]
    for stage, names in ids.items():
        table(root / f"sample_submission_{stage}.csv", ["image", *CLASSES], [[name, 0.3, 0.3, 0.4] for name in names])
    competition, listing, _ = described(root)
    assert competition.submission.sample.endswith("sample_submission_b.csv")
    assert len(listing.predict.ids) == 8


def test_the_best_classes_in_columns_of_their_own_are_refused(root):
    pictures(root / "images", [f"{n}.png" for n in range(18)])
    table(root / "train.csv", ["image_id", "turtle_id"], rows_of(range(12)))
    sample = [[n, *CLASSES] for n in range(12, 18)]
    table(root / "sample_submission.csv", ["image_id", "prediction1", "prediction2", "prediction3"], sample)
    assert "3 columns (prediction1, prediction2 and 1 more) that hold a class each, perhaps the best" in refused(root)


def test_a_flag_of_the_held_out_images_is_no_class(root):
    pictures(
        root, paths := [f"{part}/{name}/{n}.png" for part in ("train", "val") for name in CLASSES for n in range(5)]
    )
    rows = [[path, path.split("/")[1], path.startswith("val")] for path in paths]
    table(root / "noisy.csv", ["path", "noisy_0", "is_valid"], rows)
    _, listing, _ = described(root)
    assert classes_of(root, listing.train) == {path: path.split("/")[1] for path in paths[:15]}
    assert classes_of(root, listing.valid) == {path: path.split("/")[1] for path in paths[15:]}


def test_observations_are_groups(root):
    names = [f"{n:03}.png" for n in range(18)]
    pictures(root / "images", names)
    rows = [[name, n // 2, CLASSES[n // 2 % 3]] for n, name in enumerate(names)]
    table(root / "metadata.csv", ["image", "observation_id", "class_id"], rows)
    _, listing, _ = described(root)
    assert listing.train.groups == [str(n // 2) for n in range(18)]


# ----------------------------------------------------------------------------------------------- tables of other things


@pytest.mark.parametrize("heading", ["encoding", "pixels", "what"])
def test_masks_as_run_lengths_are_refused(root, heading):
    names = [f"case{n // 9}/{n}.png" for n in range(18)]
    pictures(root / "train", names)
    runs = [[name.rpartition("/")[2], "ab"[n % 2], f"{n + 10} 3 {n + 40} 7"] for n, name in enumerate(names)]
    table(root / "train.csv", ["id", "sex", heading], runs)
    assert f"'{heading}' holds masks as run lengths (segmentation), as '10 3 40 7'" in refused(root)
    _, listing, _ = described(root, label="sex")
    assert len(listing.train.ids) == 18


def test_sets_of_numbers_are_no_run_lengths(root):
    names = [f"{n}.png" for n in range(18)]
    pictures(root / "train", names)
    table(
        root / "train.csv",
        ["id", "attribute_ids"],
        [[name, "1 2 3 4" if n % 2 else "4 2"] for n, name in enumerate(names)],
    )
    competition, _, _ = described(root)
    assert competition.classes == ["1", "2", "3", "4"]


def test_a_row_for_each_image_that_names_none_is_not_ignored(root):
    pictures(root / "data", [f"input_{n // 5}_{n % 5}.png" for n in range(20)])
    table(root / "labels.csv", ["writer", "code"], [[n // 5, n % 5] for n in range(20)])
    assert "labels.csv: 20 rows beside 20 images, and no column names the images" in refused(root)
    (root / "labels.csv").unlink()
    assert len(described(root)[1].train.ids) == 20


def test_rows_of_classes_that_an_image_does_not_show_are_refused(root):
    pictures(root / "train", [f"{n}.png" for n in range(9)])
    rows = [[n, name, int(place == n % 3)] for n in range(9) for place, name in enumerate(CLASSES)]
    table(root / "train.csv", ["ImageID", "LabelName", "Confidence"], rows)
    assert "'Confidence' is 0 or 1: does it say whether the image shows that class?" in refused(root)
    table(root / "train.csv", ["ImageID", "LabelName", "Confidence"], [row for row in rows if row[2]])
    assert described(root)[0].target == "one"


def test_columns_of_1_and_minus_1_are_yes_and_no(root):
    names = [f"{n}.png" for n in range(12)]
    pictures(root / "faces", names)
    rows = [[name, 1 if n % 2 else -1, 1 if n % 3 else -1] for n, name in enumerate(names)]
    table(root / "list_attr.csv", ["image_id", "Bald", "Smiling"], rows)
    assert "pass --label COLUMN, or several by commas" in refused(root)
    _, listing, _ = described(root, label="Bald,Smiling", target="several")
    assert listing.train.labels[:3] == [(), ("Bald", "Smiling"), ("Smiling",)]


def test_labels_of_an_array_in_a_table_are_told_with_the_command(root):
    root.mkdir(parents=True)
    np.save(root / "train_images.npy", np.zeros((9, 8, 8), np.uint8))
    table(root / "train_labels.csv", ["Id", "Category"], rows_of(range(9)))
    message = refused(root)
    assert "train_labels.csv: 9 rows for the 9 images in" in message
    assert 'numpy.save("labels.npy", [row["Category"] for row in' in message


# ---------------------------------------------------------------------------------------------------- folders and names


def test_folders_of_initials_are_no_classes(root):
    names = [f"{name[0]}/{name}/{n}.png" for name in ("abbey", "airport", "bar", "badlands") for n in range(4)]
    pictures(root / "SUN", names)
    pictures(root / "extra", ["0.png"])
    (root / "extra/0.png").unlink()
    assert "the folders are the initials of those within, as a/abbey" in refused(root)


@pytest.mark.parametrize("within", ["images/images", "images"])
def test_folders_of_data_beside_the_one_with_class_folders(root, within):
    pictures(root / within, paths := [f"{name}/{name}_{n}.png" for name in CLASSES for n in range(4)])
    pictures(root / "resized/resized", [path.partition("/")[2] for path in paths])
    _, listing, told = described(root)
    assert classes_of(root, listing.train) == {f"{within}/{path}": path.partition("/")[0] for path in paths}
    assert "set apart: 12 images in resized/" in told


def test_classes_in_the_names_of_validation_images(root):
    pictures(
        root,
        [f"{part}/{n % 3}_{n // 3}.png" for part, count in (("training", 30), ("validation", 9)) for n in range(count)],
    )
    pictures(root / "testing", [f"{n:04}.png" for n in range(6)])
    _, listing, _ = described(root)
    assert (len(listing.train.ids), len(listing.predict.ids)) == (30, 6)
    assert classes_of(root, listing.valid) == {f"validation/{n % 3}_{n // 3}.png": str(n % 3) for n in range(9)}
    picture(root / "validation" / "7_0.png")
    (root / "configs").mkdir(exist_ok=True)
    assert "set apart: 10 images in validation/" in described(root, name="again")[2]


# --------------------------------------------------------------------------------------------------------- known sets


def test_a_list_whose_first_line_counts_its_rows(root):
    """CelebA's: then come the names of the attributes, and rows of a file and 1 or -1 for each."""
    names = [f"{n:06}.jpg" for n in range(1, 25)]
    pictures(root / "img_align_celeba", names)
    rows = [f"{name} {1 if n % 2 else -1:2d} {1 if n % 3 else -1:2d} " for n, name in enumerate(names)]
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), "Male Young ", *rows]) + "\n")
    assert "Male (2 values: -1, 1)\n  Young (2 values: -1, 1)\npass --label COLUMN, or several" in refused(root)
    assert described(root, label="Male")[1].train.labels[:3] == ["-1", "1", "-1"]
    _, listing, told = described(root, label="Male,Young", name="y")
    assert listing.train.labels[:3] == [(), ("Male", "Young"), ("Young",)]
    assert "list_attr_celeba.txt: 24 rows, ids in 'file', one column per class: Male, Young" in told
    table(root / "identity.csv", ["image", "identity"], [[name, n % 5] for n, name in enumerate(names)])
    told = described(root, name="z")[2]
    assert "not used: list_attr_celeba.txt; for classes from there pass --label COLUMN, or several: Male, Young" in told


def test_of_several_numbers_in_names_the_others_are_offered(root):
    """UTKFace's: age, gender, race, date."""
    names = [f"{20 + n % 4}_{n % 2}_{n % 3}_20170116{n:09}.jpg.chip.jpg" for n in range(24)]
    pictures(root, names)
    competition, _, told = described(root)
    assert competition.classes == ["20", "21", "22", "23"]
    assert "the first number (pass --label PATTERN, the class in parentheses)" in told
    (offered,) = [line for line in told.splitlines() if "or the third number, 3 classes: --label " in line]
    (pattern,) = shlex.split(offered.partition("--label ")[2])
    assert described(root, label=pattern, name="y")[0].classes == ["0", "1", "2"]
    assert "as a pattern it finds no class in 24 of 24 names" in refused(root, label="^x(.)", name="z")
    assert "--label race: no table with such a column" in refused(root, label="race", name="z")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_saved_as_text_keeps_its_headings(root, encoding):
    """A spreadsheet's "Unicode text" is UTF-16 with tabs, and a heading is no row without an image."""
    pictures(root / "train", [f"{n}.png" for n in range(12)])
    rows = "".join(f"{n}.png\t{CLASSES[n % 3]}\r\n" for n in range(12))
    (root / "labels.txt").write_bytes(f"photo\tanimal\r\n{rows}".encode(encoding))
    competition, listing, told = described(root)
    assert (competition.source.id, competition.source.label) == ("photo", "animal")
    assert classes_of(root, listing.train) == {f"train/{n}.png": CLASSES[n % 3] for n in range(12)}
    assert "source.faults" not in told


def test_a_sample_submission_of_another_name_is_told(root):
    pictures(root / "train", [f"{n}.png" for n in range(12)])
    pictures(root / "new", [f"x{n}.png" for n in range(4)])
    table(root / "labels.csv", ["id", "animal"], rows_of(range(12)))
    table(root / "abgabe.csv", ["id", "animal"], [[f"x{n}", "cat"] for n in range(4)])
    told = described(root)[2]
    assert "not used: abgabe.csv has 'cat' in all 4 rows, of other images; if it is the sample submission" in told


def test_faults_and_damaged_images_are_told_once(root, capsys):
    pictures(root / "train", [f"{n}.png" for n in range(12)])
    (root / "train" / "3.png").write_bytes(b"")
    table(root / "labels.csv", ["id", "animal"], [*rows_of(range(12)), [5, "cat"]])
    report = init(root, Options(mirror=False))
    told = "\n".join([*report.found, *report.assumed])
    assert told.count("ids with several labels (1): 5 (cat, owl)") == 1
    assert "1 of 11 images looked at cannot be read" in told
    assert "train/3.png (the file is empty)" in told
    assert "image.unreadable: stop" in told
    assert capsys.readouterr().out == ""
    source = config.load_competition(str(report.path)).source.model_copy(update={"faults": "leave out"})
    for _ in range(2):  # each command says it, once
        with one_command():
            source(paths.data())
            source(paths.data())
        assert capsys.readouterr().out.count("left out") == 1
