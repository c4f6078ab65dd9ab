"""The manifest of a packed dataset: hashes that anybody can make, the same wherever the same pictures are."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from safmn.cli import main
from safmn.data import bicubic, images, manifest, packed
from safmn.errors import UserError

from .pictures import check_message, edsr_folder, picture

SIZES = {"b": (17, 22), "a": (16, 12), "c": (9, 31)}


@pytest.fixture
def root(tmp_path):
    edsr_folder(tmp_path / "root/own", SIZES, scale=4)
    return tmp_path / "root"


def of_ppm(image: np.ndarray) -> str:
    """As another library writes the file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "ppm")
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def make(root, name: str, out, scale: int = 4) -> manifest.Manifest:
    packed.pack(name, root, scale, out)
    return manifest.read(out)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (12, 100)])
def test_the_hash_of_pixels_is_that_of_a_ppm_file(height, width):
    image = picture(height, width)
    assert manifest.hash_pixels(image) == of_ppm(image)
    assert manifest.hash_pixels(image[:, ::-1]) == of_ppm(image[:, ::-1])


def test_a_manifest_describes_what_was_packed(root, tmp_path):
    content = make(root, "own", tmp_path / "store")
    assert (content.dataset, content.scale) == ("own", 4)
    lines = ""
    written = json.loads((tmp_path / "store/manifest.json").read_text())
    for entry, name in zip(written["images"], ["a", "b", "c"], strict=True):
        small = images.read(root / f"own/LR_bicubic/X4/{name}x4.png")
        large = images.read(root / f"own/HR/{name}.png")[: small.shape[0] * 4, : small.shape[1] * 4]
        for kind, image, file in (("hr", large, f"HR/{name}"), ("lr", small, f"LR_bicubic/X4/{name}x4")):
            assert entry[kind]["sha256"] == of_ppm(image)
            assert (entry[kind]["height"], entry[kind]["width"]) == image.shape[:2]
            assert entry["files"][kind] == hashlib.sha256((root / f"own/{file}.png").read_bytes()).hexdigest()
        assert entry["lr"]["origin"] == "file"
        lines += f'{of_ppm(large)} {of_ppm(small)} "{name}"\n'
    assert manifest.read(tmp_path / "store").digest == hashlib.sha256(lines.encode()).hexdigest()
    assert manifest.read(tmp_path / "store/manifest.json").digest == content.digest
    assert packed.PackedPairs(tmp_path / "store").fingerprint == content.digest


def test_the_digest_depends_on_pictures_alone(root, tmp_path):
    """Not on the folder, the dataset's name, the files' form, order or times, or whether LR was made."""
    ours = make(root, "own", tmp_path / "ours")
    other = tmp_path / "elsewhere/other"
    for name in sorted(SIZES, reverse=True):
        images.write(other / f"HR/{name}.png", picture(4, 4))
        Image.open(root / f"own/HR/{name}.png").save(other / f"HR/{name}.bmp")
        (other / f"HR/{name}.png").unlink()
    theirs = make(tmp_path / "elsewhere", "other", tmp_path / "theirs")
    assert theirs.digest == ours.digest
    assert manifest.differences(ours, theirs) == []
    assert manifest.remarks(ours, theirs) == [
        "3 images with the same pixels in another file (a, b, c)",
        "3 images with LR of another origin (a, b, c)",
    ]
    names = [("b", "1", "2"), ("a", "3", "4")]
    assert manifest.digest_of(names) == manifest.digest_of(reversed(names))


def test_what_differs_is_named(root, tmp_path):
    ours = make(root, "own", tmp_path / "ours")
    shutil.copytree(root / "own", root / "changed")
    lr = images.read(root / "own/LR_bicubic/X4/ax4.png")
    lr[1, 2, 0] ^= 1
    images.write(root / "changed/LR_bicubic/X4/ax4.png", lr)
    for kind, image in (("HR/b", picture(24, 24)), ("LR_bicubic/X4/bx4", bicubic.downscale(picture(24, 24), 4))):
        images.write(root / f"changed/{kind}.png", image)
    (root / "changed/HR/c.png").rename(root / "changed/HR/d.png")
    (root / "changed/LR_bicubic/X4/cx4.png").rename(root / "changed/LR_bicubic/X4/dx4.png")
    theirs = make(root, "changed", tmp_path / "theirs")
    assert theirs.digest != ours.digest
    found = manifest.differences(ours, theirs)
    assert found == [
        "1 image only in the first (c)",
        "1 image only in the second (d)",
        "1 image of another HR size (b)",
        "1 image of another LR size (b)",
        "1 image with other LR pixels (a)",
    ]


def test_another_decoder_is_told_from_another_picture(root, tmp_path):
    """JPEG is not decoded alike by all libraries."""
    ours = make(root, "own", tmp_path / "ours")
    first = ours.images[0]
    changed = first.model_copy(update={"hr": first.hr.model_copy(update={"sha256": "0" * 64})})
    theirs = ours.model_copy(update={"images": [changed, *ours.images[1:]]})
    assert manifest.differences(ours, theirs) == ["1 image with other HR pixels decoded from the same file (a)"]


def test_the_command(root, tmp_path, capsys):
    for study, scales in (("ours", (2, 4)), ("theirs", (4,))):
        for scale in scales:
            packed.pack("own", root, scale, tmp_path / f"results/{study}/data/own/x{scale}")
    ours, theirs = (str(tmp_path / f"results/{study}") for study in ("ours", "theirs"))
    digests = manifest.digests(ours)
    assert list(digests) == ["own/x2", "own/x4"]
    assert len(set(digests.values())) == 2

    assert main(["manifest", ours, "--verify"]) == 0
    assert capsys.readouterr().out == "".join(f"{digest}  {name}, 3 images\n" for name, digest in digests.items())
    assert main(["manifest", f"{ours}/data/own/x4", theirs]) == 0
    assert capsys.readouterr().out == "own/x4: the same data\n"
    assert main(["manifest", ours, theirs]) == 1
    assert f"own/x2: other data: only in {ours}" in capsys.readouterr().out
    assert main(["manifest", ours, f"{theirs}/data/own/x4/manifest.json", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {name: each["same"] for name, each in report.items()} == {"own/x2": False, "own/x4": True}


def test_changed_pixels_and_a_strange_manifest_are_noticed(root, tmp_path, capsys):
    store = tmp_path / "store"
    packed.pack("own", root, 4, store)
    packed.pack("own[1:]", root, 4, tmp_path / "part")
    own = (store / "manifest.json").read_bytes()
    shutil.copyfile(tmp_path / "part/manifest.json", store / "manifest.json")
    assert main(["manifest", str(store), "--verify"]) == 2
    assert "does not describe the pixels beside it" in capsys.readouterr().err
    (store / "manifest.json").write_bytes(own)
    pixels = bytearray((store / "pixels.u8").read_bytes())
    pixels[100] ^= 1
    (store / "pixels.u8").write_bytes(pixels)
    assert main(["manifest", str(store), "--verify"]) == 2
    assert "has other pixels for a than were packed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=0),
        lambda content: content.update(digest="0" * 64),
        lambda content: content.pop("images"),
        lambda content: content["images"].pop(),
        lambda content: content["images"][0].update(name="other"),
        lambda content: content["images"][0]["hr"].update(sha256=7),
        lambda content: content["images"][1]["lr"].pop("width"),
        lambda content: content.update(images=[None]),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line(root, tmp_path, change):
    make(root, "own", tmp_path / "store")
    file = tmp_path / "store/manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        manifest.read(file)
    check_message(caught.value, str(file), "pack the dataset again")


def test_no_manifest_and_no_file(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "nothing"):
        assert main(["manifest", str(path)]) == 2
        assert "holds no manifest.json" in capsys.readouterr().err
        with pytest.raises(UserError):
            manifest.read(path)
    assert manifest.digests(tmp_path) == {}


def test_the_benchmarks_are_the_same_data_wherever_they_are_packed(datasets, tmp_path):
    """Their LR files are MATLAB's, so LR that is made must not make them another dataset."""
    ours = make(datasets, "Set5", tmp_path / "ours")
    shutil.copytree(datasets / "Set5/HR", tmp_path / "elsewhere/HR")
    packed.pack("mine", None, 4, tmp_path / "theirs", {"mine": str(tmp_path / "elsewhere")})
    theirs = manifest.read(tmp_path / "theirs")
    assert ours.digest == theirs.digest
    assert {pair.lr.origin for pair in ours.images} != {pair.lr.origin for pair in theirs.images}
