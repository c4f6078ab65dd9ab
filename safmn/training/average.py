"""The exponential moving average of the weights (EMA), which is what is validated, kept and evaluated."""

import copy

import torch
from torch import nn


class Average:
    """A copy of `network` whose parameters average its parameters: a <- decay * a + (1 - decay) * p.

    Args:
        network: the network in training.
        decay: in [0, 1); the authors' 0.999.
        buffers: "track" copies buffers (running statistics) at every update; "frozen" leaves them at their initial
            values. The authors' trainer averages parameters only, so a batch-normalised network is evaluated there with
            statistics that were never updated; "frozen" reproduces that.
    """

    def __init__(self, network: nn.Module, decay: float, buffers: str = "track") -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._averages = list(self.network.parameters())
        self._parameters = list(network.parameters())
        tracked = buffers == "track"
        self._kept = list(self.network.buffers()) if tracked else []
        self._buffers = list(network.buffers()) if tracked else []

    @torch.no_grad()
    def update(self) -> None:
        """Average once, after an optimiser step; one fused call for all parameters and one for all buffers."""
        if self._averages:
            torch._foreach_lerp_(self._averages, [p.detach() for p in self._parameters], 1 - self.decay)  # type: ignore[arg-type]  # lists are invariant
        if self._kept:
            torch._foreach_copy_(self._kept, self._buffers)
