"""List the images of a packed dataset as hashes, by which two people can compare their data.

Each pack writes `results/<study>/data/<dataset>/x<scale>/manifest.json`. It has for each image

- `hr` and `lr`: size in pixels and a hash of the decoded pixels, HR as it is used (cropped to LR size x scale);
- `lr.origin`: "file", or "bicubic" where LR was made from HR;
- `files`: hashes of the files that the pixels were decoded from.

The hash of pixels is the sha256 of the image as a binary PPM file, which other programs can compute, too:
`magick baby.png -depth 8 ppm:- | sha256sum`. These hashes decide whether data is the same, whatever the files: a
picture that was compressed again has another file's hash, and LR that was made may equal LR that was downloaded. The
hashes of files only help to find out where data comes from.

The *digest* of a manifest is one hash for all images: the sha256 of the lines `<hr> <lr> "<name>"`, sorted by name.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from safmn.errors import UserError, one_line
from safmn.files import write_json
from safmn.layout import MANIFEST


class Model(BaseModel):
    """A JSON file or a part of it: no unknown key, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


AnyModel = TypeVar("AnyModel", bound=Model)


class HashedImage(Model):
    """Size in pixels and hash of an image."""

    width: int
    height: int
    sha256: str


class HashedLR(HashedImage):
    """The same of an LR image, and where it comes from."""

    origin: Literal["file", "bicubic"]


class HashedPair(Model):
    """One image of a manifest; see the module's docstring."""

    name: str
    hr: HashedImage
    lr: HashedLR
    files: dict[str, str]

    def image(self, kind: str) -> HashedImage:
        """Return HR or LR by its name, "hr" or "lr"."""
        return self.hr if kind == "hr" else self.lr

    def has_pixels_of(self, other: "HashedPair", kind: str) -> bool:
        """Return whether HR or LR has the same pixels as another one's."""
        return self.image(kind).sha256 == other.image(kind).sha256

    def has_file_of(self, other: "HashedPair", kind: str) -> bool:
        """Return whether HR or LR comes from an equal file."""
        return kind in self.files and self.files[kind] == other.files.get(kind)


class Manifest(Model):
    """A manifest file."""

    format: Literal[1] = 1
    dataset: str
    scale: int
    digest: str
    images: list[HashedPair]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        if self.digest != _digest(self.images):
            raise ValueError("its digest is not that of its images")
        return self


def hash_pixels(image: NDArray[np.uint8]) -> str:
    """Compute the sha256 of an image, uint8 H x W x 3 RGB, as a binary PPM file; lower-case hex."""
    value = hashlib.sha256(b"P6\n%d %d\n255\n" % (image.shape[1], image.shape[0]))
    value.update(np.ascontiguousarray(image).data)
    return value.hexdigest()


def digest_of(images: Iterable[tuple[str, str, str]]) -> str:
    """Compute the digest of images given as (name, HR hash, LR hash), in any order."""
    lines = (f"{hr} {lr} {json.dumps(name, ensure_ascii=False)}\n" for name, hr, lr in sorted(images))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest(path: Path | str) -> str:
    """Return the digest of a manifest, or of the packed dataset that has it; raise UserError as `read` does."""
    return read(path).digest


def digests(path: Path | str) -> dict[str, str]:
    """Return `{"Set5/x4": digest, ...}` of what `find` finds; raise UserError where a manifest is damaged."""
    return {name: content.digest for name, (_, content) in find(path).items()}


def find(path: Path | str) -> dict[str, tuple[Path, Manifest]]:
    """Read the manifests of a study's results, of its folder `data`, of one packed dataset, or one manifest.

    Returns:
        `{"Set5/x4": (file, manifest), ...}`, sorted by path; empty where nothing is packed.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif (path / MANIFEST).is_file():
        files = [path / MANIFEST]
    else:
        below = path / "data" if (path / "data").is_dir() else path
        files = sorted(below.glob(f"*/x[234]/{MANIFEST}"))
    manifests = [(file, read(file)) for file in files]
    return {f"{content.dataset}/x{content.scale}": (file, content) for file, content in manifests}


def write(path: Path | str, dataset: str, scale: int, images: Iterable[HashedPair]) -> None:
    """Write the manifest of a packed dataset."""
    ordered = sorted(images, key=lambda pair: pair.name)
    content = Manifest(dataset=dataset, scale=scale, digest=_digest(ordered), images=ordered)
    write_json(path, content.model_dump())


def read(path: Path | str) -> Manifest:
    """Read a manifest, or the one of a packed dataset; raise UserError where it is missing or damaged."""
    path = Path(path)
    return load(Manifest, path / MANIFEST if path.is_dir() else path, "pack the dataset again")


def load(model: type[AnyModel], file: Path, advice: str) -> AnyModel:
    """Read a JSON file; raise UserError, with advice, where it is missing or damaged."""
    try:
        return model.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): {advice}") from error
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
        raise UserError(one_line(f"{file} is damaged ({reason}): {advice}")) from error


def differences(ours: Manifest, theirs: Manifest) -> list[str]:
    """Return what differs between the data of two manifests, a sentence each; empty for the same data."""
    first, second = ({pair.name: pair for pair in manifest.images} for manifest in (ours, theirs))
    sentences = [
        _listed(first.keys() - second.keys(), "only in the first"),
        _listed(second.keys() - first.keys(), "only in the second"),
    ]
    both = [(name, first[name], second[name]) for name in first.keys() & second.keys()]
    for kind in ("hr", "lr"):
        sizes: set[str] = set()
        pixels: set[str] = set()
        decoded: set[str] = set()
        for name, a, b in both:
            if (a.image(kind).width, a.image(kind).height) != (b.image(kind).width, b.image(kind).height):
                sizes.add(name)
            elif not a.has_pixels_of(b, kind):
                (decoded if a.has_file_of(b, kind) else pixels).add(name)
        sentences.append(_listed(sizes, f"of another {kind.upper()} size"))
        sentences.append(_listed(pixels, f"with other {kind.upper()} pixels"))
        sentences.append(_listed(decoded, f"with other {kind.upper()} pixels decoded from the same file"))
    return [text for text in sentences if text]


def remarks(ours: Manifest, theirs: Manifest) -> list[str]:
    """Return what differs between two manifests without making the data another: files and the origin of LR."""
    second = {pair.name: pair for pair in theirs.images}
    both = [(pair, second[pair.name]) for pair in ours.images if pair.name in second]
    files = {
        a.name
        for a, b in both
        for kind in a.files.keys() & b.files.keys()
        if a.has_pixels_of(b, kind) and not a.has_file_of(b, kind)
    }
    origins = {a.name for a, b in both if a.lr.origin != b.lr.origin}
    sentences = [
        _listed(files, "with the same pixels in another file"),
        _listed(origins, "with LR of another origin"),
    ]
    return [text for text in sentences if text]


def _digest(images: Iterable[HashedPair]) -> str:
    return digest_of((pair.name, pair.hr.sha256, pair.lr.sha256) for pair in images)


def _listed(names: Iterable[str], what: str) -> str:
    """Return "2 images <what> (a, b)", with three names at most; "" for none."""
    ordered = sorted(names)
    if not ordered:
        return ""
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return f"{len(ordered)} image{'s' * (len(ordered) > 1)} {what} ({', '.join(ordered[:3])}{more})"
