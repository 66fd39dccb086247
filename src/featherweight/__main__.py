"""`python -m featherweight`, and the command `featherweight` of an installation."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from featherweight import paths
from featherweight.cli.main import main
from featherweight.runtime import launcher


class _AsTyped:
    """A stream that shows commands as they are typed in an installation, which has no run.sh."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text; return its length, as streams do."""
        self._stream.write(text.replace("./run.sh install", "pip install").replace("./run.sh", "featherweight"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run() -> NoReturn:
    """Run the command line, and exit with its exit code."""
    if paths.INSTALLED:
        sys.stdout, sys.stderr = _AsTyped(sys.stdout), _AsTyped(sys.stderr)
    code = main()
    if launcher.inside():  # threads of the backend that outlive the interpreter made finished processes abort
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
