"""Learning from teachers as well as from the classes (Hinton et al. 2015, arXiv:1503.02531).

The teachers see the very images that the student does, augmented and mixed, so that a CutMix is answered for what it
shows (arXiv:2106.05237). They do not ship and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from featherweight.models import Classifier
from featherweight.training.runtime import Runtime


@torch.no_grad()
def teach(teachers: Sequence[Classifier], images: Tensor, temperature: float, runtime: Runtime) -> Tensor:
    """The mean of the teachers' probabilities at a temperature, float32 [B, K], for images [B, C, H, W]."""
    with runtime.autocast():
        logits = [teacher(images) for teacher in teachers]
    return torch.stack([(each.float() / temperature).softmax(1) for each in logits]).mean(0)


def learn(loss: Tensor, logits: Tensor, taught: Tensor, weight: float, temperature: float) -> Tensor:
    """The loss, and by `weight` in its stead how far the student at the temperature is from what is taught.

    The divergence is multiplied by the temperature's square, which keeps the size of its gradients.
    """
    apart = F.kl_div((logits / temperature).log_softmax(1), taught, reduction="batchmean") * temperature**2
    return (1 - weight) * loss + weight * apart
