"""`safmn.quality.evaluate`: evaluation as one call."""

import numpy as np
import pytest
from torch import nn

import safmn
from safmn.data import bicubic, packed
from safmn.errors import UserError
from safmn.networks import build
from safmn.quality import evaluation, psnr_y


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_in_memory_are_measured_as_files_are() -> None:
    hr = image(50, 63)
    scores = safmn.quality.evaluate("bicubic", [hr], 4)
    inside = hr[:48, :60]
    lr = bicubic.downscale(inside, 4)
    assert scores.psnr == pytest.approx(psnr_y(evaluation.super_resolve(build("bicubic", 4), lr), inside, 4), abs=1e-6)
    assert list(scores.frame) == ["image", *scores.measured]
    assert f"{scores.psnr:.3f}" in scores._repr_html_()


def test_a_folder_gives_what_the_command_gives(datasets) -> None:
    expected = evaluation.evaluate(build("bicubic", 4), packed.open_pairs(datasets / "Set5", 4), 4)
    assert safmn.quality.evaluate("bicubic", datasets / "Set5", 4) == expected


def test_a_module_of_ones_own() -> None:
    nearest = nn.Upsample(scale_factor=2, mode="nearest")
    hr = np.kron(image(12, 15), np.ones((2, 2, 1), np.uint8))
    assert safmn.quality.evaluate(nearest, [hr], 2).psnr > 10
    with pytest.raises(UserError, match="it is not an x3"):
        safmn.quality.evaluate(nearest, [hr], 3)


def test_a_name_alone_has_no_weights() -> None:
    with pytest.raises(UserError, match="load_weights"):
        safmn.quality.evaluate("safmn", [image(48, 48)], 4)
