"""How fast is evaluation, against the way it is usually done?

The usual way, as public trainers validate: image by image, both PNG files decoded, converted to float and back, the
network as its authors wrote it (LayerNorm by hand), then PSNR and SSIM by numpy and OpenCV on one core, each making its
own Y, SSIM with the 11 x 11 window in two dimensions. This project's way: images packed once, the network with fused
LayerNorm, metrics for the whole batch in float64 on the device.

Both run in turns on the same images in one process; times are seconds a round over the benchmark, medians and spread
over the rounds, and the ratio of the medians. The figures must agree first.

    python benchmarks/evaluation.py --data $SAFMN_DATASETS/B100
    python benchmarks/evaluation.py --data $SAFMN_DATASETS/B100 --network imdn --device cuda --rounds 5
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from safmn import networks
from safmn.cost.device import describe
from safmn.data import packed, pairs
from safmn.quality import evaluation
from safmn.quality.loading import choose_device
from safmn.quality.metrics import C1, C2, gaussian_taps


def usual_evaluation(network: nn.Module, found: list[pairs.Pair], scale: int) -> list[tuple[float, float]]:
    """(PSNR, SSIM) of each pair, read from its files."""
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
    """PSNR and SSIM of two uint8 BGR images, each making its own Y."""
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


def set_fused(network: nn.Module, fused: bool) -> nn.Module:
    """LayerNorm as the authors wrote it, or torch's kernel, where a network has the choice."""
    for module in network.modules():
        if hasattr(module, "fused"):
            module.fused = fused
    return network


def in_turns(ways: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call; the order turns round each time, so that a slow spell does not favour one."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            ways[name]()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(title: str, seconds: dict[str, list[float]], images: int) -> dict[str, object]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    usual, ours = medians.values()
    print(f"{title}: {usual / ours:.2f} times as fast")
    for name, values in seconds.items():
        spread = f"{min(values):.3f} to {max(values):.3f} s over {len(values)} rounds"
        print(f"  {name:<26} {medians[name]:.3f} s, {images / medians[name]:.1f} images/s ({spread})")
    return {"ratio": usual / ours, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a benchmark in EDSR's layout, LR files included")
    parser.add_argument("--network", default="safmn", help="a name from `safmn list`, of colour RGB (default: safmn)")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, help="only the first so many images (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="times that each way is run (default: 5)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own choice)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")
    parser.add_argument("--json", action="store_true", help="also print everything as JSON, the last line")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    torch.manual_seed(0)
    ours = networks.build(args.network, args.scale).eval().to(device)
    usual = networks.build(args.network, args.scale).eval().to(device)
    usual.load_state_dict(ours.state_dict())
    set_fused(usual, False)
    found = pairs.find(args.data, args.scale)[: args.images]
    cv2.setNumThreads(1)

    with tempfile.TemporaryDirectory() as folder:
        store = packed.pack(args.data.name, args.data.parent, args.scale, Path(folder) / "store").select(
            slice(args.images)
        )
        ways = {
            "usual, image by image": lambda: usual_evaluation(usual, found, args.scale),
            "this project, batched": lambda: evaluation.evaluate(ours, store, args.scale),
        }
        theirs, mine = (way() for way in ways.values())  # also the warm-up
        check(theirs, [(score.psnr, score.ssim) for score in mine.scores])
        print(f"{args.network} x{args.scale}, random weights, {len(found)} images of {args.data.name}")
        records = {"evaluation": report("evaluation", in_turns(ways, args.rounds, device), len(found))}

        # The metrics alone, on bicubic SR: how the whole would behave with a network that costs nothing.
        bicubic = networks.build("bicubic", args.scale)
        images = [
            (evaluation.super_resolve(bicubic, store.lr(index)), np.array(store.hr(index)))
            for index in range(min(30, len(store)))
        ]
        tensors = [tuple(torch.from_numpy(each).permute(2, 0, 1)[None].to(device) for each in pair) for pair in images]
        reversed_images = [tuple(np.ascontiguousarray(each[..., ::-1]) for each in pair) for pair in images]

        def batched_metrics() -> list[tuple[float, float]]:
            figures = [evaluation.measure(*pair, args.scale) for pair in tensors]
            return [(psnr.item(), ssim.item()) for psnr, ssim in figures]

        ways = {
            "usual, image by image": lambda: [usual_metrics(*pair, args.scale) for pair in reversed_images],
            "this project": batched_metrics,
        }
        check(*(way() for way in ways.values()))
        records["metrics"] = report("metrics alone", in_turns(ways, 2 * args.rounds + 1, device), len(images))
    provenance = describe(device.type)
    print(
        ", ".join(
            f"{key} {provenance[key]}" for key in ("device", "torch", "threads", "cpu", "gpu") if key in provenance
        )
    )
    if args.json:
        print(json.dumps({**records, "network": args.network, "data": args.data.name, "device": provenance}))


def check(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> None:
    """Both ways must give the same figures: a value rounded the other way in SR moves the fourth decimal at most."""
    difference = np.abs(np.array(first) - np.array(second)).max(0)
    if difference[0] > 1e-3 or difference[1] > 1e-4:
        raise SystemExit(f"the two ways differ by {difference[0]:.2g} dB and {difference[1]:.2g} SSIM")


if __name__ == "__main__":
    main()
