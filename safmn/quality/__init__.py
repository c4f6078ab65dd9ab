"""Image quality: PSNR and SSIM on Y and in RGB, evaluation on a benchmark, and discrepancies explained."""

from typing import Any

from safmn import lazy
from safmn.quality.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y

__all__ = ["psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"]


def __getattr__(name: str) -> Any:
    """Import torch only where it is needed: `evaluate` (see `safmn.quality.notebook`) and the modules."""
    return lazy.submodule(__name__, "notebook").evaluate if name == "evaluate" else lazy.submodule(__name__, name)
