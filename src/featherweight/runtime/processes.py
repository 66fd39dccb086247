"""Several processes as one: each holds a part of every batch, and together they take the steps that one would.

A recipe's batch is the global one. Process r of n has samples r, r + n, ... of it, with the random numbers that one
process would draw for them; gradients are summed after the backward pass, so all that follows a gradient (clipping, the
scaler, SAM, the optimizer, averages) happens in every process alike, and weights are equal everywhere without being
sent. An explicit sum rather than DistributedDataParallel: networks within a parameter limit have some 20 MB of
gradients, of which sending little can be hidden behind the backward pass, and SAM's two passes, accumulation and the
scaler need no exceptions. What needs the whole batch inside the model is in `runtime.sync`.

The learning curve is that of one process, but for the order in which floats are added; the bytes are the same for the
same number of processes. `ALONE` is one process: everything here then does nothing.
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
PATIENCE = timedelta(days=1)  # the others wait while the first one packs; one that dies is noticed at once


@dataclass(frozen=True)
class Piece:
    """A part of a global batch that goes through the model at once, as one process sees it."""

    rows: slice  # among the process's own samples
    size: int  # images of the piece in all processes
    part: slice  # which of those are this process's


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; on several machines also which of how many of its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """The one that writes files, keeps the ledger and speaks."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """Which samples of a global batch are this process's."""
        return slice(None) if self.count == 1 else slice(self.rank, size, self.count)

    def pieces(self, size: int, parts: int) -> Iterator[Piece]:
        """A batch in `parts` pieces (as torch.chunk cuts it), each shared by all processes.

        Raises UserError in all of them when there are not enough images for each to have one.
        """
        length, done = -(-size // parts), 0
        for first in range(0, size, length):
            last = min(first + length, size)
            if last - first < self.count:
                raise UserError(
                    f"a batch of {size} images in {parts} parts is too small for {self.count} processes: one part has "
                    f"{last - first}. Set train.batch_size or train.accumulate, or take fewer --procs"
                )
            offset = (self.rank - first) % self.count
            mine = len(range(offset, last - first, self.count))
            yield Piece(slice(done, done + mine), last - first, slice(offset, last - first, self.count))
            done += mine

    def whole_batch(self, piece: Piece) -> AbstractContextManager[object]:
        """Within it a model in training sees this process's part of `piece` as part of the whole."""
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
        """The tensors of all processes, of one shape, as [processes, *shape]."""
        tensors = [torch.empty_like(tensor) for _ in range(self.count)]
        with _together():
            dist.all_gather(tensors, tensor)
        return torch.stack(tensors)

    def whole(self, mine: Tensor, size: int) -> Tensor:
        """The samples of the global batch, float32 [size, ...], from each process's own."""
        if self.count == 1:
            return mine
        everything = mine.new_zeros((size, *mine.shape[1:]))
        everything[self.part(size)] = mine
        self.add_up([everything])  # of every number all but one are zeros
        return everything

    def own(self, everything: Tensor) -> Tensor:
        """This process's samples of a global batch."""
        if self.count == 1:
            return everything
        mine = everything[self.part(len(everything))]
        return mine.contiguous(memory_format=torch.channels_last if mine.ndim == 4 else torch.contiguous_format)

    def any(self, *flags: bool) -> list[bool]:
        """Which of several flags are set in any process."""
        if self.count == 1:
            return list(flags)
        counts = torch.tensor(flags, dtype=torch.float32)
        self.add_up([counts])
        return [bool(flag) for flag in counts]

    def gather(self, thing: T) -> list[T]:
        """The thing that each process has, in every process."""
        if self.count == 1:
            return [thing]
        things: list[T] = [thing] * self.count
        with _together():
            dist.all_gather_object(things, thing)
        return things

    def once(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process alone; what it returns or raises, it does in all, once it is done."""
        if self.count == 1:
            return work()
        return self._shared(work if self.first else None)[0]  # type: ignore[return-value]

    def each(self, work: Callable[[], T]) -> T:
        """Call `work` in the first process, then in the others, and raise everywhere what it raises in any."""
        if self.count == 1:
            return work()
        mine: list[T] = []
        for turn in (self.first, not self.first):
            self._shared((lambda: mine.append(work())) if turn else None)
        return mine[0]

    def _shared(self, work: Callable[[], T] | None) -> list[T | None]:
        """What `work` returns in each process (None in one that has none); what it raises in any is raised in all."""
        result, error = None, None
        if work is not None:
            try:
                result = work()
            except Exception as mistake:  # not swallowed: raised below, and in every other process
                error = mistake
        reports = self.gather((result, error))
        for raised in (error, *(theirs for _, theirs in reports)):
            if raised is not None:
                raise raised
        return [theirs for theirs, _ in reports]


ALONE = Processes()
MOST = 256  # processes of one machine


def planned(count: int) -> Processes:
    """What `count` processes of this machine will be, before they are started. Raises UserError for fewer than one."""
    if count < 1:
        raise UserError(f"--procs {count}: expected 1 or more")
    if count > MOST:
        raise UserError(f"--procs {count}: expected {MOST} at the most")
    return Processes(count=count, local_count=count)


def join() -> Processes:
    """Meet the other processes that torchrun has started; where it has not, there is one."""
    if launcher.count() == 1:
        return ALONE
    if not dist.is_initialized():
        launcher.end_with_parent()
        with _together():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    local = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return Processes(launcher.rank(), launcher.count(), *local)


def leave() -> None:
    """Leave the others, when all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Say in our words that another process is gone, which each backend says in its own, as a RuntimeError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise ProcessLostError(
            f"another process of the run has ended, or cannot be reached ({reason[0][:200]})"
        ) from error
