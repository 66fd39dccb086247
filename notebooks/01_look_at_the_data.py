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
# # 1. Look at the data
# This notebook shows the images that a model will be trained on: how many there are, which classes they belong to, and
# what they look like. It changes no files. To look at another competition, edit `COMPETITION` below or set the
# environment variable `COMPETITION`.

# %%
# %matplotlib inline
import os

import numpy as np
import pandas as pd

from featherweight import config
from featherweight.report import figures

COMPETITION = os.environ.get("COMPETITION", "digits")
competition = config.load_competition(COMPETITION)
data = competition.load()
train = data.train
print(f"{competition.title}: {len(train):,} training images, {len(data.predict) if data.predict else 0:,} test images")
print(f"image shape {train.images.shape[1:]}, {len(competition.classes)} classes, metric {competition.metric.name}")

# %% [markdown]
# ## Number of images per class
# If the largest class has many more images than the smallest, accuracy says little about the small classes: look at the
# F1 score as well.

# %%
names = competition.classes
each = train.labels.sum(0) if train.labels.ndim == 2 else np.bincount(train.labels, minlength=len(names))
figures.bars(pd.Series(each, index=names).sort_values(ascending=False, kind="stable"))

# %% [markdown]
# ## Examples of each class
# Each row shows eight images of one class. Would an image still belong to its class if it were mirrored, rotated or
# recoloured? If not, switch that off: `image.mirror` in the competition file, `augment` in the recipe.

# %%
figures.samples(train.images, train.labels, competition.classes)

# %% [markdown]
# ## Brightness
# The table shows the mean and the standard deviation of each channel over up to 1,000 images, with pixel values between
# 0 and 1. The model normalises its input with nearly the same numbers: it subtracts the mean and divides by the
# standard deviation.

# %%
some = np.linspace(0, len(train) - 1, min(len(train), 1000)).astype(int)
channels = np.asarray(train.images[some]).reshape(-1, train.images.shape[-1])
pd.DataFrame({"mean": channels.mean(0) / 255, "deviation": channels.std(0) / 255}).round(4)
