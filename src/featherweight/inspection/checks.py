"""Checks of a data set before training on it: each finding says what it is and what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data import image_groups, near_duplicates
from featherweight.data.csv_file import examples
from featherweight.data.near_duplicates import Joined
from featherweight.data.pack import Data, LabelledPack, Pack
from featherweight.data.split import rarest
from featherweight.evaluation import unlabelled
from featherweight.evaluation.metrics import Score

SHOWN = 12  # pictures, or groups of pictures, shown with a finding
LOOKED_AT = 4000  # images of each part that the shift is measured on
FEWEST_GROUPS = 5  # of each class; fewer cannot be divided
MOST_COMPARED = 15_000  # images in which a report looks for near copies, in seconds; `inspect` does for any number
FEW = 20  # images of a class, below which its score is mostly chance

# Parts of an id that may name its group: all but the last number, or a name before a separator.
PATTERNS = (r"^(.*?)[ _.-]*\d+\.\w+$", r"^(.*?)[_-][^_/-]*$", r"([^/]*?)[_-][^/]*$", r"^(.*)/[^/]*$")


@dataclass(frozen=True)
class Finding:
    """One finding. `rows` are groups of pictures uint8 [H, W, C] with a caption each."""

    title: str
    detail: str
    advice: str = ""
    warning: bool = False
    rows: list[list[tuple[NDArray[np.uint8], str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """All findings, the class counts [K], and each part's channel means and standard deviations, 0 to 1."""

    classes: list[str]
    counts: list[int]
    channels: dict[str, tuple[list[float], list[float]]]
    findings: list[Finding]
    groups: dict[str, str] = field(default_factory=dict)


def inspect(data: Data, classes: Sequence[str], held_out: NDArray[np.bool_], ungrouped: bool = False) -> Inspection:
    """Check a competition's images. `held_out` [N] says which training images the usual split would score or, with
    `ungrouped`, would score if it separated related images.
    """
    train, predict = data.train, data.predict
    several = train.labels.ndim == 2
    counts = (train.labels.sum(0) if several else np.bincount(train.labels, minlength=len(classes))).tolist()
    channels = {name: _statistics(part.images) for name, part in (("train", train), ("predict", predict)) if part}
    same, groups = copies(data, classes, held_out, ungrouped=ungrouped)
    findings = _balance(classes, counts) + same
    if predict is not None:
        findings += _shift(train, predict, image_groups.find(train).group, image_groups.find(predict).group)
    return Inspection(list(classes), counts, channels, findings, groups)


def copies(
    data: Data, classes: Sequence[str], held_out: NDArray[np.bool_], near: bool = True, ungrouped: bool = False
) -> tuple[list[Finding], dict[str, str]]:
    """Return findings about pictures that occur twice: in training, on both sides of the split, and among the images to
    predict; and the grouping that keeps those of training together, id to group. Without `near` only exact copies are
    looked for.
    """
    train, predict = data.train, data.predict
    everything = train.images if predict is None else Joined(train.images, predict.images)
    same_pictures = near_duplicates.groups(everything, near)
    inside = [[place for place in same if place < len(train)] for same in same_pictures]
    inside = [same for same in inside if len(same) > 1]
    leak, groups = _leaks(train, inside, held_out, ungrouped)
    findings = _duplicates(train, classes, inside) + leak
    if predict is not None:
        across = [same for same in same_pictures if same[0] < len(train) <= same[-1]]
        findings += _shared(train, predict, classes, across)
    return findings, groups


def join(first: LabelledPack, second: LabelledPack) -> LabelledPack:
    """Return two labelled parts as one, whose images are read in pieces."""
    images: Any = Joined(first.images, second.images)
    return LabelledPack([*first.ids, *second.ids], images, np.concatenate([first.labels, second.labels]))


def _statistics(images: Any) -> tuple[list[float], list[float]]:
    """Return each channel's mean and standard deviation, 0 to 1."""
    sums, squares, count = np.zeros(images.shape[-1]), np.zeros(images.shape[-1]), 0
    for first in range(0, len(images), near_duplicates.CHUNK):
        part = images[first : first + near_duplicates.CHUNK].reshape(-1, images.shape[-1]) / np.float32(255)
        sums, squares, count = sums + part.sum(0, np.float64), squares + (part**2).sum(0, np.float64), count + len(part)
    mean = sums / count
    return mean.tolist(), np.sqrt((squares / count - mean**2).clip(0)).tolist()


def _balance(classes: Sequence[str], counts: Sequence[int]) -> list[Finding]:
    large, small = int(np.argmax(counts)), int(np.argmin(counts))
    detail = f"{counts[large]:,} of '{classes[large]}', {counts[small]:,} of '{classes[small]}'"
    if counts[large] == counts[small]:
        detail = f"{counts[large]:,} of each"
    findings = []
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        findings.append(
            Finding("classes without an image", examples(empty), "remove them from classes, or find their images", True)
        )
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if 0 < count < FEW]
    if few:
        advice = "score with folds (split.folds=5); a single holdout says little about these"
        findings.append(Finding(f"classes of fewer than {FEW} images", examples(few), advice, True))
    ratio = counts[large] / max(counts[small], 1)
    if ratio >= 3:
        advice = "look at macro_f1 or balanced_accuracy too; try --set loss.weights=root or --set sampling=weighted"
        findings.append(Finding(f"imbalance of {ratio:.1f} to 1", detail, advice, ratio >= 10))
    else:
        findings.append(Finding("classes are balanced", detail))
    return findings


def _duplicates(train: LabelledPack, classes: Sequence[str], inside: Sequence[Sequence[int]]) -> list[Finding]:
    if not inside:
        return [Finding("no training image has a copy", "")]
    labels = train.labels
    spare = sum(len(same) - 1 for same in inside)
    findings = [
        Finding(
            f"{spare:,} training images are copies of others",
            f"{len(inside):,} images occur more than once",
            "harmless while they stay on one side of the split",
            rows=_rows(train, classes, inside),
        )
    ]
    disputed = [same for same in inside if len(np.unique(labels[same], axis=0)) > 1]
    if disputed:
        named = [_apart(train, classes, same) for same in disputed]
        findings.append(
            Finding(
                f"{len(disputed):,} images have copies of different classes",
                "; ".join(named[:3]) + (f"; and {len(named) - 3:,} more" if len(named) > 3 else ""),
                "look at them: at least one label is wrong; correct it or remove the image",
                True,
                _rows(train, classes, disputed),
            )
        )
    return findings


def _apart(train: LabelledPack, classes: Sequence[str], same: Sequence[int]) -> str:
    """Return in words two copies of one picture that have different classes."""
    labels = train.labels
    other = next(place for place in same if (labels[place] != labels[same[0]]).any())
    return ", ".join(f"{train.ids[place]} is {_named(labels[place], classes)}" for place in (same[0], other))


def _named(label: Any, classes: Sequence[str]) -> str:
    """Return an image's class, or its set of classes, in words."""
    if np.ndim(label) == 0:
        return classes[int(label)]
    return ", ".join(classes[int(place)] for place in np.flatnonzero(label)) or "none"


def _leaks(
    train: LabelledPack, inside: Sequence[Sequence[int]], held_out: NDArray[np.bool_], ungrouped: bool
) -> tuple[list[Finding], dict[str, str]]:
    """Return copies on both sides of the split, and the grouping that keeps them together: id to group."""
    leaked = [same for same in inside if len({bool(held_out[place]) for place in same}) > 1]
    if not leaked:
        return [Finding("no image is on both sides of the split", "")], {}
    scored = sum(int(held_out[place]) for same in leaked for place in same)
    share = scored / max(int(held_out.sum()), 1)
    groups = {train.ids[place]: train.ids[same[0]] for same in inside for place in same}
    pattern = _pattern(train, inside)
    advice = (
        f"set in the competition file: group: '{pattern}'"
        if pattern
        else "set in the competition file: groups: and the CSV that ./run.sh inspect writes"
    )
    detail = f"{scored:,} of {int(held_out.sum()):,} held-out images ({share:.1%}) have a copy that is trained on"
    if ungrouped:
        advice = f"every run keeps them together; to make this explicit, {advice}"
        title = "a split that separates duplicates would leak"
        return [Finding(title, detail, advice, False, _rows(train, [], leaked))], groups
    return [Finding("the holdout leaks", detail, advice, True, _rows(train, [], leaked))], groups


def _pattern(train: LabelledPack, inside: Sequence[Sequence[int]]) -> str | None:
    """Return a regular expression over ids that groups nearly all copies together and leaves several groups in every
    class.
    """
    labels = rarest(train.labels) if train.labels.ndim == 2 else train.labels
    for pattern in PATTERNS:
        keys = [match.group(1) if (match := re.search(pattern, id)) else id for id in train.ids]
        joined = sum(len({keys[place] for place in same}) == 1 for same in inside)
        groups_in = Counter(label for label, _ in set(zip(labels.tolist(), keys, strict=True)))
        if joined >= 0.9 * len(inside) and min(groups_in.values()) >= FEWEST_GROUPS and "" not in keys:
            return pattern
    return None


def _shared(
    train: LabelledPack, predict: Pack, classes: Sequence[str], across: Sequence[Sequence[int]]
) -> list[Finding]:
    if not across:
        return [Finding("no image to predict is a copy of a training image", "")]
    count = sum(place >= len(train) for same in across for place in same)
    rows = []
    for same in across[:SHOWN]:
        row = _rows(train, classes, [[place for place in same if place < len(train)]])[0]
        late = [place - len(train) for place in same if place >= len(train)]
        rows.append(
            row + [(np.asarray(predict.images[place]), f"to predict: {predict.ids[place]}") for place in late[:4]]
        )
    return [
        Finding(
            f"{count:,} of {len(predict):,} images to predict are copies of training images",
            f"{count / len(predict):.1%} of them; the score on the rest is what counts",
            "check whether the rules allow it; it makes the public score too good, not the model better",
            True,
            rows,
        )
    ]


def _shift(train: Pack, predict: Pack, *related: NDArray[np.int64]) -> list[Finding]:
    """Return whether a classifier can separate images to predict from training images: at an AUC of 0.5 it cannot."""
    score, telling = shift(train.images, predict.images, related)
    detail = f"a linear classifier of thumbnails separates them with an AUC of {score.value:.3f} "
    detail += f"(95 % interval {score.low:.3f} to {score.high:.3f})"
    if score.low <= 0.55:
        return [Finding("the images to train on and to predict look alike", detail)]
    rows = [[(np.asarray(predict.images[place]), predict.ids[place]) for place in telling]]
    advice = "expect a lower score on the images to predict than on the holdout; augment towards the difference"
    return [Finding("the images to train on and to predict differ", detail, advice, score.low > 0.6, rows)]


def shift(train: Any, predict: Any, related: Sequence[NDArray[np.int64]] = ()) -> tuple[Score, list[int]]:
    """Return the AUC at which a classifier tells images to predict from training images, both uint8 [N, H, W, C], and
    the indices of the most typical images to predict.

    Images with the same number in `related` of each part share a fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = (train, predict)
    chosen = [np.unique(np.linspace(0, len(part) - 1, min(len(part), LOOKED_AT)).astype(int)) for part in parts]
    features = np.concatenate([_features(part[places]) for part, places in zip(parts, chosen, strict=True)])
    to_predict = np.repeat([0, 1], [len(places) for places in chosen])
    groups: list[NDArray[np.int64] | None] = [None, None]
    if related:
        groups = [of[some] for of, some in zip(related, chosen, strict=True)]
    if unlabelled.too_few_groups(groups, chosen):
        return Score(0.5, 0.0, 1.0, len(to_predict), "auc"), []
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    group = unlabelled.concatenated(groups, chosen)
    probs, score = unlabelled.cross_validated(model, features, to_predict.astype(np.int64), group)
    order = np.argsort(-probs[len(chosen[0]) :, 1], kind="stable")[:SHOWN]
    return score, [int(chosen[1][place]) for place in order]


def _features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return features float32 [N, F]: a thumbnail, each channel's mean and deviation, extremes, and the sharpness."""
    small = near_duplicates.thumbnails(images, 8).reshape(len(images), -1)
    values = images.astype(np.float32)
    mean, deviation = values.mean((1, 2)), values.std((1, 2))
    sharpness = np.abs(np.diff(values, axis=1)).mean((1, 2)) + np.abs(np.diff(values, axis=2)).mean((1, 2))
    return np.concatenate(
        [small, mean, deviation, sharpness / (deviation + 1), values.min((1, 2)), values.max((1, 2))], 1
    )


def _rows(
    pack: LabelledPack, classes: Sequence[str], groups: Sequence[Sequence[int]]
) -> list[list[tuple[NDArray[np.uint8], str]]]:
    def caption(place: int) -> str:
        return f"{pack.ids[place]}: {_named(pack.labels[place], classes)}" if classes else pack.ids[place]

    return [[(np.asarray(pack.images[place]), caption(place)) for place in same[:8]] for same in groups[:SHOWN]]
