"""Weights into a network and out of it: this project's `.safetensors` and the authors' own files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError
from safmn.files import atomic
from safmn.networks import checkpoints
from safmn.networks.checkpoints import shown

# A file may hold a whole training run (raw and averaged weights, two Adam moments, in double precision: 64 bytes for
# a 4-byte weight) and a few things beside; anything larger is not for this network.
LIMIT_FACTOR = 16
LIMIT_MARGIN = 16 * 2**20


def load(path: Path | str, name: str, scale: int) -> nn.Module:
    """Builds the network `name` for `scale` and loads the weights in `path`; on the CPU, in eval mode.

    Reads this project's files and what the network's authors published, converted by the class's static method
    `convert_published(state, scale)` where it has one. Never unpickles code. UserError where the file is missing or
    damaged, holds NaN or infinity, or belongs to another network or scale, which is then named.
    """
    with torch.random.fork_rng(devices=[]):  # the initial values are thrown away: leave the caller's random state alone
        module = networks.build(name, scale)
    wanted = module.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in wanted.values())
    checkpoint = checkpoints.read(path, LIMIT_FACTOR * size + LIMIT_MARGIN)
    if wanted and not checkpoint.state:
        raise UserError(f"{shown(path)} holds no weights: save module.state_dict()")
    _check_metadata(path, checkpoint.metadata, name, scale)
    try:
        state = _converted(module, checkpoint.state, scale)
    except UserError as error:
        raise UserError(f"{shown(path)} cannot be read as {name} x{scale}: {error}") from error
    if not _fits(state, wanted):
        raise UserError(_misfit(path, checkpoint.state, state, wanted, name, scale))
    module.load_state_dict(state)
    for key, tensor in module.state_dict().items():
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            raise UserError(
                f"{shown(path)} holds NaN or infinity in {wrong} of {tensor.numel()} values of {key}: "
                "the training that made it diverged; use an earlier file"
            )
    return module.eval()


def save(weights: nn.Module | Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str]) -> None:
    """Writes a module's parameters and buffers, or a state dict, as `.safetensors`; whole or not at all.

    `metadata` is text kept in the header; `network` and `scale`, where given, are checked by `load`. The same weights
    and metadata give the same bytes.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    # Copies, since the format has no two keys for one storage.
    tensors = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.items()}
    data = safetensors.torch.save(tensors, dict(metadata))
    # The library writes metadata in a random order; sort the header, padded with spaces to 8 bytes as the format asks.
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(checkpoints.header(data), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        file.write(data[start:])


def _converted(module: nn.Module, state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
    convert = getattr(module, "convert_published", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), scale)
    except (LookupError, ValueError, RuntimeError):
        return state  # it looked for a key or a shape that another network's file does not have


def _agree(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _fits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return state.keys() == wanted.keys() and all(_agree(state[key], wanted[key]) for key in wanted)


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "a single number"
    return shape if tensor.is_floating_point() else f"{shape} integers"


def _check_metadata(path: Path | str, metadata: Mapping[str, str], name: str, scale: int) -> None:
    """Variants may share every key and shape, so what a file says of itself counts."""
    network, own_scale = metadata.get("network", name), metadata.get("scale", str(scale))
    if (network, own_scale) != (name, str(scale)):
        raise UserError(
            f"{shown(path)} holds {shown(network)} x{shown(own_scale)} (its metadata says so), not {name} x{scale}: "
            "choose the network and scale that it was trained as"
        )


def _misfit(
    path: Path | str,
    state: dict[str, Tensor],
    converted: dict[str, Tensor],
    wanted: dict[str, Tensor],
    name: str,
    scale: int,
) -> str:
    """The message for a file that is sound but not this network's."""
    owners = list(_owners(state, name))
    if owners:
        few = " or ".join(owners[:3]) + (f" or {len(owners) - 3} others" if len(owners) > 3 else "")
        guess = f"it seems to hold {few}"
    else:
        guess = "no network of this project has such keys and shapes"
    groups = {
        "missing": [key for key in wanted if key not in converted],
        "of another shape": [
            f"{key} ({_shape(converted[key])} instead of {_shape(wanted[key])})"
            for key in wanted
            if key in converted and not _agree(converted[key], wanted[key])
        ],
        "not part of it": [shown(key) for key in converted if key not in wanted],
    }
    lists = [
        f"{label}: {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        for label, keys in groups.items()
        if keys
    ]
    return f"{shown(path)} does not fit {name} x{scale}: {guess}; {'; '.join(lists)}"


def _owners(state: dict[str, Tensor], name: str) -> Iterator[str]:
    """Every network and scale that `state` would fit, `name` at its other scales first."""
    for candidate in sorted(networks.names(), key=lambda each: each != name):
        for scale in networks.info(candidate).scales:
            try:
                with torch.device("meta"):
                    module = networks.build(candidate, scale)
                fits = _fits(_converted(module, state, scale), module.state_dict())
            except Exception:
                continue  # a user's own variant may not build: not the subject of this message
            if fits:
                yield f"{candidate} x{scale}"
