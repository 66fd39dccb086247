"""Decoding: formats, modes, orientation, and how an image that is not square becomes a square."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from featherweight import untrusted_files
from featherweight.data.image import Image, decode, fit, opened
from featherweight.errors import UserError

SIZE = 16
COLOUR = Image(size=SIZE, channels=3, mirror=False)
GREY = Image(size=SIZE, channels=1, mirror=False)


def gradient():
    ramp = np.linspace(0, 255, SIZE).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (SIZE, 1)), np.tile(ramp[:, None], (1, SIZE)), np.full((SIZE, SIZE), 60)], -1
    ).astype(np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tiff", "webp", "gif", "jpg"])
def test_formats(tmp_path, ending):
    pixels = np.full((SIZE, SIZE, 3), 96, np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / f"x.{ending}")
    np.testing.assert_allclose(decode(tmp_path / f"x.{ending}", COLOUR), pixels, atol=3)


def test_a_picture_of_200_megapixels_is_opened_where_the_memory_is_free(monkeypatch):
    """A telephone takes such; the file here ends where its pixels would begin."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 16384, 12288, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    file += struct.pack(">I", 0) + b"IDAT"
    assert opened(io.BytesIO(file)).size == (16384, 12288)
    monkeypatch.setattr(untrusted_files, "free_memory", lambda: 2**28)
    with pytest.raises(UserError, match=r"of memory, but only 0\.2 GB are free"):
        opened(io.BytesIO(file))


def test_a_wrong_ending(tmp_path):
    Pillow.fromarray(gradient()).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    np.testing.assert_array_equal(decode(tmp_path / "x.jpg", COLOUR), gradient())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes(tmp_path, mode):
    """An image that is white on the left and black on the right stays so in every mode."""
    pixels = np.zeros((SIZE, SIZE), np.uint8)
    pixels[:, : SIZE // 2] = 255
    if mode in ("I;16", "I", "F"):
        picture = Pillow.fromarray(pixels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 257)
    else:
        picture = Pillow.fromarray(pixels).convert("RGB").convert(mode.replace("PA", "P"))
        picture = picture.convert("PA") if mode == "PA" else picture
    assert picture.mode == mode
    picture.save(tmp_path / "x.tif" if mode in ("CMYK", "F", "I", "PA") else tmp_path / "x.png") if mode != "PA" else (
        picture.convert("RGBA").save(tmp_path / "x.png")
    )
    path = next(tmp_path.iterdir())
    if mode == "F":
        with pytest.raises(UserError, match=r"pixels go up to 65535: set image\.levels"):
            decode(path, COLOUR)
    colour, grey = (kind.model_copy(update={"levels": 65535 if mode == "F" else None}) for kind in (COLOUR, GREY))
    np.testing.assert_allclose(decode(path, colour), np.repeat(pixels[..., None], 3, -1), atol=2)
    np.testing.assert_allclose(decode(path, grey)[..., 0], pixels, atol=2)


def test_sixteen_bits_keep_their_shades(tmp_path):
    values = (np.arange(SIZE * SIZE, dtype=np.uint16) * 257).reshape(SIZE, SIZE)
    Pillow.fromarray(values).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decode(tmp_path / "x.png", GREY)[..., 0], np.arange(256).reshape(SIZE, SIZE))


def test_twelve_bits_are_scaled_alike_in_every_picture(tmp_path):
    dark, bright = (np.full((SIZE, SIZE), value, np.uint16) for value in (200, 4095))
    for name, values in (("dark", dark), ("bright", bright)):
        Pillow.fromarray(values).save(tmp_path / f"{name}.png")
        np.save(tmp_path / f"{name}.npy", values)
    twelve = GREY.model_copy(update={"levels": 4095})
    for ending in ("png", "npy"):
        assert decode(tmp_path / f"dark.{ending}", twelve)[0, 0, 0] == round(200 / 4095 * 255)
        assert decode(tmp_path / f"bright.{ending}", twelve)[0, 0, 0] == 255
        assert decode(tmp_path / f"dark.{ending}", GREY)[0, 0, 0] == 1  # of 65,535: never brightened by itself


def test_grey_transparency_is_white_in_any_number_of_channels(tmp_path):
    pixels = np.full((SIZE, SIZE), 77, np.uint8)
    pixels[0, 0] = 0
    Pillow.fromarray(pixels).save(tmp_path / "x.png", transparency=0)
    for image in (COLOUR, GREY):
        decoded = decode(tmp_path / "x.png", image)
        assert {*decoded[0, 0].tolist()} == {255}
        assert {*decoded[1, 1].tolist()} == {77}


def test_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 16
    for name, kind in (("plain", "MONOCHROME2"), ("inverse", "MONOCHROME1")):
        file = pydicom.Dataset()
        file.file_meta = pydicom.dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        file.set_pixel_data(values, kind, 12)
        file.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    plain, inverse = (decode(tmp_path / f"{name}.dcm", GREY)[..., 0].astype(int) for name in ("plain", "inverse"))
    np.testing.assert_allclose(plain, values / 4095 * 255, atol=1)
    np.testing.assert_allclose(plain + inverse, 255, atol=1)


def test_what_is_transparent_becomes_white(tmp_path):
    pixels = np.zeros((SIZE, SIZE, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Pillow.fromarray(pixels).save(tmp_path / "x.png")
    decoded = decode(tmp_path / "x.png", COLOUR)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[1, 1].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_colour(tmp_path):
    picture = Pillow.new("P", (SIZE, SIZE), 0)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putpixel((0, 0), 1)
    picture.save(tmp_path / "x.png", transparency=0)
    decoded = decode(tmp_path / "x.png", COLOUR)
    assert decoded[0, 0].tolist() == [200, 0, 0]
    assert decoded[1, 1].tolist() == [255, 255, 255]


def test_the_cameras_orientation(tmp_path):
    picture = Pillow.fromarray(gradient())
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "x.png", COLOUR), np.rot90(gradient(), -1))


def test_the_first_frame_of_several(tmp_path):
    frames = [Pillow.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(tmp_path / "x.gif", COLOUR)[0, 0], [255, 0, 0], atol=3)


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (400, 200), (5, 9)])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_what_is_no_square_becomes_one(tmp_path, size, ending):
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / f"x.{ending}", quality=95)
    for way in ("stretch", "crop", "pad"):
        decoded = decode(tmp_path / f"x.{ending}", COLOUR.model_copy(update={"fit": way}))
        assert decoded.shape == (SIZE, SIZE, 3)
        black = (decoded < 100).all(-1)
        assert black.any() == (way == "pad")
        np.testing.assert_allclose(decoded[~black & (decoded > 190).all(-1)], 200, atol=3)


def test_cropping_keeps_the_middle(tmp_path):
    pixels = np.zeros((SIZE, 3 * SIZE, 3), np.uint8)
    pixels[:, SIZE : 2 * SIZE] = gradient()
    Pillow.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decode(tmp_path / "x.png", COLOUR.model_copy(update={"fit": "crop"})), gradient())


def test_arrays_are_fitted_like_files():
    assert fit(gradient(), COLOUR) is not None
    assert fit(gradient()[..., 0], COLOUR).shape == (SIZE, SIZE, 3)
    assert fit(np.zeros((5, 7, 3), np.uint8), GREY).shape == (SIZE, SIZE, 1)


def image_bytes(ending):
    stream = io.BytesIO()
    Pillow.fromarray(gradient()).save(stream, ending)
    return stream.getvalue()


@pytest.mark.parametrize("image", [COLOUR, GREY])
def test_the_colours_of_lab_are_read(image):
    stream = io.BytesIO()
    Pillow.new("LAB", (SIZE, SIZE), (255, 128, 128)).save(stream, "TIFF")
    assert decode("x.tif", image, stream.getvalue()).min() > 240


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not found", "no image format that is known"),
        (b"<html>not found</html>", "it is a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "it is HEIC"),
        (image_bytes("PNG")[:60], "no image format that is known|Truncated|truncated"),
        (image_bytes("JPEG")[:300], "truncated"),
        (image_bytes("BMP")[:200], "truncated"),
    ],
)
def test_what_cannot_be_decoded_says_so(tmp_path, content, reason):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"(?i)x\.png: cannot be read as an image \(.*({reason})"):
        decode(tmp_path / "x.png", COLOUR)
