import ctypes

import pytest
import torch

import forked
from featherweight.runtime.device import make_runtime
from featherweight.runtime.processes import Processes, planned

HEAP = """
import ctypes, sys
import torch
from featherweight.runtime.device import make_runtime

class Heap(ctypes.Structure):  # mallinfo2 of malloc.h
    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]

look = ctypes.CDLL(None).mallinfo2
look.restype = Heap
if sys.argv[1] == "started":
    make_runtime("cpu")
before = look()
block = torch.ones(25_000_000)
held = look()
del block
print(held.hblkhd - before.hblkhd, look().fordblks)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="speaks to glibc 2.33 or newer")
def test_memory_that_was_freed_is_used_again():
    """A hundred megabytes come from the heap and stay in it; without `make_runtime` the system would map them."""

    def mapped_and_free(how: str) -> list[int]:
        return [int(number) for number in forked.python(["-c", HEAP, how]).stdout.split()]

    mapped, _ = mapped_and_free("bare")
    assert mapped >= 100_000_000
    mapped, free = mapped_and_free("started")
    assert mapped == 0
    assert free >= 100_000_000


def test_each_worker_takes_its_own_gpu_and_the_launcher_none(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    make_runtime("auto", "bf16", processes=planned(4))
    assert taken == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    make_runtime("auto", "bf16", processes=Processes(5, 8, 1, 4))
    assert taken == [torch.device("cuda", 1)]


def test_apples_gpu_is_taken_only_where_it_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert make_runtime("auto").device.type == "cpu"
