"""What a plan chooses from: recipes with the keys that a task and a length of training set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featherweight import budget
from featherweight.budget import solver
from featherweight.config import Competition, load_recipe
from featherweight.planning.dataset_facts import DatasetFacts

STEPS_PER_EPOCH = 3  # at least, as far as batches of 32 allow
BATCHES = (32, 64, 128, 256)
FAST = "fastnet94_muon"  # the recipe of all fast nets
WIDTHS = {"fast net, narrow": (32, 128, 128), "fast net": (64, 256, 256), "fast net, wide": (128, 384, 384)}
RATE = 0.24 / 256  # of the fast nets, for each image of a batch
ENLARGED, REDUCED = (96, 128), (128, 160, 224)  # pixels at which published networks see small pictures and photographs
MANY = 8000  # photographs, of which published networks see smaller copies as well
BOLD = ("optimizer.lr=0.001", "optimizer.layer_decay=0.9")  # of fine-tuning, as in the recipe finetune_lite0_bold
SMALL = 64  # pixels of a side up to which pictures are enlarged for a published network
STORED = 256  # pixels of the shorter side of photographs, from which crops are taken
LONGEST_TUNED = 30  # epochs: fine-tuning has not been seen to need more,
IMAGES_TUNED = 64_000  # or passes of an image, where there are few
SHRUNK = (32, 64, 96, 128)  # pixels to which pictures are reduced for a network that starts from scratch
ALIKE = 1.25  # times a reduced side: pictures that are no larger are not reduced to it


@dataclass(frozen=True)
class Candidate:
    """A recipe by name, the side of its images in pixels, and what is set in it.

    `fixed` are keys that do not depend on the length of training; `batch` is said for recipes whose rate follows it.
    """

    name: str
    recipe: str
    size: int
    fixed: tuple[str, ...] = ()
    batch: int | None = None
    longest: int = 400  # epochs, beyond which it has not been seen to learn more
    starts_published: bool = False

    @property
    def title(self) -> str:
        """The name and the size."""
        return f"{self.name} at {self.size} px"

    def settings(self, epochs: int) -> list[str]:
        """`key=value` for a training of that many epochs; none is a linear probe alone."""
        if epochs == 0:
            return [*self.fixed, "train.epochs=0", "warmup=null", "averages=[]", "ship=raw"]
        settings = [*self.fixed, f"train.epochs={epochs}", f"train.evaluate_every={-(-epochs // 10)}"]
        if self.batch is not None:
            settings += [f"train.batch_size={self.batch}", f"optimizer.lr={self.batch * RATE:.6g}"]
        return settings


def batch_size(images: int) -> int:
    """The largest batch that leaves an epoch STEPS_PER_EPOCH steps."""
    return max((size for size in BATCHES if images // size >= STEPS_PER_EPOCH), default=BATCHES[0])


def scratch_sizes(side: int) -> tuple[int, ...]:
    """The sizes, in pixels, at which a network that starts from random weights sees pictures of that side.

    Reduced, since an epoch of half the side takes a quarter of the time, and as they are, up to the largest of these.
    """
    reduced = tuple(size for size in SHRUNK if ALIKE * size <= side)
    return (*reduced, side) if side <= SHRUNK[-1] else reduced


def published_sizes(side: int, images: int) -> tuple[int, ...]:
    """The sizes, in pixels, at which a network with pretrained weights sees that many pictures of that side."""
    if side <= SMALL:
        return ENLARGED
    fewer = ENLARGED[:1] if images > MANY else ()
    return (*fewer, *(size for size in REDUCED if size <= max(side, REDUCED[0])))


def from_scratch(facts: DatasetFacts) -> Iterator[Candidate]:
    """Networks that start from random weights: the fast nets in three widths, and the wide residual net."""
    batch = batch_size(facts.images)
    for size in scratch_sizes(facts.side):
        own = _at(size, facts)
        for name, widths in WIDTHS.items():
            yield Candidate(name, FAST, size, (*own, *_of_widths(widths)), batch)
        yield Candidate("WRN-16-4", "wrn16_4", size, (*own, "train.precision=native"))


def filling(facts: DatasetFacts, competition: Competition) -> Iterator[Candidate]:
    """Fast nets of other widths, where the widest of the usual ones is over a limit: one that fills it, and one of a
    quarter.
    """
    for size in scratch_sizes(facts.side):
        own = _at(size, facts)
        widest = load_recipe(FAST, [*own, *_of_widths(WIDTHS["fast net, wide"])])
        seen = competition.seen_by(widest)
        if budget.weigh(widest, seen, FAST).within_limit:
            continue
        for name, part in (("fast net, filling the limit", 1), ("fast net, a quarter of the limit", 4)):
            members, _ = solver.fill("fastnet", seen, seen.limit.parameters // part)
            shallow = [member.spec.arguments["widths"] for member in members if member.spec.arguments["depth"] == 2]
            for widths in shallow[:1]:
                yield Candidate(name, FAST, size, (*own, *_of_widths(widths)), batch_size(facts.images))


def _of_widths(widths: Sequence[int]) -> tuple[str, ...]:
    return f"model.widths={list(widths)}", "train.precision=native"


def _at(size: int, facts: DatasetFacts) -> tuple[str, ...]:
    return () if size == facts.size else (f"image.size={size}",)


def fine_tuned(facts: DatasetFacts) -> Iterator[Candidate]:
    """Networks with pretrained weights, at several sizes: small images are enlarged, photographs are reduced."""
    for size in published_sizes(facts.side, facts.images):
        store = "null" if facts.side <= SMALL else str(max(STORED, size))
        own: tuple[str, ...] = (f"image.size={size}", f"image.store={store}")  # float32: depthwise is slower in bf16
        if facts.several:  # of sets of classes a probe knows nothing
            own += ("head={start: random, epochs: 1}",)
        for name, recipe in (("EfficientNet-Lite0", "finetune_lite0"), ("EfficientNet-B0", "finetune")):
            longest = max(LONGEST_TUNED, IMAGES_TUNED // facts.images)
            yield Candidate(f"{name}, pretrained", recipe, size, own, longest=longest, starts_published=True)
