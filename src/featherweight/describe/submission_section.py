"""The `submission` section: what a submission must contain, by the sample submission, the classes and the metric."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight.data.csv_file import examples
from featherweight.data.detect.sample_submission import SampleSubmission, numbers_of, shapes
from featherweight.data.detect.scan import relative
from featherweight.describe import listed_classes
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS

RESPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name.replace("_", " "),
    lambda name: name.replace(" ", "_"),
    str.lower,
    lambda name: name.replace("_", " ").lower(),
    lambda name: name.replace(" ", "_").lower(),
    str.capitalize,
    str.title,
    lambda name: name.replace("_", " ").capitalize(),
    lambda name: name.replace("_", " ").title(),
    str.upper,
    lambda name: re.sub(r"^\d+[._ -]+", "", name),  # 001.Goldfinch
    lambda name: re.sub(r"^(\d+)[._ -]+\D.*$", r"\1", name),  # the same by its number
)


EMPTY = {"none", "nothing", "null", "nan", "na", "n/a", "empty", "-", "[]"}  # words for a set without classes
ABSENT = {"normal", "healthy", "negative", "benign", "no", "not", "non", "none", "without", "control", "background"}


@dataclass(frozen=True)
class Facts:
    """What is known before the sample is read: classes, target, and what the user or a known competition states."""

    classes: Sequence[str]
    target: str
    metric: str | None
    positive: str | None = None
    takes: str | None = None
    k: int | None = None
    codes: dict[str, str] = field(default_factory=dict)  # what a mapping file writes for each class
    codes_from: str = ""
    separator: str | None = None  # of sets, as the labels have it

    @property
    def probabilities(self) -> bool:
        """True if the metric judges probabilities."""
        return self.metric in METRICS and METRICS[self.metric].input_kind == "probabilities"


def spaced(form: dict[str, Any], classes: Sequence[str], assumed: list[str]) -> None:
    """If classes are separated by spaces, spell class names that contain spaces with underscores."""
    if form.get("takes") not in ("set", "ranked") or "separator" in form or "codes" in form:
        return
    parted = {name: "_".join(name.split()) for name in classes if len(name.split()) > 1}
    if parted:
        form["spelling"] = {**parted, **form.get("spelling", {})}
        one, other = next(iter(parted.items()))
        assumed.append(f"  submission.spelling: classes are separated by spaces, so '{one}' is written {other}")


def form(
    sample: SampleSubmission | None, root: Path, wanted: Facts, found: list[str], assumed: list[str]
) -> dict[str, Any]:
    """Return the `submission` section, and add to what was found and assumed.

    Raises UserError where the sample submission does not fit the classes.
    """
    if sample is None:
        kind = {"several": "sets of class names"}.get(wanted.target, "class names")
        assumed.append(f"  submission: id,label with {kind}, since there is no sample submission")
        return {"id": "id", "label": "label", **({"takes": "set"} if wanted.target == "several" else {})}
    config: dict[str, Any] = {"id": sample.header[0], "sample": relative(sample.path, root)}
    if len(sample.columns) > 1:
        return config | _columns(sample, wanted, found, assumed)
    config["label"] = sample.columns[0]
    shown = sample.distinct[0] if sample.distinct else ""
    found.append(f"  {sample.path.name}: {','.join(sample.header)}, like '{shown}'")
    if wanted.target == "several":
        return config | _set(sample, wanted, assumed)
    mark = listed_classes.separator(sample, wanted.classes)
    if mark is not None and wanted.takes in (None, "ranked"):
        k = wanted.k or max(len(value.split(mark)) for value in sample.distinct)
        assumed.append(f"  submission.takes: ranked: the {k} best classes separated by '{mark}', as in the sample")
        names = _names(listed_classes.parts(sample, mark), wanted, assumed)
        return config | {"takes": "ranked", "k": k, **_separated(mark), **names}
    ranked = wanted.k or sample.ranked
    if wanted.takes == "ranked" or (wanted.takes is None and _lists_classes(sample, wanted.classes)):
        assumed.append(f"  submission.takes: ranked: the {ranked} best classes, as each value of the sample holds")
        return config | {"takes": "ranked", "k": ranked}
    probable = wanted.takes == "probability" or wanted.probabilities or sample.fractions
    if len(wanted.classes) == 2 and probable:
        return config | {"takes": "probability", "positive": _positive(sample.columns[0], wanted, assumed)}
    if sample.fractions or (wanted.probabilities and numbers_of(sample.distinct)):
        raise UserError(
            f"{sample.path}: one column '{sample.columns[0]}' of probabilities, and {len(wanted.classes)} classes: "
            f"{examples(list(wanted.classes), 4)}\nwhich of them is it the probability of? Join them to two by the "
            f"competition file's source.rename (folders), or init with --label for a column of two values"
        )
    return config | _names(sample.distinct, wanted, assumed)


def _set(sample: SampleSubmission, wanted: Facts, assumed: list[str]) -> dict[str, Any]:
    """Refuse a sample whose values separate classes by something other than spaces, which alone are supported."""
    shown, known = listed_classes.separator(sample, wanted.classes), wanted.separator in listed_classes.MARKS
    single = all(len(value.split()) < 2 or value in wanted.classes for value in sample.distinct)
    mark = shown or (wanted.separator if known and single else None) or " "
    by = "spaces" if mark == " " else f"'{mark}'"
    why = f", as in {sample.path.name}" if shown else ", as in the labels" if mark != " " else ""
    assumed.append(f"  submission.takes: set, the classes of an image separated by {by}{why}")
    words = [value for value in sample.distinct if value.lower() in EMPTY and value not in wanted.classes]
    empty = {"empty": words[0]} if words else {}
    if words:
        assumed.append(f"  submission.empty: {words[0]}, written for an image without any class, as in the sample")
    values = [value for value in listed_classes.parts(sample, mark) if value not in words]
    return {"takes": "set", **_separated(mark), **empty, **(_names(values, wanted, assumed) if values else {})}


def _separated(mark: str) -> dict[str, str]:
    return {} if mark == " " else {"separator": mark}


def _lists_classes(sample: SampleSubmission, classes: Sequence[str]) -> bool:
    """True if every value of the sample lists several classes, or names that look like them."""
    if not sample.ranked or set(sample.distinct) & set(classes):
        return False
    pairs = sample.distinct[0].split()
    if numbers_of(pairs[1::2]) and any("." in certain for certain in pairs[1::2]):
        raise UserError(
            f"{sample.path}: each value is a class with its confidence, as '{sample.distinct[0]}', which is not "
            f"written here\nto train on the images all the same, move that file away and run init again"
        )
    tokens = sample.distinct[0].split()
    if any(set(sample.distinct) & {respell(name) for name in classes} for respell in RESPELLINGS):
        return False
    return bool(set(tokens) & set(classes)) or shapes(tokens) == shapes(list(classes)[:200])


def _columns(sample: SampleSubmission, wanted: Facts, found: list[str], assumed: list[str]) -> dict[str, Any]:
    """Return the section for a sample with one column per class."""
    takes = "probabilities"
    if wanted.metric in METRICS and not wanted.probabilities:
        takes = "one_hot"
    found.append(f"  {sample.path.name}: one column per class")
    if set(sample.columns) == set(wanted.classes):
        return {"takes": takes}
    start, cut, end = _trimmed(sample.columns)
    if all(map(str.isdecimal, cut)) and numbers_of(sample.distinct) is None and {*sample.distinct} <= {*wanted.classes}:
        raise UserError(
            f"{sample.path}: {len(cut)} columns ({examples(sample.columns, 2)}) that hold a class each, perhaps the "
            f"best ones in their order, which are not written here\nto train on the images all the same, move that "
            f"file away and run init again"
        )
    for headings, before, after in ((list(sample.columns), "", ""), (cut, start, end)):
        headed = _headed(headings, wanted, assumed)
        if headed is not None:
            spelled = {name: f"{before}{heading}{after}" for name, heading in headed.items()}
            return {"takes": takes, "spelling": {name: other for name, other in spelled.items() if name != other}}
    strange = sorted(set(sample.columns) ^ set(wanted.classes))
    raise UserError(
        f"{sample.path}: row 1: the columns are not the classes; for example '{strange[0]}' is in only one\n"
        f"where it calls them otherwise: move that file away, run init again, put it back, and set submission.sample "
        f"and\nsubmission.spelling (what each class is called there) in the competition file"
    )


def _headed(headings: Sequence[str], wanted: Facts, assumed: list[str]) -> dict[str, str] | None:
    """Return the heading of each class, if each has one, else None."""
    classes, there = wanted.classes, set(headings)
    ways: tuple[Callable[[str], str], ...] = (str, *RESPELLINGS)
    for respell in ways:
        spelled = {name: respell(name) for name in classes}
        if there == set(spelled.values()):
            return spelled
    if wanted.codes and set(wanted.codes.values()) == there:
        return wanted.codes
    if len(headings) != len(classes) or not all(heading.isdecimal() for heading in headings):
        return None
    numbers = {int(heading): heading for heading in headings}
    if all(name.isdecimal() for name in classes):
        return {name: numbers[int(name)] for name in classes} if {*map(int, classes)} == set(numbers) else None
    if set(numbers) not in ({*range(len(classes))}, {*range(1, len(classes) + 1)}):
        return None
    assumed.append(
        f"  submission.spelling: the columns are numbers and the classes names: a class is its place in their "
        f"alphabetical order ('{classes[0]}' is {min(numbers)}; no file says so)"
    )
    return dict(zip(classes, (numbers[number] for number in sorted(numbers)), strict=True))


def _trimmed(headings: Sequence[str]) -> tuple[str, list[str], str]:
    """Return the common beginning of all headings (prob_ in prob_cat), the distinct middles, and the common end."""
    numbered = all(re.fullmatch(r"\D+\d+", heading) for heading in headings)
    start = re.sub(r"\d+$" if numbered else r"[^\W_]+$", "", _beginning(headings))
    end = re.sub(r"^[^\W_]+", "", _beginning([heading[::-1] for heading in headings])[::-1])
    return start, [heading[len(start) : len(heading) - len(end)] for heading in headings], end


def _beginning(texts: Sequence[str]) -> str:
    """Return the longest common prefix."""
    first, last = min(texts), max(texts)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same]


def _names(values: Sequence[str], wanted: Facts, assumed: list[str]) -> dict[str, Any]:
    """Return how the classes are spelled in a column of class names."""
    classes = list(wanted.classes)
    if set(values) <= set(classes):
        return {}
    numbers, ours = numbers_of(values), numbers_of(classes)
    if numbers is not None and ours is not None and all(number == int(number) for number in (*numbers, *ours)):
        return _numbers(values, classes, assumed)
    if wanted.codes:
        listed = examples([f"{name} is {code}" for name, code in wanted.codes.items()], 3)
        what = "numbers" if numbers is not None else "other names"
        assumed.append(f"  submission.spelling: the sample has {what}, and {wanted.codes_from} says which: {listed}")
        return {"spelling": wanted.codes}
    if by_number := _numbers_in_front(values, classes):
        listed = examples([f"{name} is {number}" for name, number in by_number.items()], 3)
        assumed.append(f"  submission.spelling: the sample has the numbers in front of the names: {listed}")
        return {"spelling": by_number}
    if numbers is not None and all(value.isdecimal() and int(value) < len(classes) for value in values):
        assumed.append(
            f"  submission.codes: true, since the sample has numbers and the classes are names: a class is its place "
            f"in their alphabetical order, from 0 ('{classes[0]}' is 0; no file says so: see submission.spelling)"
        )
        return {"codes": True}
    for respell in RESPELLINGS:
        spelled = {name: respell(name) for name in classes}
        if set(values) <= set(spelled.values()) and len(set(spelled.values())) == len(classes):
            changed = {name: other for name, other in spelled.items() if name != other}
            assumed.append(f"  submission.spelling: the sample has '{values[0]}', and all classes are spelled like it")
            return {"spelling": changed}
    stranger = min(set(values) - set(classes))
    assumed.insert(0, f"  the sample's '{stranger}' is none of the classes, which are written as in the data")
    return {}


def _numbers_in_front(values: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return how classes that are numbers are spelled, following the sample."""
    written = {name: RESPELLINGS[-1](name) for name in classes}
    if not all(text.isdecimal() for text in written.values()):
        return {}
    numbers = {name: int(text) for name, text in written.items()}
    first = min(numbers.values())
    plain, from_0 = ({name: str(n - less) for name, n in numbers.items()} for less in (0, first))
    ways = [way for way in (written, plain, from_0) if set(values) <= set(way.values())]
    return ways[0] if ways and len(set(ways[0].values())) == len(classes) else {}


def _numbers(values: Sequence[str], classes: Sequence[str], assumed: list[str]) -> dict[str, Any]:
    """Classes that are numbers stay numbers, written as the sample writes them."""
    first = values[0]
    pointed = "." in first
    width = len(first) if len(first) > 1 and first.startswith("0") and first.isdecimal() else 0
    spelled = {name: f"{float(name):.1f}" if pointed else f"{int(float(name)):0{width}d}" for name in classes}
    strangers = sorted(set(values) - set(spelled.values()))
    if strangers:
        assumed.append(
            f"  the sample's '{strangers[0]}' is none of the classes, which are numbers and written as such: "
            f"{examples(list(spelled.values()), 4)}"
        )
    changed = {name: other for name, other in spelled.items() if name != other}
    if changed:
        one, other = next(iter(changed.items()))
        assumed.append(f"  submission.spelling: numbers as the sample writes them: '{one}' is written {other}")
    return {"spelling": changed} if changed else {}


def _positive(heading: str, wanted: Facts, assumed: list[str]) -> str:
    """Return the class whose probability a column holds: the one it is named after, else the one that is not an absence
    (normal, healthy, none), else the second.
    """
    if wanted.positive in wanted.classes:
        assert wanted.positive is not None
        assumed.append(f"  submission.takes: probability, that of '{wanted.positive}' (as the competition says)")
        return wanted.positive
    words = re.sub(r"^(is|has|p|prob|probability)_", "", heading.lower())
    named = [name for name in wanted.classes if name.lower() in (heading.lower(), words)]
    present = [name for name in wanted.classes if ABSENT.isdisjoint(re.findall(r"[a-z]+", name.lower()))]
    chosen = named[0] if named else present[0] if len(present) == 1 else wanted.classes[1]
    other = next(name for name in wanted.classes if name != chosen)
    why = "the heading names it" if named else f"set submission.positive, if it is '{other}'"
    assumed.append(f"  submission.takes: probability, that of '{chosen}' ({why})")
    return chosen
