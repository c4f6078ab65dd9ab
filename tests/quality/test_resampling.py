"""Others' bicubic reductions: MATLAB's in double precision, OpenCV's, Pillow's."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from safmn import networks
from safmn.data import bicubic, images
from safmn.quality import resampling


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rounded_once_or_twice(datasets, scale: int) -> None:
    """The two paths differ in 11-15 % of the values, by at most 2."""
    hr = images.read(datasets / "Set5" / "HR" / "baby.png")
    hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
    once, twice = resampling.matlab_once(hr, 1 / scale), bicubic.downscale(hr, scale)
    difference = np.abs(once.astype(int) - twice)
    assert difference.max() <= 2
    assert 0.05 < np.mean(difference > 0) < 0.2


def test_enlargement_is_the_bicubic_network() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (20, 31), dtype=np.uint8)
    network = networks.build("bicubic", 4)
    theirs = network(torch.from_numpy(plane)[None, None].double())[0, 0].numpy()
    ours = resampling.matlab_once(plane, 4)
    assert ours.shape == (80, 124)
    assert np.abs(ours - np.clip(theirs, 0, 255)).max() <= 0.5 + 1e-9


def test_size_is_rounded_up() -> None:
    image = np.zeros((21, 22, 3), np.uint8)
    assert resampling.matlab_once(image, 1 / 4).shape == bicubic.resize(image, Fraction(1, 4)).shape == (6, 6, 3)


def test_pillow_is_matlab_inside_and_opencv_is_not(datasets) -> None:
    """Pillow has MATLAB's kernel and rounds after each pass; it treats the border in its own way. OpenCV aliases."""
    hr = images.read(datasets / "Set5" / "HR" / "butterfly.png")
    matlab = bicubic.downscale(hr, 4).astype(int)
    inner = (slice(3, -3), slice(3, -3))
    assert np.abs(resampling.pillow(hr, 4) - matlab)[inner].max() <= 1
    assert np.abs(resampling.opencv(hr, 4) - matlab)[inner].max() > 20


def test_opencv_area_is_a_block_mean() -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    blocks = image.reshape(8, 4, 12, 4, 3).mean((1, 3))
    assert np.abs(resampling.opencv_area(image, 4) - blocks).max() <= 0.5
