"""Check the environment: what is installed, missing or wrong. Exit code 2 if something is wrong."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

from featherweight import __version__, paths
from featherweight.errors import count_of
from featherweight.kaggle import credentials as kaggle_credentials

ROOM = 2e9  # bytes; with less free space, image caches and checkpoints may fail
EXTRAS = {"tensorboard": "report --tensorboard"}


@dataclass(frozen=True)
class Check:
    """One line: what was checked, what was found and, if something is wrong, what to do."""

    what: str
    found: str
    wrong: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`doctor` has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the checks."""
    from featherweight.report import tables

    wrong = tables.findings(examine())
    if wrong:
        print(f"{wrong} to fix\nnext: fix it, then run ./run.sh doctor again")
        return 2
    print("nothing is wrong\nnext: ./run.sh wrn16_4")
    return 0


def examine() -> Iterator[Check]:
    """Yield all checks, the fast ones first. No secrets are printed."""
    yield Check("featherweight", f"{__version__} in {paths.SHIPPED.parent}")
    yield Check("python", f"{platform.python_version()} ({sys.executable})")
    yield Check("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_memory()}")
    yield from _packages()
    yield from _device()
    yield from _places()
    yield from _kaggle()


def _packages() -> Iterator[Check]:
    """Compare each required package with its range in pyproject.toml."""
    declared = paths.CHECKOUT / "pyproject.toml"
    if not declared.is_file():  # installed as a package: pip has checked it
        return
    versions: list[str] = []
    for text in tomllib.loads(declared.read_text())["project"]["dependencies"]:
        wanted = Requirement(text)
        try:
            have = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Check(wanted.name, "missing", "delete .venv/requirements.sum and run ./run.sh again")
            continue
        versions.append(f"{wanted.name} {have}")
        if not wanted.specifier.contains(have, prereleases=True):
            yield Check(wanted.name, have, f"{wanted.specifier} is needed: ./run.sh install '{text}'")
    yield Check("packages", ", ".join(versions))
    for name, use in EXTRAS.items():
        try:
            yield Check(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, f"not installed, so no {use}")


def _device() -> Iterator[Check]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError) as error:
        remedy = "torch and torchvision do not match: install the versions in requirements.txt"
        yield Check("torch", str(error).splitlines()[0], remedy)
        return
    assert torchvision.__version__
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 1e9
            yield Check(f"cuda:{number}", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GB")
    elif torch.backends.mps.is_available():
        yield Check("mps", "Apple's GPU, used only with --device mps; not tested")
    else:
        from featherweight.runtime.device import LEAST_GAIN, bf16_gain

        able = torch.backends.cpu.get_cpu_capability()
        if gain := bf16_gain():
            used = "so the fast nets and wrn16_4 use it" if gain > LEAST_GAIN else "so it is used only where asked for"
            able += f"; bf16 is {gain:.1f} times as fast as float32, {used}"
        yield Check("device", f"no GPU; {count_of(torch.get_num_threads(), 'thread')}, {able}")


def _places() -> Iterator[Check]:
    """Check that the output folders can be written to and have enough free space."""
    for name, folder in (
        ("runs", paths.runs()),
        ("submissions", paths.submissions()),
        ("image cache", paths.packs()),
    ):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        wrong = (
            "" if free > ROOM else "free some space, or set FEATHERWEIGHT_HOME or FEATHERWEIGHT_CACHE to another disk"
        )
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            wrong = f"not writable ({error.strerror}): set FEATHERWEIGHT_HOME or FEATHERWEIGHT_CACHE to another folder"
        yield Check(name, f"{folder}, {free / 1e9:,.1f} GB free", wrong)
    data = paths.data()
    sets = [path.name for path in data.glob("[!.]*") if path.is_dir()]
    yield Check("data", f"{data}: {', '.join(sorted(sets)) or 'nothing yet'}")


def _kaggle() -> Iterator[Check]:
    credentials = kaggle_credentials.find()
    if credentials is None:
        yield Check("kaggle", f"no credentials; to submit, {kaggle_credentials.HOW_TO}")
    else:
        yield Check("kaggle", f"credentials from {credentials.source}", credentials.warning)


def _memory() -> str:
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not available on every system
        return "memory unknown"
    return f"{os.sysconf('SC_PAGE_SIZE') * pages / 1e9:.1f} GB of memory"
