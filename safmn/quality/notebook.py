"""Evaluation as one call, for a notebook: `safmn.quality.evaluate`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from safmn import networks
from safmn.data import bicubic, packed
from safmn.errors import UserError
from safmn.quality import evaluation
from safmn.quality.evaluation import Evaluation


class _Images:
    """HR images in memory, with LR made by MATLAB's bicubic."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], scale: int) -> None:
        self.names = [str(number) for number in range(len(images))]
        self._hr = [image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale] for image in images]
        self._scale = scale

    def __len__(self) -> int:
        return len(self._hr)

    def lr(self, index: int) -> NDArray[np.uint8]:
        return bicubic.downscale(self._hr[index], self._scale)

    def hr(self, index: int) -> NDArray[np.uint8]:
        return self._hr[index]

    def channels(self, index: int) -> int:
        return 3


def evaluate(
    network: nn.Module | str,
    data: str | Path | Sequence[NDArray[np.uint8]],
    scale: int,
    channels: str | None = None,
    protocol: str = "present",
) -> Evaluation:
    """Measure PSNR and SSIM of a network on a benchmark, on Y and in RGB.

    Args:
        network: a module that maps N x C x H x W in [0, 1] to N x C x sH x sW, on any device; or the name of a network
            without weights, `bicubic`.
        data: the benchmark's folder as for `safmn evaluate`, or HR images, uint8 H x W x 3 RGB, of which LR is made.
        scale: s.
        channels: "RGB" or "Y", what a module takes; RGB by default.
        protocol: "present" or "legacy", see `safmn.quality.evaluation`.

    Returns:
        The scores of all images; `frame` has them as a data frame, and a notebook shows them as a table.

    Raises:
        UserError: the name is of a network with weights, the data cannot be read, or an image does not fit.
    """
    if isinstance(network, str):
        name, network = network, networks.build(network, scale)
        if any(True for _ in network.parameters()):
            raise UserError(f"{name} has weights: give safmn.networks.load_weights(FILE, {name!r}, {scale})")
        channels = channels or networks.info(name).colour
    pairs = packed.open_pairs(Path(data), scale) if isinstance(data, str | Path) else _Images(data, scale)
    return evaluation.evaluate(network, pairs, scale, channels=channels or "RGB", protocol=protocol)
