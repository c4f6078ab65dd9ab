"""What images a packed dataset holds, as hashes: with it two people can prove that they hold the same data.

`manifest.json` is written with each pack: `results/<study>/data/<dataset>/x<scale>/manifest.json`. An image has there

- `hr` and `lr`: size in pixels and a hash of the decoded pixels, HR as it is used (cropped to LR size x scale);
- `lr.origin`: "file", or "bicubic" where LR was made from HR;
- `files`: hashes of the files that the pixels were decoded from.

The hash of pixels is the sha256 of the image as a binary PPM file, so that other programs give it, too:
`magick baby.png -depth 8 ppm:- | sha256sum`. The pixels are what a result depends on, whatever the file: the same
picture compressed anew has another file's hash, LR that was downloaded and LR that was made may be the same. So the
hashes of pixels decide whether data is the same, and the hashes of files help to find out where it comes from.

The *digest* of a manifest is one hash for all of it: the sha256 of the lines `<hr> <lr> "<name>"`, sorted by name. It
does not depend on the files, on their order, on where they are, or on the machine.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safmn.errors import UserError
from safmn.files import read_json, write_json
from safmn.layout import MANIFEST

_FORMAT = 1


def hash_pixels(image: np.ndarray) -> str:
    """sha256 of an image, uint8 H x W x 3 RGB, as a binary PPM file; lower-case hex."""
    found = hashlib.sha256(b"P6\n%d %d\n255\n" % (image.shape[1], image.shape[0]))
    found.update(np.ascontiguousarray(image))
    return found.hexdigest()


def digest_of(images: Iterable[tuple[str, str, str]]) -> str:
    """The digest of images given as (name, HR hash, LR hash), in any order."""
    lines = (f"{hr} {lr} {json.dumps(name, ensure_ascii=False)}\n" for name, hr, lr in sorted(images))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest(path: Path | str) -> str:
    """The data manifest hash of a packed dataset: a manifest, or the folder that holds it.

    Computed from the hashes of the images, not believed.

    Raises:
        UserError: no manifest there, or one that is damaged.
    """
    return read(path)["digest"]


def digests(path: Path | str) -> dict[str, str]:
    """`{"Set5/x4": digest, ...}` of what `files` finds; `{}` where nothing is packed.

    Raises:
        UserError: a manifest that is damaged.
    """
    return {name: digest(file) for name, file in files(path).items()}


def files(path: Path | str) -> dict[str, Path]:
    """`{"Set5/x4": manifest, ...}`, sorted, of a study's results, its folder `data`, one packed dataset or manifest."""
    path = Path(path)
    if path.is_file():
        found = [path]
    elif (path / MANIFEST).is_file():
        found = [path / MANIFEST]
    else:
        below = path / "data" if (path / "data").is_dir() else path
        found = sorted(below.glob(f"*/x[234]/{MANIFEST}"))
    return {_name(file): file for file in found}


def write(path: Path | str, dataset: str, scale: int, images: Sequence[dict[str, Any]]) -> None:
    """Writes the manifest of a packed dataset.

    Args:
        path: the file.
        dataset: its name, for the reader.
        scale: HR size / LR size.
        images: the entries of the packed dataset's index; see `packed`.
    """
    listed = [
        {
            "name": each["name"],
            "hr": _size(each["hr"]),
            "lr": _size(each["lr"]) | {"origin": each["origin"]},
            "files": {kind: source["sha256"] for kind, source in each["sources"].items()},
        }
        for each in sorted(images, key=lambda each: each["name"])
    ]
    write_json(
        path, {"format": _FORMAT, "dataset": dataset, "scale": scale, "digest": _digest(listed), "images": listed}
    )


def read(path: Path | str) -> dict[str, Any]:
    """A manifest, checked; see `digest`.

    Returns:
        `dataset`, `scale`, `digest` and `images`, as described above.
    """
    path = Path(path)
    file = path / MANIFEST if path.is_dir() else path
    content = read_json(file)
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} instead of {_FORMAT}")
        if type(content["scale"]) is not int or not isinstance(content["dataset"], str):
            raise ValueError("no scale or dataset")
        for each in content["images"]:
            texts = [each["name"], each["lr"]["origin"], *each["files"].values()]
            texts += [each[kind]["sha256"] for kind in ("hr", "lr")]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{each['name']!r} is not described")
            if not all(type(each[kind][side]) is int for kind in ("hr", "lr") for side in ("width", "height")):
                raise ValueError(f"{each['name']} has no size")
        if content["digest"] != _digest(content["images"]):
            raise ValueError("its digest is not that of its images")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is no manifest, or damaged ({error}): pack the dataset again") from error
    return content


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """In what the data of two manifests (from `read`) differs, a sentence each; empty if they are the same data."""
    first, second = ({each["name"]: each for each in manifest["images"]} for manifest in (ours, theirs))
    found = [
        _these(first.keys() - second.keys(), "only in the first"),
        _these(second.keys() - first.keys(), "only in the second"),
    ]
    both = sorted(first.keys() & second.keys())
    for kind in ("hr", "lr"):
        sizes = {name for name in both if _sides(first[name][kind]) != _sides(second[name][kind])}
        pixels = {name for name in both if first[name][kind]["sha256"] != second[name][kind]["sha256"]}
        found.append(_these(sizes, f"of another {kind.upper()} size"))
        decoded = {name for name in pixels - sizes if _one_file(first[name], second[name], kind)}
        found.append(_these(pixels - sizes - decoded, f"with other {kind.upper()} pixels"))
        found.append(_these(decoded, f"with other {kind.upper()} pixels decoded from the same file"))
    return [text for text in found if text]


def remarks(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What differs between two manifests without making the data another: files and the origin of LR."""
    first, second = ({each["name"]: each for each in manifest["images"]} for manifest in (ours, theirs))
    both = sorted(first.keys() & second.keys())
    files = {
        name
        for name in both
        for kind in first[name]["files"].keys() & second[name]["files"].keys()
        if first[name][kind]["sha256"] == second[name][kind]["sha256"]
        and not _one_file(first[name], second[name], kind)
    }
    origins = {name for name in both if first[name]["lr"]["origin"] != second[name]["lr"]["origin"]}
    found = [_these(files, "with the same pixels in another file"), _these(origins, "with LR of another origin")]
    return [text for text in found if text]


def _name(file: Path) -> str:
    content = read(file)
    return f"{content['dataset']}/x{content['scale']}"


def _digest(images: Sequence[dict[str, Any]]) -> str:
    return digest_of((each["name"], each["hr"]["sha256"], each["lr"]["sha256"]) for each in images)


def _size(block: dict[str, Any]) -> dict[str, Any]:
    height, width, _ = block["shape"]
    return {"width": width, "height": height, "sha256": block["sha256"]}


def _one_file(first: dict[str, Any], second: dict[str, Any], kind: str) -> bool:
    file = first["files"].get(kind)
    return file is not None and file == second["files"].get(kind)


def _sides(image: dict[str, Any]) -> tuple[int, int]:
    return image["width"], image["height"]


def _these(names: Iterable[str], what: str) -> str:
    listed = sorted(names)
    if not listed:
        return ""
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"{len(listed)} image{'s' * (len(listed) > 1)} {what} ({', '.join(listed[:3])}{more})"
