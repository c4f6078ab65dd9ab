"""A network ready for use: what `evaluate`, `upscale`, `inspect` and `explain` start from."""

import sys
from pathlib import Path

import torch
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import weights as weight_files
from safmn.networks.weights import Choice


def choose_device(name: str | None) -> torch.device:
    """The device called `name`, or CUDA where there is one, else the CPU; UserError where it cannot be used."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not known: choose cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}): choose cpu, or cuda where there is one") from error
    return device


def load_network(
    name: str, scale: int, weights: str | Path | None, which: str | None = None
) -> tuple[nn.Module, Choice | None]:
    """The network `name` with its weights, in eval mode, and which of a file's weights they are.

    Where the file holds several sets, a line on stderr says which was taken: see `safmn.networks.weights.load`.
    UserError where the network needs weights and none are given.
    """
    if weights is not None:
        network, choice = weight_files.load(weights, name, scale, which)
        if choice.remark:
            print(choice.remark, file=sys.stderr)
        return networks.accelerate(network), choice
    if which is not None:
        raise UserError("--which chooses among the weights of a file: give one, or leave it out")
    network = networks.build(name, scale)
    count = sum(parameter.numel() for parameter in network.parameters())
    if count:
        raise UserError(f"{name} has {count:,} parameters: give trained ones with --weights FILE")
    return network.eval(), None


def network_of(weights: str | Path) -> str:
    """The network's name in the metadata of this project's `.safetensors` files; UserError where there is none."""
    from safetensors import SafetensorError, safe_open

    path = Path(weights)
    if not path.is_file():
        raise UserError(f"weights {path} are missing: check the path")
    metadata = None
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata()
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable .safetensors file ({error}): train or fetch it again") from error
    name = (metadata or {}).get("network")
    if not name:
        raise UserError(f"{path} does not say which network it belongs to: name it with --network")
    return name
