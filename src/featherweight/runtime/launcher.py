"""The processes of one run, from outside: what torchrun tells each of them, and starting them without torchrun.

    ./run.sh RECIPE --procs 2                                           two processes on this machine
    torchrun --nproc-per-node 2 -m featherweight RECIPE --threads 8     the same
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d \\
        --rdzv-endpoint HOST:29400 -m featherweight RECIPE              eight on two machines, said on each of them

torchrun gives each process one processor thread where nothing else is said (OMP_NUM_THREADS): on processors, and for
packing, say `--threads`, those of all processes together; `--procs` takes one a core.

Several machines are alike, have the same code and packages, and share the workspace (`FEATHERWEIGHT_HOME` on a disk
that all of them see); each may keep packed images of its own (`FEATHERWEIGHT_CACHE`). `--procs` hands over to
torchrun's own launcher, so both ways are one; what the processes do together is in `runtime.processes`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from featherweight.errors import ProcessLostError, ReportedError

PARENT = os.getppid()  # as early as can be: who started this process


def inside() -> bool:
    """Is this process one that torchrun, or `launch`, has started?"""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Which of a run's processes this is; the first, 0, alone writes and speaks."""
    return int(os.environ["RANK"]) if inside() else 0


def count() -> int:
    """How many processes a run has, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if inside() else 1


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run `python -m featherweight ARGUMENTS` in several processes of this machine, and wait until all are done.

    Raises KeyboardInterrupt when it is asked to stop (after they have stopped), `ReportedError` when one of them ended
    in an error, which it has reported itself, and `ProcessLostError` when one was killed; then no other runs on.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in stop_signals}
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=f"featherweight-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        logging.disable()  # what its loggers say in detail, we say below
        try:
            elastic_launch(config, sys.executable)("-m", "featherweight", *arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            _explain({rank: failure.exitcode for rank, failure in error.failures.items()})
        finally:
            logging.disable(logging.NOTSET)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _explain(codes: dict[int, int]) -> None:
    """Raise what several processes' exit codes say; codes below 0 are signals, and 4 is one who lost another."""
    if 130 in codes.values():
        raise KeyboardInterrupt
    for code in (2, 3, 1):
        if code in codes.values():
            raise ReportedError(code)
    killed = {rank: signal.Signals(-code).name for rank, code in codes.items() if code < 0}
    first = min(killed, key=lambda rank: (killed[rank] == "SIGTERM", rank), default=min(codes))
    raise ProcessLostError(f"process {first} of the run ended ({killed.get(first, f'exit code {codes[first]}')})")


def end_with_parent() -> None:
    """Have this process end when the one that started it is gone: nobody then looks after it any more."""

    def watch() -> None:
        while os.getppid() == PARENT:
            time.sleep(0.5)
        os._exit(ProcessLostError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
