"""`safmn evaluate`, `upscale` and `explain` as a user calls them."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from safmn import cli, networks
from safmn.commands import upscale
from safmn.data import bicubic, images, packed
from safmn.errors import UserError
from safmn.networks import weights
from safmn.quality import evaluation
from safmn.quality.metrics import ssim_plane


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Two small pairs at x2 in EDSR's layout."""
    rng = np.random.default_rng(0)
    for name, (height, width) in {"first": (20, 24), "second": (24, 20)}.items():
        small = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5), 2)
        hr = cv2.resize(small, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        images.write(tmp_path / "set" / "HR" / f"{name}.png", hr)
        images.write(tmp_path / "set" / "LR_bicubic" / "X2" / f"{name}x2.png", bicubic.downscale(hr, 2))
    return tmp_path / "set"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Weights of a small network with metadata, as training leaves them."""
    torch.manual_seed(0)
    weights.save(networks.build("espcn", 2), tmp_path / "espcn.safetensors", {"network": "espcn", "scale": "2"})
    return tmp_path / "espcn.safetensors"


def safmn(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def one_line(capsys: pytest.CaptureFixture, *words: str) -> None:
    """The error: one line on stderr with these words, nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_writes_a_line_an_image(benchmark: Path, tmp_path: Path, capsys) -> None:
    """Of a folder and of a packed dataset."""
    packed.pack("set", benchmark.parent, 2, tmp_path / "packed")
    expected = evaluation.evaluate(networks.build("bicubic", 2), packed.open_pairs(benchmark, 2), 2)
    for data in (benchmark, tmp_path / "packed"):
        out = tmp_path / "deep" / f"{data.name}.csv"
        assert safmn("evaluate", "--network", "bicubic", "--scale", 2, "--data", data, "--out", out) == 0
        with open(out, encoding="utf-8") as file:
            rows = [(row["image"], float(row["psnr"]), float(row["ssim"])) for row in csv.DictReader(file)]
        assert rows == [(score.image, score.psnr, score.ssim) for score in expected.scores]
        assert out.read_text(encoding="utf-8").startswith("image,psnr,ssim,psnr_rgb,ssim_rgb\nfirst,")
        assert f"{expected.psnr:.3f} dB, SSIM {expected.ssim:.4f}" in capsys.readouterr().out


def test_evaluate_several_benchmarks_at_once_as_json(benchmark: Path, tmp_path: Path, trained: Path, capsys) -> None:
    command = ("evaluate", "--network", "espcn", "--weights", trained, "--scale", 2, "--json", "--device", "cpu")
    twice = ("--data", benchmark, "--out", tmp_path / "a.csv", "--data", benchmark, "--out", tmp_path / "b.csv")
    assert safmn(*command, *twice) == 0
    record = json.loads(capsys.readouterr().out)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert [each["images"] for each in record["datasets"]] == [2, 2]
    assert (record["network"], record["scale"], record["protocol"]) == ("espcn", 2, "present")
    assert record["provenance"]["torch"] == torch.__version__
    network = networks.load_weights(trained, "espcn", 2)
    expected = evaluation.evaluate(network, packed.open_pairs(benchmark, 2), 2, channels="Y")
    assert record["datasets"][0]["psnr"] == expected.psnr


def evaluated(capsys, *arguments: object) -> tuple[dict, str, str]:
    """The record, the line on the screen and the warnings of an evaluation of bicubic."""
    command = ("evaluate", "--network", "bicubic", *arguments)
    assert safmn(*command) == 0
    printed = capsys.readouterr()
    assert safmn(*command, "--json") == 0
    return json.loads(capsys.readouterr().out), printed.out, printed.err


def test_evaluate_says_where_lr_comes_from(benchmark: Path, tmp_path: Path, capsys) -> None:
    """Folders and packed datasets alike; LR that was made says how."""
    (benchmark / "LR_bicubic").rename(benchmark / "LRBI")
    packed.pack("set", benchmark.parent, 2, tmp_path / "packed")
    for data in (benchmark, tmp_path / "packed"):
        record, printed, warned = evaluated(capsys, "--scale", 2, "--data", data)
        assert record["lr"] == {"set": {"origin": "files", "folder": "LRBI/X2", "border": None, "made": 0}}
        assert record["warnings"] == []
        assert "LR from files in LRBI/X2" in printed
        assert warned == ""
    packed.pack("set", benchmark.parent, 4, tmp_path / "packed", border="clamped")
    for data, border in ((benchmark, "symmetric"), (tmp_path / "packed", "clamped")):
        record, printed, warned = evaluated(capsys, "--scale", 4, "--data", data)
        assert record["lr"] == {"set": {"origin": "made", "folder": "", "border": border, "made": 2}}
        assert f"made from HR by MATLAB's bicubic, {border} border" in printed
        (warning,) = record["warnings"]
        assert (warning["kind"], warning["dataset"], warning["images"]) == ("lr_not_used", "set", [])
        assert "LRBI/X2" in warning["text"]
        assert warned.startswith("safmn evaluate: warning: ")
        assert "LRBI/X2" in warned


def test_evaluate_with_a_border(benchmark: Path, tmp_path: Path, capsys) -> None:
    """The numbers are those of LR made by hand with that border; a packed dataset has one already."""
    numbers = {}
    for border in ("symmetric", "clamped"):
        record, _, _ = evaluated(capsys, "--scale", 4, "--data", benchmark, "--border", border)
        assert record["lr"]["set"]["border"] == border
        numbers[border] = record["datasets"][0]["psnr"]
        by_hand = tmp_path / border / "set"
        for file in (benchmark / "HR").iterdir():
            hr = images.read(file)
            images.write(by_hand / "HR" / file.name, hr)
            images.write(by_hand / "LR_bicubic/X4" / f"{file.stem}x4.png", bicubic.downscale(hr, 4, border))
        record, _, _ = evaluated(capsys, "--scale", 4, "--data", by_hand)
        assert record["datasets"][0]["psnr"] == numbers[border]
    assert numbers["symmetric"] != numbers["clamped"]
    packed.pack("set", benchmark.parent, 4, tmp_path / "packed", border="clamped")
    command = ("evaluate", "--network", "bicubic", "--scale", 4, "--data", tmp_path / "packed", "--border")
    assert safmn(*command, "clamped") == 0
    capsys.readouterr()
    assert safmn(*command, "symmetric") == 2
    one_line(capsys, "clamped border, not symmetric", "pack it again")
    assert safmn(*command, "clamped", "--protocol", "legacy") == 2
    one_line(capsys, "--border")


def test_evaluate_names_images_whose_lr_is_another_one(tmp_path: Path, capsys) -> None:
    """Two files swapped, one of six shifted: a warning for each, from the folder and from what was packed of it."""
    folder = tmp_path / "set"
    for seed, name in enumerate("abcdef"):
        hr = cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8), (0, 0), 2)
        hr = cv2.normalize(hr, None, 0, 255, cv2.NORM_MINMAX)
        images.write(folder / "HR" / f"{name}.png", hr)
        lr = bicubic.downscale(hr, 2)
        images.write(folder / "LR_bicubic/X2" / f"{name}x2.png", np.roll(lr, 1, 1) if name == "f" else lr)
    first, second = (folder / "LR_bicubic/X2" / f"{name}x2.png" for name in "be")
    first.rename(tmp_path / "held.png")
    second.rename(first)
    (tmp_path / "held.png").rename(second)
    packed.pack("set", tmp_path, 2, tmp_path / "packed")
    for data in (folder, tmp_path / "packed"):
        record, _, warned = evaluated(capsys, "--scale", 2, "--data", data)
        found = {tuple(each["images"]): (each["kind"], each["text"]) for each in record["warnings"]}
        assert set(found) == {("b", "e"), ("f",)}
        assert found["b", "e"] == ("lr_does_not_fit", "LR shows another picture than HR")
        assert "shifted by 0 pixels down and 1 to the right" in found[("f",)][1]
        assert "b, e: LR shows another picture" in warned
        assert warned.count("\n") == 2
    assert safmn("pack", "set", "--data-root", tmp_path, "--scale", 2, "--out", tmp_path / "again") == 0
    assert "b, e: LR shows another picture" in capsys.readouterr().err
    assert safmn("explain", "--network", "bicubic", "--scale", 2, "--data", folder, "--published", "30.0") == 0
    assert "b: LR shows another picture" in capsys.readouterr().err


def test_lr_of_another_kernel_is_said(tmp_path: Path, capsys) -> None:
    """By evaluation, on screen and in the record, and by packing; not where the protocol makes LR itself."""
    hr = cv2.resize(np.random.default_rng(2).integers(0, 256, (32, 40, 3), dtype=np.uint8), (160, 128))
    images.write(tmp_path / "set/HR/one.png", hr)
    images.write(tmp_path / "set/LR_bicubic/X2/onex2.png", cv2.resize(hr, (80, 64), interpolation=cv2.INTER_CUBIC))
    assert safmn("pack", "set", "--data-root", tmp_path, "--scale", 2, "--out", tmp_path / "packed") == 0
    assert "one: LR of 1 of 1 images is not HR reduced by MATLAB's bicubic" in capsys.readouterr().err
    for data in (tmp_path / "set", tmp_path / "packed"):
        record, _, warned = evaluated(capsys, "--scale", 2, "--data", data)
        (warning,) = record["warnings"]
        assert (warning["kind"], warning["dataset"], warning["images"]) == ("lr_other_kernel", "set", ["one"])
        assert warning["text"] in warned
        assert "PSNR is not comparable with the paper's" in warned
        record, _, warned = evaluated(capsys, "--scale", 2, "--data", data, "--protocol", "legacy")
        assert (record["warnings"], warned) == ([], "")


def test_grey_files_by_the_legacy_protocol(tmp_path: Path, capsys) -> None:
    """Means with the single-channel file as it is and converted; three equal channels are no single-channel file."""
    rng = np.random.default_rng(3)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (36, 48), dtype=np.uint8), (0, 0), 1)
    images.write(tmp_path / "set/HR/bridge.png", grey)
    images.write(tmp_path / "set/HR/man.png", np.repeat(grey[:, :, None], 3, 2))
    images.write(tmp_path / "set/HR/rose.png", np.dstack([grey, grey[::-1], grey[:, ::-1]]))
    packed.pack("set[:]", tmp_path, 2, tmp_path / "packed")
    assert [packed.open_pairs(tmp_path / "packed", 2).channels(index) for index in range(3)] == [1, 3, 3]
    for data in (tmp_path / "set", tmp_path / "packed"):
        out = tmp_path / "out.csv"
        record, printed, _ = evaluated(capsys, "--scale", 2, "--data", data, "--protocol", "legacy", "--out", out)
        with open(out, encoding="utf-8") as file:
            psnr = {row["image"]: float(row["psnr"]) for row in csv.DictReader(file)}
        # Y has 219/255 of the grey values' range, its error as well: 1.32 dB.
        assert psnr["man"] - psnr["bridge"] == pytest.approx(20 * np.log10(255 / 219), abs=0.1)
        found = record["grey"]["set"]
        assert found["images"] == ["bridge"]
        assert found["psnr"] == record["datasets"][0]["psnr"] == pytest.approx(np.mean(list(psnr.values())))
        assert found["psnr_converted"] == pytest.approx(np.mean([psnr["man"], psnr["man"], psnr["rose"]]))
        assert found["ssim_converted"] != found["ssim"] == record["datasets"][0]["ssim"]
        assert "bridge" in printed
        assert record["lr"]["set"]["origin"] == "made"
        record, _, _ = evaluated(capsys, "--scale", 2, "--data", data)
        assert "grey" not in record
        assert record["protocol"] == "present"
        assert record["datasets"][0]["psnr"] != found["psnr_converted"]


def test_one_picture_without_error_makes_the_mean_infinite(benchmark: Path, capsys) -> None:
    images.write(benchmark / "HR" / "flat.png", np.full((40, 40, 3), 100, np.uint8))
    images.write(benchmark / "LR_bicubic/X2" / "flatx2.png", np.full((20, 20, 3), 100, np.uint8))
    record, printed, _ = evaluated(capsys, "--scale", 2, "--data", benchmark)
    found = evaluation.evaluate(networks.build("bicubic", 2), packed.open_pairs(benchmark, 2), 2)
    others = np.mean([score.psnr for score in found.scores if score.image != "flat"])
    assert record["datasets"][0]["psnr"] is None
    assert record["datasets"][0]["infinite"] == ["flat"]
    assert record["datasets"][0]["psnr_of_the_others"] == pytest.approx(others)
    assert "inf dB" in printed
    assert "SR equals HR in flat" in printed
    assert f"the others' mean is {others:.3f} dB" in printed


def test_smsr_is_measured_by_its_authors_metric_too(tmp_path: Path, capsys) -> None:
    """Written out: LR cropped to even sides, PSNR on weights / 256, SSIM on weights / 255."""
    torch.manual_seed(0)
    network = networks.build("smsr", 2).eval()
    weights.save(network, tmp_path / "smsr.safetensors", {"network": "smsr", "scale": "2"})
    hr = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (42, 50, 3), dtype=np.uint8), (0, 0), 1.5)
    lr = bicubic.downscale(hr, 2)
    assert lr.shape == (21, 25, 3)
    images.write(tmp_path / "set/HR/odd.png", hr)
    images.write(tmp_path / "set/LR_bicubic/X2/oddx2.png", lr)
    command = ("evaluate", "--network", "smsr", "--weights", tmp_path / "smsr.safetensors", "--scale", 2)
    assert safmn(*command, "--data", tmp_path / "set", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    sr = evaluation.super_resolve(network, lr[:20, :24]).astype(float)
    planes = {
        divisor: [image @ [65.738, 129.057, 25.064] / divisor + 16 for image in (sr, hr[:40, :48].astype(float))]
        for divisor in (255, 256)
    }
    error = np.mean((planes[256][0] - planes[256][1])[2:-2, 2:-2] ** 2)
    found = record["authors_metric"]["set"]
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)
    assert found["ssim"] == pytest.approx(ssim_plane(*planes[255], 2), abs=1e-8)
    assert found["ssim"] != pytest.approx(ssim_plane(*planes[256], 2), abs=1e-8)
    assert found["psnr"] != pytest.approx(record["datasets"][0]["psnr"], abs=1e-4)
    assert "even sides" in found["text"]
    assert safmn(*command, "--data", tmp_path / "set") == 0
    assert f"authors' own metric {found['psnr']:.3f} dB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--data": "nowhere"}, ["nowhere"]),
        ({"--data": "[1:]"}, ["[1:]", "folder"]),
        ({"--data": "n" * 300}, ["nnn", "too long"]),
        ({"--network": "imdm"}, ["no network 'imdm'", "imdn"]),
        ({"--scale": 5}, ["no x5"]),
        ({"--network": "espcn"}, ["parameters", "--weights"]),
        ({"--weights": "nowhere.safetensors", "--network": "espcn"}, ["nowhere.safetensors"]),
        ({"--weights": "TRAINED", "--network": "espcn", "--scale": 4}, ["espcn.safetensors", "x2"]),
        ({"--weights": "TRAINED", "--network": "imdn"}, ["espcn.safetensors", "espcn"]),
        ({"--device": "tpu9"}, ["tpu9"]),
        ({"--device": "meta"}, ["meta"]),
        ({"--protocol": "legacy", "--network": "imdn", "--weights": "IMDN"}, ["legacy", "Y"]),
    ],
)
def test_evaluate_bad_input(benchmark: Path, tmp_path: Path, trained: Path, capsys, change: dict, words: list) -> None:
    if change.get("--weights") == "IMDN":
        weights.save(networks.build("imdn", 2), tmp_path / "imdn.safetensors", {})
    places = {"TRAINED": trained, "IMDN": tmp_path / "imdn.safetensors"}
    out = tmp_path / "out.csv"
    options = {"--network": "bicubic", "--scale": 2, "--data": benchmark, "--out": out} | change
    flat = [places.get(word, word) for option in options.items() for word in option]
    before = set(tmp_path.rglob("*"))
    assert safmn("evaluate", *flat) == 2
    one_line(capsys, *words)
    assert set(tmp_path.rglob("*")) == before


def test_evaluate_refuses_outs_and_images_that_do_not_fit(benchmark: Path, tmp_path: Path, capsys) -> None:
    command = ("evaluate", "--network", "bicubic", "--scale", 2, "--data", benchmark)
    out = tmp_path / "out.csv"
    assert safmn(*command, benchmark, "--out", out) == 2
    one_line(capsys, "2 --data but 1 --out")
    assert safmn(*command, benchmark, "--out", out, out) == 2
    one_line(capsys, "out.csv", "twice")
    images.write(benchmark / "HR" / "second.png", np.zeros((60, 60, 3), np.uint8))
    assert safmn(*command, "--out", out) == 2
    one_line(capsys, "second")
    assert not out.exists()


# --- upscale ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photograph.png"
    rows, columns = np.mgrid[:30, :44]
    images.write(path, np.dstack([rows * 8, columns * 5, 255 - rows * 4]).astype(np.uint8))
    return path


def test_upscale_a_picture(photograph: Path, trained: Path, tmp_path: Path, capsys) -> None:
    """The network's name comes from the weights; whole and in tiles."""
    network = networks.load_weights(trained, "espcn", 2)
    expected = evaluation.super_resolve(network, images.read(photograph), "Y")
    out = tmp_path / "large.png"
    for options in ((), ("--tile", 16, "--overlap", 8)):
        assert safmn("upscale", photograph, out, "--weights", trained, "--scale", 2, *options) == 0
        np.testing.assert_array_equal(images.read(out), expected)
        assert "88x60" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".bmp", "BMP"), (".webp", "WEBP")])
def test_upscale_writes_the_format_of_the_suffix(photograph: Path, tmp_path: Path, suffix: str, kind: str) -> None:
    from PIL import Image

    out = tmp_path / f"large{suffix}"
    assert safmn("upscale", photograph, out, "--network", "bicubic", "--scale", 3) == 0
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == (kind, (132, 90))
    exact = evaluation.super_resolve(networks.build("bicubic", 3), images.read(photograph))
    assert np.abs(images.read(out).astype(int) - exact).mean() < (1e-9 if suffix in (".png", ".bmp") else 3)


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
@pytest.mark.parametrize(("options", "advice"), [((), "try --tile 256"), (("--tile", 32), "a --tile smaller than 32")])
def test_out_of_memory_suggests_tiles(
    photograph: Path, trained: Path, tmp_path: Path, capsys, monkeypatch, error, options, advice
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(evaluation, "super_resolve", refuse)
    out = tmp_path / "large.png"
    assert safmn("upscale", photograph, out, "--weights", trained, "--scale", 2, *options) == 2
    one_line(capsys, "photograph.png needs more memory", advice)
    assert not out.exists()


def test_upscale_a_folder(benchmark: Path, tmp_path: Path, capsys) -> None:
    source = benchmark / "LR_bicubic" / "X2"
    assert safmn("upscale", source, tmp_path / "large", "--network", "bicubic", "--scale", 2) == 0
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == ["firstx2.png", "secondx2.png"]
    assert images.read(tmp_path / "large" / "firstx2.png").shape == (40, 48, 3)
    assert "2 pictures" in capsys.readouterr().out


def test_upscale_never_overwrites_what_it_reads(benchmark: Path, photograph: Path, tmp_path: Path, capsys) -> None:
    before = photograph.read_bytes()
    (tmp_path / "link.png").symlink_to(photograph)
    for out in (photograph, tmp_path / "link.png"):
        assert safmn("upscale", photograph, out, "--network", "bicubic", "--scale", 2) == 2
        one_line(capsys, "overwritten")
    folder = benchmark / "HR"
    assert safmn("upscale", folder, folder, "--network", "bicubic", "--scale", 2) == 2
    one_line(capsys, "overwritten")
    assert photograph.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("nowhere.png", "large.png", ["nowhere.png", "missing"]),
        ("photograph.png", "large.gif", ["large.gif", ".png"]),
        ("photograph.png", "large", ["large", ".png"]),
        ("photograph.png", "set", ["set", "folder"]),
        ("set/HR", "photograph.png", ["folder", "photograph.png"]),
        ("empty", "large", ["empty"]),
        ("broken.png", "large.png", ["broken.png"]),
        ("16bit.png", "large.png", ["16bit.png", "16 bits"]),
    ],
)
def test_upscale_bad_pictures(
    benchmark: Path, photograph: Path, tmp_path: Path, capsys, source: str, target: str, words: list
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(photograph.read_bytes()[:200])
    cv2.imwrite(str(tmp_path / "16bit.png"), np.zeros((20, 20, 3), np.uint16))
    before = set(tmp_path.rglob("*"))
    assert safmn("upscale", tmp_path / source, tmp_path / target, "--network", "bicubic", "--scale", 2) == 2
    one_line(capsys, *words)
    assert set(tmp_path.rglob("*")) == before


def test_upscale_bad_weights(photograph: Path, trained: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "large.png"
    nameless = tmp_path / "nameless.safetensors"
    weights.save(networks.build("espcn", 2), nameless, {})
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for arguments, words in (
        (["--scale", 2], ["--weights", "--network"]),
        (["--scale", 2, "--weights", nameless], ["nameless.safetensors", "--network"]),
        (["--scale", 2, "--weights", tmp_path / "broken.safetensors"], ["broken.safetensors"]),
        (["--scale", 2, "--weights", tmp_path / "nowhere.safetensors"], ["nowhere.safetensors", "missing"]),
        (["--scale", 4, "--weights", trained], ["espcn.safetensors", "x4"]),
        (["--scale", 2, "--network", "espcn"], ["--weights"]),
    ):
        assert safmn("upscale", photograph, out, *arguments) == 2
        one_line(capsys, *words)
        assert not out.exists()


def test_two_pictures_of_one_name(photograph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    images.write(folder / "a.png", images.read(photograph))
    cv2.imwrite(str(folder / "a.jpg"), images.read(photograph))
    with pytest.raises(UserError, match=r"a\.png"):
        upscale.plan(folder, tmp_path / "large")


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_prints_table_and_verdict(benchmark: Path, capsys) -> None:
    command = ("explain", "--network", "bicubic", "--scale", 2, "--data", benchmark)
    standard = evaluation.evaluate(networks.build("bicubic", 2), packed.open_pairs(benchmark, 2), 2)
    assert safmn(*command, "--published", f"{standard.psnr:.2f}") == 0
    printed = capsys.readouterr().out
    assert "nothing to explain" in printed
    assert f"{standard.psnr:.4f}" in printed
    assert safmn(*command, "--published", "0.1234", "--metric", "ssim", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["measured"] == pytest.approx(standard.ssim, abs=1e-8)
    assert record["closing"] == []
    assert "ssim-uniform" in [row["switch"] for row in record["switches"]]
    assert "mean-error" not in [row["switch"] for row in record["switches"]]


def test_explain_tries_what_lies_beside(benchmark: Path, tmp_path: Path, capsys) -> None:
    """best, last and last_raw of one training: the number of another of them is named."""
    run = tmp_path / "run"
    for seed, name in enumerate(("best", "last", "last_raw")):
        torch.manual_seed(seed)
        weights.save(networks.build("espcn", 2), run / f"{name}.safetensors", {"network": "espcn", "scale": "2"})
    raw = networks.load_weights(run / "last_raw.safetensors", "espcn", 2)
    number = evaluation.evaluate(raw, packed.open_pairs(benchmark, 2), 2, channels="Y").psnr
    command = ("explain", "--weights", run / "best.safetensors", "--scale", 2, "--data", benchmark, "--json")
    assert safmn(*command, "--published", f"{number:.3f}") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["closing"] == ["weights last_raw.safetensors"]
    assert "weights last.safetensors" in [row["switch"] for row in record["switches"]]


def test_explain_prints_each_way_as_it_comes_and_stops_within_a_budget(benchmark: Path, capsys) -> None:
    command = ("explain", "bicubic", "--scale", 2, "--data", benchmark, "--published", "30.0")
    assert safmn(*command, "--budget", "1e-9") == 0
    out, shown = capsys.readouterr()
    ways = [line.split(":")[0] for line in shown.splitlines()]
    assert ways[0] == "standard"  # the first pass is never left out
    assert "rgb" in ways
    assert "lr-opencv" not in ways
    assert "lr-opencv" in out
    assert "the budget of 1e-09 s is used up" in out
    assert safmn(*command) == 0
    assert "lr-opencv" in [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--network", "bicubic", "--published", "about 30"], ["about 30", "32.21"]),
        (["--network", "bicubic", "--published", "nan"], ["nan"]),
        (["--network", "bicubic", "--published", "30.1", "--data", "nowhere"], ["nowhere"]),
    ],
)
def test_explain_bad_input(benchmark: Path, capsys, arguments: list, words: list) -> None:
    assert safmn("explain", "--scale", 2, "--data", benchmark, *arguments) == 2
    one_line(capsys, *words)


# --- a network and its weights, in every command ----------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Weights whose metadata says what they are."""
    weights.save(networks.build("espcn", 2), tmp_path / "best.safetensors", {"network": "espcn", "scale": "2"})
    return tmp_path / "best.safetensors"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["espcn"],
        ["--network", "espcn"],
        ["espcn", "--network", "espcn", "--scale", 2],
    ],
)
def test_what_the_weights_say_need_not_be_repeated(benchmark: Path, named: Path, capsys, words: list) -> None:
    assert safmn("evaluate", *words, "--weights", named, "--data", benchmark, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["network"], record["scale"]) == ("espcn", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["espcn", "--network", "imdn", "--scale", 2], "espcn and --network imdn are two networks: give one"),
        (["espnc", "--scale", 2], "there is no network 'espnc': did you mean espcn?"),
        (["espcn"], "missing: --scale"),
        (["--scale", 2], "missing: a network, as NAME or --network NAME, and its --weights"),
        (["best.safetensors"], "best.safetensors is a file: name weights with --weights best.safetensors"),
        (["--weights", "nowhere.pth"], "weights nowhere.pth are missing"),
    ],
)
def test_a_network_that_is_not_clear_is_one_line(
    benchmark: Path, named: Path, capsys, monkeypatch, words: list, message: str
) -> None:
    monkeypatch.chdir(named.parent)
    for command in (["evaluate"], ["inspect", "--scene", benchmark], ["explain", "--published", "30.0"]):
        data = [] if command[0] == "inspect" else ["--data", benchmark]
        assert safmn(command[0], *words, *command[1:], *data) == 2
        out, said = capsys.readouterr()
        assert out == ""
        assert message in said
        assert said.count("\n") == 1
