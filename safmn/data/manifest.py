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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, model_validator

from safmn.configuration import Section
from safmn.errors import UserError, one_line
from safmn.files import write_json
from safmn.layout import MANIFEST

Model = TypeVar("Model", bound=Section)


class HashedImage(Section):
    """Size in pixels and hash of an image."""

    width: int
    height: int
    sha256: str


class HashedLR(HashedImage):
    """The same of an LR image, and where it comes from."""

    origin: Literal["file", "bicubic"]


class HashedPair(Section):
    """One image of a manifest; see the module's docstring."""

    name: str
    hr: HashedImage
    lr: HashedLR
    files: dict[str, str]

    def image(self, kind: str) -> HashedImage:
        """Return HR or LR by its name, "hr" or "lr"."""
        return self.hr if kind == "hr" else self.lr


class Manifest(Section):
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


def load(model: type[Model], file: Path, advice: str) -> Model:
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
    first, second = ({pair.name for pair in manifest.images} for manifest in (ours, theirs))
    names = {"only in the first": first - second, "only in the second": second - first}
    for kind in ("hr", "lr"):
        size, pixels = f"of another {kind.upper()} size", f"with other {kind.upper()} pixels"
        decoded = f"{pixels} decoded from the same file"
        names |= {size: set(), pixels: set(), decoded: set()}
        for a, b in _both(ours, theirs):
            one, other = a.image(kind), b.image(kind)
            if (one.width, one.height) != (other.width, other.height):
                names[size].add(a.name)
            elif one.sha256 != other.sha256:
                names[decoded if a.files.get(kind, "") == b.files.get(kind) else pixels].add(a.name)
    return _sentences(names)


def remarks(ours: Manifest, theirs: Manifest) -> list[str]:
    """Return what differs between two manifests without making the data another: files and the origin of LR."""
    files, origins = set(), set()
    for a, b in _both(ours, theirs):
        for kind in a.files.keys() & b.files.keys():
            if a.image(kind).sha256 == b.image(kind).sha256 and a.files[kind] != b.files[kind]:
                files.add(a.name)
        if a.lr.origin != b.lr.origin:
            origins.add(a.name)
    return _sentences({"with the same pixels in another file": files, "with LR of another origin": origins})


def _both(ours: Manifest, theirs: Manifest) -> list[tuple[HashedPair, HashedPair]]:
    """Return the pairs of the images that are in both manifests."""
    second = {pair.name: pair for pair in theirs.images}
    return [(pair, second[pair.name]) for pair in ours.images if pair.name in second]


def _digest(images: Iterable[HashedPair]) -> str:
    return digest_of((pair.name, pair.hr.sha256, pair.lr.sha256) for pair in images)


def _sentences(names: Mapping[str, set[str]]) -> list[str]:
    """Return "2 images <what> (a, b)", with three names at most, for each key; none where there is no image."""
    sentences = []
    for what, found in names.items():
        ordered = sorted(found)
        more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
        listed = f"({', '.join(ordered[:3])}{more})"
        sentences += [f"{len(ordered)} image{'s' * (len(ordered) > 1)} {what} {listed}"] if ordered else []
    return sentences
