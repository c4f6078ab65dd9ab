"""Pictures to be looked at: every EXIF orientation against Pillow's own turning, profiles, alpha, and what is said."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from safmn import cli
from safmn.data import bicubic, photo
from safmn.errors import UserError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def gradient(height: int = 20, width: int = 28) -> np.ndarray:
    """Every corner has another colour."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows * 9, columns * 7, 255 - rows * 4 - columns * 3]).astype(np.uint8)


def upscale(*arguments: object) -> int:
    return cli.main(["upscale", *map(str, arguments), "--network", "bicubic", "--scale", "2"])


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientation_as_a_viewer_has_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    """0 and 9 are none of the eight."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"photo{suffix}"
    Image.fromarray(gradient()).save(file, exif=exif, **({} if suffix == ".png" else {"quality": 100}))
    with Image.open(file) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    found = photo.read(file).pixels
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 2  # decoders of JPEG differ a little
    assert upscale(file, tmp_path / "large.png") == 0
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (2 * expected.shape[1], 2 * expected.shape[0])
        assert 0x0112 not in large.getexif()  # it is upright already
        seen = np.asarray(large.convert("RGB").resize(large.size, Image.Resampling.BOX))
    assert np.abs(seen[::2, ::2].astype(int) - expected).mean() < 12


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_the_colour_profile_is_kept_or_its_loss_is_said(tmp_path: Path, capsys, suffix: str) -> None:
    Image.fromarray(gradient()).save(tmp_path / "in.png", icc_profile=SRGB)
    assert upscale(tmp_path / "in.png", tmp_path / f"out{suffix}") == 0
    with Image.open(tmp_path / f"out{suffix}") as picture:
        kept = picture.info.get("icc_profile")
    assert kept == (None if suffix == ".bmp" else SRGB)
    assert ("profile is left out" in capsys.readouterr().err) is (suffix == ".bmp")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".bmp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept_or_refused(tmp_path: Path, capsys, suffix: str, mode: str) -> None:
    alpha = np.full((20, 28), 255, np.uint8)
    alpha[5:15, 5:20] = 60
    if mode == "P":
        picture = Image.fromarray((gradient()[..., 0] // 64).astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0, 0, 0, 250])
        picture.save(tmp_path / "in.png", transparency=b"\xff\x3c\xff\xff")
        alpha = np.where(gradient()[..., 0] // 64 == 1, 60, 255).astype(np.uint8)
    else:
        picture = Image.fromarray(np.dstack([gradient(), alpha]))
        picture.convert(mode).save(tmp_path / "in.png")
    told = upscale(tmp_path / "in.png", tmp_path / f"out{suffix}")
    error = capsys.readouterr().err
    if suffix in (".jpg", ".bmp"):
        assert told == 2
        assert "choose .png or .webp" in error
        assert not (tmp_path / f"out{suffix}").exists()
        return
    assert told == 0
    with Image.open(tmp_path / f"out{suffix}") as large:
        found = np.asarray(large.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(found, bicubic.upscale(alpha, 2))


def test_a_picture_beyond_the_limit_of_pillow(tmp_path: Path, monkeypatch) -> None:
    """Our own limit is SAFMN_MAX_PIXELS; Pillow's raises no UserError, and warns in two lines from a half of it on."""
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert photo.read(tmp_path / "in.png").pixels.shape == gradient().shape
    assert Image.MAX_IMAGE_PIXELS == 100


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([gradient(), np.full((20, 28), 255, np.uint8)])).save(tmp_path / "in.png")
    assert photo.read(tmp_path / "in.png").alpha is None


def test_palette_cmyk_and_grey_profiles_are_said(tmp_path: Path, capsys) -> None:
    Image.fromarray(gradient()).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    buffer = io.BytesIO()
    Image.fromarray(gradient()[..., 0]).save(buffer, "PNG", icc_profile=grey)
    (tmp_path / "grey.png").write_bytes(buffer.getvalue())
    for name, words in (("palette.png", "palette"), ("print.jpg", "CMYK"), ("grey.png", "GRAY profile")):
        assert upscale(tmp_path / name, tmp_path / "out.png") == 0
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    read = photo.read(tmp_path / "print.jpg").pixels
    assert np.abs(read.astype(int) - gradient()).mean() < 4


def test_what_needs_no_word_gets_none(tmp_path: Path, capsys) -> None:
    Image.fromarray(gradient()).save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "out.jpg") == 0
    assert capsys.readouterr().err == ""


def test_a_picture_too_wide_for_its_format(tmp_path: Path) -> None:
    wide = photo.Photo(np.zeros((1, 70_000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(UserError, match="70000x1 pixels do not fit"):
            photo.write(tmp_path / f"wide{suffix}", wide)
    assert list(tmp_path.iterdir()) == []
