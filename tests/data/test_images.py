"""Reading: against Pillow as a second decoder, and every kind of bad file refused by one line that names it."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from safmn.data import images
from safmn.errors import UserError

from .pictures import ODD_NAMES, check_message, picture

FORMATS = ["PNG", "JPEG", "BMP", "WEBP"]


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    if kind == "WEBP":
        options.setdefault("lossless", True)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], -1).astype(np.uint8)


def refused(path: Path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError, match=match) as caught:
        images.read(path)
    check_message(caught.value, str(path))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# --- what is read ---


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_pixels(tmp_path, kind):
    image = picture(31, 47)
    (tmp_path / "a").write_bytes(encoded(image, kind))
    result = images.read(tmp_path / "a")
    np.testing.assert_array_equal(result, image)
    assert result.flags.c_contiguous
    assert images.size(tmp_path / "a") == (31, 47)


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": 60, "progressive": True}, {"subsampling": 0}])
def test_jpeg_is_close_to_another_decoder(tmp_path, options):
    (tmp_path / "a.jpg").write_bytes(encoded(smooth(), "JPEG", **options))
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
    assert np.abs(images.read(tmp_path / "a.jpg") - expected).max() <= 4
    assert images.size(tmp_path / "a.jpg") == (40, 56)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("L", "BMP"), ("L", "JPEG"), ("1", "PNG"), ("1", "BMP")])
def test_grey_is_repeated(tmp_path, mode, kind):
    image = Image.fromarray(smooth()).convert(mode)
    (tmp_path / "a").write_bytes(encoded(image, kind))
    result = images.read(tmp_path / "a")
    assert result.shape == (40, 56, 3)
    assert (result == result[..., :1]).all()
    if kind != "JPEG":
        np.testing.assert_array_equal(result[..., 0], np.asarray(image.convert("L")))


@pytest.mark.parametrize(("kind", "colours"), [("PNG", 256), ("PNG", 16), ("PNG", 2), ("BMP", 256), ("BMP", 16)])
def test_a_palette_is_expanded(tmp_path, kind, colours):
    image = Image.fromarray(smooth()).quantize(colours)
    (tmp_path / "a").write_bytes(encoded(image, kind))
    np.testing.assert_array_equal(images.read(tmp_path / "a"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path, kind):
    image = np.dstack([smooth(), np.full((40, 56), 255, np.uint8)])
    (tmp_path / "a").write_bytes(encoded(image, kind))
    np.testing.assert_array_equal(images.read(tmp_path / "a"), smooth())
    image[7, 9, 3] = 254
    refused(tmp_path / "a", encoded(image, kind, **({"exact": True} if kind == "WEBP" else {})), "transparent")


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_transparent_grey_and_palette_are_refused(tmp_path, mode):
    if mode == "LA":
        data = encoded(Image.merge("LA", [Image.fromarray(smooth()[..., 0])] * 2), "PNG")
    else:
        data = encoded(Image.fromarray(smooth()).quantize(16), "PNG", transparency=3)
    refused(tmp_path / "a.png", data, "transparent")


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(smooth(), "JPEG", exif=exif))
    assert images.read(tmp_path / "a.jpg").shape == (40, 56, 3)


def test_a_thumbnail_is_not_taken_for_the_picture(tmp_path):
    thumbnail = encoded(smooth(8, 8), "JPEG")
    data = encoded(smooth(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    assert images.size(tmp_path / "a.jpg") == (40, 56)
    assert images.read(tmp_path / "a.jpg").shape == (40, 56, 3)
    refused(tmp_path / "a.jpg", (data[:2] + segment + data[2:])[:-40], "truncated")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_pictures(tmp_path, kind, shape):
    (tmp_path / "a").write_bytes(encoded(picture(*shape), kind))
    assert images.read(tmp_path / "a").shape == (*shape, 3)


def test_a_very_wide_picture(tmp_path):
    image = picture(2, 100_000)
    images.write(tmp_path / "wide.png", image)
    np.testing.assert_array_equal(images.read(tmp_path / "wide.png"), image)


# --- what is refused ---


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_anywhere(tmp_path, kind):
    data = encoded(picture(12, 14), kind)
    for length in range(1, len(data), 7):
        refused(tmp_path / "cut", data[:length], "truncated|damaged|not a PNG")
    refused(tmp_path / "cut", data[:-1], "truncated|damaged")


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_in_the_middle_of_a_png_is_noticed_and_never_a_crash(tmp_path, kind):
    data = bytearray(encoded(picture(12, 14), kind))
    for position in range(20, len(data) - 12, 5):
        broken = bytearray(data)
        broken[position] ^= 0x55
        (tmp_path / "a").write_bytes(broken)
        try:
            images.read(tmp_path / "a")
        except UserError:
            continue
        assert kind != "PNG"  # its checksums find every flipped bit


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"hello, world", "not a PNG"),
        (b"<html>404</html>" * 99, "not a PNG"),
        (b"II*\0" + bytes(99), "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"BM", "damaged"),
        (b"RIFF\0\0\0\0WEBP", "damaged"),
        (b"RIFF\0\0\0\0WEBPjunk", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\xff\xd8" + b"\xff" * 500, "damaged"),
        (png_of(0, 5), "0x5"),
        (png_of(4, 4, bits=16, data=bytes(100)), "16 bits"),
        (png_of(4, 4, bits=16, colour=0, data=bytes(36)), "16 bits"),
    ],
)
def test_bad_content(tmp_path, data, match):
    refused(tmp_path / "bad file.png", data, match)


def test_animations(tmp_path):
    frames = [Image.fromarray(picture(8, 8, seed)) for seed in range(3)]
    for kind in ("PNG", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        refused(tmp_path / "moving", data, "animation")


def bombs() -> list[bytes]:
    jpeg = bytearray(encoded(smooth(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    bmp = bytearray(encoded(smooth(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, -60000)
    webp = b"RIFF" + struct.pack("<I", 40) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2
    vp8l = (
        b"RIFF" + struct.pack("<I", 40) + b"WEBPVP8L" + struct.pack("<IB", 20, 0x2F) + b"\xff" * 3 + b"\x0f" + bytes(9)
    )
    return [png_of(100_000, 100_000, data=bytes(10_000)), bytes(jpeg), bytes(bmp), webp + bytes(18), vp8l]


@pytest.mark.parametrize("data", bombs(), ids=["PNG", "JPEG", "BMP", "WebP", "WebP lossless"])
def test_decompression_bombs_are_refused_by_their_header(tmp_path, data):
    refused(tmp_path / "bomb", data, "SAFMN_MAX_PIXELS")
    with pytest.raises(UserError, match="SAFMN_MAX_PIXELS"):
        images.size(tmp_path / "bomb")


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    images.write(tmp_path / "a.png", picture(20, 30))
    monkeypatch.setenv("SAFMN_MAX_PIXELS", "600")
    assert images.read(tmp_path / "a.png").shape == (20, 30, 3)
    monkeypatch.setenv("SAFMN_MAX_PIXELS", "599")
    with pytest.raises(UserError, match="30x20 pixels, more than the 599 allowed"):
        images.read(tmp_path / "a.png")
    monkeypatch.setenv("SAFMN_MAX_PIXELS", "lots")
    with pytest.raises(UserError, match="lots"):
        images.read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["missing.png", "", "x" * 300, "a\0b"])
def test_paths_that_are_no_file(tmp_path, name):
    with pytest.raises(UserError) as caught:
        images.read(tmp_path / name)
    check_message(caught.value, str(tmp_path))


def test_the_decoder_prints_nothing(tmp_path):
    """One line is promised; OpenCV and its libraries would add their own to stderr."""
    for kind in FORMATS:
        data = encoded(picture(12, 14), kind)
        (tmp_path / f"cut.{kind}").write_bytes(data[: len(data) // 2])
    code = """if True:
        import sys, pathlib
        from safmn.data import images
        from safmn.errors import UserError
        for path in pathlib.Path(sys.argv[1]).iterdir():
            try:
                images.read(path)
            except UserError:
                print("refused")
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 4
    assert done.stderr == ""


VALID = [encoded(picture(6, 7), kind) for kind in FORMATS] + [
    encoded(Image.fromarray(smooth(9, 9)).quantize(4), "PNG"),
    encoded(Image.fromarray(smooth(9, 9)), "WEBP", lossless=False),
    encoded(smooth(20, 20), "JPEG", progressive=True),
]
MAGIC = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF\x20\0\0\0WEBPVP8X", b"RIFF\x20\0\0\0WEBPVP8 ", b""]


@st.composite
def malformed(draw) -> bytes:
    if draw(st.booleans()):
        return draw(st.sampled_from(MAGIC)) + draw(st.binary(max_size=80))
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        at = draw(st.integers(0, max(0, len(data) - 1)))
        if kind == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data)


def fuzz(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        result = images.read(path)
    except UserError as error:
        check_message(error, str(path))
    else:
        assert result.dtype == np.uint8
        assert result.shape == (*images.size(path), 3)


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setenv("SAFMN_MAX_PIXELS", "1000000")


unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(unhurried, max_examples=500)
@given(malformed())
@example(VALID[0])
def test_malformed_input_is_a_picture_or_a_refusal(tmp_path, small_limit, data):
    fuzz(tmp_path / "fuzz", data)


@pytest.mark.slow
@settings(unhurried, max_examples=12_000)
@given(malformed())
def test_much_malformed_input(tmp_path, small_limit, data):
    fuzz(tmp_path / "fuzz", data)


# --- writing ---


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_read_and_written(tmp_path, name):
    image = picture(5, 6)
    images.write(tmp_path / name / f"{name}.png", image)
    np.testing.assert_array_equal(images.read(tmp_path / name / f"{name}.png"), image)
    assert [entry.name for entry in (tmp_path / name).iterdir()] == [f"{name}.png"]


def test_grey_and_non_contiguous_arrays_are_written(tmp_path):
    image = picture(8, 9)
    images.write(tmp_path / "a.png", image[::-1, ::2])
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), image[::-1, ::2])
    images.write(tmp_path / "b.png", image[..., 0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), image[..., 0])


def test_what_is_no_picture_is_not_written(tmp_path):
    for image in (np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            images.write(tmp_path / "a.png", image)
    with pytest.raises(UserError, match="PNG"):
        images.write(tmp_path / "a.jpg", picture(2, 2))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        images.write(tmp_path / "file" / "a.png", picture(2, 2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_cmyk_picture_is_refused(tmp_path: Path) -> None:
    """Its RGB depends on who converts it, so that no PSNR of it means anything."""
    Image.new("CMYK", (16, 12), (10, 20, 30, 40)).save(tmp_path / "print.jpg")
    with pytest.raises(UserError, match="is a CMYK picture"):
        images.read(tmp_path / "print.jpg")
    Image.new("RGB", (16, 12)).save(tmp_path / "screen.jpg")
    assert images.read(tmp_path / "screen.jpg").shape == (12, 16, 3)
