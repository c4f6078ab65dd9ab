"""The parts of `safmn gpu-check` that can be tried on a CPU, small: they pass what is equal and find what is not."""

import json
import math
from collections.abc import Callable
from pathlib import Path

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


class Clock:
    """A device whose work takes the milliseconds that it says."""

    kind = "cpu"
    torch_device = torch.device("cpu")
    now = 0.0

    def synchronise(self) -> None:
        pass

    def mark(self) -> float:
        return self.now

    def elapsed(self, start: float, stop: float) -> float:
        return stop - start

    def works(self, *milliseconds: float) -> Callable[[int], None]:
        turns = iter(milliseconds)

        def work(iteration: int) -> None:
            self.now += next(turns)

        return work


def test_forms_take_turns_and_the_first_turn_is_warm_up() -> None:
    clock, settings = Clock(), gpu_steps.settings_of(Cpu())
    ways = {"usual": (settings, clock.works(900, 10, 20, 10)), "other": (settings, clock.works(1, 5, 12, 4))}
    found = gpu_steps._by_turns(ways, clock)
    assert found["usual"] == {"ms": 10, "times_usual": 1, "times_usual_at_most": 1, "all_ms": [10, 20, 10]}
    other = {"ms": 5, "times_usual": 0.5, "times_usual_at_most": 0.6, "all_ms": [5, 12, 4]}
    assert found["other"] == other


@pytest.mark.parametrize("room", [3, 2])
def test_jobs_begin_together_once_all_are_ready(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the jobs: a device with room for `room` of them."""
    script = tmp_path / "python"
    script.write_text(
        f"""#!/bin/sh
read asked; echo "$asked" >>{tmp_path}/asked
[ $(wc -l <{tmp_path}/asked) -le {room} ] || exit 1
echo ready; read go; echo "$go" >>{tmp_path}/go
echo '{{"steps_a_second": 2.5}}'
"""
    )
    script.chmod(0o755)
    monkeypatch.setattr(gpu_steps.sys, "executable", str(script))
    if room < 3:
        with pytest.raises(RuntimeError, match="3 jobs do not fit the device"):
            gpu_steps._together(3, {"form": "usual", "graph": True})
        assert not (tmp_path / "go").exists()
        return
    assert gpu_steps._together(3, {"form": "usual", "graph": True}) == 7.5
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == [{"part": "busy", "device": "cuda", "form": "usual", "graph": True}] * 3
    assert (tmp_path / "go").read_text() == "go\n" * 3


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
