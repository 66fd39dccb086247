"""A finished run as a predictor: its models, how they see a picture, and their views, for any number of pictures.

An ensemble asks each member at its own image size and averages by weight, as its own predictions were made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.config import Recipe
from featherweight.data.image import Image, scored
from featherweight.errors import UserError
from featherweight.evaluation import tta
from featherweight.evaluation.decisions import DecisionRule
from featherweight.evaluation.inference import activated, predict_probs
from featherweight.models import Classifier
from featherweight.runs import fitted, predictions
from featherweight.runs.evaluate import names_of
from featherweight.runs.run import Run
from featherweight.runtime import device as devices
from featherweight.runtime.cores import cores
from featherweight.runtime.device import Runtime

CHUNK_BYTES = 2**26  # of decoded pictures held at once, but at least a batch
Picture = str | Path | NDArray[Any]  # a file, or uint8 [H, W] or [H, W, C]
Shown = Mapping[Image, NDArray[np.uint8]]  # a prepared picture uint8 [S, S, C], by image section


@dataclass(frozen=True)
class Predictions:
    """Predictions of pictures.

    Attributes:
        classes: the names of the classes.
        ids: the files' paths, or the indices of arrays, [N].
        probs: float32 [N, K], in the order of `classes`.
        unreadable: why pictures could not be read, by id; they are left out of the others.
        decision: the rule by which probabilities become `labels`.
    """

    classes: list[str]
    ids: list[str]
    probs: NDArray[np.float32]
    unreadable: dict[str, str]
    decision: DecisionRule = field(default_factory=DecisionRule)

    @property
    def labels(self) -> list[str] | list[tuple[str, ...]]:
        """The class of each picture [N], as in the run's CSV: the most probable one; by fitted cut points for ordered
        classes; or a tuple of the classes over their thresholds.
        """
        return names_of(self.decision(self.probs), self.classes) if len(self.ids) else []

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Return the `count` most probable classes of each picture with their probabilities, in descending order."""
        order = np.argsort(-self.probs, axis=1, kind="stable")[:, :count]
        return [
            [(self.classes[index], float(row[index])) for index in best]
            for row, best in zip(self.probs, order, strict=True)
        ]


@dataclass(frozen=True)
class _Member:
    run: Run
    recipe: Recipe
    model: Classifier
    weight: float
    runtime: Runtime  # on the device of all, in the precision that the member's probabilities were made in


class Predictor(nn.Module):
    """A finished run's model, or an ensemble's models, on a device.

    `forward` takes images float32 [B, C, H, W] in [0, 1] and returns log-probabilities float32 [B, K], without views
    and temperature; `predict` takes files or arrays and gives the probabilities that the run's CSV is made of.
    """

    def __init__(self, run: Run, views: str | None = None, device: str | None = None) -> None:
        """Load the models. `views` is a recipe's setting in place of its own. Raises UserError for a run without
        weights.
        """
        super().__init__()
        self.run, self.classes = run, list(run.competition.classes)
        self.several = run.competition.target == "several"
        runtime = functools.partial(devices.make_runtime, device or run.device, threads=run.metadata.threads)
        self.members = [_member(*each, views, runtime) for each in run.weighted_models]
        self.models = nn.ModuleList(member.runtime.place(member.model).eval() for member in self.members)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        total = torch.zeros(len(images), len(self.classes), device=images.device)
        for member in self.members:
            size = member.run.competition.image.size
            seen = images
            if images.shape[-1] != size:
                seen = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
            total = total + member.weight * activated(member.model(seen).float(), self.several)
        return total.clamp_min(1e-12).log()

    def predict(self, pictures: Picture | Sequence[Picture] | NDArray[Any]) -> Predictions:
        """Predict pictures of any size: one or several files, or arrays uint8 [H, W, C] or [N, H, W, C]."""
        if isinstance(pictures, str | Path) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4):
            pictures = [pictures]
        chunks = list(self.stream(pictures))
        if not chunks:
            nothing = np.zeros((0, len(self.classes)), np.float32)
            return Predictions(self.classes, [], nothing, {}, fitted.decision(self.run))
        return Predictions(
            self.classes,
            [id for chunk in chunks for id in chunk.ids],
            np.concatenate([chunk.probs for chunk in chunks]),
            {id: why for chunk in chunks for id, why in chunk.unreadable.items()},
            fitted.decision(self.run),
        )

    def stream(self, pictures: Iterable[Picture | Shown], names: Iterable[str] | None = None) -> Iterator[Predictions]:
        """Predict any number of pictures, some at a time, so that memory does not grow with their number.

        `names` become the `ids` of the predictions; by default these are the paths of files and the indices of arrays.
        """
        ahead, named, start = iter(pictures), None if names is None else iter(names), 0
        with ThreadPoolExecutor(cores()) as workers:
            while chunk := list(islice(ahead, self.chunk)):
                ids = _ids(chunk, start) if named is None else list(islice(named, len(chunk)))
                yield self._predict(chunk, ids, start, workers)
                start += len(chunk)

    @property
    def chunk(self) -> int:
        """Number of pictures that are decoded and predicted at once.

        These are whole batches of every member or, if that takes more than CHUNK_BYTES, of the members whose views draw
        random numbers, which are seeded by batch.
        """
        sizes = [member.recipe.predict.batch_size for member in self.members]
        random = [member.recipe.predict.batch_size for member in self.members if self._draws(member)]
        images = [member.run.competition.image for member in self.members]
        bytes_each = sum(image.size * image.size * image.channels for image in images)
        whole, least = math.lcm(*sizes), math.lcm(*random)
        if whole * bytes_each > CHUNK_BYTES:
            whole = least * -(-max(sizes) // least)
        return whole * max(1, CHUNK_BYTES // (bytes_each * whole))

    @staticmethod
    def _draws(member: _Member) -> bool:
        """True if a member's views draw random numbers."""
        return any(map(tta.is_random, predictions.views(member.recipe, member.run.competition)))

    def _predict(
        self, chunk: Sequence[Picture | Shown], ids: Sequence[str], start: int, workers: ThreadPoolExecutor
    ) -> Predictions:
        decoded: dict[Image, NDArray[np.uint8]] = {}
        faults: dict[int, str] = {}
        probs = np.zeros((len(chunk), len(self.classes)))
        for member in self.members:
            image = member.run.competition.image
            if image not in decoded:
                decoded[image], unreadable = _decode(chunk, image, workers)
                faults |= unreadable
            part = predict_probs(
                [member.model],
                decoded[image],
                runtime=member.runtime,
                start=start,
                **predictions.inference_options(member.recipe, member.run.competition),
            )
            probs += member.weight * fitted.calibrated(member.run, part).astype(np.float64)
        read = [index for index in range(len(chunk)) if index not in faults]
        return Predictions(
            self.classes,
            [ids[index] for index in read],
            probs[read].astype(np.float32),
            {ids[index]: why for index, why in sorted(faults.items())},
            fitted.decision(self.run),
        )


def _ids(chunk: Sequence[Picture | Shown], start: int) -> list[str]:
    return [str(one) if isinstance(one, str | Path) else str(start + index) for index, one in enumerate(chunk)]


def _member(run: Run, weight: float, views: str | None, make: Callable[[str], Runtime]) -> _Member:
    if not run.weights.exists():
        raise UserError(f"{run.name} has no weights yet: ./run.sh resume {run.name}")
    recipe = run.recipe if views is None else run.recipe_with([views])
    return _Member(run, recipe, run.load_model(), weight, make(recipe.train.precision))


def _decode(
    chunk: Sequence[Picture | Shown], image: Image, workers: ThreadPoolExecutor
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return pictures as uint8 [N, H, W, C], and why some cannot be read, by index; those are grey."""
    pixels = np.full((len(chunk), image.size, image.size, image.channels), 127, np.uint8)
    faults: dict[int, str] = {}

    def one(index: int) -> None:
        picture = chunk[index]
        try:
            pixels[index] = picture[image] if isinstance(picture, Mapping) else scored(picture, image)
        except UserError as error:
            faults[index] = str(error)

    list(workers.map(one, range(len(chunk))))
    return pixels, faults
