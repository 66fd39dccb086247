"""Look at some pictures, and choose the size and channels of a competition's images."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featherweight.data import scientific
from featherweight.data.detect.sample_submission import numbers_of
from featherweight.data.image import opened, read, why_unreadable
from featherweight.data.listing import Samples
from featherweight.data.pixel_range import LEVELS
from featherweight.errors import UserError

LOOKED_AT = 200  # images whose size and colours are looked at
SIZES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224)
LARGEST = 224  # pixels: larger ones are worth their time only to someone who asks for them
WORK = 5000 * 128 * 128  # pixels of an epoch that two processor cores can be asked for without asking
FEW_GREYS = 32  # levels of grey that are left of 256: black and white are then as dark and bright as the images
DEEP = ("I", "F")  # modes of more than 8 bits begin with these


@dataclass
class Traits:
    """What the pictures looked at have in common: their sizes, whether all are grey, the range of deep pixels."""

    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)
    grey: bool = True
    deep: int = 0  # how many have more than 8 bits
    brightest: float = 0.0
    darkest: float = math.inf
    alpha: int = 0  # how many have a fourth channel that is not opaque everywhere
    veiled: int = 0  # how many of these are neither clear nor opaque in most pixels
    fractions: bool = False  # are deep pixels fractions?
    frames: int = 0  # how many files hold several pictures
    unreadable: list[str] = field(default_factory=list)

    @property
    def side(self) -> float:
        """The typical side in pixels: the median root of width times height."""
        sides: list[float] = sorted((w * h) ** 0.5 for (w, h), count in self.shapes.items() for _ in range(count))
        return sides[len(sides) // 2]


def traits_of(train: Samples, most: int = LOOKED_AT) -> Traits:
    """Look at some of the pictures. Raises UserError if none can be read."""
    places = np.unique(np.linspace(0, len(train.ids) - 1, most).astype(int)).tolist()
    traits = Traits()
    for place in places:
        picture = train.images[place]
        if isinstance(picture, np.ndarray):
            _add_array(traits, picture)
            continue
        content = b""
        try:
            content = read(picture)
            _add_file(traits, content)
        except Exception as error:  # of a damaged picture, any
            if "./run.sh install" in str(error):
                raise
            why = why_unreadable(error, content).partition("\n")[0]
            traits.unreadable.append(f"{picture} ({why})")
    if not traits.shapes:
        raise UserError(
            f"none of the {len(places)} images looked at can be read, {train.images[0]} among them"
            + (f"\n{traits.unreadable[0]}" if traits.unreadable else "")
        )
    return traits


def _add_file(traits: Traits, content: bytes) -> None:
    array = scientific.pixels(content)
    if array is not None:
        values, white = array
        _add_array(traits, values)
        if values.dtype != np.uint8 and white is None:
            _deepen(traits, values)
        return
    with opened(io.BytesIO(content)) as picture:
        traits.shapes[picture.size] += 1
        traits.frames += getattr(picture, "n_frames", 1) > 1
        if picture.mode == "RGBA":
            alpha = np.asarray(picture.getchannel("A"))
            traits.alpha += bool((alpha < 255).any())
            traits.veiled += bool(((alpha > 0) & (alpha < 255)).mean() > 0.5)
        if picture.mode.startswith(DEEP):
            _deepen(traits, np.asarray(picture))
        elif traits.grey and picture.mode not in ("1", "L"):
            pixels = np.asarray(picture.convert("RGB"))  # as bytes: of 200 megapixels, integers would take 5 GB
            traits.grey = bool(np.ptp(pixels, axis=-1).max() <= 8)  # a JPEG of a grey picture is a little coloured


def _add_array(traits: Traits, values: Any) -> None:
    traits.shapes[values.shape[1], values.shape[0]] += 1
    traits.grey = traits.grey and (values.ndim == 2 or values.shape[-1] == 1)


def _deepen(traits: Traits, values: Any) -> None:
    traits.deep += 1
    values = values[np.isfinite(values)]
    traits.brightest = max(traits.brightest, float(values.max(initial=0)))
    traits.darkest = min(traits.darkest, float(values.min()) if values.size else math.inf)
    traits.fractions = traits.fractions or values.dtype.kind == "f"


@dataclass
class Chosen:
    """The `image` section, and the messages about it."""

    section: dict[str, Any]
    found: list[str]
    assumed: list[str]


def choose(train: Samples, classes: Sequence[str], size: int | None, mirror: bool | None, pretrained: bool) -> Chosen:
    """Choose the image section of a competition for these pictures on this machine.

    `pretrained`: weights trained on other images are allowed; the recipes for them bring image sections of their own.
    """
    traits = traits_of(train)
    (width, height), most = traits.shapes.most_common(1)[0]
    typical = traits.side
    uniform = most == traits.shapes.total() and width == height
    named = (
        f"{width}x{height}"
        if len(traits.shapes) == 1
        else f"{len(traits.shapes)} sizes, typically {typical:.0f} pixels per side"
    )
    kind = "grey" if traits.grey else "in colour"
    chosen = Chosen({}, [f"  images of {named}, {kind} (of {traits.shapes.total()} looked at)"], [])
    if bad := traits.unreadable:
        seen = traits.shapes.total() + len(bad)
        chosen.found.append(f"  {len(bad)} of {seen} images looked at cannot be read, as {bad[0]}")
        chosen.assumed.append(
            "  image.unreadable: stop, so training waits until they are repaired or this says: leave out"
        )
    _transparency(train, traits, chosen)
    if traits.frames:
        chosen.assumed.append(f"  {traits.frames} of these files hold several frames, of which the first alone is read")
    why = ""
    if size is None:
        size, why = _size(len(train.ids), typical, width if uniform else None)
    chosen.section |= {"size": size, "channels": 1 if traits.grey else 3}
    if size != width or not uniform:
        kept = " by networks that start from nothing; recipes for pretrained weights keep its proportion"
        chosen.assumed.append(
            f"  image.size: {size}{why}, every image stretched to that square{kept if pretrained else ''} "
            f"(pass --size; image.fit: crop or pad)"
        )
    if mirror is None:
        signs = all(len(name) == 1 for name in classes) and any(name.isalpha() for name in classes)
        digits = traits.grey and len(classes) > 2 and numbers_of(classes) is not None
        mirror = not (signs or digits)
        reason = "" if mirror else ", since the classes look like letters or digits"
        chosen.assumed.append(f"  image.mirror: {str(mirror).lower()}{reason} (pass --mirror or --no-mirror)")
    chosen.section["mirror"] = mirror
    _levels(traits, chosen)
    return chosen


def _size(count: int, typical: float, exact: int | None) -> tuple[int, str]:
    """Return the size and the reason: as the pictures are, at most 224, and less if a CPU alone would take hours."""
    natural = (
        exact if exact is not None and 4 <= exact <= LARGEST else max((s for s in SIZES if s <= typical), default=8)
    )
    if natural <= 64 or _accelerated():
        return natural, ", the largest that is chosen unasked" if natural == LARGEST and typical > LARGEST else ""
    affordable = max((s for s in SIZES if s * s * count <= WORK), default=64)
    size = max(64, min(natural, affordable))
    if size == natural:
        return size, ", the largest that is chosen unasked" if size == LARGEST and typical > LARGEST else ""
    return size, f" of {typical:.0f} pixels, for {count:,} images on a processor without a GPU"


def _accelerated() -> bool:
    from featherweight.runtime.device import automatic  # torch takes two seconds, once in a competition's life

    return automatic().type != "cpu"


def _transparency(train: Samples, traits: Traits, chosen: Chosen) -> None:
    """Report that a fourth channel is read as transparency. Raises UserError if it can hardly be that."""
    if traits.veiled > traits.shapes.total() / 2:
        raise UserError(
            f"{train.images[0]}: the fourth channel varies in most pixels of {traits.veiled} of "
            f"{traits.shapes.total()} images looked at: another colour (near infrared, yellow), not transparency\n"
            f"images of 1 or 3 channels are read here: save three of the four as RGB"
        )
    if traits.alpha:
        chosen.assumed.append(
            f"  {traits.alpha} of these images have a fourth channel: what is transparent becomes white"
        )


def _levels(traits: Traits, chosen: Chosen) -> None:
    """Set one brightness scale for all pictures of more than 8 bits."""
    if not traits.deep:
        return
    if traits.fractions and traits.brightest <= 1 and traits.darkest * 255 >= -1:
        return
    white = next((level for level in LEVELS if traits.brightest <= level), int(traits.brightest))
    greys = (traits.brightest - traits.darkest) * 255 / white
    chosen.section["levels"] = white
    black = ""
    if traits.darkest * 255 < -traits.brightest or greys < FEW_GREYS:
        low = math.floor(traits.darkest)
        chosen.section |= {"levels": max(1, low + 1, math.ceil(traits.brightest)), **({"black": low} if low else {})}
        black = f", image.black: {low}"
    chosen.assumed.append(
        f"  image.levels: {chosen.section['levels']}{black}: pixels of more than 8 bits go from {traits.darkest:g} to "
        f"{traits.brightest:g} in the images looked at; one scale for all of them"
    )
