"""Features inside SAFM: Figure 5, taken by hooks while the network itself runs.

Panels, by Eq. (1)-(3) of the paper: (b)-(e) are the four scales of the multi-scale feature generation unit, each
already back at full resolution, X^_0 to X^_3; (f) is their aggregation X^ by the 1x1 convolution; (g) is the output,
phi(X^) x X. The input of `aggr` is the concatenation of (b)-(e), so three hooks see all: before `aggr`, after it, and
after the SAFM.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.networks.safmn import SAFM
from safmn.quality import evaluation

SCALES = ("b", "c", "d", "e")
PANELS = (*SCALES, "f", "g")


def safms(network: nn.Module) -> dict[str, SAFM]:
    """Return path -> SAFM of a network, from input to output."""
    return {path: module for path, module in network.named_modules() if isinstance(module, SAFM)}


def capture(network: nn.Module, lr: Tensor, block: int = 0) -> tuple[str, dict[str, Tensor]]:
    """Capture the features inside one SAFM during a forward pass.

    Args:
        network: with SAFMs in it.
        lr: 1 x 3 x h x w with values in [0, 255].
        block: which SAFM, from 1; 0 is the last one.

    Returns:
        Its path in the network, and panel -> C x h x w on the CPU. Without multi-scale features ("w/o MR") there is
        no (c)-(e).

    Raises:
        UserError: there is no such SAFM.
    """
    modules = safms(network)
    if not modules:
        raise UserError("the network has no SAFM: Figure 5 is about SAFMN and those of its variants that keep SAFM")
    if not 0 <= block <= len(modules):
        raise UserError(f"there is no SAFM {block}: the network has {len(modules)}, counted from 1")
    path, safm = list(modules.items())[block - 1]
    panels: dict[str, Tensor] = {}

    def before_aggregation(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        panels.update(zip(SCALES, inputs[0][0].chunk(len(safm.mfr)), strict=False))

    def after_aggregation(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        panels["f"] = output[0]

    def after_safm(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        panels["g"] = output[0]

    with ExitStack() as hooks:
        hooks.enter_context(safm.aggr.register_forward_pre_hook(before_aggregation))
        hooks.enter_context(safm.aggr.register_forward_hook(after_aggregation))
        hooks.enter_context(safm.register_forward_hook(after_safm))
        evaluation.forward(network, lr)
    if not {"f", "g"} <= panels.keys():
        raise RuntimeError(f"{path} was passed by: its forward no longer calls its submodules, which Figure 5 watches")
    return path, {panel: panels[panel].detach().float().cpu() for panel in PANELS if panel in panels}


def shown(features: Tensor) -> Tensor:
    """Reduce many channels to one map, their mean: C x h x w -> h x w."""
    return torch.mean(features, dim=0)
