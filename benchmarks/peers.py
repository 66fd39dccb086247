"""Compare the training speed of whole pipelines, ours and others', on the same files, network and batch, taking turns.

    ./run.sh bench peers                           everything, about 12 minutes on two cores
    ./run.sh bench peers --only wrn16_4            one network, or several
    ./run.sh bench peers --only lite0_128 lite0_224 --data FOLDER     photographs, in train/<class>/*
    ./run.sh bench peers --device cuda --precision bf16

The result is images per second of an epoch over folders of JPEG files (--data, default CIFAR-10 in data/cifar10). Each
pipeline is set up as its users do, in a separate process, and all use the same number of threads:

- ours: our training, from a pack that was decoded before (`./run.sh bench packing` times the decoding)
- ours native: the same with train.precision native: bf16 if the processor is faster in it
- ours compiled: the same with train.compile; only if --peers names it. On a GPU the time to compile is not counted
- bare: forward, backward and step of our network on one batch that is already in memory, in channels_last
- timm: the loop of its training script, rebuilt from its public functions: loader with prefetcher and four workers,
  random resized crop and flip (without the script's colour jitter, which saves it time), label smoothing, SGD, cosine;
  once in the script's default memory layout and once with its option --channels-last
- plain: a PyTorch loop with torchvision's transforms, one image at a time (padded crop, flip), and two workers; once in
  the default memory layout and once in channels_last
- fastai: its Learner with its DataLoaders, padded crop and flip, in its own layout
- efficientnet_pytorch: the plain loop with that package's network
- published: the fast recipe of airbench94, rebuilt (`_airbench94.py`); its images are decoded and on the device before

timm, plain and fastai decode every JPEG in every epoch, as they do unless a user builds a cache. Loader processes are
kept between epochs, except for fastai, which starts new ones; the time until those have ended is not counted. The
EfficientNets have the published strides. Writes a dated JSON to reports/bench/. To install fastai: `./run.sh install
'fastai>=2.8,<3'`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import _record
from _pipelines import PEERS, Bench, Case, Epoch
from featherweight import paths
from featherweight.runtime.device import DTYPES, make_runtime

ASKED = ("ours compiled",)  # available for every network, but only measured if --peers names it
USUAL = ("ours", "ours native", "bare", "timm", "timm channels_last", "plain", "plain channels_last", "fastai")
LIBRARY = ("efficientnet_pytorch", "efficientnet_pytorch channels_last")
SMALL = ("ours", "bare", "timm", "timm channels_last", *LIBRARY, "fastai")
LITE0 = ("model.weights=null", "head={start: random}", "optimizer={name: sgd, lr: 0.05}")
TUNED = ("ours", "bare", "timm", "timm channels_last", "fastai")
B0 = ("model.stem=4", "optimizer={name: sgd, lr: 0.05}")
CASES = {
    "wrn16_4": Case("wrn16_4", (), 32, 128, 8, USUAL),
    "efficientnet_b0_32": Case("efficientnet_b0", B0, 32, 128, 6, SMALL, "efficientnet_b0"),
    "efficientnet_b0_64": Case("efficientnet_b0", B0, 64, 128, 2, SMALL, "efficientnet_b0"),
    "lite0_128": Case("finetune_lite0", LITE0, 128, 32, 4, TUNED, "tf_efficientnet_lite0"),
    "lite0_224": Case("finetune_lite0", LITE0, 224, 32, 2, TUNED, "tf_efficientnet_lite0"),
    "fastnet94": Case("fastnet94", (), 32, 1024, 1, ("ours", "bare", "published")),
}
SMOKE = Case("tiny", (), 32, 16, 2, (*USUAL, *LIBRARY, "published"))


def subset(source: Path, folder: Path, count: int) -> None:
    """Link to `count` training images, equally many per class, and to one image per class as `valid`."""
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    files = [sorted(path.iterdir()) for path in classes]
    mixed = [file for row in itertools.zip_longest(*files) for file in row if file]
    chosen = list(itertools.islice(itertools.cycle(mixed), count))
    for number, file in enumerate(chosen):
        path = folder / "train" / file.parent.name / f"{number:06d}{file.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(file.resolve())
    for group in files:
        path = folder / "valid" / group[-1].parent.name / group[-1].name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(group[-1].resolve())


class Rates(dict[str, list[float]]):
    """Images per second of each pipeline, one number per round."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: [] for name in names})


def measured(bench: Bench, rounds: int, limit: float, only: list[str]) -> tuple[Rates, Rates]:
    """Return each pipeline's images per second of wall time and of processor time, after a warm-up step.

    Except for the first three, no round begins after `limit` seconds. The processor time is that of the training
    process: it varies less if other programs run, and it does not include the peers' loader processes.
    """
    images = len(list((bench.folder / "train").glob("*/*"))) // bench.case.batch * bench.case.batch
    began, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    with contextlib.ExitStack() as open_ones:  # closes the pipes in any case, which ends the processes
        for name in only:
            ours_end, theirs = spawn.Pipe()
            open_ones.enter_context(theirs)
            spawn.Process(target=serve, args=(ours_end, name, bench)).start()
            ours_end.close()
            fault = theirs.recv()
            if fault is None:
                pipes[name] = theirs
            else:
                print(f"  {name} is skipped ({fault})")
        rates, processor = Rates(pipes), Rates(pipes)
        for number in range(rounds):
            if number >= 3 and time.monotonic() - began > limit:
                break
            for name, pipe in pipes.items():
                pipe.send(True)
                seconds, used = pipe.recv()
                rates[name].append(images / seconds)
                processor[name].append(images / used)
            cells = "  ".join(f"{name} {values[-1]:,.1f}" for name, values in rates.items())
            print(f"  round {number + 1}: {cells}", flush=True)
    return rates, processor


def serve(pipe: Connection, name: str, bench: Bench) -> None:
    """Run a pipeline in a separate process, so that no other pipeline's settings reach it: one epoch per request.

    First sends the reason why it cannot run (for example a missing package), or None after a warm-up step.
    """
    torch.set_num_threads(bench.threads)
    if name == "bare":  # with all settings that ours uses for speed, but without deterministic arithmetic
        make_runtime(str(bench.device), bench.recipe.train.precision, bench.threads)
    try:
        epoch = PEERS[name](bench)
        alone(name, bench.device, epoch, 1)
    except Exception as error:  # any error: the other pipelines are still measured
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(None)
    with contextlib.suppress(EOFError):  # the pipe was closed: all rounds are done
        while True:
            pipe.recv()
            pipe.send(alone(name, bench.device, epoch, None))


def alone(name: str, device: torch.device, epoch: Epoch, steps: int | None) -> tuple[float, float]:
    """Run an epoch with the settings that its users have: only ours uses deterministic arithmetic.

    Returns its wall seconds and its processor seconds. If the epoch reports less than the measured wall time, because
    it leaves a part out, the processor seconds are reduced in proportion.
    """
    torch.use_deterministic_algorithms(False)
    cuda = device.type == "cuda"
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = cuda and name.startswith(
        ("timm", "published", "bare", "fastai")
    )
    with contextlib.redirect_stdout(io.StringIO()):  # hides what a pipeline prints
        began, used = time.perf_counter(), time.process_time()
        seconds = epoch(steps)
        return seconds, (time.process_time() - used) * seconds / (time.perf_counter() - began)


SPREAD: dict[str, Callable[[list[float]], float]] = {"": statistics.median, "_low": min, "_high": max}


def summary(rates: Rates, processor: Rates) -> dict[str, dict[str, float]]:
    """Return each pipeline's median and spread, and the speed of ours relative to it, round by round."""
    rows = {}
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(rates.get("ours", values), values, strict=True)]
        native = [a / b for a, b in zip(rates.get("ours native", []), values, strict=False)]
        rows[name] = {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
            **{f"ours_over_it{end}": of(ratios) for end, of in SPREAD.items()},
            **({f"native_over_it{end}": of(native) for end, of in SPREAD.items()} if native else {}),
            "ours_over_it_by_processor_time": statistics.median(
                a / b for a, b in zip(processor.get("ours", processor[name]), processor[name], strict=True)
            ),
        }
    return rows


def table(name: str, rows: dict[str, dict[str, float]]) -> str:
    """Return the Markdown table for the docs."""
    over = [key for key in ("ours_over_it", "native_over_it") if all(key in row for row in rows.values())]
    heads = {"ours_over_it": "ours is, times", "native_over_it": "ours native"}
    columns = [name, "images/s", "lowest to highest", *(heads[key] for key in over), "by processor time"]
    lines = ["| " + " | ".join(columns) + " |"]
    lines += ["|---|" + "---:|" * (3 + len(over))]
    for peer, row in rows.items():
        ratios = [f"{row[key]:.2f} ({row[f'{key}_low']:.2f} to {row[f'{key}_high']:.2f})" for key in over]
        spread = f"{row['low']:,.1f} to {row['high']:,.1f}"
        cells = [*ratios, f"{row['ours_over_it_by_processor_time']:.2f}"] if peer != "ours" else [""] * (1 + len(over))
        lines.append(" | ".join([f"| {peer}", f"{row['median']:,.1f}", spread, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="the networks to measure")
    parser.add_argument(
        "--peers", nargs="+", choices=PEERS, help="the pipelines to measure (default: all but ours compiled)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=170, help="seconds per network, including warm-up")
    parser.add_argument(
        "--steps", type=int, help="steps per epoch (default: a few on the CPU, the whole epoch on a GPU)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=list(DTYPES))
    parser.add_argument("--data", type=Path, help="a folder with train/<class>/* (default: CIFAR-10)")
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder of the JSON")
    parser.add_argument("--smoke", action="store_true", help="every pipeline on a tiny network, to check that all run")
    arguments = parser.parse_args()
    source = (arguments.data or paths.data() / "cifar10") / "train"
    if not source.is_dir():
        parser.error(f"there is no folder {source}; CIFAR-10 comes with ./run.sh wrn16_4 --competition cifar10")
    device = make_runtime(arguments.device, arguments.precision)
    about = "" if arguments.only == list(CASES) else "-" + "+".join(arguments.only)
    about = (
        "-smoke" if arguments.smoke else about + ("" if arguments.precision == "fp32" else f"-{arguments.precision}")
    )
    about += f"-{device.device.type}" if device.device.type != "cpu" else ""
    about += "-compiled" if "ours compiled" in (arguments.peers or ()) else ""
    what = "training rates of whole pipelines, images/s; ours_over_it: the median of the rounds' quotients"
    results: dict[str, Any] = {}
    cases = {"smoke": SMOKE} if arguments.smoke else {name: CASES[name] for name in arguments.only}
    for name, case in cases.items():
        epochs = 3 if device.device.type == "cuda" and not arguments.smoke else 1
        keys = (f"train.batch_size={case.batch}", f"train.precision={arguments.precision}", "train.evaluate_every=100")
        steps = arguments.steps or (50_000 // case.batch if device.device.type == "cuda" else case.steps)
        print(f"{name}: {case.size} px, batches of {case.batch}, {steps} per round", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            subset(source, Path(scratch), steps * case.batch)
            bench = Bench(case, keys, Path(scratch), device, epochs, torch.get_num_threads())
            wanted = [peer for peer in (*case.peers, *ASKED) if peer in (arguments.peers or case.peers)]
            rates, processor = measured(bench, arguments.rounds, arguments.limit, wanted)
        rows = summary(rates, processor)
        settings = {"size": case.size, "batch": case.batch, "steps": steps}
        results[name] = {**settings, "summary": rows, "rates": rates, "by_processor_second": processor}
        print(f"\n{table(name, rows)}\n", flush=True)
        kept = {"precision": arguments.precision, "cases": results}
        path = _record.write(
            f"peers{about}", what, kept, out=arguments.out, device=str(device.device)
        )  # after each network
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
