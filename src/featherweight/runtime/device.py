"""The device, precision, threads and processes of a run. All code is the same for each of them."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import re
import time
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
MOST_THREADS = 1024  # more than this machine's cores, since a run may be continued on a smaller one
USABLE = ("cpu", "cuda", "mps", "xpu")  # types of devices that hold values; torch has others for shapes only
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# What `native` is from the start of a run on, by whether bf16 is faster. The first is not plain bf16, because the run
# may later predict on a processor without instructions for it, where that takes several times as long as fp32.
NATIVE = {True: "bf16_if_supported", False: "fp32"}
LEAST_GAIN = 1.2  # far from what was measured, 0.5 and 1.7
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Runtime:
    """The device, the dtype of autocast (None: no autocast, everything in float32), and the processes of a run."""

    device: torch.device
    dtype: torch.dtype | None = None
    processes: Processes = ALONE

    def autocast(self) -> AbstractContextManager[object]:
        """Context that computes matrix products in `dtype`; without a dtype it has no effect."""
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler for float16; with any other dtype it has no effect."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def place(self, model: M) -> M:
        """Move the model to the device, convolutions in channels_last: 1.7 times the default layout's rate on a CPU."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def images(self, pixels: Tensor) -> Tensor:
        """Return uint8 [B, H, W, C] as float32 [B, C, H, W] in [0, 1] on the device, in channels_last."""
        return send(pixels, self.device).permute(0, 3, 1, 2).float().div_(255)

    def free_memory(self) -> int | None:
        """Return the bytes that are free on the device; None if it does not tell."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return free_memory() if self.device.type == "cpu" else None

    def release_memory(self) -> None:
        """Return free memory to the system, which a CPU run otherwise keeps: see `_keep_freed_memory`.

        Blocks of different sizes leave gaps, which would add up over the phases of a run.
        """
        if self.device.type == "cpu" and platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)

    def has_room(self, size: int) -> bool:
        """True if this many bytes of images may stay on the device: up to a quarter of a GPU's free memory."""
        return self.device.type == "cuda" and size <= torch.cuda.mem_get_info(self.device)[0] // 4


@contextmanager
def explaining_nondeterminism() -> Iterator[None]:
    """Context that raises UserError if the network uses an operation that is not deterministic on this device."""
    try:
        yield
    except RuntimeError as error:
        operation = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if operation is None:
            raise
        raise UserError(
            f"model: the operation {operation[1]} has no deterministic implementation on this device: replace the "
            "layer (for example AdaptiveAvgPool2d by AvgPool2d), or train with --device cpu"
        ) from None


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device. Host tensors go to a GPU from pinned memory, for which the host need not wait.

    On MPS the copy is blocking, since the host buffer may be reused while it is read (pytorch issue 139550).
    """
    fetched = device.type == "cuda" and tensor.is_cpu
    return (tensor.pin_memory() if fetched else tensor).to(device, non_blocking=device.type != "mps")


def refuse_threads(threads: int | None) -> None:
    """Raise UserError for an impossible number of threads, before anything is measured or read."""
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
    """Choose the device and make arithmetic deterministic: the same seed gives the same bytes on the same machine.

    `threads` are those of all processes together; on CUDA each process has its own GPU. Raises UserError for a device
    or a precision that this machine does not have.
    """
    # cuBLAS reads this when it starts; without it, deterministic matrix products are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # train.compile: kernels are not chosen by timing them
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports the compiler, 1.5 s
    # Else every result is filled with NaN before it is computed, which takes up to a tenth of a step's time. This shows
    # reads of uninitialised memory, and does not make anything more deterministic.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if threads is not None:
        refuse_threads(threads)
        torch.set_num_threads(max(1, threads // processes.count))
    chosen = _device(device, processes)
    if chosen.type == "cpu":
        _keep_freed_memory()
    if precision not in DTYPES:
        precision = "bf16" if _takes_bf16(precision, chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise UserError("train.precision: fp16 needs a GPU; on the CPU there are fp32 and bf16")
    return Runtime(chosen, DTYPES[precision], processes)


def _takes_bf16(precision: str, device: torch.device) -> bool:
    """True if a precision that depends on the device is bf16 there. Only `native` on a CPU is a matter of timing."""
    if not _supports_bf16(device):
        return False
    if device.type == "cuda" or precision == NATIVE[True]:
        return True
    return precision == "native" and bf16_gain() > LEAST_GAIN


def _supports_bf16(device: torch.device) -> bool:
    """True if the device has instructions for bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", dict)  # missing in the oldest supported torch
    able: dict[str, bool] = ask()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@functools.cache
def bf16_gain() -> float:
    """Return how many times as fast as in fp32 one thread of the CPU multiplies matrices in bf16, in 0.05 seconds.

    It is 0 without instructions for bf16. Those of AVX-512 are fast on AMD's processors and slow on Intel's, which have
    AMX for it; but virtual machines often lack that.
    """
    if not _supports_bf16(torch.device("cpu")):
        return 0.0
    seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
    matrices = {dtype: torch.ones(256, 256, dtype=dtype) for dtype in seconds}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(20):  # in turn, and the shortest counts, so that other programs do not matter
            for dtype, matrix in matrices.items():
                began = time.perf_counter()
                matrix @ matrix
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for later allocations.

    By default it returns every block of 32 MB and more, and the free end of its heap, to the system, which hands out
    the next one page by page, each filled with zeros first: 161,000 page faults, and a quarter of the time, in a
    training step of EfficientNet-B0 (batch 128, 64 px). The peak of the memory stays the same.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


def is_available(name: str) -> bool:
    """True if the named device is available; unknown names are left for `make_runtime` to refuse."""
    kind, _, number = name.partition(":")
    if kind == "cuda":
        return torch.cuda.is_available() and (not number.isdigit() or int(number) < torch.cuda.device_count())
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind != "xpu" or bool(torch.xpu.is_available())


def automatic() -> torch.device:
    """Return the device of a run that names none."""
    # Apple's GPU only if it is named: it has not been tested.
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
            torch.cuda.set_device(device)  # else pinned memory for it takes memory of the first GPU as well
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not a device of this machine ({str(error).splitlines()[0]})") from None
    return device


def _one_of_several(name: str, processes: Processes) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise UserError(f"--device {name}: several processes run on cpu, or on cuda with a GPU for each")
    if processes.local_count > torch.cuda.device_count():
        there = f"{processes.local_count} processes need a GPU each, and this machine has {torch.cuda.device_count()}"
        raise UserError(f"{there}: use fewer --procs, or --device cpu")
    device = torch.device("cuda", processes.local_rank)
    if launcher.inside():  # the launcher itself only checks whether there are enough, and uses none
        torch.cuda.set_device(device)
    return device
