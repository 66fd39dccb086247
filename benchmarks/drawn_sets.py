"""Make four sets of drawn images, as folders of classes, on which `auto` was tried before its table had them.

    apt-get install fontconfig $(apt-cache search '^fonts-' | cut -d' ' -f1)
    npm install emoji-datasource-google emoji-datasource-apple emoji-datasource-twitter emoji-datasource-facebook
    ./run.sh bench drawn_sets OUT --emoji node_modules

Emoji, in colour, 64 px, of four vendors: `emoji` has their categories as classes, `emojisub` their subcategories.
Characters, grey, 32 px, of the fonts that fontconfig lists, at most two a family: `fonts` has the 62 letters and digits
of ASCII, at most 260 images each, `glyphs` also letters of other scripts, at most 24 images each. Then `./run.sh init
OUT/emoji --name emoji --pretrained`, and `bench auto emoji`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fontTools.ttLib import TTCollection, TTFont
from PIL import Image, ImageDraw, ImageFont

VENDORS = ("google", "apple", "twitter", "facebook")
NAMES_OF = {"emoji": "category", "emojisub": "subcategory"}  # key of a set's classes in emoji.json
SIDE, POINTS = 32, 26  # px of a character's image, size of the font
MOST_OF_A_FAMILY = 2
ASCII = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Latin, Greek, Cyrillic, Hebrew, Georgian, Armenian, Hiragana, Katakana
RANGES = (
    (0xC0, 0x17F),
    (0x391, 0x3CA),
    (0x410, 0x450),
    (0x5D0, 0x5EB),
    (0x10D0, 0x10F0),
    (0x531, 0x557),
    (0x561, 0x587),
    (0x3041, 0x3096),
    (0x30A1, 0x30F6),
)
OTHERS = "".join(chr(code) for first, end in RANGES for code in range(first, end) if chr(code).isalpha())
CHARACTERS = {"fonts": (ASCII, 260), "glyphs": (ASCII + OTHERS, 24)}  # and how many images of each, at most
FEWEST = 8  # images of a class; rarer classes are left out


def write_emoji(packages: Path, out: Path) -> None:
    """Write the emoji, on white."""
    for vendor in VENDORS:
        folder = packages / f"emoji-datasource-{vendor}"
        for emoji in json.loads((folder / "emoji.json").read_text()):
            file = folder / "img" / vendor / "64" / emoji["image"]
            if not file.exists():
                continue
            drawn = Image.open(file).convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            white.alpha_composite(drawn)
            for name, key in NAMES_OF.items():
                category = emoji[key].replace("&", "and").replace(" ", "_")
                if category != "Component":  # colours of skin alone
                    inner = out / name / "train" / category
                    inner.mkdir(parents=True, exist_ok=True)
                    white.convert("RGB").save(inner / f"{vendor}-{emoji['image']}")


def fonts() -> Iterator[tuple[ImageFont.FreeTypeFont, set[int]]]:
    """Yield the fonts, in an order that is random but always the same, with the codes of their characters."""
    listing = ["fc-list", "--format", "%{file}|%{family}|%{style}|%{index}\n"]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = sorted({tuple(line.split("|")) for line in listed if line.count("|") == 3})
    random.Random(0).shuffle(rows)
    of_family: Counter[str] = Counter()
    for file, families, _, place in rows:
        family, index = families.split(",")[0], int(place)
        readable = file.lower().endswith((".ttf", ".otf", ".ttc")) and index <= 100  # not of a variable font
        if not readable or of_family[family] >= MOST_OF_A_FAMILY:
            continue
        try:
            font = ImageFont.truetype(file, POINTS, index=index)
            table = TTCollection(file, lazy=True).fonts[index] if file.endswith(".ttc") else TTFont(file)
            codes = table.getBestCmap()
        except Exception as error:  # of a damaged font, any
            print(f"left out: {file}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if codes:
            of_family[family] += 1
            yield font, set(codes)


def drawn(character: str, font: ImageFont.FreeTypeFont, chance: random.Random) -> Image.Image | None:
    """Return a character, a little off the middle, in a dark shade; None if the font's image of it is empty."""
    try:
        left, top, right, bottom = font.getbbox(character)
    except OSError:  # a glyph that cannot be drawn
        return None
    if right - left < 2 or bottom - top < 2:
        return None
    image = Image.new("L", (SIDE, SIDE), 255)
    corner = ((SIDE - int(right - left)) // 2 - left + chance.randint(-2, 2), 4 + chance.randint(-2, 2))
    ImageDraw.Draw(image).text(corner, character, font=font, fill=chance.randint(0, 120))
    return image if min(image.getdata()) <= 150 else None


def write_characters(out: Path) -> None:
    """Write the characters; of each class as many as there are, up to its maximum."""
    chance = random.Random(0)
    images: dict[str, dict[str, list[Image.Image]]] = {name: {} for name in CHARACTERS}
    for font, codes in fonts():
        for name, (characters, most) in CHARACTERS.items():
            for character in characters:
                kept = images[name].setdefault(character, [])
                if ord(character) in codes and len(kept) < most and (image := drawn(character, font, chance)):
                    kept.append(image)
    for name, of_class in images.items():
        for character, kept in of_class.items():
            if len(kept) >= FEWEST:
                inner = out / name / "train" / f"u{ord(character):04x}"
                inner.mkdir(parents=True, exist_ok=True)
                for number, image in enumerate(kept):
                    image.save(inner / f"{number}.png")


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--emoji", type=Path, metavar="FOLDER", help="the folder that has the npm packages")
    arguments = parser.parse_args()
    if arguments.emoji:
        write_emoji(arguments.emoji, arguments.out)
    write_characters(arguments.out)


if __name__ == "__main__":
    main()
