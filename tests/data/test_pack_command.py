"""`safmn pack` as it is called."""

import json

from safmn.cli import main
from safmn.data import bicubic, packed

from .pictures import edsr_folder


def test_pack_prints_what_it_packed(tmp_path, capsys):
    edsr_folder(tmp_path / "own", {"a": (16, 12), "b": (8, 8)}, scale=4)
    out = tmp_path / "out put" / "x4"
    arguments = ["pack", "own", "--scale", "4", "--data-root", str(tmp_path), "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    store = packed.open_pairs(out, 4)
    assert figures["fingerprint"] == store.fingerprint
    assert (figures["images"], figures["lr_made"], figures["hr_pixels"]) == (2, 0, 16 * 12 + 64)
    assert figures["bytes"] == (out / "pixels.u8").stat().st_size == 3 * (16 * 12 + 64 + 4 * 3 + 4)
    assert main(arguments) == 0
    assert "2 images" in capsys.readouterr().out


def test_a_folder_elsewhere_and_made_lr(tmp_path, capsys):
    edsr_folder(tmp_path / "some where", {"a": (16, 12), "b": (8, 8)})
    arguments = ["pack", "mine[1:]", "--scale", "2", "--folder", str(tmp_path / "some where"), "--out"]
    assert main([*arguments, str(tmp_path / "out"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["images"], figures["lr_made"]) == (1, 1)


def test_names_with_spaces_are_packed_and_trained_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    edsr_folder(tmp_path / "data sets" / "my photos", {"a 1": (96, 72), "b": (80, 80)})
    edsr_folder(tmp_path / "data sets" / "held out", {"c 1": (88, 72), "d": (84, 80)})
    out = tmp_path / "out put" / "my photos"
    arguments = ["my photos[:1]", "--scale", "4", "--data-root", str(tmp_path / "data sets"), "--out", str(out)]
    assert main(["pack", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "my photos[:1]"
    assert packed.open_pairs(out, 4).names == ["a 1"]
    content = {
        "name": "spaces",
        "description": "Folders with spaces",
        "scales": [4],
        "seeds": [0],
        "data": {"root": str(tmp_path / "data sets"), "border": "clamped", "test": []}
        | {"train": ["my photos[:1]"], "validation": ["held out"]},
        "training": {"iterations": 1, "batch": 1, "patch": 16, "validate_every": 1},
    }
    (tmp_path / "a study.yaml").write_text(json.dumps(content))
    run = ["--scale", "4", "--seed", "0", "--device", "cpu", "--out", str(tmp_path / "a run")]
    assert main(["train", "safmn", "--study", "a study.yaml", *run]) == 0
    assert (tmp_path / "a run" / "best.safetensors").is_file()
    dataset = packed.open_pairs(tmp_path / "results/spaces/data/my photos/x4", 4)
    assert dataset.lr_summary == {"origin": "made", "folder": "", "border": "clamped", "made": 2}


def test_the_border_of_lr_that_is_made(tmp_path, capsys):
    """In the pixels, in the index, and on the screen; LR files are not touched by it."""
    edsr_folder(tmp_path / "own", {"a": (16, 12), "b": (24, 20)}, scale=4)
    for scale, border in ((2, "clamped"), (2, "symmetric"), (4, "clamped")):
        out = tmp_path / f"{scale}_{border}"
        arguments = ["own", "--scale", str(scale), "--data-root", str(tmp_path), "--out", str(out)]
        assert main(["pack", *arguments, "--border", border]) == 0
        printed = capsys.readouterr().out
        dataset = packed.open_pairs(out, scale)
        for index in range(2):
            border_used = border if scale == 2 else "symmetric"
            expected = bicubic.downscale(dataset.hr(index), scale, border_used)
            assert (dataset.lr(index) == expected).all()
        assert (f"{border} border" in printed) is (scale == 2)
        assert ("from files in LR_bicubic/X4" in printed) is (scale == 4)


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys):
    for dataset in ("nothing", "Set5", "a[b]"):
        out = tmp_path / "out"
        assert main(["pack", dataset, "--scale", "4", "--data-root", str(tmp_path), "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("safmn pack: ")
        assert captured.err.count("\n") == 1
        assert not out.exists()
