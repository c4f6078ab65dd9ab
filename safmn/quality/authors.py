"""How some authors measured their own network, where that is neither of the two protocols.

SMSR's code crops LR to even sides before the network sees it, and takes SSIM on Y = (65.738 R + 129.057 G +
25.064 B) / 255 + 16, weights that belong to a division by 256: Y then runs to 235.9. Its PSNR divides by 256. Border of
`scale` pixels cropped, SR rounded to uint8, as everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
        text: what it does otherwise.
    """

    measure: Callable[[nn.Module, evaluation.Pairs, int], evaluation.Evaluation]
    text: str


def even(image: NDArray) -> NDArray:
    """Cropped at the bottom and right to even sides."""
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def smsr_luma(image: NDArray, divisor: float) -> NDArray[np.float64]:
    """The Y of SMSR's code of an H x W x 3 RGB image with values in [0, 255]: divided by 256 for PSNR, 255 for SSIM."""
    return image.astype(np.float64) @ np.array(WEIGHTS) / divisor + 16.0


def _smsr(network: nn.Module, pairs: evaluation.Pairs, scale: int) -> evaluation.Evaluation:
    scores = []
    for index, name in enumerate(pairs.names):
        lr = even(pairs.lr(index))
        sr = evaluation.super_resolve(network, lr)
        hr = pairs.hr(index)[: lr.shape[0] * scale, : lr.shape[1] * scale]
        for_psnr, for_ssim = (
            [torch.from_numpy(smsr_luma(image, divisor))[None] for image in (sr, hr)] for divisor in (256.0, 255.0)
        )
        psnr, ssim = batched.psnr_planes(*for_psnr, scale), batched.ssim_planes(*for_ssim, scale)
        scores.append(evaluation.Score(name, float(psnr), float(ssim)))
    return evaluation.Evaluation(tuple(scores))


METRICS = {
    "smsr": Metric(_smsr, "LR cropped to even sides, SSIM on Y = (65.738 R + 129.057 G + 25.064 B) / 255 + 16"),
}
"""Network -> its authors' metric."""
