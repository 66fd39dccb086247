"""Count the parameters of any model: files (.pth .pt .bin .ckpt .pth.tar .safetensors .pt2 .onnx, also TorchScript),
folders of files, runs, timm/NAME, torchvision/NAME, FILE.py:NAME.

No code in a file is executed, except FILE.py itself. In a checkpoint, an EMA copy and the optimizer's state are counted
separately.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_competition, add_max_macs, count, number, output_file
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.budget import ModelSize
    from featherweight.models.shape import Shape

MANY, MOST = 16, 8  # files for which processes are started, and of these at most
ROOM = 2**30  # bytes of memory for a process, beside the file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `weigh`."""
    parser.add_argument("what", metavar="WHAT", nargs="+", help="a file, a folder, a run, or a name, as above")
    text = "build timm/NAME, FILE.py:NAME, ... for its classes and images (default: 1,000 classes, RGB, 224 px)"
    add_competition(parser, None, text)
    parser.add_argument("--limit", type=count, help="maximum number of parameters")
    parser.add_argument("--max-bytes", type=count, help="maximum size of the file in bytes")
    add_max_macs(parser)
    parser.add_argument(
        "--max-score", type=number, help="maximum MicroNet score: the size in 32-bit parameters, not an accuracy"
    )
    parser.add_argument(
        "--max-folded", type=count, help="maximum number after folding batch norms and merging branches"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="also write the table as CSV")
    parser.add_argument(
        "--html", type=output_file, metavar="FILE", help="also write it as one HTML page that needs no network"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    import dataclasses
    import json
    import sys

    from featherweight.budget import ModelSize
    from featherweight.report import weigh_table

    names = list(_named(arguments.what))
    for path in (arguments.csv, arguments.html):
        paths.refuse_overwriting(path, names)
    if arguments.csv and arguments.html and arguments.csv.absolute() == arguments.html.absolute():
        raise UserError(f"--csv and --html are both {arguments.csv}: name two files")
    limits_asked = {"parameters": arguments.limit} | {
        key: getattr(arguments, f"max_{key}") for key in weigh_table.LIMITED[1:]
    }
    limits = {key: most for key, most in limits_asked.items() if most is not None}
    weights, faults = _weighed(names, arguments.competition)
    within = [one for one in weights if not weigh_table.over(one, limits)]
    aside = _states_of_training(weights, within, faults, {name for name in names if name not in arguments.what})
    weights = [one for one in weights if one.name not in aside]
    faults = {name: fault for name, fault in faults.items() if name not in aside}
    if arguments.csv:
        weigh_table.write_csv(arguments.csv, weights, faults, limits)
    if arguments.html:
        weigh_table.write_html(arguments.html, weights, list(faults.values()), limits)
    if arguments.json:
        weighed = [{**dataclasses.asdict(one), "verdict": weigh_table.verdict(one, limits)} for one in weights]
        nothing = {field.name: None for field in dataclasses.fields(ModelSize)}
        others = [{**nothing, "name": name, "verdict": f"not weighed: {fault}"} for name, fault in faults.items()]
        print(json.dumps([*weighed, *others], indent=2))
    elif weights:
        weigh_table.show(weights, limits)
        if not (faults or limits) or arguments.html or arguments.csv:
            output = arguments.html or arguments.csv
            print(f"next: see {output}" if output else "next: with a limit, ./run.sh weigh WHAT --limit N")
    if aside:
        print(f"left out, for they continue a training: {', '.join(sorted(aside))}", file=sys.stderr)
    for fault in faults.values():
        print(f"error: {fault}", file=sys.stderr)
    return 3 if any(weigh_table.over(weight, limits) for weight in weights) else 2 if faults else 0


def _named(whats: Sequence[str]) -> Iterator[str]:
    """Yield everything to count: of a folder that is not a run, its model files."""
    from featherweight.budget import files_in
    from featherweight.runs.weigh_run import is_run

    for what in whats:
        if Path(what).is_dir() and not is_run(what):
            yield from map(str, files_in(Path(what)) or [Path(what)])
        else:
            yield what


def _weighed(names: Sequence[str], competition: str | None) -> tuple[list[ModelSize], dict[str, str]]:
    """Return the counts, and by name the errors of models that cannot be counted, which do not affect the others."""
    import functools

    from rich.progress import track

    from featherweight import config
    from featherweight.budget import ModelSize
    from featherweight.budget.any_model import IMAGENET
    from featherweight.console import is_live
    from featherweight.runs.weigh_run import weigh_anything

    shape = IMAGENET if competition is None else config.load_competition(competition).shape
    weights: list[ModelSize] = []
    faults: dict[str, str] = {}
    with _mapped(names) as mapped:
        found = mapped(functools.partial(_weighed_one, weigh_anything, shape, competition is None), names)
        shown = track(found, "weighing", len(names), transient=True, disable=not is_live() or len(names) < 2)
        for name, one in zip(names, shown, strict=True):
            if isinstance(one, ModelSize):
                weights.append(one)
            else:
                faults[name] = one
    return weights, faults


def _states_of_training(
    weights: Sequence[ModelSize], within: Sequence[ModelSize], faults: Mapping[str, str], found: Collection[str]
) -> Collection[str]:
    """Return those of the files found in folders that, beside a model, hold the state of a training, by their names:
    they are no model, or one that is too small to be worth hiding, and `within` all limits.
    """
    from featherweight.budget.folders import STATES
    from featherweight.budget.roles import LEAST

    small = {one.name for one in within if one.parameters <= LEAST}
    states = {name for name in found if STATES.fullmatch(Path(name).name) and (name in faults or name in small)}
    with_model = {Path(one.name).parent for one in weights if one.name not in states}
    return {name for name in states if Path(name).parent in with_model}


@contextlib.contextmanager
def _mapped(names: Sequence[str]) -> Iterator[Callable[..., Iterable[ModelSize | str]]]:
    """Yield a `map` that uses several cores for many files, where processes can be forked safely (Linux), if each has
    memory for several times the largest file. Sizes of models in several files are not known beforehand.
    """
    import multiprocessing
    import sys
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from featherweight.budget.folders import INDEX, shard
    from featherweight.runtime.cores import cores
    from featherweight.untrusted_files import free_memory

    files = [path for name in names if (path := Path(name)).is_file() and not name.endswith((INDEX, ".onnx"))]
    whole = [path for path in files if not shard(path.name)]
    parts = 1
    if MANY <= len(names) == len(whole) and sys.platform.startswith("linux"):
        largest = max(path.stat().st_size for path in whole)
        parts = min(cores(), MOST, (free_memory() or 0) // (4 * largest + ROOM))
    if parts < 2:
        yield map
        return
    pool = ProcessPoolExecutor(parts, multiprocessing.get_context("fork"), _begin, (parts,))
    try:
        yield pool.map
    except BrokenProcessPool:
        raise UserError(
            f"a process that read the files ended, perhaps for lack of memory: weigh fewer than {MANY} files at once"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parts: int) -> None:
    """Begin a process, one of so many: Ctrl-C is left to the first."""
    import signal

    from featherweight.untrusted_files import take_part_of_memory

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take_part_of_memory(parts)


def _weighed_one(weigh: Callable[..., ModelSize], shape: Shape, is_default: bool, name: str) -> ModelSize | str:
    """Return the count of a model, or why it cannot be counted."""
    import sys

    from featherweight.untrusted_files import reason

    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a network prints does not belong to the table
            return weigh(name, shape=shape)
    except UserError as error:
        other = ".py:" in name and is_default and "224" in str(error)
        hint = " (--competition NAME builds it for other classes and images)" if other else ""
        return f"{error}{hint}"
    except Exception as error:  # any error in the code of a network or reader
        return f"{name}: cannot be weighed ({type(error).__name__}: {reason(error)})"
