"""Timing on a made-up device that keeps its own clock and notices when it is not waited for; and the real command."""

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safmn import cli, networks
from safmn.cost import runtime, timing
from safmn.errors import UserError


class FakeDevice:
    """A stream that runs behind the program: work is queued, and done only when the program waits for it.

    A mark is a time in the stream. Reading one before the stream has been waited for is the mistake that makes a GPU
    look as fast as its launches; starting a timing while earlier work is queued times that work, too.
    """

    kind = "fake"
    torch_device = torch.device("cpu")

    def __init__(self) -> None:
        self.now = 0.0  # ms of work queued so far
        self.waited = 0.0  # ms of it that the program has waited for
        self.calls: list[str] = []

    def work(self, milliseconds: float, label: str = "pass") -> None:
        self.calls.append(label)
        self.now += milliseconds

    def synchronise(self) -> None:
        self.calls.append("synchronise")
        self.waited = self.now

    def mark(self) -> tuple[float, bool]:
        self.calls.append("mark")
        return self.now, self.waited == self.now

    def elapsed(self, start: tuple[float, bool], stop: tuple[float, bool]) -> float:
        assert start[1], "the timing began while the device was still at work"
        assert self.waited >= stop[0], "the time was read before the device was done"
        return stop[0] - start[0]


class Toy(nn.Module):
    """Costs what `cost(n)` says in its n-th pass, counted from 0."""

    def __init__(self, device: FakeDevice, label: str, cost: Callable[[int], float], gain: float = 2.0) -> None:
        super().__init__()
        self.device, self.label, self.cost, self.gain = device, label, cost, gain
        self.passes = 0

    def forward(self, image: Tensor) -> Tensor:
        self.device.work(self.cost(self.passes), self.label)
        self.passes += 1
        return image * self.gain


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


Toys = dict[str, Callable[[], nn.Module]]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Toys:
    """Name -> maker of a toy network, found by `networks.build` in place of the real ones."""
    makers: Toys = {}
    monkeypatch.setattr(networks, "build", lambda name, scale: makers[name]())
    one_channel = networks.info("fsrcnn")
    monkeypatch.setattr(networks, "info", lambda name: one_channel)
    return makers


def run(names: Sequence[str], device: FakeDevice, images: int = 6, rounds: int = 2, **more: object) -> dict:
    return timing.run_interleaved(names, 4, images, rounds, height=8, width=8, device=device, **more)


# --- One timing ------------------------------------------------------------------------------------------------------


def test_the_device_is_idle_before_and_done_after(device: FakeDevice) -> None:
    device.work(100.0, "earlier")
    assert timing.timed(Toy(device, "pass", lambda n: 7.0), torch.zeros(1), device) == 7.0
    assert device.calls == ["earlier", "synchronise", "mark", "pass", "mark", "synchronise"]


# --- Warm-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "stable", "passes", "duration"),
    [
        (lambda n: max(100.0, 3000.0 - 200.0 * n), True, 15, 1000.0),  # slow for 15 passes
        (lambda n: 10.0, True, 99, 1000.0),  # steady, as a GPU is at its idle clock until it raises its clock
        (lambda n: 1.2**n, False, 1, timing.MAX_WARMUP),  # never settles
    ],
)
def test_warm_up_lasts_until_the_times_agree(
    cost: Callable[[int], float], stable: bool, passes: int, duration: float, device: FakeDevice
) -> None:
    network = Toy(device, "pass", cost)
    assert timing.warm_up(network, torch.zeros(1), device) == {
        "warmup_passes": network.passes,
        "warmup_stable": stable,
    }
    assert network.passes > passes
    assert device.now >= duration


def test_slow_first_passes_do_not_reach_the_figures(device: FakeDevice, toys: Toys) -> None:
    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: [5000.0, 4000.0, 3000.0, 2000.0][n] if n < 4 else 10.0)
    record = run(["safmn"], device)["safmn/eager"]
    assert record["status"] == "timed"
    assert (record["median_ms"], record["mean_ms"], record["iqr_ms"], record["images"]) == (10.0, 10.0, 0.0, 6)
    # The field's habit, on the contrary, has them.
    habit = timing.run_habit("safmn", 4, 6, 8, 8, device)
    assert habit["mean_ms"] == pytest.approx((14_000.0 + 2 * 10.0) / 6)
    assert (habit["first_ms"], habit["images"]) == (5000.0, 6)


# --- Rounds ----------------------------------------------------------------------------------------------------------


def test_networks_take_turns_and_every_image_is_timed_once(device: FakeDevice) -> None:
    toys = {name: Toy(device, name, lambda n: 1.0) for name in "ab"}
    images = {name: [torch.full((1,), float(index)) for index in range(5)] for name in "ab"}
    times, failed = timing.interleave(toys, images, 2, device)
    assert failed == {}
    assert {name: len(values) for name, values in times.items()} == {"a": 5, "b": 5}
    passes = [call for call in device.calls if call in "ab"]
    # An untimed pass, then images 0, 2, 4; the other network; in the next round they change places.
    assert "".join(passes) == "aaaa" + "bbbb" + "bbb" + "aaa"
    assert device.calls.count("mark") == 2 * 10


def test_a_drifting_clock_hits_all_alike(device: FakeDevice) -> None:
    slowing = lambda n: 1.0 + device.now / 1000.0  # noqa: E731
    toys = {name: Toy(device, name, slowing) for name in "ab"}
    images = {name: [torch.zeros(1)] * 40 for name in "ab"}
    one, _ = timing.interleave(toys, images, 1, device)
    many, _ = timing.interleave(toys, images, 10, device)
    apart, together = (statistics.median(t["b"]) / statistics.median(t["a"]) - 1 for t in (one, many))
    assert abs(together) < 0.01 < abs(apart)


# --- Modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1.05, float("nan"), 1 + 5e-5])
def test_a_mode_that_computes_something_else_is_not_timed(
    gain: float, device: FakeDevice, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    monkeypatch.setitem(timing.MODES, "fused", lambda network, sample: lambda image: network(image) * gain)
    found = run(["safmn"], device, modes=["fused"])
    assert found["safmn/eager"]["status"] == "timed"
    record = found["safmn/fused"]
    if gain == 1 + 5e-5:  # equal but for rounding
        assert (record["status"], record["tolerance"]) == ("timed", 1e-4)
        assert record["difference_from_eager"] == pytest.approx(5e-5, rel=0.01)
        return
    assert record["status"] == "unavailable"
    assert "differs from eager" in record["reason"]
    assert "tolerance 0.0001" in record["reason"]


def test_modes_that_need_a_gpu_say_so(device: FakeDevice) -> None:
    found = timing.run_interleaved(
        ["espcn"], 4, 1, 1, modes=["half", "cuda_graph", "fused", "channels_last"], height=8, width=8
    )
    assert found["espcn/half"] == {"status": "unavailable", "reason": "half precision is timed on CUDA only"}
    assert found["espcn/cuda_graph"] == {"status": "unavailable", "reason": "CUDA graphs need CUDA"}
    assert found["espcn/fused"]["status"] == "unavailable"
    assert found["espcn/channels_last"]["difference_from_eager"] <= 1e-4


def test_the_modes_of_safmn_itself_compute_the_same() -> None:
    found = timing.run_interleaved(["blocks_4"], 2, 1, 1, modes=["fused", "channels_last"], height=16, width=16)
    assert [record["status"] for record in found.values()] == ["timed"] * 3


def test_a_compiler_that_is_missing_is_a_reason(
    device: FakeDevice, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    monkeypatch.setattr(torch, "compile", lambda network: broken)
    record = run(["safmn"], device, modes=["compiled"])["safmn/compiled"]
    assert record == {"status": "unavailable", "reason": "torch.compile failed: RuntimeError: capture failed"}


class Failing(nn.Module):
    """Raises after so many passes of half a second."""

    def __init__(self, device: FakeDevice, error: Exception, after: int = 0) -> None:
        super().__init__()
        self.device, self.error, self.left = device, error, after

    def forward(self, image: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        self.device.work(500.0)
        return image


def test_running_out_of_memory_costs_one_network_not_the_run(
    device: FakeDevice, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = torch.OutOfMemoryError("Tried to allocate 9.00 GiB.\nmore")
    toys["safmn"] = toys["no room for images"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    toys["at once"] = lambda: Failing(device, error)
    toys["later"] = lambda: Failing(device, error, after=9)
    noise = timing.noise

    def too_much(name: str, *rest: object) -> list[Tensor]:
        # Beyond any address space, whatever the system promises: the error of a CPU.
        return torch.empty(2**58, dtype=torch.uint8) if name == "no room for images" else noise(name, *rest)

    monkeypatch.setattr(timing, "noise", too_much)
    names = ["at once", "later", "no room for images"]
    found = run([*names, "safmn"], device)
    for name in names:
        record = found[f"{name}/eager"]
        assert record["status"] == "out of memory"
        assert record["requested_lr"] == {"height": 8, "width": 8}
        if name == "no room for images":
            assert "allocate" in record["message"]
        else:
            assert record["message"] == "OutOfMemoryError: Tried to allocate 9.00 GiB."
    assert found["safmn/eager"]["status"] == "timed"
    for name in ("at once", "no room for images"):
        assert timing.run_habit(name, 4, 2, 8, 8, device)["status"] == "out of memory"


CAPTURE = RuntimeError("capture failed\nand much more")


def broken(image: Tensor) -> Tensor:
    raise CAPTURE


@pytest.mark.parametrize("passes", [0, 5], ids=["when it is prepared", "in its turn"])
def test_a_mode_that_fails_does_not_take_the_others_with_it(
    passes: int, device: FakeDevice, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode(network: nn.Module, sample: Tensor) -> Callable[[Tensor], Tensor]:
        left = iter(range(passes))
        return lambda image: network(image) if next(left, None) is not None else broken(image)

    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    monkeypatch.setitem(timing.MODES, "fused", mode)
    found = run(["safmn"], device, modes=["fused", "channels_last"])
    assert found["safmn/fused"] == {"status": "unavailable", "reason": "RuntimeError: capture failed"}
    assert [found[f"safmn/{each}"]["status"] for each in ("eager", "channels_last")] == ["timed"] * 2


def test_a_network_that_fails_does_not_take_the_others_with_it(device: FakeDevice, toys: Toys) -> None:
    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    toys["other"] = lambda: Failing(device, CAPTURE)
    found = run(["other", "safmn"], device, modes=["channels_last"])
    assert found["other/eager"] == {"status": "unavailable", "reason": "RuntimeError: capture failed"}
    assert found["other/channels_last"]["reason"].startswith("eager did not run")
    assert found["safmn/eager"]["status"] == found["safmn/channels_last"]["status"] == "timed"
    assert timing.run_habit("other", 4, 2, 8, 8, device)["reason"] == "RuntimeError: capture failed"
    toys["safmn"] = lambda: Failing(device, CAPTURE)  # without the reference nothing can be said
    with pytest.raises(RuntimeError, match="capture failed"):
        run(["safmn"], device)


def test_on_cuda_a_failure_ends_the_process(device: FakeDevice, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    device.kind = "cuda"
    toys["safmn"] = lambda: Toy(device, "safmn", lambda n: 500.0)
    monkeypatch.setitem(timing.MODES, "cuda_graph", lambda network, sample: broken)
    with pytest.raises(timing.Failed, match="safmn/cuda_graph: RuntimeError: capture failed"):
        run(["safmn"], device, modes=["cuda_graph"])
    found = run(["safmn"], device, modes=["cuda_graph"], failed={"safmn/cuda_graph": "capture failed"})
    assert found["safmn/cuda_graph"] == {"status": "unavailable", "reason": "capture failed"}
    assert found["safmn/eager"]["status"] == "timed"


# --- Several processes -----------------------------------------------------------------------------------------------


def a_time(median: float = 1.0) -> dict:
    return {"status": "timed", "median_ms": median, "mean_ms": median + 1, "iqr_ms": 0.1}


def test_ratios_are_taken_within_a_process() -> None:
    # The device was twice as slow in the second process: the times spread, the ratio does not.
    times = ((30, 10), (60, 20), (33, 11))
    runs = [{"net/eager": a_time(net), "safmn/eager": a_time(safmn)} for net, safmn in times]
    found = runtime.combine(["net", "safmn"], ["eager"], runs, {"net": {"mean_ms": 1}})
    net = found["net"]["eager"]
    assert net["ratios"] == [3.0, 3.0, 3.0]
    assert net["ratio_to_safmn"] == 3.0
    assert (net["median_ms"], net["mean_ms"]) == (33, 34)
    assert net["spread_percent"] == pytest.approx(100 * 30 / 33)
    assert net["habit"] == {"mean_ms": 1}
    assert found["safmn"]["eager"]["ratio_to_safmn"] == 1.0
    assert "spread_percent" not in runtime.combine(["net"], ["eager"], runs[:1], {})["net"]["eager"]
    failed = {"status": "out of memory", "message": "9 GiB"}  # in one of several processes: then it has no time
    runs[1]["net/eager"] = failed
    assert runtime.combine(["net", "safmn"], ["eager"], runs, {})["net"]["eager"] == failed


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict]]:
    """The requests that would have been given to processes."""
    requests: list[dict] = []

    def child(request: dict) -> dict:
        requests.append(request)
        figures = {f"{name}/eager": a_time() for name in request.get("names", ())}
        return {"provenance": {"device": "fake"}, "figures": figures or {"mean_ms": 2.0}}

    monkeypatch.setattr(runtime, "_child", child)
    return requests


def test_every_repetition_and_every_habit_has_a_process_of_its_own(children: list[dict]) -> None:
    found = runtime.measure(["imdn"], 4, images=3, rounds=5, processes=2)
    assert [request["protocol"] for request in children] == ["interleaved"] * 2 + ["habit"] * 2
    assert children[0]["names"] == ["imdn", "safmn"]  # SAFMN is there as the reference
    assert children[0]["rounds"] == 3  # no more than there are images
    assert [request["name"] for request in children[2:]] == ["imdn", "safmn"]
    assert found["networks"]["imdn"]["eager"]["habit"] == {"mean_ms": 2.0}
    assert found["settings"]["rounds"] == 3
    runtime.measure(["safmn"], 4, images=3, processes=1, habit=False)
    assert [request["protocol"] for request in children[4:]] == ["interleaved"]


def test_a_fresh_process_resumes_without_the_mode_that_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    requests: list[dict] = []

    def child(request: dict) -> dict:
        requests.append(json.loads(json.dumps(request)))
        if "name" in request:
            return {"failed": {"safmn/habit": "its process ended"}}
        if not request["failed"]:
            return {"failed": {"safmn/cuda_graph": "capture failed"}}
        unavailable = {"status": "unavailable", "reason": request["failed"]["safmn/cuda_graph"]}
        figures = {"safmn/eager": a_time(), "safmn/cuda_graph": unavailable}
        return {"provenance": {"device": "fake"}, "figures": figures}

    monkeypatch.setattr(runtime, "_child", child)
    found = runtime.measure(["safmn"], 4, images=3, processes=2, modes=["cuda_graph"])["networks"]
    assert [request.get("failed") for request in requests[:3]] == [{}, *[{"safmn/cuda_graph": "capture failed"}] * 2]
    assert found["safmn"]["cuda_graph"] == {"status": "unavailable", "reason": "capture failed"}
    assert found["safmn"]["eager"]["median_ms"] == 1.0
    assert found["safmn"]["eager"]["habit"] == {"status": "unavailable", "reason": "its process ended"}
    assert "safmn/cuda_graph failed (capture failed): again in a fresh process, without it" in caplog.messages


def test_a_process_that_dies_in_a_mode_costs_that_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A network of somebody's own that ends the process, in evaluation.
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom torch import nn\n\n\nclass Deadly(nn.Module):\n    def __init__(self, dim):\n"
        "        super().__init__()\n\n    def forward(self, x):\n        os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "deadly.yaml").write_text("title: own\ndescription: own\nnetwork: {mixer: 'deadly:Deadly'}\n")
    (tmp_path / "safmn.yaml").write_text("title: own\ndescription: own\n")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    found = runtime.measure(["deadly"], 4, images=1, processes=1, height=8, width=8, device="cpu")["networks"]
    assert found["deadly"]["eager"]["status"] == "unavailable"
    assert found["deadly"]["eager"]["reason"].startswith("its process ended with status -9")
    assert found["deadly"]["eager"]["habit"]["status"] == "unavailable"
    assert found["safmn"]["eager"]["status"] == "timed"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 0}, "0 images give no time"),
        ({"processes": 0}, "0 processes give no time"),
        ({"rounds": 0}, "0 rounds give no time"),
        ({"modes": ["quick"]}, "mode 'quick' is not known: choose from eager"),
        ({"height": 7}, "give at least 8x8"),
        ({"names": ["imdm"]}, "there is no network 'imdm': did you mean imdn"),
        ({"names": ["espcn"], "scale": 3}, "espcn has no x3"),
    ],
)
def test_nonsense_is_refused_before_anything_runs(wrong: dict, message: str, children: list[dict]) -> None:
    with pytest.raises(UserError, match=message):
        runtime.measure(**{"names": ["imdn"], "scale": 4, **wrong})
    assert children == []


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(UserError, match=r"timing process of nonsense ended with status 1: .*nonsense"):
        runtime._child({"protocol": "habit", "name": "nonsense", "scale": 4, "images": 1, "height": 8, "width": 8})


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list the children of a process")
def test_a_killed_measurement_leaves_no_process_on_the_device() -> None:
    code = "from safmn.cost import runtime; runtime.measure(['espcn'], 4, images=10**6, processes=1, height=8, width=8)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    children: list[str] = []
    while not children and time.monotonic() < deadline:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        time.sleep(0.1)
    assert children
    parent.kill()
    parent.wait()

    def lives(child: str) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{child}/status").read_text()
        except OSError:
            return False

    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, children))


def test_the_command_times_both_protocols(tmp_path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "runtime.json"
    command = f"runtime espcn --images 2 --processes 1 --height 8 --width 8 --threads 1 --json --out {out}"
    assert cli.main(command.split()) == 0
    told = capsys.readouterr()
    assert re.match(r"this will take about [\d.,]+ (ms|s|min|h)\n", told.err)
    record = json.loads(told.out)
    assert record == json.loads(out.read_text(encoding="utf-8"))
    assert set(record["networks"]) == {"espcn", "safmn"}
    for name in ("espcn", "safmn"):
        figures = record["networks"][name]["eager"]
        assert figures["median_ms"] > 0
        assert figures["habit"]["images"] == 2
    assert record["provenance"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert record["provenance"]["threads"] == 1
    if not torch.cuda.is_available():
        assert "gpu" not in record["provenance"]


def test_a_quick_look_is_one_process_without_the_habit(capsys: pytest.CaptureFixture) -> None:
    command = "runtime espcn --quick --height 8 --width 8 --threads 1 --json"
    assert cli.main(command.split()) == 0
    told = capsys.readouterr()
    assert told.err.startswith("this will take about ")
    record = json.loads(told.out)
    assert [record["settings"][key] for key in ("images", "rounds", "processes")] == [5, 1, 1]
    for name in ("espcn", "safmn"):
        figures = record["networks"][name]["eager"]
        assert figures["median_ms"] > 0
        assert "habit" not in figures


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: CUDA modes cannot be timed here")
def test_all_modes_run_on_a_gpu() -> None:
    found = timing.run_interleaved(["safmn"], 4, 4, 2, modes=list(timing.MODES), height=64, width=64)
    assert {key: record["status"] for key, record in found.items()} == {f"safmn/{m}": "timed" for m in timing.MODES}
