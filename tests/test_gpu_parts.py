"""The parts of `safmn gpu-check` that can be tried on a CPU, small: they pass what is equal and find what is not."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from safmn import networks
from safmn.cost import memory
from safmn.device.description import Cpu
from safmn.planning import gpu_check, gpu_equal, gpu_parts, gpu_steps
from safmn.training.step import TrainStep


@pytest.mark.parametrize("part", ["tests", "memory", "sharing", "hours"])
def test_what_needs_a_gpu_says_so(part: str) -> None:
    found = gpu_parts.serve({"part": part, "device": "cpu", "study": "t291"})
    assert (found["status"], found["passed"]) == ("needs a GPU", None)


def test_every_part_of_the_check_is_known_to_its_process() -> None:
    assert {part.request.get("part", part.name) for part in gpu_check.PARTS} <= set(gpu_parts.PARTS)


@pytest.mark.parametrize("place", ["weight", "gradient"])
def test_nan_in_any_gradient_is_not_equal(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max` of Python passes over a NaN that is not the first."""

    def spoiled(network: torch.nn.Module) -> torch.nn.Module:
        *_, last = network.parameters()
        if place == "weight":
            last.data[0] = float("nan")
        else:
            last.register_hook(lambda gradient: gradient * float("nan"))
        return network

    monkeypatch.setattr(networks, "accelerate", spoiled)
    assert not gpu_equal.is_within(gpu_equal.network_differs("espcn", Cpu()))


@pytest.mark.parametrize("name", ["blocks_4", "espcn", "bicubic"])
def test_a_network_is_compared_with_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpu_equal.network_differs(name, Cpu())
    assert gpu_equal.is_within(found)
    assert found["forward"] < 1e-5

    def slightly_wrong(network: torch.nn.Module) -> torch.nn.Module:
        network.register_forward_hook(lambda module, inputs, output: output * 1.001)
        return network

    monkeypatch.setattr(networks, "accelerate", slightly_wrong)
    assert not gpu_equal.is_within(gpu_equal.network_differs(name, Cpu()))


def test_loss_and_metrics_are_compared_and_nan_is_not_equal() -> None:
    assert gpu_equal.is_within(gpu_equal.loss_differs(Cpu()))
    assert gpu_equal.is_within(gpu_equal.metrics_differ(Cpu()))
    assert not gpu_equal.is_within({"forward": float("nan")})
    assert not gpu_equal.is_within({"error": "no such kernel"})
    assert math.isnan(gpu_equal.largest([1.0, float("nan"), 0.5]))


def test_bits_of_a_resumed_run_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gpu_steps.settings_of(Cpu(), batch=1, patch=8)
    one, resumed = (gpu_equal.trained("blocks_4", modes, 4, settings, Cpu()) for modes in (["eager"], ["eager"] * 2))
    assert one == resumed
    original = TrainStep.restore

    def forgetful(self: TrainStep, state: dict) -> None:
        original(self, state)
        next(iter(self.network.parameters())).data[0, 0, 0, 0] += 1e-6

    monkeypatch.setattr(TrainStep, "restore", forgetful)
    assert gpu_equal.trained("blocks_4", ["eager"] * 2, 4, settings, Cpu()) != one


class Count(TorchDispatchMode):
    """Counts operations, without views."""

    operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += not any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        return func(*args, **(kwargs or {}))


def test_the_floor_has_the_operations_of_a_step_whose_optimiser_is_fused() -> None:
    """Without data Adam goes tensor by tensor, which is six times as many; a step on a CPU has the fused one."""
    settings = gpu_steps.settings_of(Cpu(), batch=1, patch=16)
    network = memory.use_form(networks.build("safmn", 4), "fused")
    step = TrainStep(network, settings, torch.device("cpu"))
    batch = [torch.zeros(1, 3, side, side, dtype=torch.uint8) for side in (16, 64)]
    step(0, *batch)
    with Count() as real:
        step(1, *batch)
    traffic, _ = gpu_steps.traffic_of(settings)
    assert traffic.operations == pytest.approx(real.operations, rel=0.05)  # a CPU is channels-last: other copies


def test_traffic_counts_what_is_read_and_written_and_no_views() -> None:
    with gpu_steps.Traffic() as traffic:
        first, second = torch.empty(2, 5, device="meta"), torch.empty(2, 5, device="meta")
        traffic.operations = traffic.bytes = 0
        total = first + second  # reads two, writes one
        total.view(10).t()
        total.mul_(2)  # reads and writes one
    assert (traffic.operations, traffic.bytes) == (2, 4 * (30 + 20))
