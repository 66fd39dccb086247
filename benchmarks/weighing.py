"""Measure how long `weigh` takes for forty checkpoints, from the command line, including the start of Python.

    ./run.sh bench weighing

Forty weights files with Adam's state and an EMA copy are written to a temporary folder (ten timm networks with 1 to 6
million parameters, four seeds each, in turn as .pth, .ckpt, .safetensors and .pt). One call of `./run.sh weigh FOLDER
--csv` weighs them; this is done three times. If other programs run on the machine, compare the processor time. Writes a
dated JSON to reports/bench/.
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

import _record

NETS = (
    "mobilenetv3_small_100", "mobilenetv3_large_100", "efficientnet_lite0", "mobilevit_xs", "edgenext_x_small",
    "tiny_vit_5m_224", "repvit_m0_9", "ghostnet_100", "mnasnet_100", "convnext_atto",
)  # fmt: skip


def store(net: nn.Module, path: Path) -> None:
    """Save the network as a checkpoint in the format of the file's extension."""
    if path.suffix == ".safetensors":
        save_file(net.state_dict(), path)
        return
    state = net.state_dict()
    moments = {"state": {n: {"exp_avg": torch.rand_like(p), "exp_avg_sq": torch.rand_like(p)}
                         for n, p in enumerate(net.parameters())}}  # fmt: skip
    copy = {f"module.{name}": tensor.clone() for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": copy, "optimizer": moments, "epoch": 9}, path)


def main() -> None:
    """Write the files, weigh them three times, write the record."""
    with tempfile.TemporaryDirectory() as folder:
        true: dict[str, int] = {}
        for place in range(40):
            torch.manual_seed(place)
            net = timm.create_model(NETS[place % 10], num_classes=10)
            path = Path(folder) / f"{place:02d}{('.pth', '.ckpt', '.safetensors', '.pt')[place % 4]}"
            store(net, path)
            true[str(path)] = sum(one.numel() for one in net.parameters())
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        seconds, processor = [], []
        for _ in range(3):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            words = [sys.executable, "-m", "featherweight", "weigh", folder, "--csv", f"{folder}/table.csv"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            assert done.returncode == 0, done.stderr
        with (Path(folder) / "table.csv").open() as stream:
            wrong = [row["model"] for row in csv.DictReader(stream) if int(row["parameters"]) != true[row["model"]]]
    clock, used = (", ".join(f"{one:.1f}" for one in each) for each in (seconds, processor))
    print(f"40 checkpoints, {size / 1e6:,.0f} MB: {clock} s, {used} s of processor time; {len(wrong)} miscounted")
    record = {"checkpoints": 40, "megabytes": size / 1e6, "seconds": seconds, "processor_seconds": processor}
    record |= {"miscounted": len(wrong)}
    print(
        f"wrote {_record.write('weighing', 'seconds to weigh forty checkpoints, the start of Python included', record)}"
    )


if __name__ == "__main__":
    main()
