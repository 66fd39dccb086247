"""A linear probe: a regularised classifier on the features of a frozen network, as the initial weights of its head."""

from __future__ import annotations

import functools
import hashlib
import io
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from featherweight import atomic, paths
from featherweight.console import Progress, say
from featherweight.data.mapped_rows import identity
from featherweight.errors import UserError
from featherweight.evaluation import tta
from featherweight.evaluation.inference import batch_within_memory, predict_probs
from featherweight.models import Classifier
from featherweight.runtime.device import Runtime

if TYPE_CHECKING:
    from featherweight.data.pack import LabelledPack

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # inverse strengths of the penalty that are tried
TUNING_FOLD = 5  # every fifth image of a class is held out to choose by
MAX_TUNING_IMAGES = 10_000  # about, that they are tried on,
FEW_CLASSES, ENOUGH_TUNING_IMAGES = 20, 2000  # of more classes, which take longer in proportion, fewer, but so many
CHUNK = 256
CLASSES_READING = 10  # of so many classes the computation takes as long as reading the features
SAMPLE_IMAGES = 8  # for which the inputs of the heads and the output of the network are recorded
TOLERANCE = 0.05  # by which probabilities computed in bf16 may differ
MAX_CACHED_FILES = 8  # of features; each may have hundreds of megabytes

Features = NDArray[np.float32]


def start_from_probe(
    model: Classifier, heads: Sequence[nn.Linear], train: LabelledPack, mirror: bool, runtime: Runtime
) -> float:
    """Set the classifier to a logistic regression on the body's features of the training images.

    With `mirror` it is fitted to their mirror images as well. Each of several heads gets the weights for its own input,
    so that their mean is the probe's answer. Returns the seconds that the regression took, without the features. Raises
    UserError for a network that a probe cannot initialise.
    """
    labels = train.labels
    if labels.ndim > 1:
        raise UserError("head.start: a linear probe supports one class per image only: --set head.start=random")
    views = [False, True] if mirror else [False]
    given, _ = _asked(model, heads, train.images[:SAMPLE_IMAGES], runtime)
    seconds = 0.0
    for place, head in enumerate(heads):
        if head.bias is None:
            raise UserError(
                "head.start: the network's last linear layer has no bias, which a probe needs: --set head.start=random"
            )
        if not place or not torch.equal(given[place], given[0]):
            features = [features_of(model, head, train.images, mirrored, runtime) for mirrored in views]
            began = time.perf_counter()
            fit = functools.partial(fit_probe, features, labels, head.out_features)
            with threadpool_limits(torch.get_num_threads()):  # of BLAS: the sums depend on their number
                weight, bias, words = runtime.processes.once(fit)
            seconds += time.perf_counter() - began
            say(words)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))
    _refuse_other_answers(model, heads, train.images[:SAMPLE_IMAGES], runtime)
    return seconds


@torch.no_grad()
def _refuse_other_answers(model: Classifier, heads: Sequence[nn.Linear], images: Any, runtime: Runtime) -> None:
    """Raise UserError for a network that does not return the mean of its heads' outputs."""
    given, answered = _asked(model, heads, images, runtime)
    said = torch.stack(
        [nn.functional.linear(rows, one.weight.cpu(), one.bias.cpu()) for one, rows in zip(heads, given, strict=True)]
    )
    if float((answered.softmax(1) - said.mean(0).softmax(1)).abs().max()) > TOLERANCE:
        raise UserError(
            "head.start: the network does not return the output of its last linear layer, so a probe cannot "
            "initialise it: --set head.start=random"
        )


@torch.no_grad()
def _asked(
    model: Classifier, heads: Sequence[nn.Linear], images: NDArray[np.uint8], runtime: Runtime
) -> tuple[list[Tensor], Tensor]:
    """Return the input of each head for a few images, [N, F], and the network's output for them, [N, K]."""
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        head.register_forward_pre_hook(lambda module, inputs: seen.update({module: inputs[0].flatten(1).float().cpu()}))
        for head in heads
    ]
    pixels = runtime.images(torch.from_numpy(np.array(images)))
    with runtime.autocast():
        answered: Tensor = runtime.place(model.eval())(pixels).float().cpu()
    for hook in hooks:
        hook.remove()
    return [seen[head] for head in heads], answered


def regression_work(images: int, views: int, classes: int) -> int:
    """Return a number to which the time of all regressions on these images is about proportional.

    It is that of the rows of features, times the classes and CLASSES_READING for reading a row.
    """
    tried = min(images * (TUNING_FOLD - 1) // TUNING_FOLD, tuning_images(classes))
    return views * (len(STRENGTHS) * tried + images) * (classes + CLASSES_READING)


def tuning_images(classes: int) -> int:
    """Return on how many images the strengths are tried, at most."""
    return max(MAX_TUNING_IMAGES * FEW_CLASSES // max(classes, FEW_CLASSES), ENOUGH_TUNING_IMAGES)


def features_of(model: Classifier, head: nn.Linear, images: Any, mirrored: bool, runtime: Runtime) -> Features:
    """Return the input of the classifier `head` for images uint8 [N, H, W, C], float32 [N, F].

    It is computed once for the same images and weights, and cached in the folder of packs.
    """
    path = paths.packs() / "features" / f"{_digest(model, head, images, mirrored, runtime)}.npy"
    stored = _stored(path, len(images))
    everywhere = all(runtime.processes.gather(stored is not None))  # each machine has its own cache
    if stored is not None and everywhere:
        return stored
    features = given_to(model, head, images, mirrored, runtime)
    runtime.processes.once(lambda: _keep(path, features))
    return features


def given_to(model: Classifier, head: nn.Linear, images: Any, mirrored: bool, runtime: Runtime) -> Features:
    """Compute the input of the classifier `head` for images uint8 [N, H, W, C], float32 [N, F]."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten(1).float().cpu()))
    size = batch_within_memory(CHUNK // 8, images.shape[1], images.shape[2], runtime)
    try:
        with Progress("features", len(images), "images") as bar:
            views = [tta.mirrored] if mirrored else []
            predict_probs([model], images, runtime=runtime, views=views, batch_size=size, advance=bar.advance)
    finally:
        hook.remove()
    dealt = runtime.processes.gather([part.numpy() for part in seen])
    turns = range(-(-len(images) // size))
    return np.concatenate([dealt[turn % len(dealt)][turn // len(dealt)] for turn in turns])


def fit_probe(features: list[Features], labels: NDArray[np.int64], classes: int) -> tuple[Features, Features, str]:
    """Fit a regularised logistic regression to features [N, F] of one or several views of the same images.

    The strength of the penalty is the one with the lowest log loss on a fifth of each class, which is held out for
    that. Returns the weights [K, F], the biases [K], and a line of text about the choice.
    """
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    held_out = rank % TUNING_FOLD == TUNING_FOLD - 1
    few = _some_of_each(labels, np.flatnonzero(~held_out), tuning_images(classes))
    losses = [
        _loss(_logistic(features, labels, few, strength, classes), features[0][held_out], labels[held_out])
        for strength in (STRENGTHS if held_out.any() else ())
    ]
    chosen = STRENGTHS[int(np.argmin(losses))] if losses else STRENGTHS[2]
    weight, bias = _logistic(features, labels, np.ones(len(labels), bool), chosen, classes)
    loss = f", log loss {min(losses):.4f} on a fifth of the training images" if losses else ""
    return weight, bias, f"  probe: {features[0].shape[1]:,} features, penalty 1/{chosen:g}{loss}"


def _some_of_each(labels: NDArray[np.int64], places: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return True [N] at about `most` of the indices `places` at most, the same fraction of each class.

    They are drawn, since images are often sorted.
    """
    drawn = np.random.default_rng(0).permutation(places) if len(places) > most else places
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels[places]):
        own = drawn[labels[drawn] == label]
        chosen[own[: -(-len(own) * most // max(len(places), most))]] = True
    return chosen


def _logistic(
    features: list[Features], labels: NDArray[np.int64], chosen: NDArray[np.bool_], strength: float, classes: int
) -> tuple[Features, Features]:
    """Return weights [K, F] and biases [K], fitted to standardised features, with the standardisation folded in."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, wanted = np.concatenate([view[chosen] for view in features]), np.tile(labels[chosen], len(features))
    mean, deviation = rows.mean(0), rows.std(0) + 1e-6
    rows -= mean  # in place: a copy of many images' features takes gigabytes
    rows /= deviation
    weight, bias = np.zeros((classes, rows.shape[1]), np.float32), np.full(classes, -10.0, np.float32)
    there = np.unique(wanted)
    if len(there) == 1:
        bias[there] = 0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = LogisticRegression(C=strength / len(features), max_iter=300).fit(rows, wanted)
    slopes, offsets = (
        (fit.coef_, fit.intercept_)
        if len(there) > 2
        else (
            np.concatenate([-fit.coef_, fit.coef_]) / 2,
            np.concatenate([-fit.intercept_, fit.intercept_]) / 2,
        )
    )
    weight[there] = slopes / deviation
    bias[there] = offsets - (slopes * mean / deviation).sum(1)
    return weight, bias


def _loss(probe: tuple[Features, Features], features: Features, labels: NDArray[np.int64]) -> float:
    logits = torch.from_numpy(features @ probe[0].T + probe[1])
    return float(nn.functional.cross_entropy(logits, torch.from_numpy(labels)))


def _digest(model: Classifier, head: nn.Linear, images: Any, mirrored: bool, runtime: Runtime) -> str:
    """Return the hash of everything that the features depend on."""
    own = {id(tensor) for tensor in head.parameters()}
    how = f"{images.shape} {mirrored} {runtime.dtype} {runtime.device} {torch.get_num_threads()}"
    hashed = hashlib.blake2b(how.encode(), digest_size=12)
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in own:
            hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for part in identity(images):
        hashed.update(part)
    return hashed.hexdigest()


def _stored(path: Path, count: int) -> Features | None:
    """Return the features of `count` images that a file holds; None where it is missing or damaged."""
    try:
        features: Features = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim == 2 and len(features) == count and features.dtype == np.float32 else None


def _keep(path: Path, features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, features)
    atomic.write_bytes(path, buffer.getvalue())
    newest = sorted(path.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    for old in newest[:-MAX_CACHED_FILES]:
        old.unlink(missing_ok=True)
