"""Real runs of tiny networks with known test labels: do the printed intervals hold, or does the run name the problem?

See `coverage.py --cells`. There are two data sets, digits (scikit-learn's) and shapes (drawn here). Each is used as it
is or with one problem ("trouble") built in, with several recipes and seeds. Every cell is a complete run in a workspace
of its own.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.cli import main
from featherweight.evaluation.label_noise import label_noise
from featherweight.runs.division import RegroupedImages
from featherweight.runs.expected_score import Expected
from featherweight.runs.run import Run
from featherweight.runs.wrong_labels import WrongLabels

SETS = ("digits", "shapes")
TROUBLES = (
    "none",
    "tiny validation",
    "copies",
    "groups torn",
    "label noise",
    "class shift",
    "corrupted test",
    "groups declared",
    "torn on purpose",
)
FRAMES = 7  # of a picture, where images have groups
RECIPES = {"tiny": ["tiny"], "tiny at half the rate": ["tiny", "--set", "optimizer.lr=0.05"]}
PUBLIC = 0.3
NAMED = "the score will be too good"  # printed by a run whose split separates related images
Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def cells(seeds: range, troubles: Sequence[str]) -> list[dict[str, Any]]:
    """Return the arguments of `cell`; every trouble occurs among the first few cells."""
    return [
        {"set": name, "recipe": recipe, "seed": seed, "trouble": trouble}
        for seed, recipe, trouble, name in itertools.product(seeds, RECIPES, troubles, SETS)
    ]


def shapes(count: int, random: np.random.Generator) -> Labelled:
    """Draw squares, discs, crosses, rings and stripes of random size and position, with noise.

    Returns images uint8 [N, 12, 12] and classes int64 [N].
    """
    labels = random.integers(5, size=count)
    y, x = np.mgrid[:12, :12]
    images = np.empty((count, 12, 12), np.float32)
    for place, label in enumerate(labels):
        cy, cx, r = random.uniform(4, 8), random.uniform(4, 8), random.uniform(2, 4)
        dy, dx = np.abs(y - cy), np.abs(x - cx)
        far = np.hypot(dy, dx)
        drawn = (
            np.maximum(dy, dx) < r * 0.85,
            far < r,
            (np.minimum(dy, dx) < 0.8) & (np.maximum(dy, dx) < r),
            np.abs(far - r * 0.8) < 0.9,
            (np.maximum(dy, dx) < r) & ((y + x) % 4 < 2),
        )
        images[place] = 70 + 90 * drawn[label] + random.normal(0, 28, (12, 12))
    return images.clip(0, 255).astype(np.uint8), labels


def pictures(name: str, random: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Return 700 labelled images for training, and the test images with their labels; no image is in both."""
    if name == "shapes":
        return shapes(700, random), shapes(2000, random)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = random.permutation(len(labels))
    images = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)[order]
    labels = labels[order].astype(np.int64)
    return (images[:700], labels[:700]), (images[700:], labels[700:])


def troubled(train: Labelled, hidden: Labelled, trouble: str, random: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Return both parts with the given trouble built in."""
    (images, labels), (test, answers) = train, hidden
    if trouble == "tiny validation":
        return (images[:300], labels[:300]), hidden
    if trouble == "copies":
        twice = np.concatenate([np.arange(400), np.arange(300)])
        return (images[twice], labels[twice]), hidden
    if trouble in ("groups torn", "torn on purpose"):  # frames; if on purpose, the split ignores them
        place = frame_of(trouble)
        noise = random.normal(0, 3, (700, *images.shape[1:])) * (np.bincount(place)[place] > 1)[:, None, None]
        return ((images[place] + noise).clip(0, 255).astype(np.uint8), labels[place]), hidden
    if trouble == "groups declared":  # pixels do not tell these frames; the images to predict are such frames too
        place = frame_of(trouble)
        return (unlike(images[place], random), labels[place]), (unlike(test, random), answers)
    if trouble == "label noise":
        wrong = random.random(len(labels)) < 0.15
        classes = labels.max() + 1
        return (images, np.where(wrong, random.integers(classes, size=len(labels)), labels)), hidden
    if trouble == "class shift":
        shown = (answers < 3) | (random.random(len(answers)) < 0.15)
        return train, (test[shown], answers[shown])
    if trouble == "corrupted test":
        noisy = test * 0.6 + random.normal(30, 25, test.shape)
        return train, (noisy.clip(0, 255).astype(np.uint8), answers)
    return train, hidden


def frame_of(trouble: str) -> NDArray[np.int64]:
    """Return the picture, int64 [700], that each training image is a frame of; on purpose, half of them are alone."""
    alone = 350 if trouble == "torn on purpose" else 0
    pictures = (700 - alone) // FRAMES
    return np.concatenate([np.repeat(np.arange(pictures), FRAMES), np.arange(pictures, pictures + alone)])


def unlike(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return frames of images uint8 [N, H, W]: shifted by up to a pixel, lighter or darker, with noise."""
    shifts = random.integers(-1, 2, (len(images), 2))
    moved = np.stack([np.roll(one, shift, (0, 1)) for one, shift in zip(images, shifts, strict=True)])
    frames = moved * random.uniform(0.7, 1.1, (len(images), 1, 1)) + random.normal(0, 12, images.shape)
    return frames.clip(0, 255).astype(np.uint8)


def cell(*, set: str, recipe: str, seed: int, trouble: str) -> dict[str, Any]:
    """Train one run; return what it printed and what is true."""
    name = set
    random = np.random.default_rng([SETS.index(name), TROUBLES.index(trouble), seed])
    clean = pictures(name, random)
    (images, labels), (test, answers) = troubled(*clean, trouble, random)
    with tempfile.TemporaryDirectory() as home, workspace(Path(home)):
        np.savez(Path(home) / "data" / "x.npz", images=images, labels=labels, test=test, answers=answers)
        text = f"title: {name}, {trouble}\nsource: {{name: arrays, train: 'x.npz:images', labels: 'x.npz:labels', "
        text += f"test: 'x.npz:test'}}\nimage: {{size: {images.shape[1]}, channels: 1, mirror: false}}\n"
        text += f"classes: {[str(k) for k in range(labels.max() + 1)]}\nlimit: {{parameters: 5_000_000}}\n"
        if trouble == "groups declared":
            rows = [f"{id},{group}" for id, group in enumerate(frame_of(trouble))]
            (Path(home) / "data" / "g.csv").write_text("\n".join(["id,group", *rows]))
            text += "groups: g.csv\n"
        (Path(home) / "configs/competitions/x.yaml").write_text(f"{text}submission: {{public: {PUBLIC}}}\n")
        held_out = 0.15 if trouble == "tiny validation" else 0.3
        words = [*RECIPES[recipe], "--competition", "x", "--name", "r", "--seed", str(seed), "--no-report"]
        words += ["--threads", "1", "--set", "train.epochs=10", "--set", f"split.holdout={held_out}"]
        words += ["--set", f"split.seed={seed}", "--set", "predict.views=[]"]
        if trouble == "torn on purpose":
            words += ["--set", "split.grouped=false"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main.main(words)
        if code:
            raise SystemExit(f"{name}, {trouble}: the run ended with {code}:\n{printed.getvalue()}")
        run = Run.find("r")
        moved = RegroupedImages.read(run)
        torn = _torn(words) if moved and trouble != "groups declared" else None
        expected, score = Expected.read(run), run.result.holdout
        right = run.probs("predict").argmax(1) == answers
        wrong = labels != (clean[0][1] if trouble == "label noise" else labels)
        doubted = label_doubts(run, wrong)
    assert expected is not None
    public = random.permutation(len(right)) < round(PUBLIC * len(right))
    answered = {"validation": right, "public": right[public], "private": right[~public]}
    ends = {"validation": (score.low, score.high), "public": expected.public[1:3], "private": expected.private[1:3]}
    return {
        "set": name,
        "recipe": recipe,
        "seed": seed,
        "trouble": trouble,
        "holdout": [score.value, score.low, score.high, score.count],
        "hidden": {part: float(some.mean()) for part, some in answered.items()},
        "intervals": ends,
        "held": {part: bool(ends[part][0] <= some.mean() <= ends[part][1]) for part, some in answered.items()},
        "auc": expected.auc,
        "shift named": expected.shifted,
        "groups named": NAMED in printed.getvalue(),
        "expected": expected.private[0],
        "by stratification": expected.by_stratification,
        "expected from": None if expected.start is None else [expected.start.value, expected.start.count],
        "estimates": expected.estimates,
        "labels": doubted,
        "torn split": {"would have read": moved.would_read(score), "read": torn} if moved and torn else None,
    }


def _torn(words: Sequence[str]) -> float:
    """Return the holdout accuracy of the same run when the split ignores related images."""
    with contextlib.redirect_stdout(io.StringIO()):
        main.main([*words, "--name", "torn", "--set", "split.grouped=false"])
    return Run.find("torn").result.holdout.value


def label_doubts(run: Run, wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the run's estimate of wrong labels, the true number, and the number that confident learning finds."""
    place = {id: k for k, id in enumerate(run.competition.load().train.ids)}
    held = np.array([place[id] for id in run.split.holdout])
    data = run.competition.load().train.labels
    probs, labelled = run.probs("holdout").astype(np.float64), data[held]
    estimate = label_noise(probs, labelled)
    usual = np.array([probs[labelled == k, k].mean() if (labelled == k).any() else 2 for k in range(probs.shape[1])])
    sure = np.where(probs >= usual, probs, -1)
    counted = (sure.max(1) >= 0) & (sure.argmax(1) != labelled)
    return {
        "named": WrongLabels.read(run) is not None,
        "said": [estimate.share, estimate.low, estimate.high],
        "true": float(wrong[held].mean()),
        "suspects": len(estimate.suspects),
        "suspects wrong": int(wrong[held][estimate.suspects].sum()),
        "confident learning": [float(counted.mean()), int(counted.sum()), int((counted & wrong[held]).sum())],
    }


@contextlib.contextmanager
def workspace(home: Path) -> Iterator[None]:
    """Set FEATHERWEIGHT_HOME to a new workspace for the duration of the context."""
    for folder in ("data", "configs/competitions"):
        (home / folder).mkdir(parents=True)
    before = os.environ.get("FEATHERWEIGHT_HOME")
    os.environ["FEATHERWEIGHT_HOME"] = str(home)
    try:
        yield
    finally:
        os.environ.pop("FEATHERWEIGHT_HOME") if before is None else os.environ.update(FEATHERWEIGHT_HOME=before)
