"""`safmn pack` as it is called."""

import json

from safmn.cli import main
from safmn.data import packed

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


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys):
    for dataset in ("nothing", "Set5", "a[b]"):
        out = tmp_path / "out"
        assert main(["pack", dataset, "--scale", "4", "--data-root", str(tmp_path), "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("safmn pack: ")
        assert captured.err.count("\n") == 1
        assert not out.exists()
