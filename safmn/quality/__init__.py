"""Image quality: PSNR and SSIM on Y and in RGB, evaluation on a benchmark, and discrepancies explained."""

from safmn.quality.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y

__all__ = ["psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"]
