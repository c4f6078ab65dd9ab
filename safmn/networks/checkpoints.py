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
from safmn.networks import formats

# Records that training programs keep beside the weights: settings, paths, times, numbers. Nothing of them is needed, so
# an empty stand-in takes their place; neither the packages nor anything else of the file is imported or called.
RECORDS = {
    *("argparse", "types", "pathlib", "datetime", "decimal", "enum", "uuid", "collections", "typing", "numpy"),
    *("omegaconf", "easydict", "addict", "yacs", "munch", "ml_collections", "mmengine", "mmcv", "box"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities"),
}
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin."""
MOST_RECORDS = 100  # kinds of them in one file
MOST_ITEMS = 200_000  # entries of all containers; a container may hold another many times over


@dataclass(frozen=True)
class Held:
    """Tensors that lie in one container of a file.

    Attributes:
        place: the keys that lead to the container; empty at the top level.
        tensors: by key, in the file's order; a list's items have their numbers as keys.
        named: False for a list.
    """

    place: tuple[str, ...]
    tensors: dict[str, Tensor]
    named: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: containers of tensors, the keys at its top level, the text metadata of `.safetensors`."""

    held: list[Held]
    top: list[str]
    metadata: dict[str, str]


def read(path: Path | str, limit: int) -> Checkpoint:
    """Reads `.safetensors`, or `.pth` and `.pt` of any age; the format is told by the content, not by the name.

    Nothing above `limit` bytes is read or allocated. Tensors arrive on the CPU with the file's dtype; their values are
    not looked at. UserError where the file is missing, empty, damaged, too large, of another format, or where reading
    it would run code.
    """
    data = _content(path, limit)
    try:
        # `.safetensors` first: the low byte of its header's length may be any, a pickle's first byte too.
        if data[8:9] == b"{":  # eight bytes of length, then the header
            content = safetensors.torch.load(data)
            metadata = header(data).get("__metadata__", {})
        elif data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":  # a zip archive, or a pickle of protocol 2 or later
            content, metadata = _torch_content(data, limit), {}
        else:
            asked, whole = formats.pickled(data)  # of protocol 0 or 1
            raise UserError(_refused(asked, bare=True) if whole else formats.named(data))
        held = list(_containers(content))
        tensors = {id(tensor): tensor for each in held for tensor in each.tensors.values()}.values()
        # Logical size: a view may repeat one number a billion times.
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > limit:
            raise UserError(
                f"claims tensors of more than {limit / 2**20:.0f} MiB, far more than this network's weights take"
            )
        if not held and not isinstance(content, Mapping):
            raise UserError(f"holds a {type(content).__name__}, not a state dict: save module.state_dict()")
    except UserError as error:
        raise UserError(f"{shown(path)} {error}") from error
    except Exception as error:
        # Damaged bytes make the two readers raise almost anything, from KeyError to MemoryError.
        raise UserError(
            f"{shown(path)} is damaged or cut short ({_first_line(error)}): fetch or copy it again"
        ) from error
    return Checkpoint(held, [shown(key) for key in content] if isinstance(content, Mapping) else [], metadata)


def header(data: bytes) -> dict[str, Any]:
    """The header of `.safetensors` bytes: key -> dtype, shape, data_offsets; text metadata under `__metadata__`."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def shown(text: object) -> str:
    """`text` fit for one line of a message: control characters escaped, long ones cut."""
    text = str(text)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 300 else text[:297] + "..."


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds ordinary numbers: neither sparse, quantised nor complex, and not without content."""
    strided = tensor.layout is torch.strided and not tensor.is_quantized
    return strided and not tensor.is_complex() and tensor.device.type == "cpu"


def _content(path: Path | str, limit: int) -> bytes:
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


def _torch_content(data: bytes, limit: int) -> Any:
    """Unpickles tensors, plain containers and records only; refuses whatever else the file asks for."""
    if data[:1] == b"P":
        if sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist()) > limit:
            raise UserError(
                "unpacks to far more than this network's weights take: it is damaged or a decompression bomb"
            )
        other = formats.named_archive(data)
        if other:
            raise UserError(other)
    try:
        # On the meta device first: shapes without memory, since a small file may claim any size.
        claimed, records = _without_records(data)
        tensors = [tensor for each in _containers([claimed]) for tensor in each.tensors.values()]
        storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
        if sum({storage._cdata: storage.nbytes() for storage in storages}.values()) > len(data):
            raise UserError("claims more numbers than it holds: it is damaged or made to exhaust memory")
        if not tensors and any(record.__module__.startswith("numpy") for record in records):
            raise UserError(_refused(["numpy"]))
        return _unpickled(data, "cpu", records)
    except UserError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise UserError(_refused([code[1]])) from error
        asked, whole = formats.pickled(_pickle_of(data))
        bare = data[:1] == b"\x80" and not data.startswith(LEGACY)
        if whole and (asked or bare):
            raise UserError(_refused(asked, bare)) from error
        raise


def _refused(asked: list[str], bare: bool = False) -> str:
    """Why a file is not read that asks for the objects of these names; `bare` where torch.save did not write it."""
    name = next((each for each in asked if not _is_harmless(each)), "") or next(iter(asked), "")
    if any(each.startswith("numpy") for each in asked) and _is_harmless(name):
        name = "numpy"
    if name.startswith("numpy"):
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


class _Record(dict):
    """Stands for a record of another package; takes whatever it is given and keeps only a mapping's items."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Record":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def _without_records(data: bytes) -> tuple[Any, list[type]]:
    """The content on the meta device, and the stand-ins that reading it takes."""
    records: list[type] = []
    while True:
        try:
            return _unpickled(data, "meta", records), records
        except Exception as error:
            code = re.search(r"GLOBAL (\S+)", str(error))
            known = {f"{record.__module__}.{record.__qualname__}" for record in records}
            if not code or not _is_harmless(code[1]) or code[1] in known or len(records) == MOST_RECORDS:
                raise
            module, _, name = code[1].rpartition(".")
            records.append(type(name, (_Record,), {"__module__": module, "__qualname__": name}))


def _is_harmless(name: str) -> bool:
    return name.partition(".")[0] in RECORDS or name == "_codecs.encode"


def _unpickled(data: bytes, device: str, records: list[type]) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(records):
        warnings.simplefilter("ignore")  # about odd pickles, which are refused in our own words
        return torch.load(io.BytesIO(data), map_location=device, weights_only=True)


def _pickle_of(data: bytes) -> bytes:
    if data[:1] != b"P":
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return next((archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")), b"")


def _containers(content: Any) -> Iterator[Held]:
    """Every mapping and list that holds tensors, whatever holds it; a container inside itself is not gone into."""
    waiting: list[tuple[tuple[str, ...], Any, frozenset[int]]] = [((), content, frozenset())]
    left = MOST_ITEMS
    while waiting:
        place, item, inside = waiting.pop()
        if isinstance(item, Mapping):
            if any(isinstance(key, Tensor) for key in item):
                raise UserError("has a tensor where a key should be: save module.state_dict()")
            entries = [(str(key), value) for key, value in item.items()]
        elif isinstance(item, list | tuple | set):
            entries = [(str(number), value) for number, value in enumerate(item)]
        else:
            continue
        left -= len(entries)
        if left < 0 or len(place) > 50:
            raise UserError("holds containers within containers without end: save module.state_dict() alone")
        tensors = {key: value for key, value in entries if isinstance(value, Tensor)}
        if tensors:
            yield Held(place, tensors, isinstance(item, Mapping))
        # The last is taken first: the file's order.
        for key, value in reversed(entries):
            if not isinstance(value, Tensor) and id(value) not in inside and id(value) != id(item):
                waiting.append(((*place, key[:200]), value, inside | {id(item)}))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
