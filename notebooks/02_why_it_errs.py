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
# This notebook shows which images a trained model gets wrong, and why. It uses the latest run of this workspace. To
# look at another run, edit `RUN` below or set the environment variable `RUN`. It works for single-label runs only (one
# class per image).

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
assert os.environ.get("RUN") or trained, "there is no run yet; train one first: ./run.sh wrn16_4"
RUN = os.environ.get("RUN") or trained[-1]
assert fw.find(RUN).competition.target != "several", f"{RUN} predicts several classes per image: choose another run"
found = evidence.gather(fw.find(RUN))
print(f"{RUN}: {(found.predicted == found.true).mean():.2%} of {len(found.true):,} holdout images predicted correctly")
print(f"without test-time augmentation: {found.plain_accuracy:.2%}")

# %% [markdown]
# ## Learning curves
# Is the loss still falling at the end? Then train for more epochs. Does the training loss fall while the holdout loss
# rises? Then the model overfits.

# %%
nothing = "this run has no learning curves: its network was not trained epoch by epoch"
nothing if found.history is None else figures.curves(found.history, found.run.competition.metric.name)

# %% [markdown]
# ## Which classes are confused with each other?
# In the table below the matrix, `is` is the true class and `taken for` is the predicted class.

# %%
matrix, groups = evidence.clustered_classes(found.confusion, found.classes)
figures.confusion(matrix, [group[0] for group in groups])

# %%
pd.DataFrame(evidence.most_confused(found.confusion, found.classes), columns=["is", "taken for", "images"])

# %% [markdown]
# ## Scores per class, worst class first

# %%
pd.DataFrame(evidence.by_class(found.confusion, found.classes)).round(4)

# %% [markdown]
# ## Calibration
# Among the images predicted with a probability of about 80 %, about 80 % should be correct.

# %%
figures.reliability(*evidence.calibration(found.probs, found.true))

# %% [markdown]
# ## The most confident mistakes, and where the network looked

# %%
figures.mistakes(found.mistakes)
