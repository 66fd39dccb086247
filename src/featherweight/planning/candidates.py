"""What a plan chooses from: recipes with the keys that a task and a length of training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from featherweight.planning.task import Task

STEPS_PER_EPOCH = 60  # at least, as far as batches of 32 allow: fewer are too few for a rate to rise and fall
BATCHES = (32, 64, 128, 256)
RATE = 0.375 / 256  # of the fast nets, for each image of a batch
SMALL = 64  # pixels up to which a picture is taken as it is from scratch
SHRUNK = (64, 96)  # pixels to which photographs are reduced for a network that starts from scratch


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
    parameters: int = field(default=0, compare=False)

    def settings(self, epochs: int) -> list[str]:
        """`key=value` for a training of that many epochs."""
        settings = [*self.fixed, f"train.epochs={epochs}", f"train.evaluate_every={max(1, epochs // 10)}"]
        if self.batch is not None:
            settings += [f"train.batch_size={self.batch}", f"optimizer.lr={self.batch * RATE:.6g}"]
        return settings


def batch_size(images: int) -> int:
    """The largest batch that leaves an epoch STEPS_PER_EPOCH steps."""
    return max((size for size in BATCHES if images // size >= STEPS_PER_EPOCH), default=BATCHES[0])


def from_scratch(task: Task) -> Iterator[Candidate]:
    """Networks that start from nothing: the fast nets in three widths, and the wide residual net."""
    batch = batch_size(task.images)
    for size in (task.size,) if task.size <= SMALL else SHRUNK:
        own = () if size == task.size else (f"image.size={size}",)
        for name, recipe, widths in (
            ("fast net, narrow", "fastnet94", ("model.widths=[32,128,128]",)),
            ("fast net", "fastnet94", ()),
            ("fast net, wide", "fastnet95", ()),
        ):
            yield Candidate(name, recipe, size, (*own, *widths, "train.precision=native"), batch)
        yield Candidate("WRN-16-4", "wrn16_4", size, (*own, "train.precision=native"))
