"""Image quality: PSNR and SSIM on Y, the evaluation of a network on a benchmark, and discrepancies explained."""

from safmn.quality.metrics import psnr_y, ssim_y

__all__ = ["psnr_y", "ssim_y"]
