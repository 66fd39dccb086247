"""Several processes as one: each has a part of every batch, and together they take the steps that one would take.

A recipe's batch is the global one. Process r of n has samples r, r + n, ... of it, with the random numbers that one
process would draw for them. Gradients are summed after the backward pass, so everything that follows (clipping, the
scaler, SAM, the optimizer, averages) is the same in every process, and weights stay equal without being sent. The sum
is explicit, without DistributedDataParallel: networks within a parameter limit have about 20 MB of gradients, too
little to gain from overlapping it with the backward pass, and SAM's two passes, accumulation and the scaler need no
exceptions. What needs the whole batch inside the model is in `runtime.sync`.

The learning curve is that of one process up to the order in which floats are added; the bytes are the same for the same
number of processes. `ALONE` is one process, for which everything here has no effect.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from featherweight.errors import ProcessLostError, UserError
from featherweight.runtime import launcher
from featherweight.runtime.sync import WholeBatch

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # the others wait while the first one packs; one that ends is noticed at once


@dataclass(frozen=True)
class Piece:
    """A part of a global batch that goes through the model at once, as one process sees it."""

    rows: slice  # among the process's own samples
    size: int  # images of the piece in all processes
    part: slice  # which of those are this process's


@dataclass(frozen=True)
class Processes:
    """The number of this process and the count of all, and the same among those of its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """True for the process that writes files, keeps the ledger and prints."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """Return the slice of a global batch's samples that are this process's."""
        return slice(None) if self.count == 1 else slice(self.rank, size, self.count)

    def pieces(self, size: int, parts: int) -> Iterator[Piece]:
        """Yield a batch in `parts` pieces (cut like torch.chunk), each shared by all processes.

        Raises UserError in all of them if a piece has fewer images than there are processes.
        """
        length, done = -(-size // parts), 0
        for first in range(0, size, length):
            last = min(first + length, size)
            if last - first < self.count:
                raise UserError(
                    f"a batch of {size} images in {parts} parts is too small for {self.count} processes: one part has "
                    f"{last - first}. Change train.batch_size or train.accumulate, or use fewer --procs"
                )
            offset = (self.rank - first) % self.count
            mine = len(range(offset, last - first, self.count))
            yield Piece(slice(done, done + mine), last - first, slice(offset, last - first, self.count))
            done += mine

    def whole_batch(self, piece: Piece) -> AbstractContextManager[object]:
        """Context in which a model in training treats this process's part of `piece` as a part of the whole."""
        if self.count == 1:
            return nullcontext()
        return WholeBatch(piece.rows.stop - piece.rows.start, piece.size, piece.part, self.add_up, self.stack)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their sums over all processes, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _together():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def stack(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, of one shape, as [processes, *shape]."""
        tensors = [torch.empty_like(tensor) for _ in range(self.count)]
        with _together():
            dist.all_gather(tensors, tensor)
        return torch.stack(tensors)

    def whole(self, mine: Tensor, size: int) -> Tensor:
        """Return the samples of the global batch, float32 [size, ...], from each process's own."""
        if self.count == 1:
            return mine
        everything = mine.new_zeros((size, *mine.shape[1:]))
        everything[self.part(size)] = mine
        self.add_up([everything])  # each value is zero in all processes but one
        return everything

    def own(self, everything: Tensor) -> Tensor:
        """Return this process's samples of a global batch."""
        if self.count == 1:
            return everything
        mine = everything[self.part(len(everything))]
        return mine.contiguous(memory_format=torch.channels_last if mine.ndim == 4 else torch.contiguous_format)

    def any(self, *flags: bool) -> list[bool]:
        """Return for each of several flags whether it is set in any process."""
        if self.count == 1:
            return list(flags)
        counts = torch.tensor(flags, dtype=torch.float32)
        self.add_up([counts])
        return [bool(flag) for flag in counts]

    def gather(self, thing: T) -> list[T]:
        """Return the objects that the processes pass, in every process."""
        if self.count == 1:
            return [thing]
        things: list[T] = [thing] * self.count
        with _together():
            dist.all_gather_object(things, thing)
        return things

    def once(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process only, and return its result, or raise its exception, in all of them."""
        if self.count == 1:
            return work()
        return self._shared(work if self.first else None)[0]  # type: ignore[return-value]

    def each(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process, then in the others; an exception in any is raised in all."""
        if self.count == 1:
            return work()
        mine: list[T] = []
        for turn in (self.first, not self.first):
            self._shared((lambda: mine.append(work())) if turn else None)
        return mine[0]

    def _shared(self, work: Callable[[], T] | None) -> list[T | None]:
        """Return each process's result of `work` (None without work); an exception in any is raised in all."""
        result, error = None, None
        if work is not None:
            try:
                result = work()
            except Exception as mistake:  # raised below, and in every other process
                error = mistake
        reports = self.gather((result, error))
        for raised in (error, *(theirs for _, theirs in reports)):
            if raised is not None:
                raise raised
        return [theirs for theirs, _ in reports]


ALONE = Processes()
MAX_PROCESSES = 256  # of one machine


def planned(count: int) -> Processes:
    """Return the processes that `count` on this machine will be. Raises UserError for fewer than 1 or too many."""
    if count < 1:
        raise UserError(f"--procs {count}: expected 1 or more")
    if count > MAX_PROCESSES:
        raise UserError(f"--procs {count}: expected {MAX_PROCESSES} at the most")
    return Processes(count=count, local_count=count)


def join() -> Processes:
    """Join the other processes that torchrun has started, and return their description; without torchrun, `ALONE`."""
    if launcher.count() == 1:
        return ALONE
    if not dist.is_initialized():
        launcher.end_with_parent()
        with _together():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    local = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return Processes(launcher.rank(), launcher.count(), *local)


def leave() -> None:
    """Leave the group of processes, at the end."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Context that raises ProcessLostError for the RuntimeError with which a backend reports that a process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise ProcessLostError(
            f"another process of the run has ended, or cannot be reached ({reason[0][:200]})"
        ) from error
