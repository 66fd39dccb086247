"""Details of tables, names and archives that could be misread silently or refused without need."""

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from featherweight import config, paths, submission, yaml
from featherweight.cli import main
from featherweight.data import archive
from featherweight.describe.class_names import ordered
from featherweight.errors import UserError
from featherweight.kaggle import download
from featherweight.kaggle.notebook import kernel, push
from featherweight.submission import csv_format

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "data/x").mkdir(parents=True)


def picture(name):
    path = Path("data/x", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def rows(name, header, lines):
    with Path("data/x", name).open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])


def images(count=12, test=0):
    for n in range(count):
        picture(f"images/{n}.png")
    for n in range(test):
        picture(f"test/t{n}.png")


def described(*options):
    assert main.main(["init", "data/x", *options]) == 0
    return config.load_competition("x")


def refused(capsys, *words):
    capsys.readouterr()
    assert main.main([*words]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) <= 5
    return told


# ------------------------------------------------------------------------------------------------------------- tables


def test_an_image_without_a_group_id_is_alone():
    images(40)
    rows("train.csv", ["image", "label", "lesion_id"], [[n, n % 2, f"L{n // 4}" if n < 24 else ""] for n in range(40)])
    groups = described().load().train.groups
    assert len(set(groups)) == 6 + 16
    assert groups[0] == groups[3] != groups[4]


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "NaN"])
def test_what_is_no_number_ends_in_no_traceback(word, capsys):
    images()
    lines = [[n, "ab"[n % 2], 0.25 * n if n % 3 else word] for n in range(12)]
    rows("train.csv", ["image", "label", "measure"], lines)
    assert described().classes == ["a", "b"]


def test_a_sample_of_nans_is_read():
    images(12, 4)
    rows("train.csv", ["image", "label"], [[n, "ab"[n % 2]] for n in range(12)])
    rows("sample_submission.csv", ["image", "label"], [[f"t{n}", "nan"] for n in range(4)])
    assert described().submission.takes == "labels"


def test_measured_numbers_with_gaps_are_still_measured(capsys):
    images()
    rows("train.csv", ["image", "weight_kg"], [[n, "nan" if n == 3 else 0.5 * n] for n in range(12)])
    assert "regression" in refused(capsys, "init", "data/x")


@pytest.mark.parametrize("on", ["TRUE", "True", "1", "yes", "1.0"])
def test_columns_of_truth_values(on):
    off = {"TRUE": "FALSE", "True": "False", "1": "0", "yes": "no", "1.0": "0.0"}[on]
    images(12, 4)
    header = ["image", "cat", "dog", "fox"]
    rows("train.csv", header, [[n, *(on if k == n % 3 else off for k in range(3))] for n in range(12)])
    rows("sample_submission.csv", header, [[f"t{n}", 0.3, 0.3, 0.4] for n in range(4)])
    competition = described()
    assert competition.target == "one"
    assert competition.load().train.labels.tolist() == [n % 3 for n in range(12)]
    Path("configs/competitions/x.yaml").unlink()
    assert described("--label", "cat,dog,fox").target == "one"


@pytest.mark.parametrize("metric", ["macro_f1", "samples_f1"])
def test_sets_of_classes_in_columns_are_answered_as_the_metric_judges(metric):
    images(12, 4)
    header = ["image", "cat", "dog", "fox"]
    rows("train.csv", header, [[n, n % 2, n % 3 // 2, 1] for n in range(12)])
    rows("sample_submission.csv", header, [[f"t{n}", 0, 0, 0] for n in range(4)])
    competition = described("--metric", metric)
    assert (competition.target, competition.submission.takes) == ("several", "one_hot")


@pytest.mark.parametrize(
    ("headings", "spelling"),
    [
        (["cat", "dog", "eel"], {}),
        (["prob_cat", "prob_dog", "prob_eel"], {"cat": "prob_cat", "dog": "prob_dog", "eel": "prob_eel"}),
        (["Cat_p", "Dog_p", "Eel_p"], {"cat": "Cat_p", "dog": "Dog_p", "eel": "Eel_p"}),
    ],
)
def test_columns_of_the_sample_around_the_classes(headings, spelling):
    images(12, 4)
    rows("train.csv", ["image", "label"], [[n, ["cat", "dog", "eel"][n % 3]] for n in range(12)])
    rows("sample_submission.csv", ["image", *headings], [[f"t{n}", 0.3, 0.3, 0.4] for n in range(4)])
    assert described().submission.spelling == spelling


def test_columns_of_the_sample_that_are_no_classes_name_the_way_out(capsys):
    images(12, 4)
    rows("train.csv", ["image", "label"], [[n, ["cat", "dog", "eel"][n % 3]] for n in range(12)])
    rows("sample_submission.csv", ["image", "alpha", "beta", "gamma"], [[f"t{n}", 0, 0, 1] for n in range(4)])
    assert "submission.spelling" in refused(capsys, "init", "data/x")


def test_a_class_without_an_image_keeps_its_column(capsys):
    images(12, 4)
    header = ["image", "cat", "dog", "emu"]
    rows("train.csv", header, [[n, n % 2, 1 - n % 2, 0] for n in range(12)])
    rows("sample_submission.csv", header, [[f"t{n}", 0.3, 0.3, 0.4] for n in range(4)])
    assert described().classes == ["cat", "dog", "emu"]
    assert "no labelled image has the class emu" in capsys.readouterr().out


def test_rows_of_a_validation_table_that_fit_nothing_are_told(capsys):
    images()
    rows("train.csv", ["image", "label"], [[n, "ab"[n % 2]] for n in range(8)])
    rows("valid.csv", ["image", "label"], [*([n, "ab"[n % 2]] for n in range(8, 12)), [99, "a"]])
    described()
    assert "labels without an image of valid.csv (1): 99" in capsys.readouterr().out


def test_lists_of_class_folders_tell_what_they_miss_and_rename_too(capsys):
    for n in range(8):
        picture(f"train/{'ab'[n % 2]}/{n}.png")
        picture(f"val/{n}.png")
    rows("val.csv", ["file", "class"], [*([f"{n}.png", "ab"[n % 2]] for n in range(8)), ["99.png", "a"]])
    source = {"name": "folders", "path": "x", "valid": "val", "valid_list": "x/val.csv", "rename": {"a": "A"}}
    source["list_header"] = ["file", "class"]
    Path("data/x/val.csv").write_text("".join(Path("data/x/val.csv").read_text().splitlines(True)[1:]))
    held_out = competition(source, ["A", "b"]).load().valid
    assert held_out.labels.tolist() == [0, 1] * 4
    assert "rows that name no one image (1): 99.png" in capsys.readouterr().out


def competition(source, classes, **keys):
    text = {"title": "x", "source": source, "image": {"size": 8, "mirror": False}, "classes": classes}
    Path("c.yaml").write_text(yaml.dump({**text, "limit": {"parameters": 9}, "metric": "accuracy", **keys}))
    return config.load_competition("c.yaml")


# ------------------------------------------------------------------------------------------------ ids and their answers


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        (["1", "2"], ["0001.jpg", "0002.jpg"]),
        (["test/a/1.jpg", "test/b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["img.1", "img.2"], ["img.1.jpg", "img.2.jpg"]),
        (["./a/1", "./b/2"], ["a/1.png", "b/2.png"]),
    ],
)
def test_the_sample_names_images_in_every_way_that_labels_do(listed, files):
    assert csv_format.match(listed[::-1], files, Path("s.csv")) == files[::-1]
    with pytest.raises(UserError, match="are not those of"):
        csv_format.match([*listed, "9"], files, Path("s.csv"))


@pytest.mark.parametrize(
    ("answer", "right"), [("3", True), ("3.0", True), (" 3 ", True), ("03", True), ("4", False), ("x", None)]
)
def test_an_answer_is_a_class_in_any_spelling_or_named(tmp_path, answer, right):
    there = competition({"name": "digits"}, ["3", "4"])
    form = submission.Form(("id", "label"), ["a"], ["3", "4"])
    submission.write(tmp_path / "s.csv", form, ["a"], np.array([[0.9, 0.1]]))
    if right is None:
        with pytest.raises(UserError, match=r"the answer of the id 'a' is 'x', which is not one of the 2 classes"):
            submission.score(tmp_path / "s.csv", form, {"a": answer}, there, groups=None)
    else:
        assert submission.score(tmp_path / "s.csv", form, {"a": answer}, there, groups=None).value == right


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"10", "9", "1"}, ["1", "9", "10"]),
        ({"10.0", "2.0", "1.0"}, ["1.0", "2.0", "10.0"]),
        ({"-2", "-10", "3"}, ["-10", "-2", "3"]),
        ({"01", "1"}, ["01", "1"]),
        ({"b", "10", "9"}, ["10", "9", "b"]),
    ],
)
def test_classes_that_are_numbers_stand_in_their_order(names, wanted):
    assert ordered(names) == wanted


def test_digits_with_a_point_are_not_mirrored():
    for n in range(12):
        path = Path(f"data/x/train/{n % 3}.0/{n}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    assert not described().image.mirror


def test_several_frames_are_said(capsys):
    for n in range(8):
        path = Path(f"data/x/train/{'ab'[n % 2]}/{n}.tif")
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [Pillow.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(3)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    described()
    assert "8 of these files hold several frames, of which the first alone is read" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- archives


def zipped(members, method=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    data = stream.getvalue()
    if method is not None:  # as Windows packs more than 2 GB: 9 is Deflate64
        data = data.replace(b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00" + method)
        data = data.replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00" + method
        )
    return data


def test_an_inner_archive_that_is_not_read_stays_packed_and_the_download_stays(capsys):
    Path("x.zip").write_bytes(zipped({"train.zip": zipped({"a.txt": b"a"}, b"\x09\x00"), "labels.csv": b"id,label\n"}))
    archive.unpack(Path("x.zip"), Path("out"), leave_damaged=True)
    assert sorted(path.name for path in Path("out").iterdir()) == ["labels.csv", "train.zip"]
    assert "train.zip in it: cannot be unpacked" in (said := capsys.readouterr().out)
    assert "left packed; unpack it with 7z" in said
    Path("y.zip").write_bytes(Path("x.zip").read_bytes()[:-40])
    with pytest.raises(archive.Damaged):
        archive.unpack(Path("y.zip"), Path("other"), leave_damaged=True)


@pytest.mark.parametrize("name", ["Screenshot 10.01\u202fAM.png", "WhatsApp \u200eImage.png", "a\u00a0b.png"])
def test_blanks_of_other_kinds_are_letters_of_a_name(name):
    Path("x.zip").write_bytes(zipped({name: b"1"}))
    archive.unpack(Path("x.zip"), Path("out"), leave_damaged=True)
    assert [path.name for path in Path("out").iterdir()] == [name]


@pytest.mark.parametrize("letter", ["\x1b", "\n", "\u202e", "\u2028"])
def test_letters_that_steer_a_terminal_are_refused(letter):
    Path("x.zip").write_bytes(zipped({f"a{letter}b.png": b"1"}))
    with pytest.raises(UserError, match="no letter of a name"):
        archive.unpack(Path("x.zip"), Path("out"), leave_damaged=True)


# --------------------------------------------------------------------------------------------------------------- Kaggle


@pytest.mark.parametrize(
    ("source", "keys", "folder"),
    [
        ({"name": "folders", "path": "cats/inner"}, {}, "cats"),
        ({"name": "folders", "path": "cats"}, {}, "cats"),
        ({"name": "pixels", "train": "other/train.csv"}, {"folder": "other"}, "other"),
        ({"name": "pixels", "train": "cats_2/train.csv"}, {}, "cats_2"),
    ],
)
def test_a_download_and_the_notebook_mean_one_folder(source, keys, folder):
    there = competition(source, ["a", "b"], kaggle="cats_2", **keys)
    Path("configs/competitions").mkdir(parents=True)
    Path("c.yaml").rename("configs/competitions/c.yaml")
    assert download.slug_and_folder("c") == ("cats_2", paths.data() / folder)
    assert download.data_folder(there) in (folder, "")


def test_names_with_underscores_are_kaggles_too():
    assert download.slug_and_folder("understanding_cloud_organization")[0] == "understanding_cloud_organization"
    with pytest.raises(UserError, match="no name Kaggle gives"):
        download.slug_and_folder("../x")


def test_a_notebook_of_data_elsewhere_is_refused(tmp_path):
    there = competition({"name": "folders", "path": "x"}, ["a", "b"], kaggle="cats", folder=str(tmp_path))
    recipe = config.load_recipe("digits") if "digits" in paths.config_names("recipes") else None
    with pytest.raises(UserError, match=r"outside .*data"):
        kernel.write(kernel.KernelRequest("r", "c", there, None, recipe))
    assert not list(paths.kernels().glob("*/*"))


def test_the_last_notebook_sent_is_the_one_meant():
    for place, name in enumerate(["b", "a", "c"]):
        path = paths.kernels() / name / "pushed.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"run": "r", "kernel": f"me/{name}", "version": 1}))
        os.utime(path, (place, place))
    assert push.pushed("r")["kernel"] == "me/c"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"run": "r", "kernel": "me/x"}', '{"run": "r", "kernel": "me/x", "vers']
)
def test_a_damaged_note_of_a_notebook_hides_no_other(content, capsys):
    for name, text in (("a", json.dumps({"run": "r", "kernel": "me/a", "version": 1})), ("b", content)):
        path = paths.kernels() / name / "pushed.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert push.pushed("r")["kernel"] == "me/a"
    assert "b/pushed.json: damaged, and ignored" in capsys.readouterr().out
