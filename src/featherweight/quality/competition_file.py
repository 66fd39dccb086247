"""From a folder or an archive of images to a competition file, with what was found and what had to be assumed."""

from __future__ import annotations

import inspect
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from featherweight import atomic, paths, submission, yaml
from featherweight.config import Competition, load_competition
from featherweight.data import csv_file
from featherweight.data.archive import is_archive, stem, unpack
from featherweight.data.detect import relative, survey
from featherweight.data.image import opened
from featherweight.data.listing import Listing, Samples, Stored, numbered
from featherweight.data.sources import SOURCES
from featherweight.errors import UserError, nearest
from featherweight.evaluation.metrics import METRICS
from featherweight.reading import open_regular

LOOKED_AT = 200  # images whose size and colours are looked at
LARGEST_SIZE = 128  # pixels: larger photos are worth their time only to someone who asks for it
RESPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name.replace("_", " "),
    lambda name: name.replace(" ", "_"),
    str.lower,
    lambda name: name.replace("_", " ").lower(),
    lambda name: name.replace(" ", "_").lower(),
    str.capitalize,
    lambda name: re.sub(r"^\d+[._ -]+", "", name),  # 001.Goldfinch
)
SIZES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)


@dataclass
class Made:
    """The file that was written, and what to tell about it."""

    path: Path
    found: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def init(
    folder: Path,
    *,
    name: str | None = None,
    metric: str | None = None,
    limit: int = 5_000_000,
    size: int | None = None,
    mirror: bool | None = None,
    kaggle: str | None = None,
) -> Made:
    """Write `configs/competitions/<name>.yaml` for the data in `folder`, an archive being unpacked into `data/` first.

    Raises UserError where the data is not understood or the name is taken; nothing is written then, and what was
    unpacked is taken away again.
    """
    archive = is_archive(folder)
    if not folder.exists():
        raise UserError(f"there is no folder or archive {folder}")
    if folder.is_file() and not archive:
        raise UserError(f"{folder}: neither a folder nor a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive")
    name = _name(name, stem(folder) if archive else folder.resolve().name)
    if metric is not None and metric not in METRICS:
        raise UserError(
            f"--metric {metric}: there is no such metric{nearest(metric, METRICS)}; there are {', '.join(METRICS)}"
        )
    path = paths.home() / "configs" / "competitions" / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or take another --name")
    where = paths.data() / name if archive else folder
    if archive:
        unpack(folder, where)
    try:
        return _made(path, where, name, metric, limit, size, mirror, kaggle)
    except UserError:
        if archive:
            shutil.rmtree(where, ignore_errors=True)
        raise


def _made(
    path: Path,
    folder: Path,
    name: str,
    metric: str | None,
    limit: int,
    size: int | None,
    mirror: bool | None,
    kaggle: str | None,
) -> Made:
    root = paths.data()
    found = survey(folder, root)
    made = Made(path, [f"{folder}: {found.source['name']}", *(f"  {line}" for line in found.told)])
    listing = _listing(found.source, root, made)
    test = _read(listing.test) if listing.test else None
    if test and found.sample and _count_like(found.sample, found.source, test.ids, made):
        listing = _listing(found.source, root, made)
        test = _read(listing.test) if listing.test else None
    train = _read(listing.train)
    assert train.labels is not None
    classes = _ordered(set(train.labels))
    if len(classes) < 2:
        raise UserError(
            f"{folder}: all {len(train.ids):,} labelled images have the class '{classes[0]}'; two are needed"
        )
    counts = Counter(train.labels).most_common()
    made.found.append(
        f"  {len(train.ids):,} labelled images of {len(classes)} classes "
        f"({counts[0][1]:,} of '{counts[0][0]}' to {counts[-1][1]:,} of '{counts[-1][0]}'), "
        f"{len(test.ids) if test else 0:,} to predict"
    )
    wanted = _submission(found.sample, root, classes, metric, made)
    takes = wanted.get("takes", "labels")
    config: dict[str, Any] = {
        "title": name,
        "source": found.source,
        "image": _image(train, classes, size, mirror, made),
        "classes": classes,
        "limit": {"parameters": limit},
        "submission": wanted,
    }
    if kaggle is not None:
        config["kaggle"] = kaggle
    config["metric"] = metric or {"labels": "accuracy", "probabilities": "log_loss", "probability": "auc"}[takes]
    if metric is None:
        made.assumed.append(f"  metric: {config['metric']} (say --metric; there are {', '.join(METRICS)})")
    if METRICS[config["metric"]].judges == "probabilities" and takes == "labels":
        wanted["takes"] = "probabilities"
        made.assumed.append(f"  the submission has one column a class, since {config['metric']} judges probabilities")
    made.assumed.append(f"  limit: {limit:,} parameters (say --limit)")
    _write(made, config, test)
    return made


def _write(made: Made, config: dict[str, Any], test: Samples | None) -> None:
    """Write the file, load it as any command will, and try the sample submission on it."""
    comments = "\n".join(f"# {line.strip()}" for line in ["Written by ./run.sh init, which assumed:", *made.assumed])
    atomic.write_text(made.path, f"{comments}\n{yaml.dump(config, compact=True)}")
    try:
        competition = load_competition(str(made.path))
        if test is not None:
            form = submission.form(competition, test.ids)
            if competition.submission.sample:
                made.found.append(f"  {competition.submission.sample}: its {len(form.ids):,} ids are the test images'")
    except UserError:
        made.path.unlink()
        raise


def _listing(source: dict[str, Any], root: Path, made: Made) -> Listing:
    """What the source lists. Where rows and files do not fit together it says so, and goes on with those that do."""
    choose = TypeAdapter(Competition.model_fields["source"].rebuild_annotation()).validate_python
    try:
        listing: Listing = choose(source)(root)
    except UserError as error:
        if source["name"] != "table":
            raise
        listing = choose({**source, "faults": "leave out"})(root)
        made.found.append(f"  {error}")
        made.assumed.append(
            "  source.faults: stop, so training waits until the above is mended or this says: leave out"
        )
    return listing


def _count_like(sample: Path, source: dict[str, Any], ids: Sequence[str], made: Made) -> bool:
    """Where images have no ids but their places, let them be counted from where the sample submission begins."""
    listed = [row[0] for row in csv_file.read(sample, ",").rows]
    if "first_id" not in inspect.signature(SOURCES[source["name"]]).parameters or len(listed) != len(ids):
        return False
    if not all(id.isdecimal() for id in (*listed, *ids)):
        return False
    ours, first = min(map(int, ids)), min(map(int, listed))
    if ours == first or {*ids} != {*numbered(len(ids), ours)} or {*listed} != {*numbered(len(ids), first)}:
        return False
    source["first_id"] = first
    made.found.append(f"  images have no ids: they are counted from {first}, as in {sample.name}")
    return True


def _read(samples: Samples | Stored) -> Samples:
    return samples.read() if isinstance(samples, Stored) else samples


def _name(given: str | None, default: str) -> str:
    if given is not None:
        paths.refuse_name(given, "--name")
        if not re.fullmatch(r"[\w.-]+", given) or given.startswith("_"):
            raise UserError(f"--name {given}: expected letters, digits, dots, dashes and underscores")
        return given
    name = re.sub(r"[^\w-]+", "_", default.lower()).strip("_-")
    if not name:
        raise UserError(f"'{default}' makes no name for a competition: say --name")
    return name


def _ordered(names: set[str]) -> list[str]:
    """Numbers by their value, everything else by its letters."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _image(train: Samples, classes: Sequence[str], size: int | None, mirror: bool | None, made: Made) -> dict[str, Any]:
    shapes, grey = _look(train)
    (width, height), most = shapes.most_common(1)[0]
    sides = sorted((w * h) ** 0.5 for (w, h), count in shapes.items() for _ in range(count))
    typical = sides[len(sides) // 2]
    uniform = most == shapes.total() and width == height
    if size is None:
        size = width if uniform and 4 <= width <= LARGEST_SIZE else max((s for s in SIZES if s <= typical), default=8)
    named = f"{width}x{height}" if len(shapes) == 1 else f"{len(shapes)} sizes, typically {typical:.0f} pixels a side"
    made.found.append(f"  images of {named}, {'grey' if grey else 'in colour'} (of {shapes.total()} looked at)")
    if size != width or not uniform:
        made.assumed.append(
            f"  image.size: {size}, every image stretched to that square (say --size; image.fit: crop or pad)"
        )
    if mirror is None:
        signs = all(len(name) == 1 for name in classes) and any(name.isalpha() for name in classes)
        digits = grey and all(name.isdecimal() for name in classes)
        mirror = not (signs or digits)
        why = "" if mirror else ", since the classes look like letters or digits"
        made.assumed.append(f"  image.mirror: {str(mirror).lower()}{why} (say --mirror or --no-mirror)")
    return {"size": size, "channels": 1 if grey else 3, "mirror": mirror}


def _look(train: Samples) -> tuple[Counter[tuple[int, int]], bool]:
    """How many of the images looked at have which width and height, and whether all are grey."""
    places = np.unique(np.linspace(0, len(train.ids) - 1, LOOKED_AT).astype(int)).tolist()
    shapes: Counter[tuple[int, int]] = Counter()
    grey = True
    for place in places:
        given = train.images[place]
        if isinstance(given, np.ndarray):
            shapes[given.shape[1], given.shape[0]] += 1
            grey = grey and (given.ndim == 2 or given.shape[-1] == 1)
            continue
        try:
            with open_regular(given) as stream, opened(stream) as picture:
                shapes[picture.size] += 1
                if grey and picture.mode not in ("1", "L", "I;16", "I"):
                    pixels = np.asarray(picture.convert("RGB")).astype(int)
                    grey = bool(np.ptp(pixels, axis=-1).max() <= 8)  # a JPEG of a grey picture is a little coloured
        except Exception:  # of a damaged picture, any
            continue  # packing names all of these at once
    if not shapes:
        raise UserError(f"none of the {len(places)} images looked at can be read, {train.images[0]} among them")
    return shapes, grey


def _submission(
    sample: Path | None, root: Path, classes: Sequence[str], metric: str | None, made: Made
) -> dict[str, Any]:
    if sample is None:
        made.assumed.append("  submission: id,label with class names, since there is no sample submission")
        return {"id": "id", "label": "label"}
    table = csv_file.read(sample, ",")
    config: dict[str, Any] = {"id": table.header[0], "sample": relative(sample, root)}
    if len(table.header) > 2:
        if set(table.header[1:]) != set(classes):
            strange = sorted(set(table.header[1:]) ^ set(classes))
            raise UserError(
                f"{sample}: row 1: the columns are not the classes; for example '{strange[0]}' is in only one"
            )
        made.found.append(f"  {sample.name}: one column of probabilities a class")
        return {**config, "takes": "probabilities"}
    if len(table.header) < 2:
        raise UserError(f"{sample}: row 1: expected an id and a label, got one column")
    config["label"] = table.header[1]
    labels = list(dict.fromkeys(row[1].strip() for row in table.rows))
    made.found.append(f"  {sample.name}: {','.join(table.header)}, like '{labels[0] if labels else ''}'")
    if len(classes) == 2 and ((metric and METRICS[metric].judges == "probabilities") or _are_fractions(labels)):
        return {**config, "takes": "probability", "positive": _positive(table.header[1], classes, made)}
    if set(labels) <= set(classes):
        return config
    if all(value.isdecimal() and int(value) < len(classes) for value in labels):
        made.assumed.append("  submission.codes: true, since the sample has numbers: a class is its place, from 0")
        return {**config, "codes": True}
    for respell in RESPELLINGS:
        spelled = {name: respell(name) for name in classes}
        if set(labels) <= set(spelled.values()) and len(set(spelled.values())) == len(classes):
            changed = {name: other for name, other in spelled.items() if name != other}
            made.assumed.append(
                f"  submission.spelling: the sample has '{labels[0]}', and all classes are spelled like it"
            )
            return {**config, "spelling": changed}
    stranger = min(set(labels) - set(classes))
    made.assumed.append(f"  the sample's '{stranger}' is none of the classes, which are written as in the data")
    return config


def _are_fractions(values: Sequence[str]) -> bool:
    """Are these probabilities, and not all of them 0 or 1?"""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return all(0 <= number <= 1 for number in numbers) and any(number not in (0, 1) for number in numbers)


def _positive(heading: str, classes: Sequence[str], made: Made) -> str:
    """Which of two classes a column of probabilities is about: the one it is named after, else the second."""
    named = [name for name in classes if name.lower() == heading.lower()]
    chosen = named[0] if named else classes[1]
    why = "the heading names it" if named else f"say submission.positive, if it is '{classes[0]}'"
    made.assumed.append(f"  submission.takes: probability, that of '{chosen}' ({why})")
    return chosen
