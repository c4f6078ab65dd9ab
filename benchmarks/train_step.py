"""Compare the seconds of a training step between the reference trainer's implementation and this project's.

The reference is written after its documentation and public code: LayerNorm step by step, channels first, two FFTs
whose parts are stacked, Adam without fusion, the average tensor by tensor, `.item()` on every loss, and a worker that
decodes a PNG pair a sample and converts it to float before cropping. Both start from the same weights. First they
get the same batches, and their losses must agree; then they are timed, in blocks by turns, so that a drifting clock or
a busy neighbour hits both alike. Each has a process of its own, since the allocator is part of the implementation: ours
runs with the settings of the workflow's jobs (safmn/device/allocator.py), the reference with the C library's default.
`--together` times both in one process with the default.

    python benchmarks/train_step.py                    # 8 patches of 64x64 at x4, CPU or CUDA
    python benchmarks/train_step.py --batch 64 --blocks 20
"""

import argparse
import copy
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import turns
from torch import Tensor, nn

from safmn import networks
from safmn.data import images, packed
from safmn.data.patches import PatchSampler
from safmn.device import description as hardware
from safmn.training.step import TrainStep

SCALE = 4
SETTINGS = {
    "iterations": 500_000,
    "learning_rate": 1e-3,
    "minimum_learning_rate": 1e-5,
    "betas": [0.9, 0.99],
    "fft_weight": 0.05,
    "ema": 0.999,
    "ema_buffers": "track",
    "precision": "float32",
}


class ReferenceStep:
    """One iteration of the reference trainer."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network.to(device).train()
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=False)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, SETTINGS["iterations"], SETTINGS["minimum_learning_rate"]
        )
        self.device = device

    def __call__(self, lr: Tensor, hr: Tensor) -> tuple[float, float]:
        """Train on float32 N x 3 x H x W batches in [0, 1]; return the two weighted losses."""
        lr, hr = lr.to(self.device), hr.to(self.device)
        self.optimiser.zero_grad()
        sr = self.network(lr)
        pixel = F.l1_loss(sr, hr)
        spectra = [torch.fft.rfft2(image) for image in (sr, hr)]
        parts = [torch.stack([spectrum.real, spectrum.imag], dim=-1) for spectrum in spectra]
        frequency = SETTINGS["fft_weight"] * F.l1_loss(*parts)
        (pixel + frequency).backward()
        self.optimiser.step()
        self.scheduler.step()
        with torch.no_grad():
            current = dict(self.network.named_parameters())
            for name, average in self.average.named_parameters():
                average.mul_(SETTINGS["ema"]).add_(current[name].data, alpha=1 - SETTINGS["ema"])
        return pixel.item(), frequency.item()


def decode_batch(files: list[tuple[str, str]], batch: int, patch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a sample as the reference's worker: decode a pair, convert all of it to float, then crop, flip, rotate."""
    draw = random.Random(seed)
    lrs, hrs = [], []
    for _ in range(batch):
        hr_file, lr_file = draw.choice(files)
        hr, lr = (cv2.imread(file).astype(np.float32) / 255.0 for file in (hr_file, lr_file))
        top, left = (draw.randint(0, side - patch) for side in lr.shape[:2])
        lr = lr[top : top + patch, left : left + patch]
        hr = hr[top * SCALE : (top + patch) * SCALE, left * SCALE : (left + patch) * SCALE]
        flips = [draw.random() < 0.5 for _ in range(3)]
        for image, kept in ((lr, lrs), (hr, hrs)):
            if flips[0]:
                image = cv2.flip(image, 1)
            if flips[1]:
                image = cv2.flip(image, 0)
            if flips[2]:
                image = image.transpose(1, 0, 2)
            kept.append(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
    return np.stack(lrs), np.stack(hrs)


def sub_images(pairs: packed.PackedPairs, folder: Path, side: int = 480) -> list[tuple[str, str]]:
    """Cut PNG pairs as the authors cut theirs: HR 480x480, step 240."""
    files = []
    for index, name in enumerate(pairs.names):
        hr, lr = pairs.hr(index), pairs.lr(index)
        for top in range(0, hr.shape[0] - side + 1, side // 2):
            for left in range(0, hr.shape[1] - side + 1, side // 2):
                pair = []
                for image, scale in ((hr, 1), (lr, SCALE)):
                    rows = slice(top // scale, (top + side) // scale)
                    columns = slice(left // scale, (left + side) // scale)
                    file = folder / f"{name}_{top}_{left}_x{scale}.png"
                    images.write(file, np.ascontiguousarray(image[rows, columns]))
                    pair.append(str(file))
                files.append((pair[0], pair[1]))
    return files


def follow(
    first: Callable[[int, Tensor, Tensor], float], second: Callable[[int, Tensor, Tensor], float], batches: list
) -> float:
    """Return the largest relative difference of the total loss when both learn from the same batches."""
    worst = 0.0
    for iteration, (lr, hr) in enumerate(batches):
        expected, got = first(iteration, lr, hr), second(iteration, lr, hr)
        worst = max(worst, abs(got - expected) / expected)
    return worst


def learns_the_same(network: nn.Module, sampler: PatchSampler, steps: int, device: torch.device) -> bool:
    """Print the difference of the two losses, and whether rounding explains it.

    In float64 the two must agree. In float32 they part after some steps whatever is done: the gradient of an L1 loss is
    a sign, Adam's first steps are signs too, and a difference in the last bit turns one of them. How fast, the control
    shows: the reference against itself, one weight changed by one unit in the last place.
    """
    batches = [sampler.batch(iteration) for iteration in range(steps)]

    def reference(dtype: torch.dtype, nudged: bool = False) -> Callable[[int, Tensor, Tensor], float]:
        copied = copy.deepcopy(network).to(dtype)
        if nudged:
            with torch.no_grad():
                weight = next(copied.parameters()).view(-1)
                weight[0] = torch.nextafter(weight[0], weight.new_tensor(1.0))
        step = ReferenceStep(copied, device)
        return lambda _, lr, hr: sum(step(lr.to(dtype) / 255, hr.to(dtype) / 255))

    def ours(dtype: torch.dtype) -> Callable[[int, Tensor, Tensor], float]:
        step = TrainStep(networks.accelerate(copy.deepcopy(network).to(dtype)), SETTINGS, device)
        return lambda iteration, lr, hr: float(step(iteration, lr, hr)[:2].sum())

    double = follow(reference(torch.float64), ours(torch.float64), batches)
    single = follow(reference(torch.float32), ours(torch.float32), batches)
    control = follow(reference(torch.float32), reference(torch.float32, nudged=True), batches)
    print(f"largest relative difference of the loss over {steps} steps from the same seed on the same batches:")
    print(f"  ours, reference, float64                              {double:.1e}   (must be below 1e-4)")
    print(f"  ours, reference, float32                              {single:.1e}")
    print(f"  reference, reference with one bit changed, float32    {control:.1e}   (what rounding alone does)")
    return double < 1e-4


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of `work`, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def convolutions_alone(network: nn.Module, lr: Tensor, device: torch.device, repeats: int = 10) -> float:
    """Return the seconds of the network's convolutions, forward and backward, each timed alone, in our layout.

    SAFM's 1x1 convolution, which our step does level by level, at full resolution. But for it and the gradients of
    biases both ways convolve alike: this is nearly a floor of the step.
    """
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [
        module.register_forward_hook(lambda module, inputs, _: shapes.append((module, inputs[0].shape)))
        for module in convolutions
    ]
    with torch.no_grad():
        network(lr.to(device).float() / 255)
    for hook in hooks:
        hook.remove()
    total, known = 0.0, {}
    for module, shape in shapes:
        key = (shape, module.weight.shape, module.groups)
        if key not in known:
            x = torch.randn(shape, device=device).to(memory_format=layout)
            x.requires_grad_(module.in_channels != 3)  # nobody asks for the gradient of the image
            wanted = [module.weight, module.bias] + ([x] if x.requires_grad else [])
            gradient = torch.randn_like(module(x))

            def both(module: nn.Conv2d = module, x: Tensor = x, wanted: list = wanted, g: Tensor = gradient) -> None:
                torch.autograd.grad(module(x), wanted, g)

            both()
            known[key] = statistics.median(timed(both, device) for _ in range(repeats))
        total += known[key]
    return total


def prepare(args: argparse.Namespace) -> torch.device:
    """Set threads and precision; return the available device."""
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def initial() -> nn.Module:
    """Return the weights that both start from."""
    torch.manual_seed(0)
    return networks.build("safmn", SCALE)


class Way:
    """An implementation of training that runs in blocks of `args.steps` steps."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.args = args
        self.device = prepare(args)
        self.done = 0

    def block(self) -> float:
        """Return the seconds of a block."""
        return timed(self.steps, self.device)

    def steps(self) -> None:
        raise NotImplementedError

    def memory(self) -> float:
        """Return the peak memory of this process in GiB."""
        return turns.most_memory()

    def close(self) -> None:
        pass


class ReferenceWay(Way):
    """The reference trainer; a worker decodes the next batch meanwhile."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        super().__init__(folder, args)
        self.files = [
            (str(hr), str(hr)[: -len("1.png")] + f"{SCALE}.png") for hr in sorted(folder.glob("png/*_x1.png"))
        ]
        self.step = ReferenceStep(initial(), self.device)
        self.worker = ProcessPoolExecutor(1)
        self.ahead = self.decode()

    def decode(self) -> Future:
        return self.worker.submit(decode_batch, self.files, self.args.batch, self.args.patch, self.done)

    def steps(self) -> None:
        for _ in range(self.args.steps):
            lr, hr = self.ahead.result()
            self.done += 1
            self.ahead = self.decode()
            self.step(torch.from_numpy(lr), torch.from_numpy(hr))
        self.ahead.result()  # the worker must not run into the other's block

    def close(self) -> None:
        self.worker.shutdown()


class OurWay(Way):
    """The implementation of this project, with batches from a packed dataset."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        super().__init__(folder, args)
        dataset = packed.PackedPairs(folder / "packed")
        self.sampler = PatchSampler([dataset], args.batch, args.patch, SCALE, 0, self.device)
        self.step = TrainStep(networks.accelerate(initial()), SETTINGS, self.device)

    def steps(self) -> None:
        for _ in range(self.args.steps):
            self.step(self.done, *self.sampler.batch(self.done))
            self.done += 1

    def close(self) -> None:
        self.sampler.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="patches a step (default 8; the paper's 64)")
    parser.add_argument("--patch", type=int, default=64, help="LR pixels a side (default 64)")
    parser.add_argument("--blocks", type=int, default=7, help="blocks of each, by turns (default 7)")
    parser.add_argument("--steps", type=int, default=5, help="steps a block (default 5)")
    parser.add_argument(
        "--follow", type=int, default=50, help="steps over which losses are compared first (default 50)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--together", action="store_true", help="both in one process, with one allocator")
    args = parser.parse_args()
    device = prepare(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = packed.pack("photographs", None, SCALE, folder / "packed")
        (folder / "png").mkdir()
        sub_images(dataset, folder / "png")
        sampler = PatchSampler([dataset], args.batch, args.patch, SCALE, 0, device)
        if not learns_the_same(initial(), sampler, args.follow, device):
            print("the two do not learn the same thing: not timed", file=sys.stderr)
            return 1
        kinds = {"reference": (ReferenceWay, turns.DEFAULT), "ours": (OurWay, turns.TUNED)}
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        with turns.opened(kinds, args.together, folder, args) as ways:
            for way in ways.values():
                way.ask("block")  # warm-up
            for _ in range(args.blocks):
                for name, way in ways.items():
                    seconds[name].append(way.ask("block") / args.steps)
            most = {name: way.ask("memory") for name, way in ways.items()}
        floor = convolutions_alone(networks.accelerate(initial()).to(device), sampler.batch(0)[0], device)
        drawing = statistics.median(timed(lambda: sampler.batch(0), device) for _ in range(20))

    record = hardware.describe(device.type)
    print(f"{record.get('gpu', record['cpu'])}, {record['threads']} threads, torch {record['torch']}, float32")
    print(
        f"{args.batch} patches of {args.patch}x{args.patch} LR pixels at x{SCALE}, {args.blocks} blocks of {args.steps}"
    )
    for name, values in seconds.items():
        low, middle, high = (1e3 * quartile for quartile in statistics.quantiles(values, n=4))
        print(f"{name:10s} median {middle:8.1f} ms a step, quartiles {low:.1f}-{high:.1f}")
    ratios = [a / b for a, b in zip(seconds["reference"], seconds["ours"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    middle = statistics.median(seconds["ours"])
    print(f"our convolutions alone {1e3 * floor:.1f} ms, {floor / middle:.0%} of our step")
    print(f"drawing a batch {1e3 * drawing:.2f} ms, {drawing / middle:.1%} of our step")
    if args.together:
        print(f"most memory of the process that did both: {most['ours']:.2f} GiB")
    else:
        print(f"most memory of a process: reference {most['reference']:.2f} GiB, ours {most['ours']:.2f} GiB")
    print(f"reference / ours: median {quartiles[1]:.2f}, quartiles {quartiles[0]:.2f}-{quartiles[2]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
