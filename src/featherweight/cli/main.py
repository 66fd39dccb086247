"""The command line: run the command, and convert errors to messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from featherweight import __version__, paths
from featherweight.atomic import NotWritten
from featherweight.cli.commands import COMMANDS, TRAIN, help_text
from featherweight.cli.parser import parse
from featherweight.console import one_command
from featherweight.errors import ProcessLostError, ReportedError, UserError, printable
from featherweight.runtime import launcher

# Errors of a full or read-only disk, or of a file where a folder should be.
CANNOT_WRITE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOTEMPTY,
    errno.ELOOP,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.EBUSY,
)
# What to do instead of commands that other programs have.
DELETE = "to delete a run, delete its folder in runs/ (./run.sh runs lists the runs)"
INSTEAD = {
    **dict.fromkeys(("delete", "remove", "rm"), DELETE),
    **dict.fromkeys(("list", "ls", "history", "status"), "./run.sh runs lists your runs, ./run.sh models the recipes"),
    **dict.fromkeys(("fit", "run"), "to train, type a recipe's name: ./run.sh RECIPE (./run.sh models lists them)"),
    **dict.fromkeys(("eval", "evaluate", "validate"), "./run.sh runs lists the scores, ./run.sh report RUN shows more"),
    "version": "./run.sh --version",
}
LONGEST, WIDEST = 5, 1000  # maximum lines of an error, and characters of a line
LACKS_MEMORY = (
    "out of memory ({first}). Earlier results are unchanged. Use a smaller train.batch_size, predict.batch_size, "
    "image.size or model, or a larger train.accumulate"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0 success, 1 a bug, 2 a user's mistake, 3 over the limit, 4 Kaggle or
    network.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(help_text())
            return 0
        if words[0] == "--version":
            print(f"featherweight {__version__}")
            return 0
        with one_command():
            return _run(words)
    except ReportedError as error:
        return error.exit_code
    except UserError as error:
        if launcher.rank() == 0 or isinstance(error, ProcessLostError):
            _tell(str(error))
        return error.exit_code
    except BrokenPipeError:  # the reader of the output (head, a pager) was closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE and not isinstance(error, NotWritten):
            raise
        where = f" {error.filename}" if error.filename else ""
        if launcher.rank() == 0:
            _tell(f"cannot read or write{where}: {error.strerror}; earlier results are unchanged")
        return 2
    except Exception as error:
        if not _lacks_memory(error):
            raise
        if launcher.rank() == 0:
            _tell(LACKS_MEMORY.format(first=printable(str(error) or "out of memory").splitlines()[0][:200]))
        return 2
    except KeyboardInterrupt:
        if not launcher.inside():
            print("stopped", file=sys.stderr)
        return 130


def _tell(text: str) -> None:
    """Print an error in a few lines, without characters that could control a terminal."""
    lines = [line if len(line) <= WIDEST else f"{line[:WIDEST]}..." for line in printable(text).split("\n")]
    if len(lines) > LONGEST:
        lines = [*lines[: LONGEST - 1], f"and {len(lines) - LONGEST + 1:,} more lines like these"]
    print("error: " + "\n".join(lines), file=sys.stderr)


def _lacks_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _run(words: list[str]) -> int:
    if launcher.inside():
        _refuse_torchrun(words)
    if words[0] not in COMMANDS:
        if words[0].startswith("-"):
            raise UserError(f"unknown option {words[0]}; ./run.sh --help lists the commands")
        if words[0] in INSTEAD and words[0] not in paths.config_names("recipes"):
            raise UserError(f"there is no command '{words[0]}'; {INSTEAD[words[0]]}")
        paths.find_config("recipes", words[0], also=COMMANDS, command=True)
        words = [TRAIN, *words]
    arguments = parse(words)
    return int(COMMANDS[words[0]].load().run(arguments))


def _refuse_torchrun(words: Sequence[str]) -> None:
    """Raise UserError for commands and options that several processes cannot do together."""
    alone = [word for word in words if word.partition("=")[0] in ("--seeds", "--folds", "--submit")]
    if words[0] in COMMANDS and words[0] not in ("resume", TRAIN):
        alone = [words[0]]
    if alone:
        raise UserError(
            f"torchrun can only train one recipe or resume a run; use {alone[0]} with ./run.sh, which takes --procs"
        )
