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
# # 2. Error analysis
# A finished run, taken apart. Name the run in `RUN`, or set the variable of that name in the environment; without one,
# the last run that was trained here is looked at. It is for runs that give each image one class.

# %%
# %matplotlib inline
import os

import pandas as pd

import featherweight as fw
from featherweight.report import evidence, figures
from featherweight.runs.run import Run

trained = fw.list_runs().sort_values("date")
trained = trained[~trained["recipe"].isin(["soup", "ensemble"])]["run"].tolist()
trained = [name for name in trained if Run.exists(name) and fw.find(name).competition.target != "several"]
assert os.environ.get("RUN") or trained, "train one first: ./run.sh wrn16_4"
RUN = os.environ.get("RUN") or trained[-1]
assert fw.find(RUN).competition.target != "several", f"{RUN} gives an image several classes, which is not shown here"
found = evidence.gather(fw.find(RUN))
print(f"{RUN}: {(found.predicted == found.true).mean():.2%} of {len(found.true):,} holdout images are right")
print(f"one view alone: {found.plain_accuracy:.2%}")

# %% [markdown]
# ## Did it learn, and did it stop learning too soon or too late?

# %%
nothing = "it has no history: its network was not trained epoch by epoch"
nothing if found.history is None else figures.curves(found.history, found.run.competition.metric.name)

# %% [markdown]
# ## Which classes are confused

# %%
matrix, groups = evidence.grouped(found.confusion, found.classes)
figures.confusion(matrix, [group[0] for group in groups])

# %%
pd.DataFrame(evidence.most_confused(found.confusion, found.classes), columns=["is", "taken for", "images"])

# %% [markdown]
# ## The worst classes first

# %%
pd.DataFrame(evidence.by_class(found.confusion, found.classes)).round(4)

# %% [markdown]
# ## Is it as sure as it is right?

# %%
figures.reliability(*evidence.calibration(found.probs, found.true))

# %% [markdown]
# ## The most confident mistakes, and where it looked

# %%
figures.mistakes(found.mistakes)
