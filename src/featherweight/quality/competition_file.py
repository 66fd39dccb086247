"""From a folder or an archive of images to a competition file, with what was found and what had to be assumed."""

from __future__ import annotations

import inspect
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from featherweight import atomic, paths, submission, yaml
from featherweight.config import Competition, load_competition
from featherweight.data.archive import is_archive, stem, unpack
from featherweight.data.detect import mapping
from featherweight.data.detect.detected import Hints
from featherweight.data.detect.sample import Sample
from featherweight.data.detect.scan import relative
from featherweight.data.detect.survey import survey
from featherweight.data.listing import Listing, Samples, Stored, numbered
from featherweight.data.sources import SOURCES
from featherweight.errors import UserError, nearest
from featherweight.evaluation.metrics import METRICS
from featherweight.quality import groups, known_competitions, pictures, submission_section
from featherweight.quality.known_competitions import KnownCompetition
from featherweight.quality.known_competitions import metric as known_metric

BEST = 5  # classes that a ranked submission lists where nothing says how many
TARGETS = ("one", "several", "ordered")


@dataclass(frozen=True)
class Asked:
    """What the user says of a competition; None is worked out from the files."""

    name: str | None = None
    metric: str | None = None
    limit: int = 5_000_000
    pretrained: bool = False
    size: int | None = None
    mirror: bool | None = None
    kaggle: str | None = None
    id: str | None = None
    label: str | None = None
    group: str | None = None
    target: str | None = None
    test: str | None = None


@dataclass
class Made:
    """The file that was written, and what to tell about it."""

    path: Path
    found: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def init(folder: Path, **options: Any) -> Made:
    """Write `configs/competitions/<name>.yaml` for the data in `folder`, an archive being unpacked into `data/` first.

    `options` are the fields of `Asked`. Raises UserError where the data is not understood or the name is taken; nothing
    is written then, and what was unpacked is taken away again.
    """
    asked = Asked(**options)
    archive = is_archive(folder)
    if not folder.exists():
        raise UserError(f"there is no folder or archive {folder}")
    if folder.is_file() and not archive:
        raise UserError(f"{folder}: neither a folder nor a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive")
    default = stem(folder) if archive else folder.resolve().name
    name = _name(asked.name, default)
    _refuse_unknown(asked)
    path = paths.home() / "configs" / "competitions" / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or take another --name")
    made = Made(path)
    slug = _slug(asked, default, made)
    known = known_competitions.known(slug, asked.label)
    where = paths.data() / name if archive else folder
    if archive:
        unpack(folder, where)
    try:
        return _made(made, where, name, asked, slug, known)
    except UserError:
        if archive:
            shutil.rmtree(where, ignore_errors=True)
        raise


def _refuse_unknown(asked: Asked) -> None:
    if asked.metric is not None and known_metric(asked.metric) is None:
        raise UserError(
            f"--metric {asked.metric}: there is no such metric{nearest(asked.metric, METRICS)}; "
            f"there are {', '.join(METRICS)}"
        )
    if asked.target is not None and asked.target not in TARGETS:
        raise UserError(f"--target {asked.target}: expected one, several or ordered{nearest(asked.target, TARGETS)}")


def _slug(asked: Asked, folder: str, made: Made) -> str | None:
    """The competition's name on Kaggle: as it is said or, of a known one, as its folder is called."""
    if asked.kaggle is not None:
        return None if asked.kaggle == "none" else asked.kaggle
    if folder.lower() in known_competitions.competitions():
        made.assumed.append(f"  kaggle: {folder}, since the folder is called so (say --kaggle none, if it is not that)")
        return folder
    return None


def _made(made: Made, folder: Path, name: str, asked: Asked, slug: str | None, known: KnownCompetition) -> Made:
    root = paths.data()
    hints = Hints(
        id=asked.id,
        label=asked.label,
        group=asked.group,
        target=asked.target or known.target,
        test=asked.test,
        rename=known.rename,
        likely={"id": known.id, "label": known.label, "group": known.group},
    )
    found = survey(folder, root, hints)
    made.found += [f"{folder}: {found.source['name']}", *(f"  {line}" for line in found.told)]
    made.assumed += [f"  {line}" for line in found.assumed]
    listing = _listing(found.source, root, made)
    test = _read(listing.test) if listing.test else None
    if test and found.sample and _count_like(found.sample, found.source, test.ids, made):
        listing = _listing(found.source, root, made)
        test = _read(listing.test) if listing.test else None
    train = _read(listing.train)
    classes = _classes(folder, train, test, made)
    target = asked.target or ("ordered" if known.target == "ordered" else found.target)
    metric = asked.metric or known.metric
    if target == "one" and metric == "quadratic_kappa":
        target = "ordered"
        made.assumed.append(f"  target: ordered, since {metric} judges classes with an order: {', '.join(classes[:5])}")
    codes, codes_from = mapping.codes(folder, root, classes) if found.sample else ({}, "")
    wanted = submission_section.Wanted(
        classes, target, metric, known.positive, known.takes, known.k, codes=codes, codes_from=codes_from
    )
    chosen = pictures.choose(train, classes, asked.size, asked.mirror)
    made.found += chosen.found
    form = submission_section.form(found.sample, root, wanted, made.found, made.assumed)
    made.assumed += chosen.assumed
    config: dict[str, Any] = {"title": name, "folder": relative(folder, root), "source": found.source}
    config |= {"image": chosen.section, "classes": classes}
    if target != "one":
        config["target"] = target
    weights = {"allow_pretrained": True} if asked.pretrained else {}
    config |= {"limit": {"parameters": asked.limit, **weights}, "submission": form}
    if slug is not None:
        config["kaggle"] = slug
    config["metric"] = _metric(asked, known, form, made)
    submission_section.spaced(form, classes, made.assumed)
    allowed = "pretrained weights allowed" if asked.pretrained else "no pretrained weights (say --pretrained)"
    made.assumed.append(f"  limit: {asked.limit:,} parameters (say --limit), {allowed}")
    config |= groups.propose(train, test, found, asked.group or known.group_pattern, made.assumed)
    _write(made, config, test)
    return made


def _classes(folder: Path, train: Samples, test: Samples | None, made: Made) -> list[str]:
    assert train.labels is not None
    names = [name for label in train.labels for name in ((label,) if isinstance(label, str) else label)]
    classes = ordered(set(names))
    if len(classes) < 2:
        raise UserError(
            f"{folder}: all {len(train.ids):,} labelled images have the class '{classes[0] if classes else 'none'}'; "
            f"two are needed"
        )
    counts = Counter(names).most_common()
    made.found.append(
        f"  {len(train.ids):,} labelled images of {len(classes)} classes "
        f"({counts[0][1]:,} of '{counts[0][0]}' to {counts[-1][1]:,} of '{counts[-1][0]}'), "
        f"{len(test.ids) if test else 0:,} to predict"
    )
    return classes


def _metric(asked: Asked, known: KnownCompetition, form: dict[str, Any], made: Made) -> dict[str, Any] | str:
    """The metric: the user's, the known one, or what suits the submission."""
    takes = form.get("takes", "labels")
    suits = {"probabilities": "log_loss", "probability": "auc", "set": "samples_f1", "ranked": f"map@{form.get('k')}"}
    chosen = known_metric(asked.metric or known.metric) or known_metric(suits.get(takes)) or "accuracy"
    if asked.metric is None and known.metric is not None:
        missing = "" if known_metric(known.metric) else f", which is not among the metrics here: {chosen} instead"
        made.assumed.append(f"  metric: {known.metric}, as is known of the competition{missing} (say --metric)")
    elif asked.metric is None:
        made.assumed.append(f"  metric: {_spelled(chosen)} (say --metric; there are {', '.join(METRICS)})")
    judges = str(METRICS[_spelled(chosen)].judges)
    if judges == "probabilities" and takes in ("labels", "set"):
        form["takes"] = "probabilities"
        made.assumed.append(f"  the submission has one column per class, since {_spelled(chosen)} judges probabilities")
    elif judges == "ranking" and takes == "labels":
        form |= {"takes": "ranked", "k": chosen.get("k", BEST) if isinstance(chosen, dict) else BEST}
        made.assumed.append(f"  submission.takes: ranked: the {form['k']} best classes, as {_spelled(chosen)} judges")
    return chosen


def _spelled(metric: dict[str, Any] | str) -> str:
    return metric if isinstance(metric, str) else str(metric["name"])


def _write(made: Made, config: dict[str, Any], test: Samples | None) -> None:
    """Write the file, load it as any command will, and try the sample submission on it."""
    lines = [line.strip() for text in made.assumed for line in text.splitlines()]
    comments = "\n".join(f"# {line}" for line in ["Written by ./run.sh init, which assumed:", *lines])
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


def _count_like(sample: Sample, source: dict[str, Any], ids: Sequence[str], made: Made) -> bool:
    """Where images have no ids but their places, let them be counted from where the sample submission begins."""
    listed = sample.ids
    if "first_id" not in inspect.signature(SOURCES[source["name"]]).parameters or len(listed) != len(ids):
        return False
    if not all(id.isdecimal() for id in (*listed, *ids)):
        return False
    ours, first = min(map(int, ids)), min(map(int, listed))
    if ours == first or {*ids} != {*numbered(len(ids), ours)} or {*listed} != {*numbered(len(ids), first)}:
        return False
    source["first_id"] = first
    made.found.append(f"  images have no ids: they are counted from {first}, as in {sample.path.name}")
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


def ordered(names: set[str]) -> list[str]:
    """Numbers by their value, everything else by its letters."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
