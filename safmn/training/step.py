"""One training iteration: forward, loss, backward, optimiser, EMA; it does not wait for the device."""

import operator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from safmn.schema import PAPER
from safmn.training import loss, optimiser, schedule
from safmn.training.average import Average
from safmn.training.precision import computing


class TrainStep:
    """What an iteration changes: the network, its optimiser and its average.

    Args:
        network: at its initial weights, on `device`.
        settings: the `training` section of a specification.
        device: "cpu", "cuda", or "meta" to find out what a step on CUDA needs, without data.
    """

    def __init__(self, network: nn.Module, settings: dict[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.device = device
        # On the CPU, channels-last saves the fused LayerNorm copies: 2-6 % of the step (benchmarks/README.md).
        self.layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.network = network.to(device=device, memory_format=self.layout).train()  # type: ignore[call-overload]  # torch's stub lacks it
        self.average = Average(self.network, settings["ema"], settings["ema_buffers"])
        self.loss = loss.build(settings, device)
        self.optimiser = optimiser.build(settings, self.network.parameters(), device)
        # On a GPU the rate is a tensor at a fixed address, which a recorded step (capture.py) reads. An optimiser of a
        # user's own may need a number.
        is_tensor = device.type == "cuda" and not optimiser.is_own(settings)
        self._rate = torch.zeros((), device=device) if is_tensor else None
        self._clip = settings.get("gradient_clip", PAPER["gradient_clip"])
        self._parameters = list(self.network.parameters())
        self._dtype = self._parameters[0].dtype  # float32; a comparison with another trainer may want float64

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> Tensor:
        """Learn from one batch.

        Args:
            iteration: 0-based; determines the learning rate.
            lr: uint8, N x 3 x p x p; becomes float32 in [0, 1] on the device.
            hr: uint8, N x 3 x sp x sp with the scale s; likewise.

        Returns:
            float32 tensor on the device: the terms of the loss (L1 and the weighted frequency term, or those of a
            user's own loss), then the Euclidean norm of all gradients, before it is clipped. Reading it waits for the
            device, so the loop reads many at once.
        """
        self.set_rate(iteration)
        return self.learn(lr, hr)

    def set_rate(self, iteration: int) -> None:
        """Set the learning rate of this 0-based iteration."""
        rate = schedule.rate_of(self.settings, iteration)
        for group in self.optimiser.param_groups:
            group["lr"] = rate if self._rate is None else self._rate.fill_(rate)

    def learn(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Learn from one batch at the current learning rate; see `__call__`. Every call launches the same kernels."""
        settings = self.settings
        lr = self._image(lr).to(memory_format=self.layout)
        with computing(self.device, settings["precision"]):
            sr = self.network(lr)
        terms = self.loss(sr, self._image(hr))
        self.optimiser.zero_grad(set_to_none=True)
        reduce(operator.add, terms.values()).backward()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self._clip is not None:
            torch._foreach_mul_(gradients, (self._clip / (norm + 1e-6)).clamp(max=1))  # as torch's clip_grad_norm_
        self.optimiser.step()
        self.average.update()
        return torch.stack([*(term.detach().to(norm) for term in terms.values()), norm])

    def _image(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, non_blocking=True).to(self._dtype).div_(255)

    def state(self) -> dict[str, Any]:
        """Return everything that the next iteration depends on."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "loss": self.loss.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned, on this device or another."""
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        present = self.network.state_dict()
        moved = any(present[name].stride() != value.stride() for name, value in state["network"].items())
        optimiser.restore(self.optimiser, state["optimiser"], moved)
        self.loss.restore(state["loss"])
