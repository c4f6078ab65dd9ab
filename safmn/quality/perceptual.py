"""LPIPS (Zhang et al., CVPR 2018), where the authors' package `lpips` is installed: it is optional.

AlexNet and version 0.1, the package's own choice for a metric; the whole image in RGB, no border cropped.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from safmn.errors import as_line

Distance = Callable[[Tensor, Tensor], Tensor]
"""Takes two batches N x 3 x H x W in [0, 255], returns N distances in float64."""

_log = logging.getLogger(__name__)


@cache
def lpips_distance(device: torch.device) -> Distance | None:
    """Return the LPIPS distance on a device; None where `lpips` is not installed or its weights cannot be loaded.

    On first use torchvision downloads AlexNet's weights, if they are not in torch's cache.
    """
    if importlib.util.find_spec("lpips") is None:
        return None
    try:
        with torch.random.fork_rng(devices=[]):  # building it must not move the caller's random state
            network = importlib.import_module("lpips").LPIPS(net="alex", version="0.1", verbose=False)
    except Exception as error:  # no connection, an incomplete installation
        _log.warning("lpips is installed but cannot be used (%s): LPIPS is left out", as_line(error))
        return None
    network = network.eval().to(device)

    @torch.no_grad()
    def distance(first: Tensor, second: Tensor) -> Tensor:
        first, second = (images.to(torch.float32) / 127.5 - 1.0 for images in (first, second))
        distances: Tensor = network(first, second)
        return distances.flatten().to(torch.float64)

    return distance
