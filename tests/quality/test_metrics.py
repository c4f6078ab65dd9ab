"""PSNR and SSIM against scikit-image, and the batched form against the definition in numpy."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from safmn.data import colour
from safmn.errors import UserError
from safmn.quality import batched, evaluation, psnr_rgb, psnr_y, ssim_rgb, ssim_y
from safmn.quality.metrics import psnr_plane, ssim_plane


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth colours with noise: neither flat nor white noise, so that SSIM is neither 1 nor 0."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    smooth = 127 + 90 * np.sin(rows[..., None] / 7 + columns[..., None] / rng.uniform(4, 20, 3) + rng.uniform(0, 6, 3))
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def pair(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    hr = picture(seed, height, width)
    noise = np.random.default_rng(seed + 1).normal(0, 9, hr.shape)
    return np.clip(hr + noise, 0, 255).astype(np.uint8), hr


def as_batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("border", [0, 2, 3, 4])
def test_against_scikit_image(border: int) -> None:
    sr, hr = pair(7, 96, 81)
    inner = (slice(border, 96 - border), slice(border, 81 - border))
    first, second = rgb2ycbcr(sr)[..., 0][inner], rgb2ycbcr(hr)[..., 0][inner]
    assert psnr_y(sr, hr, border) == pytest.approx(peak_signal_noise_ratio(second, first, data_range=255), abs=1e-9)
    theirs = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim_y(sr, hr, border) == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("border", [0, 4])
def test_rgb_against_scikit_image(border: int) -> None:
    sr, hr = pair(17, 70, 83)
    inner = (slice(border, 70 - border), slice(border, 83 - border))
    first, second = sr[inner], hr[inner]
    assert psnr_rgb(sr, hr, border) == pytest.approx(peak_signal_noise_ratio(second, first, data_range=255), abs=1e-9)
    theirs = structural_similarity(
        first.astype(float),
        second.astype(float),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim_rgb(sr, hr, border) == pytest.approx(theirs, abs=1e-10)


def test_rgb_against_the_programs_of_the_challenges() -> None:
    """OpenCV's two-dimensional filter over all channels at once, five pixels cut off, as NTIRE's programs do it."""
    sr, hr = (image[4:-4, 4:-4].astype(np.float64) for image in pair(29, 60, 48))
    line = cv2.getGaussianKernel(11, 1.5)
    window = line @ line.T

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.filter2D(image, -1, window)[5:-5, 5:-5]

    first, second = mean(sr), mean(hr)
    spread = mean(sr**2) - first**2 + mean(hr**2) - second**2
    together = mean(sr * hr) - first * second
    ssim = (
        (2 * first * second + 6.5025) * (2 * together + 58.5225) / (first**2 + second**2 + 6.5025) / (spread + 58.5225)
    )
    assert ssim_rgb(*pair(29, 60, 48), 4) == pytest.approx(float(ssim.mean()), abs=1e-12)
    assert psnr_rgb(*pair(29, 60, 48), 4) == pytest.approx(20 * math.log10(255 / math.sqrt(((sr - hr) ** 2).mean())))


def test_equal_images() -> None:
    image = picture(3, 30, 40)
    assert psnr_y(image, image, 4) == math.inf
    assert ssim_y(image, image, 4) == pytest.approx(1.0, abs=1e-12)
    assert evaluation.measure(as_batch(image), as_batch(image), 4)[0].tolist() == [math.inf]


def test_the_border_is_not_measured() -> None:
    sr, hr = pair(5, 40, 50)
    spoilt = hr.copy()
    spoilt[4:-4, 4:-4] = sr[4:-4, 4:-4]
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 255, 0, 255
    assert psnr_y(spoilt, hr, 4) == psnr_y(sr, hr, 4)
    assert ssim_y(spoilt, hr, 4) == ssim_y(sr, hr, 4)
    assert psnr_y(spoilt, hr, 3) < psnr_y(sr, hr, 3)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 3),
    height=st.integers(19, 40),
    width=st.integers(19, 40),
    border=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.6, 3.0, 40.0, 300.0]),
)
def test_batched_equals_numpy(count: int, height: int, width: int, border: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    sr = np.clip(hr + rng.normal(0, spread, hr.shape), 0, 255).astype(np.uint8)
    psnr, ssim = evaluation.measure(as_batch(*sr), as_batch(*hr), border)
    assert psnr.dtype == ssim.dtype == torch.float64
    np.testing.assert_allclose(psnr, [psnr_y(a, b, border) for a, b in zip(sr, hr, strict=True)], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ssim, [ssim_y(a, b, border) for a, b in zip(sr, hr, strict=True)], rtol=0, atol=1e-8)
    # As evaluation gives them: SR in float32, HR in uint8.
    psnr, ssim = (
        metric(as_batch(*sr).float(), as_batch(*hr), border) for metric in (batched.psnr_rgb, batched.ssim_rgb)
    )
    assert psnr.dtype == ssim.dtype == torch.float64
    np.testing.assert_allclose(psnr, [psnr_rgb(a, b, border) for a, b in zip(sr, hr, strict=True)], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ssim, [ssim_rgb(a, b, border) for a, b in zip(sr, hr, strict=True)], rtol=0, atol=1e-8)


def test_the_two_ways_of_blurring_agree() -> None:
    """OpenCV's on a CPU, torch's elsewhere; the latter runs here on a device that only pretends not to be a CPU."""
    planes = as_batch(picture(3, 40, 31))[0].double()

    class Elsewhere(torch.Tensor):
        is_cpu = False

    torch.testing.assert_close(
        batched._blur(planes),
        batched._blur(planes.as_subclass(Elsewhere)).as_subclass(torch.Tensor),
        rtol=0,
        atol=1e-10,
    )


def test_batched_equals_numpy_on_flat_images() -> None:
    """Variances of zero, where the difference of two large numbers is all that is left."""
    flat, other = np.full((24, 24, 3), 200, np.uint8), np.full((24, 24, 3), 201, np.uint8)
    psnr, ssim = evaluation.measure(as_batch(flat), as_batch(other), 2)
    assert psnr.item() == pytest.approx(psnr_y(flat, other, 2), abs=1e-6)
    assert ssim.item() == pytest.approx(ssim_y(flat, other, 2), abs=1e-8)


@pytest.mark.gpu
def test_batched_equals_numpy_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pairs = [pair(seed, 120, 90) for seed in range(4)]
    sr, hr = (as_batch(*images).cuda() for images in zip(*pairs, strict=True))
    expected = [(psnr_y(a, b, 4), ssim_y(a, b, 4)) for a, b in pairs]
    for metric, values, tolerance in zip(
        evaluation.measure(sr, hr, 4), zip(*expected, strict=True), (1e-6, 1e-8), strict=True
    ):
        np.testing.assert_allclose(metric.cpu(), values, rtol=0, atol=tolerance)


def test_planes_of_three_channels() -> None:
    sr, hr = pair(11, 30, 30)
    expected = peak_signal_noise_ratio(hr, sr, data_range=255)
    assert psnr_plane(sr, hr) == pytest.approx(expected, abs=1e-9)
    assert batched.psnr_planes(as_batch(sr), as_batch(hr)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y, psnr_rgb, ssim_rgb])
def test_bad_input(metric) -> None:
    sr, hr = pair(1, 24, 24)
    with pytest.raises(UserError, match="different size, 23x24 and 24x24"):
        metric(sr[1:], hr, 2)
    with pytest.raises(UserError, match="too small"):
        metric(sr, hr, 12)
    with pytest.raises(UserError, match="too small"):
        metric(sr, hr, -1)
    with pytest.raises(UserError, match="uint8"):
        metric(sr / 255, hr / 255, 2)
    with pytest.raises(UserError, match="RGB"):
        metric(sr[..., 0], hr[..., 0], 2)


def test_psnr_of_a_single_pixel() -> None:
    grey = np.full((3, 3, 3), 100, np.uint8)
    # Y of (r, g, b) is 16 + (65.481 r + 128.553 g + 24.966 b) / 255, so a step of one in grey is 219 / 255 in Y.
    expected = 20 * np.log10(255 / (219 / 255))
    assert psnr_y(grey, grey + np.uint8(1), 1) == pytest.approx(expected, abs=1e-9)


def test_ssim_needs_a_whole_window() -> None:
    sr, hr = pair(2, 18, 30)
    assert ssim_y(sr, hr, 3) < 1
    with pytest.raises(UserError, match="11 pixels"):
        ssim_y(sr, hr, 4)
    with pytest.raises(UserError, match="11 pixels"):
        evaluation.measure(as_batch(sr), as_batch(hr), 4)
    with pytest.raises(UserError, match="11 pixels"):
        ssim_plane(np.zeros((10, 11)), np.zeros((10, 11)))


# --- Colour ----------------------------------------------------------------------------------------------------------


def test_colours_as_matlab_documents_them() -> None:
    """Known values of `rgb2ycbcr` for uint8: black, white, red, green, blue."""
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    expected = [[16, 128, 128], [235, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110]]
    assert colour.ycbcr_uint8(rgb)[0].tolist() == expected
    assert colour.luma_uint8(rgb)[0].tolist() == [row[0] for row in expected]


def test_luma_against_scikit_image() -> None:
    image = picture(4, 50, 60)
    np.testing.assert_allclose(colour.luma(image), rgb2ycbcr(image)[..., 0], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(colour.luma_batch(as_batch(image))[0].numpy().round(9), colour.luma(image).round(9))


def test_colours_come_back() -> None:
    """Rounded YCbCr keeps every RGB value to 2: its three channels have fewer than 256 levels."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    back = colour.rgb_uint8(colour.ycbcr_uint8(image))
    assert np.abs(back.astype(int) - image).max() <= 2


def test_rounding_is_half_up_and_clamped() -> None:
    assert colour.round_uint8(np.array([-3.0, 0.5, 1.5, 2.49, 254.5, 300.0])).tolist() == [0, 1, 2, 2, 255, 255]
