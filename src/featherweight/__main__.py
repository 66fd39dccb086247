"""`python -m featherweight`."""

import os
import sys

from featherweight.cli.main import main
from featherweight.runtime import launcher

code = main()
if launcher.inside():  # where the backend's threads have outlived the interpreter, a finished process was seen to abort
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
