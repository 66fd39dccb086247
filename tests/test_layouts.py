"""Whole layouts of competitions: what `init` and loading make of them, against what is true of them."""

import csv
import importlib.util
import json
import os
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from conftest import SHARED
from described_layouts import classes_of, described, pictures, refused, table
from featherweight import config, paths, submission
from featherweight.data.listing import Samples
from featherweight.data.numbered_names import keys
from featherweight.data.pack import load
from featherweight.describe.competition_file import Options, init
from featherweight.errors import UserError

MAKER = SHARED.parent / "layouts" / "make_layouts.py"
KINDS = {"labels": "labels", "probability": "probability", "probabilities": "probabilities"}
KINDS |= {"multilabel": "set", "top 5": "ranked"}
CLASSES = ["cat", "dog", "owl"]
REFUSED = {  # a real layout that is no task for this program, or of files that it does not read, and why
    "bengaliai-cv19": "three targets",
    "tpu-getting-started": "TFRecord files",
    "rsna-breast-cancer-detection": "one probability for each breast",
    "cdiscount-image-classification-challenge": "BSON files",
}
NEEDS = {"bengaliai-cv19": "pyarrow"}  # without it, the miniature is not drawn
ALONE = ["planet-jpg-only", "gtsrb-official", "cub-200-2011"]  # of which each is the only one of its kind
SLOW = ("digit-recognizer", "kannada-mnist", "statoil-iceberg-classifier-challenge", "fashionmnist-csv")
# fmt: off
READ = [
    "cassava-leaf-disease-classification", "aptos2019-blindness-detection", "dogs-vs-cats-redux-kernels-edition",
    "dog-breed-identification", "aerial-cactus-identification", "plant-pathology-2020-fgvc7",
    "planet-understanding-the-amazon-from-space", "histopathologic-cancer-detection",
    "state-farm-distracted-driver-detection", "humpback-whale-identification", "siim-isic-melanoma-classification",
    "leaf-classification", "intel-image-classification", "plant-seedlings-classification", "herbarium-2022-fgvc9",
    "iwildcam-2020-fgvc7", "sorghum-id-fgvc-9", "gtsrb-kaggle", "grey16-full", "grey16-12bit",
    "rgba-cmyk-palette", "exif-rotated", "cifar-10", "happy-whale-and-dolphin", "skin-cancer-mnist-ham10000",
    "imet-2020-fgvc7", "alaska2-image-steganalysis", "tiny-imagenet-200", "chest-xray-pneumonia", "fruits-360",
    "asl-alphabet", "flower-102-folders", "nih-sample",
]
# fmt: on


def listed(part):
    return part if part is None or isinstance(part, Samples) else part.read()


def sets(classes):
    return set(classes.split()) if isinstance(classes, str) else set(classes)


def marked(mark, names):
    return [pytest.param(name, marks=mark) for name in names]


@pytest.mark.parametrize(
    "name", [*ALONE, *marked(pytest.mark.some(4), [*READ, *REFUSED]), *marked(pytest.mark.slow, SLOW)]
)
def test_a_real_layout_is_read_as_it_is(home, name):
    if not MAKER.is_file():
        pytest.skip("the miniatures of competitions are not on this machine")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    spec = importlib.util.spec_from_file_location("make_layouts", MAKER)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.main(home, [name])
    root, truth = home / "data" / name, json.loads((home / "truth" / f"{name}.json").read_text())
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            init(root, Options())
        return
    competition = config.load_competition(str(init(root, Options()).path))
    listing = competition.source(paths.data())
    train, test = listed(listing.train), listed(listing.predict)
    of = (
        dict(zip([os.path.relpath(path, root) for path in train.images], train.labels, strict=True))
        if isinstance(train.images, list)
        else dict(zip(truth["train"], train.labels, strict=True))
    )
    held = listed(listing.valid) if name == "cub-200-2011" else None
    if held:
        of |= dict(zip([os.path.relpath(path, root) for path in held.images], held.labels, strict=True))
    if truth["kind"] == "multilabel":
        apart = name != "nih-sample"  # whose findings have names of two words
        assert {file: sets(found) for file, found in of.items()} == {
            file: sets(names) if apart else {names} for file, names in truth["train"].items()
        }
    else:
        assert of == truth["train"]
    known = train.groups or (keys(train.ids, competition.group) if competition.group else [])
    group_of = dict(zip(of, known, strict=True)) if truth["groups"] else {}
    pairs = {(group, group_of[file]) for file, group in truth["groups"].items()}
    assert len(pairs) == len({group for group, _ in pairs}) == len({group for _, group in pairs})
    if truth["flag"]:
        assert competition.metric.name == truth["flag"]
    if truth["test"]:
        assert submission.form(competition, test.ids).ids == [*truth["test"]]
        assert competition.submission.takes == KINDS[truth["kind"]]
        _predicts_what_is_true(home / "submission.csv", competition, test, truth["test"])
    data = load(competition.source, competition.image, competition.classes)
    assert len(data.train) == len(of) - (len(held.ids) if held else 0)


def _predicts_what_is_true(path, competition, test, truth):
    """Write a submission that is sure of the true classes, and read its first column after the ids."""
    form = submission.form(competition, test.ids)
    probs = np.full((len(test.ids), len(competition.classes)), 0.001, np.float32)
    row_of = {id: row for row, id in enumerate(test.ids)}
    for id, image in zip(form.ids, form.images, strict=True):
        for name in sets(truth[id]) if form.takes == "set" else {truth[id]}:
            if name in competition.classes:  # a sample may ask for a class that no image has
                probs[row_of[image], competition.classes.index(name)] = 0.99
    submission.write(path, form, test.ids, probs)
    with path.open(newline="") as stream:
        rows = [*csv.DictReader(stream)]
    for id, *values in map(dict.values, rows) if form.takes in ("labels", "ranked") else ():
        assert (values[0] if form.takes == "labels" else values[0].split()[0]) == truth[id]
    for id, answer in map(dict.values, rows) if form.takes == "set" else ():
        assert sets(answer) == sets(truth[id]) & {*competition.classes}
    for row in rows if form.takes == "probabilities" else ():
        assert float(row[truth[row[form.columns[0]]]]) > 0.9
    for row in rows if form.takes == "probability" else ():
        positive = competition.classes[form.positive]
        assert (float(row[form.columns[1]]) > 0.5) == (truth[row[form.columns[0]]] == positive)


# -------------------------------------------------------------------------------------------- kinds of layouts, by hand


def class_folders(root, each=4):
    pictures(root, [f"train/{name}/{name}{n}.png" for name in CLASSES for n in range(each)])


@pytest.mark.parametrize("outer", [("day1", "day2"), ("2023-05-01", "2023-05-02")])
@pytest.mark.parametrize("train", ["", "train/"])
def test_folders_of_days_that_each_hold_the_classes_are_none(root, outer, train):
    names = [f"{train}{day}/{name}/{n}.png" for day in outer for name in CLASSES[:2] for n in range(3)]
    pictures(root, names)
    _, listing, told = described(root)
    assert classes_of(root, listing.train) == {name: name.split("/")[-2] for name in names}
    assert "all hold the same classes, and are none" in told


def test_folders_of_days_within_classes_are_no_classes(root):
    names = [f"train/{name}/2023-05-0{day}/{n}.png" for name in CLASSES for day in (1, 2) for n in range(3)]
    pictures(root, names)
    assert classes_of(root, described(root)[1].train) == {name: name.split("/")[1] for name in names}


def test_folders_within_that_may_be_the_classes_are_told(root):
    pictures(root, [f"{outer}/{inner}/{n}.png" for outer in "ab" for inner in ("zoo", "home") for n in range(3)])
    assert "the classes are the outer folders, and not those within, as a/home, b/home" in described(root)[2]


def test_classes_within_folders_are_refused_where_the_sample_asks_for_them(root):
    names = [f"train/{outer}/{inner}/{n}{inner}.png" for outer, inner in ("xa", "xb", "yc", "yd") for n in range(3)]
    pictures(root, [*names, "test/t.png"])
    table(root / "sample_submission.csv", ["id", "label"], [["t.png", "c"]])
    told = refused(root)
    assert "asks for 'c', a folder within a folder" in told
    subprocess.run(["bash", "-c", told.partition("each other: ")[2]], check=True)
    assert {*described(root)[1].train.labels} == {*"abcd"}


def test_training_images_beside_the_folder_of_those_to_predict(root):
    pictures(root, [f"{n}.png" for n in range(6)] + [f"test/{n}.png" for n in range(3)])
    table(root / "train.csv", ["id", "label"], [[f"{n}.png", CLASSES[n % 3]] for n in range(6)])
    table(root / "sample_submission.csv", ["id", "label"], [[f"{n}.png", "cat"] for n in range(3)])
    _, listing, _ = described(root)
    assert classes_of(root, listing.train) == {f"{n}.png": CLASSES[n % 3] for n in range(6)}
    assert [os.path.relpath(path, root) for path in listing.predict.images] == [f"test/{n}.png" for n in range(3)]


@pytest.mark.parametrize("names", [False, True])
def test_images_for_which_the_sample_does_not_ask_are_left_out(root, names):
    if names:
        pictures(root, [f"train/{name}.{n}.png" for name in CLASSES for n in range(4)])
    else:
        class_folders(root)
    pictures(root, [*(f"test/{n}.png" for n in range(4)), "test/example.png"])
    table(root / "sample_submission.csv", ["id", "label"], [[n, "cat"] for n in (2, 0, 1, 3)])
    competition, listing, told = described(root)
    assert sorted(listing.predict.ids) == [f"{n}.png" for n in range(4)]
    assert submission.form(competition, listing.predict.ids).images == ["2.png", "0.png", "1.png", "3.png"]
    assert "asks for 4 of 5 images to predict; left out: example.png" in told


@pytest.mark.parametrize(("group", "count"), [(None, 8), ("none", 0)])
def test_a_row_for_a_folder_is_one_for_each_of_its_images(root, group, count):
    """As the studies of MURA: a list without headings, of paths from another folder."""
    folders = [f"train/XR_{part}/patient{n}/study1" for part in ("HAND", "WRIST") for n in range(4)]
    names = [f"{folder}/image{n}.png" for folder in folders for n in (1, 2)]
    pictures(root, names)
    rows = [f"old/{folder}/,{n % 2}" for n, folder in enumerate(folders)]
    (root / "train_labeled_studies.csv").write_text("\n".join(rows) + "\n")
    _, listing, told = described(root, group=group)
    assert classes_of(root, listing.train) == {name: str(n // 2 % 2) for n, name in enumerate(names)}
    assert len({*(listing.train.groups or ())}) == count
    assert "folders of 16 images" in told


def test_a_row_for_a_patient_is_one_for_each_scan(root):
    names = [f"train/p{n}/{place}.png" for n in range(8) for place in (1, 2)]
    pictures(root, names)
    table(root / "train.csv", ["patient_id", "label"], [[f"p{n}", n % 2] for n in range(8)])
    assert classes_of(root, described(root)[1].train) == {name: str(n // 2 % 2) for n, name in enumerate(names)}


def test_a_table_that_describes_the_class_folders_is_no_table_of_folders(root):
    class_folders(root)
    table(root / "classes.csv", ["class", "kind"], [["cat", "mammal"], ["dog", "mammal"], ["owl", "bird"], ["x", "y"]])
    assert {*described(root)[1].train.labels} == {*CLASSES}


@pytest.mark.parametrize(
    "content",
    [
        {f"{n}.png": {"label": CLASSES[n % 3], "w": 8} for n in range(12)},
        {f"{n}.png": {"label": {"id": n % 3, "name": CLASSES[n % 3]}} for n in range(12)},
        {"info": {"version": 1}, "labels": {f"{n}.png": CLASSES[n % 3] for n in range(12)}},
        {"licence": "x", "data": [{"file": f"{n}.png", "label": CLASSES[n % 3]} for n in range(12)]},
        {name: [str(n) for n in range(12) if n % 3 == k] for k, name in enumerate(CLASSES)},
        {"file": [f"{n}.png" for n in range(12)], "label": [CLASSES[n % 3] for n in range(12)]},
        {"file": {n: f"{n}.png" for n in range(12)}, "label": {n: CLASSES[n % 3] for n in range(12)}},
        {"columns": ["file", "label"], "data": [[f"{n}.png", CLASSES[n % 3]] for n in range(12)]},
    ],
)
def test_json_however_it_is_arranged(root, content):
    pictures(root, [f"images/{n}.png" for n in range(12)])
    (root / "labels.json").write_text(json.dumps(content))
    wanted = {f"images/{n}.png": CLASSES[n % 3] for n in range(12)}
    assert classes_of(root, described(root)[1].train) == wanted


def test_json_by_the_parts_of_the_data(root):
    pictures(root, [f"images/{n}.png" for n in range(12)])
    parts = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    label = {part: {"label": CLASSES} if part != "test" else {} for part in parts}
    content = {
        part: [{"file": f"{n}.png", **{key: names[n % 3] for key, names in label[part].items()}} for n in places]
        for part, places in parts.items()
    }
    (root / "dataset.json").write_text(json.dumps(content))
    listing = described(root)[1]
    assert classes_of(root, listing.train) == {f"images/{n}.png": CLASSES[n % 3] for n in range(6)}
    assert classes_of(root, listing.valid) == {f"images/{n}.png": CLASSES[n % 3] for n in range(6, 9)}
    assert listing.predict.ids == [f"{n}.png" for n in range(9, 12)]


def test_lists_of_one_class_each_are_no_names(root):
    pictures(root, [*(f"train/{n}.png" for n in range(6)), "test/t.png"])
    table(root / "train.csv", ["image", "label"], [[f"{n}.png", f"['{CLASSES[n % 3]}']"] for n in range(6)])
    table(root / "sample_submission.csv", ["image", "label"], [["t.png", "cat"]])
    competition, listing, _ = described(root)
    assert (competition.classes, competition.target) == (CLASSES, "one")
    assert listing.train.labels == CLASSES * 2


@pytest.mark.parametrize("other", [str.upper, lambda name: unicodedata.normalize("NFD", name)])
def test_ids_of_other_capitals_or_accents_name_the_images(root, other):
    names = [f"forêt_{n}a.png" for n in range(6)]
    pictures(root, [f"train/{name}" for name in names])
    rows = [[other(name) if n % 2 else name, CLASSES[n % 3]] for n, name in enumerate(names)]
    table(root / "train.csv", ["image", "label"], rows)
    listing = described(root)[1]
    assert classes_of(root, listing.train) == {f"train/{name}": CLASSES[n % 3] for n, name in enumerate(names)}


def test_a_table_for_each_class_is_refused_with_the_command_that_joins_them(root):
    pictures(root, [f"images/{n}.png" for n in range(12)])
    for k, name in enumerate(CLASSES):
        table(root / f"{name}.csv", ["image", "width"], [[f"{n}.png", 8] for n in range(12) if n % 3 == k])
    told = refused(root)
    assert "3 tables that each list images, as of one class each: cat.csv, dog.csv, owl.csv" in told
    subprocess.run(["bash", "-c", told.splitlines()[1]], check=True)
    for name in CLASSES:
        (root / f"{name}.csv").unlink()
    wanted = {f"images/{n}.png": CLASSES[n % 3] for n in range(12)}
    assert classes_of(root, described(root)[1].train) == wanted


def test_a_command_is_shown_only_where_it_works(root):
    root = root / "it's"
    pictures(root, [f"images/{n}.png" for n in range(12)])
    for k, name in enumerate(CLASSES):
        table(root / f"{name}.csv", ["image", "width"], [[f"{n}.png", 8] for n in range(12) if n % 3 == k])
    subprocess.run(["bash", "-c", refused(root).splitlines()[1]], check=True)
    (root / "all_labels.csv").unlink()
    table(root / "cat.csv", ["width", "image"], [["8,5", f"{n}.png"] for n in range(0, 12, 3)])
    assert "tail" not in refused(root)


def test_tables_that_contradict_each_other_are_refused(root):
    pictures(root, [f"images/{n}.png" for n in range(12)])
    for k, name in enumerate(CLASSES):
        table(root / f"{name}.csv", ["image", "label"], [[f"{n}.png", int(n % 3 == k)] for n in range(12)])
    assert "cat.csv and dog.csv say different classes of the same images" in refused(root)


def test_halves_of_a_label_table_are_told_with_the_command_that_joins_them(root):
    root = root / "it's"
    pictures(root, [f"images/{n}.png" for n in range(12)])
    halves = {"part=1.csv": range(4), "part=2.csv": range(4, 12)}
    for name, numbers in halves.items():
        table(root / name, ["image", "label"], [[f"{n}.png", CLASSES[n % 3]] for n in numbers])
    report = init(root, Options(name="x", mirror=False))
    place = next(n for n, line in enumerate(report.assumed) if "part=1.csv (4 rows): rows of other images" in line)
    command = report.assumed[place].splitlines()[1]
    subprocess.run(["bash", "-c", command], check=True)
    for name in halves:
        (root / name).unlink()
    report.path.unlink()
    assert len(described(root)[1].train.ids) == 12


def test_parts_that_name_their_images_alike_are_not_told_to_be_joined_as_they_are(root):
    for part, count in (("a", 8), ("b", 6)):
        pictures(root, [f"{part}/{n}.png" for n in range(count)])
        rows = [[f"{n}.png", CLASSES[n % 3]] for n in range(count)]
        table(root / part / "labels.csv", ["image", "label"], rows)
    told = described(root)[2]
    assert "b/labels.csv (6 rows): rows of other images" in told
    assert "with the folder before the name of each image" in told


@pytest.mark.parametrize(("column", "said"), [("y", "pass --label COLUMN, or --group COLUMN"), ("x", "move train.csv")])
def test_other_classes_of_the_same_images_are_told_with_the_way_to_them(root, column, said):
    pictures(root, [f"images/{n}.png" for n in range(12)])
    table(root / "train.csv", ["image", "x"], [[f"{n}.png", CLASSES[n % 3]] for n in range(12)])
    table(root / "more.csv", ["image", column], [[f"{n}.png", n % 2] for n in range(12)])
    assert f"more.csv (12 rows): to use one instead, {said}" in described(root)[2]


def test_a_noisy_table_is_second_to_a_curated_one(root):
    for part, count in (("curated", 6), ("noisy", 24)):
        pictures(root, [f"train_{part}/{part}{n}.png" for n in range(count)])
        table(root / f"train_{part}.csv", ["file", "label"], [[f"{part}{n}", CLASSES[n % 3]] for n in range(count)])
    _, listing, told = described(root)
    assert len(listing.train.ids) == 6
    assert "not used, though they have classes of images: train_noisy.csv (24 rows)" in told


def test_findings_of_which_some_are_uncertain_are_refused(root):
    pictures(root, [f"train/{n}.png" for n in range(8)])
    values = ["1.0", "0.0", "-1.0", ""]
    rows = [[f"train/{n}.png", values[n % 4], values[n // 2 % 4]] for n in range(8)]
    table(root / "train.csv", ["Path", "Edema", "Pneumonia"], rows)
    assert "2 columns hold 1, 0 and -1 (Edema, Pneumonia)" in refused(root)


def test_lists_whose_class_names_have_spaces(root):
    names = {"707": "Boeing 707", "A3": "A300", "EF": "Eurofighter Typhoon"}
    pictures(root, [f"images/{n:07}.png" for n in range(18)])
    lines = [f"{n:07} {[*names.values()][n % 3]}\n" for n in range(18)]
    (root / "variant_train.txt").write_text("# image variant\n" + "".join(lines[:12]))
    (root / "variant_test.txt").write_text("".join(lines[12:]))
    (root / "images_test.txt").write_text("".join(f"{n:07}\n" for n in range(12, 18)))
    listing = described(root)[1]
    assert classes_of(root, listing.train) == {f"images/{n:07}.png": [*names.values()][n % 3] for n in range(12)}
    assert listing.answers()["0000014"] == "Eurofighter Typhoon"


def test_trimaps_in_a_folder_of_annotations_are_no_images(root):
    names = [f"{name}_{n}" for name in CLASSES for n in range(4)]
    pictures(root, [f"{folder}/{name}.png" for folder in ("images", "annotations/trimaps") for name in names])
    rows = [f"{name} {CLASSES.index(name[:3]) + 1}\n" for name in names]
    (root / "annotations" / "trainval.txt").write_text("".join(rows))
    wanted = {f"images/{name}.png": str(CLASSES.index(name[:3]) + 1) for name in names}
    assert classes_of(root, described(root)[1].train) == wanted


def test_a_table_of_pixels_without_headings_is_the_class_and_pixels(root):
    rows = [[n % 3, *np.random.default_rng(n).integers(0, 3, 64).tolist()] for n in range(12)]
    table(root / "train.csv", rows[0], rows[1:])
    train = described(root)[1].train.read()
    assert (train.labels, train.images.shape) == ([str(n % 3) for n in range(12)], (12, 8, 8))
    assert train.places[0].endswith("train.csv:1")


def test_a_column_before_those_of_pixels_is_the_class(root):
    """As pandas names the columns of a table without headings that it has read: 0, 0.1, 0.2, ..."""
    rows = [[n % 3, *np.random.default_rng(n).integers(0, 255, 64).tolist()] for n in range(12)]
    table(root / "letters.csv", ["0", *(f"0.{n}" for n in range(1, 65))], rows)
    train = described(root)[1].train.read()
    assert (train.labels, train.images.shape) == ([str(n % 3) for n in range(12)], (12, 8, 8))


def test_bands_of_json_beyond_the_range_are_not_clipped(root):
    def write(part, low, high):
        rows = [{"id": f"{part}{n}", "band_1": np.linspace(low, high, 64).tolist()} for n in range(6)]
        labels = [{"label": n % 2} if part == "train" else {} for n in range(6)]
        (root / f"{part}.json").write_text(json.dumps([row | label for row, label in zip(rows, labels, strict=True)]))

    write("train", -20, 0)
    write("test", -20, 20)
    competition, listing, _ = described(root)
    assert competition.source.range == [-20.0, 20.0]
    assert [int(listing.predict.read().images[0].ravel()[place]) for place in (0, 63)] == [0, 255]
    write("test", -20, 30)
    with pytest.raises(UserError, match=r"test.json: row 1: band_1: expected pixels of -20 to 20, got -20 to 30"):
        listing.predict.read()


@pytest.mark.parametrize("wide", [False, True])
def test_a_submission_is_separated_as_the_sample_is(root, wide):
    class_folders(root)
    pictures(root, ["test/t0.png", "test/t1.png"])
    values = [0.2, 0.3, 0.5] if wide else ["cat"]
    header = ["id", *CLASSES] if wide else ["id", "label"]
    table(root / "sample_submission.csv", header, [["t1", *values], ["t0", *values]], ";")
    competition, listing, _ = described(root)
    form = submission.form(competition, listing.predict.ids)
    path = root / "written.csv"
    submission.write(path, form, listing.predict.ids, np.eye(3, dtype=np.float32)[:2])
    first = [line.split(";")[0] for line in path.read_text().splitlines()]
    assert (path.read_text().splitlines()[0], first) == (";".join(header), ["id", "t1", "t0"])
    assert len(submission.check(path, form)) == 2


def test_a_sample_with_the_ids_second_is_refused_with_the_command(root):
    class_folders(root)
    pictures(root, [f"test/t{n}.png" for n in range(3)])
    table(root / "sample_submission.csv", ["Category", "Id"], [["cat", f"t{n}"] for n in range(3)])
    told = refused(root)
    assert "the ids stand second" in told
    subprocess.run(["bash", "-c", told.splitlines()[2]], check=True, cwd=root)
    assert described(root)[0].submission.id == "Id"


def test_other_files_called_as_samples_are_told(root):
    class_folders(root)
    pictures(root, ["test/t0.png"])
    for name in ("sample_submission", "submission"):
        table(root / f"{name}.csv", ["id", "label"], [["t0", "cat"]])
    assert "sample submission: sample_submission.csv; not used: submission.csv" in described(root)[2]


@pytest.mark.parametrize("shown", ["Sugar Beet", "Sugar beet", "SUGAR_BEET"])
def test_classes_spelled_as_titles(root, shown):
    names = [f"train/{name}/{n}.png" for name in ("fat_hen", "sugar_beet") for n in range(3)]
    pictures(root, [*names, "test/t.png"])
    table(root / "sample_submission.csv", ["id", "species"], [["t.png", shown]])
    assert described(root)[0].submission.spelling["sugar_beet"] == shown


def test_images_to_predict_in_files_that_are_not_read_are_told(root):
    pictures(root, [f"train/{n}.png" for n in range(6)])
    table(root / "train.csv", ["id", "target"], [[n, n % 2] for n in range(6)])
    table(root / "sample_submission.csv", ["id", "target"], [["t9", 0.3]])
    Path(root / "test.bson").write_bytes(b"x")
    assert "'t9' names no image file; are the images to predict in test.bson?" in refused(root)


def test_labels_in_files_that_are_not_read_are_told(root):
    pictures(root, [f"jpg/image_{letter}.png" for letter in "pqrstu"])
    Path(root / "imagelabels.mat").write_bytes(b"MATLAB")
    assert "imagelabels.mat and others are MATLAB files, which are not read here" in refused(root)


def test_a_table_beside_class_folders_that_names_no_image_is_told(root):
    class_folders(root)
    table(root / "wells.csv", ["well", "label"], [[f"B{n}", n % 2] for n in range(12)])
    assert "not used, since its rows name none of the images: wells.csv" in described(root)[2]
