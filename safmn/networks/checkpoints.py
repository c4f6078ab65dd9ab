"""Reads the tensors of a weight file of unknown origin and never runs code that the file carries."""

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

from safmn.errors import UserError, as_line
from safmn.networks import formats

# Packages whose objects training programs keep beside the weights: settings, paths, times, numbers. They are not needed
# here. A `_Record` replaces each, so that neither these packages nor anything else is imported or called.
RECORDS = {
    *("argparse", "types", "pathlib", "datetime", "decimal", "enum", "uuid", "collections", "typing", "numpy"),
    *("omegaconf", "easydict", "addict", "yacs", "munch", "ml_collections", "mmengine", "mmcv", "box"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities"),
}
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files of torch before 1.6: five pickles, then the numbers."""
MAX_RECORDS = 100  # kinds of them in one file
MAX_ITEMS = 200_000  # entries of all containers together; a container may hold another many times
MAX_DEPTH = 50  # containers inside containers


@dataclass(frozen=True)
class Container:
    """The tensors of one container (mapping or list) of a file.

    Attributes:
        place: the keys that lead to the container; empty at the top level.
        tensors: key -> tensor, in the file's order; the keys of a list are its positions.
        named: False for a list.
    """

    place: tuple[str, ...]
    tensors: dict[str, Tensor]
    named: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file: its containers of tensors, its top-level keys, the text metadata of `.safetensors`."""

    containers: list[Container]
    top: list[str]
    metadata: dict[str, str]


def read(path: Path | str, limit: int) -> Checkpoint:
    """Read `.safetensors`, or `.pth` and `.pt` of any age; the content decides the format, not the file's name.

    Args:
        path: the file.
        limit: bytes; nothing larger is read or allocated.

    Returns:
        The content; tensors are on the CPU with the file's dtype, and their values are not checked.

    Raises:
        UserError: the file is missing, empty, damaged, too large, of another format, or would run code.
    """
    data = _bytes(path, limit)
    metadata: dict[str, str] = {}
    try:
        # `.safetensors` first: the low byte of its header's length may be any, a pickle's first byte too.
        if data[8:9] == b"{":  # eight bytes of length, then the header
            content: Any = safetensors.torch.load(data)
            metadata = header(data).get("__metadata__", {})
        elif data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":  # a zip archive, or a pickle of protocol 2 or later
            content = _unpickled(data, limit)
        else:
            names, is_pickle = formats.pickled_names(data)  # of protocol 0 or 1
            raise UserError(_refusal(names, bare=True) if is_pickle else formats.named(data))
        containers = list(_containers(content))
        tensors = {id(tensor): tensor for container in containers for tensor in container.tensors.values()}.values()
        # The size that the tensors claim: a view may repeat one number a billion times.
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > limit:
            raise UserError(
                f"claims tensors of more than {limit / 2**20:.0f} MiB, far more than this network's weights take"
            )
        if not containers and not isinstance(content, Mapping):
            raise UserError(f"holds a {type(content).__name__}, not a state dict: save module.state_dict()")
    except UserError as error:
        raise UserError(f"{shown(path)} {error}") from error
    except Exception as error:  # damaged bytes make both readers raise almost anything, from KeyError to MemoryError
        reason = as_line(error)
        raise UserError(f"{shown(path)} is damaged or cut short ({reason}): fetch or copy it again") from error
    return Checkpoint(containers, [shown(key) for key in content] if isinstance(content, Mapping) else [], metadata)


def header(data: bytes) -> dict[str, Any]:
    """Return the header of `.safetensors` bytes: key -> dtype, shape, data_offsets; metadata under `__metadata__`."""
    parsed: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return parsed


def shown(text: object) -> str:
    """Return `text` fit for one line of a message: control characters escaped, at most 300 characters."""
    text = str(text)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 300 else text[:297] + "..."


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor holds ordinary numbers: not sparse, quantised or complex, and not on the meta device."""
    strided = tensor.layout is torch.strided and not tensor.is_quantized
    return strided and not tensor.is_complex() and tensor.device.type == "cpu"


def _bytes(path: Path | str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file {shown(path)}: give a .safetensors or .pth file; `safmn fetch` downloads published ones"
        ) from error
    except (OSError, ValueError) as error:
        other = formats.named_folder(Path(path)) if isinstance(error, IsADirectoryError) else None
        if other:
            raise UserError(f"{shown(path)} {other}") from error
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


def _unpickled(data: bytes, limit: int) -> Any:
    """Unpickle tensors, plain containers and records; refuse whatever else the file asks for."""
    pickles, legacy = data, data.startswith(LEGACY)
    zipped = data[:1] == b"P"
    if zipped:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > limit:
                raise UserError(
                    "unpacks to far more than this network's weights take: it is damaged or a decompression bomb"
                )
            other = formats.named_archive(archive)
            if other:
                raise UserError(other)
            pickles = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    names, complete = formats.pickled_names(pickles, 5 if legacy else 1)
    records = list(dict.fromkeys(filter(_is_record, names)))[:MAX_RECORDS]
    try:
        # On the meta device first: shapes without memory, since a small file may claim any size.
        claimed = _load(data, "meta", records)
        tensors = [tensor for container in _containers([claimed]) for tensor in container.tensors.values()]
        storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
        if sum({storage._cdata: storage.nbytes() for storage in storages}.values()) > len(data):
            raise UserError("claims more numbers than it holds: it is damaged or made to exhaust memory")
        if not tensors and any(name.startswith("numpy") for name in records):
            raise UserError(_refusal(["numpy"]))
        return _load(data, "cpu", records)
    except UserError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise UserError(_refusal([code[1]])) from error
        bare = not zipped and not legacy
        if complete and (bare or (zipped and names)):
            raise UserError(_refusal(names, bare)) from error
        raise


def _load(data: bytes, device: str, records: list[str]) -> Any:
    stand_ins: list[Any] = []
    for path in records:
        module, _, name = path.rpartition(".")
        stand_ins.append(type(name, (_Record,), {"__module__": module, "__qualname__": name}))
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")  # about odd pickles, which are refused in our own words
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)


class _Record(dict[Any, Any]):
    """Replaces an object of another package; accepts any arguments and keeps only the items of a mapping."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Record":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none; a set may hold records
        return id(self)


def _is_record(name: str) -> bool:
    return name.partition(".")[0] in RECORDS or name == "_codecs.encode"


def _refusal(names: list[str], bare: bool = False) -> str:
    """Say why a file is refused that asks for the objects `names`; `bare` if torch.save did not write it."""
    name = next((code for code in names if not _is_record(code)), "") or next(iter(names), "")
    if name.startswith("numpy") or (_is_record(name) and any(code.startswith("numpy") for code in names)):
        return f"holds pickled NumPy arrays, not tensors: {formats.AGAIN}"
    if "Uninitialized" in name:
        return (
            "holds parameters of a lazy module that never ran, so they have no size yet: run the network on one image, "
            "then save its state_dict()"
        )
    if bare and name.startswith(("torch._utils.", "torch.storage.")):
        return "is a bare pickle of tensors, not a PyTorch weight file: save with torch.save or as .safetensors"
    if name.startswith("torch._utils._rebuild"):
        return f"holds quantised or other special tensors ({name}): save plain float32 tensors"
    if bare and not name:
        return "is a Python pickle, not a PyTorch weight file: save with torch.save or as .safetensors"
    return (
        f"is a pickled Python object ({shown(name)}), not plain tensors: loading it would run code from the "
        "file, so it is refused; save its state_dict() as .safetensors with the code it came from"
    )


def _containers(content: Any) -> Iterator[Container]:
    """Yield every mapping and list that holds tensors, at any depth; a container inside itself is not entered."""
    waiting: list[tuple[tuple[str, ...], Any, frozenset[int]]] = [((), content, frozenset())]
    left = MAX_ITEMS
    while waiting:
        place, item, above = waiting.pop()
        if isinstance(item, Mapping):
            if any(isinstance(key, Tensor) for key in item):
                raise UserError("has a tensor where a key should be: save module.state_dict()")
            entries = [(str(key), value) for key, value in item.items()]
        elif isinstance(item, list | tuple | set):
            entries = [(str(number), value) for number, value in enumerate(item)]
        else:
            continue
        left -= len(entries)
        if left < 0 or len(place) > MAX_DEPTH:
            raise UserError("holds containers within containers without end: save module.state_dict() alone")
        tensors = {key: value for key, value in entries if isinstance(value, Tensor)}
        if tensors:
            yield Container(place, tensors, isinstance(item, Mapping))
        above |= {id(item)}
        waiting += [  # reversed, since the last is taken first: the file's order
            ((*place, key[:200]), value, above)
            for key, value in reversed(entries)
            if not isinstance(value, Tensor) and id(value) not in above
        ]
