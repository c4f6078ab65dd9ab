"""The discrepancy explainer: each known trap, computed here in its own way, is named from the number it produces."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from safmn import networks
from safmn.data import bicubic, images, packed
from safmn.errors import UserError
from safmn.quality import deviations, evaluation, explain

PSNR = "32.21"  # Table 1: IMDN, x4, Set5
SSIM = "0.8948"


@pytest.fixture(scope="module")
def imdn(checkpoints: Path) -> torch.nn.Module:
    return networks.load_weights(checkpoints / "IMDN_x4.pth", "imdn", 4)


@pytest.fixture(scope="module")
def pictures(datasets: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """LR and HR of Set5 x4, uint8 RGB, read by OpenCV."""
    folder = datasets / "Set5"
    return [
        tuple(
            cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            for file in (folder / "LR_bicubic" / "X4" / f"{hr.stem}x4.png", hr)
        )
        for hr in sorted((folder / "HR").glob("*.png"))
    ]


@pytest.fixture(scope="module")
def measurement(imdn, datasets: Path) -> explain.Measurement:
    measurement = explain.Measurement({"given": imdn}, "RGB", 4)
    for read in explain.read_sources(datasets / "Set5", 4):
        measurement.add(read())
    return measurement


def enlarge(network: torch.nn.Module, lr: np.ndarray) -> np.ndarray:
    """Float SR in [0, 255], not clamped."""
    return _enlarge(network, lr.shape, lr.tobytes())


@cache
def _enlarge(network: torch.nn.Module, shape: tuple[int, ...], pixels: bytes) -> np.ndarray:
    lr = np.frombuffer(pixels, np.uint8).reshape(shape)
    with torch.no_grad():
        out = network(torch.from_numpy(lr.astype(np.float32) / 255).permute(2, 0, 1)[None])
    return out[0].permute(1, 2, 0).double().numpy() * 255


def rounded(sr: np.ndarray) -> np.ndarray:
    return np.clip(sr, 0, 255).round().astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    return rgb2ycbcr(image)[..., 0] if image.dtype == np.uint8 else rgb2ycbcr(image / 255)[..., 0]


def psnr(first: np.ndarray, second: np.ndarray, border: int = 4) -> float:
    inner = (slice(border, -border or None), slice(border, -border or None))
    return peak_signal_noise_ratio(first[inner].astype(float), second[inner].astype(float), data_range=255)


def with_lr(reduce: Callable[[np.ndarray], np.ndarray]):
    return lambda network, lr, hr: psnr(luma(rounded(enlarge(network, reduce(hr)))), luma(hr))


def on_sr(measure: Callable[[np.ndarray, np.ndarray], float]):
    return lambda network, lr, hr: measure(enlarge(network, lr), hr)


def small(hr: np.ndarray) -> tuple[int, int]:
    return hr.shape[1] // 4, hr.shape[0] // 4


def self_ensemble(network, lr: np.ndarray, hr: np.ndarray) -> float:
    views = []
    for transpose in (False, True):
        for step_y in (1, -1):
            for step_x in (1, -1):
                view = lr[::step_y, ::step_x]
                out = enlarge(network, np.ascontiguousarray(view.swapaxes(0, 1) if transpose else view))
                views.append((out.swapaxes(0, 1) if transpose else out)[::step_y, ::step_x])
    return psnr(luma(rounded(np.mean(views, 0))), luma(hr))


PSNR_TRAPS = {
    "rgb": on_sr(lambda sr, hr: psnr(rounded(sr), hr)),
    "y-opencv": on_sr(
        lambda sr, hr: psnr(*(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 0] for image in (rounded(sr), hr)))
    ),
    "y-uint8": on_sr(lambda sr, hr: psnr(luma(rounded(sr)).round(), luma(hr).round())),
    "lr-opencv": with_lr(lambda hr: cv2.resize(hr, small(hr), interpolation=cv2.INTER_CUBIC)),
    "lr-opencv-area": with_lr(lambda hr: cv2.resize(hr, small(hr), interpolation=cv2.INTER_AREA)),
    "lr-pillow": with_lr(lambda hr: np.asarray(Image.fromarray(hr).resize(small(hr), Image.Resampling.BICUBIC))),
    "border-0": on_sr(lambda sr, hr: psnr(luma(rounded(sr)), luma(hr), 0)),
    "border-scale+6": on_sr(lambda sr, hr: psnr(luma(rounded(sr)), luma(hr), 10)),
    "truncate": on_sr(lambda sr, hr: psnr(luma(np.clip(sr, 0, 255).astype(np.uint8)), luma(hr))),
    "float": on_sr(lambda sr, hr: psnr(luma(np.clip(sr, 0, 255)), luma(hr))),
    "ensemble": self_ensemble,
}


# Two decimals, as papers publish them, are enough for these.
LARGE = {"rgb", "y-opencv", "lr-opencv", "border-0", "border-scale+6", "ensemble", "truncate"}


def trap_number(trap, network, pictures) -> float:
    return float(np.mean([trap(network, lr, hr) for lr, hr in pictures]))


@pytest.mark.parametrize("name", PSNR_TRAPS)
def test_a_trap_is_named_from_its_number(name: str, measurement, imdn, pictures) -> None:
    number = trap_number(PSNR_TRAPS[name], imdn, pictures)
    explanation = measurement.explain(f"{number:.4f}")
    assert explanation.closing == (name,)
    assert explanation.verdict == f"One switch closes the gap: {name}."
    assert explanation.rows[0].name == name
    assert name in explanation.verdict
    assert explanation.rows[0].value == pytest.approx(number, abs=2e-4)
    if name in LARGE:
        assert measurement.explain(f"{number:.2f}").closing == (name,)


def skimage_ssim(first: np.ndarray, second: np.ndarray, **options) -> float:
    return structural_similarity(first.astype(float), second.astype(float), data_range=255, **options)


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SSIM_TRAPS = {
    "ssim-uniform": on_sr(lambda sr, hr: skimage_ssim(luma(rounded(sr))[4:-4, 4:-4], luma(hr)[4:-4, 4:-4])),
    "rgb": on_sr(lambda sr, hr: skimage_ssim(rounded(sr)[4:-4, 4:-4], hr[4:-4, 4:-4], channel_axis=2, **GAUSSIAN)),
    "border-0": on_sr(lambda sr, hr: skimage_ssim(luma(rounded(sr)), luma(hr), **GAUSSIAN)),
    "y-opencv": on_sr(
        lambda sr, hr: skimage_ssim(
            *(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[4:-4, 4:-4, 0] for image in (rounded(sr), hr)), **GAUSSIAN
        )
    ),
    "ssim-range": on_sr(
        lambda sr, hr: structural_similarity(
            luma(rounded(sr))[4:-4, 4:-4], luma(hr)[4:-4, 4:-4], data_range=1, **GAUSSIAN
        )
    ),
}


@pytest.mark.parametrize("name", SSIM_TRAPS)
def test_a_trap_is_named_from_its_ssim(name: str, measurement, imdn, pictures) -> None:
    number = trap_number(SSIM_TRAPS[name], imdn, pictures)
    digits = 4 if name == "ssim-range" else 5  # the constants there differ in their last digits
    explanation = measurement.explain(f"{number:.{digits}f}", "ssim")
    assert explanation.closing == (name,)
    assert explanation.rows[0].value == pytest.approx(number, abs=0.4 * 10.0**-digits)


def test_psnr_of_the_mean_error(measurement, imdn, pictures) -> None:
    errors = [
        np.mean((luma(rounded(enlarge(imdn, lr)))[4:-4, 4:-4] - luma(hr)[4:-4, 4:-4]) ** 2) for lr, hr in pictures
    ]
    number = 10 * np.log10(255**2 / np.mean(errors))
    assert measurement.explain(f"{number:.3f}").closing == ("mean-error",)


def test_the_published_number_needs_no_explanation(measurement, imdn, datasets: Path) -> None:
    expected = evaluation.evaluate(imdn, packed.open_pairs(datasets / "Set5", 4), 4)
    for published, metric, value in ((PSNR, "psnr", expected.psnr), (SSIM, "ssim", expected.ssim)):
        explanation = measurement.explain(published, metric)
        assert explanation.standard == pytest.approx(value, abs=1e-4)
        assert explanation.closing == ()
        assert "nothing to explain" in explanation.verdict


def test_a_number_that_nothing_gives(measurement) -> None:
    explanation = measurement.explain("32.80")
    assert explanation.closing == ()
    assert "ensemble comes nearest" in explanation.verdict
    assert "none brings the number nearer" in measurement.explain("32.2095").verdict


def test_lr_files_of_another_border(datasets: Path) -> None:
    """B100's LR files were made with a clamped border, which a number from mirrored ones shows."""
    network = networks.build("bicubic", 4)
    measurement = explain.Measurement({"given": network}, "RGB", 4, bicubic=True)
    for read in explain.read_sources(datasets / "B100", 4)[:8]:
        measurement.add(read())
    files, mirrored, clamped = (
        measurement.figures[name].psnr for name in ("standard", "lr-matlab", "lr-matlab-clamped")
    )
    assert files == clamped != mirrored


def test_the_legacy_protocol_is_found(datasets: Path) -> None:
    """The printed bicubic row at full precision, on images small enough to be quick."""
    pairs = packed.open_pairs(datasets / "Set5", 4)
    number = evaluation.evaluate(None, pairs, 4, protocol="legacy").psnr
    measurement = explain.Measurement({"given": networks.build("bicubic", 4)}, "RGB", 4, bicubic=True)
    for read in explain.read_sources(datasets / "Set5", 4):
        measurement.add(read())
    assert measurement.explain(f"{number:.4f}").closing == ("legacy",)
    assert "legacy" in measurement.explain("28.42").closing  # as Table 1 prints it


def test_modcrops(tmp_path: Path) -> None:
    """HR of 54 x 47 at x4: cropped at the bottom and right, on all sides, not at all, and to a multiple of 12."""
    hr = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (54, 47, 3), dtype=np.uint8), (7, 7), 2)
    images.write(tmp_path / "HR" / "one.png", hr)
    network = networks.build("bicubic", 4)
    measurement = explain.Measurement({"given": network}, "RGB", 4)
    measurement.add(explain.read_sources(tmp_path, 4)[0]())

    def number(lr: np.ndarray, target: np.ndarray) -> float:
        sr = evaluation.super_resolve(network, lr)[: target.shape[0], : target.shape[1]]
        return pytest.approx(psnr(luma(sr), luma(target)))

    lr = bicubic.downscale(hr[:52, :44], 4)
    larger = bicubic.resize(hr, Fraction(1, 4))
    assert larger.shape == (14, 12, 3)
    expected = {
        "standard": number(lr, hr[:52, :44]),
        "modcrop-centre": number(lr, hr[1:53, 1:45]),
        "modcrop-12": number(bicubic.downscale(hr[:48, :36], 4), hr[:48, :36]),
        "modcrop-none": number(larger, hr),
    }
    assert {name: measurement.figures[name].psnr[0] for name in expected} == expected
    assert len({round(figures.psnr[0], 6) for name, figures in measurement.figures.items() if name in expected}) == 4


def test_networks_of_colour_y(datasets: Path) -> None:
    """RGB switches do not apply; the protocol's cell is `evaluate`'s."""
    torch.manual_seed(0)
    network = networks.build("espcn", 4)
    measurement = explain.Measurement({"given": network}, "Y", 4)
    assert {"rgb", "y-opencv"}.isdisjoint(measurement.recipes)
    assert "legacy" in measurement.recipes
    pairs = packed.open_pairs(datasets / "Set5", 4)
    for read in explain.read_sources(datasets / "Set5", 4):
        measurement.add(read())
    for name, protocol in (("standard", "present"), ("legacy", "legacy")):
        expected = evaluation.evaluate(network, pairs, 4, channels="Y", protocol=protocol)
        assert measurement.figures[name].mean("psnr") == pytest.approx(expected.psnr, abs=1e-3)


def source(hr: np.ndarray, scale: int, channels: int = 3) -> deviations.Source:
    return deviations.Source("one", bicubic.downscale(hr, scale), hr, channels)


def blurred(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.5).reshape(height, width, channels)
    return np.ascontiguousarray(np.broadcast_to(picture, (height, width, 3)))


def test_single_channel_files_measured_as_they_are() -> None:
    """Named only where there are such files; Y networks are then given grey values, RGB networks' SR is averaged."""
    torch.manual_seed(0)
    for name, channels in (("espcn", "Y"), ("bicubic", "RGB")):
        network = networks.build(name, 2).eval()
        colour, grey = blurred(1, 48, 60), blurred(2, 48, 60, 1)
        measurement = explain.Measurement({"given": network}, channels, 2)
        measurement.add(source(colour, 2))
        rows = [row.name for row in measurement.explain("20.0").rows]
        assert "grey-as-it-is" not in rows
        assert "legacy-converted" not in rows
        measurement.add(source(grey, 2, 1))
        lr = bicubic.downscale(grey, 2)[..., 0].astype(np.float32) / 255
        given = torch.from_numpy(lr)[None, None]
        with torch.no_grad():
            sr = network(given if channels == "Y" else given.expand(-1, 3, -1, -1))[0].mean(0).numpy() * 255
        expected = psnr(np.clip(sr, 0, 255).round(), grey[..., 0], 2)
        found = measurement.figures["grey-as-it-is"].psnr
        assert found[1] == pytest.approx(expected, abs=0.02 if channels == "RGB" else 1e-3)
        assert found[0] == measurement.figures["standard"].psnr[0]
        assert found[1] < measurement.figures["standard"].psnr[1]
        assert "grey-as-it-is" in measurement.explain(f"{np.mean(found):.4f}").closing


def test_the_legacy_protocol_with_single_channel_files() -> None:
    measurement = explain.Measurement({"given": networks.build("bicubic", 2)}, "RGB", 2, bicubic=True)
    measurement.add(source(blurred(2, 48, 60, 1), 2, 1))
    as_it_is, converted = (measurement.figures[name].psnr[0] for name in ("legacy", "legacy-converted"))
    assert converted - as_it_is == pytest.approx(20 * np.log10(255 / 219), abs=0.2)  # and rounding
    assert measurement.explain(f"{as_it_is:.4f}").closing == ("legacy",)


def test_the_metric_of_smsrs_authors() -> None:
    """LR of odd sides is cropped; SSIM is taken on a Y that is 256/255 as large."""
    hr = blurred(3, 42, 50)
    measurement = explain.Measurement({"given": networks.build("bicubic", 2)}, "RGB", 2)
    measurement.add(source(hr, 2))
    sr = evaluation.super_resolve(networks.build("bicubic", 2), bicubic.downscale(hr, 2)[:20, :24])
    first, second = (image.astype(float) @ [65.738, 129.057, 25.064] for image in (sr, hr[:40, :48]))
    figures = measurement.figures["smsr"]
    assert figures.psnr[0] == pytest.approx(psnr(first / 256, second / 256, 2))
    expected = skimage_ssim((first / 255 + 16)[2:-2, 2:-2], (second / 255 + 16)[2:-2, 2:-2], **GAUSSIAN)
    assert figures.ssim[0] == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_done_is_said() -> None:
    """An image too small for one switch only."""
    lr = np.random.default_rng(0).integers(0, 256, (11, 11, 3), dtype=np.uint8)
    hr = np.kron(lr, np.ones((2, 2, 1), np.uint8))
    measurement = explain.Measurement({"given": networks.build("bicubic", 2)}, "RGB", 2)
    measurement.add(deviations.Source("tiny", lr, hr))
    row = next(row for row in measurement.explain("20.0").rows if row.name == "border-scale+6")
    assert row.value is None
    assert "tiny" in row.obstacle


def test_printed_numbers() -> None:
    for text, number, half in (("32.21", 32.21, 0.005), ("0.8948", 0.8948, 5e-5), ("30", 30.0, 0.5)):
        assert explain.parse_printed(text) == (number, pytest.approx(half, abs=2e-9))
    for text in ("", "about 3", "inf", "nan", "32,21", "1e999"):
        with pytest.raises(UserError, match="as printed"):
            explain.parse_printed(text)


def test_every_switch_changes_the_recipe() -> None:
    names = [switch.name for switch in deviations.SWITCHES]
    assert len(set(names)) == len(names)
    for switch in deviations.SWITCHES:
        assert switch.recipe != deviations.Recipe()
