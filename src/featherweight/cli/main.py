"""The command line: which command is meant, and how it ended."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from featherweight import __version__, paths
from featherweight.cli.commands import COMMANDS, TRAIN, help_text
from featherweight.cli.parser import parse
from featherweight.errors import ProcessLostError, ReportedError, UserError, printable
from featherweight.runtime import launcher

# What a full or read-only disk, or a file where a folder should be, looks like to a program.
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
LONGEST, WIDEST = 5, 1000  # lines of an error, and letters of a line
LACKS_MEMORY = (
    "this takes more memory than there is ({first}); what there was before is untouched. Less is taken by a smaller "
    "train.batch_size, train.accumulate, a smaller predict.batch_size, image.size or model"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for the user's mistakes, 3 over budget, 4 Kaggle's trouble, 1 ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(help_text())
            return 0
        if words[0] == "--version":
            print(f"featherweight {__version__}")
            return 0
        return _run(words)
    except ReportedError as error:
        return error.exit_code
    except UserError as error:
        if launcher.rank() == 0 or isinstance(error, ProcessLostError):
            _tell(str(error))
        return error.exit_code
    except BrokenPipeError:  # the reader of our output (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        where = f" {error.filename}" if error.filename else ""
        if launcher.rank() == 0:
            _tell(f"cannot read or write{where}: {error.strerror}; what was there before is untouched")
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
    """What was wrong, in a few lines, with nothing in it that could steer a terminal."""
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
            raise UserError(f"unknown option {words[0]}; ./run.sh --help shows what there is")
        paths.find_config("recipes", words[0], also=COMMANDS)
        words = [TRAIN, *words]
    arguments = parse(words)
    return int(COMMANDS[words[0]].load().run(arguments))


def _refuse_torchrun(words: Sequence[str]) -> None:
    """Raise UserError for what is not done by several processes together."""
    alone = [word for word in words if word.partition("=")[0] in ("--seeds", "--folds", "--submit")]
    if words[0] in COMMANDS and words[0] not in ("resume", TRAIN):
        alone = [words[0]]
    if alone:
        raise UserError(f"torchrun is for one recipe, or for resume; do {alone[0]} by ./run.sh (which takes --procs)")
