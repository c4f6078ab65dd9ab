"""The figures of image quality that an evaluation may give, which are also the columns of its CSV behind `image`."""

FIGURES = ("psnr", "ssim", "psnr_rgb", "ssim_rgb", "lpips")
"""PSNR in dB and SSIM on Y, the same in RGB, and LPIPS. The last is optional; an old file has the first two alone."""
