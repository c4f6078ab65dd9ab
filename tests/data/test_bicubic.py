"""The bicubic against published LR files, against MATLAB's definition written as loops, and against PyTorch's."""

from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safmn.data import bicubic, images

from .pictures import picture


def published(datasets: Path, name: str, scale: int) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for hr in sorted((datasets / name / "HR").glob("*.png")):
        lr = datasets / name / "LR_bicubic" / f"X{scale}" / f"{hr.stem}x{scale}.png"
        found.append((images.read(hr), images.read(lr)))
    return found


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "border", "count"), [("Set5", "symmetric", 5), ("Set14", "symmetric", 14)])
def test_lr_files_are_reproduced_bit_for_bit(datasets, name, border, count, scale):
    found = published(datasets, name, scale)
    assert len(found) == count
    for hr, lr in found:
        np.testing.assert_array_equal(bicubic.downscale(hr, scale, border), lr)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_b100_files_are_reproduced_with_a_clamped_border_and_differ_in_a_rim_with_a_symmetric_one(datasets, scale):
    found = published(datasets, "B100", scale)
    assert len(found) == 100
    differ = 0
    for hr, lr in found:
        np.testing.assert_array_equal(bicubic.downscale(hr, scale, "clamped"), lr)
        symmetric = bicubic.downscale(hr, scale)
        differ += not np.array_equal(symmetric, lr)
        np.testing.assert_array_equal(symmetric[3:-3, 3:-3], lr[3:-3, 3:-3])
    assert differ > 50


@pytest.mark.parametrize(("scale", "expected"), [(2, 33.678), (3, 30.404), (4, 28.431)])
def test_enlarged_lr_files_have_the_known_psnr(datasets, scale, expected):
    """The known values are of an enlargement that is rounded once, at the end; rounding twice costs up to 0.005 dB."""

    def luma(image):
        return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16

    values = []
    for hr, lr in published(datasets, "Set5", scale):
        hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
        error = (luma(bicubic.upscale(lr, scale)) - luma(hr))[scale:-scale, scale:-scale]
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert np.mean(values) == pytest.approx(expected, abs=5e-3)


# --- the definition, as MATLAB's imresize.m has it: loops, exact fractions, indices from 1 ---


def kernel(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x <= 2:
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def resize_line(line: list[int], scale: Fraction, border: str) -> list[int]:
    length = len(line)
    shrink = min(scale, Fraction(1))
    width = 4 / shrink
    result = []
    for x in range(1, ceil(length * scale) + 1):
        u = x / scale + Fraction(1, 2) * (1 - 1 / scale)
        left = floor(u - width / 2)
        weights, values = [], []
        for index in range(left, left + ceil(width) + 2):
            weights.append(shrink * kernel(shrink * (u - index)))
            if border == "symmetric":
                mirrored = [*range(1, length + 1), *range(length, 0, -1)]
                values.append(line[mirrored[(index - 1) % (2 * length)] - 1])
            else:
                values.append(line[min(max(index, 1), length) - 1])
        value = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
        result.append(min(max(floor(value + Fraction(1, 2)), 0), 255))
    return result


def resize_grey(image: np.ndarray, scale: Fraction, border: str) -> np.ndarray:
    rows = np.array([resize_line(column.tolist(), scale, border) for column in image.T]).T
    return np.array([resize_line(row.tolist(), scale, border) for row in rows])


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    factor=st.sampled_from([Fraction(*f) for f in [(1, 2), (1, 3), (1, 4), (2, 1), (3, 1), (4, 1), (2, 3), (4, 3)]]),
    border=st.sampled_from(["symmetric", "clamped"]),
    extreme=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_resize_is_the_definition(shape, factor, border, extreme, seed):
    grey = picture(*shape, seed)[..., 0]
    if extreme:  # over- and undershoot must clip
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(bicubic.resize(grey, factor, border), resize_grey(grey, factor, border))


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.sampled_from([2, 3, 4]), st.integers(0, 99))
def test_flips_commute_and_channels_do_not_mix(blocks, scale, seed):
    image = picture(blocks[0] * scale, blocks[1] * scale, seed)
    small, large = bicubic.downscale(image, scale), bicubic.upscale(image, scale)
    np.testing.assert_array_equal(bicubic.downscale(image[::-1, ::-1], scale), small[::-1, ::-1])
    np.testing.assert_array_equal(bicubic.upscale(image[::-1, ::-1], scale), large[::-1, ::-1])
    np.testing.assert_array_equal(bicubic.downscale(image[..., 1], scale), small[..., 1])


@pytest.mark.parametrize("shape", [(8, 8), (9, 10), (11, 11, 3), (4, 7, 1)])
def test_sizes_are_cropped_to_a_multiple_first(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    small = bicubic.downscale(image, 4)
    assert small.shape == (shape[0] // 4, shape[1] // 4, *shape[2:])
    np.testing.assert_array_equal(small, bicubic.downscale(image[: shape[0] // 4 * 4, : shape[1] // 4 * 4], 4))
    assert bicubic.upscale(image, 3).shape == (shape[0] * 3, shape[1] * 3, *shape[2:])


def test_input_is_left_as_it_was_and_scale_one_changes_nothing():
    image = picture(12, 12)
    copy = image.copy()
    np.testing.assert_array_equal(bicubic.downscale(image, 1), image)
    bicubic.downscale(image, 3)
    np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize(
    ("image", "scale"),
    [
        (np.zeros((8, 8, 3), np.float32), 2),
        (np.zeros((8, 8, 3), np.uint16), 2),
        (np.zeros((0, 8), np.uint8), 2),
        (np.zeros(8, np.uint8), 2),
        (np.zeros((3, 8), np.uint8), 4),
        (np.zeros((8, 8), np.uint8), 0),
        (np.zeros((8, 8), np.uint8), 2.0),
    ],
)
def test_what_is_no_image_or_no_scale_is_refused(image, scale):
    with pytest.raises(ValueError, match=r"uint8|cannot be reduced|scale"):
        bicubic.downscale(image, scale)


def test_unknown_border_and_factor_are_refused():
    with pytest.raises(ValueError, match="border"):
        bicubic.downscale(np.zeros((8, 8), np.uint8), 2, "wrapped")
    with pytest.raises(ValueError, match="factor"):
        bicubic.resize(np.zeros((8, 8), np.uint8), Fraction(1, 1000))
