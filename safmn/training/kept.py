"""The state of a training run: everything that its next iteration, a resume and its final files depend on."""

from typing import Any

import torch
from torch import Tensor, nn

from safmn.training import randomness, validation
from safmn.training.collapse import Collapse, watch_of
from safmn.training.history import History
from safmn.training.step import TrainStep

Weights = dict[str, Tensor]


class Kept:
    """A run at one of its iterations.

    Args:
        step: at its initial weights.

    Attributes:
        iteration: the number of iterations done.
        pending: terms of the loss and gradient norm of each iteration whose losses are still on the device.
        unwritten: the same for iterations that were read but are not in the history yet.
        best: iteration, validation PSNR in dB (None before the first) and averaged weights of the best validation.
        healthy: iteration and weights, averaged and raw, of the last check without a sign of a collapse.
        collapse: None as long as there is none.
        sessions: one record for each process that worked on the run.
    """

    def __init__(self, step: TrainStep) -> None:
        self.step = step
        self.iteration = 0
        self.watch = watch_of(step.loss.is_own)
        self.history = History(step.loss)
        self.pending: list[Tensor] = []
        self.unwritten: list[list[float]] = []
        average, raw = self.weights()
        self.best: dict[str, Any] = {"iteration": 0, "psnr": None, "weights": average}
        self.healthy: dict[str, Any] = {"iteration": 0, "weights": average, "raw": raw}
        self.collapse: Collapse | None = None
        self.sessions: list[dict[str, Any]] = []

    def weights(self) -> tuple[Weights, Weights]:
        """Return copies of the current weights on the CPU: averaged and raw."""
        return _copied(self.step.average.network), _copied(self.step.network)

    def keep(self, average: Weights, raw: Weights, psnr: float | None) -> None:
        """Keep the current weights as valid if nothing points to a collapse, and as best if their PSNR is the best."""
        if not self.watch.healthy:
            return
        self.healthy = {"iteration": self.iteration, "weights": average, "raw": raw}
        if psnr is not None and validation.is_best(psnr, self.best["psnr"]):
            self.best = {"iteration": self.iteration, "psnr": psnr, "weights": average}

    def final(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the run leaves as `best` and as `last`; after a collapse, `last` is from before it."""
        average, raw = self.weights()
        last = self.healthy if self.collapse else {"iteration": self.iteration, "weights": average, "raw": raw}
        # The run collapsed before the first validation, or showed signs of a collapse at each.
        best = self.best if self.best["psnr"] is not None else {"psnr": None, **self.healthy}
        return best, last

    def state(self) -> dict[str, Any]:
        """Return everything as tensors and plain data."""
        return {
            "step": self.step.state(),
            "randomness": randomness.state(),
            "watch": self.watch.state(),
            "history": self.history.rows,
            "pending": torch.stack(self.pending).cpu() if self.pending else torch.empty(0),
            "unwritten": self.unwritten,
            "best": self.best,
            "healthy": self.healthy,
            "collapse": self.collapse.record() if self.collapse else None,
            "sessions": self.sessions,
        }

    def restore(self, iteration: int, state: dict[str, Any]) -> None:
        """Continue after `iteration` iterations from what `state` returned."""
        self.iteration = iteration
        self.step.restore(state["step"])
        randomness.restore(state["randomness"])
        self.watch.restore(state["watch"])
        self.history = History(self.step.loss, state["history"])
        self.pending = list(state["pending"].to(self.step.device))
        self.unwritten = state["unwritten"]
        self.best = state["best"]
        self.healthy = state["healthy"]
        self.collapse = Collapse(**state["collapse"]) if state["collapse"] else None
        self.sessions = state["sessions"]


def _copied(network: nn.Module) -> Weights:
    tensors = ((name, value.detach()) for name, value in network.state_dict().items())
    return {name: value.clone() if value.is_meta else value.to("cpu", copy=True) for name, value in tensors}
