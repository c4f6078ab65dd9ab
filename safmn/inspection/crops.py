"""A network's picture of a scene and how good it is: Figure 6."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from safmn.data import colour
from safmn.inspection.scenes import Scene
from safmn.quality import evaluation, metrics


@dataclass(frozen=True)
class Crop:
    """The square of a scene as a network enlarges it.

    Attributes:
        sr: uint8 size x size x 3 RGB.
        psnr: of the whole image on Y in dB, as `safmn evaluate` gives it.
        psnr_crop: of the square alone, without any border.
    """

    sr: NDArray[np.uint8]
    psnr: float
    psnr_crop: float


def enlarge(network: nn.Module, scene: Scene, channels: str = "RGB") -> Crop:
    """Enlarge the whole image, since a network may look at all of it, and keep the scene's square."""
    score = evaluation.evaluate(network, scene.pairs, scene.scale, channels=channels)
    sr = scene.crop.of(evaluation.super_resolve(network, scene.lr, channels))
    psnr_crop = metrics.psnr_plane(colour.luma(sr), colour.luma(scene.crop.of(scene.hr)))
    return Crop(np.ascontiguousarray(sr), score.psnr, psnr_crop)
