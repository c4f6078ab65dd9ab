"""One iteration: forward, loss, backward, Adam, average; without waiting for the device."""

from typing import Any

import torch
from torch import Tensor, nn

from safmn.training import loss
from safmn.training.average import Average
from safmn.training.precision import computing
from safmn.training.schedule import learning_rate


class TrainStep:
    """Holds what an iteration changes: the network, its optimiser and its average.

    Args:
        network: at its initial weights, on `device`.
        settings: the `training` section of a specification.
        device: where everything lives; "meta" tells what a step takes on CUDA, without data.
    """

    def __init__(self, network: nn.Module, settings: dict[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.device = device
        # On the CPU, channels-last spares the fused LayerNorm its copies: 2-6 % of the step (benchmarks/README.md).
        self.layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.network = network.to(device=device, memory_format=self.layout).train()
        self.average = Average(self.network, settings["ema"], settings["ema_buffers"])
        self.optimiser = torch.optim.Adam(
            self.network.parameters(),
            lr=settings["learning_rate"],
            betas=tuple(float(beta) for beta in settings["betas"]),
            fused=device.type != "meta",  # there torch has no fused form: a parameter's temporaries come on top
            capturable=device.type == "cuda",
        )
        # On a GPU the rate is a tensor that stays where it is: a recorded step (capture.py) reads the present one.
        self._rate = torch.zeros((), device=device) if device.type == "cuda" else None
        self._parameters = list(self.network.parameters())
        self._dtype = self._parameters[0].dtype  # float32; a comparison with another trainer may want float64

    def __call__(self, iteration: int, lr: Tensor, hr: Tensor) -> Tensor:
        """Learns from one batch.

        Args:
            iteration: 0-based; sets the learning rate.
            lr, hr: uint8, N x 3 x p x p and N x 3 x sp x sp; they become float32 in [0, 1] on the device.

        Returns:
            float32 tensor of 3 on the device: L1 term, weighted frequency term, Euclidean norm of all gradients.
            Reading it waits for the device, so the loop reads many at once.
        """
        self.set_rate(iteration)
        return self.learn(lr, hr)

    def set_rate(self, iteration: int) -> None:
        """The learning rate of this 0-based iteration."""
        settings = self.settings
        rate = learning_rate(
            iteration, settings["iterations"], settings["learning_rate"], settings["minimum_learning_rate"]
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate if self._rate is None else self._rate.fill_(rate)

    def learn(self, lr: Tensor, hr: Tensor) -> Tensor:
        """As a call, at the rate that is set: the same kernels each time, with nothing that waits for the device."""
        settings = self.settings
        lr = self._image(lr).to(memory_format=self.layout)
        with computing(self.device, settings["precision"]):
            sr = self.network(lr)
        l1, frequency = loss.terms(sr, self._image(hr))
        frequency = settings["fft_weight"] * frequency
        self.optimiser.zero_grad(set_to_none=True)
        (l1 + frequency).backward()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.optimiser.step()
        self.average.update()
        return torch.stack([l1.detach(), frequency.detach(), norm])

    def _image(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, non_blocking=True).to(self._dtype).div_(255)

    def state(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from what `state` returned, on whatever device it was."""
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        # How Adam works depends on where it works now: of a saved group, only which weights it has is taken.
        saved, present = state["optimiser"], self.optimiser.state_dict()["param_groups"]
        groups = [
            here | {"params": there["params"]} for here, there in zip(present, saved["param_groups"], strict=True)
        ]
        self.optimiser.load_state_dict(saved | {"param_groups": groups})
