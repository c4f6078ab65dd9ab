"""Reads tensors out of a weight file of unknown origin, without running code that it may carry."""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from safmn.errors import UserError

# What wraps a state dict: BasicSR's averaged and raw weights (the averaged ones are what its authors report), then
# the habits of training scripts.
WRAPPERS = ("params_ema", "params", "state_dict", "model")
# What DataParallel and torch.compile put in front of every key.
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by key, wrappers and prefixes taken off, and the text metadata of a `.safetensors` file."""

    state: dict[str, Tensor]
    metadata: dict[str, str]


def read(path: Path | str, limit: int) -> Checkpoint:
    """Reads `.safetensors`, or `.pth` and `.pt` of any age; the format is told by the content, not by the name.

    Nothing above `limit` bytes is read or allocated. Tensors arrive on the CPU with the file's dtype; their values are
    not looked at. UserError where the file is missing, empty, damaged, too large or holds more than plain tensors.
    """
    data = _content(path, limit)
    try:
        # `.safetensors` first: the low byte of its header's length may be any, a pickle's first byte too.
        if data[8:9] == b"{":  # eight bytes of length, then the header
            checkpoint = Checkpoint(_without_prefix(safetensors.torch.load(data)), header(data).get("__metadata__", {}))
        elif data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":  # a zip archive, or a pickle of protocol 2 or later
            checkpoint = Checkpoint(_state(_torch_content(data, limit)), {})
        else:
            raise UserError(_what_else(data))
        _check_tensors(checkpoint.state, limit)
    except UserError as error:
        raise UserError(f"{shown(path)} {error}") from error
    except Exception as error:
        # Damaged bytes make the two readers raise almost anything, from KeyError to MemoryError.
        raise UserError(
            f"{shown(path)} is damaged or cut short ({_first_line(error)}): fetch or copy it again"
        ) from error
    return checkpoint


def header(data: bytes) -> dict[str, Any]:
    """The header of `.safetensors` bytes: key -> dtype, shape, data_offsets; text metadata under `__metadata__`."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def shown(text: object) -> str:
    """`text` fit for one line of a message: control characters escaped, long ones cut."""
    text = str(text)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 300 else text[:297] + "..."


def _content(path: Path | str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file {shown(path)}: give a .safetensors or .pth file; `safmn fetch` downloads published ones"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {shown(path)} ({reason}): give a .safetensors or .pth file") from error
    if not data:
        raise UserError(f"{shown(path)} is empty: fetch or copy it again")
    if len(data) > limit:
        raise UserError(
            f"{shown(path)} is larger than {limit / 2**20:.0f} MiB, far more than this network's weights take: "
            "choose the right network or save the weights alone"
        )
    return data


def _torch_content(data: bytes, limit: int) -> Any:
    """Unpickles tensors and plain containers only; refuses whatever else the file asks for."""
    try:
        if data[:1] == b"P" and sum(e.file_size for e in zipfile.ZipFile(io.BytesIO(data)).infolist()) > limit:
            raise UserError(
                "unpacks to far more than this network's weights take: it is damaged or a decompression bomb"
            )
        # On the meta device first: shapes without memory, since a small file may claim any size.
        claimed = _unpickled(data, "meta")
        storages = [tensor.untyped_storage() for tensor in _tensors(claimed) if tensor.layout is torch.strided]
        if sum({storage._cdata: storage.nbytes() for storage in storages}.values()) > len(data):
            raise UserError("claims more numbers than it holds: it is damaged or made to exhaust memory")
        return _unpickled(data, "cpu")
    except UserError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is not None:
            raise UserError(
                f"is a pickled Python object ({shown(code[1])}), not plain tensors: loading it would run code from the "
                "file, so it is refused; save its state_dict() as .safetensors with the code it came from"
            ) from error
        if "TorchScript" in str(error):
            raise UserError(
                "is a TorchScript program, not plain tensors, so it is refused; save its state_dict() as .safetensors"
            ) from error
        raise


def _unpickled(data: bytes, device: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd pickles, which are refused in our own words
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)


def _tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers, which may contain themselves."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)


def _state(content: Any) -> dict[str, Tensor]:
    """The state dict inside what `torch.load` returned."""
    for _ in WRAPPERS:  # bounded, since a container may contain itself
        wrapper = next((key for key in WRAPPERS if isinstance(content, Mapping) and key in content), None)
        if wrapper is None or not isinstance(content[wrapper], Mapping):
            break
        content = content[wrapper]
    if not isinstance(content, Mapping):
        raise UserError(f"holds a {type(content).__name__}, not a state dict: save module.state_dict()")
    return _without_prefix({key: value for key, value in content.items() if isinstance(value, Tensor)})


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # either may be outermost
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _check_tensors(state: dict[str, Tensor], limit: int) -> None:
    for key, tensor in state.items():
        if not isinstance(key, str):
            raise UserError(f"has a key that is no text ({shown(key)}): save module.state_dict()")
        plain = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_complex()
        if not plain or tensor.device.type != "cpu":
            raise UserError(
                f"holds {shown(key)} as a sparse, quantised, complex or absent tensor: save plain float32 tensors"
            )
    # Logical size: a view may repeat one number a billion times.
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > limit:
        raise UserError(
            f"claims tensors of more than {limit / 2**20:.0f} MiB, far more than this network's weights take"
        )


def _what_else(data: bytes) -> str:
    start = data[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights: download the raw file"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not weights: run `git lfs pull`"
    return "is neither .safetensors nor a PyTorch weight file: give one of these"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
