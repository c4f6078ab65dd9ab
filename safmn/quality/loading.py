"""A network ready for use: what `evaluate`, `upscale`, `inspect` and `explain` start from."""

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from safmn import networks
from safmn.errors import UserError, as_line
from safmn.networks import weights as weight_files
from safmn.networks.weights import Choice

_log = logging.getLogger(__name__)


def choose_device(name: str | None) -> torch.device:
    """Return the device called `name`; without a name CUDA where there is one, else the CPU.

    Raises:
        UserError: the device is not known or cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not known: choose cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name!r} cannot be used ({as_line(error)}): choose cpu, or cuda where there is one"
        ) from error
    return device


def load_network(
    name: str, scale: int, weights: str | Path | None, which: str | None = None
) -> tuple[nn.Module, Choice | None]:
    """Build a network with its weights, in eval mode; log which weights are used where a file holds several sets.

    Args:
        name: a name from `safmn list`.
        scale: 2, 3 or 4.
        weights: a file; None only for a network without parameters.
        which: of a file that holds several sets of weights, see `safmn.networks.weights.load`.

    Returns:
        The network, and which of the file's weights it has (None without a file).

    Raises:
        UserError: the file is not usable, or the network needs weights and there is no file.
    """
    if weights is not None:
        network, choice = weight_files.load(weights, name, scale, which)
        if choice.remark:
            _log.info("%s", choice.remark)
        return networks.accelerate(network), choice
    if which is not None:
        raise UserError("--which chooses among the weights of a file: give one, or leave it out")
    network = networks.build(name, scale)
    count = sum(parameter.numel() for parameter in network.parameters())
    if count:
        raise UserError(f"{name} has {count:,} parameters: give trained ones with --weights FILE")
    return network.eval(), None


def contents_of(weights: str | Path) -> tuple[str, int | None]:
    """Read network and scale from the metadata of a `.safetensors` file of this project; "" and None if not there.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"weights {path} are missing: check the path")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable .safetensors file ({error}): train or fetch it again") from error
    scale = metadata.get("scale", "")
    return metadata.get("network", ""), int(scale) if scale in ("2", "3", "4") else None
