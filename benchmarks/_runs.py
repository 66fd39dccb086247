"""Runs that benchmarks train with commands of ours, each in its own process."""

from __future__ import annotations

import subprocess
import sys

from featherweight.runs.run import Run


def trained(name: str, *words: str) -> Run:
    """Return the finished run of that name: the command `words` trains it if it is missing, and it is continued if it
    was interrupted.
    """
    if not Run.exists(name):
        _command(*words, "--name", name, "--no-report")
    elif not Run.find(name).is_finished:
        _command("resume", name, "--no-report")
    return Run.find(name)


def _command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "featherweight", *words], check=True, stdout=subprocess.DEVNULL)
