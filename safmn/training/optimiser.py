"""The optimiser: Adam as in Section 4.1, AdamW, SGD, or one of a user's own."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from safmn.errors import UserError, as_line
from safmn.schema import PAPER
from safmn.training import own

BUILT_IN: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
ADAMW_DECAY = 0.01  # torch's default, kept here so that another version of torch changes no result
NEEDED = ("step", "zero_grad", "state_dict", "load_state_dict", "param_groups")


def is_own(settings: Mapping[str, Any]) -> bool:
    """Return whether the `training` section of a specification names an optimiser of a user's own."""
    return settings.get("optimiser", PAPER["optimiser"])["name"] not in BUILT_IN


def build(settings: Mapping[str, Any], parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
    """Build the optimiser.

    Args:
        settings: the `training` section of a specification. `betas` is an argument of Adam and AdamW, `weight_decay` of
            all, where `optimiser` does not have it.
        parameters: the network's.
        device: where they are.

    Raises:
        UserError: a class of a user's own cannot be imported or built, or is no optimiser.
    """
    arguments = dict(settings.get("optimiser", PAPER["optimiser"]))
    name, rate = arguments.pop("name"), settings["learning_rate"]
    decay = settings.get("weight_decay", PAPER["weight_decay"])
    if decay is None and name == "adamw":
        decay = ADAMW_DECAY
    if decay is not None:
        arguments.setdefault("weight_decay", decay)
    if name not in BUILT_IN:
        return _own(name, parameters, rate, arguments)
    if name != "sgd":
        arguments["betas"] = tuple(float(beta) for beta in arguments.get("betas", settings["betas"]))
        arguments["capturable"] = device.type == "cuda"
    # Where torch has no fused form, on "meta", temporaries of each parameter are added.
    return BUILT_IN[name](parameters, lr=rate, **arguments, fused=device.type != "meta")  # type: ignore[call-arg]  # of these three


def restore(optimiser: Optimizer, saved: dict[str, Any], moved: bool) -> None:
    """Continue from a state of this optimiser.

    Args:
        optimiser: what `build` returned.
        saved: its state.
        moved: whether the weights had another memory layout when it was saved: on another kind of device
            (`TrainStep.layout`).
    """
    if type(optimiser) in BUILT_IN.values():
        # Its options depend on the current device: of a saved group, only the list of its weights is used.
        present = optimiser.state_dict()["param_groups"]
        groups = [
            here | {"params": there["params"]} for here, there in zip(present, saved["param_groups"], strict=True)
        ]
        saved = saved | {"param_groups": groups}
    optimiser.load_state_dict(saved)
    if not moved:
        return
    # torch's fused kernel on the CPU pairs moments with weights by their places in memory; that on CUDA refuses others.
    for group in optimiser.param_groups:
        for weight in group["params"]:
            kept = getattr(optimiser, "state", {}).get(weight, {})
            for name, value in kept.items():
                if torch.is_tensor(value) and value.shape == weight.shape and value.stride() != weight.stride():
                    kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _own(path: str, parameters: Iterable[nn.Parameter], rate: float, arguments: dict[str, Any]) -> Optimizer:
    made = own.load(path, "optimiser")
    try:
        optimiser: Optimizer = made(parameters, lr=rate, **arguments)
    except Exception as error:
        given = "".join(f", {name}" for name in ("lr", *arguments))
        raise UserError(
            f"training.optimiser: {path} cannot be built from (parameters{given}) ({as_line(error)}): correct its "
            "arguments"
        ) from error
    missing = [name for name in NEEDED if not hasattr(optimiser, name)]
    if missing:
        raise UserError(f"training.optimiser: {path} has no {', '.join(missing)}: derive it from torch.optim.Optimizer")
    return optimiser
