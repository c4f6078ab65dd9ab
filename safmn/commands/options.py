"""Options that several commands share, and what they stand for: a network with its weights, on a device."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from safmn.networks.weights import Choice


def add_network(parser: argparse.ArgumentParser, *, required: bool, weights: str = "--weights") -> None:
    """Add the options of a trained network: its name, weights, scale and device.

    Args:
        parser: the command's.
        required: whether the name must be given; else the file of weights may tell it.
        weights: "--weights", or "weights" for a positional argument.
    """
    if weights == "--weights":
        parser.add_argument(weights, metavar="FILE", help="trained weights; only bicubic needs none")
    else:
        parser.add_argument(weights, nargs="?", metavar="WEIGHTS", help="trained weights; only bicubic needs none")
    hint = "" if required else "; not needed where the weights contain it"
    parser.add_argument("--network", required=required, metavar="NAME", help=f"a name from `safmn list`{hint}")
    parser.add_argument("--scale", required=True, type=int, metavar="N", help="enlargement: 2, 3 or 4")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")


def add_measurement(parser: argparse.ArgumentParser, device: str = "default: cuda if there is one") -> None:
    """Add the options of a measurement: the LR image's size, the device and where the record goes."""
    parser.add_argument("--scale", type=int, default=4, help="enlargement (default 4)")
    parser.add_argument("--height", type=int, default=180, help="LR pixels (default 180)")
    parser.add_argument("--width", type=int, default=320, help="LR pixels (default 320)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help=device)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--out", metavar="FILE.json", help="write the JSON here")


def load_network(
    args: argparse.Namespace, name: str, weights: str | None = None
) -> "tuple[nn.Module, Choice | None, torch.device]":
    """Load the network `name` as the options of `add_network` say.

    Args:
        args: the command's arguments.
        name: the network's name.
        weights: a file instead of `args.weights`; `args.which` is not about it.

    Returns:
        The network on its device, in eval mode; which weights of the file it has (None without a file); the device.
    """
    from safmn.quality import loading

    device = loading.choose_device(args.device)
    chosen = (args.weights, args.which) if weights is None else (weights, None)
    network, choice = loading.load_network(name, args.scale, *chosen)
    return network.to(device), choice, device
