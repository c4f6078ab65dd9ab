"""How the best weights are chosen: RGB PSNR on validation images, border of `scale` pixels cropped."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def rgb_psnr(network: nn.Module, pairs: Sequence[tuple[np.ndarray, np.ndarray]], scale: int) -> float:
    """Mean over images of the PSNR in dB of all three channels, after clamping and rounding to 8 bits.

    Args:
        network: in eval mode.
        pairs: (LR, HR) uint8 images, H x W x 3 and sH x sW x 3.
        scale: s, also the border that is left out.
    """
    device = next(network.parameters()).device
    values = [_psnr(network(_batch(lr, device) / 255), _batch(hr, device), scale) for lr, hr in pairs]
    return float(torch.stack(values).mean())


def is_best(psnr: float, best: float | None) -> bool:
    """Whether weights are kept as best: of equal PSNR the later ones are, as with the authors' trainer."""
    return best is None or psnr >= best


def _batch(image: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()


def _psnr(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """PSNR in dB of one image: `sr` in [0, 1], `hr` in 0-255, both 1 x 3 x H x W."""
    rounded = sr.clamp(0, 1).mul(255).round()
    inside = slice(border, -border)
    error = (rounded - hr)[..., inside, inside].double().square().mean()
    return 10 * torch.log10(255.0**2 / error.clamp_min(1e-10))
