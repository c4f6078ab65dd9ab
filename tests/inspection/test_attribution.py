"""Attribution maps against axioms, analytic integrals and known receptive fields; the Gini coefficient by pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.inspection import attribution
from safmn.inspection.scenes import Square, open_scene


def gini_of_pairs(values) -> float:
    """The definition: the mean absolute difference of all n² pairs, halved and relative to the mean."""
    values = np.asarray(values, dtype=np.float64)
    return float(np.abs(values[:, None] - values[None]).mean() / (2 * values.mean()))


# --- Gini coefficient and diffusion index ----------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(lambda each: sum(each) > 1e-3))
@settings(max_examples=200, deadline=None)
def test_gini_is_the_mean_difference_of_all_pairs(values):
    assert attribution.gini(values) == pytest.approx(gini_of_pairs(values), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5, 5, 5, 5], 0.0), ([0, 0, 0, 7], 0.75), ([1, 3], 0.25), ([1, 2, 3, 4, 5], 4 / 15), ([0, 1, 1], 1 / 3)],
)
def test_gini_of_known_vectors(values, expected):
    assert attribution.gini(values) == pytest.approx(expected)


def test_gini_of_nothing_is_not_defined():
    assert math.isnan(attribution.gini([0.0, 0.0]))


def test_the_diffusion_index_takes_absolute_values_from_0_to_100():
    one = np.zeros((10, 10))
    one[3, 4] = -2.0
    assert attribution.diffusion_index(one) == pytest.approx(1.0)  # 1 of 100 pixels
    alike = np.where(np.indices((10, 10)).sum(0) % 2, -1.0, 1.0)
    assert attribution.diffusion_index(alike) == pytest.approx(100.0)


# --- detector and path -----------------------------------------------------------------------------------------------


def test_the_detector_sums_gradient_magnitudes_in_the_window():
    sr = torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(0))
    window = Square(2, 3, 4)
    expected = [0.0, 0.0]
    for image in range(2):
        for channel in range(3):
            for row in range(3, 7):
                for column in range(2, 6):
                    here = sr[image, channel, row, column].item()
                    down = sr[image, channel, row + 1, column].item() - here
                    right = sr[image, channel, row, column + 1].item() - here
                    expected[image] += math.hypot(down, right)
    assert attribution.detector(sr, window).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_detector_can_be_derived_where_sr_is_flat():
    flat = torch.full((1, 1, 6, 6), 0.5, requires_grad=True)
    attribution.detector(flat, Square(1, 1, 4)).sum().backward()
    assert torch.equal(flat.grad, torch.zeros_like(flat))


@pytest.mark.parametrize("sigma", [0.4, 1.2])
def test_the_blur_is_a_gaussian_with_mirrored_borders(sigma):
    image = np.random.default_rng(0).random((2, 12, 15))
    reach = 5  # ceil(4 * 1.2)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    expected = np.zeros_like(image)
    for row in range(12):
        for column in range(15):
            part = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            expected[:, row, column] = (part * kernel).sum((1, 2))
    np.testing.assert_allclose(attribution.blurred(image, sigma, 1.2), expected, atol=1e-12)


def test_the_path_ends_in_the_image_itself():
    image = np.random.default_rng(0).random((3, 8, 8))
    np.testing.assert_array_equal(attribution.blurred(image, 0.0, 1.2), image)


# --- path integral ---------------------------------------------------------------------------------------------------


def test_of_a_sum_over_pixels_each_gets_its_own_difference():
    """f = sum g(x_i) leaves no choice: whatever the path, the integral is g at its end minus g at its start."""
    image = np.random.default_rng(1).random((3, 10, 10))
    start = attribution.blurred(image, 1.2, 1.2)

    def g(x):
        return x**3 + np.sin(4 * x)

    for steps, tolerance in ((64, 2e-3), (256, 1.5e-4)):
        found = attribution.path_integral(
            lambda points: (points**3 + torch.sin(4 * points)).sum((1, 2, 3)),
            lambda at: attribution.blurred(image, (1 - at) * 1.2, 1.2),
            steps,
        )
        np.testing.assert_allclose(found, g(image) - g(start), atol=tolerance)


def test_the_error_falls_with_the_square_of_the_steps():
    """Completeness, for a smooth function of interacting pixels and a straight path."""
    rng = np.random.default_rng(2)
    start, end = rng.random((2, 1, 6, 6))
    weights = torch.from_numpy(rng.normal(size=(36, 36))).float()

    def function(points):
        return torch.tanh(points.flatten(1) @ weights).square().sum(1)

    asked = np.diff(function(torch.from_numpy(np.stack([start, end])).float()).numpy())[0]
    gaps = []
    for steps in (2, 4, 8):
        found = attribution.path_integral(function, lambda at: start + at * (end - start), steps * 4)
        gaps.append(abs(found.sum() - asked))
    assert gaps[1] < gaps[0] / 2.5
    assert gaps[2] < gaps[1] / 2.5
    assert gaps[2] < 0.01 * abs(asked)


@pytest.mark.parametrize("name", ["safmn", "imdn", "espcn"])
def test_the_map_of_a_network_is_complete(scene, name):
    """The contributions add up to what the texture in LR adds to the detector; a Y network included."""
    torch.manual_seed(0)
    network = networks.build(name, 4).eval()
    found = attribution.attribute(network, scene(), networks.info(name).colour, window=8, steps=24)
    assert found.detector > found.baseline > 0
    assert found.gap < 0.02
    assert found.map.shape == found.lr.shape[:2]


# --- what cannot contribute ------------------------------------------------------------------------------------------


class TwoLayers(nn.Module):
    """x2 whose every SR pixel sees 5 x 5 LR pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, x):
        return self.body(x)


def test_pixels_outside_the_receptive_field_get_exactly_nothing(scene):
    torch.manual_seed(0)
    found = attribution.attribute(TwoLayers().eval(), scene(scale=2), window=8, steps=4)
    window = found.window
    # SR pixels top .. top + 8 (the difference takes one more) lie in LR pixels // 2; two layers reach 2 further.
    rows = range(window.top // 2 - 2, (window.top + 8) // 2 + 3)
    columns = range(window.left // 2 - 2, (window.left + 8) // 2 + 3)
    inside = np.zeros(found.map.shape, bool)
    inside[rows.start : rows.stop, columns.start : columns.stop] = True
    assert (found.map[~inside] == 0).all()
    for line in (found.map[rows.start, columns], found.map[rows.stop - 1, columns]):
        assert np.abs(line).max() > 0  # the field is not smaller, either
    for line in (found.map[rows, columns.start], found.map[rows, columns.stop - 1]):
        assert np.abs(line).max() > 0


def test_bicubic_uses_the_pixels_of_its_kernel_only(scene):
    found = attribution.attribute(networks.build("bicubic", 4), scene(), window=8, steps=4)
    top, left = found.window.top, found.window.left
    rows = [math.floor((row + 0.5) / 4 - 0.5) + tap for row in range(top, top + 9) for tap in (-1, 0, 1, 2)]
    columns = [math.floor((each + 0.5) / 4 - 0.5) + tap for each in range(left, left + 9) for tap in (-1, 0, 1, 2)]
    inside = np.zeros(found.map.shape, bool)
    inside[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1] = True
    assert (found.map[~inside] == 0).all()
    assert np.abs(found.map[inside]).min() > 0


def test_an_image_without_texture_has_no_index(scene):
    found = attribution.attribute(networks.build("bicubic", 4), scene("plain"), window=8, steps=2)
    assert not found.map.any()
    assert math.isnan(found.diffusion_index)


def test_published_networks_stand_in_the_order_of_what_they_see(datasets, checkpoints):
    """Bicubic's kernel, CARN-M's convolutions, IMDN's contrast-aware attention over the whole image."""
    scene = open_scene(datasets / "Set14", 4, "barbara")
    indices = []
    for name, file in (("bicubic", None), ("carn_m", "carn_m.pth"), ("imdn", "IMDN_x4.pth")):
        network = networks.build(name, 4) if file is None else networks.load_weights(checkpoints / file, name, 4)
        found = attribution.attribute(network.eval(), scene, patch=40, steps=8)
        assert found.gap < 0.05
        indices.append(found.diffusion_index)
    assert indices == sorted(indices)
    assert indices[2] > 2 * indices[1]


@pytest.mark.parametrize(
    ("corner", "size", "window", "patch"),
    [((72, 56), 24, 24, 4), ((72, 56), 24, 32, 24), ((6, 6), 96, 32, 8)],
    ids=["wider than the patch", "wider than the crop", "beyond the patch's first pixels"],
)
def test_a_window_that_does_not_fit_is_refused(scene, corner, size, window, patch):
    with pytest.raises(UserError, match="does not fit"):
        attribution.attribute(networks.build("bicubic", 4), scene(corner=corner, size=size), window=window, patch=patch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_map(scene):
    torch.manual_seed(0)
    network = networks.build("safmn", 4).eval()
    on_cpu = attribution.attribute(network, scene(), steps=4)
    on_gpu = attribution.attribute(network.cuda(), scene(), steps=4)
    np.testing.assert_allclose(on_gpu.map, on_cpu.map, atol=1e-3 * np.abs(on_cpu.map).max())
    assert on_gpu.diffusion_index == pytest.approx(on_cpu.diffusion_index, rel=0.01)
