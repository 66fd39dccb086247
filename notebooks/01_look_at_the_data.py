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
# What a model will be shown: how many images, of which classes, and what they look like. Nothing is changed here.
# Name another competition in `COMPETITION`, or set the variable of that name in the environment.

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
print(
    f"{competition.title}: {len(train):,} images to learn from, {len(data.predict) if data.predict else 0:,} to predict"
)
print(f"each {train.images.shape[1:]}, {len(competition.classes)} classes, scored by {competition.metric.name}")

# %% [markdown]
# ## How many of each class
# Where the largest class has many times the images of the smallest, accuracy hides the small ones: look at F1 too.

# %%
names = competition.classes
each = train.labels.sum(0) if train.labels.ndim == 2 else np.bincount(train.labels, minlength=len(names))
figures.bars(pd.Series(each, index=names).sort_values(ascending=False, kind="stable"))

# %% [markdown]
# ## What they look like
# Eight of each class, a class a row. Is there anything here that a mirrored, rotated or recoloured image would lose?
# The competition's `image.mirror` and the recipe's `augment` should say so.

# %%
figures.samples(train.images, train.labels, competition.classes)

# %% [markdown]
# ## How bright they are
# The mean and the deviation of each channel, of up to 1,000 images: about what the model's first layer subtracts and
# divides by.

# %%
some = np.linspace(0, len(train) - 1, min(len(train), 1000)).astype(int)
channels = np.asarray(train.images[some]).reshape(-1, train.images.shape[-1])
pd.DataFrame({"mean": channels.mean(0) / 255, "deviation": channels.std(0) / 255}).round(4)
