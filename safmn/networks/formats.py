"""Names the format of a file that holds no PyTorch weights, and says what to do with it."""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

AGAIN = "load it where it was made and save its state_dict() with torch.save, or its arrays as .safetensors"
UNPACK = "unpack it and give the weight file inside"

# (offset, bytes, format, advice)
SIGNATURES = (
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
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")
ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"
"""First bytes of the fields that may follow `ir_version` in an ONNX ModelProto."""


def named(data: bytes) -> str:
    """Return the format of `data` and advice, as the end of a sentence that begins with the file's name."""
    for offset, signature, what, advice in SIGNATURES:
        if data.startswith(signature, offset):
            return f"is {what}: {advice}"
    # An ONNX file begins with field 1, ir_version, a small number.
    if len(data) > 3 and data[0] == 8 and 1 <= data[1] <= 30 and data[2] in ONNX_FIELDS:
        return f"is an ONNX model: {AGAIN}"
    if data[:1] == b"\n" and b"Placeholder" in data[:1000]:
        return f"is a TensorFlow graph (.pb): {AGAIN}"
    if data[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not weights: download the raw file"
    text = data[:200].decode(errors="replace")
    if text.strip() and all(letter != "\ufffd" and (letter.isprintable() or letter.isspace()) for letter in text):
        return "is a text file, not weights: give the weight file itself"
    return "is neither .safetensors nor a PyTorch weight file: give one of these"


def named_archive(archive: zipfile.ZipFile) -> str | None:
    """Return the same for a zip archive, None for one that `torch.save` writes."""
    names = archive.namelist()
    ends = {name.rsplit("/", 1)[-1] for name in names}
    if ends & {"archive_format", "serialized_exported_program.json"}:
        return f"is a program of torch.export (.pt2), not plain tensors: {AGAIN}"
    if "data.pkl" in ends:
        if "constants.pkl" not in ends:
            return None
        return "is a TorchScript program, not plain tensors, so it is refused; save its state_dict() as .safetensors"
    if names and all(name.endswith(".npy") for name in names):
        return f"is a NumPy archive (.npz): {AGAIN}"
    if "model.weights.h5" in ends:
        return f"is a Keras model: {AGAIN}"
    inside = next((name for name in names if name.endswith(SUFFIXES)), None)
    if inside:
        return f"is a zip archive with {inside!r} in it: {UNPACK}"
    listed = ", ".join(map(repr, names[:3])) or "nothing"
    return f"is a zip archive without PyTorch weights, with {listed} in it: give a .safetensors or .pth file"


def named_folder(folder: Path) -> str | None:
    """Return the same for a folder that a training program writes as a checkpoint, None for any other."""
    if any(folder.glob("*.distcp")):
        return "is a distributed checkpoint: join it by torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
    if (folder / "saved_model.pb").is_file():
        return f"is a TensorFlow SavedModel: {AGAIN}"
    inside = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    return f"is a folder with {inside[0]!r} in it: give that file" if inside else None


def pickled_names(data: bytes, pickles: int = 1) -> tuple[list[str], bool]:
    """List the classes and functions that pickles ask for, without loading anything.

    Args:
        data: `pickles` pickles, one after the other, and any bytes behind them.
        pickles: how many pickles are read.

    Returns:
        The names, as "module.name", in the order of the file; and whether all pickles are complete.
    """
    names: list[str] = []
    stream = io.BytesIO(data)
    try:
        for _ in range(pickles):
            texts = ["", ""]  # the last two: STACK_GLOBAL takes them
            memo: dict[Any, str] = {}
            for code, argument, _ in pickletools.genops(stream):
                if code.name in ("GLOBAL", "INST"):
                    names.append(".".join(str(argument).split(" ", 1)))
                elif code.name == "STACK_GLOBAL":
                    names.append(".".join(texts))
                elif code.name == "MEMOIZE":
                    memo[len(memo)] = texts[1]
                elif code.name in ("BINPUT", "LONG_BINPUT"):
                    memo[argument] = texts[1]
                elif code.name in ("BINGET", "LONG_BINGET"):
                    texts = [texts[1], memo.get(argument, "")]
                elif isinstance(argument, str):
                    texts = [texts[1], argument]
    except Exception:  # damaged bytes make the reader raise almost anything
        return names, False
    return names, True
