"""Learning from teachers as well as from the classes (Hinton et al. 2015, arXiv:1503.02531).

A teacher that is a model sees the very images that the student does, augmented and mixed, so that a CutMix is answered
for what it shows (arXiv:2106.05237). Saved probabilities are of the images as they were when they were saved: they are
mixed exactly as the labels are, and like the labels they stay what they are however an image is augmented. So a teacher
that would doubt an image of which a corner is cut away is not heard to doubt it. Teachers do not ship and do not count.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featherweight.errors import UserError
from featherweight.models import Classifier
from featherweight.runtime.device import Runtime, send


@dataclass(frozen=True)
class Teachers:
    """Models that are asked about every batch; and of `savers` others, whom nobody asks any more, the mean of what they
    gave to the training images at the recipe's temperature: float32 [N, K], in the order of the training pack.
    """

    models: Sequence[Classifier] = ()
    saved: Tensor | None = None
    savers: int = 0

    def beside(self, targets: Tensor, samples: Tensor) -> Tensor:
        """The targets [B, K] and, to the right of them, what is saved of these samples: what mixes one mixes both."""
        if self.saved is None:
            return targets
        return torch.cat([targets, send(self.saved[samples], targets.device)], 1)

    def answer(self, images: Tensor, known: Tensor, temperature: float, runtime: Runtime) -> Tensor:
        """The mean of all teachers, float32 [B, K], for images [B, C, H, W] of which `known` was saved."""
        if not self.models:
            return known
        answers = teach(self.models, images, temperature, runtime)
        count = len(self.models)
        return (answers * count + known * self.savers) / (count + self.savers) if self.savers else answers


NOBODY = Teachers()


@torch.no_grad()
def teach(teachers: Sequence[Classifier], images: Tensor, temperature: float, runtime: Runtime) -> Tensor:
    """The mean of the teachers' probabilities at a temperature, float32 [B, K], for images [B, C, H, W]."""
    with runtime.autocast():
        logits = [teacher(images) for teacher in teachers]
    return torch.stack([(each.float() / temperature).softmax(1) for each in logits]).mean(0)


def learn(loss: Tensor, logits: Tensor, taught: Tensor, weight: float, temperature: float) -> Tensor:
    """The loss, and by `weight` in its stead how far the student at the temperature is from what is taught.

    The divergence is multiplied by the temperature's square, which keeps the size of its gradients.
    """
    apart = F.kl_div((logits / temperature).log_softmax(1), taught, reduction="batchmean") * temperature**2
    return (1 - weight) * loss + weight * apart


def read_saved(path: Path, ids: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """The probabilities [N, K] that an .npz file of `ids` (text) and `probs` holds for these images, in their order.

    Where it holds `classes` too, these must be the competition's. Raises UserError for what does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"distill.teachers: cannot read {path}: {error}") from None
    if missing := {"ids", "probs"} - set(arrays):
        raise UserError(f"distill.teachers: {path} lacks the array '{sorted(missing)[0]}'; it wants ids and probs")
    probs, rows = arrays["probs"], {id: row for row, id in enumerate(arrays["ids"].tolist())}
    if arrays["ids"].dtype.kind != "U" or len(rows) < arrays["ids"].size:
        raise UserError(f"distill.teachers: {path}: its ids must be text, each there once")
    if probs.shape != (len(rows), len(classes)) or list(arrays.get("classes", classes)) != list(classes):
        want = f"{len(rows):,} ids and the {len(classes)} classes of the competition, in its order"
        raise UserError(
            f"distill.teachers: {path}: its probs are of shape {probs.shape}, not one row per id for {want}"
        )
    if probs.dtype.kind != "f" or not ((probs >= 0).all() and np.allclose(probs.sum(1), 1, atol=1e-3)):
        raise UserError(f"distill.teachers: {path}: its probs must be 0 or more, and 1 together in each row")
    if len(set(ids)) < len(ids):
        raise UserError(
            f"distill.teachers: {path}: a training image and one to predict share an id, so it cannot say of which"
        )
    if unknown := [id for id in ids if id not in rows]:
        raise UserError(
            f"distill.teachers: {path} lacks {len(unknown):,} of the {len(ids):,} training images: {unknown[0]}"
        )
    taken: NDArray[np.float32] = probs[[rows[id] for id in ids]].astype(np.float32)
    return taken
