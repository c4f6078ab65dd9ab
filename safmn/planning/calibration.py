"""Times of a training step, a validation, an evaluation and the start of a process on this device.

The step is the real one (`PatchSampler`, `TrainStep`, the settings of a training run) on images of noise, since only
their size affects its time. Every time is a median over repetitions after a warm-up, within a budget of seconds.
"""

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from safmn import networks
from safmn.data.patches import PatchSampler
from safmn.device.description import Device, describe
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError
from safmn.quality import evaluation
from safmn.schema import RunSettings
from safmn.training import capture, forms, loop, luma, validation

WARM_UP = 2
MIN_REPETITIONS, MAX_REPETITIONS = 3, 200
MIN_PATCHES = 4  # of a partial batch: with one or two, threads mostly wait for each other
SHARE_OF_MEMORY = 0.8  # that a calibrated step may use; the rest is for kernels' workspaces and other processes
PICTURE = {"cpu": (384, 384), "cuda": (1356, 2040)}  # HR height and width; only a large image keeps a GPU busy
NOISE_PICTURES = 8


class Timing(NamedTuple):
    """Repetitions of one piece of work: median in seconds, their number, interquartile range over median."""

    seconds: float
    repetitions: int
    spread: float


class Step(NamedTuple):
    """One training step.

    Attributes:
        seconds: of a step with the whole batch.
        batch: patches of a step of the study.
        measured_batch: patches of the steps that were timed; if fewer, `seconds` is scaled by the ratio.
        timing: of the steps that were timed.
        reason: why fewer patches were timed; "" if they were not.
    """

    seconds: float
    batch: int
    measured_batch: int
    timing: Timing
    reason: str

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self._asdict() | {"timing": self.timing._asdict()}


class Noise:
    """Images of noise with the interface of a packed dataset: `count` of HR size `height` x `width`."""

    def __init__(self, scale: int, height: int, width: int, count: int) -> None:
        draw = np.random.Generator(np.random.Philox(0))
        self.scale = scale
        self.path = Path("noise")
        self.names: Sequence[str] = [f"noise{number}" for number in range(count)]
        self._lr = [draw.integers(0, 256, (height // scale, width // scale, 3), np.uint8) for _ in self.names]
        self._hr = [draw.integers(0, 256, (height, width, 3), np.uint8) for _ in self.names]
        self.hr_pixels = count * height * width

    def __len__(self) -> int:
        return len(self.names)

    def lr(self, index: int) -> NDArray[np.uint8]:
        """Return an LR image, uint8 H x W x 3."""
        return self._lr[index]

    def hr(self, index: int) -> NDArray[np.uint8]:
        """Return its HR image, uint8 sH x sW x 3."""
        return self._hr[index]

    def channels(self, index: int) -> int:
        """Return the channels of an image: 3."""
        return 3


@contextmanager
def as_in_training(device: torch.device, settings: dict[str, Any]) -> Iterator[None]:
    """Set threads, precision and kernels as a training run with these settings does, and restore them afterwards.

    On a CPU with fewer cores than `settings["threads"]`, there is one thread for each core: more would scatter too
    much to be measured.
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


def timed(work: Callable[[], object], device: Device, budget: float, least: int = MIN_REPETITIONS) -> Timing:
    """Time `work` as often as fits into `budget` seconds; it may return before the device is done."""
    began = time.perf_counter()
    once = once_warm(work, device)
    repetitions = max(least, min(MAX_REPETITIONS, int((budget - (time.perf_counter() - began)) / once)))
    marks = [device.mark()]
    for _ in range(repetitions):
        work()
        marks.append(device.mark())
    device.synchronise()
    seconds = [device.elapsed(*pair) / 1e3 for pair in itertools.pairwise(marks)]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(middle, repetitions, (high - low) / middle if middle else 0.0)


def once_warm(work: Callable[[], object], device: Device) -> float:
    """Return the seconds of a single piece of work after the warm-up, to choose the number of repetitions."""
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
    device: Device,
    budget: float,
    peak: int,
    resident: bool | None = None,
) -> Step:
    """Time the training step of a specification, within `as_in_training`.

    Args:
        specification: from `Study.specification`.
        run_settings: the study's `run` section, which says whether a step is recorded as a CUDA graph.
        device: the device to calibrate on.
        budget: seconds, approximately.
        peak: bytes that a step of the whole batch needs, as `memory.predict_training` says.
        resident: whether training images lie on the device; None lets the sampler decide.

    Raises:
        UserError: not even one patch fits into memory.
    """
    batch = specification["training"]["batch"]
    stepping = partial(_stepping, specification, run_settings, device, resident)
    measured, reason = batch, ""
    room = SHARE_OF_MEMORY * free_memory(device)
    if peak > room:
        measured = _power_of_two(int(batch * room / peak))
        reason = f"{batch} patches would need {peak / 2**30:.1f} GiB, {room / 2**30:.1f} GiB may be used here"
    if device.kind == "cpu" and measured > MIN_PATCHES:  # a GPU takes a whole batch in the time of a few patches
        with stepping(1) as work:
            one = once_warm(work, device)
        affordable = max(MIN_PATCHES, _power_of_two(int(budget / (one * (WARM_UP + 1 + MIN_REPETITIONS)))))
        if affordable < measured:
            measured = affordable
            reason = f"more would take longer than the {budget:g} s for the steps of a network"
    while True:
        try:
            with stepping(measured) as work:
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
        measured = _power_of_two(measured // 2)  # outside of the handler, which keeps the failed step's tensors alive
        torch.cuda.empty_cache()


@contextmanager
def _stepping(
    specification: dict[str, Any],
    run_settings: RunSettings,
    device: Device,
    resident: bool | None,
    batch: int,
) -> Iterator[Callable[[], object]]:
    """Yield a function that draws one batch and does one step, recorded as a CUDA graph if training records it."""
    settings, scale = specification["training"], specification["scale"]
    side = 2 * settings["patch"] * scale
    where, noise = device.torch_device, Noise(scale, side, side, NOISE_PICTURES)
    # Always drawn by area, which takes as long: these images are too small for sub-images.
    sampler = PatchSampler(
        [noise],  # type: ignore[list-item]  # has what a sampler uses of packed pairs
        batch,
        settings["patch"],
        scale,
        seed=0,
        device=where,
        resident=resident,
    )
    info = networks.info(specification["network"])
    one = forms.step(networks.accelerate(networks.build(info.name, scale)), settings, where)
    learn, batch_of = capture.as_asked(one, run_settings, info.channels), luma.batches(sampler, info.colour)
    iterations = itertools.cycle(range(settings["iterations"]))

    def work() -> object:
        iteration = next(iterations)
        return learn(iteration, *batch_of(iteration))

    with sampler:
        if learn is not one:  # recorded before anything is timed
            for _ in range(capture.WARM_UP + 1):
                work()
        yield work


def validating(specification: dict[str, Any], device: Device, budget: float) -> float:
    """Return the seconds of a validation for each HR pixel, within `as_in_training`."""
    network, noise = _evaluated(specification, device, 1)
    pairs = [(noise.lr(0), noise.hr(0))]
    is_luma = networks.info(specification["network"]).colour == "Y"
    measure = validation.rgb_psnr_of_luma if is_luma else validation.rgb_psnr
    work = partial(measure, network, pairs, noise.scale)
    return timed(work, device, budget, least=2).seconds / noise.hr_pixels


def evaluating(specification: dict[str, Any], device: Device, budget: float) -> float:
    """Return the seconds of an evaluation, PSNR and SSIM included, for each HR pixel."""
    network, noise = _evaluated(specification, device, torch.get_num_threads())
    colour = networks.info(specification["network"]).colour
    work = partial(evaluation.evaluate, network, noise, noise.scale, channels=colour)
    return timed(work, device, budget, least=2).seconds / noise.hr_pixels


def _evaluated(specification: dict[str, Any], device: Device, count: int) -> tuple[torch.nn.Module, Noise]:
    """Return the network in eval mode and `count` images to run it on."""
    scale = specification["scale"]
    network = networks.accelerate(networks.build(specification["network"], scale)).to(device.torch_device).eval()
    return network, Noise(scale, *PICTURE[device.kind], count)


def starting(device: Device) -> float:
    """Return the seconds until a new process has imported training and evaluation and initialised the device."""
    program = "import torch, safmn.training.loop, safmn.quality.evaluation\n"
    program += f"torch.zeros(1, device={device.kind!r})"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - began


def free_memory(device: Device) -> float:
    """Return the bytes that a process could allocate on the device now; infinite if unknown."""
    if device.kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return float("inf")


def _power_of_two(number: int) -> int:
    """Return the largest power of two that is not above `number`; at least 1."""
    return 1 << max(0, number.bit_length() - 1)
