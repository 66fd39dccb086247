"""How `init` reads class folders: small examples of each layout, with each image's class and part checked."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from featherweight.data.detect.detected import Hints
from featherweight.data.detect.survey import survey
from featherweight.data.sources import SOURCES
from featherweight.errors import UserError

RANDOM = np.random.default_rng(0)


def draw(root: Path, *names: str, each: int = 4) -> None:
    """Write images at these paths; a path with `{n}` is written `each` times."""
    for name in names:
        for number in range(each if "{n}" in name else 1):
            path = root / name.replace("{n}", str(number))
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(RANDOM.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)


def read(root: Path, **hints: str) -> tuple[dict[str, Counter[str]], str]:
    """Return the number of images per class of each part, as the source lists them, and all messages."""
    detected = survey(root / "x", root, Hints(**hints))
    options = {key: value for key, value in detected.source.items() if key != "name"}
    listing = SOURCES[detected.source["name"]](root, **options)
    counted = {"train": Counter(listing.train.labels)}
    if listing.valid:
        counted["valid"] = Counter(listing.valid.labels)
    if listing.predict:
        answers = listing.answers() if listing.answers else {}
        counted["test"] = Counter(answers.get(id, "?") for id in listing.predict.ids)
    return counted, "\n".join([*detected.notes, *detected.assumed])


def alike(*classes: str, each: int = 4) -> Counter[str]:
    return Counter(dict.fromkeys(classes, each))


@pytest.mark.parametrize(
    ("names", "train", "said"),
    [
        (["{c}/images/{n}.png", "{c}/masks/{n}.png"], ("covid", "normal"), "12 masks"),
        (["{c}/{c} ({n}).png", "{c}/{c} ({n})_mask.png"], ("benign", "malignant"), "12 masks"),
        (["{c}/{n}.png", "{c}/masks/{n}_mask.png"], ("polyp", "none"), "12 masks"),
        (["images/{c}/{n}.jpg", "masks/{c}/{n}.png"], ("cat", "dog"), "12 masks"),
        (["train/images/{c}/{n}.jpg", "train/masks/{c}/{n}.png"], ("cat", "dog"), "12 masks"),
        (["{c}/{n}_mask.png"], ("mask", "no_mask"), ""),  # faces with masks, and no masks of others
        (["{c}/{n}.png"], ("masks", "images"), "12 masks"),
    ],
)
def test_masks_beside_images_are_set_apart(tmp_path, names, train, said):
    draw(tmp_path / "x", *(name.replace("{c}", c) for c in train for name in names), each=6)
    if train == ("masks", "images"):
        with pytest.raises(UserError, match="6 images"):
            read(tmp_path)
        return
    counted, told = read(tmp_path)
    assert counted == {"train": alike(*train, each=6)}
    assert said in told


def test_the_same_names_in_a_folder_within_are_other_images_unless_they_are_copies(tmp_path):
    draw(tmp_path / "x", "a/{n}.png", "b/{n}.png", each=6)
    draw(tmp_path / "x/test", "a/{n}.png", "b/{n}.png", each=6)
    counted, _ = read(tmp_path)
    assert counted == {"train": alike("a", "b", each=6), "test": alike("a", "b", each=6)}
    again = (tmp_path / "x/test").rename(tmp_path / "x/flowers")
    for path in again.rglob("*.png"):
        path.write_bytes((tmp_path / "x" / path.relative_to(again)).read_bytes())
    counted, told = read(tmp_path)
    assert counted == {"train": alike("a", "b", each=6)}
    assert "flowers/ holds the same files again" in told


@pytest.mark.parametrize("beside", ["testset/{n}.png", "Train/a/{n}.png"])
def test_copies_further_down_are_no_class(tmp_path, beside):
    draw(tmp_path / "x", beside, each=3)
    draw(tmp_path / "x/flowers", "a/{n}.png", "b/{n}.png", each=6)
    for path in [*(tmp_path / "x/flowers").rglob("*.png")]:
        again = tmp_path / "x/flowers/flowers" / path.relative_to(tmp_path / "x/flowers")
        again.parent.mkdir(parents=True, exist_ok=True)
        again.write_bytes(path.read_bytes())
    if beside.startswith("Train"):
        (tmp_path / "x/flowers").rename(tmp_path / "x/Test")
        (tmp_path / "x/Test/flowers").rename(tmp_path / "x/Test/Test")
        draw(tmp_path / "x", "Train/b/{n}.png", each=3)
    counted, told = read(tmp_path)
    known = {"train": alike("a", "b", each=6), "test": Counter({"?": 3})}
    solved = {"train": alike("a", "b", each=3), "test": alike("a", "b", each=6)}
    assert counted == (solved if beside.startswith("Train") else known)
    assert "holds the same files again: left out" in told


TRAIN = [f"train/{name}/{{n}}.png" for name in "abc"]


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (["colon", "kidney", "largeintestine"], {"train": ["colon", "kidney", "largeintestine"]}, ""),
        (["medieval", "modern", "roman"], {"train": ["medieval", "modern", "roman"]}, ""),
        (["bus", "car", "train"], {"train": ["bus", "car", "train"]}, ""),
        (["boots", "sandals", "trainers"], {"train": ["boots", "sandals", "trainers"]}, ""),
        (["valid", "invalid", "unknown"], {"train": ["invalid", "unknown", "valid"]}, ""),
        (["protest", "contest", "strain"], {"train": ["contest", "protest", "strain"]}, ""),
        (["private", "business", "public"], {"train": ["business", "private", "public"]}, ""),
        (["a", "b", "test"], {"train": ["a", "b"], "test": ["?"]}, "test/*: to predict"),
        (["train/a", "train/train", "test/a", "test/train"], {"train": ["a", "train"], "test": ["a", "train"]}, ""),
        (["Train/a", "Train/b", "Val/a", "Val/b", "TestSet"],
         {"train": ["a", "b"], "valid": ["a", "b"], "test": ["?"]}, ""),
        ([f"seg_{part}/seg_{part}/{name}" for part in ("train", "test") for name in "ab"] + ["seg_pred/seg_pred"],
         {"train": ["a", "b"], "valid": ["a", "b"], "test": ["?"]}, ""),
        (["train/a", "train/b", "extra/c"], {"train": ["a", "b"]}, "set apart: 4 images in extra/"),
        (["color/a", "color/b", "grayscale/a", "grayscale/b", "segmented/a", "segmented/b"], {"train": ["a", "b"]},
         "set apart: grayscale/, segmented/: the classes of color/ in another form"),
        ([f"{part}/{form}/{name}" for part in ("train", "test") for form in ("rgb", "nir") for name in "ab"],
         {"train": ["a", "b"], "test": ["a", "b"]}, "another form"),
        (["a/front", "a/side", "b/front", "b/side"], {"train": ["a", "a", "b", "b"]}, ""),
        ([*(f"aug/aug/{part}/{name}" for part in ("train", "valid") for name in "ab"), "test/test"],
         {"train": ["a", "b"], "valid": ["a", "b"], "test": ["?"]}, ""),
        (["cells", "blood", "cells_again/cells", "cells_again/blood"], {"train": ["blood", "cells"]},
         "set apart: 8 images in cells_again/"),
        (["a/40X", "a/100X", "a/200X", "b/40X", "b/100X", "b/200X"], {"train": [*"aaabbb"]}, ""),
        (["fold1/a", "fold1/b", "fold2/a", "fold2/b"], {"train": ["a", "a", "b", "b"]}, "are none"),
        (["Original Dataset/a", "Original Dataset/b", "Augmented Dataset/a", "Augmented Dataset/b"],
         {"train": ["a", "b"]}, "set apart: Augmented Dataset/"),
        ([f"{n}/{k}" for n in range(8863, 8870) for k in "01"], {"train": [*("01" * 7)]}, "are none"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_which_folders_are_classes(tmp_path, names, wanted, said):
    draw(tmp_path / "x", *(f"{name}/{{n}}.png" for name in names))
    counted, told = read(tmp_path)
    assert {part: sorted(classes.elements()) for part, classes in counted.items()} == {
        part: sorted(4 * classes) for part, classes in wanted.items()
    }
    assert said in told
    assert said.startswith("set apart") or "another form" in said or "set apart" not in told


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"{place}/{name}" for place in ("amazon", "dslr") for name in "abc"], "holds the same 3 folders"),
        ([f"{place}/images/{name}" for place in ("amazon", "dslr") for name in "abc"], "holds the same 3 folders"),
        (
            [*(f"{place}/{name}" for place in ("field", "lab") for name in "abc"), "more/some"],
            "holds the same 3 folders",
        ),
        (["a/train", "a/test", "b/train", "b/test"], "holds the parts test, train"),
        (["train", "thumbs", "masks"], "12 images, as masks/0.png, and nothing that tells their classes"),
        (["train", "test"], "8 images, as test/0.png, and nothing that tells their classes"),
    ],
)
def test_folders_that_may_be_no_classes_are_refused(tmp_path, names, message):
    draw(tmp_path / "x", *(f"{name}/{{n}}.png" for name in names))
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("stray", ["cover.png", "train/cover.png", "train/a/../cover.png"])
def test_a_stray_picture_is_set_apart(tmp_path, stray):
    draw(tmp_path / "x", *TRAIN, "test/{n}.png", stray)
    counted, told = read(tmp_path)
    assert counted == {"train": alike("a", "b", "c"), "test": Counter({"?": 4})}
    assert "set apart: 1 image beside the folders, as " in told


def test_strays_beside_class_folders_without_parts(tmp_path):
    draw(tmp_path / "x", "a/{n}.png", "b/{n}.png", "c/{n}.png", "cover.png")
    assert read(tmp_path)[0] == {"train": alike("a", "b", "c")}


@pytest.mark.parametrize(
    ("tests", "ids", "wanted"),
    [
        (["test_public/p{n}.png", "test_private/q{n}.png"], ["p"], 4),
        (["test_public/p{n}.png", "test_private/q{n}.png"], ["q"], 4),
        (["test_a/p{n}.png", "test_b/q{n}.png"], ["p", "q"], 8),
        (["images_b/q{n}.png"], ["q"], 4),
    ],
)
def test_the_images_to_predict_are_those_of_the_sample_submission(tmp_path, tests, ids, wanted):
    draw(tmp_path / "x", *TRAIN, *tests)
    listed = [f"{name}{n}" for name in ids for n in range(4)]
    (tmp_path / "x/sample_submission.csv").write_text("id,label\n" + "".join(f"{id},a\n" for id in listed))
    counted, _ = read(tmp_path)
    assert counted == {"train": alike("a", "b", "c"), "test": Counter({"?": wanted})}
    listing_ids = survey(tmp_path / "x", tmp_path, Hints()).source["test"]
    assert len([listing_ids] if isinstance(listing_ids, str) else listing_ids) == len(ids)


def test_lists_beside_class_folders_are_no_label_tables(tmp_path):
    """For example Food-101's lists of training files and the flowers' cat_to_name.json."""
    draw(tmp_path / "x", *(f"images/{name}/{{n}}.png" for name in ("1", "2", "3")), each=6)
    (tmp_path / "x/cat_to_name.json").write_text(json.dumps({"1": "rose", "2": "tulip", "3": "iris"}))
    assert read(tmp_path)[0] == {"train": alike("1", "2", "3", each=6)}
    for part, numbers in (("train", range(5)), ("test", range(5, 6))):
        names = {name: [f"{name}/{n}" for n in numbers] for name in "123"}
        (tmp_path / f"x/{part}.json").write_text(json.dumps(names))
        (tmp_path / f"x/{part}.txt").write_text("".join(f"{file}\n" for files in names.values() for file in files))
    assert read(tmp_path)[0] == {"train": alike("1", "2", "3", each=5), "test": alike("1", "2", "3", each=1)}


def test_a_test_table_with_the_classes_leaves_the_label_to_the_training_table(tmp_path):
    draw(tmp_path / "x", *(f"all/{name}_{{n}}.png" for name in "ab"), each=6)
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        rows = [f"{name}_{n}.png,{number},{name}" for number, name in enumerate("ab") for n in numbers]
        (tmp_path / f"x/{part}.csv").write_text("\n".join(["Filename,Label,ClassName", *rows]))
    counted, _ = read(tmp_path)
    assert counted == {"train": alike("a", "b", each=4), "test": alike("a", "b", each=2)}
