"""Which of a user's own classes can run on the meta device, where tensors have shapes but no data."""

from collections.abc import Callable
from itertools import chain, combinations
from typing import Any

import torch
from torch import nn

from safmn.errors import UserError
from safmn.schema import PAPER
from safmn.training import own
from safmn.training.step import TrainStep


def fit_for_meta(
    build: Callable[[], nn.Module], channels: int, scale: int, settings: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return settings whose training step runs without data, and a remark on what had to be replaced.

    A loss or an optimiser of a user's own may look at values. The paper's then stands in for it.

    Args:
        build: makes the network.
        channels: those that it takes.
        scale: 2, 3 or 4.
        settings: the `training` section of a specification.
    """
    classes = own.classes(settings)
    sides = (settings["patch"], settings["patch"] * scale)
    lr, hr = (torch.empty(1, channels, side, side, dtype=torch.uint8, device="meta") for side in sides)
    for replaced in chain.from_iterable(combinations(classes, count) for count in range(len(classes) + 1)):
        tried = settings | {key: PAPER[key] for key in replaced}
        try:
            if replaced != tuple(classes):  # nothing of the user's is left
                TrainStep(build(), tried, lr.device)(0, lr, hr)
        except UserError:
            raise
        except Exception:
            continue
        names = " and ".join(classes[key] for key in replaced)
        return tried, f"without {names}, which cannot run without data: the paper's in its place" if names else ""
    return settings, ""
