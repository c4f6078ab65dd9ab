"""Weights into a network and out of it: this project's `.safetensors` and the authors' own files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError
from safmn.files import atomic
from safmn.networks import checkpoints, mappings, marker
from safmn.networks.checkpoints import Checkpoint, Held, shown

# A file may hold a whole training run (raw and averaged weights, two Adam moments, in double precision: 64 bytes for
# a 4-byte weight) and a few things beside; anything larger is not for this network.
LIMIT_FACTOR = 16
LIMIT_MARGIN = 16 * 2**20
OWN = {"best": True, "last": True, "last_raw": False}
"""What this project's metadata says of its weights -> whether they are averaged."""


@dataclass(frozen=True)
class Choice:
    """Which weights of a file were taken.

    Attributes:
        which: "ema" (averaged) or "raw" where the file holds several sets, "only" where it holds one.
        key: where they lie in the file, keys and prefix joined by dots; "" at its top level.
        others: the keys of the other sets that would fit.
        remark: a sentence about the choice, "" where there was none to make.
    """

    which: str
    key: str
    others: tuple[str, ...] = ()
    remark: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """For a JSON record."""
        return {"which": self.which, "key": self.key} | ({"others": list(self.others)} if self.others else {})


def load(path: Path | str, name: str, scale: int, which: str | None = None) -> tuple[nn.Module, Choice]:
    """Builds the network `name` for `scale` and loads the weights in `path`; on the CPU, in eval mode.

    Reads this project's files and what the network's authors published, converted by the class's static method
    `convert_published(state, scale)` where it has one, and files of other training programs, whatever they wrap the
    weights in (see `mappings`). Never unpickles code.

    Args:
        which: of several sets "ema" (averaged), "raw", or a key of the file; the averaged ones where None.

    Raises:
        UserError: the file is missing or damaged, holds NaN or infinity, belongs to another network or scale (which is
            then named), does not hold what `which` asks for, or does not say which of several sets is the averaged one.
    """
    with torch.random.fork_rng(devices=[]):  # the initial values are thrown away: leave the caller's random state alone
        module = networks.build(name, scale)
    wanted = module.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in wanted.values())
    checkpoint = checkpoints.read(path, LIMIT_FACTOR * size + LIMIT_MARGIN)
    if not checkpoint.held:
        if not wanted:
            return module.eval(), Choice("only", "")
        keys = f" (keys: {_few(checkpoint.top)})" if checkpoint.top else ""
        raise UserError(f"{shown(path)} holds no weights{keys}: save module.state_dict()")
    _check_metadata(path, checkpoint.metadata, name, scale)
    found = mappings.find(checkpoint.held, module, scale)
    sets = [each for each in found.weights if all(map(checkpoints.is_plain, each.state.values()))]
    if not sets:
        raise UserError(_misfit(path, checkpoint, found, wanted, name, scale))
    # This project writes its average and its raw weights into files of their own.
    averaged = OWN.get(checkpoint.metadata.get("which", ""))
    if averaged is not None:
        sets = [replace(each, averaged=averaged) for each in sets]
    try:
        chosen, kind, remark = mappings.choose(sets, found.unread, which)
    except UserError as error:
        raise UserError(f"{shown(path)} {error}") from error
    for mark in chosen.marks:
        if mark != name:
            raise UserError(
                f"{shown(path)} holds {shown(mark)} (a marker in it says so), not {name}: choose the network that it "
                "was trained as"
            )
    module.load_state_dict(chosen.state)
    for key, tensor in module.state_dict().items():
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            raise UserError(
                f"{shown(path)} holds NaN or infinity in {wrong} of {tensor.numel()} values of {key}: "
                "the training that made it diverged; use an earlier file"
            )
    others = tuple(each.key for each in sets if each is not chosen)
    return module.eval(), Choice(kind, chosen.key, others, remark and f"{shown(path)} {shown(remark)}")


def save(weights: nn.Module | Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str]) -> None:
    """Writes a module's parameters and buffers, or a state dict, as `.safetensors`; whole or not at all.

    `metadata` is text kept in the header; `network` and `scale`, where given, are checked by `load`, and decide whether
    a marker is written too (see `marker`). The same weights and metadata give the same bytes.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    if "network" in metadata and metadata.get("scale", "").isdecimal():
        state = marker.marked(state, metadata["network"], int(metadata["scale"]))
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
    path: Path | str, checkpoint: Checkpoint, found: mappings.Found, wanted: dict[str, Tensor], name: str, scale: int
) -> str:
    """The message for a file that is sound but not this network's."""
    odd = next((k for h in checkpoint.held for k, t in h.tensors.items() if not checkpoints.is_plain(t)), None)
    if odd is not None:
        return (
            f"{shown(path)} holds {shown(odd)} as a sparse, quantised, complex or absent tensor: save plain float32 "
            "tensors"
        )
    owners = list(_owners(checkpoint.held, name))
    if found.error and not owners:
        return f"{shown(path)} cannot be read as {name} x{scale}: {found.error}"
    if owners:
        few = " or ".join(owners[:3]) + (f" or {len(owners) - 3} others" if len(owners) > 3 else "")
        guess = f"it seems to hold {few}"
    else:
        guess = "no network of this project has such keys and shapes, whatever prefix is taken off"
    key, state = found.nearest
    lists = {
        "the file's keys": checkpoint.top if key else [],
        f"nearest are its weights under {shown(key)}; missing" if key else "missing": [
            each for each in wanted if each not in state
        ],
        "of another shape": [
            f"{each} ({_shape(state[each])} instead of {_shape(wanted[each])})"
            for each in wanted
            if each in state and not mappings.agree(state[each], wanted[each])
        ],
        "not part of it": [shown(each) for each in state if each not in wanted],
    }
    listed = "; ".join(f"{label}: {_few(each)}" for label, each in lists.items() if each)
    return f"{shown(path)} does not fit {name} x{scale}: {guess}; {listed}"


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _owners(held: list[Held], name: str) -> Iterator[str]:
    """Every network and scale that the tensors would fit, `name` at its other scales first."""
    for candidate in sorted(networks.names(), key=lambda each: each != name):
        for scale in networks.info(candidate).scales:
            try:
                with torch.device("meta"):
                    module = networks.build(candidate, scale)
                fits = mappings.find(held, module, scale).weights
            except Exception:
                continue  # a user's own variant may not build: not the subject of this message
            if fits:
                yield f"{candidate} x{scale}"
