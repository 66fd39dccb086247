"""Knowledge distillation: learning from teachers as well as from the labels (Hinton et al. 2015, arXiv:1503.02531).

A teacher that is a model sees the same augmented and mixed images as the student (arXiv:2106.05237). Saved
probabilities belong to the images as they were when the teacher predicted them: they are mixed as the labels are, and
like the labels they do not depend on the augmentation. Teachers do not ship, and their parameters do not count.
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
    """The teachers of a run: models that predict every batch, and saved probabilities of other models.

    `saved` is the mean of the probabilities that `savers` models gave to the training images at the recipe's
    temperature: float32 [N, K], in the order of the training pack.
    """

    models: Sequence[Classifier] = ()
    saved: Tensor | None = None
    savers: int = 0

    def beside(self, targets: Tensor, samples: Tensor) -> Tensor:
        """Return the targets [B, K] with the samples' saved probabilities to their right, so that both are mixed."""
        if self.saved is None:
            return targets
        return torch.cat([targets, send(self.saved[samples], targets.device)], 1)

    def answer(self, images: Tensor, known: Tensor, temperature: float, runtime: Runtime) -> Tensor:
        """Return the mean of all teachers' probabilities, float32 [B, K], for images [B, C, H, W].

        `known` [B, K] are the saved probabilities of these images, empty if there are none.
        """
        if not self.models:
            return known
        answers = teach(self.models, images, temperature, runtime)
        count = len(self.models)
        return (answers * count + known * self.savers) / (count + self.savers) if self.savers else answers


NO_TEACHERS = Teachers()


@torch.no_grad()
def teach(teachers: Sequence[Classifier], images: Tensor, temperature: float, runtime: Runtime) -> Tensor:
    """Return the mean of the models' probabilities at a temperature, float32 [B, K], for images [B, C, H, W]."""
    with runtime.autocast():
        logits = [teacher(images) for teacher in teachers]
    return torch.stack([(each.float() / temperature).softmax(1) for each in logits]).mean(0)


def learn(loss: Tensor, logits: Tensor, taught: Tensor, weight: float, temperature: float) -> Tensor:
    """Return (1 - weight) * loss + weight * divergence of the student from the teachers at the temperature.

    The Kullback-Leibler divergence is multiplied by the square of the temperature, which keeps the scale of its
    gradients.
    """
    apart = F.kl_div((logits / temperature).log_softmax(1), taught, reduction="batchmean") * temperature**2
    return (1 - weight) * loss + weight * apart


def read_saved(path: Path, ids: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the probabilities [N, K] of these images, in their order, from an .npz file of `ids` (text) and `probs`.

    If the file holds `classes`, they must be the competition's. Raises UserError if anything does not match.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"distill.teachers: cannot read {path}: {error}") from None
    if missing := {"ids", "probs"} - set(arrays):
        raise UserError(f"distill.teachers: {path} lacks the array '{sorted(missing)[0]}'; expected ids and probs")
    probs, rows = arrays["probs"], {id: row for row, id in enumerate(arrays["ids"].tolist())}
    if arrays["ids"].dtype.kind != "U" or len(rows) < arrays["ids"].size:
        raise UserError(f"distill.teachers: {path}: ids must be text, without duplicates")
    if probs.shape != (len(rows), len(classes)) or list(arrays.get("classes", classes)) != list(classes):
        want = f"{len(rows):,} ids and the {len(classes)} classes of the competition, in its order"
        raise UserError(
            f"distill.teachers: {path}: probs has the shape {probs.shape}; expected a row for each of {want}"
        )
    if probs.dtype.kind != "f" or not ((probs >= 0).all() and np.allclose(probs.sum(1), 1, atol=1e-3)):
        raise UserError(f"distill.teachers: {path}: probs must be 0 or more, and sum to 1 in each row")
    if len(set(ids)) < len(ids):
        raise UserError(
            f"distill.teachers: {path}: a training image and an image to predict have the same id: ids are ambiguous"
        )
    if unknown := [id for id in ids if id not in rows]:
        raise UserError(
            f"distill.teachers: {path} lacks {len(unknown):,} of the {len(ids):,} training images: {unknown[0]}"
        )
    taken: NDArray[np.float32] = probs[[rows[id] for id in ids]].astype(np.float32)
    return taken
