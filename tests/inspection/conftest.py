"""A benchmark of one small image with texture, and scenes in it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from safmn.data import bicubic, images
from safmn.inspection.scenes import Scene, open_scene


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory) -> Path:
    """Two images at x2 and x4 in EDSR's layout: `plain`, grey, and `textured`, stripes in the middle of grey."""
    folder = tmp_path_factory.mktemp("data") / "Small"
    rng = np.random.default_rng(0)
    plain = np.full((128, 160, 3), 100, np.uint8)
    textured = plain.copy()
    textured[56:104, 72:120] = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for name, hr in (("plain", plain), ("textured", textured)):
        images.write(folder / "HR" / f"{name}.png", hr)
        for scale in (2, 4):
            images.write(folder / "LR_bicubic" / f"X{scale}" / f"{name}x{scale}.png", bicubic.downscale(hr, scale))
    return folder


@pytest.fixture
def scene(benchmark) -> Callable[..., Scene]:
    """Opens a scene of the benchmark: a square of 48 HR pixels upon the texture."""

    def opened(image: str = "textured", scale: int = 4, corner=(72, 56), size: int = 48) -> Scene:
        return open_scene(benchmark, scale, image, corner, size)

    return opened
