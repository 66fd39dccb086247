"""The processes of one run, from outside: what torchrun tells each of them, and starting them without torchrun.

    ./run.sh RECIPE --procs 2                                           two processes on this machine
    torchrun --nproc-per-node 2 -m featherweight RECIPE --threads 8     the same
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d \\
        --rdzv-endpoint HOST:29400 -m featherweight RECIPE              eight processes on two machines; run on each

torchrun gives each process one processor thread by default (OMP_NUM_THREADS): on processors, and for packing, set
`--threads`, the number for all processes together; `--procs` uses one per core.

All machines need the same hardware, code and packages, and share the workspace (`FEATHERWEIGHT_HOME` on a disk that all
of them see); each may have its own cache of packed images (`FEATHERWEIGHT_CACHE`). `--procs` uses torchrun's own
launcher, so both ways are the same; what the processes do together is in `runtime.processes`.
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

PARENT = os.getppid()  # read as early as possible: the process that started this one


def inside() -> bool:
    """True if this process was started by torchrun or by `launch`."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Return the number of this process in its run; only the first, 0, writes files and prints."""
    return int(os.environ["RANK"]) if inside() else 0


def count() -> int:
    """Return the number of a run's processes, on all machines."""
    return int(os.environ["WORLD_SIZE"]) if inside() else 1


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run `python -m featherweight ARGUMENTS` in several processes of this machine, and wait until all are done.

    Raises KeyboardInterrupt when it was asked to stop (after they have stopped), `ReportedError` if one of them ended
    with an error, which it has reported itself, and `ProcessLostError` if one was killed; then all others are ended.
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
        logging.disable()  # its detailed messages are replaced by those below
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
    """Raise what several processes' exit codes mean; those below 0 are signals, and 4 is one that lost another."""
    if 130 in codes.values():
        raise KeyboardInterrupt
    for code in (2, 3, 1):
        if code in codes.values():
            raise ReportedError(code)
    killed = {rank: signal.Signals(-code).name for rank, code in codes.items() if code < 0}
    first = min(killed, key=lambda rank: (killed[rank] == "SIGTERM", rank), default=min(codes))
    raise ProcessLostError(f"process {first} of the run ended ({killed.get(first, f'exit code {codes[first]}')})")


def end_with_parent() -> None:
    """Make this process end when its parent does, since nothing would then control it any more."""

    def watch() -> None:
        while os.getppid() == PARENT:
            time.sleep(0.5)
        os._exit(ProcessLostError.exit_code)

    threading.Thread(target=watch, daemon=True).start()
