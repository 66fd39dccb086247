"""Decode one image, from any file or array, to the uint8 square that a competition asks for."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, TiffImagePlugin, UnidentifiedImageError
from pydantic import Field, Strict, model_validator

from featherweight.data import scientific
from featherweight.data.photos import Crop, shrunk
from featherweight.errors import UserError
from featherweight.runtime.cores import cores
from featherweight.schema import Flag, Number, PositiveInt, Section
from featherweight.untrusted_files import read_bytes, reason, refuse_beyond_memory

# Pillow's others run Ghostscript (EPS), take any bytes for a picture (TGA), or are none that people train on.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "PPM", "WEBP", "GIF", "TIFF", "ICO", "JPEG2000", "AVIF")
LARGE = 2**24  # pixels; a larger picture is compared with the free memory
LARGEST_FILE = 2**30  # bytes
Pillow.MAX_IMAGE_PIXELS = None  # its bound is below what phones take, 200 million pixels; ours is the free memory
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # what it logs is raised as well
SMALLEST_SIDE, LARGEST_SIDE = 4, 1024  # pixels of the square that a model sees
SAMPLES_PER_PIXEL = 277  # a tag of TIFF
# What downloads and phones leave under names of pictures: where in the file, by which bytes it is known, and its name.
OTHER_KINDS = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1"), "HEIC, which phones write: convert it to JPEG"),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL: convert it to JPEG or PNG"),
    (0, (b"8BPS",), "a Photoshop document: export it as PNG"),
    (0, (b"<svg", b"<?xml"), "SVG or other XML, not pixels"),
    (0, (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "a web page"),
    (0, (b"version https://git-lfs",), "a pointer to a file that git-lfs has: git lfs pull"),
    (0, (b"\0\5\x16\7",), "what a Mac keeps beside a file, not the file"),
)


Side = Annotated[int, Strict(), Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
Fit = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Share = Annotated[float, Strict(), Field(gt=0, le=1)]


class Image(Section):
    """How images are prepared for a model: the `image` section of a competition."""

    size: Side = Field(description="height and width in pixels")
    channels: Literal[1, 3] = 3
    mirror: Flag = Field(description="may an image be mirrored and keep its class? (a digit may not)")
    fit: Fit = Field("stretch", description="how an image that is no square becomes one")
    store: Side | None = Field(
        None,
        description="keep images in their own proportion, their shorter side of this many pixels, a little more than "
        "`size`: training crops are cut from the whole image, and `fit` has no effect",
    )
    crop: Share = Field(0.875, description="of stored images: the part of the shorter side that is scored, centred")
    interpolation: Interpolation = Field("bicubic", description="how that crop of a stored image becomes `size`")
    unreadable: Literal["stop", "leave out"] = Field("stop", description="what to do about images that are none")
    levels: PositiveInt | None = Field(
        None,
        description="of images of more than 8 bits: the value that is white in all of them, as 4095 for 12 bits in "
        "files of 16 (default: the largest that the file's format holds)",
    )
    black: Number = Field(0, description="of images of more than 8 bits: the value that is black in all of them")

    @model_validator(mode="after")
    def _stored_are_large_enough(self) -> Self:
        if self.store is not None and self.store < self.size:
            raise ValueError(f"image.store: expected at least image.size, {self.size}, got {self.store}: set both")
        return self

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Self:
        if self.levels is not None and self.black >= self.levels:
            raise ValueError(f"image.black: expected less than image.levels, {self.levels}, got {self.black:g}")
        return self

    @property
    def evaluation_crop(self) -> Crop:
        """The crop of a stored picture that is scored and predicted."""
        return Crop(self.size, self.crop, self.interpolation)


def read(file: Path | str) -> bytes:
    """Return a file's bytes. Raises UserError if it cannot be read, is special, or is too large for an image."""
    return read_bytes(file, LARGEST_FILE)


def opened(stream: IO[bytes]) -> Pillow.Image:
    """Open a picture without decoding its pixels, in one of the formats that run no other program.

    Raises whatever Pillow raises, and UserError for a picture that does not fit into memory once per processor core.
    """
    picture = Pillow.open(stream, formats=_formats())
    width, height = picture.size
    if width * height > LARGE:
        refuse_beyond_memory("the image", 4 * width * height * cores())
    return picture


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats in FORMATS that this build of Pillow supports."""
    Pillow.init()
    return tuple(name for name in FORMATS if name in Pillow.OPEN)


def decode(file: Path | str, image: Image, content: bytes | None = None) -> NDArray[np.uint8]:
    """Return one image as uint8 [H, W, C], at the competition's size or, with `image.store`, as it is stored.

    Of several frames the first is used, the camera's orientation is applied, transparent pixels become white, and more
    than 8 bits are reduced to 8 by `image.levels`. `content` is the file's bytes if they have been read already. Raises
    UserError with the file's name if it cannot be decoded.
    """
    content = read(file) if content is None else content
    try:
        array = scientific.pixels(content)
        if array is not None:
            return _square(_of_array(array[0], image.levels or array[1], image.black), image)
        with opened(io.BytesIO(content)) as picture:  # a quarter less work than from the file
            # A JPEG decodes at a half, a quarter or an eighth at once; twice the size leaves something to filter.
            side = image.store or image.size
            if picture.format == "JPEG" and min(picture.size) >= 4 * side:
                picture.draft(picture.mode, (2 * side, 2 * side))
            turned = ImageOps.exif_transpose(picture) if _is_turned(picture) else picture
            return _square(turned, image)
    except Exception as error:  # a damaged picture can provoke any of them
        raise UserError(f"{file}: cannot be read as an image ({why_unreadable(error, content)})") from None


def why_unreadable(error: Exception, content: bytes) -> str:
    """Return in words why `content`, the bytes of a file, could not be decoded; `error` is what a decoder raised."""
    if not isinstance(error, UnidentifiedImageError):
        return reason(error)
    if not content:
        return "the file is empty"
    for place, begins, name in OTHER_KINDS:
        if content[place:].startswith(begins):
            return f"it is {name}"
    bands = _bands(content)
    return f"it has {bands} bands: save 3 of them as RGB" if bands > 4 else "no image format that is known"


def _bands(content: bytes) -> int:
    """Return how many bands (channels) a TIFF file declares; 0 for any other file."""
    with suppress(Exception):  # of a damaged file, any
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        stream = io.BytesIO(content)
        stream.seek(directory.next)
        directory.load(stream)
        return int(directory[SAMPLES_PER_PIXEL])
    return 0


def fit(pixels: NDArray[np.uint8], image: Image) -> NDArray[np.uint8]:
    """Return one array [H, W] or [H, W, C] as uint8 [H, W, C] at the competition's size."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape == (image.size, image.size, image.channels) and image.store is None:
        return pixels
    return _square(Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), image)


def scored(picture: Path | str | NDArray[np.uint8], image: Image) -> NDArray[np.uint8]:
    """Return a file or an array as it is scored: uint8 [size, size, C]; for stored pictures the central crop."""
    pixels = fit(picture, image) if isinstance(picture, np.ndarray) else decode(picture, image)
    return pixels if image.store is None else image.evaluation_crop.of(pixels)


def _is_turned(picture: Pillow.Image) -> bool:
    """True if a picture may have an orientation tag; reading the tag costs as much as decoding a small image."""
    return any(key in picture.info for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp")) or (
        picture.format == "TIFF"
    )


def _square(picture: Pillow.Image, image: Image) -> NDArray[np.uint8]:
    side = (image.size, image.size)
    picture = _eight_bits(picture, "RGB" if image.channels == 3 else "L", image.levels, image.black)
    if image.store is not None:
        picture = shrunk(picture, image.store)
    elif picture.size != side:
        if image.fit == "crop":
            picture = ImageOps.fit(picture, side, Pillow.Resampling.BILINEAR)
        elif image.fit == "pad":
            picture = ImageOps.pad(picture, side, Pillow.Resampling.BILINEAR)
        else:
            picture = picture.resize(side, Pillow.Resampling.BILINEAR, reducing_gap=2.0)
    pixels: NDArray[np.uint8] = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _eight_bits(picture: Pillow.Image, mode: str, levels: int | None, black: float) -> Pillow.Image:
    # Transparency first: a grey PNG whose transparency is one grey value (tRNS) has the wanted mode already.
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = picture.convert("RGBA")
        paper = Pillow.new("RGBA", layer.size, "white")
        return Pillow.alpha_composite(paper, layer).convert(mode)
    if picture.mode.startswith(("I", "F")):
        values: Any = np.asarray(picture).astype(np.float64)
        return Pillow.fromarray(scaled(values, picture.mode, levels, black)).convert(mode)
    if picture.mode == "LAB":  # which Pillow converts only to RGB
        picture = picture.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def _of_array(values: NDArray[Any], levels: int | None, black: float) -> Pillow.Image:
    """Return an array [H, W] or [H, W, 3] of any numbers as an 8-bit picture."""
    if values.dtype != np.uint8:
        whole = values.dtype.kind in "iu"
        values = scaled(values.astype(np.float64), "I" if whole else "F", levels, black)
    return Pillow.fromarray(np.ascontiguousarray(values))


def scaled(values: NDArray[np.float64], mode: str, levels: int | None, black: float = 0) -> NDArray[np.uint8]:
    """Convert pixels of more than 8 bits to uint8, on one scale for the whole data set.

    `levels` is the value of white; None means 65535 for integers and 1 for fractions. `black` is the value of black.
    Raises ValueError for brighter pixels, since only `levels` can then say what is white, and for pixels below 0 if
    `black` is 0.
    """
    white = levels or (1 if mode == "F" else 65535)
    if black >= white:
        raise ValueError(f"image.black is {black:g}, and {white} is white: set image.levels, the value that is white")
    low, high = values.min(initial=0), values.max(initial=0)
    if black == 0 and low * 255 < -white:
        raise ValueError(f"its pixels go down to {low:g}: set image.black, the value that is black")
    if high > white and levels is None:
        raise ValueError(f"its pixels go up to {high:g}: set image.levels, the value that is white")
    return np.round((values - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)
