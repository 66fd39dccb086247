"""Run the command line in a separate process that is forked from one that has imported everything.

Importing torch takes two seconds of a core, and the tests start hundreds of processes. A forked process behaves like
any other: it has its own environment, pipes and session, receives signals, and ends with an exit code. Processes that
torchrun starts in it are forked too. It cannot show faults of `run.sh`, of the imports, of the hash order, which it
inherits from its parent, or of the interpreter's end; use `start(..., fresh=True)` for these. Only Linux lets a process
adopt the children of its child (prctl); on other systems all processes are fresh.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import runpy
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Engine, event

SOURCE = str(Path(__file__).resolve().parents[1] / "src")
ABLE = sys.platform == "linux"
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
# Packages that commands import only when they need them, in addition to the modules of this package.
TORCHRUN = "torch.distributed.run"
STARTER = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"  # of torchrun
IMPORTED = (
    "matplotlib.backends.backend_agg matplotlib.figure optuna pandas scipy.cluster.hierarchy scipy.optimize "
    "scipy.stats sklearn.datasets sklearn.linear_model sklearn.model_selection sklearn.pipeline sklearn.preprocessing "
    f"{TORCHRUN} {STARTER}"
)


class Forked(subprocess.Popen[str]):
    """Popen of `python WORDS`, where WORDS is `-m MODULE ...`, `-c PROGRAM ...` or `SCRIPT ...`."""

    def _execute_child(self, *positional: Any) -> None:
        """Replace Popen's own method: ask the forking process for a process with these pipes."""
        names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
        given = dict(zip(names, positional, strict=True))
        request = {
            "words": given["args"],
            "environment": dict(given["env"]),
            "folder": str(given["cwd"] or Path.cwd()),
            "session": given["start_new_session"],
        }
        streams = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        files = [standard if stream == -1 else stream for standard, stream in enumerate(streams)]
        socket.send_fds(_forker(), [json.dumps(request).encode()], files)
        self.pid = int(_forker().recv(32))
        self._child_created = True
        self._close_pipe_fds(*(given[f"{pipe}{end}"] for pipe, end in PIPE_ENDS))  # type: ignore[attr-defined]


def begin(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start `python WORDS`, forked where possible, with pipes for its output as text."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {**os.environ}, **options}
    return Forked(words, **given) if ABLE else subprocess.Popen([sys.executable, *words], **given)


def python(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` to its end, forked where possible, and return its exit code and its output as text."""
    process = begin(words, **options)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


PIPE_ENDS = [("p2c", "read"), ("p2c", "write"), ("c2p", "read"), ("c2p", "write"), ("err", "read"), ("err", "write")]


@functools.cache
def _forker() -> socket.socket:
    """Return the socket of the forking process, which is started at the first call and ends with this process."""
    ours, theirs = socket.socketpair()
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    environment = {**os.environ, "PYTHONPATH": SOURCE, "FEATHERWEIGHT_HOME": os.devnull}  # no test's own workspace
    with theirs, Path(os.devnull).open() as nothing:
        number = theirs.fileno()
        words = [sys.executable, __file__, str(number)]
        forker = subprocess.Popen(words, pass_fds=[number], stdin=nothing, env=environment)
    forker.returncode = 0  # nobody waits for it: it ends when the socket is closed
    return ours


def wait_for_no_disk() -> None:
    """Write without waiting for the disk, also what SQLite writes: no test can simulate a power cut."""
    os.fsync = lambda handle: None

    @event.listens_for(Engine, "connect")
    def hasten(connection: sqlite3.Connection, record: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # a damaged file is the program's to find
            connection.execute("PRAGMA synchronous=OFF")


def _import_everything() -> None:
    import featherweight

    for module in pkgutil.walk_packages(featherweight.__path__, "featherweight."):
        if not module.name.endswith(".standalone"):  # that module is a separate script
            importlib.import_module(module.name)
    for name in IMPORTED.split():
        importlib.import_module(name)


def _look_at_digits() -> None:
    """Keep in memory what most commands would find again: parsed configurations, the digits, and which are copies."""
    from featherweight.config import load_competition, load_recipe
    from featherweight.data.parts import labelled_groups, predict_groups

    load_recipe("tiny")
    competition = load_competition("digits")
    data = competition.load()
    labelled_groups(competition, data)
    predict_groups(competition, data.predict)
    assert threading.active_count() == 1, "a process with threads cannot be forked"


def _serve(asked: socket.socket) -> None:
    """Fork a process per request until the socket is closed; returns also in each forked process, as that process."""
    while True:
        request, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not request:
            return
        read, write = os.pipe()
        between = os.fork()
        if not between:
            parent = os.getpid()
            if os.fork():
                os._exit(0)
            asked.close()
            os.close(read)
            while os.getppid() == parent:  # until the asking process has adopted this one
                time.sleep(0.001)
            _become(write, files, **json.loads(request))
        os.waitpid(between, 0)  # from here on the child is the asking process's
        asked.send(os.read(read, 32))
        for file in (*files, read, write):
            os.close(file)


def _become(
    write: int, files: Sequence[int], words: list[str], environment: dict[str, str], folder: str, session: bool
) -> None:
    """Turn this process into the requested one: make its session, write its process id, run it, and end."""
    if {"--procs", "resume", TORCHRUN} & {*words}:
        _fork_what_torchrun_starts(files)
    if session:
        os.setsid()  # before the process id is known: else a signal to its group would reach the tests' own group
    os.write(write, str(os.getpid()).encode())
    os.close(write)
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
    importlib.reload(importlib.import_module("featherweight.runtime.launcher"))  # stores the parent's id
    try:
        _run(words[1:] if words[0] == "-u" else words)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        _end(ended.code or 0)
    _end(0)


def _run(words: list[str]) -> None:
    """Do what `python WORDS` does."""
    sys.argv = words[1:] if words[0] == "-m" else words
    if words[:2] == ["-m", "featherweight"]:
        importlib.import_module("featherweight.__main__").run()
    elif words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
    else:
        runpy.run_path(words[0], run_name="__main__")


def _end(code: int) -> NoReturn:
    """End as Python does, but leave the imported modules to the system: to free them takes 0.4 s of a core."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fork_what_torchrun_starts(files: Sequence[int]) -> None:
    """Let another process fork this process's children: this one may have threads by then, the other has none."""
    global _forker
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        for file in files:
            os.close(file)
        _serve(theirs)
        os._exit(0)
    theirs.close()
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    _forker = lambda: ours  # noqa: E731
    importlib.import_module(STARTER).Popen = lambda args, **options: Forked(args[1:], **options)


if __name__ == "__main__":
    wait_for_no_disk()
    gc.disable()  # it would look for garbage among the imported modules again and again
    _import_everything()
    _look_at_digits()
    gc.enable()
    gc.freeze()  # so that the memory pages of imported modules stay shared
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
