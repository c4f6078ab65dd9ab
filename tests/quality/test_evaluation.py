"""Evaluation of networks: the protocol's known rows, published weights, batching, networks of colour Y, bad input."""

import csv
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.data import colour, packed
from safmn.errors import UserError
from safmn.quality import batches, evaluation, perceptual, psnr_rgb, psnr_y, ssim_rgb, ssim_y, tiling
from safmn.quality.metrics import psnr_plane, ssim_plane

PUBLISHED = Path(__file__).parents[2] / "safmn" / "paper" / "numbers" / "table1.csv"


class Memory:
    """A benchmark in memory."""

    def __init__(self, *pairs: tuple[np.ndarray, np.ndarray]) -> None:
        self.names = [f"image{index}" for index in range(len(pairs))]
        self.grey = False
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def lr(self, index: int) -> np.ndarray:
        return self._pairs[index][0]

    def hr(self, index: int) -> np.ndarray:
        return self._pairs[index][1]

    def channels(self, index: int) -> int:
        return 1 if self.grey else 3


class Nearest(nn.Module):
    """Repeats each pixel; no parameters, any number of channels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.shapes.append(tuple(images.shape))
        return images.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def random_pair(seed: int, height: int, width: int, scale: int, extra: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hr = np.kron(lr, np.ones((scale, scale, 1), np.uint8)).astype(float)
    hr += rng.normal(0, 9, hr.shape)
    hr = np.pad(hr, ((0, extra), (0, extra), (0, 0)), constant_values=255)
    return lr, np.clip(hr, 0, 255).astype(np.uint8)


# --- Known rows ------------------------------------------------------------------------------------------------------

PRESENT = {
    ("Set5", 4): (28.431, 0.8113),
    ("Set14", 4): (26.090, 0.7049),
    ("B100", 4): (25.963, 0.6682),
    ("Set5", 3): (30.404, 0.8690),
    ("Set14", 3): (27.632, 0.7759),
    ("B100", 3): (27.210, 0.7391),
    ("Set5", 2): (33.678, 0.9304),
    ("Set14", 2): (30.327, 0.8700),
    ("B100", 2): (29.563, 0.8435),
}
# By an independent computation in double precision; Set14 with `bridge`, a single-channel file, as it is or converted.
LEGACY = {
    ("Set5", 2, False): ("33.6614", "0.92988"),
    ("Set5", 3, False): ("30.3922", "0.86821"),
    ("Set5", 4, False): ("28.4207", "0.81037"),
    ("Set14", 2, False): ("30.2318", "0.8687"),
    ("Set14", 3, False): ("27.5405", "0.7736"),
    ("Set14", 4, False): ("26.0001", "0.7019"),
    ("Set14", 2, True): ("30.3259", "0.8694"),
    ("Set14", 3, True): ("27.6347", "0.7750"),
    ("Set14", 4, True): ("26.0944", "0.7037"),
    ("B100", 2, False): ("29.5579", "0.84310"),
    ("B100", 3, False): ("27.2072", "0.73844"),
    ("B100", 4, False): ("25.9606", "0.66738"),
}


@pytest.mark.parametrize(("dataset", "scale"), PRESENT)
def test_bicubic_by_the_present_protocol(datasets: Path, dataset: str, scale: int) -> None:
    pairs = packed.open_pairs(datasets / dataset, scale)
    result = evaluation.evaluate(networks.build("bicubic", scale), pairs, scale)
    assert (result.psnr, result.ssim) == (
        pytest.approx(PRESENT[dataset, scale][0], abs=0.0006),
        pytest.approx(PRESENT[dataset, scale][1], abs=0.00006),
    )


@pytest.mark.parametrize(("dataset", "scale", "converted"), LEGACY)
def test_bicubic_by_the_legacy_protocol(datasets: Path, dataset: str, scale: int, converted: bool) -> None:
    pairs = packed.open_pairs(datasets / dataset, scale)
    result = evaluation.evaluate(None, pairs, scale, protocol="legacy", convert_grey=converted)
    expected = LEGACY[dataset, scale, converted]
    figures = zip((result.psnr, result.ssim), expected, strict=True)
    assert tuple(f"{figure:.{len(text.partition('.')[2])}f}" for figure, text in figures) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_legacy_written_out(channels: int, scale: int, monkeypatch) -> None:
    """Reduced and enlarged by Pillow's bicubic in float32, no rounding between; the same kernel inside the border."""
    from PIL import Image

    rng = np.random.default_rng(scale)
    height, width = 12 * 9 + 1, 12 * 8 + 2
    grey = rng.integers(0, 256, (height, width, 1), dtype=np.uint8)
    hr = np.repeat(grey, 3, 2) if channels == 1 else rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pairs = Memory((np.zeros((1, 1, 3), np.uint8), hr))  # LR files are not used
    pairs.grey = channels == 1
    cropped = hr[: height - height % scale, : width - width % scale].astype(np.float64)
    plane = np.floor(16.5 + cropped @ np.array([65.481, 128.553, 24.966]) / 255)
    if channels == 1:
        plane = cropped[..., 0]
    size = plane.shape[1] // scale, plane.shape[0] // scale
    small = Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((plane.shape[1], plane.shape[0]), Image.Resampling.BICUBIC))
    sr = np.floor(np.clip(large, 0, 255) + 0.5)
    border = 4 * scale  # Pillow treats the edge in another way
    measure = evaluation.measure
    monkeypatch.setattr(evaluation, "measure", lambda sr, hr, _: measure(sr, hr, border))
    result = evaluation.evaluate(None, pairs, scale, protocol="legacy")
    assert result.psnr == pytest.approx(psnr_plane(sr, plane, border), abs=2e-3)
    assert result.ssim == pytest.approx(ssim_plane(sr, plane, border), abs=2e-5)


def printed(network: str, scale: int, dataset: str) -> tuple[str, str]:
    with open(PUBLISHED, encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if (row["method"], row["scale"]) == (network, str(scale)))
    return row[f"{dataset.lower()}_psnr"], row[f"{dataset.lower()}_ssim"]


@pytest.mark.parametrize(
    ("file", "name", "title", "dataset"),
    [
        ("IMDN_x4.pth", "imdn", "IMDN", "Set5"),
        ("IMDN_x4.pth", "imdn", "IMDN", "Set14"),
        pytest.param("IMDN_x4.pth", "imdn", "IMDN", "B100", marks=pytest.mark.slow),
        ("PANx4_DF2K.pth", "pan", "PAN", "Set5"),
        pytest.param("PANx4_DF2K.pth", "pan", "PAN", "Set14", marks=pytest.mark.slow),
    ],
)
def test_published_weights_give_published_numbers(datasets, checkpoints, file, name, title, dataset) -> None:
    network = networks.load_weights(checkpoints / file, name, 4)
    result = evaluation.evaluate(network, packed.open_pairs(datasets / dataset, 4), 4)
    assert (f"{result.psnr:.2f}", f"{result.ssim:.4f}") == printed(title, 4, dataset)


# --- Batching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_pixels", [1, 1500, 1 << 20])
def test_batched_by_size_and_in_order(batch_pixels: int) -> None:
    """Images of three sizes, interleaved: each score is that of its own image alone, by the numpy definition."""
    sizes = [(9, 8), (8, 9), (9, 8), (11, 7), (8, 9), (9, 8), (9, 8)]
    pairs = Memory(*(random_pair(seed, *size, 3, extra=seed % 3) for seed, size in enumerate(sizes)))
    network, calls = Nearest(3), []
    result = evaluation.evaluate(
        network, pairs, 3, batch_pixels=batch_pixels, on_progress=lambda done, total: calls.append((done, total))
    )
    assert [score.image for score in result.scores] == pairs.names
    for index, score in enumerate(result.scores):
        lr = pairs.lr(index)
        sr = np.kron(lr, np.ones((3, 3, 1), np.uint8))
        hr = pairs.hr(index)[: sr.shape[0], : sr.shape[1]]
        assert score.psnr == pytest.approx(psnr_y(sr, hr, 3), abs=1e-6)
        assert score.ssim == pytest.approx(ssim_y(sr, hr, 3), abs=1e-8)
        assert score.psnr_rgb == pytest.approx(psnr_rgb(sr, hr, 3), abs=1e-6)
        assert score.ssim_rgb == pytest.approx(ssim_rgb(sr, hr, 3), abs=1e-8)
    assert result.mean("ssim_rgb") == pytest.approx(np.mean([score.ssim_rgb for score in result.scores]))
    assert result.psnr == pytest.approx(np.mean([score.psnr for score in result.scores]))
    assert result.ssim == pytest.approx(np.mean([score.ssim for score in result.scores]))
    assert calls[-1] == (7, 7)
    batches = sorted(shape[0] for shape in network.shapes)
    assert batches == {1: [1] * 7, 1500: [1, 2, 2, 2], 1 << 20: [1, 2, 4]}[batch_pixels]


def test_sr_is_clamped_and_rounded_first() -> None:
    class Beyond(Nearest):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 1.3713 - 0.2

    lr, hr = random_pair(1, 10, 12, 2)
    sr = np.kron(lr, np.ones((2, 2, 1), np.uint8)) * 1.3713 - 0.2 * 255
    sr = np.clip(np.round(sr), 0, 255).astype(np.uint8)
    network = Beyond(2)
    assert evaluation.evaluate(network, Memory((lr, hr)), 2).psnr == pytest.approx(psnr_y(sr, hr, 2), abs=1e-4)
    made = evaluation.super_resolve(network, lr)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, sr)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_spread_over_cores(three_threads, monkeypatch) -> None:
    """Small images on one core each, a large one (here: above 2,000 pixels) on all; same scores, same order."""
    monkeypatch.setattr(batches, "LARGE", 2000)
    sizes = [(9, 8), (8, 9), (20, 30), (9, 8), (9, 9), (10, 8), (30, 20), (9, 8)]
    pairs = Memory(*(random_pair(seed, *size, 3) for seed, size in enumerate(sizes)))
    threads: dict[tuple[int, ...], set[int]] = {}

    class Counting(Nearest):
        def forward(self, images: Tensor) -> Tensor:
            threads.setdefault(tuple(images.shape[2:]), set()).add(torch.get_num_threads())
            return super().forward(images)

    result = evaluation.evaluate(Counting(3), pairs, 3, batch_pixels=1)
    assert torch.get_num_threads() == 3
    assert {size: threads[size] for size in ((9, 8), (20, 30), (30, 20))} == {(9, 8): {1}, (20, 30): {3}, (30, 20): {3}}
    torch.set_num_threads(1)
    assert result == evaluation.evaluate(Nearest(3), pairs, 3, batch_pixels=1)
    torch.set_num_threads(3)
    damaged = Memory(*pairs._pairs[:5], (pairs.lr(5), pairs.hr(6)), *pairs._pairs[6:])
    with pytest.raises(UserError, match="image5: HR of"):
        evaluation.evaluate(Nearest(3), damaged, 3, batch_pixels=1)
    assert torch.get_num_threads() == 3


def test_the_network_is_left_as_it_was() -> None:
    """Evaluation in the middle of training: eval mode within; after it each module's mode and TF32 as before."""
    network = nn.Sequential(Nearest(2), nn.BatchNorm2d(3)).train()
    network[1].eval()  # as a frozen normalisation is kept
    before = torch.backends.cudnn.allow_tf32
    evaluation.evaluate(network, Memory(random_pair(1, 10, 12, 2)), 2)
    assert (network.training, network[0].training, network[1].training) == (True, True, False)
    assert torch.backends.cudnn.allow_tf32 == before


# --- Networks of colour Y --------------------------------------------------------------------------------------------


def test_a_network_of_colour_y() -> None:
    lr, hr = random_pair(3, 10, 12, 2)
    network = Nearest(2)
    result = evaluation.evaluate(network, Memory((lr, hr)), 2, channels="Y")
    assert network.shapes == [(1, 1, 10, 12)]
    sr = np.round(np.kron(colour.luma(lr), np.ones((2, 2))))
    assert result.psnr == pytest.approx(psnr_plane(sr, colour.luma(hr), 2), abs=1e-6)
    assert result.ssim == pytest.approx(ssim_plane(sr, colour.luma(hr), 2), abs=1e-8)
    # In RGB its picture is measured, as `safmn upscale` makes it.
    picture = evaluation.super_resolve(Nearest(2), lr, "Y")
    assert result.mean("psnr_rgb") == psnr_rgb(picture, hr, 2)
    assert result.mean("ssim_rgb") == ssim_rgb(picture, hr, 2)


def test_the_picture_of_a_network_of_colour_y() -> None:
    """Its Y is the network's, its colours stay: a grey picture stays grey, a flat one keeps its colour."""
    flat = np.full((12, 14, 3), (200, 90, 40), np.uint8)
    made = evaluation.super_resolve(Nearest(3), flat, "Y")
    assert made.shape == (36, 42, 3)
    assert np.abs(made.astype(int) - flat[0, 0]).max() <= 2
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (12, 14, 1), dtype=np.uint8), 3, 2)
    made = evaluation.super_resolve(Nearest(3), grey, "Y")
    assert np.abs(made.astype(int) - np.kron(grey, np.ones((3, 3, 1), np.uint8))).max() <= 1


def test_legacy_with_a_network_of_colour_y(datasets: Path) -> None:
    """The bicubic network on planes is the legacy protocol's own bicubic, up to float32 at exact halves."""
    pairs = packed.open_pairs(datasets / "Set5", 4)
    ours = evaluation.evaluate(networks.build("bicubic", 4), pairs, 4, channels="Y", protocol="legacy")
    own = evaluation.evaluate(None, pairs, 4, protocol="legacy")
    assert ours.psnr == pytest.approx(own.psnr, abs=1e-3)
    assert ours.ssim == pytest.approx(own.ssim, abs=1e-5)


# --- Tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "tile"), [(40, 33, 16), (17, 90, 24), (16, 16, 64), (64, 64, 16)])
def test_tiles_are_put_together_again(height: int, width: int, tile: int) -> None:
    """Bicubic sees two pixels around: with an overlap of 8 the tiles are the whole."""
    lr = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    network = networks.build("bicubic", 3)
    calls: list[tuple[int, int]] = []
    whole = evaluation.super_resolve(network, lr)
    tiled = tiling.enlarge(
        lr, tile, 8, lambda piece: evaluation.super_resolve(network, piece), lambda *done: calls.append(done)
    )
    np.testing.assert_array_equal(tiled, whole)
    assert calls[-1][0] == calls[-1][1]
    assert (len(calls) > 1) == (max(height, width) > tile)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 8), (0, 0), (32, -1)])
def test_tiles_that_cannot_be(tile: int, overlap: int) -> None:
    with pytest.raises(UserError, match="tile"):
        tiling.enlarge(np.zeros((20, 20, 3), np.uint8), tile, overlap, lambda piece: piece)


# --- Files and bad input ---------------------------------------------------------------------------------------------


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    scores = (evaluation.Score("a,b", 30.123456789012345, 0.1 + 0.2), evaluation.Score("c", float("inf"), 1.0))
    evaluation.write_csv(tmp_path / "set.csv", evaluation.Evaluation(scores))
    with open(tmp_path / "set.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], float(row["psnr"]), float(row["ssim"])) for row in rows] == [
        (score.image, score.psnr, score.ssim) for score in scores
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "set.csv"]


def test_csv_has_the_columns_that_were_measured(tmp_path: Path) -> None:
    pairs = Memory(random_pair(3, 10, 12, 2), random_pair(4, 10, 12, 2))

    def header(**options) -> str:
        evaluation.write_csv(tmp_path / "set.csv", evaluation.evaluate(Nearest(2), pairs, 2, **options))
        return (tmp_path / "set.csv").read_text().splitlines()[0]

    rgb = "image,psnr,ssim,psnr_rgb,ssim_rgb"
    lpips = ",lpips" * (perceptual.lpips_distance(torch.device("cpu")) is not None)
    assert header() == header(channels="Y") == rgb + lpips
    assert header(channels="Y", protocol="legacy") == "image,psnr,ssim"


def test_lpips_where_its_package_is_installed(tmp_path: Path, monkeypatch) -> None:
    """A stand-in for the package: the mean absolute difference of what it is given, RGB in [-1, 1], nothing cropped."""
    (tmp_path / "lpips.py").write_text(
        "import torch\n"
        "class LPIPS(torch.nn.Module):\n"
        "    def __init__(self, net, version, verbose):\n"
        "        super().__init__()\n"
        "        assert (net, version) == ('alex', '0.1')\n"
        "        torch.rand(1)\n"
        "    def forward(self, first, second):\n"
        "        assert not self.training and -1 <= first.min() and first.max() <= 1\n"
        "        return (first - second).abs().mean((1, 2, 3), keepdim=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    perceptual.lpips_distance.cache_clear()
    try:
        lr, hr = random_pair(3, 10, 12, 2)
        state = torch.get_rng_state()
        result = evaluation.evaluate(Nearest(2), Memory((lr, hr)), 2)
        assert torch.equal(torch.get_rng_state(), state)
        sr = np.kron(lr, np.ones((2, 2, 1), np.uint8)).astype(float)
        assert result.mean("lpips") == pytest.approx(np.abs(sr - hr).mean() / 127.5, rel=1e-5)
        assert result.measured[-1] == "lpips"
    finally:
        perceptual.lpips_distance.cache_clear()
        sys.modules.pop("lpips", None)


def test_lpips_of_the_package_itself() -> None:
    pytest.importorskip("lpips", reason="the package lpips is not installed: pip install 'safmn-harness[lpips]'")
    distance = perceptual.lpips_distance(torch.device("cpu"))
    if distance is None:
        pytest.skip("lpips is installed, but AlexNet's weights cannot be loaded")
    image = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    assert distance(image, image).item() == pytest.approx(0, abs=1e-6)
    assert distance(image, 255 - image).item() > 0.1


@pytest.mark.parametrize("shape", [(41, 48), (40, 50), (38, 48), (80, 96)])
def test_lr_of_another_size(shape: tuple[int, int]) -> None:
    """41 is LR x 2 + 1, which the crop takes away; 50, 38 and 96 are not."""
    pairs = Memory((np.zeros((20, 24, 3), np.uint8), np.zeros((*shape, 3), np.uint8)))
    with nullcontext() if shape == (41, 48) else pytest.raises(UserError, match="image0: HR of"):
        evaluation.evaluate(Nearest(2), pairs, 2)


PAIR, TINY = random_pair(1, 10, 12, 2), np.zeros((2, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("network", "pairs", "protocol", "message"),
    [
        (Nearest(2), [], "present", "no images"),
        (Nearest(2), [PAIR], "old", "protocol 'old'"),
        (Nearest(2), [PAIR], "legacy", "legacy protocol"),
        (None, [PAIR], "present", "without a network"),
        (Nearest(3), [PAIR], "present", "not an x2"),
        (Nearest(2), [random_pair(1, 7, 12, 2)], "present", "image0: .*too small"),
        (None, [(TINY[:1], TINY[:1])], "legacy", "image0: .*too small"),
    ],
)
def test_other_bad_input(network: nn.Module | None, pairs: list, protocol: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluation.evaluate(network, Memory(*pairs), 2, protocol=protocol)
