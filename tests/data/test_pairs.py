"""Folders as pairs: the layouts, the crop, and every way in which HR and LR can fail to fit."""

import numpy as np
import pytest

from safmn.data import bicubic, images, pairs
from safmn.errors import UserError

from .pictures import check_message, edsr_folder, find, picture, read_pair

SIZES = {"b": (17, 22), "a": (16, 12), "c": (8, 8)}


def names(found: list[pairs.Pair]) -> list[str]:
    return [pair.name for pair in found]


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14), ("B100", 100)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_benchmarks(datasets, name, count, scale):
    found = find(datasets / name, scale)
    assert len(found) == count
    assert names(found) == sorted(names(found))
    for pair in found[:3]:
        lr, hr = read_pair(pair, scale)
        assert pair.origin == "file"
        assert hr.shape == (lr.shape[0] * scale, lr.shape[1] * scale, 3)
        np.testing.assert_array_equal(hr, images.read(pair.hr)[: hr.shape[0], : hr.shape[1]])


def test_a_grey_benchmark_image_and_a_training_set_without_lr(datasets):
    bridge = next(pair for pair in find(datasets / "Set14", 4) if pair.name == "bridge")
    lr, hr = read_pair(bridge, 4)
    assert (hr == hr[..., :1]).all()
    assert (lr == lr[..., :1]).all()
    training = find(datasets / "BSDS200", 4)
    assert (len(training), training[0].origin, training[0].hr.suffix) == (200, "bicubic", ".jpg")


def test_lr_is_taken_from_files_of_the_scale_or_made(tmp_path):
    folder = edsr_folder(tmp_path, SIZES, scale=4)
    images.write(folder / "LR_bicubic/X4/ax4.png", np.full((4, 3, 3), 9, np.uint8))  # so that it cannot be made
    for scale, origin in ((4, "file"), (2, "bicubic")):
        found = find(folder, scale)
        assert names(found) == ["a", "b", "c"]
        assert {pair.origin for pair in found} == {origin}
    assert (read_pair(find(folder, 4)[0], 4)[0] == 9).all()


def test_made_lr_is_that_of_the_cropped_hr(tmp_path):
    folder = edsr_folder(tmp_path, SIZES)
    lr, hr = read_pair(find(folder, 4)[1], 4)
    whole = images.read(folder / "HR" / "b.png")
    np.testing.assert_array_equal(hr, whole[:16, :20])
    np.testing.assert_array_equal(lr, bicubic.downscale(whole[:16, :20], 4))


def test_a_plain_folder_is_hr(tmp_path):
    folder = tmp_path / "pictures"
    images.write(folder / "x.PNG", picture(8, 8))
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("")
    (folder / "folder.png").mkdir()
    assert find(folder, 4) == [pairs.Pair("x", folder / "x.PNG", None)]


def test_a_name_that_is_not_text(tmp_path):
    (tmp_path / b"\xff.png".decode(errors="surrogateescape")).write_bytes(b"")
    with pytest.raises(UserError, match="UTF-8") as caught:
        find(tmp_path, 2)
    str(caught.value).encode()


def test_names_that_contain_each_other_are_told_apart(tmp_path):
    folder = edsr_folder(tmp_path, {"a": (8, 8), "ax2": (12, 12)}, scale=2)
    assert [pair.lr.name for pair in find(folder, 2)] == ["ax2.png", "ax2x2.png"]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "LR_bicubic/X4/bx4.png").unlink(), "lacks bx4.png for .*b.png"),
        (lambda folder: [entry.unlink() for entry in (folder / "HR").iterdir()], "HR has no image"),
        (lambda folder: [entry.unlink() for entry in (folder / "LR_bicubic/X4").iterdir()], "X4 has no image"),
        (lambda folder: images.write(folder / "HR/a.PNG", picture(8, 8)), "a.PNG and .*a.png have one name"),
        (lambda folder: [(folder / "HR").rename(folder / "a_HR"), (folder / "b_HR").mkdir()], "holds a_HR and b_HR"),
        (lambda folder: (folder / "HR/d.tif").write_bytes(b"II*"), "d.tif is in a format"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, spoil, match):
    folder = edsr_folder(tmp_path, SIZES, scale=4)
    spoil(folder)
    with pytest.raises(UserError, match=match) as caught:
        find(folder, 4)
    check_message(caught.value)


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (3, 4), (5, 3), (17, 12)])
def test_sizes_that_do_not_fit_name_both_files(tmp_path, size):
    folder = edsr_folder(tmp_path, SIZES, scale=4)
    images.write(folder / "LR_bicubic/X4/ax4.png", picture(*size))  # HR is 16 x 12
    pair = find(folder, 4)[0]
    if size == (4, 3):
        read_pair(pair, 4)
        return
    with pytest.raises(UserError, match=r"ax4.png is .*HR/a.png is 12x16"):
        read_pair(pair, 4)


def test_an_image_too_small_to_reduce(tmp_path):
    images.write(tmp_path / "tiny.png", picture(3, 9))
    with pytest.raises(UserError, match=r"tiny.png is 9x3"):
        read_pair(find(tmp_path, 4)[0], 4)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"{name} is not a folder"):
        find(tmp_path / name, 4)
