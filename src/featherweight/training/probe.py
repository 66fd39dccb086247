"""A linear probe: a regularised classifier on the features of a frozen network, as the first weights of its head."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight import atomic, paths
from featherweight.console import Progress, say
from featherweight.errors import UserError
from featherweight.evaluation import tta
from featherweight.evaluation.inference import batch_within_memory, predict_probs
from featherweight.models import Classifier
from featherweight.runtime.device import Runtime

if TYPE_CHECKING:
    from featherweight.data.pack import Pack

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # inverse strengths of the penalty that are tried
LAST = 5  # every fifth image of a class judges them
MOST = 10_000  # images that they are tried on
CHUNK = 256

Features = NDArray[np.float32]


def start_from_probe(model: Classifier, head: nn.Linear, train: Pack, mirror: bool, runtime: Runtime) -> None:
    """Give the classifier the weights of a logistic regression on the body's features of the training images.

    With `mirror` it learns from their mirror images as well.
    """
    labels = train.labels
    assert labels is not None
    if labels.ndim > 1:
        raise UserError("head.start: a probe tells one class for each image; of several it knows nothing")
    views = [False, True] if mirror else [False]
    features = [features_of(model, head, train.images, mirrored, runtime) for mirrored in views]
    weight, bias, words = runtime.processes.once(lambda: fitted(features, labels, head.out_features))
    say(words)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(bias))


def features_of(model: Classifier, head: nn.Linear, images: Any, mirrored: bool, runtime: Runtime) -> Features:
    """What the classifier is given for images uint8 [N, H, W, C], float32 [N, F]; computed once for the same images
    and weights, and kept beside the packs.
    """
    path = paths.packs() / "features" / f"{_digest(model, head, images, mirrored, runtime)}.npy"
    if runtime.processes.once(path.exists):
        stored: Features = np.load(path)
        return stored
    features = given_to(model, head, images, mirrored, runtime)
    runtime.processes.once(lambda: _keep(path, features))
    return features


def given_to(model: Classifier, head: nn.Linear, images: Any, mirrored: bool, runtime: Runtime) -> Features:
    """What the classifier `head` is given for images uint8 [N, H, W, C], float32 [N, F]."""
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


def fitted(features: list[Features], labels: NDArray[np.int64], classes: int) -> tuple[Features, Features, str]:
    """The weights [K, F] and biases [K] of a regularised logistic regression on features [N, F] of one or several views
    of the same images, and what was chosen, in words.

    The strength of the penalty is the one with the least log loss on a fifth of each class, which is not fitted then.
    """
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    judged = rank % LAST == LAST - 1
    few = np.zeros(len(labels), bool)
    few[:: max(1, len(labels) // MOST)] = True
    losses = [
        _loss(_logistic(features, labels, few & ~judged, strength, classes), features[0][judged], labels[judged])
        for strength in (STRENGTHS if judged.any() else ())
    ]
    chosen = STRENGTHS[int(np.argmin(losses))] if losses else STRENGTHS[2]
    weight, bias = _logistic(features, labels, np.ones(len(labels), bool), chosen, classes)
    judge = f", log loss {min(losses):.4f} on a fifth of the training images" if losses else ""
    return weight, bias, f"  probe: {features[0].shape[1]:,} features, penalty 1/{chosen:g}{judge}"


def _logistic(
    features: list[Features], labels: NDArray[np.int64], chosen: NDArray[np.bool_], strength: float, classes: int
) -> tuple[Features, Features]:
    """Fitted on standardised features; the standardisation is folded into the weights."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows, wanted = np.concatenate([view[chosen] for view in features]), np.tile(labels[chosen], len(features))
    mean, deviation = rows.mean(0), rows.std(0) + 1e-6
    weight, bias = np.zeros((classes, rows.shape[1]), np.float32), np.full(classes, -10.0, np.float32)
    there = np.unique(wanted)
    if len(there) == 1:
        bias[there] = 0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = LogisticRegression(C=strength / len(features), max_iter=300).fit((rows - mean) / deviation, wanted)
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
    """The hash of all that features follow from, to the last bit."""
    own = {id(tensor) for tensor in head.parameters()}
    how = f"{images.shape} {mirrored} {runtime.dtype} {runtime.device} {torch.get_num_threads()}"
    hashed = hashlib.blake2b(how.encode(), digest_size=12)
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in own:
            hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for first in range(0, len(images), CHUNK):
        hashed.update(np.ascontiguousarray(images[first : first + CHUNK]).tobytes())
    return hashed.hexdigest()


def _keep(path: Path, features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, features)
    atomic.write_bytes(path, buffer.getvalue())
