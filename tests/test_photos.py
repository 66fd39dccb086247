"""Stored photographs: packing, the crop that is scored, random resized crops."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TV
from PIL import Image as Pillow
from pydantic import ValidationError

from featherweight.augment.resized_crop import boxes, cut, random_resized_crop
from featherweight.data import pack
from featherweight.data.image import Image
from featherweight.data.photos import Crop, Photos
from featherweight.data.sources import SOURCES
from featherweight.runtime.rng import Draws, Frame, generator
from featherweight.schema import OneOf

SIZES = [(60, 40), (40, 90), (48, 48), (200, 40), (20, 30)]  # width and height


def smooth(width, height, seed):
    """Make an image without sharp edges, which JPEG and filters hardly change."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Pillow.fromarray(small).resize((width, height), Pillow.Resampling.BICUBIC)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write images of SIZES to two class folders; return a function that packs them with keys of an image section."""
    monkeypatch.setenv("FEATHERWEIGHT_DATA", str(tmp_path))
    monkeypatch.setenv("FEATHERWEIGHT_CACHE", str(tmp_path / "packs"))
    for index, size in enumerate(SIZES):
        folder = tmp_path / "train" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        smooth(*size, index).save(folder / f"{index}.png")
    source = OneOf(SOURCES).validate({"name": "folders", "path": "."})

    def packed(**keys):
        image = Image(**{"size": 32, "store": 40, "mirror": True, **keys})
        return pack.load(source, image, ["a", "b"]).train

    return packed


def test_pictures_keep_their_proportion_and_are_never_enlarged(load):
    train = load()
    _, extents = train.images.whole(np.arange(5))
    by_id = {id.split("/")[-1]: tuple(extent) for id, extent in zip(train.ids, extents.tolist(), strict=True)}
    # Height and width; what is longer than twice the shorter side is cut.
    assert set(by_id.values()) == {(40, 60), (80, 40), (40, 40), (40, 80), (30, 20)}


def test_a_pack_serves_every_size_and_crop(load, tmp_path):
    for keys in ({}, {"size": 24}, {"crop": 1.0}, {"interpolation": "bilinear"}):
        assert load(**keys).images.shape == (5, keys.get("size", 32), keys.get("size", 32), 3)
    assert len(list((tmp_path / "packs").glob("*/pack.json"))) == 1
    load(store=36)
    assert len(list((tmp_path / "packs").glob("*/pack.json"))) == 2


def test_photos_are_indexed_like_an_array(load):
    images = load().images
    array = np.asarray(images)
    assert array.shape == images.shape
    assert array.dtype == images.dtype
    for key in (2, slice(1, 4), np.array([4, 0, 0]), (slice(None), 3), (1, ..., 0), ([2, 1], slice(4, 8), 2)):
        np.testing.assert_array_equal(images[key], array[key])
    np.testing.assert_array_equal(images.take(np.array([3, 1]))[:], array[[3, 1]])
    both = images.take(np.array([0])).and_more(images.take(np.array([4, 2])))
    np.testing.assert_array_equal(both[:], array[[0, 4, 2]])
    np.testing.assert_array_equal(both.whole(np.array([1]))[0], images.whole(np.array([4]))[0])


def test_whole_pictures_lie_at_the_top_left_of_their_frames(load):
    images = load().images
    frames, extents = images.whole(np.arange(5))
    assert frames.shape == (5, *extents.max(0), 3)
    for frame, (height, width) in zip(frames, extents, strict=True):
        assert frame[:height, :width].any()
        assert not frame[height:].any()
        assert not frame[:, width:].any()


@pytest.mark.parametrize("size", [(320, 240), (257, 256), (224, 300), (150, 130)])
@pytest.mark.parametrize("part", [0.875, 0.95, 1.0])
def test_the_scored_crop_is_that_of_published_networks(size, part):
    timm = pytest.importorskip("timm")
    picture = smooth(*size, 0)
    transform = timm.data.create_transform(
        (3, 96, 96), interpolation="bicubic", crop_pct=part, mean=(0,) * 3, std=(1,) * 3
    )
    theirs = (transform(picture) * 255).permute(1, 2, 0).numpy()
    ours = Crop(96, part, "bicubic").of(np.asarray(picture))
    assert np.abs(ours - theirs).max() <= 2


def test_a_picture_stored_at_the_size_of_the_crop_is_not_resampled():
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    np.testing.assert_array_equal(Crop(56, 0.875, "bicubic").of(picture), picture[4:60, 12:68])


def draws(extents, side, seed=0):
    return Draws(generator(seed, "test"), len(extents), torch.device("cpu"), frame=Frame(extents, side))


def test_boxes_are_within_the_picture_of_the_wanted_area_and_proportion():
    extents = torch.tensor([[40, 60], [90, 40], [300, 200]]).repeat(200, 1)
    top, left, height, width = boxes(draws(extents, 24), extents, (0.2, 0.9), (0.75, 1.5)).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= extents[:, 0]).all()
    assert (left + width <= extents[:, 1]).all()
    part = height * width / extents.prod(1)
    assert 0.15 < part.min() < 0.25
    assert 0.8 < part.max() < 0.95
    assert 0.7 < (width / height).min() < 0.8
    assert 1.4 < (width / height).max() < 1.6
    assert len({tuple(box) for box in torch.stack([top, left, height, width], 1).tolist()}) > 550  # one draw per sample


def test_where_no_box_fits_the_largest_central_one_is_taken():
    extents = torch.tensor([[20, 200], [200, 20], [30, 30]])
    found = boxes(draws(extents, 24), extents, (1.0, 1.0), (0.75, 4 / 3))
    assert found.tolist()[:2] == [[0, 86, 20, 27], [86, 0, 27, 20]]


def test_a_box_is_resized_as_torchvision_does():
    images = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([[0, 0, 50, 70], [10, 5, 31, 44], [20, 30, 9, 7]])
    ours = cut(images, chosen, 24)
    for image, box, got in zip(images, chosen.tolist(), ours, strict=True):
        torch.testing.assert_close(got, TV.resized_crop(image, *box, [24, 24], antialias=True), atol=1e-6, rtol=1e-5)


def test_images_of_one_size_are_cropped_too_and_repeat():
    images = torch.rand(4, 3, 32, 32)
    one, other = (random_resized_crop(images, Draws(generator(1, "t"), 4, torch.device("cpu"))) for _ in range(2))
    assert one.shape == images.shape
    assert torch.equal(one, other)
    assert not torch.equal(one, images)


def test_a_store_below_the_size_is_refused():
    with pytest.raises(ValidationError, match=r"image\.store: expected at least image\.size, 64, got 48"):
        Image(size=64, store=48, mirror=True)


def test_an_unreadable_picture_is_left_out_or_stands_in_grey(load, tmp_path):
    (tmp_path / "train" / "a" / "9.png").write_bytes(b"none")
    train = load(unreadable="leave out")
    assert len(train) == len(train.images) == 5
    assert isinstance(train.images, Photos)
