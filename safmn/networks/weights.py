"""Loads weights into a network and saves them: this project's `.safetensors`, authors' files, other checkpoints."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
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
from safmn.networks.checkpoints import Checkpoint, Container, shown

_log = logging.getLogger(__name__)

# A file may hold a whole training run (raw and averaged weights, two Adam moments, in double precision: 64 bytes for
# a 4-byte weight) and a few things beside; anything larger is not for this network.
LIMIT_FACTOR = 16
LIMIT_MARGIN = 16 * 2**20
_SCALE = re.compile(r"x([234])(?!\d)|(?<!\d)([234])x(?![a-z0-9])", re.I)
AVERAGED = {"best": True, "last": True, "last_raw": False}
"""`which` in the metadata of this project's files -> whether their weights are averaged."""


@dataclass(frozen=True)
class Choice:
    """Which weights of a file were taken.

    Attributes:
        which: "ema" (averaged) or "raw" where the file holds several sets, "only" where it holds one.
        key: their place in the file, keys and prefix joined by dots; "" at its top level.
        others: the keys of the other sets that would fit.
        remark: a sentence about the choice, "" where there was none to make.
    """

    which: str
    key: str
    others: tuple[str, ...] = ()
    remark: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The choice as part of a JSON record."""
        return {"which": self.which, "key": self.key} | ({"others": list(self.others)} if self.others else {})


def load(path: Path | str, name: str, scale: int, which: str | None = None) -> tuple[nn.Module, Choice]:
    """Build the network `name` for `scale` and load the weights in `path`.

    Reads this project's files, what the network's authors published (converted by the class's static method
    `convert_published(state, scale)` where it has one), and files of other training programs, whatever they wrap the
    weights in (see `mappings`). Never runs code from the file.

    Args:
        path: the file.
        name: the network.
        scale: its scale.
        which: of several sets "ema" (averaged), "raw", or a key of the file; None for the averaged one.

    Returns:
        The network, on the CPU, in eval mode; and which of the file's weights it has.

    Raises:
        UserError: the file is missing or damaged, holds NaN or infinity, belongs to another network or scale (which is
            then named), does not hold what `which` asks for, or does not say which of several sets is the averaged one.
    """
    with torch.random.fork_rng(devices=[]):  # the initial values are thrown away: keep the caller's random state
        module = networks.build(name, scale)
    expected = module.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
    checkpoint = checkpoints.read(path, LIMIT_FACTOR * size + LIMIT_MARGIN)
    if not checkpoint.containers:
        if not expected:
            return module.eval(), Choice("only", "")
        keys = f" (keys: {_few(checkpoint.top)})" if checkpoint.top else ""
        raise UserError(f"{shown(path)} holds no weights{keys}: save module.state_dict()")
    # Variants may share every key and shape, so what a file says of itself counts.
    metadata = checkpoint.metadata
    own_name, own_scale = metadata.get("network", name), metadata.get("scale", str(scale))
    if (own_name, own_scale) != (name, str(scale)):
        raise UserError(
            f"{shown(path)} holds {shown(own_name)} x{shown(own_scale)} (its metadata says so), not {name} x{scale}: "
            "choose the network and scale that it was trained as"
        )
    result = mappings.find(checkpoint.containers, module, scale)
    sets = [candidate for candidate in result.weights if all(map(checkpoints.is_plain, candidate.state.values()))]
    if not sets:
        raise UserError(f"{shown(path)} {_misfit(checkpoint, result, expected, name, scale)}")
    # This project writes its averaged and its raw weights into separate files.
    averaged = AVERAGED.get(metadata.get("which", ""))
    if averaged is not None:
        sets = [replace(candidate, averaged=averaged) for candidate in sets]
    try:
        chosen, kind, remark = mappings.choose(sets, result.unread, which)
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
    named = {int(next(filter(None, groups))) for groups in _SCALE.findall(Path(path).stem)}
    if "scale" not in metadata and len(named) == 1 and scale not in named:
        _log.warning(
            "%s is of x%d by its name, and is used for x%d: the shapes of %s are the same at every scale",
            *(shown(path), *named, scale, name),
        )
    others = tuple(candidate.key for candidate in sets if candidate is not chosen)
    return module.eval(), Choice(kind, chosen.key, others, remark and f"{shown(path)} {shown(remark)}")


def save(weights: nn.Module | Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str]) -> None:
    """Write a module's parameters and buffers, or a state dict, as `.safetensors`; the file is complete or absent.

    Args:
        weights: the module or state dict. The same weights and metadata give the same bytes.
        path: the file.
        metadata: text for the header. `load` checks `network` and `scale`, and they decide whether a marker is
            written too (see `marker`).
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
    with atomic(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + data[start:])


def _misfit(checkpoint: Checkpoint, result: mappings.Result, expected: dict[str, Tensor], name: str, scale: int) -> str:
    """Say why a readable file is not this network's."""
    tensors = [item for container in checkpoint.containers for item in container.tensors.items()]
    odd = next((key for key, tensor in tensors if not checkpoints.is_plain(tensor)), None)
    if odd is not None:
        return f"holds {shown(odd)} as a sparse, quantised, complex or absent tensor: save plain float32 tensors"
    owners = list(_owners(checkpoint.containers, name))
    if result.error and not owners:
        return f"cannot be read as {name} x{scale}: {result.error}"
    guess = "no network of this project has such keys and shapes, whatever prefix is taken off"
    if owners:
        more = f" or {len(owners) - 3} others" if len(owners) > 3 else ""
        guess = f"it seems to hold {' or '.join(owners[:3])}{more}"
    key, state = result.nearest
    lists = {
        "the file's keys": checkpoint.top if key else [],
        f"nearest are its weights under {shown(key)}; missing" if key else "missing": [
            key for key in expected if key not in state
        ],
        "of another shape": [
            f"{key} ({_shape(state[key])} instead of {_shape(expected[key])})"
            for key in expected
            if key in state and not mappings.agree(state[key], expected[key])
        ],
        "not part of it": [shown(key) for key in state if key not in expected],
    }
    listed = "; ".join(f"{label}: {_few(texts)}" for label, texts in lists.items() if texts)
    return f"does not fit {name} x{scale}: {guess}; {listed}"


def _few(texts: list[str]) -> str:
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "a single number"
    return shape if tensor.is_floating_point() else f"{shape} integers"


def _owners(containers: Sequence[Container], name: str) -> Iterator[str]:
    """Yield every network and scale that the tensors would fit, `name` at its other scales first."""
    for candidate in sorted(networks.names(), key=lambda other: other != name):
        for scale in networks.info(candidate).scales:
            try:
                with torch.device("meta"):
                    module = networks.build(candidate, scale)
                fitting = mappings.find(containers, module, scale).weights
            except Exception:
                continue  # a user's own variant may not build: not the subject of this message
            if fitting:
                yield f"{candidate} x{scale}"
