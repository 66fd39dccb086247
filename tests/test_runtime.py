import os
import platform
import subprocess
import sys

import pytest
import torch

import forked
from featherweight.runtime.device import start
from featherweight.runtime.processes import Processes, planned

PAGES = """
import resource, sys
import torch
from featherweight.runtime.device import start
if sys.argv[1] == "started":
    start("cpu")
torch.ones(26_000_000)  # with room for the alignment of the others
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_memory_that_was_freed_is_used_again():
    """A hundred megabytes, taken and given back, cost pages once, where they cost them every time without `start`."""

    def faults(how: str) -> int:
        words = ["-c", PAGES, how]
        if forked.ABLE:
            process = forked.Forked(words, env={**os.environ}, stdout=subprocess.PIPE, text=True)
        else:
            process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        return int(process.communicate()[0])

    # Where a block comes to lie differs from process to process; some fit badly and are taken from the system, of eight
    # up to five where it is crowded. Without `start` all eight are, to the page.
    bare = faults("bare")
    assert any(faults("started") * 1.5 < bare for _ in range(3))


def test_each_worker_takes_its_own_gpu_and_the_launcher_none(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    start("auto", "bf16", processes=planned(4))
    assert taken == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    start("auto", "bf16", processes=Processes(5, 8, 1, 4))
    assert taken == [torch.device("cuda", 1)]


def test_apples_gpu_is_taken_only_where_it_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert start("auto").device.type == "cpu"
