"""Related images (tracks, copies, near-duplicates) stay on one side of a split; other images stay where they were."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from featherweight.cli import main
from featherweight.config import Split, load_competition, load_recipe
from featherweight.data import image_groups, near_duplicates, parts, split
from featherweight.data.image_groups import ImageGroups
from featherweight.data.pack import Data, Pack
from featherweight.data.parts import divide, group_names
from featherweight.errors import UserError
from featherweight.runs import division, groups
from featherweight.runs.division import RegroupedImages
from featherweight.runs.run import Run

RANDOM = np.random.default_rng(5)
TRAINING = ["--set", "train.epochs=1", "--set", "predict.views=[]", "--threads", "1", "--no-report"]
FRAMES = 8


@pytest.fixture
def here(home, monkeypatch):
    """Make an empty workspace the working directory."""
    monkeypatch.chdir(home)
    return home


def signs(folder, tracks=8, classes=3):
    """Write road signs as in GTSRB, CLASS/TRACK_FRAME.ppm.

    A sign comes nearer, so its frames are ever sharper crops of one image.
    """
    for label in range(classes):
        for track in range(tracks):
            sign = RANDOM.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            sign[2:4, 2:4] = 80 * label
            whole = Pillow.fromarray(sign).resize((60, 60), Pillow.Resampling.BICUBIC)
            for frame in range(FRAMES):
                left, top = RANDOM.integers(0, 4, 2)
                seen = whole.crop((left, top, left + 56, top + 56)).resize((16 + frame, 16 + frame))
                path = folder / f"{label:05d}/{track:05d}_{frame:05d}.ppm"
                path.parent.mkdir(parents=True, exist_ok=True)
                seen.filter(ImageFilter.GaussianBlur((FRAMES - frame) / 8)).save(path)


def pack(images, labels, ids=None):
    return Pack(ids or [f"{RANDOM.integers(10**9)}x" for _ in labels], images, np.asarray(labels, dtype=np.int64))


def pictures(count, side=16):
    return RANDOM.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def plain(count, classes=4):
    """Make unrelated images."""
    return pack(pictures(count), np.arange(count) % classes)


# ------------------------------------------------------------------------------------------------------ the whole run


def test_tracks_of_road_signs_stay_together_with_no_option(here, capsys):
    signs(here / "data/x/train")
    assert main.main(["init", "data/x", "--group", "none"]) == 0
    assert load_competition("x").group is None
    capsys.readouterr()
    assert main.main(["tiny", "--competition", "x", "--name", "r", *TRAINING]) == 0
    said = capsys.readouterr().out
    run = Run.find("r")
    tracks = [{id.rpartition("_")[0] for id in part} for part in (run.split.train, run.split.holdout)]
    assert tracks[0].isdisjoint(tracks[1])
    assert {track.partition("/")[0] for track in tracks[1]} == {"00000", "00001", "00002"}  # each class is scored
    kept = RegroupedImages.read(run)
    assert kept is not None
    assert kept.leaked == kept.held_out == 18  # frames, all of them with others in training
    assert kept.agree == 1
    assert "related images stay on one side (numbered sequences by group: " in said
    assert f"  related     {kept.moved} images moved to one side of the split; else 100.0% of the holdout leaks" in said
    assert kept.learned is not None
    read = max(kept.learned, run.result.holdout.value)
    assert f"reads up to {100 * read:.2f}%" in said
    assert "too good" not in said


def test_related_images_that_are_separated_are_named_where_they_are_wanted(here, capsys):
    base = RANDOM.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    for n in range(40):
        path = here / f"data/x/train/{'ab'[n % 2]}/{'xyzw'[n // 10]}{n % 10}q.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(base[n % 10]).save(path)
    assert main.main(["init", "data/x", "--group", "none"]) == 0
    capsys.readouterr()
    words = ["tiny", "--competition", "x", *TRAINING]
    assert main.main([*words, "--set", "split.grouped=false", "--name", "torn"]) == 0
    said = capsys.readouterr().out
    assert "the score will be too good: 100.0% of the held-out images have related ones that are trained on" in said
    assert "4 of 4 held-out images have related ones that are trained on, so the score on new images is unknown" in said
    assert RegroupedImages.read(Run.find("torn")) is None
    assert main.main([*words, "--name", "kept"]) == 0
    said = capsys.readouterr().out
    assert "related images stay on one side (40 copies and near-duplicates)" in said
    assert "too good" not in said


def test_a_run_goes_on_with_the_split_it_was_started_with(here, capsys):
    signs(here / "data/x/train", tracks=6, classes=2)
    assert main.main(["init", "data/x", "--group", "none"]) == 0
    words = ["tiny", "--competition", "x", *TRAINING]
    assert main.main([*words, "--name", "torn", "--set", "split.grouped=false"]) == 0
    folder = here / "runs/torn"
    before = (folder / "split.json").read_bytes()
    recipe = (folder / "recipe.yaml").read_text()
    assert "grouped: false" in recipe
    # As a run is left that was killed while it trained: without a result.
    for file in ("result.json", "weights.safetensors", "holdout_probs.npy"):
        (folder / file).unlink()
    assert not Run.find("torn").recipe.split.grouped
    assert not load_recipe("tiny", ["split.kin=false"]).split.grouped  # its name in earlier versions
    capsys.readouterr()
    assert main.main(["resume", "torn", "--no-report"]) == 0
    assert (folder / "split.json").read_bytes() == before
    assert "the score will be too good" in capsys.readouterr().out
    (here / "data/x/train/00000/00000_00000.ppm").unlink()
    (folder / "result.json").unlink()
    assert main.main(["resume", "torn", "--no-report"]) == 2
    assert "the images are not those that torn was started with" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- the groups


def related(found):
    """Return True [N] for the images in a group of two or more."""
    return np.bincount(found.group)[found.group] > 1


def test_copies_of_different_classes_are_one_line():
    train = plain(30)
    train.images[20:23] = train.images[:3]
    found = image_groups.find(train)
    assert [len(group) for group in found.same] == [2, 2, 2]
    assert related(found).sum() == 6
    labels = train.labels.copy()
    labels[20:23] = labels[:3]
    labels[20] = (labels[0] + 1) % 4
    told = image_groups.disputes(found, [Pack(train.ids, train.images, labels)], list("abcd"))
    first, other = (f"{train.ids[place]} is {'abcd'[labels[place]]}" for place in (0, 20))
    named = f"different classes for 1 image, as {first} and {other}: correct the labels"
    assert told == [f"{named}, or take the images out"]
    labels[20] = labels[0]
    assert image_groups.disputes(found, [Pack(train.ids, train.images, labels)], list("abcd")) == []


def test_copies_join_declared_groups():
    train = plain(24)
    groups = [f"g{place // 2}" for place in range(24)]
    assert len(set(image_groups.find(train, declared=groups).group)) == 12
    train.images[23] = train.images[0]
    found = image_groups.find(train, declared=groups)
    assert len(set(found.group)) == 11
    assert found.group[0] == found.group[1] == found.group[22] == found.group[23]
    assert found.by == ["declared groups", "2 copies and near-duplicates"]


def test_a_table_of_groups_names_images_as_tables_name_files(home, monkeypatch):
    competition = load_competition("digits").model_copy(update={"groups": "g.csv"})
    ids = [f"train/img{place}.png" for place in range(12)]

    def read(rows):
        (home / "data").mkdir(exist_ok=True)
        (home / "data/g.csv").write_text("id,group\n" + "".join(f"{id},{group}\n" for id, group in rows))
        return group_names(competition, ids, None)

    assert read([(f"img{place}", f"t{place // 3}") for place in range(12)]) == [f"t{place // 3}" for place in range(12)]
    some = read([(ids[0], "a"), (ids[1], "a")])  # as inspect writes it: those that have copies
    assert some == ["a", "a", *ids[2:]]
    assert image_groups.find(plain(12), declared=some).by
    with pytest.raises(UserError, match="12 of the 12 training images have no group"):
        read([(f"frame-{place}", "a") for place in range(12)])
    with pytest.raises(UserError, match="11 of the 12"):
        read([(ids[0], "a"), *((f"x{place}", "a") for place in range(9))])


def test_images_without_a_declared_group_are_counted():
    train = plain(24)
    assert image_groups.find(train, declared=["a", "a", *train.ids[2:]]).by == ["declared groups, 22 images in none"]


def test_a_run_keeps_the_groups_of_what_it_scores_and_counts_them_as_one(tmp_path):
    groups.store(tmp_path, {"a": "a", "b": "a", "c": "c"})
    assert json.loads((tmp_path / "groups.json").read_text()) == {"a": "a", "b": "a"}
    assert groups.of([tmp_path], ["c", "a", "b"]).tolist() == [0, 1, 1]
    assert groups.of([tmp_path], ["c", "a"]) is None  # nobody is related


def test_what_joins_most_of_the_images_joins_none(monkeypatch):
    train = plain(40)
    monkeypatch.setattr(near_duplicates, "groups", lambda images, near: [list(range(30))])
    found = image_groups.find(train)
    assert not related(found).any()
    assert found.apart == 30
    monkeypatch.setattr(near_duplicates, "groups", lambda images, near: [list(range(30)), [30, 31]])
    found = image_groups.find(plain(40))
    assert np.flatnonzero(related(found)).tolist() == [30, 31]  # other copies are still kept together
    assert found.by == ["2 copies and near-duplicates"]


def test_a_long_chain_of_groups_is_cut_and_other_copies_are_kept(monkeypatch):
    train = plain(100)
    monkeypatch.setattr(near_duplicates, "groups", lambda images, near: [[0, 20], [98, 99]])
    found = image_groups.find(train, declared=["a"] * 20 + ["b"] * 15 + train.ids[35:])
    assert found.apart == 2
    assert found.ungrouped == 65
    assert found.group[98] == found.group[99] != found.group[0] != found.group[20]


def test_a_pack_is_looked_at_once(tmp_path, monkeypatch):
    train = plain(30)
    train.images[5] = train.images[3]
    stored = Pack(train.ids, train.images, train.labels, folder=tmp_path)
    first = image_groups.find(stored)
    monkeypatch.setattr(near_duplicates, "groups", lambda *given: pytest.fail("looked for again"))
    assert image_groups.find(stored).group.tolist() == first.group.tolist()
    assert len(list(tmp_path.iterdir())) == 1
    assert stored.take(np.arange(4)).folder is None  # a part of a pack is another pack


def test_small_images_are_copies_only_when_nearly_equal():
    from sklearn.datasets import load_digits

    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
    assert near_duplicates.groups(images) == []
    noisy = (images[:50] + RANDOM.normal(0, 3, images[:50].shape)).clip(0, 255).astype(np.uint8)
    found = near_duplicates.groups(np.concatenate([images[:50], noisy]))
    assert all(other == place + 50 for place, other in found)
    assert len(found) > 30


# ---------------------------------------------------------------------------------------------------------- the split


@pytest.mark.parametrize(
    "wanted",
    [
        Split(),
        Split(holdout=60),
        Split(holdout=0.2, test=0.1),
        Split(folds=5, fold=2),
        Split(subset=300),
    ],
)
def test_a_few_copies_move_a_few_images(wanted):
    train = plain(400)
    data, competition = Data(train, None), load_competition("digits")
    ungrouped = divide(wanted.model_copy(update={"grouped": False}), competition, data)
    place = {id: place for place, id in enumerate(train.ids)}
    pairs = list(zip(ungrouped[0].ids, ungrouped[1].ids[:10], strict=False))
    for learned, held in pairs:
        train.images[place[held]] = train.images[place[learned]]
    kept = divide(wanted, competition, data)
    parts = [set() if pack is None else set(pack.ids) for pack in kept]
    assert all(len([part for part in parts if {*pair} & part]) == 1 for pair in pairs)
    moved = sum(len(set(pack.ids) - part) for pack, part in zip(ungrouped, parts, strict=True) if pack is not None)
    assert 0 < moved <= 30
    assert [len(part) for part in parts] == pytest.approx([len(pack or []) for pack in ungrouped], abs=3)


@pytest.mark.parametrize("declared", [True, False])
def test_groups_stay_together_in_a_fold_and_in_a_test_part(declared):
    train, groups = plain(200), [f"g{n % 50}" for n in range(200)]
    group_of = dict(zip(train.ids, groups, strict=True))
    if declared:
        train = replace(train, groups=groups)
    else:  # copies
        train.images[50:] = np.tile(train.images[:50], (3, 1, 1, 1))
    parts = divide(Split(folds=4, test=0.2), load_competition("digits"), Data(train, None))
    found = [{group_of[id] for id in part.ids} for part in parts]
    assert sum(map(len, found)) == len(set.union(*found)) == 50


def test_without_related_images_nothing_changes():
    data, competition = Data(plain(200), None), load_competition("digits")
    for wanted in (Split(), Split(folds=4, fold=1), Split(holdout=0.2, test=0.2)):
        ungrouped = divide(wanted.model_copy(update={"grouped": False}), competition, data)
        kept = divide(wanted, competition, data)
        assert [pack and pack.ids for pack in kept] == [pack and pack.ids for pack in ungrouped]


def test_the_split_of_groups_is_a_property_of_the_ids():
    labels = [str(place % 3) for place in range(300)]
    ids = [f"i{place:03d}" for place in range(300)]
    together = np.concatenate([np.repeat(np.arange(40), 6), np.arange(40, 100)])
    parts = split.divide(ids, labels, holdout=0.2, related=together, seed=3)
    order = RANDOM.permutation(300)
    others = [ids[k] for k in order], [labels[k] for k in order]
    mixed = split.divide(*others, holdout=0.2, related=together[order], seed=3)
    assert {ids[k] for k in parts.holdout} == {ids[order[k]] for k in mixed.holdout}
    assert not set(together[parts.holdout]) & set(together[parts.train])
    assert len(parts.holdout) == pytest.approx(60, abs=6)


def test_what_an_ungrouped_split_would_have_shown():
    from featherweight.evaluation.metrics import METRICS

    score = METRICS["accuracy"](np.r_[np.ones(90, int), np.zeros(10, int)], np.ones(100, dtype=np.int64), groups=None)
    told = RegroupedImages(40, 50, 100, 0.9, "copies").summary(score)
    leaks = "40 images moved to one side of the split; else 50.0% of the holdout leaks"
    assert told == f"{leaks}, and the score reads up to 90.00%"
    loss = METRICS["log_loss"](np.full((50, 2), 0.5), np.zeros(50, dtype=np.int64), groups=None)
    assert RegroupedImages(40, 50, 100, 0.9, "copies").summary(loss) == leaks
    assert RegroupedImages(1, 0, 10, 1.0, "").summary(score).endswith("90.00%")
    assert RegroupedImages(40, 50, 100, 1.0, "copies", learned=0.96).would_read(score) == pytest.approx(0.93)


def test_runs_at_other_sizes_hold_out_the_same_images():
    digits = load_competition("digits")
    data = digits.load()
    large = digits.seen_by(load_recipe("tiny", ["image.size=32"]))
    assert large.declared_image.size == 8
    seen = large.load()
    assert near_duplicates.groups(seen.train.images)  # strokes that are drawn smooth look more alike
    assert divide(Split(), large, seen)[1].ids == divide(Split(), digits, data)[1].ids


def test_images_too_many_for_a_search_are_not_decoded_for_it(monkeypatch):
    digits = load_competition("digits")
    large = digits.seen_by(load_recipe("tiny", ["image.size=32"]))
    data = Data(plain(20), None)
    monkeypatch.setattr(image_groups, "LARGEST", 20 * 8 * 8 - 1)
    monkeypatch.setattr(parts, "load", lambda *_, **__: pytest.fail("decoded"))
    assert len(set(parts.labelled_groups(large, data).group)) == 20


@pytest.mark.parametrize(
    ("grouped", "divided", "said"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_what_looks_too_much_alike_is_told_where_a_split_could_have_kept_it_together(
    monkeypatch, grouped, divided, said
):
    data = Data(plain(20), None, plain(4) if divided else None)
    monkeypatch.setattr(division, "labelled_groups", lambda *_: ImageGroups(np.arange(24 if divided else 20), apart=9))
    competition = SimpleNamespace(groups=None, classes=list("abcd"))
    run = SimpleNamespace(
        competition=competition, competition_name="x", recipe=SimpleNamespace(split=Split(grouped=grouped))
    )
    lines, _ = division.faults(run, data, (data.train.take(np.arange(16)), data.labelled[-1].take(np.arange(4)), None))
    assert any("9 labelled images look alike" in line for line in lines) == said
