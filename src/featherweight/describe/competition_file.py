"""Write a competition file for a folder or an archive of images, and report what was found and assumed."""

from __future__ import annotations

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
from featherweight.console import hushed
from featherweight.data.archive import is_archive, stem, unpack
from featherweight.data.csv_file import examples
from featherweight.data.detect import mapping
from featherweight.data.detect.detected import Hints
from featherweight.data.detect.refusals import PACKED
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import relative
from featherweight.data.detect.survey import survey
from featherweight.data.image import LARGEST_SIDE, SMALLEST_SIDE
from featherweight.data.listing import Listing, Samples, Stored
from featherweight.describe import (
    asked_images,
    groups,
    known_competitions,
    listed_classes,
    pictures,
    submission_section,
)
from featherweight.describe.class_names import odd_names, ordered
from featherweight.describe.known_competitions import KnownCompetition
from featherweight.describe.known_competitions import metric as known_metric
from featherweight.errors import UserError, nearest
from featherweight.evaluation.metrics import METRICS

BEST = 5  # classes that a ranked submission lists where nothing says how many
TARGETS = ("one", "several", "ordered")


@dataclass(frozen=True)
class Options:
    """What the user states about a competition; None is worked out from the files."""

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
class Report:
    """The file that was written, and the messages about it."""

    path: Path
    found: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def init(folder: Path, wishes: Options) -> Report:
    """Write `configs/competitions/<name>.yaml` for the data in `folder`; an archive is first unpacked into `data/`.

    Raises UserError if the data is not understood or the name is taken; then
    nothing is written, and what was unpacked is deleted.
    """
    archive = is_archive(folder)
    if not folder.exists():
        raise UserError(f"there is no folder or archive {folder}")
    if folder.is_file() and not archive:
        ways = [way for ending, way in PACKED.items() if folder.suffix.lower() == ending and ending in (".7z", ".rar")]
        then = f"; {ways[0].format(name=repr(folder.name))}, then init the folder" if ways else ""
        raise UserError(f"{folder}: neither a folder nor a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive{then}")
    default = stem(folder) if archive else folder.resolve().name
    report = Report(planned(wishes, default))
    slug = known_competitions.chosen_slug(wishes.kaggle, default, report.assumed)
    known = known_competitions.known(slug, wishes.label)
    where = paths.data() / report.path.stem if archive else folder
    if archive:
        unpack(folder, where)
    try:
        return _described(report, where, report.path.stem, wishes, slug, known)
    except BaseException:  # a full disk and Ctrl-C as well: else the same command again would find it in its way
        if archive:
            shutil.rmtree(where, ignore_errors=True)
        raise


def planned(wishes: Options, default: str) -> Path:
    """Return the file that `init` writes for data in a folder called `default`.

    Raises UserError for options that fit no data, and if the file is there already.
    """
    path = paths.home() / "configs" / "competitions" / f"{_name(wishes.name, default)}.yaml"
    _refuse_unknown(wishes)
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or take another --name")
    return path


def _refuse_unknown(wishes: Options) -> None:
    if wishes.metric is not None and known_metric(wishes.metric) is None:
        raise UserError(
            f"--metric {wishes.metric}: there is no such metric{nearest(wishes.metric, METRICS)}; "
            f"there are {', '.join(METRICS)}"
        )
    if wishes.size is not None and not SMALLEST_SIDE <= wishes.size <= LARGEST_SIDE:
        raise UserError(f"--size {wishes.size}: expected {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")
    if wishes.group is not None and wishes.group in Hints(label=wishes.label).labels:
        raise UserError(
            f"--label and --group both name the column '{wishes.group}': images of one class cannot stay together, as "
            f"each part has images of all classes"
        )
    if wishes.target is not None and wishes.target not in TARGETS:
        raise UserError(f"--target {wishes.target}: expected one, several or ordered{nearest(wishes.target, TARGETS)}")


def _described(
    report: Report, folder: Path, name: str, wishes: Options, slug: str | None, known: KnownCompetition
) -> Report:
    root = paths.data()
    hints = Hints(
        id=wishes.id,
        label=wishes.label,
        group=wishes.group,
        target=wishes.target or known.target,
        test=wishes.test,
        rename=known.rename,
        likely={"id": known.id, "label": known.label, "group": known.group},
    )
    detected = survey(folder, root, hints)
    report.found += [f"{folder}: {detected.source['name']}", *(f"  {line}" for line in detected.notes)]
    report.assumed += [f"  {line}" for line in detected.assumed]
    listing = _listing(detected.source, root, report)
    predict = _read(listing.predict) if listing.predict else None
    found = detected.sample
    if predict and found and asked_images.fit(found, detected.source, predict.ids, root, report.assumed):
        listing = _listing(detected.source, root, report)
        predict = _read(listing.predict) if listing.predict else None
    train = _read(listing.train)
    classes = _classes(folder, train, predict, report, detected.source.get("columns", ()))
    target = wishes.target or ("ordered" if known.target == "ordered" else detected.target)
    metric = wishes.metric or known.metric
    if target == "one" and metric == "quadratic_kappa":
        target = "ordered"
        report.assumed.append(
            f"  target: ordered, since {metric} judges classes with an order: {', '.join(classes[:5])}"
        )
    codes = _codes(detected.sample, folder, root, classes, target)
    mark = detected.source.get("separator")
    wanted = submission_section.Facts(
        classes, target, metric, known.positive, known.takes, known.k, *codes, separator=mark
    )
    chosen = pictures.choose(train, classes, wishes.size, wishes.mirror, wishes.pretrained)
    report.found += chosen.found
    form = submission_section.form(detected.sample, root, wanted, report.found, report.assumed)
    report.assumed += chosen.assumed
    config: dict[str, Any] = {"title": name, "folder": relative(folder, root), "source": detected.source}
    config |= {"image": chosen.section, "classes": classes}
    if target != "one":
        config["target"] = target
    weights = {"allow_pretrained": True} if wishes.pretrained else {}
    config |= {"limit": {"parameters": wishes.limit, **weights}, "submission": form}
    if slug is not None:
        config["kaggle"] = slug
    elif wishes.kaggle is None and predict is not None:
        report.assumed.append("  no Kaggle name: add kaggle: NAME to the file, or say --kaggle NAME, to submit")
    config["metric"] = _metric(wishes, known, form, report)
    submission_section.spaced(form, classes, report.assumed)
    allowed = "pretrained weights allowed" if wishes.pretrained else "no pretrained weights (pass --pretrained)"
    report.assumed.append(f"  limit: {wishes.limit:,} parameters (pass --limit N), {allowed}")
    pattern = wishes.group or known.group_pattern or detected.pattern
    config |= groups.propose(train, predict, detected, pattern, chosen.section, report.assumed)
    _write(report, config, predict)
    return report


def _codes(
    sample: SampleSubmission | None, folder: Path, root: Path, classes: Sequence[str], target: str
) -> tuple[dict[str, str], str]:
    """Return what a file in the folder writes for each class where the sample submission asks for it, and its name."""
    written = listed_classes.written(sample, classes, target == "several") if sample else []
    return mapping.codes(folder, root, classes, written)


def _classes(
    folder: Path, train: Samples, predict: Samples | None, report: Report, columns: Sequence[str]
) -> list[str]:
    """Return the classes: those of the images, and all columns if each stands for a class."""
    names = [name for label in train.labels or () for name in ((label,) if isinstance(label, str) else label)]
    classes = ordered({*names, *columns})
    if len(set(names)) < 2:
        raise UserError(
            f"{folder}: all {len(train.ids):,} labelled images have the class '{classes[0] if classes else 'none'}'; "
            f"two are needed"
        )
    counts = Counter(names).most_common()
    report.found.append(
        f"  {len(train.ids):,} labelled images of {len(classes)} classes "
        f"({counts[0][1]:,} of '{counts[0][0]}' to {counts[-1][1]:,} of '{counts[-1][0]}'), "
        f"{len(predict.ids) if predict else 0:,} to predict"
    )
    if missing := sorted(set(classes) - set(names)):
        report.found.append(f"  no labelled image has the class {examples(missing)}, which has a column of its own")
    report.found += [f"  {line}" for line in odd_names(classes)]
    return classes


def _metric(wishes: Options, known: KnownCompetition, form: dict[str, Any], report: Report) -> dict[str, Any] | str:
    """Return the metric: the user's, the known one, or one that suits the submission."""
    takes = form.get("takes", "labels")
    suits = {"probabilities": "log_loss", "probability": "auc", "set": "samples_f1", "ranked": f"map@{form.get('k')}"}
    chosen = known_metric(wishes.metric or known.metric) or known_metric(suits.get(takes)) or "accuracy"
    if wishes.metric is None and known.metric is not None:
        missing = "" if known_metric(known.metric) else f", which is not among the metrics here: {chosen} instead"
        report.assumed.append(f"  metric: {known.metric}, as is known of the competition{missing} (pass --metric)")
    elif wishes.metric is None:
        report.assumed.append(f"  metric: {_spelled(chosen)} (pass --metric; there are {', '.join(METRICS)})")
    judges = str(METRICS[_spelled(chosen)].input_kind)
    if judges == "probabilities" and takes in ("labels", "set"):
        form["takes"] = "probabilities"
        form.pop("separator", None)
        report.assumed.append(
            f"  the submission has one column per class, since {_spelled(chosen)} judges probabilities"
        )
    elif judges == "ranking" and takes == "labels":
        form |= {"takes": "ranked", "k": chosen.get("k", BEST) if isinstance(chosen, dict) else BEST}
        report.assumed.append(f"  submission.takes: ranked: the {form['k']} best classes, as {_spelled(chosen)} judges")
    return chosen


def _spelled(metric: dict[str, Any] | str) -> str:
    return metric if isinstance(metric, str) else str(metric["name"])


def _write(report: Report, config: dict[str, Any], predict: Samples | None) -> None:
    """Write the file, load it as any command will, and check the sample submission against it."""
    lines = [line.strip() for text in report.assumed for line in text.splitlines()]
    comments = "\n".join(f"# {line}" for line in ["Written by ./run.sh init, which assumed:", *lines])
    atomic.write_text(report.path, f"{comments}\n{yaml.dump(config, compact=True)}")
    try:
        competition = load_competition(str(report.path))
        if predict is not None:
            form = submission.form(competition, predict.ids)
            if competition.submission.sample:
                report.found.append(
                    f"  {competition.submission.sample}: its {len(form.ids):,} ids are those of the images to predict"
                )
    except UserError:
        report.path.unlink()
        raise


def _listing(source: dict[str, Any], root: Path, report: Report) -> Listing:
    """Return what the source lists; if rows and files do not match, report it and go on with those that do."""
    choose = TypeAdapter(Competition.model_fields["source"].rebuild_annotation()).validate_python
    try:
        listing: Listing = choose(source)(root)
    except UserError as error:
        if source["name"] != "table":
            raise
        with hushed():  # the report says it
            listing = choose({**source, "faults": "leave out"})(root)
        report.found.append(f"  {error}")
        report.assumed.append(
            "  source.faults: stop, so training waits until the above is repaired or this says: leave out"
        )
    return listing


def _read(samples: Samples | Stored) -> Samples:
    return samples.read() if isinstance(samples, Stored) else samples


def _name(wish: str | None, default: str) -> str:
    if wish is not None:
        paths.refuse_name(wish, "--name")
        if not re.fullmatch(r"[\w.-]+", wish) or wish.startswith("_"):
            raise UserError(f"--name {wish}: expected letters, digits, dots, dashes and underscores")
        return wish
    name = re.sub(r"[^\w-]+", "_", default.lower()).strip("_-")
    if not name:
        raise UserError(f"'{default}' cannot be a competition's name: pass --name NAME")
    return name
