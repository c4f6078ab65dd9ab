"""Options that several commands share, and what they stand for: a network with its weights, on a device."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from safmn import networks
from safmn.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from safmn.networks.weights import Choice


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the networks that a command is about: `NAME...` or `--network NAME...`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, as `safmn list` shows them")
    parser.add_argument(
        "--network", dest="more_names", action="extend", nargs="+", default=[], metavar="NAME", help="likewise"
    )


def names_of(args: argparse.Namespace) -> list[str]:
    """Return the networks that the options of `add_names` name.

    Raises:
        UserError: there is none, or one that does not exist or not at `--scale`; told before torch is imported.
    """
    names = list(dict.fromkeys([*args.names, *args.more_names]))
    if not names:
        raise UserError("no network is named: give one of `safmn list`")
    for name in names:
        for scale in args.scale if isinstance(args.scale, list) else [args.scale]:
            networks.info(name) if scale == "all" else networks.at_scale(name, scale)
    return names


def add_network(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the options of a trained network: its name, weights, scale and device; `settle` reads them.

    Args:
        parser: the command's.
        positional: whether the name may also stand without `--network`.
    """
    if positional:
        parser.add_argument("name", nargs="?", metavar="NAME", help="a network from `safmn list`")
    hint = "not needed where the weights contain it"
    parser.add_argument("--network", metavar="NAME", help=f"a network from `safmn list`; {hint}")
    parser.add_argument("--weights", metavar="FILE", help="trained weights; only bicubic needs none")
    parser.add_argument("--scale", type=int, metavar="N", help=f"enlargement: 2, 3 or 4; {hint}")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")


def settle(args: argparse.Namespace) -> None:
    """Set `args.network` and `args.scale` where they are not given and the file of weights contains them.

    Raises:
        UserError: neither the options nor the weights say which network or scale is meant, or the name is given twice
            or unknown.
    """
    name = getattr(args, "name", None)
    if name is not None and args.network is not None and name != args.network:
        raise UserError(f"{name} and --network {args.network} are two networks: give one")
    args.network = args.network or name
    if args.network and Path(args.network).suffix and Path(args.network).is_file():
        raise UserError(f"{args.network} is a file: name weights with --weights {args.network}")
    if args.network is not None:
        networks.info(args.network)  # raises with the nearest names, before torch is imported
    if args.network is not None and args.scale is not None:
        return
    if args.weights is None:
        missing = "--scale" if args.network else "a network, as NAME or --network NAME, and its --weights"
        raise UserError(f"missing: {missing}")
    from safmn.quality.loading import contents_of

    network, scale = contents_of(args.weights)
    args.network = args.network or network
    args.scale = args.scale or scale
    if not args.network:
        raise UserError(f"{args.weights} does not say which network it belongs to: name it with --network")
    if not args.scale:
        raise UserError(f"{args.weights} does not say its scale: give it with --scale")


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
