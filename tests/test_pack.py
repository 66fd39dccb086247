"""Packs: a cache that is correct, complete and shared; unreadable images; bounded memory."""

import json
import os
import shutil
import signal
import textwrap
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import TypeAdapter

import forked
from featherweight.data import fingerprint, mapped_rows, pack
from featherweight.data.image import Image
from featherweight.data.mapped_rows import MappedRows
from featherweight.data.pack import LabelledPack, Pack
from featherweight.data.sources import SOURCES
from featherweight.errors import UserError
from featherweight.schema import Choice, OneOf

ROOT = Path(__file__).resolve().parents[1]
CHOOSE = TypeAdapter(Annotated[Choice, OneOf(SOURCES)]).validate_python  # without what config imports
IMAGE = Image(size=8, channels=3, mirror=False)
SOURCE = {"name": "folders", "path": "d"}


@pytest.fixture
def folder(home):
    for n in range(6):
        save(home / f"data/d/train/{'ab'[n % 2]}/{n}.png", 10 * n)
    save(home / "data/d/test/t0.png", 90)
    save(home / "data/d/test/t1.png", 91)
    return home / "data/d"


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (8, 8), (value, value, value)).save(path)


def load(image=IMAGE, source=SOURCE):
    return pack.load(CHOOSE(source), image, ["a", "b"])


def values(part):
    return dict(zip(part.ids, part.images[:, 0, 0, 0].tolist(), strict=True))


def packs(home):
    return sorted((home / "data/.packs").glob("*/pack.json"))


def test_decoded_once_and_mapped_afterwards(home, folder, monkeypatch):
    first = load()
    assert len(packs(home)) == 2
    monkeypatch.setattr(pack, "decode", lambda *_: pytest.fail("decoded again"))
    again = load()
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert isinstance(again.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again.train.images[0] = 0


@pytest.mark.parametrize("change", ["content", "more", "less", "size", "fit", "channels"])
def test_anything_that_changes_the_pixels_makes_it_anew(home, folder, change):
    load()
    image = IMAGE.model_copy(
        update={"size": {"size": 16}, "fit": {"fit": "pad"}, "channels": {"channels": 1}}.get(change, {})
    )
    if change == "content":
        save(folder / "train/a/0.png", 200)
    elif change == "more":
        save(folder / "train/a/new.png", 200)
    elif change == "less":
        (folder / "train/a/0.png").unlink()
    data = load(image)
    assert len(packs(home)) == (3 if change in ("content", "more", "less") else 4)
    assert len(data.train) == {"more": 7, "less": 5}.get(change, 6)
    if change == "content":
        assert values(data.train)["a/0.png"] == 200


def undecoded(monkeypatch):
    monkeypatch.setattr(pack, "decode", lambda *_: pytest.fail("decoded again"))


def test_touched_files_are_not_decoded_again(home, folder, monkeypatch):
    load()
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes())
    undecoded(monkeypatch)
    monkeypatch.setattr(fingerprint, "content", counted := Counted(fingerprint.content))
    assert values(load().train)["a/2.png"] == 20
    assert values(load().train)["a/2.png"] == 20
    assert counted.calls == 2  # train and test, once each: then the files are known again
    assert len(packs(home)) == 2


class Counted:
    def __init__(self, inner):
        self.inner, self.calls = inner, 0

    def __call__(self, *given):
        self.calls += 1
        return self.inner(*given)


def test_a_start_that_finds_nothing_changed_reads_no_file(home, folder, monkeypatch):
    first = values(load().train)
    monkeypatch.setattr(fingerprint, "content", lambda *_: pytest.fail("hashed again"))
    undecoded(monkeypatch)
    assert values(load().train) == first


def test_a_changed_file_of_the_same_size_and_time_is_noticed(home, folder):
    files = [folder / f"train/a/{n}.bmp" for n in (0, 2)]
    for n, file in enumerate(files):
        save(file, 10 + n)
    assert values(load().train)["a/0.bmp"] == 10
    before = files[0].stat()
    files[0].write_bytes(files[1].read_bytes())
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = files[0].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert values(load().train)["a/0.bmp"] == 11


def test_a_folder_that_moved_is_the_same_pack(home, folder, monkeypatch):
    first = load()
    folder.rename(folder.with_name("e"))
    undecoded(monkeypatch)
    again = load(source={**SOURCE, "path": "e"})
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert len(packs(home)) == 2


def test_the_pack_of_an_earlier_content_is_found_again(home, folder, monkeypatch):
    load()
    save(folder / "train/a/0.png", 200)
    load()
    save(folder / "train/a/0.png", 0)
    undecoded(monkeypatch)
    assert values(load().train)["a/0.png"] == 0


def test_an_array_file_that_was_touched_is_not_read_again(home, monkeypatch):
    (home / "data").mkdir()
    np.savez(home / "data/a.npz", x=np.full((2, 8, 8, 3), 7, np.uint8), y=["a", "b"])
    source = {"name": "arrays", "train": "a.npz:x", "labels": "a.npz:y"}
    load(source=source)
    (home / "data/a.npz").touch()
    monkeypatch.setattr(pack, "fit", lambda *_: pytest.fail("packed again"))
    assert values(load(source=source).train) == {"0": 7, "1": 7}


def test_parts_kept_in_the_same_files_are_packs_of_their_own(home):
    (home / "data").mkdir()
    np.savez(
        home / "data/a.npz",
        x=np.full((2, 8, 8, 3), 7, np.uint8),
        y=["a", "b"],
        i=["p", "q"],
        t=np.full((2, 8, 8, 3), 9, np.uint8),
    )
    keys = {"train": "x", "labels": "y", "test": "t", "ids": "i"}
    data = load(source={"name": "arrays", **{key: f"a.npz:{name}" for key, name in keys.items()}})
    assert (values(data.train), values(data.predict)) == ({"0": 7, "1": 7}, {"p": 9, "q": 9})


def test_mirroring_is_no_reason_to_decode_again(home, folder):
    load()
    load(IMAGE.model_copy(update={"mirror": True}))
    assert len(packs(home)) == 2


def test_the_remains_of_a_killed_packing_are_swept_away(home, folder):
    load()
    note = next((home / "data/.packs").glob(".train-*.json"))
    made = packs(home)[0].parent
    remains = note.with_suffix(".99999.part")
    for folder in packs(home):
        shutil.copytree(folder.parent, remains, dirs_exist_ok=True)
        (folder.parent / "pack.json").unlink()  # a folder without its last file is no pack
    (remains / "pack.json").unlink()
    assert values(load().train)["a/0.png"] == 0
    assert made.is_dir()
    assert len(packs(home)) == 2
    assert not list((home / "data/.packs").glob(".*.part"))


def packer(home, body):
    """Start a process with the tests' settings that runs `body` after the imports; it is forked where possible."""
    program = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
from featherweight.data import pack
from test_pack import IMAGE, load, values
{textwrap.dedent(body)}
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "FEATHERWEIGHT_HOME": str(home)}
    return forked.begin(["-c", program], env=env, cwd=home)


def test_killed_in_the_middle_leaves_no_pack(home, folder):
    slow = """
    import time
    inner = pack.decode
    def decode(*given):
        time.sleep(0.3)
        return inner(*given)
    pack.decode = decode
    load()
    """
    process = packer(home, slow)
    deadline = time.monotonic() + 60
    while not list((home / "data").glob(".packs/.*.part/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((home / "data").glob(".packs/.*.part")), "it was not killed in the middle"
    assert packs(home) == []
    assert values(load().train) == {f"{'ab'[n % 2]}/{n}.png": 10 * n for n in range(6)}
    assert not list((home / "data/.packs").glob(".*.part"))


def test_several_at_once_make_one_pack(home, folder):
    processes = [packer(home, "print(sorted(values(load().train).items()))") for _ in range(3)]
    told = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(told) == 1
    assert len(packs(home)) == 2


# --------------------------------------------------------------------------------------------------- unreadable images


def test_all_unreadable_images_are_named_at_once(home, folder):
    for n in range(25):
        (folder / f"train/a/bad{n:02d}.png").write_bytes(b"nothing")
    with pytest.raises(UserError) as error:
        load()
    lines = str(error.value).splitlines()
    assert (
        lines[0] == "25 of 31 training images cannot be read; repair or remove them, or set image.unreadable: leave out"
    )
    assert len(lines) == 5
    listed = (home / "data/.packs").glob("unreadable-*.txt")
    assert len(next(listed).read_text().splitlines()) == 25
    assert packs(home) == []


def test_unreadable_images_are_left_out_when_the_competition_says_so(home, folder, capsys):
    (folder / "train/b/1.png").write_bytes(b"nothing")
    (folder / "test/t0.png").write_bytes(b"nothing")
    image = IMAGE.model_copy(update={"unreadable": "leave out"})
    for _ in range(2):
        data = load(image)
        assert values(data.train) == {f"{'ab'[n % 2]}/{n}.png": 10 * n for n in (0, 2, 3, 4, 5)}
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
        assert values(data.predict) == {"t0.png": 127, "t1.png": 91}
        assert "train: left out: 1 image that cannot be read: b/1.png" in capsys.readouterr().out


def test_classes_that_the_competition_does_not_list(home, folder):
    save(folder / "train/B/9.png", 1)
    with pytest.raises(UserError, match=r"the image B/9\.png has the class 'B', .* not list; did you mean 'b'\?"):
        load()


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("cuts", [[], [7], [0, 3, 8]])
def test_rows_are_indexed_like_an_array(cuts):
    array = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3), dtype=np.uint8)
    places = np.array([3, 1, 19, 7, 7])
    rows, wanted = MappedRows(np.split(array, cuts), places), array[places]
    for key in (2, slice(1, 4), np.array([4, 0]), (slice(0, 3), ..., 1), (0, 1, 2), (np.array([1]), slice(2)), ...):
        np.testing.assert_array_equal(rows[key], wanted[key])
    np.testing.assert_array_equal(np.asarray(rows), wanted)
    assert (len(rows), rows.shape, rows.ndim, rows.dtype, rows.nbytes) == (5, (5, 4, 4, 3), 4, np.uint8, wanted.nbytes)


def test_large_packs_stay_on_the_disk(home, folder, monkeypatch):
    whole = load().train
    monkeypatch.setattr(mapped_rows, "IN_MEMORY", 100)
    part = whole.take(np.array([4, 2, 0]))
    again = part.take(np.array([2, 1]))
    assert isinstance(part.images, MappedRows)
    assert isinstance(again.images, MappedRows)
    np.testing.assert_array_equal(again.images[:], whole.images[[0, 2]])
    assert again.ids == [whole.ids[0], whole.ids[2]]


def test_a_part_of_labelled_images_is_labelled():
    images = np.zeros((3, 2, 2, 1), np.uint8)
    labelled = LabelledPack.of(Pack(["a", "b", "c"], images, np.arange(3)))
    assert isinstance(labelled.take(np.array([2])), LabelledPack)
    with pytest.raises(ValueError, match="the classes of 3 images are not known"):
        LabelledPack.of(Pack(["a", "b", "c"], images))


@pytest.mark.parametrize("most", [2**30, 100])
def test_more_images_join_without_a_copy_where_there_are_many(home, folder, monkeypatch, most):
    whole = load().train
    monkeypatch.setattr(mapped_rows, "IN_MEMORY", most)
    part, rest = whole.take(np.array([4, 2, 0])), whole.take(np.array([1, 3]))
    joined = part.and_more(rest.ids, rest.images, np.array([1, 0]))
    assert isinstance(joined.images, MappedRows) == (most == 100)
    np.testing.assert_array_equal(joined.images[:], whole.images[[4, 2, 0, 1, 3]])
    np.testing.assert_array_equal(joined.take(np.array([3, 0])).images[:], whole.images[[1, 4]])
    assert joined.ids == [whole.ids[place] for place in (4, 2, 0, 1, 3)]
    np.testing.assert_array_equal(joined.labels, [*part.labels, 1, 0])


def test_every_image_has_an_id_of_its_own_in_a_validation_folder_too(home, folder):
    save(folder / "valid/a/0.png", 70)
    save(folder / "valid/b/9.png", 80)
    data = load(source={**SOURCE, "valid": "valid"})
    assert data.valid.ids == ["valid/a/0.png", "valid/b/9.png"]
    assert values(data.valid) == {"valid/a/0.png": 70, "valid/b/9.png": 80}
    (folder / "valid/a/0.png").rename(folder / "valid/a/10.png")
    assert load(source={**SOURCE, "valid": "valid"}).valid.ids == ["a/10.png", "b/9.png"]


@pytest.mark.slow
def test_training_streams_from_a_map_larger_than_the_memory_allowed(home):
    """The limit is on private memory (RLIMIT_DATA); a read-only map of a file does not count."""
    body = """
    import json, resource
    import torch
    from featherweight.config import load_recipe
    from featherweight.data import mapped_rows
    from featherweight.data.pack import Pack
    from featherweight.evaluation.inference import predict_probs
    from featherweight.models import build
    from featherweight.models.shape import Shape
    from featherweight.training.norm_stats import standardize
    from featherweight.training.batches import Batches
    from featherweight.runtime.device import make_runtime

    count, side = 12_000, 100
    path = "big.npy"
    big = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))  # 360 MB, a hole
    del big
    device = make_runtime("cpu", "fp32", 1)
    mapped_rows.IN_MEMORY = 2**20
    model = build(load_recipe("tiny").model, Shape(2, 3, side))
    images = np.load(path, mmap_mode="r")
    whole = Pack([str(n) for n in range(count)], images, np.arange(count) % 2)
    held = sum(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
    limit = held + 150 * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    assert images.nbytes > 2 * 150 * 2**20
    train, holdout = whole.take(np.arange(0, count - 64)), whole.take(np.arange(count - 64, count))
    standardize(model, train.images)
    seen = sum(len(batch.images) for _, batch in zip(range(20), Batches(train, 2, 64, 0, device).epoch(0)))
    probs = predict_probs([model], holdout.images, runtime=device, batch_size=16)
    try:
        np.array(train.images)
    except MemoryError:
        print(json.dumps([seen, len(probs)]))
    """
    process = packer(home, body)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out) == [20 * 64, 64]


def test_a_pack_of_arrays_in_memory_is_copied():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    part = Pack(["a", "b", "c", "d"], images).take(np.array([1, 3]))
    assert isinstance(part.images, np.ndarray)
    assert part.ids == ["b", "d"]
