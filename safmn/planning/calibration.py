"""What a training step, a validation, an evaluation and the start of a process take on the device that is there.

The step is the real one (`PatchSampler`, `TrainStep`, the flags of a training run) on pictures of noise: how long it
takes depends on their size alone. Medians over repetitions after a warm-up, each within a budget of seconds.
"""

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safmn import networks
from safmn.data.patches import PatchSampler
from safmn.device.description import Cpu, Cuda, describe
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError
from safmn.quality import evaluation
from safmn.schema import RunSettings
from safmn.training import capture, loop, validation
from safmn.training.step import TrainStep

WARM_UP = 2
LEAST, MOST = 3, 200  # timed repetitions
FEWEST = 4  # patches, where time forbids a whole batch: with one or two, threads mostly wait for one another
SHARE_OF_MEMORY = 0.8  # that a calibrated step may fill; the rest is for kernels' workspaces and other processes
PICTURE = {"cpu": (384, 384), "cuda": (1356, 2040)}  # HR height and width; a GPU is only busy with a large one
NOISE_PICTURES = 8


@dataclass(frozen=True)
class Timing:
    """Repetitions of one piece of work.

    Attributes:
        seconds: the median of one.
        repetitions: how many were timed.
        spread: interquartile range over median.
    """

    seconds: float
    repetitions: int
    spread: float


@dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        seconds: of one step of the whole batch.
        batch: patches of a step of the study.
        measured_batch: patches of the steps that were timed; where fewer, `seconds` is scaled by their ratio.
        timing: of the steps that were timed.
        reason: why fewer were timed; "" if they were not.
    """

    seconds: float
    batch: int
    measured_batch: int
    timing: Timing
    reason: str

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Noise:
    """Pictures of noise with the interface of a packed dataset: `count` of HR size `height` x `width`."""

    def __init__(self, scale: int, height: int, width: int, count: int) -> None:
        draw = np.random.Generator(np.random.Philox(0))
        self.scale = scale
        self.path = Path("noise")
        self.names = [f"noise{number}" for number in range(count)]
        self._lr = [draw.integers(0, 256, (height // scale, width // scale, 3), np.uint8) for _ in self.names]
        self._hr = [draw.integers(0, 256, (height, width, 3), np.uint8) for _ in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def lr(self, index: int) -> np.ndarray:
        return self._lr[index]

    def hr(self, index: int) -> np.ndarray:
        return self._hr[index]


@contextmanager
def as_in_training(device: torch.device, settings: dict[str, Any]) -> Iterator[None]:
    """Threads, precision and kernels as in a training run with these settings; afterwards as before.

    On a CPU with fewer cores than the settings have threads, one thread a core: threads that wait for one another's
    core scatter too much to be measured.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    threads = torch.get_num_threads()
    flags = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    if device.type == "cpu":
        settings = settings | {"threads": min(settings["threads"], describe("cpu")["cores"])}
    loop.configure(device, settings)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = flags


def timed(work: Callable[[], object], device: Cpu | Cuda, budget: float, least: int = LEAST) -> Timing:
    """Times `work`, which may return before the device has done it, as often as fits into `budget` seconds in all."""
    began = time.perf_counter()
    once = once_warm(work, device)
    repetitions = max(least, min(MOST, int((budget - (time.perf_counter() - began)) / once)))
    marks = [device.mark()]
    for _ in range(repetitions):
        work()
        marks.append(device.mark())
    device.synchronise()
    seconds = [device.elapsed(*pair) / 1e3 for pair in itertools.pairwise(marks)]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(middle, repetitions, (high - low) / middle if middle else 0.0)


def once_warm(work: Callable[[], object], device: Cpu | Cuda) -> float:
    """Seconds of a single piece of work after the warm-up: enough to choose how often to repeat it."""
    for _ in range(WARM_UP):
        work()
    device.synchronise()
    began = time.perf_counter()
    work()
    device.synchronise()
    return max(time.perf_counter() - began, 1e-6)


def step(
    specification: dict[str, Any],
    run_settings: RunSettings,
    device: Cpu | Cuda,
    budget: float,
    peak: int,
    resident: bool | None = None,
) -> Step:
    """Times the training step of a specification; to be called within `as_in_training`.

    Args:
        run_settings: the study's `run` section, which says whether a step is recorded as a CUDA graph.
        budget: seconds, about.
        peak: bytes that a step of the whole batch needs, as `memory.predict_training` says.
        resident: whether training images lie on the device; None as the sampler decides.

    Raises:
        UserError: not even one patch fits into memory.
    """
    batch = specification["training"]["batch"]
    measured, reason = batch, ""
    room = SHARE_OF_MEMORY * free_memory(device)
    if peak > room:
        measured = _power_of_two(int(batch * room / peak))
        reason = f"{batch} patches would need {peak / 2**30:.1f} GiB, {room / 2**30:.1f} GiB may be used here"
    if device.kind == "cpu" and measured > FEWEST:  # a GPU takes a whole batch in the time of a few patches
        with _stepping(specification, run_settings, 1, device, resident) as work:
            one = once_warm(work, device)
        affordable = max(FEWEST, _power_of_two(int(budget / (one * (WARM_UP + 1 + LEAST)))))
        if affordable < measured:
            measured = affordable
            reason = f"more would take longer than the {budget:g} s for the steps of a network"
    while True:
        try:
            with _stepping(specification, run_settings, measured, device, resident) as work:
                timing = timed(work, device, budget)
            return Step(timing.seconds * batch / measured, batch, measured, timing, reason)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if measured == 1:
                raise UserError(
                    f"{specification['network']}: not even one patch fits into the memory of this device: plan on "
                    "another one, or on the CPU with --device cpu"
                ) from error
            reason = f"{measured} patches do not fit into this device's memory"
        measured = _power_of_two(measured // 2)  # outside the handler, which keeps the failed step's tensors alive
        torch.cuda.empty_cache()


@contextmanager
def _stepping(
    specification: dict[str, Any],
    run_settings: RunSettings,
    batch: int,
    device: Cpu | Cuda,
    resident: bool | None,
) -> Iterator[Callable[[], object]]:
    """Yields a function that makes one batch and one step, as the training loop does, recorded if that does."""
    settings, scale = specification["training"], specification["scale"]
    side = 2 * settings["patch"] * scale
    where, pictures = device.torch_device, Noise(scale, side, side, NOISE_PICTURES)
    # Where patches are drawn from takes no time: these pictures are too small for sub-images.
    sampler = PatchSampler([pictures], batch, settings["patch"], scale, seed=0, device=where, resident=resident)
    one = TrainStep(networks.accelerate(networks.build(specification["network"], scale)), settings, where)
    learn = capture.as_asked(one, run_settings)
    iteration = -1

    def work() -> object:
        nonlocal iteration
        iteration = (iteration + 1) % settings["iterations"]
        return learn(iteration, *sampler.batch(iteration))

    with sampler:
        if learn is not one:  # recorded before anything is timed
            for _ in range(capture.WARM_UP + 1):
                work()
        yield work


def validating(specification: dict[str, Any], device: Cpu | Cuda, budget: float) -> float:
    """Seconds of a validation for each HR pixel; to be called within `as_in_training`."""
    network, noise, scale = _in_eval(specification, device, 1)
    pairs = [(noise.lr(0), noise.hr(0))]
    timing = timed(lambda: validation.rgb_psnr(network, pairs, scale), device, budget, least=2)
    return timing.seconds / _hr_pixels(noise)


def evaluating(specification: dict[str, Any], device: Cpu | Cuda, budget: float) -> float:
    """Seconds of an evaluation, PSNR and SSIM included, for each HR pixel."""
    network, noise, scale = _in_eval(specification, device, torch.get_num_threads())
    timing = timed(lambda: evaluation.evaluate(network, noise, scale), device, budget, least=2)
    return timing.seconds / _hr_pixels(noise)


def starting(device: Cpu | Cuda) -> float:
    """Seconds until a process of its own has loaded what training and evaluation need, and reached the device."""
    program = "import torch, safmn.training.loop, safmn.quality.evaluation\n"
    program += f"torch.zeros(1, device={device.kind!r})"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - began


def free_memory(device: Cpu | Cuda) -> float:
    """Bytes that a process could take on the device now; infinite where nothing tells."""
    if device.kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return float("inf")


def _in_eval(specification: dict[str, Any], device: Cpu | Cuda, count: int) -> tuple[torch.nn.Module, Noise, int]:
    scale = specification["scale"]
    height, width = PICTURE[device.kind]
    network = networks.accelerate(networks.build(specification["network"], scale)).to(device.torch_device).eval()
    return network, Noise(scale, height, width, count), scale


def _hr_pixels(noise: Noise) -> int:
    return sum(noise.hr(index).shape[0] * noise.hr(index).shape[1] for index in range(len(noise)))


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above `number`; at least 1."""
    return 1 << max(0, number.bit_length() - 1)
