"""Compare the speed of evaluation with the usual implementation.

The usual way, as public trainers validate: image by image, both PNG files decoded, converted to float and back, the
network as its authors wrote it (LayerNorm by hand), then PSNR and SSIM by numpy and OpenCV on one core, each making its
own Y, SSIM with the 11 x 11 window in two dimensions. This project's way: images packed once, the network in the
form that the device is fast with, metrics for the whole batch in float64 on the device.

Both run by turns, twenty images at a time; the ratio is the median over the turns. The figures must agree first. Each
has a process of its own, since memory is part of the way: ours runs with the allocator that the DAG gives its jobs
(safmn/device/allocator.py), the usual one with the C library's default. `--together`: both in one process.

    python benchmarks/evaluation.py --data $SAFMN_DATASETS/B100
    python benchmarks/evaluation.py --data $SAFMN_DATASETS/B100 --network imdn --device cuda
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import turns
from torch import nn

from safmn import networks
from safmn.data import layouts, packed, pairs
from safmn.device.description import describe
from safmn.quality import evaluation
from safmn.quality.loading import choose_device
from safmn.quality.metrics import C1, C2, gaussian_taps

TURN = 20  # images
METRICS_OF = 60  # images that the metrics alone are timed on
Figures = list[tuple[float, float]]  # PSNR in dB and SSIM of each image


def usual_evaluation(network: nn.Module, found: Sequence[pairs.Pair], scale: int) -> Figures:
    """Return (PSNR, SSIM) of each pair, read from its files."""
    device = evaluation.device_of(network)
    figures = []
    for pair in found:
        lr, hr = (cv2.imread(str(path)).astype(np.float32) / 255 for path in (pair.lr, pair.hr))
        hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
        with torch.no_grad():
            batch = torch.from_numpy(np.ascontiguousarray(lr[..., ::-1].transpose(2, 0, 1)))[None].to(device)
            out = network(batch)[0].clamp_(0, 1).cpu().numpy()
        sr = (out[::-1].transpose(1, 2, 0) * 255).round().astype(np.uint8)
        figures.append(usual_metrics(sr, (hr * 255).round().astype(np.uint8), scale))
    return figures


def usual_metrics(sr: np.ndarray, hr: np.ndarray, border: int) -> tuple[float, float]:
    """Return PSNR and SSIM of two uint8 BGR images; each metric computes its own Y."""
    first, second = usual_luma(sr, border), usual_luma(hr, border)
    psnr = 10 * np.log10(255.0**2 / np.mean((first - second) ** 2))
    first, second = usual_luma(sr, border), usual_luma(hr, border)
    window = np.outer(gaussian_taps(), gaussian_taps())

    def blur(plane: np.ndarray) -> np.ndarray:
        return cv2.filter2D(plane, -1, window)[5:-5, 5:-5]

    mean_first, mean_second = blur(first), blur(second)
    variance_first = blur(first**2) - mean_first**2
    variance_second = blur(second**2) - mean_second**2
    covariance = blur(first * second) - mean_first * mean_second
    ssim = ((2 * mean_first * mean_second + C1) * (2 * covariance + C2)) / (
        (mean_first**2 + mean_second**2 + C1) * (variance_first + variance_second + C2)
    )
    return float(psnr), float(ssim.mean())


def usual_luma(image: np.ndarray, border: int) -> np.ndarray:
    inside = image[border:-border, border:-border].astype(np.float64) / 255
    return np.dot(inside, [24.966, 128.553, 65.481]) + 16.0


class Way:
    """An implementation of evaluation with its images and its network.

    Args:
        folder: where the images were packed.
        args: the command's.
    """

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        if args.threads:
            torch.set_num_threads(args.threads)
        cv2.setNumThreads(1)
        self.scale = args.scale
        self.device = choose_device(args.device)
        self.dataset = packed.PackedPairs(folder).select(slice(args.images))
        torch.manual_seed(0)
        self.network = networks.build(args.network, args.scale).eval().to(self.device)  # as its authors wrote it
        bicubic = networks.build("bicubic", args.scale)
        self.images = [
            (evaluation.super_resolve(bicubic, self.dataset.lr(index)), np.array(self.dataset.hr(index)))
            for index in range(min(METRICS_OF, len(self.dataset)))
        ]

    def evaluation(self, part: slice) -> tuple[float, Figures]:
        """Return the seconds of evaluating these images, and (PSNR, SSIM) of each."""
        return timed(lambda: self.evaluate(part))

    def metrics(self, part: slice) -> tuple[float, Figures]:
        """Return the same for the metrics alone, on bicubic SR, as if the network cost nothing."""
        return timed(lambda: self.measure(part))

    def evaluate(self, part: slice) -> Figures:
        raise NotImplementedError

    def measure(self, part: slice) -> Figures:
        raise NotImplementedError


class Usual(Way):
    """Image by image, by numpy."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        super().__init__(folder, args)
        self.found = layouts.survey(args.data, args.scale).pairs[: args.images]
        self.images = [tuple(np.ascontiguousarray(image[..., ::-1]) for image in pair) for pair in self.images]

    def evaluate(self, part: slice) -> Figures:
        return usual_evaluation(self.network, self.found[part], self.scale)

    def measure(self, part: slice) -> Figures:
        return [usual_metrics(*pair, self.scale) for pair in self.images[part]]


class Ours(Way):
    """The implementation of this project."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        super().__init__(folder, args)
        networks.accelerate(self.network)
        self.images = [
            tuple(
                torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(self.device) for image in pair
            )
            for pair in self.images
        ]

    def evaluate(self, part: slice) -> Figures:
        found = evaluation.evaluate(self.network, self.dataset.select(part), self.scale)
        return [(score.psnr, score.ssim) for score in found.scores]

    def measure(self, part: slice) -> Figures:
        figures = (evaluation.measure(*pair, self.scale) for pair in self.images[part])
        return [(psnr.item(), ssim.item()) for psnr, ssim in figures]


def timed(work: Callable[[], Figures]) -> tuple[float, Figures]:
    start = time.perf_counter()
    figures = work()  # numbers, so that the device's work is done
    return time.perf_counter() - start, figures


def in_turns(ways: dict[str, turns.Apart | turns.Here], what: str, images: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds an image of each way on each twenty images; the ways take turns, and their order alternates.

    The first twenty are the warm-up, and show that both give the same figures.
    """
    check(*(way.ask(what, slice(0, TURN))[1] for way in ways.values()))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    parts = [slice(start, min(start + TURN, images)) for start in range(0, images, TURN)] * rounds
    for number, part in enumerate(parts):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            seconds[name].append(ways[name].ask(what, part)[0] / (part.stop - part.start))
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    usual, ours = seconds.values()
    ratios = sorted(first / second for first, second in zip(usual, ours, strict=True))
    lower, middle, upper = np.percentile(ratios, [25, 50, 75])
    print(f"{title}: {middle:.2f} times as fast (quartiles {lower:.2f} to {upper:.2f}, {len(ratios)} turns)")
    for name, values in seconds.items():
        print(f"  {name:<24} {1e3 * statistics.median(values):8.2f} ms an image (best {1e3 * min(values):.2f})")
    return {"ratio": middle, "quartiles": [lower, upper], "seconds_an_image": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a benchmark in EDSR's layout, LR files included")
    parser.add_argument("--network", default="safmn", help="a name from `safmn list`, of colour RGB (default: safmn)")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, help="only the first so many images (default: all)")
    parser.add_argument("--rounds", type=int, default=2, help="over all images (default: 2)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own choice)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")
    parser.add_argument("--json", action="store_true", help="also print everything as JSON, the last line")
    parser.add_argument("--together", action="store_true", help="both in one process, with one allocator")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    images = len(layouts.survey(args.data, args.scale).pairs[: args.images])
    kinds = {"usual, image by image": (Usual, turns.DEFAULT), "this project": (Ours, turns.TUNED)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "packed"
        packed.pack(args.data.name, args.data.parent, args.scale, folder)
        with turns.opened(kinds, args.together, folder, args) as ways:
            print(f"{args.network} x{args.scale}, random weights, {images} images of {args.data.name}")
            records = {
                "evaluation": report("evaluation", in_turns(ways, "evaluation", images, args.rounds)),
                "metrics": report("metrics alone", in_turns(ways, "metrics", min(images, METRICS_OF), args.rounds)),
            }
    device = choose_device(args.device)
    provenance = describe(device.type)
    print(
        ", ".join(
            f"{key} {provenance[key]}" for key in ("device", "torch", "threads", "cpu", "gpu") if key in provenance
        )
    )
    if args.json:
        print(json.dumps({**records, "network": args.network, "data": args.data.name, "device": provenance}))


def check(first: Figures, second: Figures) -> None:
    """Exit unless both ways agree: a value of SR that is rounded the other way moves the fourth decimal at most."""
    difference = np.abs(np.array(first) - np.array(second)).max(0)
    if difference[0] > 1e-3 or difference[1] > 1e-4:
        raise SystemExit(f"the two ways differ by {difference[0]:.2g} dB and {difference[1]:.2g} SSIM")


if __name__ == "__main__":
    main()
