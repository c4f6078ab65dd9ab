"""Features inside SAFM: Figure 5, taken by hooks while the network itself runs.

Panels, by Eq. (1)-(3) of the paper: (b)-(e) are the four scales of the multi-scale feature generation unit, each
already back at full resolution, X^_0 to X^_3; (f) their aggregation X^ by the 1x1 convolution; (g) the output,
phi(X^) x X. What reaches `aggr` is the concatenation of (b)-(e), so a hook before and one behind it, and one behind the
SAFM, see all.
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
    """Path -> SAFM of a network, from input to output."""
    return {path: module for path, module in network.named_modules() if isinstance(module, SAFM)}


def capture(network: nn.Module, lr: Tensor, block: int = 0) -> tuple[str, dict[str, Tensor]]:
    """One forward pass, watched.

    Args:
        network: with SAFMs in it.
        lr: 1 x 3 x h x w with values in [0, 255].
        block: which SAFM, from 1; 0 is the last one.

    Returns:
        its path in the network, and panel -> C x h x w on the CPU. Without multi-scale features ("w/o MR") there is
        no (c)-(e).

    Raises UserError where there is no such SAFM.
    """
    found = safms(network)
    if not found:
        raise UserError("the network has no SAFM: Figure 5 is about SAFMN and those of its variants that keep SAFM")
    if not 0 <= block <= len(found):
        raise UserError(f"there is no SAFM {block}: the network has {len(found)}, counted from 1")
    path, safm = list(found.items())[block - 1]
    seen: dict[str, Tensor] = {}

    def before_aggregation(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.update(zip(SCALES, inputs[0][0].chunk(len(safm.mfr)), strict=False))

    def behind(panel: str):
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            seen[panel] = output[0]

        return keep

    with ExitStack() as hooks:
        hooks.enter_context(safm.aggr.register_forward_pre_hook(before_aggregation))
        hooks.enter_context(safm.aggr.register_forward_hook(behind("f")))
        hooks.enter_context(safm.register_forward_hook(behind("g")))
        evaluation.forward(network, lr)
    if "f" not in seen or "g" not in seen:
        raise RuntimeError(f"{path} was passed by: its forward no longer calls its submodules, which Figure 5 watches")
    return path, {panel: seen[panel].detach().float().cpu() for panel in PANELS if panel in seen}


def shown(features: Tensor) -> Tensor:
    """One map of many channels, C x h x w -> h x w: their mean."""
    return torch.mean(features, dim=0)
