"""Makes submission.csv inside a Kaggle notebook, with no network: see `PLAN` for which run and which competition.

What it needs that the notebook may lack lies in its data set, as wheels; what the notebook has comes first.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
PLAN: dict[str, Any] = json.loads(r"""{}""")
INPUT = Path(os.environ.get("KAGGLE_INPUT", "/kaggle/input"))
WORKING = Path(os.environ.get("KAGGLE_WORKING", "/kaggle/working"))


def folder_of(slug: str) -> Path:
    """Return the folder where Kaggle mounts a competition's data or a data set, at any depth."""
    for pattern in (slug, f"*/{slug}", f"*/*/{slug}"):
        for folder in sorted(INPUT.glob(pattern)):
            if folder.is_dir():
                return folder
    there = ", ".join(sorted(path.name for path in INPUT.glob("*"))) or "nothing"
    sys.exit(f"error: there is no input called {slug}; add it to the notebook's inputs. There is: {there}")


def refuse_others(folder: Path) -> None:
    """Exit unless the data set's files are those of this notebook; Kaggle may mount an older version."""
    for name, checksum in PLAN["files"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
            sys.exit(
                f"error: the data set {folder.name} is of another version than this notebook ({name} differs); choose "
                "its latest version in the notebook's inputs, or send both again (./run.sh kernel ... --push)"
            )


def main() -> None:
    """Unpack the wheels, link the data to where the competition's file expects them, and predict."""
    folder = folder_of(PLAN["dataset"])
    refuse_others(folder)
    scratch = Path(tempfile.mkdtemp())
    for wheel in sorted(folder.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(scratch / "packages")
    sys.path.append(str(scratch / "packages"))  # last: what the notebook has itself fits its Python and its GPU
    home = scratch / "home"
    (home / "data").mkdir(parents=True)
    os.environ["FEATHERWEIGHT_HOME"] = str(home)
    for name in ("FEATHERWEIGHT_DATA", "FEATHERWEIGHT_CACHE"):
        os.environ.pop(name, None)
    if PLAN["folder"]:
        (home / "data" / PLAN["folder"]).symlink_to(folder_of(PLAN["competition"]), target_is_directory=True)
    try:
        from featherweight.kaggle.notebook import inside
    except ImportError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"error: this notebook (Python {version}) lacks what the wheels do not hold for it: {error}")
    csv = inside.write_submission(PLAN, folder, STARTED)
    shutil.copy(csv, WORKING / "submission.csv")
    print(f"wrote {WORKING / 'submission.csv'} after {(time.monotonic() - STARTED) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
