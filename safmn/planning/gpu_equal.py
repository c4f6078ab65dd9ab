"""Equality on a GPU, for `safmn gpu-check`: values with the CPU's float64, and bits of two ways of training."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safmn import networks
from safmn.device.description import Device
from safmn.errors import as_line
from safmn.networks import variants
from safmn.planning import calibration
from safmn.planning.gpu_steps import SCALE, Record, batches, new_step, settings_of
from safmn.quality import batched, evaluation
from safmn.training import capture, loss

TOLERANCE = {"forward": 1e-4, "gradient": 3e-2, "loss": 1e-4, "metrics": 1e-6, "evaluation_db": 1e-2}
"""Largest differences from the CPU's float64: of values relative to the largest, of gradients by norms, and in dB."""
Computed = tuple[Sequence[Tensor], Tensor, Sequence[Tensor]]
"""Values, a number, and the tensors with respect to which its gradient is taken."""


def scale_of(name: str) -> int:
    """Return x4, or the smallest scale of a network that has no x4."""
    scales = networks.info(name).scales
    return SCALE if SCALE in scales else scales[0]


# --- Values ----------------------------------------------------------------------------------------------------------


def equality(device: Device, request: Record) -> Record:
    """Compare every network's forward pass and gradients, the loss, metrics and evaluation with the CPU's float64."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, Record] = {}
    for name in networks.all_networks():
        try:
            found[name] = network_differs(name, device)
        except Exception as error:  # one network must not lose the others
            found[name] = {"error": as_line(error)}
    found |= {"loss": loss_differs(device), "metrics": metrics_differ(device), "evaluation": evaluation_differs(device)}
    wrong = [name for name, each in found.items() if not is_within(each)]
    worst = {key: largest(each.get(key, 0.0) for each in found.values()) for key in ("forward", "gradient")}
    summary = f"{len(found) - len(wrong)} of {len(found)} equal to float64 on the CPU; largest difference of a forward "
    summary += f"pass {worst['forward']:.1e}, of a gradient {worst['gradient']:.1e}"
    summary += f"; NOT EQUAL: {', '.join(wrong)}" if wrong else ""
    return {"passed": not wrong, "summary": summary, "tolerance": TOLERANCE, "differences": found}


def is_within(differences: Record) -> bool:
    """Say whether all differences are within TOLERANCE; NaN is not, nor an error."""
    return "error" not in differences and all(value <= TOLERANCE[key] for key, value in differences.items())


def largest(numbers: Iterable[float]) -> float:
    """Return the largest number, 0 of none; NaN if one is NaN, which Python's `max` may pass over."""
    return float(torch.tensor([0.0, *numbers], dtype=torch.float64).max())


def network_differs(name: str, device: Device) -> Record:
    """Compare a variant in training mode, as it is trained; a published network in eval mode, as it is used."""
    channels, scale = networks.info(name).channels, scale_of(name)
    torch.manual_seed(0)
    written = networks.build(name, scale).train(name in variants.discover())
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, channels, 24, 32, generator=generator)
    weight = torch.randn(2, channels, 24 * scale, 32 * scale, generator=generator)

    def compute(on: torch.device, dtype: torch.dtype) -> Computed:
        network = copy.deepcopy(written) if dtype == torch.float64 else networks.accelerate(copy.deepcopy(written))
        network = network.to(on, dtype)
        x = image.to(on, dtype).requires_grad_()
        y = network(x)
        wanted = [x, *(each for each in network.parameters() if each.requires_grad)]
        return [y], (y * weight.to(on, dtype)).sum(), wanted

    forward, gradient = _differences(compute, device)
    return {"forward": forward, "gradient": gradient}


def loss_differs(device: Device) -> Record:
    """Compare both terms of the paper's loss and their gradient."""
    generator = torch.Generator().manual_seed(0)
    sr, hr = (torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2))

    def compute(on: torch.device, dtype: torch.dtype) -> Computed:
        x = sr.to(on, dtype).requires_grad_()
        terms = loss.terms(x, hr.to(on, dtype))
        return [*terms], terms[0] + 0.05 * terms[1], [x]

    value, gradient = _differences(compute, device)
    return {"loss": value, "gradient": gradient}


def _differences(compute: Callable[[torch.device, torch.dtype], Computed], device: Device) -> tuple[float, float]:
    """Return the largest relative differences of values and gradients on the device from float64 on the CPU."""
    found = []
    for on, dtype in ((torch.device("cpu"), torch.float64), (device.torch_device, torch.float32)):
        values, total, wanted = compute(on, dtype)
        gradients = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
        found.append(
            [[each.detach().cpu().double() for each in some if each is not None] for some in (values, gradients)]
        )
    (exact, exact_gradients), (got, got_gradients) = found
    value = largest(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, exact, strict=True))
    least = max(1e-30, 1e-3 * largest(float(each.norm()) for each in exact_gradients))
    # By norms: where rounding turns the sign of a ReLU's input, single values of a gradient differ as a whole.
    pairs = zip(got_gradients, exact_gradients, strict=True)
    return value, largest(float((a - b).norm()) / max(float(b.norm()), least) for a, b in pairs)


def metrics_differ(device: Device) -> Record:
    """Compare PSNR and SSIM of float64 planes."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2, 48, 64, dtype=torch.float64, generator=generator) * 255 for _ in range(2))
    found = []
    for metric in (batched.psnr_planes, batched.ssim_planes):
        there = metric(first.to(device.torch_device), second.to(device.torch_device)).cpu()
        found.append(float((there - metric(first, second)).abs().max()))
    return {"metrics": largest(found)}


def evaluation_differs(device: Device) -> Record:
    """Compare the PSNR of SAFMN on three images of noise, in dB."""
    noise = calibration.Noise(SCALE, 96, 128, 3)
    torch.manual_seed(0)
    network = networks.build("safmn", SCALE).eval()
    scores = []
    for on in (device.torch_device, torch.device("cpu")):
        evaluated = evaluation.evaluate(networks.accelerate(copy.deepcopy(network)).to(on), noise, SCALE)
        scores.append([score.psnr for score in evaluated.scores])
    return {"evaluation_db": largest(abs(one - other) for one, other in zip(*scores, strict=True))}


# --- Bits ------------------------------------------------------------------------------------------------------------


def graph(device: Device, request: Record) -> Record:
    """Train eagerly, as a CUDA graph, and resumed from one in the other: all must end with the same bits."""
    ways = {"eager": ["eager"], "eager, resumed": ["eager", "eager"]}
    count, batch, remark = 6, 1, " (a CUDA graph needs a GPU)"
    if device.kind == "cuda":
        ways |= {"graph": ["graph"], "graph, resumed eagerly": ["graph", "eager"]}
        ways |= {"eager, resumed as a graph": ["eager", "graph"]}
        count, batch, remark = 50, 8, ""
    settings = settings_of(device, batch=batch, patch=32)
    digests = {name: trained("safmn", modes, count, settings, device) for name, modes in ways.items()}
    different = [name for name, digest in digests.items() if digest != digests["eager"]]
    summary = f"{', '.join(ways)}: {count} iterations, {_bits(different)}{remark}"
    return {"passed": not different, "summary": summary, "digests": digests}


def determinism(device: Device, request: Record) -> Record:
    """Train every variant twice from the same seed; on a CPU three of them."""
    names, count, batch, patch = ["safmn", "ln_bn", "avg_pool"], 1, 1, 16
    if device.kind == "cuda":
        names, count, batch, patch = list(variants.discover()), 10, 8, 64
    settings = settings_of(device, batch=batch, patch=patch)
    twice = {name: {trained(name, ["eager"], count, settings, device) for _ in range(2)} for name in names}
    different = [name for name, digests in twice.items() if len(digests) > 1]
    summary = f"{len(names)} variants trained twice for {count} iterations: {_bits(different)}"
    return {"passed": not different, "summary": summary, "different": different}


def _bits(different: list[str]) -> str:
    return f"OTHER BITS: {', '.join(different)}" if different else "the same bits"


def trained(name: str, modes: Sequence[str], count: int, settings: dict[str, Any], device: Device) -> str:
    """Train for `count` iterations, an equal share in each mode with a saved state between; digest the last state."""
    made = batches(count, settings, device)
    state: Record | None = None
    with calibration.as_in_training(device.torch_device, settings):
        for number, mode in enumerate(modes):
            step = new_step(name, settings, device)
            if state is not None:
                step.restore(state)
            learn = capture.CapturedStep(step) if mode == "graph" else step
            for iteration in range(count * number // len(modes), count * (number + 1) // len(modes)):
                learn(iteration, *made[iteration])
            state = tree_map(lambda value: value.cpu().clone() if isinstance(value, Tensor) else value, step.state())
    digested = hashlib.sha256()
    for leaf in tree_leaves(state):
        if isinstance(leaf, Tensor):
            digested.update(leaf.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digested.hexdigest()
