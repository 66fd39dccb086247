"""Train with AutoGluon's MultiModalPredictor, for `auto.py`, by the Python of an environment that has AutoGluon.

The arguments are those of `_peer.py`, except that NETWORK is a folder with the network's first weights (`checkpoint` of
`_peer.py`): `fit` would load others from a hub, even with `pretrained=False`. The settings are AutoGluon's defaults,
with three exceptions: the network and its image size, since the defaults are over the limit and come from a hub; one
process with one thread; and, from random weights, AdamW at 1e-3 for all layers, since the default of 1e-4, less for
lower layers, is for fine-tuning. The seconds are AutoGluon's `time_limit`, of wall time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from autogluon.multimodal import MultiModalPredictor

from _peer import LITE0, Asked, answer, asked, spent

FROM_SCRATCH = {"optim.lr": 1e-3, "optim.lr_choice": "single_stage"}


def hyperparameters(task: Asked, tuned: bool) -> dict[str, Any]:
    """Return the settings that differ from AutoGluon's defaults."""
    return {
        "model.names": ["timm_image"],
        "model.timm_image.checkpoint_name": task.network,
        "model.timm_image.image_size": task.size,
        "model.timm_image.image_norm": "inception" if tuned else "imagenet",
        "env.accelerator": "cpu",
        "env.num_workers": 0,
        "env.num_workers_inference": 0,
        "env.precision": "32",
        **({} if tuned else FROM_SCRATCH),
    }


def main(task: Asked) -> None:
    """Train, then predict the images of `test/`."""
    torch.set_num_threads(1)
    train = sorted((task.folder / "train").glob("*/*"))
    test = sorted((task.folder / "test").iterdir())
    tuned = Path(task.network).name == LITE0
    began = spent()
    with tempfile.TemporaryDirectory() as folder:
        predictor = MultiModalPredictor(
            label="label",
            problem_type="binary" if len({path.parent for path in train}) == 2 else "multiclass",
            eval_metric="accuracy",
            path=str(Path(folder) / "models"),
        )
        predictor.fit(
            pd.DataFrame({"image": [str(path) for path in train], "label": [path.parent.name for path in train]}),
            time_limit=task.seconds,
            seed=task.seed,
            column_types={"image": "image_path", "label": "categorical"},
            hyperparameters=hyperparameters(task, tuned),
        )
        predicted = predictor.predict(pd.DataFrame({"image": [str(path) for path in test]}), as_pandas=False)
    answer(task, {path.name: str(label) for path, label in zip(test, predicted, strict=True)}, None, began)


if __name__ == "__main__":
    main(asked())
