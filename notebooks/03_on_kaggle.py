# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. On Kaggle
# Trains and predicts inside a Kaggle notebook: GPU on, internet off. Attach as inputs
#
# 1. the competition's data,
# 2. this repository as a data set (its folder must hold `run.sh`), and
# 3. where packages are missing, a data set of wheels, made where there is internet with
#    `pip download -d wheels efficientnet-pytorch ptflops ruamel.yaml six` and whatever else the first cell names.
#
# `submission.csv` lies in `/kaggle/working` at the end: press *Submit*. Elsewhere the same cells run in this checkout.

# %%
import os
import subprocess
import sys
from pathlib import Path

INPUT, WORKING = Path("/kaggle/input"), Path("/kaggle/working")
RECIPE = os.environ.get("RECIPE", "tiny")
COMPETITION = os.environ.get("COMPETITION", "digits")
DATA = os.environ.get("DATA", "")  # a folder to make that competition of first: /kaggle/input/NAME
SETTINGS = os.environ.get("SETTINGS", "").split()  # for example: train.epochs=30 optimizer.lr=0.2

PACKAGE = "src/featherweight/__init__.py"
places = [folder / PACKAGE for folder in (Path.cwd(), *Path.cwd().parents)]
places += [found for depth in range(1, 5) for found in INPUT.glob("*/" * depth + PACKAGE)]
sys.path.insert(0, str(next(place for place in places if place.is_file()).parents[1]))
if INPUT.is_dir():
    os.environ.setdefault("FEATHERWEIGHT_HOME", str(WORKING))
    os.environ.setdefault("FEATHERWEIGHT_DATA", str(INPUT))

# %% [markdown]
# ## Is everything there?
# The tool's own look at the machine; what is missing is installed from the attached wheels.

# %%
wheels = sorted({str(wheel.parent) for wheel in INPUT.rglob("*.whl")})
if wheels:
    links = [f"--find-links={folder}" for folder in wheels]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", *links]
    subprocess.run([*install, *(Path(wheel).name.split("-")[0] for wheel in INPUT.rglob("*.whl"))], check=False)

# %%
from featherweight import paths
from featherweight.cli import main
from featherweight.runs.run import Run

main.main(["doctor"])

# %% [markdown]
# ## Train, score, predict, check

# %%
if DATA:
    main.main(["init", DATA, "--name", COMPETITION])
name = f"{RECIPE}-on-kaggle"
settings = [word for setting in SETTINGS for word in ("--set", setting)]
code = main.main([RECIPE, "--competition", COMPETITION, "--name", name, *settings])
assert code == 0, "read what stands above"

# %% [markdown]
# ## What to submit

# %%
run = Run.find(name)
target = (WORKING if WORKING.is_dir() else paths.home()) / "submission.csv"
target.write_bytes(run.csv().read_bytes())
print(f"{target} is the submission, {target.stat().st_size:,} bytes")
