"""The command line as a process of its own, forked from one that has imported everything.

Importing torch takes two seconds of a core, and the tests start hundreds of processes. A forked one is like any other:
it has its own environment, pipes and session, takes signals, and ends in an exit code. What it cannot show are faults
of `run.sh`, of the imports and of the order of hashes, which is that of its parent: `start(..., fresh=True)` does.
Linux alone lets a process adopt those that its child has started (prctl); elsewhere all processes are fresh ones.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = str(Path(__file__).resolve().parents[1] / "src")
ABLE = sys.platform == "linux"
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
# What commands import when they need it, beside the modules of the package.
IMPORTED = (
    "matplotlib.backends.backend_agg matplotlib.figure optuna pandas scipy.cluster.hierarchy scipy.optimize "
    "scipy.stats sklearn.datasets sklearn.linear_model sklearn.model_selection sklearn.pipeline sklearn.preprocessing"
)


class Forked(subprocess.Popen[str]):
    """`python -m featherweight ARGUMENTS`, with all that Popen can do."""

    def _execute_child(self, *positional: Any) -> None:
        """In place of Popen's own: the process comes from the one that forks, with these pipes."""
        names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
        given = dict(zip(names, positional, strict=True))
        request = {
            "words": given["args"],
            "environment": dict(given["env"]),
            "folder": given["cwd"] or str(Path.cwd()),
            "session": given["start_new_session"],
        }
        streams = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        files = [standard if stream == -1 else stream for standard, stream in enumerate(streams)]
        socket.send_fds(_forker(), [json.dumps(request).encode()], files)
        self.pid = int(_forker().recv(32))
        self._child_created = True
        self._close_pipe_fds(*(given[f"{pipe}{end}"] for pipe, end in PIPE_ENDS))  # type: ignore[attr-defined]


PIPE_ENDS = [("p2c", "read"), ("p2c", "write"), ("c2p", "read"), ("c2p", "write"), ("err", "read"), ("err", "write")]


@functools.cache
def _forker() -> socket.socket:
    """Where to ask for a process; the one that forks is started when it is first needed, and ends with this one."""
    ours, theirs = socket.socketpair()
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with theirs, Path(os.devnull).open() as nothing:
        number = theirs.fileno()
        words = [sys.executable, __file__, str(number)]
        forker = subprocess.Popen(words, pass_fds=[number], stdin=nothing, env=environment)
    forker.returncode = 0  # nobody waits for it: it ends when the socket does
    return ours


def _import_everything() -> None:
    import featherweight

    for module in pkgutil.walk_packages(featherweight.__path__, "featherweight."):
        if not module.name.endswith(".standalone"):  # a script of its own
            importlib.import_module(module.name)
    for name in IMPORTED.split():
        importlib.import_module(name)
    os.fsync = lambda handle: None  # as in conftest


def _serve(asked: socket.socket) -> None:
    """Fork for each request until nobody is left to ask; returns in the new process, too, and then has become it."""
    while True:
        request, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not request:
            return
        read, write = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if child:
                os.write(write, str(child).encode())
                os._exit(0)
            asked.close()
            os.close(read)
            os.close(write)
            _become(files, **json.loads(request))
        os.waitpid(between, 0)  # from here on the child is the asking process's
        asked.send(os.read(read, 32))
        for file in (*files, read, write):
            os.close(file)


def _become(files: Sequence[int], words: list[str], environment: dict[str, str], folder: str, session: bool) -> None:
    """Be the process that was asked for."""
    if session:
        os.setsid()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
    for file in files:
        os.close(file)
    sys.stdin, sys.stdout = io.TextIOWrapper(io.FileIO(0)), io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")))
    raw = io.BufferedWriter(io.FileIO(2, "w"))
    sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["featherweight", *words]
    importlib.import_module("featherweight.__main__").run()


if __name__ == "__main__":
    _import_everything()
    gc.freeze()  # so that the pages of what was imported stay shared
    _serve(socket.socket(fileno=int(sys.argv[1])))
