"""Every network that can be built by name: SAFMN's variants and the published networks of Tables 1 and 2."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.errors import UserError
from safmn.networks import variants
from safmn.networks.registry import Network, published_networks

if TYPE_CHECKING:
    from torch import nn


def all_networks() -> dict[str, Network]:
    """Name -> network: the variants in `ablations/` first, in the paper's order, then the published networks."""
    return {name: variant.network for name, variant in variants.discover().items()} | published_networks()


def names() -> list[str]:
    """The names that `build` takes."""
    return list(all_networks())


def info(name: str) -> Network:
    """What is known about the network `name`; UserError with the nearest names where there is none."""
    variant = variants.discover().get(name)
    network = variant.network if variant else published_networks().get(name)
    if network is None:
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`safmn list` shows all"
        raise UserError(f"there is no network {name!r}: {hint}")
    return network


def build(name: str, scale: int) -> "nn.Module":
    """Builds the network `name` for `scale`, weights at their initial values.

    Input and output are N x C x H x W in [0, 1], RGB (C = 3) or Y (C = 1) as `info(name).colour` says.
    """
    network = info(name)
    if scale not in network.scales:
        scales = ", ".join(f"x{each}" for each in network.scales)
        raise UserError(f"{name} has no x{scale}: the paper's tables have it at {scales}")
    from safmn.networks import parameters

    module = network.factory(scale)
    parameters.check_sized(module, defined_in(name))
    return module


def defined_in(name: str) -> str:
    """Where the network `name` is defined: a variant's file, or its own name where it is a published network."""
    variant = variants.discover().get(name)
    return str(variant.file) if variant else name


def load_weights(path: str | Path, name: str, scale: int, which: str | None = None) -> "nn.Module":
    """Builds `name` and loads this project's `.safetensors`, its authors' file or any checkpoint; in eval mode.

    Of several sets of weights the averaged (EMA) one is taken, or the one that `which` asks for: "ema", "raw" or a key
    of the file; `safmn.networks.weights.load` says which it was. Never unpickles code. UserError where the file belongs
    to another network or scale, naming the keys that differ, or where it cannot be told which set is the averaged one.
    """
    from safmn.networks import weights

    return weights.load(path, name, scale, which)[0]


def accelerate(network: "nn.Module") -> "nn.Module":
    """Makes `network` fast on a CPU, in place, and returns it: the same values to rounding, keys as they are.

    For training and evaluation. What is counted, or timed as its authors wrote it, is left as `build` makes it.
    """
    from safmn.networks import acceleration

    return acceleration.accelerate(network)
