"""Read and write pictures to look at: upright, with their colour profile and transparency.

`images` takes pixels as they are stored, as benchmarks do; here the EXIF orientation, the profile and alpha count.
"""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safmn.data import images
from safmn.data.images import Pixels
from safmn.errors import UserError
from safmn.files import atomic

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
QUALITY = 95
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Photo:
    """A picture.

    Attributes:
        pixels: uint8 H x W x 3 RGB, upright.
        alpha: uint8 H x W, 0 transparent to 255; None where every pixel is opaque.
        profile: ICC profile of the colours; None where there is none.
        notes: what was changed or left out on reading, a phrase each.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    profile: bytes | None = None
    notes: tuple[str, ...] = ()


def read(path: Path | str) -> Photo:
    """Read a PNG, JPEG, BMP or WebP of 8 bits a channel; raises UserError as `images.decode` does."""
    stored, header = images.raw(path)
    try:
        with _any_size(), Image.open(path) as picture:
            mode, info = picture.mode, dict(picture.info)
            orientation = picture.getexif().get(_ORIENTATION, 1)
            if header.cmyk:
                stored = np.asarray(picture.convert("RGB"))[..., ::-1]
    except (OSError, SyntaxError, ValueError, zlib.error) as error:  # a block that OpenCV passes over
        raise UserError(f"{path} has damaged metadata ({error}): save it anew") from error
    notes = []
    if mode == "P":
        notes.append("its palette is expanded to RGB")
    if header.cmyk:
        notes.append("CMYK is converted to RGB without regard to its profile")
    profile = info.get("icc_profile") or None
    if profile and profile[16:20] != b"RGB ":
        if not header.cmyk:
            notes.append(f"its {profile[16:20].decode('ascii', 'replace').strip()} profile is left out")
        profile = None
    if info.get("gamma") and not profile and abs(info["gamma"] - 1 / 2.2) > 0.01:
        notes.append(f"its gamma of {info['gamma']:g} is left out")
    alpha = stored[..., 3] if stored.ndim == 3 and stored.shape[2] == 4 else None
    if alpha is not None:
        alpha = None if alpha.min() == 255 else _upright(alpha, orientation)
    pixels = _upright(images.to_rgb(path, np.ascontiguousarray(stored)), orientation)
    return Photo(pixels, alpha, profile, tuple(notes))


def _upright(stored: Pixels, orientation: Any) -> Pixels:
    """Return stored pixels as EXIF's orientation (1 to 8) means them; any other orientation changes nothing.

    Orientations 5 to 8 are those from 1 to 4 of the transposed picture: as it is, mirrored, turned by 180 degrees, and
    upside down.
    """
    if orientation not in range(1, 9):  # any type, in damaged metadata
        return stored
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(int(orientation) - 1) % 4]
    turned = stored.swapaxes(0, 1) if orientation > 4 else stored
    return np.ascontiguousarray(turned[::rows, ::columns])


@contextmanager
def _any_size() -> Iterator[None]:
    """Switch Pillow's own limit off: `images.raw` has applied that of SAFMN_MAX_PIXELS."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def cannot_hold(path: Path, photo: Photo) -> str:
    """Say what the format of a suffix loses of a picture; raise UserError where that is its transparency."""
    kind = SUFFIXES[path.suffix.lower()]
    if photo.alpha is not None and kind not in ("PNG", "WEBP"):
        raise UserError(f"{path}: {path.suffix} holds no transparency, which the picture has: choose .png or .webp")
    return "its colour profile is left out, since BMP holds none" if photo.profile and kind == "BMP" else ""


def write(path: Path, photo: Photo) -> None:
    """Write a picture in the format of the suffix, complete or not at all; raise UserError where it does not fit."""
    pixels = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    kind = SUFFIXES[path.suffix.lower()]
    options: dict[str, Any] = {"quality": QUALITY} if kind in ("JPEG", "WEBP") else {}
    if photo.profile and kind != "BMP":
        options["icc_profile"] = photo.profile
    encoded = io.BytesIO()
    try:
        Image.fromarray(pixels).save(encoded, kind, **options)
    except (OSError, ValueError) as error:  # JPEG and WebP have a largest side
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UserError(f"{path}: {size} pixels do not fit the format {path.suffix}, choose .png") from error
    with atomic(path) as temporary:
        temporary.write_bytes(encoded.getvalue())
