"""A training step as one CUDA graph: one call launches all of its about 500 kernels."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line
from safmn.schema import RunSettings
from safmn.training import optimiser, randomness
from safmn.training.step import TrainStep

SIDE = 256  # HR pixels of the images on which a loss is tried; the paper's patches at x4
WARM_UP = 3  # iterations that are not replayed
_log = logging.getLogger(__name__)


def as_asked(step: TrainStep, run_settings: RunSettings, channels: int = 3) -> Callable[[int, Tensor, Tensor], Tensor]:
    """Return the step itself, or as a CUDA graph if the study's `run` section asks for it on CUDA.

    What is a user's own may not be fit for a graph; then the step is returned, and a warning says why.
    """
    if not run_settings.cuda_graph or step.device.type != "cuda":
        return step
    if reason := _unfit(step, channels):
        _log.warning("run.cuda_graph is not used, which changes no result: %s", reason)
        return step
    return CapturedStep(step)


def _unfit(step: TrainStep, channels: int) -> str:
    """Return why a step cannot be recorded, "" if nothing is known against it.

    A loss of a user's own is called once on random images, as batches of that size may be, while torch refuses whatever
    waits for the device. The generators are left as they were.
    """
    if optimiser.is_own(step.settings):
        return "an optimiser of your own takes its learning rate as a number, which a recording would not change"
    if not step.loss.is_own:
        return ""
    state, before = randomness.state(), torch.cuda.get_sync_debug_mode()
    sr, hr = (torch.rand(2, channels, SIDE, SIDE, device=step.device) for _ in range(2))
    kept = step.loss.state()
    try:
        torch.cuda.set_sync_debug_mode("error")
        sum(step.loss(sr.requires_grad_(), hr).values()).backward()  # type: ignore[union-attr]  # at least one
    except RuntimeError as error:
        return f"the loss waits for the device ({as_line(error)})"
    finally:
        torch.cuda.set_sync_debug_mode(before)
        step.loss.restore(kept)
        randomness.restore(state)
    return ""


class CapturedStep:
    """A `TrainStep` on CUDA that is recorded and replayed: the same kernels, so the same bits.

    The first `WARM_UP` iterations run as they are on a stream of their own, where libraries choose kernels and allocate
    workspace. Then the step is recorded. Every later iteration copies its batch to the recording's input and replays
    it. The recording holds the addresses of weights, optimiser moments and average, so a state must be restored before
    the first call.

    Args:
        step: at its initial weights, or restored.
    """

    def __init__(self, step: TrainStep) -> None:
        self.step = step
        self._left = WARM_UP
        self._stream = torch.cuda.Stream(step.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> Tensor:
        """Learn from one batch, as `TrainStep.__call__` does; every batch must have the shape of the first.

        Raises:
            UserError: the step cannot be recorded.
        """
        lr, hr = (pixels.to(self.step.device, non_blocking=True) for pixels in (lr, hr))
        self.step.set_rate(iteration)
        if self._graph is None:
            if self._left:
                self._left -= 1
                return self._aside(lr, hr)
            self._graph = self._recorded(lr, hr)
        self._lr.copy_(lr)
        self._hr.copy_(hr)
        self._graph.replay()
        return self._values.clone()  # the next replay writes into the same place

    def _aside(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Run the step on the recording's stream; the current stream waits for it."""
        present = torch.cuda.current_stream(self.step.device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            values = self.step.learn(lr, hr)
        present.wait_stream(self._stream)
        return values

    def _recorded(self, lr: Tensor, hr: Tensor) -> torch.cuda.CUDAGraph:
        """Record the step as a graph without running it: the weights do not change.

        If recording fails, the run ends. torch does not define the state of generators and memory after that, so
        training on in the same process could give other bits. Little is lost, since it fails at the start.
        """
        self._lr, self._hr = lr.clone(), hr.clone()
        self.step.optimiser.zero_grad(set_to_none=True)  # gradients must lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        try:
            # Only this thread is recorded: another one may be reading ahead into pinned memory.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._values = self.step.learn(self._lr, self._hr)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise UserError(
                f"the training step cannot be recorded as a CUDA graph ({as_line(error)}): set run.cuda_graph: false, "
                "which changes no result, and run the same command"
            ) from error
        return graph
