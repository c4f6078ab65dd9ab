"""Every network that can be built by name: variants, the published networks of Tables 1 and 2, and a user's own."""

from pathlib import Path
from typing import TYPE_CHECKING

from safmn.errors import UserError, suggestion
from safmn.networks import own, variants
from safmn.networks.registry import Network, published_networks

if TYPE_CHECKING:
    from torch import nn


def all_networks() -> dict[str, Network]:
    """Return name -> network: the variants in `ablations/`, in the paper's order, the published networks, one's own."""
    found = {name: variant.network for name, variant in variants.discover().items()} | published_networks()
    for name, other in own.networks().items():
        if name in found:
            raise UserError(f"{other.network.file}: a variant has this name: rename the file")
        found[name] = other.network
    return found


def names() -> list[str]:
    """Return the names that `build` accepts."""
    return list(all_networks())


def info(name: str) -> Network:
    """Return what is known about the network `name`.

    Raises:
        UserError: there is no such network; the message has the nearest names.
    """
    found = variants.discover()
    if name in found:
        return found[name].network
    network = published_networks().get(name)
    if network is None and name in own.networks():
        network = own.networks()[name].network
    if network is None:
        if refused := variants.refusal(name):
            raise refused
        if points := variants.swept(found).get(name):
            raise UserError(f"{name} is a sweep of {len(points)} variants: name one of them, such as {points[0]}")
        raise UserError(f"there is no network {name!r}: {suggestion(name, names(), '`safmn list` shows all')}")
    return network


def at_scale(name: str, scale: int) -> Network:
    """Return what is known about the network `name`; UserError unless it has this scale."""
    network = info(name)
    if scale not in network.scales:
        scales = ", ".join(f"x{other}" for other in network.scales)
        whose = f"{network.file} names" if network.file else "the paper's tables have it at"
        raise UserError(f"{name} has no x{scale}: {whose} {scales}")
    return network


def build(name: str, scale: int) -> "nn.Module":
    """Build the network `name` for `scale`, with initial weights.

    It maps N x C x H x W to N x C x sH x sW, values in [0, 1], RGB (C = 3) or Y (C = 1) as `info(name).colour` says.

    Raises:
        UserError: there is no such network, not at this scale, or it cannot be built.
    """
    network = at_scale(name, scale)
    from safmn.networks import parameters

    module = network.factory(scale)
    parameters.check_sized(module, defined_in(name))
    return module


def defined_in(name: str) -> str:
    """Return where the network `name` is defined: the file of a variant, the name of a published network."""
    return str(info(name).file or name)


def load_weights(path: str | Path, name: str, scale: int, which: str | None = None) -> "nn.Module":
    """Build the network `name` in eval mode and load the weights in `path`.

    The file is this project's `.safetensors`, its authors' file or a checkpoint of another program; no code in it is
    run. See `safmn.networks.weights.load`, which also returns which weights were taken.

    Args:
        path: the file.
        name: the network.
        scale: its scale.
        which: of several sets "ema" (averaged), "raw" or a key of the file; None for the averaged one.

    Raises:
        UserError: the file cannot be read, belongs to another network or scale, or has several sets of weights of which
            none is known to be the averaged one.
    """
    from safmn.networks import weights

    return weights.load(path, name, scale, which)[0]


def accelerate(network: "nn.Module") -> "nn.Module":
    """Make `network` fast on a CPU, in place, and return it: same keys, same values to rounding.

    For training and evaluation. What is counted, or timed as its authors wrote it, is left as `build` makes it.
    """
    from safmn.networks import acceleration

    return acceleration.accelerate(network)
