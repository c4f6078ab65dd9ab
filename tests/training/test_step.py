"""One step, and five, against a trainer that is written out here: loss, schedule, Adam, average; and its recording."""

import contextlib
import copy
import math
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.schema import RunSettings
from safmn.training import capture
from safmn.training.capture import CapturedStep
from safmn.training.step import TrainStep

USUAL = {
    "iterations": 50,
    "learning_rate": 1e-2,
    "minimum_learning_rate": 1e-4,
    "betas": [0.9, 0.99],
    "fft_weight": 0.05,
    "ema": 0.999,
    "ema_buffers": "track",
    "precision": "float32",
}
CPU = torch.device("cpu")


def network() -> nn.Module:
    """Something to train in double precision, where no sign is left to rounding: x2."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2)
    return nn.Sequential(*layers).double()


def batches(count: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        tuple(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator) for side in (8, 16))
        for _ in range(count)
    ]


class Reference:
    """Section 4.1 and the papers that it names, number by number."""

    def __init__(self, trained: nn.Module, settings: dict) -> None:
        self.network, self.settings = copy.deepcopy(trained), settings
        self.parameters = list(self.network.parameters())
        self.first = [torch.zeros_like(each) for each in self.parameters]
        self.second = [torch.zeros_like(each) for each in self.parameters]
        self.average = [each.detach().clone() for each in self.parameters]

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> list[float]:
        """Trains on one batch; L1 term, weighted frequency term, gradient norm."""
        settings = self.settings
        sr, hr = self.network(lr.double() / 255), hr.double() / 255
        l1 = (sr - hr).abs().mean()
        spectra = [torch.fft.rfft2(image) for image in (sr, hr)]
        gap = spectra[0] - spectra[1]
        frequency = settings["fft_weight"] * (gap.real.abs().mean() + gap.imag.abs().mean()) / 2
        gradients = torch.autograd.grad(l1 + frequency, self.parameters)
        highest, lowest = settings["learning_rate"], settings["minimum_learning_rate"]
        rate = lowest + (highest - lowest) * (1 + math.cos(math.pi * iteration / settings["iterations"])) / 2
        one, two = settings["betas"]
        t = iteration + 1
        with torch.no_grad():
            for parameter, gradient, m, v, mean in zip(
                self.parameters, gradients, self.first, self.second, self.average, strict=True
            ):
                m.mul_(one).add_((1 - one) * gradient)
                v.mul_(two).add_((1 - two) * gradient**2)
                parameter -= rate * (m / (1 - one**t)) / ((v / (1 - two**t)).sqrt() + 1e-8)
                # The average follows the weights that the step has just made.
                mean.mul_(settings["ema"]).add_((1 - settings["ema"]) * parameter)
        norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients))
        return [l1.item(), frequency.item(), norm]


def both(changes: dict, steps: int = 5) -> tuple[TrainStep, Reference, list[tuple[list[float], list[float]]]]:
    """The step and the reference after the same batches, and what each said of them."""
    settings = USUAL | changes
    step, reference = TrainStep(network(), settings, CPU), Reference(network(), settings)
    said = [
        (step(iteration, lr, hr).tolist(), reference(iteration, lr, hr))
        for iteration, (lr, hr) in enumerate(batches(steps))
    ]
    return step, reference, said


def check_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-9, atol=1e-12)


CHANGES = [
    *({"fft_weight": weight} for weight in (0.0, 0.013, 0.05, 1.7)),
    *({"ema": decay} for decay in (0.0, 0.3, 0.9, 0.999)),
    *({"betas": betas} for betas in ([0.9, 0.99], [0.5, 0.9], [0.0, 0.99], [0.9, 0.999], [0, 0.5])),
    {"fft_weight": 0.4, "betas": [0.7, 0.95], "ema": 0.6, "learning_rate": 3e-3, "iterations": 9},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_setting_does_what_it_does_in_the_reference(changes):
    """Losses and gradient norm, weights, their average and Adam's moments after each of the steps."""
    step, reference, said = both(changes, steps=9 if len(changes) > 1 else 5)
    for found, expected in said:
        assert found == pytest.approx(expected, rel=1e-5)  # the values are float32 or better
    parameters = list(step.network.parameters())
    check_equal(parameters, reference.parameters)
    check_equal(list(step.average.network.parameters()), reference.average)
    check_equal([step.optimiser.state[parameter]["exp_avg"] for parameter in parameters], reference.first)
    check_equal([step.optimiser.state[parameter]["exp_avg_sq"] for parameter in parameters], reference.second)


# --- resuming on another device ---


def test_a_state_goes_on_by_the_rules_of_the_device_that_is_there():
    """Saved on a GPU, its groups say capturable; saved on a CPU, they do not, and a graph could not be recorded."""
    for capturable, fused in ((True, True), (False, False), (None, None)):
        step = TrainStep(network(), USUAL, CPU)
        saved = copy.deepcopy(step.state())
        lr, hr = batches(1)[0]
        step(0, lr, hr)
        saved = copy.deepcopy(step.state())
        for group in saved["optimiser"]["param_groups"]:
            group |= {"capturable": capturable, "fused": fused, "lr": torch.tensor(0.5), "foreach": True}
            if capturable is None:
                del group["capturable"], group["fused"], group["foreach"]  # of a torch that did not know them
        other = TrainStep(network(), USUAL, CPU)
        other.restore(saved)
        (present,), (fresh,) = other.optimiser.param_groups, TrainStep(network(), USUAL, CPU).optimiser.param_groups
        assert {key: value for key, value in present.items() if key != "params"} == {
            key: value for key, value in fresh.items() if key != "params"
        }
        assert torch.equal(other(1, lr, hr), step(1, lr, hr))
        for one, two in zip(other.network.parameters(), step.network.parameters(), strict=True):
            assert torch.equal(one, two)


def test_on_cuda_a_state_of_a_cpu_can_be_recorded():
    """`capturable` is as on a GPU afterwards; the device itself is not needed to see that."""
    saved = TrainStep(network(), USUAL, CPU).state()
    assert saved["optimiser"]["param_groups"][0]["capturable"] is False
    other = TrainStep(network(), USUAL, CPU)
    other.optimiser.param_groups[0]["capturable"] = True  # as a TrainStep on CUDA is made
    other.restore(saved)
    assert other.optimiser.param_groups[0]["capturable"] is True


class OwnAdam(torch.optim.Adam):
    """A user's own, with torch's fused kernel."""


@pytest.mark.parametrize("optimiser", [{"name": "adam"}, {"name": f"{__name__}:OwnAdam", "fused": True}])
def test_moments_of_another_layout_stay_with_their_weights(optimiser):
    """A state of a GPU is contiguous, weights on a CPU are channels-last, and torch's fused Adam pairs by address."""
    (lr, hr), (later_lr, later_hr) = batches(2)
    settings = USUAL | {"optimiser": optimiser}
    step = TrainStep(network(), settings, CPU)
    step(0, lr, hr)
    saved = copy.deepcopy(step.state())
    moved = 0
    for kept in (saved["network"], *saved["optimiser"]["state"].values()):
        for name, value in kept.items():
            kept[name] = value.contiguous()
            moved += kept[name].stride() != value.stride()
    assert moved > 0
    other = TrainStep(network(), settings, CPU)
    other.restore(saved)
    other(1, later_lr, later_hr)
    step(1, later_lr, later_hr)
    for one, two in zip(other.network.parameters(), step.network.parameters(), strict=True):
        assert torch.equal(one, two)
        for moment in ("exp_avg", "exp_avg_sq"):  # the kernel on CUDA refuses any other
            assert other.optimiser.state[one][moment].stride() == one.stride()


# --- other optimisers, against torch's own loop ---

OPTIMISERS = [
    ({"optimiser": {"name": "adamw"}}, torch.optim.AdamW, {"betas": (0.9, 0.99), "weight_decay": 0.01}),
    (
        {"optimiser": {"name": "adamw", "eps": 1e-3, "amsgrad": True}, "weight_decay": 0.3},
        torch.optim.AdamW,
        {"betas": (0.9, 0.99), "weight_decay": 0.3, "eps": 1e-3, "amsgrad": True},
    ),
    (
        {"optimiser": {"name": "adamw", "betas": [0.5, 0.6], "weight_decay": 0.2}},
        torch.optim.AdamW,
        {"betas": (0.5, 0.6), "weight_decay": 0.2},
    ),
    ({"weight_decay": 0.1}, torch.optim.Adam, {"betas": (0.9, 0.99), "weight_decay": 0.1}),
    ({"optimiser": {"name": "sgd"}}, torch.optim.SGD, {}),
    (
        {"optimiser": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "weight_decay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    (
        {"optimiser": {"name": "sgd", "momentum": 0.8, "dampening": 0.3}, "gradient_clip": 0.5, "warm_up": 3},
        torch.optim.SGD,
        {"momentum": 0.8, "dampening": 0.3},
    ),
    ({"gradient_clip": 1e-3}, torch.optim.Adam, {"betas": (0.9, 0.99)}),
    ({"gradient_clip": 1e3, "schedule": {"name": "constant"}}, torch.optim.Adam, {"betas": (0.9, 0.99)}),
]


@pytest.mark.parametrize(("changes", "kind", "arguments"), OPTIMISERS, ids=lambda value: str(value)[:60])
def test_other_optimisers_take_the_steps_of_torchs(changes, kind, arguments):
    """Its plainest form, one parameter at a time; gradients by automatic differentiation, clipped by torch."""
    settings = USUAL | changes
    step, other = TrainStep(network(), settings, CPU), network()
    optimiser = kind(other.parameters(), lr=settings["learning_rate"], foreach=False, **arguments)
    for iteration, (lr, hr) in enumerate(batches(6)):
        *_, norm = step(iteration, lr, hr).tolist()
        sr, target = other(lr.double() / 255), hr.double() / 255
        spectra = [torch.view_as_real(torch.fft.rfft2(image)) for image in (sr, target)]
        loss = (sr - target).abs().mean() + 0.05 * (spectra[0] - spectra[1]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        clip = settings.get("gradient_clip") or math.inf
        assert norm == pytest.approx(nn.utils.clip_grad_norm_(other.parameters(), clip).item(), rel=1e-9)
        warm = min(1.0, (iteration + 1) / settings.get("warm_up", 1))
        cosine = 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * iteration / 50)) / 2
        if settings.get("warm_up"):
            start = settings["warm_up"]
            cosine = 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * max(0, iteration - start) / (50 - start))) / 2
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 if "schedule" in changes else warm * cosine if warm == 1 else warm * 1e-2
        optimiser.step()
    check_equal(list(step.network.parameters()), list(other.parameters()))


# --- recording, with stand-ins for what CUDA does ---


class Graph:
    """A recording that repeats what was done within it."""

    made: ClassVar[list["Graph"]] = []

    def __init__(self) -> None:
        self.replayed = 0
        Graph.made.append(self)

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def cuda(monkeypatch):
    """Streams and graphs that do nothing; `refuse` makes the next recordings end with an error."""
    said = SimpleNamespace(refuse=None)

    @contextlib.contextmanager
    def recording(graph, **_):
        yield
        if said.refuse is not None:
            raise said.refuse

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    Graph.made = []
    return said


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted when stream is capturing\nmore"), ValueError()]
)
def test_a_recording_that_fails_is_told_and_leaves_no_half_graph(cuda, error):
    captured = CapturedStep(TrainStep(network(), USUAL, CPU))
    cuda.refuse = error
    lr, hr = batches(1)[0]
    for iteration in range(capture.WARM_UP):
        captured(iteration, lr, hr)
    for _ in range(2):  # asked again, it does not replay what was not recorded
        with pytest.raises(
            UserError, match=r"cannot be recorded as a CUDA graph .* set run.cuda_graph: false"
        ) as caught:
            captured(capture.WARM_UP, lr, hr)
        assert "\n" not in str(caught.value)
    assert [graph.replayed for graph in Graph.made] == [0, 0]


def test_a_recording_that_runs_out_of_memory_says_that(cuda):
    captured = CapturedStep(TrainStep(network(), USUAL, CPU))
    cuda.refuse = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
    lr, hr = batches(1)[0]
    for iteration in range(capture.WARM_UP):
        captured(iteration, lr, hr)
    with pytest.raises(torch.OutOfMemoryError):
        captured(capture.WARM_UP, lr, hr)


@pytest.mark.parametrize(
    ("device", "asked", "recorded"), [("cpu", True, False), ("cuda", False, False), ("cuda", True, True)]
)
def test_a_step_is_recorded_if_the_study_asks_for_it_on_cuda(cuda, device, asked, recorded):
    step = TrainStep(network(), USUAL, CPU)
    step.device = torch.device(device)
    assert isinstance(capture.as_asked(step, RunSettings(cuda_graph=asked)), CapturedStep) == recorded
