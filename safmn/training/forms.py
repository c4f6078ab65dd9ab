"""Forms of a training step: the same arithmetic by other kernels or in another memory layout.

Which form is fastest depends on the GPU; `safmn gpu-check` measures it. Kernels sum in different orders, so a form
other than "usual" gives other bits and is part of the specification (`training.form`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from safmn.networks.acceleration import FastLayerNorm2d, FusedLayerNorm2d, fused_layer_norm
from safmn.networks.safmn import LayerNorm2d
from safmn.training.step import TrainStep

USUAL = "usual"


class ContiguousLayerNorm2d(LayerNorm2d):
    """LayerNorm by torch's kernel, whose channels-last result is copied to a contiguous one for what follows."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise N x C x H x W over C."""
        return fused_layer_norm(self, x).contiguous()


NORMS: dict[str, type[LayerNorm2d]] = {"contiguous": ContiguousLayerNorm2d, "written": LayerNorm2d}


class FormedStep(TrainStep):
    """A `TrainStep` in the form that `settings["form"]` names.

    "contiguous" copies the result of each LayerNorm to a contiguous one, "written" computes LayerNorm step by step as
    the authors do, "channels_last" keeps weights and features in that layout, "compiled" compiles the network.
    """

    def __init__(self, network: nn.Module, settings: dict[str, Any], device: torch.device) -> None:
        form = settings["form"]
        for module in network.modules():
            if form in NORMS and type(module) in (FastLayerNorm2d, FusedLayerNorm2d):
                module.__class__ = NORMS[form]
        super().__init__(network, settings, device)
        if form == "channels_last":
            self.layout = torch.channels_last
            # In place: optimiser and average hold these very parameters.
            for parameter in (*self.network.parameters(), *self.average.network.parameters()):
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=self.layout)
        elif form == "compiled" and device.type != "meta":
            self.network.forward = torch.compile(self.network.forward)


def step(network: nn.Module, settings: dict[str, Any], device: torch.device) -> TrainStep:
    """Return the training step of a specification's `training` section; arguments as for `TrainStep`."""
    kind = FormedStep if settings.get("form", USUAL) != USUAL else TrainStep
    return kind(network, settings, device)
