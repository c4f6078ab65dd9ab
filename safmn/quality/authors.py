"""How some authors measured their own network, where that is neither of the two protocols.

SMSR's code crops LR to even sides before the network gets it, and takes SSIM on Y = (65.738 R + 129.057 G +
25.064 B) / 255 + 16. These weights belong to a division by 256: Y then runs to 235.9. Its PSNR divides by 256. A border
of `scale` pixels is cropped and SR rounded to uint8, as everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from safmn.quality import batched, evaluation

WEIGHTS = (65.738, 129.057, 25.064)


@dataclass(frozen=True)
class Metric:
    """An authors' own way to measure.

    Attributes:
        measure: (network, pairs, scale) -> the images' scores.
        text: how it differs from the protocol.
    """

    measure: Callable[[nn.Module, evaluation.Pairs, int], evaluation.Evaluation]
    text: str


def even(image: NDArray[Any]) -> NDArray[Any]:
    """Crop H x W (x C) at the bottom and right to even sides."""
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def smsr_luma(image: NDArray[Any], divisor: float) -> NDArray[np.float64]:
    """Compute the Y of SMSR's code of an H x W x 3 RGB image in [0, 255]; it divides by 256 for PSNR, 255 for SSIM."""
    luma: NDArray[np.float64] = image.astype(np.float64) @ np.array(WEIGHTS) / divisor + 16.0
    return luma


def _smsr(network: nn.Module, pairs: evaluation.Pairs, scale: int) -> evaluation.Evaluation:
    scores = []
    for index, name in enumerate(pairs.names):
        lr = even(pairs.lr(index))
        sr = evaluation.super_resolve(network, lr)
        hr = pairs.hr(index)[: lr.shape[0] * scale, : lr.shape[1] * scale]
        psnr = batched.psnr_planes(_plane(sr, 256.0), _plane(hr, 256.0), scale)
        ssim = batched.ssim_planes(_plane(sr, 255.0), _plane(hr, 255.0), scale)
        scores.append(evaluation.Score(name, float(psnr), float(ssim)))
    return evaluation.Evaluation(tuple(scores))


def _plane(image: NDArray[np.uint8], divisor: float) -> torch.Tensor:
    return torch.from_numpy(smsr_luma(image, divisor))[None]


METRICS = {
    "smsr": Metric(_smsr, "LR cropped to even sides, SSIM on Y = (65.738 R + 129.057 G + 25.064 B) / 255 + 16"),
}
"""Network -> its authors' metric."""
