"""What a recorded step asks of CUDA, and in which order; streams and graphs only write down that they were called."""

import contextlib

import pytest
import torch

from safmn.training import capture
from safmn.training.capture import CapturedStep
from safmn.training.step import TrainStep
from tests.training.test_step import CPU, USUAL, batches, network


class Stream:
    def __init__(self, name: str, said: list) -> None:
        self.name, self.said = name, said

    def wait_stream(self, other: "Stream") -> None:
        self.said.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list:
    """The calls, in order."""
    calls: list = []
    side, present = Stream("side", calls), Stream("present", calls)

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    @contextlib.contextmanager
    def on(stream: Stream):
        calls.append(f"on {stream.name}")
        yield
        calls.append(f"off {stream.name}")

    @contextlib.contextmanager
    def recording(graph: Graph, stream: Stream, capture_error_mode: str):
        calls.append(f"record on {stream.name}, {capture_error_mode}")
        yield
        calls.append("recorded")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: present)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return calls


class Watched(TrainStep):
    """A step that writes down when its rate is set and when it learns, from which tensors."""

    said: list

    def set_rate(self, iteration: int) -> None:
        self.said.append(f"rate {iteration}")
        super().set_rate(iteration)

    def learn(self, lr, hr):
        self.said.append("learn")
        self.inputs = lr, hr
        return super().learn(lr, hr)


def test_iterations_before_the_recording_run_on_its_stream_and_both_wait(said: list) -> None:
    step = Watched(network(), USUAL, CPU)
    step.said = said
    captured = CapturedStep(step)
    made = batches(capture.WARM_UP + 2)
    for iteration in range(capture.WARM_UP):
        captured(iteration, *made[iteration])
    aside = ["side waits for present", "on side", "learn", "off side", "present waits for side"]
    assert said == [word for iteration in range(capture.WARM_UP) for word in (f"rate {iteration}", *aside)]
    said.clear()
    captured(capture.WARM_UP, *made[capture.WARM_UP])
    # Recorded on the stream that was warmed up, of this thread alone, and run once: the weights change in the replay.
    assert said == [f"rate {capture.WARM_UP}", "record on side, thread_local", "learn", "recorded", "replay"]
    said.clear()
    captured(capture.WARM_UP + 1, *made[-1])
    assert said == [f"rate {capture.WARM_UP + 1}", "replay"]  # the rate is in place before


def test_a_batch_is_copied_to_the_place_that_was_recorded(said: list) -> None:
    step = Watched(network(), USUAL, CPU)
    step.said = said
    captured = CapturedStep(step)
    made = batches(capture.WARM_UP + 3)
    for iteration, (lr, hr) in enumerate(made):
        values = captured(iteration, lr, hr)
        if iteration >= capture.WARM_UP:
            recorded_lr, recorded_hr = step.inputs
            assert torch.equal(recorded_lr, lr)
            assert torch.equal(recorded_hr, hr)
            assert recorded_lr.data_ptr() != lr.data_ptr()  # a caller may use its own tensor again
            assert values is not captured._values
    assert said.count("learn") == capture.WARM_UP + 1
    assert all(parameter.grad is not None for parameter in step.network.parameters())
