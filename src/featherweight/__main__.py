"""`python -m featherweight`."""

import os
import sys

from featherweight import workers
from featherweight.cli import main

code = main()
if workers.inside():  # where the backend's threads have outlived the interpreter, a finished process was seen to abort
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
