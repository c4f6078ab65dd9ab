"""The PSNR that chooses the best weights, against its definition pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from safmn.training.validation import rgb_psnr


class Enlarge(nn.Module):
    """Repeats pixels, times a gain: goes below 0 and above 1, so that clamping matters."""

    def __init__(self, scale: int, gain: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=self.scale) * self.gain + self.offset


def by_definition(lr: np.ndarray, hr: np.ndarray, scale: int, gain: float, offset: float) -> float:
    height, width, _ = hr.shape
    total, count = 0.0, 0
    for y in range(scale, height - scale):
        for x in range(scale, width - scale):
            for c in range(3):
                value = lr[y // scale, x // scale, c] / 255 * gain + offset
                level = round(min(max(value, 0), 1) * 255)
                total += (level - int(hr[y, x, c])) ** 2
                count += 1
    return 10 * math.log10(255**2 / (total / count))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_by_definition(scale):
    generator = np.random.default_rng(scale)
    gain, offset = 1.313, -0.0971  # no value falls between two levels, where float32 and float64 may round apart
    pairs = []
    for height, width in ((5, 7), (6, 4)):
        lr = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        hr = generator.integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)
        pairs.append((lr, hr))
    expected = np.mean([by_definition(lr, hr, scale, gain, offset) for lr, hr in pairs])
    assert rgb_psnr(Enlarge(scale, gain, offset), pairs, scale) == pytest.approx(expected, abs=1e-6)


def test_the_border_does_not_count():
    generator = np.random.default_rng(0)
    lr = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    hr = lr.repeat(4, 0).repeat(4, 1)
    spoilt = hr.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 255, 0, 255
    network = Enlarge(4, 0.9, 0.0)
    assert rgb_psnr(network, [(lr, hr)], 4) == rgb_psnr(network, [(lr, spoilt)], 4)


def test_a_perfect_image_is_finite():
    lr = np.full((4, 4, 3), 7, np.uint8)
    hr = np.full((8, 8, 3), 7, np.uint8)
    assert 100 < rgb_psnr(Enlarge(2, 1.0, 0.0), [(lr, hr)], 2) < math.inf


def test_read_only_images_are_left_alone():
    lr = np.full((4, 4, 3), 7, np.uint8)
    hr = np.full((8, 8, 3), 9, np.uint8)
    for image in (lr, hr):
        image.setflags(write=False)
    rgb_psnr(Enlarge(2, 1.0, 0.0), [(lr, hr)], 2)
    assert (lr == 7).all()
    assert (hr == 9).all()
