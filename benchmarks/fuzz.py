"""Test all readers with damaged files and the client with all Kaggle faults: tests/test_fuzz.py with more examples.

    ./run.sh bench fuzz --examples 20000

Failed examples are kept in .hypothesis/ and tried first the next time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the tests; return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="./run.sh bench fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=20_000, help="examples per property (default: 20,000)")
    parser.add_argument("--only", default="", metavar="WORD", help="test only properties with this word in their names")
    arguments = parser.parse_args()
    began = time.monotonic()
    print(f"{arguments.examples:,} examples per property; every 10,000 take some minutes")
    environment = {**os.environ, "FEATHERWEIGHT_FUZZ_EXAMPLES": str(arguments.examples)}
    words = [
        "-m",
        "pytest",
        "-n",
        "0",
        "--timeout",
        "0",
        "-v",
        "--all",
        "tests/test_fuzz.py",
        "tests/test_kaggle_faults.py",
        "-k",
        arguments.only,
    ]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=False)
    print(f"{time.monotonic() - began:,.0f} seconds")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
