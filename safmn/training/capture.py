"""A training step as one CUDA graph: some 500 kernels sent off by one call instead of one by one."""

from collections.abc import Callable

import torch
from torch import Tensor

from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError
from safmn.schema import RunSettings
from safmn.training.step import TrainStep

WARM_UP = 3  # iterations that are not replayed


def as_asked(step: TrainStep, run_settings: RunSettings) -> Callable[[int, Tensor, Tensor], Tensor]:
    """How a study's `run` section wants iterations to be done: by the step itself, or recorded."""
    return CapturedStep(step) if run_settings.cuda_graph and step.device.type == "cuda" else step


class CapturedStep:
    """Does what a `TrainStep` on CUDA does, with the same kernels, so with the same bits.

    The first iterations run one by one on a stream of their own, where libraries choose kernels and take workspace;
    then the step is recorded, and every later iteration copies its batch to where the recording reads and replays it.
    The recording refers to the weights, the optimiser's moments and the average by their place in memory: a state is
    restored before the first call, not after.

    Args:
        step: at its initial weights or restored.
    """

    def __init__(self, step: TrainStep) -> None:
        self.step = step
        self._left = WARM_UP
        self._stream = torch.cuda.Stream(step.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> Tensor:
        """As `TrainStep.__call__`; every batch must have the shape of the first.

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
        """The step on the recording's stream; the present one waits for it."""
        present = torch.cuda.current_stream(self.step.device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            values = self.step.learn(lr, hr)
        present.wait_stream(self._stream)
        return values

    def _recorded(self, lr: Tensor, hr: Tensor) -> torch.cuda.CUDAGraph:
        """The step as a graph, which has not run: the weights stay as they are.

        Where that fails, the run ends: torch does not say in what state a recording that broke off leaves generators
        and memory, so going on in the same process could give other bits. Little is lost, since it fails at once.
        """
        self._lr, self._hr = lr.clone(), hr.clone()
        self.step.optimiser.zero_grad(set_to_none=True)  # gradients are to lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        try:
            # Only this thread is recorded: another one may be reading ahead into pinned memory.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._values = self.step.learn(self._lr, self._hr)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"the training step cannot be recorded as a CUDA graph ({reason}): set run.cuda_graph: false, which "
                "changes no result, and run the same command"
            ) from error
        return graph
