"""What a file is that holds no PyTorch weights: known by its first bytes or by what its archive lists."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

AGAIN = "load it where it was made and save its state_dict() with torch.save, or its arrays as .safetensors"
UNPACK = "unpack it and give the weight file inside"

# (place, bytes, what it is, what to do)
STARTS = (
    (0, b"\x93NUMPY", "a NumPy array (.npy)", AGAIN),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, TensorFlow, h5py or MATLAB)", AGAIN),
    (0, b"GGUF", "a GGUF file (llama.cpp, ggml)", AGAIN),
    (0, b"lmgg", "a ggml file", AGAIN),
    (4, b"TFL3", "a TensorFlow Lite model", AGAIN),
    (0, b"\x08\x01\x12", "a TensorFlow SavedModel", AGAIN),
    (0, b"MATLAB", "a MATLAB file (.mat)", AGAIN),
    (0, b"\x1f\x8b", "packed with gzip", UNPACK),
    (0, b"BZh", "packed with bzip2", UNPACK),
    (0, b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed with Zstandard", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"version https://git-lfs", "a Git LFS pointer, not weights", "run `git lfs pull`"),
    (0, b"\x89PNG", "neither .safetensors nor a PyTorch weight file but a PNG picture", "give the weights"),
)
WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")


def named(data: bytes) -> str:
    """What `data` is, and what to do, as the end of a sentence that begins with the file's name."""
    for place, start, what, advice in STARTS:
        if data[place : place + len(start)] == start:
            return f"is {what}: {advice}"
    if _is_onnx(data):
        return f"is an ONNX model: {AGAIN}"
    if data[:1] == b"\n" and b"Placeholder" in data[:1000]:
        return f"is a TensorFlow graph (.pb): {AGAIN}"
    start = data[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page, not weights: download the raw file"
    if _is_text(data[:200]):
        return "is a text file, not weights: give the weight file itself"
    return "is neither .safetensors nor a PyTorch weight file: give one of these"


def named_archive(data: bytes) -> str | None:
    """The same for a zip archive; None where it is one that `torch.save` writes."""
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    ends = {name.rsplit("/", 1)[-1] for name in names}
    if ends & {"archive_format", "serialized_exported_program.json"}:
        return f"is a program of torch.export (.pt2), not plain tensors: {AGAIN}"
    if "constants.pkl" in ends and "data.pkl" in ends:
        return "is a TorchScript program, not plain tensors, so it is refused; save its state_dict() as .safetensors"
    if "data.pkl" in ends:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"is a NumPy archive (.npz): {AGAIN}"
    if "model.weights.h5" in ends:
        return f"is a Keras model: {AGAIN}"
    inside = next((name for name in names if name.endswith(WEIGHTS)), None)
    if inside:
        return f"is a zip archive with {inside!r} in it: {UNPACK}"
    listed = ", ".join(map(repr, names[:3])) or "nothing"
    return f"is a zip archive without PyTorch weights, with {listed} in it: give a .safetensors or .pth file"


def named_folder(folder: Path) -> str | None:
    """The same for a folder that a training program writes as a checkpoint; None for any other."""
    if any(folder.glob("*.distcp")):
        return "is a distributed checkpoint: join it by torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
    if (folder / "saved_model.pb").is_file():
        return f"is a TensorFlow SavedModel: {AGAIN}"
    inside = sorted(file.name for file in folder.iterdir() if file.suffix in WEIGHTS and file.is_file())
    return f"is a folder with {inside[0]!r} in it: give that file" if inside else None


def pickled(data: bytes) -> tuple[list[str], bool]:
    """("module.name" of what a bare pickle asks for, whether the pickle is whole), without loading any of it."""
    found: list[str] = []
    try:
        for name in _globals(data):
            found.append(name)
    except Exception:  # damaged bytes make the reader raise almost anything
        return found, False
    return found, True


def _globals(data: bytes) -> Iterator[str]:
    texts: list[str] = []  # as far back as STACK_GLOBAL can point: its two names are pushed or remembered ones
    memo: dict[int, str] = {}
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("GLOBAL", "INST"):
            yield ".".join(str(argument).split(" ", 1))
        elif code.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif code.name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else ""
        elif code.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = texts[-1] if texts else ""
        elif code.name in ("BINGET", "LONG_BINGET"):
            texts = [*texts[-1:], memo.get(argument, "")]
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]


def _is_onnx(data: bytes) -> bool:
    """Field 1 of a ModelProto is ir_version, a small number; the next field is one of the few that it has."""
    return len(data) > 3 and data[0] == 8 and 1 <= data[1] <= 30 and data[2] in b"\x12\x1a\x22\x28\x32\x3a\x42\x72"


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError:
        return False
    return bool(text.strip()) and all(letter.isprintable() or letter.isspace() for letter in text)
