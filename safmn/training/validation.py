"""The choice of the best weights: RGB PSNR on validation images, a border of `scale` pixels left out.

For a network of colour Y too, so that its curve can be compared: its picture gets Cb and Cr as in evaluation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from safmn.data import colour


@torch.no_grad()
def rgb_psnr(network: nn.Module, pairs: Sequence[tuple[np.ndarray, np.ndarray]], scale: int) -> float:
    """Return the mean over images of the PSNR in dB over all three channels, after clamping and rounding to 8 bits.

    Args:
        network: in eval mode.
        pairs: (LR, HR) uint8 images, H x W x 3 and sH x sW x 3.
        scale: s; also the width of the border that is left out.
    """
    device = next(network.parameters()).device
    values = [_psnr(network(_batch(lr, device) / 255), _batch(hr, device), scale) for lr, hr in pairs]
    return float(torch.stack(values).mean())


@torch.no_grad()
def rgb_psnr_of_luma(network: nn.Module, pairs: Sequence[tuple[np.ndarray, np.ndarray]], scale: int) -> float:
    """Return what `rgb_psnr` does, for a network that enlarges Y alone: Cb and Cr of LR are enlarged bicubically."""
    device = next(network.parameters()).device
    values = []
    for lr, hr in pairs:
        plane = torch.from_numpy(colour.luma(lr))[None, None].to(device, torch.float32)
        sr = network(plane / 255).clamp(0, 1).mul(255).round()
        picture = colour.coloured(sr[0, 0].cpu().numpy(), lr)
        values.append(_psnr(_batch(picture, device) / 255, _batch(hr, device), scale))
    return float(torch.stack(values).mean())


def is_best(psnr: float, best: float | None) -> bool:
    """Return whether weights are the new best; of equal PSNR the later ones are, as in the authors' trainer."""
    return best is None or psnr >= best


def _batch(image: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()


def _psnr(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """Return the PSNR in dB of one image: `sr` in [0, 1], `hr` in 0-255, both 1 x 3 x H x W."""
    rounded = sr.clamp(0, 1).mul(255).round()
    inside = slice(border, -border)
    error = (rounded - hr)[..., inside, inside].double().square().mean()
    return 10 * torch.log10(255.0**2 / error.clamp_min(1e-10))
