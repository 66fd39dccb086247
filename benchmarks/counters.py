"""Compare parameter counters on the corpus of known miscounts (tests/miscounts).

    ./run.sh bench counters                 half a minute; counters that are not installed are listed as absent
    ./run.sh install torchinfo torchsummary ultralytics-thop ptflops calflops fvcore lightning

Each counter gets a new copy of every network, with the input of the case, and is called as its own page shows. Files of
packed weights are counted by ours and by summing the sizes of all their tensors, as libraries for large models did. If
a counter raises an error, that is listed as "no count". Prints the table and writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import _record
from featherweight.budget import weigh_anything

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from miscounts.cases import CASES, shown
from miscounts.files import FILES

Count = Callable[[nn.Module, Tensor], int]


def ours(net: nn.Module, example: Tensor) -> int:
    """Count with our `weigh`."""
    return weigh_anything(net, example).parameters


def torchinfo(net: nn.Module, example: Tensor) -> int:
    """Count with torchinfo's `summary`."""
    from torchinfo import summary

    return int(summary(net, input_data=example, verbose=0).total_params)


def torchsummary(net: nn.Module, example: Tensor) -> int:
    """Count with pytorch-summary, which prints the count and does not return it."""
    from torchsummary import summary

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        summary(net, tuple(example.shape[1:]), device="cpu")
    total = re.search(r"Total params: ([\d,]+)", printed.getvalue())
    assert total is not None, "it prints no count"
    return int(total[1].replace(",", ""))


def thop(net: nn.Module, example: Tensor) -> int:
    """Count with `profile` of Ultralytics' THOP package."""
    from thop import profile

    return int(profile(net, inputs=(example,), verbose=False)[1])


def ptflops(net: nn.Module, example: Tensor) -> int:
    """Count with ptflops' backend for modules."""
    from ptflops import get_model_complexity_info

    _, params = get_model_complexity_info(
        net,
        tuple(example.shape[1:]),
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
        verbose=False,
        input_constructor=lambda _: example,
    )
    assert params is not None, "it gives none"
    return int(params)


def calflops(net: nn.Module, example: Tensor) -> int:
    """Count with `calculate_flops`."""
    from calflops import calculate_flops

    arguments = {"args": [example], "print_results": False, "output_as_string": False}
    return int(calculate_flops(net, **arguments)[2])


def fvcore(net: nn.Module, example: Tensor) -> int:
    """Count with `parameter_count`."""
    from fvcore.nn import parameter_count

    return int(parameter_count(net)[""])


def lightning(net: nn.Module, example: Tensor) -> int:
    """Count with the model summary that Lightning's Trainer prints."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.model_summary import ModelSummary

    class Wrapped(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

    return int(ModelSummary(Wrapped()).total_parameters)


COUNTERS: dict[str, Count] = {
    count.__name__: count for count in (ours, torchinfo, torchsummary, thop, ptflops, calflops, fvcore, lightning)
}


def counted(count: Count, net: nn.Module, example: Tensor) -> int | str:
    """Return a counter's number, or the error that it raised."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return count(net, example)
    except Exception as error:  # any error means that there is no count
        return type(error).__name__


def of_file(state: dict[str, Tensor]) -> dict[str, int]:
    """Return the counts of a weights file: ours, and the sum of all tensor sizes."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "a.pth")
        parameters = weigh_anything(Path(folder) / "a.pth").parameters
    return {"ours": parameters, "sum of numbers": sum(tensor.numel() for tensor in state.values())}


def main() -> None:
    """Count, print the table, write the record."""
    warnings.filterwarnings("ignore")
    absent = {name: why for name in COUNTERS if (why := missing(name))}
    there = [name for name in COUNTERS if name not in absent]
    rows: list[dict[str, Any]] = []
    for case in CASES:
        torch.manual_seed(0)
        counts = {name: counted(COUNTERS[name], case.make().eval(), shown(case)) for name in there}
        rows.append({"issue": case.issue, "what": case.what, "true": case.true, "counts": counts})
    for file in FILES:
        rows.append({"issue": file.issue, "what": file.what, "true": file.true, "counts": of_file(file.state())})
    table: dict[str, dict[str, int]] = {}
    for name in (*there, "sum of numbers"):
        mine = [(row["counts"][name], row["true"]) for row in rows if name in row["counts"]]
        raised = sum(isinstance(count, str) for count, _ in mine)
        wrong = sum(not isinstance(count, str) and count != true for count, true in mine)
        table[name] = {"cases": len(mine), "right": len(mine) - wrong - raised, "wrong": wrong, "no count": raised}
    print("| counter | cases | right | wrong | no count |\n|---|---:|---:|---:|---:|")
    for name, row in sorted(table.items(), key=lambda item: item[1]["right"] - item[1]["cases"], reverse=True):
        print(f"| {name} | {' | '.join(map(str, row.values()))} |")
    if absent:
        print(f"absent: {', '.join(f'{name} ({why})' for name, why in absent.items())}")
    record = {"table": table, "absent": absent, "packages": packages(there), "cases": rows}
    print(f"wrote {_record.write('counters', 'counts of parameters over the corpus of known miscounts', record)}")


def missing(name: str) -> str:
    """Return the reason why a counter cannot run here, or an empty string."""
    try:
        if name != "ours":
            importlib.import_module(name)
    except ImportError as error:
        return str(error)
    return ""


def packages(there: list[str]) -> dict[str, str]:
    """Return the installed version of each counter."""
    from importlib.metadata import version

    known = {"thop": "ultralytics-thop"}
    return {name: version(known.get(name, name)) for name in there if name != "ours"}


if __name__ == "__main__":
    main()
