"""A training step as one CUDA graph: some 500 kernels sent off by one call instead of one by one."""

import torch
from torch import Tensor

from safmn.training.step import TrainStep


class CapturedStep:
    """Does what a `TrainStep` on CUDA does, with the same kernels, so with the same bits.

    The first iterations run one by one on a stream of their own, where libraries choose kernels and take workspace;
    then the step is recorded, and every later iteration copies its batch to where the recording reads and replays it.
    The recording refers to the weights, the optimiser's moments and the average by their place in memory: a state is
    restored before the first call, not after.

    Args:
        step: at its initial weights or restored.
        warm_up: iterations that are not replayed.
    """

    def __init__(self, step: TrainStep, warm_up: int = 3) -> None:
        self.step = step
        self.warm_up = warm_up
        self._stream = torch.cuda.Stream(step.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> Tensor:
        """As `TrainStep.__call__`; every batch must have the shape of the first."""
        lr, hr = (pixels.to(self.step.device, non_blocking=True) for pixels in (lr, hr))
        self.step.set_rate(iteration)
        if self._graph is None:
            if self.warm_up:
                self.warm_up -= 1
                return self._aside(lr, hr)
            self._record(lr, hr)
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

    def _record(self, lr: Tensor, hr: Tensor) -> None:
        """Records without running: the weights stay as they are."""
        self._lr, self._hr = lr.clone(), hr.clone()
        self.step.optimiser.zero_grad(set_to_none=True)  # gradients are to lie in the graph's own memory
        self._graph = torch.cuda.CUDAGraph()
        # Only this thread is recorded: another one may be reading ahead into pinned memory.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._values = self.step.learn(self._lr, self._hr)
