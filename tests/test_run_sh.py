"""The environment that run.sh creates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

UV = f"""#!/bin/sh
echo "begins $1" >>"$LOG"
sleep 0.3
if [ "$1" = venv ]; then mkdir -p .venv/bin && ln -s {sys.executable} .venv/bin/python; fi
echo "ends $1" >>"$LOG"
"""


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this system")
def test_two_first_calls_at_once_make_one_environment(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text((ROOT / "run.sh").read_text().replace("sleep 30", "sleep 0.1"))
    script.chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV)
    (tmp_path / "bin" / "uv").chmod(0o755)
    log = tmp_path / "log"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log)}
    environment.pop("FEATHERWEIGHT_PYTHON", None)
    calls = [
        subprocess.Popen(
            ["./run.sh", "bench", "none"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [call.communicate(timeout=60)[1] for call in calls]
    assert log.read_text().split() == ["begins", "venv", "ends", "venv", "begins", "pip", "ends", "pip"]
    assert sorted(text.splitlines()[0].split(" ")[0] for text in said) == ["another", "making"]
    assert sum("still installing after " in text for text in said) == 1  # without a terminal
    assert all("no benchmark 'none'" in text for text in said)
