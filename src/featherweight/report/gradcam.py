"""Grad-CAM heat maps (Selvaraju et al. 2017, arXiv:1610.02391) for any network with feature maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.models import Classifier
from featherweight.runtime.device import Runtime

SMALLEST_SIDE = 4  # of a feature map; on smaller ones every image is hot in the middle


def gradcam(
    model: Classifier, images: NDArray[np.uint8], classes: NDArray[np.int64], runtime: Runtime
) -> NDArray[np.float32] | None:
    """Return heat maps float32 [N, H, W] in [0, 1] of images uint8 [N, H, W, C], for one class each, at the deepest
    feature map.

    None for a network without feature maps of at least 4x4.
    """
    pixels = runtime.images(torch.from_numpy(np.array(images)))
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.ndim != 4 or min(output.shape[2:]) < SMALLEST_SIDE:
            return None
        if not output.requires_grad:
            return None
        maps.append(output)
        return output.clone()  # later layers may work in place

    runtime.place(model.eval())
    hooks = [module.register_forward_hook(keep) for module in model.net.modules() if module is not model.net]
    try:
        with torch.enable_grad():
            logits = model(pixels).float()
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        return None
    wanted = torch.from_numpy(classes).to(logits.device)
    (gradient,) = torch.autograd.grad(logits.gather(1, wanted[:, None]).sum(), maps[-1])
    heat = F.relu((gradient.mean((2, 3), keepdim=True) * maps[-1]).sum(1, keepdim=True))
    heat = F.interpolate(heat, pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    result: NDArray[np.float32] = heat.detach().cpu().numpy()
    return result
