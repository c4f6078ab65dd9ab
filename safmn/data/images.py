"""Read one picture file into one uint8 RGB array, and write one.

Read: PNG, JPEG, BMP and WebP of 8 bits a channel. Grey is repeated to three channels, a palette is expanded, an alpha
channel is dropped where every pixel is opaque. Refused with a message that names the file: 16 bits a channel, CMYK,
transparent pixels, animations, truncated or damaged files, other formats, and pictures so large that they must be a
mistake or a decompression bomb (their size is read from the header, before anything is decoded).

Pixels are taken as stored: EXIF orientation, colour profiles and gamma are ignored, as super-resolution benchmarks do.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from safmn.errors import UserError
from safmn.files import atomic

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # how their files begin
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 100_000_000  # width x height; DIV2K's largest image has 4 million; $SAFMN_MAX_PIXELS overrides it

_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # of OpenCV 4, and of 5
_set_log_level(0)  # silent: otherwise it prints several lines for a damaged file

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Header:
    """What a file says about itself: format, sides in pixels, bits a channel, whether it is grey or CMYK."""

    kind: str
    height: int
    width: int
    bits: int = 8
    grey: bool = False
    cmyk: bool = False


def read(path: Path | str) -> Pixels:
    """Read a picture: uint8, H x W x 3, RGB in [0, 255]; see `decode`."""
    return decode(path)[0]


def decode(path: Path | str) -> tuple[Pixels, int]:
    """Read a picture, and how many channels of colour its file has.

    Args:
        path: a PNG, JPEG, BMP or WebP file; told apart by content, not by suffix.

    Returns:
        uint8, H x W x 3, RGB in [0, 255]; and 1 for a grey file, 3 for any other.

    Raises:
        UserError: the file cannot be read or is refused, see the module's docstring.
    """
    pixels, header = raw(path)
    if header.cmyk:  # converters disagree about its RGB
        raise UserError(f"{path} is a CMYK picture: convert it to RGB first")
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        raise UserError(f"{path} has transparent pixels: flatten it onto a background first")
    return to_rgb(path, pixels), 1 if header.grey or pixels.ndim == 2 else 3


def raw(path: Path | str) -> tuple[Pixels, Header]:
    """Return a picture as OpenCV decodes it, uint8 H x W, H x W x 3 (BGR) or x 4 (alpha), and its header."""
    data = _load(path)
    header = _header(path, data)
    if header.bits > 8:
        raise UserError(f"{path} has {header.bits} bits a channel: convert it to 8 bits first")
    # Decoders fill what a truncated file lacks with grey and say nothing, so its end is looked for here.
    complete = {"PNG": _is_complete_png, "JPEG": _is_complete_jpeg, "WebP": _is_complete_webp}.get(header.kind)
    if complete is not None and not complete(data):
        raise UserError(f"{path} is truncated or damaged ({header.kind}): replace it")
    if header.kind == "PNG" and b"acTL" in data[: data.find(b"IDAT")]:
        raise UserError(f"{path} is an animation: save the frame that you mean as PNG")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise UserError(f"{path} is a damaged {header.kind} file: replace it")
    if pixels.dtype != np.uint8:
        raise UserError(f"{path} does not have 8 bits a channel ({pixels.dtype}): convert it to 8 bits first")
    return pixels.astype(np.uint8, copy=False), header


def size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) in pixels from the header alone; raise UserError as `decode` does."""
    head = _load(path, max_bytes=2**20)  # a header behind more metadata than that is damaged
    header = _header(path, head)
    return header.height, header.width


def write(path: Path | str, image: Pixels) -> None:
    """Write a PNG, complete or not at all.

    Args:
        path: a name that ends in .png.
        image: uint8, H x W x 3 RGB or H x W grey.

    Raises:
        UserError: another suffix, a full disk, a folder that cannot be written.
        ValueError: not a uint8 image.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG, so let the name end in .png")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise ValueError(f"expected a uint8 image, H x W x 3 or H x W, not {image.dtype} of shape {image.shape}")
    stored = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", stored)[1]
    with atomic(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def to_rgb(path: Path | str, pixels: Pixels) -> Pixels:
    """Convert what `raw` decoded to uint8 H x W x 3 RGB; alpha is dropped."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if channels not in codes:
        raise UserError(f"{path} has {channels} channels: convert it to RGB first")
    return cv2.cvtColor(pixels, codes[channels]).astype(np.uint8, copy=False)


def _limit() -> int:
    """Return the largest width x height that is decoded."""
    setting = os.environ.get("SAFMN_MAX_PIXELS", str(MAX_PIXELS))
    if not re.fullmatch(r"[0-9]{1,18}", setting):
        raise UserError(f"SAFMN_MAX_PIXELS={setting} is not a number of pixels: unset it or give an integer")
    return int(setting)


def _load(path: Path | str, max_bytes: int = -1) -> bytes:
    path = Path(path)
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist: check the name and the folder")
        if not path.is_file():
            raise UserError(f"{path} is not a file: give the name of a picture")
        length = path.stat().st_size
        if length > 8 * _limit() + 2**20:
            raise UserError(f"{path} has {length:,} bytes, too many for a picture: raise SAFMN_MAX_PIXELS if it is one")
        with open(path, "rb") as file:
            data = file.read(max_bytes)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): check it") from error
    if not data:
        raise UserError(f"{path} is empty: replace it")
    return data


def _header(path: Path | str, data: bytes) -> Header:
    try:
        header = _parse(data)
    except (struct.error, IndexError, ValueError) as error:
        raise UserError(f"{path} is a truncated or damaged picture: replace it") from error
    if header is None:
        raise UserError(f"{path} is not a PNG, JPEG, BMP or WebP picture: convert it to PNG, or remove it")
    if header.kind == "animation":
        raise UserError(f"{path} is an animation: save the frame that you mean as PNG")
    if header.height < 1 or header.width < 1:
        raise UserError(f"{path} is {header.width}x{header.height} pixels: replace it")
    if header.height * header.width > _limit():
        raise UserError(
            f"{path} is {header.width}x{header.height} pixels, more than the {_limit():,} allowed: "
            "set SAFMN_MAX_PIXELS if that is meant"
        )
    return header


def _parse(data: bytes) -> Header | None:
    """Read the header; None for another format; raise an error where it is damaged."""
    if data.startswith(PNG):
        if data[12:16] != b"IHDR":
            raise ValueError("IHDR is not first")
        width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
        return Header("PNG", height, width, bits, grey=colour in (0, 4))  # 4: with alpha
    if data.startswith(JPEG):
        return _parse_jpeg(data)
    if data[:2] == b"BM":
        if struct.unpack("<I", data[14:18])[0] < 40:  # OS/2 1.x
            width, height = struct.unpack("<HH", data[18:22])
        else:
            width, height = struct.unpack("<ii", data[18:26])
        return Header("BMP", abs(height), width)  # a negative height means top-down
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _parse_webp(data)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, position of its content) of each segment up to the first scan (0xDA), which is the last."""
    position = 2
    while True:
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        start, marker, length = struct.unpack(">BBH", data[position : position + 4])
        if start != 0xFF or length < 2 or marker == 0xD9:
            raise ValueError("not a segment")
        yield marker, position + 4
        if marker == 0xDA:
            return
        position += 2 + length


def _parse_jpeg(data: bytes) -> Header:
    for marker, content in _jpeg_segments(data):
        # Start of frame; C4, C8 and CC in its range are other segments.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack(">BHHB", data[content : content + 6])
            return Header("JPEG", height, width, bits, cmyk=channels == 4)
    raise ValueError("no frame header")


def _parse_webp(data: bytes) -> Header:
    chunk = data[12:16]
    if chunk == b"VP8X":
        animated = data[20] & 0x02
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if len(data) < 30:
            raise ValueError("truncated")
        return Header("animation" if animated else "WebP", height, width)
    if chunk == b"VP8L":
        packed = struct.unpack("<I", data[21:25])[0]
        return Header("WebP", 1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF))
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Header("WebP", height & 0x3FFF, width & 0x3FFF)
    raise ValueError("unknown WebP chunk")


def _is_complete_png(data: bytes) -> bool:
    """Return whether all chunks are there with the right checksums."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data) or zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            return False
        if kind == b"IEND":
            return True
        position = end
    return False


def _is_complete_jpeg(data: bytes) -> bool:
    """Return whether the end marker follows the first scan; in a scan 0xFF is never followed by 0xD9."""
    try:
        *_, (_, scan) = _jpeg_segments(data)
    except (struct.error, IndexError, ValueError):
        return False
    return data.find(b"\xff\xd9", scan) >= 0


def _is_complete_webp(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")
