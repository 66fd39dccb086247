"""The candidates of a plan: recipes, with settings for the data and for the length of training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from featherweight import budget
from featherweight.budget import solver
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.planning.dataset_facts import DatasetFacts

STEPS_PER_EPOCH, STEPS = 3, 250  # fewest in an epoch and in a training of a fast net, if batches of 32 allow it
BATCH_SIZES = (32, 64, 128, 256)
FAST = "fastnet94_muon"  # recipe of all fast nets
WIDTHS = {"fast net, narrow": (32, 128, 128), "fast net": (64, 256, 256), "fast net, wide": (128, 384, 384)}
RATE_PER_IMAGE = 0.24 / 256  # learning rate of the fast nets for each image of a batch
REST_RATE = 1.0  # and of their biases and heads
# The more images, the lower the best rates (docs/speed.md): of so many, half; of LARGE_SET in larger batches, too.
MANY_IMAGES, PART_OF_RATES = 8000, 0.5
LARGE_SET = 30_000
LARGE_BATCH = 512
IN_LARGE_BATCHES = (f"train.batch_size={LARGE_BATCH}", "optimizer.lr=0.12", "optimizer.rest_lr=0.5")
ENLARGED_SIDES = (96, 128, 192)  # px to which small pictures are enlarged for pretrained networks
REDUCED_SIDES = (96, 128, 160, 224)  # px to which photographs are reduced for them
BOLD = ("optimizer.lr=0.001", "optimizer.layer_decay=0.9")  # as in the recipe finetune_lite0_bold
SMALL_SIDE = 64  # px: pictures up to this side are enlarged for pretrained networks
STORED_SIDE = 256  # px of the shorter side at which photographs are stored
LONGEST_TUNED_EPOCHS = 30  # of fine-tuning; more were not seen to help
IMAGES_TUNED = 64_000  # small sets may take more epochs, up to this many images seen in all
SCRATCH_SIDES = (32, 64, 96, 128)  # px to which pictures are reduced for networks from scratch
LEAST_REDUCTION = 1.25  # pictures must be larger than a reduced side by this factor to be reduced to it


@dataclass(frozen=True)
class Candidate:
    """A recipe by name, the image size in pixels, and settings.

    Attributes:
        fixed: settings that do not depend on the length of training.
        longest: the most epochs that are planned.
        starts_published: true for pretrained weights.
    """

    name: str
    recipe: str
    size: int
    fixed: tuple[str, ...] = ()
    longest: int = 400
    starts_published: bool = False

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.name} at {self.size} px"

    def settings(self, epochs: int) -> list[str]:
        """Return `key=value` settings for that many epochs; 0 is a linear probe."""
        if epochs == 0:
            return [*self.fixed, "train.epochs=0", "warmup=null", "averages=[]", "ship=raw"]
        return [*self.fixed, f"train.epochs={epochs}", f"train.evaluate_every={evaluate_every(epochs)}"]

    @cached_property
    def one_epoch(self) -> Recipe:
        """Its recipe for one epoch, which has all that does not depend on the length of training."""
        return load_recipe(self.recipe, self.settings(1))

    def seen(self, competition: Competition) -> Competition:
        """Return the competition as its recipe sees it."""
        return competition.seen_by(self.one_epoch)


def evaluate_every(epochs: int) -> int:
    """Return after how many epochs each a training of so many evaluates the holdout: ten times in all, at most."""
    return -(-epochs // 10)


def batch_size(images: int, seen: float = math.inf) -> int:
    """Return the largest batch size that leaves an epoch of `images` at least STEPS_PER_EPOCH steps, and a training
    that sees `seen` images in all at least STEPS.
    """
    most = min(images / STEPS_PER_EPOCH, seen / STEPS)
    return max((size for size in BATCH_SIZES if size <= most), default=BATCH_SIZES[0])


def batches(images: int, seen: float = math.inf) -> tuple[str, ...]:
    """Return the settings of the fast nets' batch size and learning rates for so many training images, of which `seen`
    are seen in all epochs together (by default: a long training).

    In large batches a short training has too few steps (docs/speed.md).
    """
    if images >= LARGE_SET and seen >= STEPS * LARGE_BATCH:
        return IN_LARGE_BATCHES
    size, part = batch_size(images, seen), PART_OF_RATES if images >= MANY_IMAGES else 1.0
    rates = f"optimizer.lr={size * RATE_PER_IMAGE * part:.6g}", f"optimizer.rest_lr={REST_RATE * part:g}"
    return f"train.batch_size={size}", *rates


def scratch_sizes(side: int) -> tuple[int, ...]:
    """Return the image sizes, in pixels, for networks with random weights, given the side of the pictures.

    They are reduced sizes, since an epoch at half the side takes a quarter of the time, and the original one, up to the
    largest of these.
    """
    reduced = tuple(size for size in SCRATCH_SIDES if LEAST_REDUCTION * size <= side)
    return (*reduced, side) if side <= SCRATCH_SIDES[-1] else reduced


def published_sizes(side: int) -> tuple[int, ...]:
    """Return the image sizes, in pixels, for networks with pretrained weights, given the side of the pictures.

    Smaller pictures than these are enlarged: pretrained filters recognise more in objects of the size that they know.
    """
    return ENLARGED_SIDES if side <= SMALL_SIDE else REDUCED_SIDES


def from_scratch(facts: DatasetFacts) -> Iterator[Candidate]:
    """Yield networks with random weights: the fast nets in three widths.

    In equal time no other network came near them: on CIFAR-10 WRN-16-4 is 6.5 points behind (docs/results.md).
    """
    for size in scratch_sizes(facts.side):
        own = _at(size, facts)
        for name, widths in WIDTHS.items():
            yield Candidate(name, FAST, size, (*own, *batches(facts.images), f"model.widths={list(widths)}"))


def filling(facts: DatasetFacts, competition: Competition) -> Iterator[Candidate]:
    """Yield fast nets of other widths: one that fills the limit if the widest usual one is over it or uses less than
    half, and one of a quarter of the limit if it is over.
    """
    for size in scratch_sizes(facts.side):
        own = _at(size, facts)
        widest = load_recipe(FAST, [*own, f"model.widths={list(WIDTHS['fast net, wide'])}"])
        seen = competition.seen_by(widest)
        weighed = budget.weigh(widest, seen, FAST)
        if weighed.within_limit and 2 * weighed.counted > weighed.limit:
            continue
        parts = [("fast net, filling the limit", 1), ("fast net, a quarter of the limit", 4)]
        for name, part in parts[: 1 if weighed.within_limit else 2]:
            members, _ = solver.fill("fastnet", seen, seen.limit.parameters // part)
            shallow = [member.spec.arguments["widths"] for member in members if member.spec.arguments["depth"] == 2]
            for widths in shallow[:1]:
                yield Candidate(name, FAST, size, (*own, *batches(facts.images), f"model.widths={list(widths)}"))


def _at(size: int, facts: DatasetFacts) -> tuple[str, ...]:
    return () if size == facts.size else (f"image.size={size}",)


def fine_tuned(facts: DatasetFacts) -> Iterator[Candidate]:
    """Yield networks with pretrained weights at several sizes: small images are enlarged, photographs are reduced."""
    for size in published_sizes(facts.side):
        store = "null" if facts.side <= SMALL_SIDE else str(max(STORED_SIDE, size))
        # train.precision is left out, so these stay in float32: depthwise convolutions are slower in bf16.
        own: tuple[str, ...] = (f"image.size={size}", f"image.store={store}")
        # The published strides at every size. Without the first halvings, the default below 128 px, a step at 96 px
        # takes twice as long as one at 128.
        own += ("model.stem=4",)
        if facts.several:  # a probe needs one class per image
            own += ("head={start: random, epochs: 1}",)
        for name, recipe in (("EfficientNet-Lite0", "finetune_lite0"), ("EfficientNet-B0", "finetune")):
            longest = max(LONGEST_TUNED_EPOCHS, IMAGES_TUNED // facts.images)
            yield Candidate(f"{name}, pretrained", recipe, size, own, longest=longest, starts_published=True)
