"""HR and LR that do not belong together are noticed; those that others' kernels or noise made are not accused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from safmn.data import agreement, bicubic, images, packed, pairs

from .pictures import find
from .test_layouts import scene

SCALES = (2, 3, 4)


def noise(lr: np.ndarray, deviation: float) -> np.ndarray:
    drawn = np.random.default_rng(7).normal(0, deviation, lr.shape)
    return np.clip(lr + drawn, 0, 255).round().astype(np.uint8)


def jpeg(lr: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", lr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def resized(interpolation: int):
    return lambda hr, scale: cv2.resize(hr, (hr.shape[1] // scale, hr.shape[0] // scale), interpolation=interpolation)


def pillow(kind: Image.Resampling):
    return lambda hr, scale: np.asarray(Image.fromarray(hr).resize((hr.shape[1] // scale, hr.shape[0] // scale), kind))


MADE = {
    "MATLAB": bicubic.downscale,
    "MATLAB, clamped": lambda hr, scale: bicubic.downscale(hr, scale, "clamped"),
    "Pillow bicubic": pillow(Image.Resampling.BICUBIC),
    "Pillow Lanczos": pillow(Image.Resampling.LANCZOS),
    "Pillow box": pillow(Image.Resampling.BOX),
    "OpenCV bicubic": resized(cv2.INTER_CUBIC),
    "OpenCV area": resized(cv2.INTER_AREA),
    "OpenCV linear": resized(cv2.INTER_LINEAR),
    "OpenCV Lanczos": resized(cv2.INTER_LANCZOS4),
    "blur, every s-th": lambda hr, scale: cv2.GaussianBlur(hr, (0, 0), 1.6)[::scale, ::scale],
    "blur, the middle one": lambda hr, scale: cv2.GaussianBlur(hr, (0, 0), 1.6)[
        scale // 2 :: scale, scale // 2 :: scale
    ],
    "JPEG": lambda hr, scale: jpeg(bicubic.downscale(hr, scale), 50),
    "noise": lambda hr, scale: noise(bicubic.downscale(hr, scale), 25),
    "strong noise": lambda hr, scale: noise(bicubic.downscale(hr, scale), 40),
}

WRONG = {
    "mirrored": (lambda lr: lr[:, ::-1], "mirrored"),
    "upside down": (lambda lr: lr[::-1], "upside down"),
    "turned": (lambda lr: lr[::-1, ::-1], "turned by 180"),
    "to the right": (lambda lr: np.roll(lr, 1, 1), "by 0 pixels down and 1 to the right"),
    "down": (lambda lr: np.roll(lr, 1, 0), "by 1 pixels down and 0 to the right"),
    "up and left": (lambda lr: np.roll(lr, (-1, -2), (0, 1)), "by -1 pixels down and -2 to the right"),
    "noisy and mirrored": (lambda lr: noise(lr[:, ::-1], 20), "mirrored"),
    "blue first": (lambda lr: lr[..., ::-1], "red and blue"),
    "brighter": (lambda lr: np.clip(lr.astype(int) + 30, 0, 255).astype(np.uint8), "brighter"),
    "negative": (lambda lr: 255 - lr, "another picture"),
}


def hr_of(scale: int, seed: int = 0) -> np.ndarray:
    picture = scene(seed, 48 * scale, 64 * scale)
    picture[..., 2] = picture[..., 2] // 2  # not grey
    return picture


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", MADE)
def test_known_reductions_are_not_doubted(name: str, scale: int) -> None:
    for seed in range(4):
        hr = np.ascontiguousarray(hr_of(scale, seed))
        found = agreement.compare(np.ascontiguousarray(MADE[name](hr, scale)), hr, scale)
        assert found.doubt == ""
        assert found.correlation > agreement.DOUBTFUL


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", WRONG)
def test_what_was_done_to_lr_is_named(name: str, scale: int) -> None:
    change, words = WRONG[name]
    for seed in range(4):
        hr = hr_of(scale, seed)
        assert words in agreement.compare(change(bicubic.downscale(hr, scale)), hr, scale).doubt


@pytest.mark.parametrize("scale", SCALES)
def test_swapped_and_transposed(scale: int) -> None:
    first, second = (scene(seed, 60 * scale, 60 * scale) for seed in (1, 2))
    assert "another picture" in agreement.compare(bicubic.downscale(second, scale), first, scale).doubt
    turned = np.ascontiguousarray(bicubic.downscale(first, scale).swapaxes(0, 1))
    assert "transposed" in agreement.compare(turned, first, scale).doubt


def test_nothing_is_said_of_what_shows_nothing() -> None:
    """Flat pictures, and those of a few pixels."""
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert agreement.compare(flat[:16, :16], flat, 4) == agreement.Agreement(None)
    assert agreement.compare(scene(1)[:5, :9], scene(2), 4) == agreement.Agreement(None)
    assert "darker" in agreement.compare(flat[:16, :16] // 2, flat, 4).doubt


@pytest.mark.parametrize(("dataset", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("Set14", 4), ("B100", 4)])
def test_published_lr_files_belong_to_their_hr(datasets, dataset: str, scale: int) -> None:
    found = find(datasets / dataset, scale)[:20]
    loaded = [pairs.load(pair, scale) for pair in found]
    assert [each.doubt for each in loaded] == [""] * len(found)
    for first, second in zip(loaded, loaded[1:] + loaded[:1], strict=True):
        height, width = first.lr.shape[:2]
        other = cv2.resize(second.lr, (width, height), interpolation=cv2.INTER_AREA)
        for wrong in (other, first.lr[:, ::-1], np.roll(first.lr, 1, 0), np.roll(first.lr, 1, 1)):
            assert agreement.compare(np.ascontiguousarray(wrong), first.hr, scale).doubt


def test_pairs_carry_the_doubt(tmp_path) -> None:
    for seed, name in enumerate("ab"):
        images.write(tmp_path / "HR" / f"{name}.png", hr_of(2, seed))
        images.write(tmp_path / "LR_bicubic/X2" / f"{name}x2.png", bicubic.downscale(hr_of(2, 1 - seed), 2))
    assert all("another picture" in pairs.load(pair, 2).doubt for pair in find(tmp_path, 2))


def reduced(datasets, folder, make, scale: int) -> None:
    """Write Set5 with LR that is made by `make`."""
    for pair in find(datasets / "Set5", scale):
        hr = pairs.load(pair, scale).hr
        images.write(folder / "HR" / pair.hr.name, hr)
        images.write(folder / f"LR_bicubic/X{scale}" / f"{pair.name}x{scale}.png", make(hr, scale))


@pytest.mark.parametrize(("dataset", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("Set14", 4), ("B100", 4)])
def test_published_lr_files_are_matlabs_bicubic(datasets, dataset: str, scale: int) -> None:
    """B100's files have another border: it lies outside of what is compared."""
    opened = packed.open_pairs(f"{datasets / dataset}[:20]", scale)
    assert opened.lr_folder
    assert {opened.kernel_difference(index) for index in range(len(opened))} == {0.0}
    assert opened.warnings() == []


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("Pillow bicubic", 4),
        ("Pillow Lanczos", 2),
        ("OpenCV bicubic", 4),
        ("OpenCV area", 2),
        ("OpenCV Lanczos", 3),
        ("nearest", 4),
        ("JPEG", 4),
        ("weak noise", 4),
    ],
)
def test_lr_of_another_kernel_is_remarked(datasets, tmp_path, name: str, scale: int) -> None:
    """In a folder and packed, with the figures of whole images that MATLAB's bicubic reduced; not Pillow's bicubic."""
    more = {
        "nearest": resized(cv2.INTER_NEAREST),
        "weak noise": lambda hr, scale: noise(bicubic.downscale(hr, scale), 1),
    }
    reduced(datasets, tmp_path / "Set5", (MADE | more)[name], scale)
    packed.pack("Set5", tmp_path, scale, tmp_path / "packed")
    brute = {}
    for pair in find(tmp_path / "Set5", scale):
        lr, hr = images.read(pair.lr).astype(int), images.read(pair.hr)
        top, left = (max(3, side // 2 - 32) for side in lr.shape[:2])
        apart = abs(lr - bicubic.downscale(hr, scale))[:-3, :-3][top : top + 64, left : left + 64]
        brute[pair.name] = sum(apart.ravel().tolist()) / apart.size
    for path in (tmp_path / "Set5", tmp_path / "packed"):
        opened = packed.open_pairs(path, scale)
        found = {each: opened.kernel_difference(index) for index, each in enumerate(opened.names)}
        assert found == pytest.approx(brute)
        if name == "Pillow bicubic":
            assert opened.warnings() == []
            continue
        (warning,) = opened.warnings()
        assert (warning["kind"], warning["images"]) == ("lr_other_kernel", list(brute))
        mean, most = sum(brute.values()) / 5, max(brute.values())
        assert "LR of 5 of 5 images is not HR reduced by MATLAB's bicubic" in warning["text"]
        assert f"mean absolute difference {mean:.2f} levels of 255, at most {most:.2f} in an image" in warning["text"]


def test_facts_that_are_asked_for_while_an_image_is_read(tmp_path, monkeypatch) -> None:
    """As by the main thread of an evaluation, whose other thread reads ahead."""
    images.write(tmp_path / "a.png", np.ascontiguousarray(hr_of(2)))
    opened, compare, asked = packed.open_pairs(tmp_path, 2), agreement.kernel_difference, []

    def slow(lr: np.ndarray, hr: np.ndarray, scale: int) -> float | None:
        if not asked:
            asked.append(None)
            asked.append(opened.facts(0))
        return compare(lr, hr, scale)

    monkeypatch.setattr(agreement, "kernel_difference", slow)
    opened.load(0)
    assert asked[1:] == [opened.facts(0)] == [(3, "")]


def test_the_kernel_of_a_part_and_of_what_is_tiny(tmp_path) -> None:
    """One image of two is named; LR of a few pixels is not judged, LR that is made cannot differ."""
    for name, make in {"a": bicubic.downscale, "b": resized(cv2.INTER_AREA)}.items():
        hr = np.ascontiguousarray(hr_of(2))
        images.write(tmp_path / "HR" / f"{name}.png", hr)
        images.write(tmp_path / "LR_bicubic/X2" / f"{name}x2.png", make(hr, 2))
    (warning,) = packed.open_pairs(tmp_path, 2).warnings()
    assert warning["images"] == ["b"]
    assert "LR of 1 of 2 images" in warning["text"]
    assert packed.open_pairs(f"{tmp_path}[:1]", 2).warnings() == []
    assert packed.open_pairs(tmp_path, 4).kernel_difference(0) == 0
    assert agreement.kernel_difference(hr[:13, :40], hr, 2) is None
