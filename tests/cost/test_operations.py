"""Table 5: named ranges in the network and their time."""

import csv
import json

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from safmn import cli, networks
from safmn.cost import memory, operations, timing
from safmn.device import description
from safmn.errors import UserError
from safmn.networks import ranges
from safmn.paper import NUMBERS


class Toy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x * x
        for _ in range(3):
            x = x + 1
        return x


def test_operations_are_those_of_table_5() -> None:
    with open(NUMBERS / "table5.csv", encoding="utf-8", newline="") as handle:
        printed = [row["operation"] for row in csv.DictReader(handle)]
    assert list(operations.TITLES.values()) == printed
    assert tuple(operations.TITLES) == ranges.NAMES


def test_ranges_are_counted_only_while_recording() -> None:
    found = operations.profile_ranges(Toy(), [torch.ones(4)] * 5, description.Cpu())
    assert {name: spent.calls for name, spent in found.items()} == {
        "safmn::forward": 5,
        "safmn::product": 5,
        "safmn::addition": 15,
    }
    assert all(spent.host > 0 for spent in found.values())
    assert found["safmn::product"].host + found["safmn::addition"].host <= found["safmn::forward"].host
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        Toy()(torch.ones(4))
    assert not [event for event in profiler.events() if event.name.startswith(ranges.PREFIX)]


def test_a_recording_that_failed_ends_and_leaves_no_hook() -> None:
    network = networks.build("safmn", 4).eval()
    with pytest.raises(UserError, match="too small"), ranges.recording(network):
        network(torch.rand(1, 3, 4, 4))
    norm = network.feats[0].norm1
    norm.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), ranges.recording(network):
        network(torch.rand(1, 3, 8, 8))
    assert not network.feats[1].norm1._forward_hooks
    with profile(activities=[ProfilerActivity.CPU]) as profiler, pytest.raises(ZeroDivisionError):
        network(torch.rand(1, 3, 8, 8))
    assert not [event for event in profiler.events() if event.name.startswith(ranges.PREFIX)]


@pytest.mark.parametrize("form", memory.FORMS)
def test_safmn_runs_every_operation_as_often_as_its_equations_say(form: str) -> None:
    network = memory.use_form(networks.build("safmn", 4).eval(), form)
    with torch.no_grad():
        found = operations.profile_ranges(network, [torch.rand(1, 3, 16, 16)] * 2, description.Cpu())
    calls = {name.removeprefix(ranges.PREFIX): spent.calls / 2 for name, spent in found.items()}
    assert calls == {
        "forward": 1,
        "layer_norm": 16,  # two a block
        "channel_splitting": 8,
        "adaptive_max_pool": 24,  # three of the four levels
        "nearest_interpolation": 24,
        "product": 8,
        "addition": 17,  # two a block and the global one
    }


def test_ranges_hold_nothing_but_their_operation() -> None:
    network = memory.use_form(networks.build("safmn", 4).eval(), "fused")
    with torch.no_grad(), ranges.recording(network), profile(activities=[ProfilerActivity.CPU]) as profiler:
        network(torch.rand(1, 3, 16, 16))
    within: dict[str, set[str]] = {}
    for event in profiler.events():
        parent = event.cpu_parent
        if parent is not None and parent.name.startswith(ranges.PREFIX):
            within.setdefault(parent.name.removeprefix(ranges.PREFIX), set()).add(event.name)
    assert within == {
        "layer_norm": {"aten::permute", "aten::layer_norm"},
        "channel_splitting": {"aten::chunk"},
        "adaptive_max_pool": {"aten::adaptive_max_pool2d"},
        "nearest_interpolation": {"aten::upsample_nearest2d"},
        "product": {"aten::mul"},
        "addition": {"aten::add"},
    }


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"images": 0}, "0 images give no time"),
        ({"images": 1, "height": 4}, "give at least 8x8"),
        ({"images": 1}, r"out of memory with an LR image of 320x180 \(.*allocate.*\): give a smaller one"),
    ],
)
def test_bad_requests_are_refused(request_: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "noise", lambda *_: torch.empty(2**58, dtype=torch.uint8))
    with pytest.raises(UserError, match=message):
        operations.measure(**request_)


class WithoutCupti(description.Cpu):
    """A GPU whose profiler sees the host alone."""

    kind = "cuda"


def test_a_profiler_that_sees_no_kernels_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(description, "present", lambda kind: WithoutCupti())
    monkeypatch.setattr(description, "describe", lambda kind: {"device": kind, "gpu": "a card", "torch": "2"})
    monkeypatch.setattr(operations, "profile", lambda activities: profile(activities=[ProfilerActivity.CPU]))
    assert cli.main(["operations", "--images", "1", "--height", "8", "--width", "8"]) == 0
    said = capsys.readouterr().out
    assert "Kernels: not timed: the profiler saw no kernels (CUPTI is missing" in said
    assert "ms in kernels" not in said
    record = operations.measure(images=1, height=8, width=8)
    assert record["settings"]["kernels"] == operations.NO_KERNELS
    assert all("kernel_ms" not in part for part in record["operations"].values())
    assert record["forward"]["total_ms"] > 0


def test_the_command_prints_what_it_writes(tmp_path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "operations.json"
    assert cli.main(f"operations --images 2 --height 16 --width 16 --json --out {out}".split()) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads(out.read_text(encoding="utf-8"))
    assert list(record["operations"]) == list(ranges.NAMES)
    for part in record["operations"].values():
        assert part["total_ms"] == pytest.approx(2 * part["per_image_ms"])
        assert 0 < part["share"] < 1
        assert ("kernel_ms" in part) == torch.cuda.is_available()
    assert sum(part["share"] for part in record["operations"].values()) < 1
    assert record["settings"]["form"] == "reference"
    assert record["provenance"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: kernels cannot be timed here")
def test_kernels_are_attributed_to_ranges() -> None:
    found = operations.measure(images=3, height=64, width=64)
    for name, part in found["operations"].items():
        # Splitting makes views: no kernel runs.
        assert (part["kernel_ms"] == 0) == (name == "channel_splitting")
    assert sum(part["kernel_share"] for part in found["operations"].values()) < 1
