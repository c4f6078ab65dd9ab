"""`safmn inspect` as a user calls it, and the files it leaves."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from safmn import cli, networks
from safmn.data import images
from safmn.errors import UserError
from safmn.inspection import record
from safmn.networks import weights

QUICK = ["--crop", 40, "--window", 8, "--patch", 24, "--steps", 2]


def safmn(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights of two networks with metadata, as training leaves them."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("safmn", "espcn"):
        torch.manual_seed(0)
        weights.save(networks.build(name, 4), folder / f"{name}.safetensors", {"network": name, "scale": "4"})
    return folder


@pytest.mark.parametrize("name", ["safmn", "espcn", "bicubic"])
def test_psnr_is_the_evaluators_and_the_crop_the_enlargers(benchmark, trained, tmp_path, name):
    """A network of RGB, one of Y and one without weights."""
    own = [] if name == "bicubic" else ["--weights", trained / f"{name}.safetensors"]
    out = tmp_path / "seen.json"
    scenes = ["--scene", benchmark, "textured", 60, 44, "--scene", benchmark, "plain"]
    assert (
        safmn(
            "inspect",
            "--network",
            name,
            "--scale",
            4,
            *own,
            *scenes,
            *QUICK,
            "--out",
            out,
            "--pictures",
            tmp_path / "seen",
        )
        == 0
    )
    assert (
        safmn("evaluate", "--network", name, "--scale", 4, *own, "--data", benchmark, "--out", tmp_path / "q.csv") == 0
    )
    found = record.read(out)
    record.check(found)
    with open(tmp_path / "q.csv", encoding="utf-8") as handle:
        psnr = {line["image"]: float(line["psnr"]) for line in csv.DictReader(handle)}
    assert [crop["image"] for crop in found.numbers["crops"]] == ["textured", "plain"]
    for crop in found.numbers["crops"]:
        # In a batch of two a convolution may add in another order, and a pixel in 40,000 round the other way.
        value = psnr[crop["image"]]
        assert crop["psnr"] == (pytest.approx(value, abs=1e-5) if math.isfinite(value) else None)

    lr, large = benchmark / "LR_bicubic" / "X4" / "texturedx4.png", tmp_path / "large.png"
    assert safmn("upscale", lr, large, "--network", name, *own, "--scale", 4) == 0
    sr, hr = images.read(large)[44:84, 60:100], images.read(benchmark / "HR" / "textured.png")[44:84, 60:100]
    np.testing.assert_array_equal(found.arrays["crop0_sr"], sr)
    np.testing.assert_array_equal(found.arrays["crop0_hr"], hr)
    assert {file.stem for file in (tmp_path / "seen").glob("*.png")} == set(found.arrays)
    np.testing.assert_array_equal(images.read(tmp_path / "seen/crop0_sr.png"), sr)
    for file in (tmp_path / "seen").glob("*.png"):
        picture = images.read(file)
        assert picture.shape[:2] == found.arrays[file.stem].shape[:2]
        assert len(np.unique(picture)) > 8 or file.stem.startswith("crop1"), file.stem  # the second scene is plain
    share = np.abs(found.arrays["attribution"]) / np.abs(found.arrays["attribution"]).max()
    drawn = images.read(tmp_path / "seen/attribution.png")[..., 0]
    seen = share >= 1e-3  # 255 levels for three decades: a level is a factor of 1.027
    np.testing.assert_allclose(10 ** (3 * (drawn[seen] / 255 - 1)), share[seen], rtol=0.015)
    assert (drawn[~seen] == 0).all()
    y = [each @ np.array([65.481, 128.553, 24.966]) / 255 for each in (sr.astype(float), hr.astype(float))]
    expected = 10 * math.log10(255**2 / np.mean((y[0] - y[1]) ** 2))
    assert found.numbers["crops"][0]["psnr_crop"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "grey"), [([0.1, 1.0, -1.0], [170, 255, 255]), ([2.0, 2.0, 2.0], [255] * 3), ([0.0, 0.0, 0.0], [0] * 3)]
)
def test_an_attribution_map_is_drawn_by_its_share_of_the_largest(tmp_path, values, grey):
    inspection = record.Inspection({}, {"attribution": np.array([values], np.float32)})
    (file,) = record.write_pictures(tmp_path, inspection)
    assert images.read(file)[0, :, 0].tolist() == grey


def test_the_same_inspection_gives_the_same_bytes(benchmark, trained, tmp_path, capsys):
    told = []
    for name in ("first", "second"):
        own = ["--weights", trained / "safmn.safetensors", "--scene", benchmark, "textured", *QUICK]
        assert (
            safmn("inspect", "--network", "safmn", "--scale", 4, *own, "--out", tmp_path / f"{name}.json", "--json")
            == 0
        )
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == json.loads((tmp_path / "first.json").read_text())
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    for each in told:
        assert each.pop("provenance")["device"]  # the hour is in it
    assert told[0] == told[1]
    assert told[0]["features"]["module"] == "feats.7.safm"
    assert 0 < told[0]["attribution"]["diffusion_index"] < 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 0], "--steps 0 is too small"),
        (["--sigma", 0], "--sigma 0.0 is out of range"),
        (["--out", "seen.txt"], "does not end with .json"),
        (["--scene", "DIR", "textured", 3], "DIR IMAGE X Y"),
        (["--scene", "DIR", "textured", 3, -1], "DIR IMAGE X Y"),
        (["--scene", "DIR", "other"], "no image 'other'"),
        (["--window", 41], "does not fit"),
    ],
)
def test_a_mistake_is_one_line(benchmark, tmp_path, capsys, options, words):
    options = [benchmark if each == "DIR" else each for each in options]
    arguments = ["--network", "bicubic", "--scale", 4, "--scene", benchmark, "textured", *QUICK, *options]
    assert safmn("inspect", *arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert words in told.err


@pytest.mark.parametrize("damage", ["no npz", "cut", "text", "array missing", "wrong shape", "key missing"])
def test_damaged_files_are_refused(benchmark, tmp_path, damage):
    file = tmp_path / "seen.json"
    assert safmn("inspect", "--network", "bicubic", "--scale", 4, "--scene", benchmark, *QUICK, "--out", file) == 0
    found, arrays = record.read(file), file.with_suffix(".npz")
    if damage == "no npz":
        arrays.unlink()
    elif damage == "cut":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "text":
        arrays.write_text("no archive")
    elif damage == "key missing":
        del found.numbers["attribution"]["window"]
        record.write(file, found)
    else:
        found.arrays["attribution"] = np.zeros((3, 3))
        if damage == "array missing":
            del found.arrays["attribution"]
        record.write(file, found)
    with pytest.raises(UserError, match="again"):
        record.check(record.read(file))


def test_a_picture_is_made_smaller_by_means_of_blocks():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    found = record.smaller(image, 4)  # a third of its size
    assert found.shape == (3, 2, 3)
    assert found[1, 1, 2] == round(float(image[3:6, 3:6, 2].mean()))
    np.testing.assert_array_equal(record.smaller(image, 9), image)
