"""What a run runs on: the device, the precision, the threads, the processes. One path for all of them."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.runtime import launcher
from featherweight.runtime.processes import ALONE, Processes
from featherweight.untrusted_files import free_memory

M = TypeVar("M", bound=nn.Module)
MOST_THREADS = 1024  # more than any machine has cores; a run may be continued on a smaller one
USABLE = ("cpu", "cuda", "mps", "xpu")  # kinds of devices that hold numbers; torch names others that hold shapes alone
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Runtime:
    """The device, the dtype of autocast (None: no autocast, everything in float32), and who shares the work."""

    device: torch.device
    dtype: torch.dtype | None = None
    processes: Processes = ALONE

    def autocast(self) -> AbstractContextManager[object]:
        """Run matrix products in `dtype`; with no dtype it changes nothing."""
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps float16 gradients from vanishing; with any other dtype it passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def place(self, model: M) -> M:
        """The model on the device, its convolutions in channels_last: 1.7 times the default layout's rate on a CPU."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, C] as float32 [B, C, H, W] in [0, 1] on the device, in channels_last as they stand."""
        return send(pixels, self.device).permute(0, 3, 1, 2).float().div_(255)

    def free_memory(self) -> int | None:
        """Bytes that the device can still give, as far as it says."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return free_memory() if self.device.type == "cpu" else None

    def release_memory(self) -> None:
        """Return the memory that is free to the system, which a CPU run otherwise keeps: see `_keep_freed_memory`.

        Blocks of other sizes leave gaps; between phases of a run, whose sizes differ, these would add up.
        """
        if self.device.type == "cpu" and platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)

    def has_room(self, size: int) -> bool:
        """May this many bytes of images stay on the device? A GPU gives a quarter of what is free."""
        return self.device.type == "cuda" and size <= torch.cuda.mem_get_info(self.device)[0] // 4


@contextmanager
def explaining_nondeterminism() -> Iterator[None]:
    """Say in our words that a network has an operation that this device cannot repeat to the bit."""
    try:
        yield
    except RuntimeError as error:
        operation = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if operation is None:
            raise
        raise UserError(
            f"model: its operation {operation[1]} has no repeatable form on this device, and a run must repeat to the "
            "bit: put another layer in its place (AvgPool2d for AdaptiveAvgPool2d, say), or train with --device cpu"
        ) from None


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device. A GPU fetches one of the host from pinned memory, for which the host need not wait.

    Apple's has to be waited for: it may still read what the host has given to others (pytorch issue 139550).
    """
    fetched = device.type == "cuda" and tensor.is_cpu
    return (tensor.pin_memory() if fetched else tensor).to(device, non_blocking=device.type != "mps")


def refuse_threads(threads: int | None) -> None:
    """Raise UserError for a number of threads that no machine can serve, before anything is measured or read."""
    if threads is None:
        return
    if threads < 1:
        raise UserError(f"--threads {threads}: expected 1 or more")
    if threads > MOST_THREADS:
        raise UserError(
            f"--threads {threads}: expected {MOST_THREADS:,} at the most; this machine has {os.cpu_count()} cores"
        )


def make_runtime(
    device: str = "auto", precision: str = "auto", threads: int | None = None, processes: Processes = ALONE
) -> Runtime:
    """Choose the device and make arithmetic repeatable: the same seed gives the same bytes on the same machine.

    `threads` are those of all processes together; on CUDA each process has a GPU of its own.

    Raises UserError for a device or a precision that this machine does not have.
    """
    # cuBLAS reads this when it starts; without it, deterministic matrix products are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # train.compile: kernels are not chosen by timing them
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports the compiler, 1.5 s
    # Else every result is filled with NaN before it is computed, up to a tenth of a step's time: that shows who reads
    # what nobody wrote, and repeats nothing better.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if threads is not None:
        refuse_threads(threads)
        torch.set_num_threads(max(1, threads // processes.count))
    chosen = _device(device, processes)
    if chosen.type == "cpu":
        _keep_freed_memory()
    if precision in ("auto", "native"):
        native = (precision == "native" or chosen.type == "cuda") and has_native_bf16(chosen)
        precision = "bf16" if native else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise UserError("train.precision: fp16 needs a GPU; on the CPU there are fp32 and bf16")
    return Runtime(chosen, DTYPES[precision], processes)


def has_native_bf16(device: torch.device) -> bool:
    """Has the device instructions for it? Where they are missing, bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", dict)  # younger than the oldest torch that this runs on
    able: dict[str, bool] = ask() if device.type == "cpu" else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is wanted next.

    By default it hands every block of 32 MB and more, and the free end of its heap, back to the system, which gives the
    next one page by page, each filled with zeros first: 161,000 page faults, and a quarter of the time, in a training
    step of EfficientNet-B0 (batch 128, 64 px). The peak of the memory stays what it was.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


def is_available(name: str) -> bool:
    """Has this machine a device of that name? A name that no machine has is for `make_runtime` to refuse."""
    kind, _, number = name.partition(":")
    if kind == "cuda":
        return torch.cuda.is_available() and (not number.isdigit() or int(number) < torch.cuda.device_count())
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind != "xpu" or bool(torch.xpu.is_available())


def automatic() -> torch.device:
    """The device of a run that names none."""
    # Apple's GPU only where it is named: no run of ours has shown what it gets right.
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device(name: str, processes: Processes) -> torch.device:
    if processes.count > 1:
        return _one_of_several(name, processes)
    if name == "auto":
        return automatic()
    try:
        device = torch.device(name)
        if device.type not in USABLE:
            raise UserError(f"--device {name}: expected auto or one of {', '.join(USABLE)}")
        torch.empty(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # else what is pinned for it takes memory of the first GPU as well
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not a device of this machine ({str(error).splitlines()[0]})") from None
    return device


def _one_of_several(name: str, processes: Processes) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise UserError(f"--device {name}: several processes run on cpu, or on cuda with a GPU for each")
    if processes.local_count > torch.cuda.device_count():
        there = f"{processes.local_count} processes want a GPU each, and this machine has {torch.cuda.device_count()}"
        raise UserError(f"{there}; take fewer --procs, or --device cpu")
    device = torch.device("cuda", processes.local_rank)
    if launcher.inside():  # the launcher asks only whether there are enough, and takes no memory of any
        torch.cuda.set_device(device)
    return device
