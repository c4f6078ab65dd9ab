"""HR and LR by names and sizes: the field's layouts, pairs in one folder, LR folders that are no HR, Unicode forms."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from safmn.data import bicubic, images, layouts, pairs
from safmn.errors import UserError

from .pictures import check_message

NAMES = ("baby", "img_007", "img_010")
SIZE = (64, 80)


def scene(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """A picture with structure at all sizes, which its reduction shares."""
    rng = np.random.default_rng(seed)
    noise = [
        cv2.resize(
            rng.uniform(-1, 1, (height // step, width // step, 3)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        for step in (1, 2, 4, 8, 16)
    ]
    total = sum(step * each for step, each in zip((1, 2, 4, 8, 16), noise, strict=True))
    return np.clip(128 + 6 * total, 0, 255).astype(np.uint8)


def noisy(hr: np.ndarray, scale: int) -> np.ndarray:
    """LR of HR with noise: only a file has these pixels."""
    lr = bicubic.downscale(hr, scale)
    return np.clip(lr + np.random.default_rng(1).normal(0, 12, lr.shape), 0, 255).astype(np.uint8)


def lay(root: Path, hr: str, lr: str, scale: int = 4, names: tuple[str, ...] = NAMES) -> dict[str, np.ndarray]:
    """Writes HR and LR files; `{}` stands for the image's name. Returns the LR pixels by HR file's stem."""
    found = {}
    for seed, name in enumerate(names):
        picture = scene(seed)
        images.write(root / f"{hr.format(name)}.png", picture)
        images.write(root / f"{lr.format(name)}.png", noisy(picture, scale))
        found[Path(hr.format(name)).name] = noisy(picture, scale)
    return found


def check_from_files(folder: Path, expected: dict[str, np.ndarray], scale: int = 4) -> pairs.Found:
    found = layouts.survey(folder, scale)
    assert [pair.name for pair in found.pairs] == sorted(expected)
    for pair in found.pairs:
        loaded = pairs.load(pair, scale)
        np.testing.assert_array_equal(loaded.lr, expected[pair.name])
        assert loaded.doubt == ""
    return found


@pytest.mark.parametrize(
    ("hr", "lr", "folder", "seen"),
    [
        ("HR/{}", "LR_bicubic/X4/{}x4", "", "LR_bicubic/X4"),
        ("HR/{}", "LR_bicubic/x4/{}x4", "", "LR_bicubic/x4"),
        ("HR/{}", "lr_Bicubic/x4/{}x4", "HR", "lr_Bicubic/x4"),
        ("HR/{}", "LR_bicubic/X4/{}", "", "LR_bicubic/X4"),
        ("HR/{}", "LR_bicubic/X4/{}_LR", "", "LR_bicubic/X4"),
        ("HR/{}", "LRBI/x4/{}x4", "", "LRBI/x4"),
        ("HR/{}", "LR/x4/{}", "", "LR/x4"),
        ("HR/{}", "LR/X4/{}x4", "", "LR/X4"),
        ("HR/{}", "LR/{}", "", "LR"),
        ("HR/{}", "LR_x4/{}", "", "LR_x4"),
        ("HR/{}", "LRx4/{}", "", "LRx4"),
        ("HR/{}", "x4/{}", "", "x4"),
        ("HR/{}", "X4/{}x4", "", "X4"),
        ("HR/{}", "lq/{}", "", "lq"),
        ("hr/{}", "lr/{}", "", "lr"),
        ("HR/{}", "image_SRF_4/{}_SRF_4_LR", "", "image_SRF_4"),
        ("GTmod12/{}", "LRbicx4/{}", "", "LRbicx4"),
        ("GTmod12/{}", "LRbicx4/{}", "GTmod12", "LRbicx4"),
        ("original/{}", "LRbicx4/{}", "", "LRbicx4"),
        ("gt/{}", "lq_x4/{}", "", "lq_x4"),
        ("gt/{}_gt", "lq/{}_lq", "", "lq"),
        ("HR/{}_HR", "LR/{}_LR", "", "LR"),
        ("HR/x4/{}_HR_x4", "LRBI/x4/{}_LRBI_x4", "", "LRBI/x4"),
        ("HR/x4/{}_HR_x4", "LRBI/x4/{}_LRBI_x4", "HR/x4", "LRBI/x4"),
        ("DIV2K_train_HR/{}", "DIV2K_train_LR_bicubic/X4/{}x4", "", "DIV2K_train_LR_bicubic/X4"),
        ("DIV2K_train_HR/{}", "DIV2K_train_LR_bicubic/x4/{}x4", "", "DIV2K_train_LR_bicubic/x4"),
        (
            "DIV2K_train_HR/{}",
            "DIV2K_train_LR_bicubic_X4/DIV2K_train_LR_bicubic/X4/{}x4",
            "",
            "DIV2K_train_LR_bicubic_X4/DIV2K_train_LR_bicubic/X4",
        ),
        ("photos/{}", "photos_LRx4/{}", "photos", "photos_LRx4"),
        ("photos/{}", "photos/LR/x4/{}", "photos", "LR/x4"),
        ("HR/{}", "quarter/{}", "", "quarter"),
    ],
)
def test_an_lr_folder_is_found_whatever_it_is_called(tmp_path: Path, hr: str, lr: str, folder: str, seen: str) -> None:
    found = check_from_files(tmp_path / "set" / folder, lay(tmp_path / "set", hr, lr))
    assert (found.lr_folder, found.remarks) == (seen, ())


def test_lr_of_other_scales_is_left_and_said(tmp_path: Path) -> None:
    expected = lay(tmp_path, "HR/{}", "LR_x2/{}", scale=2)
    expected = lay(tmp_path, "HR/{}", "LR_x3/{}", scale=3)
    check_from_files(tmp_path, expected, scale=3)
    found = layouts.survey(tmp_path, 4)
    assert {pair.origin for pair in found.pairs} == {"bicubic"}
    assert found.lr_folder == ""
    (remark,) = found.remarks
    assert "LR_x2" in remark
    assert "LR_x3" in remark


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "babyx4.png").rename(folder / "someone.png"),
        lambda folder: images.write(folder / "babyx4.png", scene(5, 17, 21)),
        lambda folder: [file.rename(folder / f"other{i}.png") for i, file in enumerate(folder.iterdir())],
    ],
)
def test_an_lr_folder_that_does_not_go_with_hr_is_said(tmp_path: Path, spoil) -> None:
    lay(tmp_path, "HR/{}", "LRBI/x4/{}x4")
    spoil(tmp_path / "LRBI" / "x4")
    found = layouts.survey(tmp_path, 4)
    assert {pair.origin for pair in found.pairs} == {"bicubic"}
    assert "LRBI/x4" in found.remarks[0]


def test_bicubic_lr_goes_before_other_lr(tmp_path: Path) -> None:
    expected = lay(tmp_path, "HR/{}", "LRBI/x4/{}x4")
    for name in NAMES:
        images.write(tmp_path / f"LRBD/x4/{name}x4.png", np.zeros_like(expected[name]))
    found = check_from_files(tmp_path, expected)
    assert "LRBD/x4" in found.remarks[0]


def test_two_lr_folders_that_fit_equally_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "HR/{}", "LRBD/x4/{}x4")
    lay(tmp_path, "HR/{}", "LRDN/x4/{}x4")
    with pytest.raises(UserError, match=r"LRBD.*LRDN") as caught:
        layouts.survey(tmp_path, 4)
    check_message(caught.value)


def test_nothing_but_hr(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        images.write(tmp_path / "HR" / f"{name}.png", scene(seed))
        images.write(tmp_path / "SR" / f"{name}.png", scene(seed))  # a result has HR's size
    found = layouts.survey(tmp_path, 4)
    assert (found.lr_folder, found.remarks) == ("", ())


# --- HR and LR in one folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("{}_SRF_4_HR", "{}_SRF_4_LR"),
        ("{}_HR", "{}_LR"),
        ("HR_{}", "LR_{}"),
        ("{}", "{}x4"),
        ("{}", "{}_LRx4"),
        ("{}_gt", "{}_lq"),
        ("gt-{}", "lq-{}"),
        ("{}_original", "{}_small"),
        ("{}x4_HR", "{}x4_LR"),
        ("{}_HR_x4", "{}_LRBI_x4"),
        ("{}.sharp", "{}.blurred.down"),
        ("set_A_{}_v1", "set_B_{}_v1"),
        ("{}_1", "{}_4"),
    ],
)
@pytest.mark.parametrize("names", [("baby", "bird", "head"), ("0001", "0002", "0010"), ("img_001",)])
def test_pairs_in_one_folder_by_any_two_marks(tmp_path: Path, hr: str, lr: str, names: tuple[str, ...]) -> None:
    folder = tmp_path / "image_SRF_4"
    found = check_from_files(folder, lay(folder, hr, lr, names=names))
    assert found.lr_folder == "."


def test_the_folder_of_a_scale_among_others(tmp_path: Path) -> None:
    for scale in (2, 4):
        folder = tmp_path / f"image_SRF_{scale}"
        expected = lay(folder, f"{{}}_SRF_{scale}_HR", f"{{}}_SRF_{scale}_LR", scale)
        check_from_files(tmp_path, expected, scale)


def test_hr_and_lr_of_another_scale_in_one_folder_are_refused(tmp_path: Path) -> None:
    lay(tmp_path / "all", "{}_HR", "{}_LR")
    for scale in (2, 3):
        with pytest.raises(UserError, match=r"HR and x4 LR together \(baby_HR.png, baby_LR.png\)") as caught:
            layouts.survey(tmp_path / "all", scale)
        check_message(caught.value)


def test_one_folder_with_a_picture_in_no_pair_is_refused(tmp_path: Path) -> None:
    lay(tmp_path / "all", "{}_HR", "{}_LR")
    images.write(tmp_path / "all" / "stray.png", scene(9))
    with pytest.raises(UserError, match=r"together .*stray.png is in no pair"):
        layouts.survey(tmp_path / "all", 4)


def test_hr_images_that_look_like_pairs_by_name_alone_are_hr(tmp_path: Path) -> None:
    """Frames of one size; two pictures, of which one happens to have a quarter of the other's sides."""
    for number in range(4):
        images.write(tmp_path / "frames" / f"frame_{number}.png", scene(number))
    images.write(tmp_path / "two" / "photo_a.png", scene(1, 64, 80))
    images.write(tmp_path / "two" / "photo_b.png", scene(2, 16, 20))
    for folder, count in (("frames", 4), ("two", 2)):
        found = layouts.survey(tmp_path / folder, 4)
        assert [pair.origin for pair in found.pairs] == ["bicubic"] * count


# --- LR folders are no HR folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hr", "lr", "given"),
    [
        ("HR/{}", "LR_bicubic/X4/{}x4", "LR_bicubic/X4"),
        ("HR/{}", "LRBI/x4/{}x4", "LRBI/x4"),
        ("HR/{}", "LR_x4/{}", "LR_x4"),
        ("HR/{}", "lq/{}", "lq"),
        ("HR/{}", "x4/{}", "x4"),
        ("HR/{}", "quarter/{}", "quarter"),
        ("large/{}", "little/{}", "little"),
        ("HR/{}_HR", "four/{}_four", "four"),
    ],
)
@pytest.mark.parametrize("scale", [2, 4])
def test_an_lr_folder_is_no_hr_folder(tmp_path: Path, hr: str, lr: str, given: str, scale: int) -> None:
    lay(tmp_path, hr, lr)
    with pytest.raises(UserError, match="is an LR folder") as caught:
        layouts.survey(tmp_path / given, scale)
    check_message(caught.value, given)


def test_folders_given_from_inside(tmp_path: Path, monkeypatch) -> None:
    expected = lay(tmp_path, "HR/{}", "LRBI/x4/{}x4")
    monkeypatch.chdir(tmp_path / "HR")
    check_from_files(Path(), expected)
    monkeypatch.chdir(tmp_path / "LRBI" / "x4")
    for given in (Path(), Path("../x4")):
        with pytest.raises(UserError, match="is an LR folder"):
            layouts.survey(given, 2)
    check_from_files(Path("../.."), expected)


def test_a_folder_beside_larger_pictures_of_no_known_name_is_said(tmp_path: Path) -> None:
    """They may be its LR or its enlargement."""
    lay(tmp_path, "photos_new/{}", "photos/{}")
    found = layouts.survey(tmp_path / "photos", 2)
    assert "photos_new" in found.remarks[0]
    assert "1/4" in found.remarks[0]


def test_a_damaged_picture_in_a_folder_beside_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    for name in NAMES:
        images.write(tmp_path / "mine" / f"{name}.png", scene(1))
        (tmp_path / "backup" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    assert layouts.survey(tmp_path / "mine", 4).remarks == ()


# --- Unicode ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize(("hr", "lr"), [("HR/{}", "LR_bicubic/X4/{}x4"), ("both/{}_HR", "both/{}_LR")])
def test_names_in_two_unicode_forms(tmp_path: Path, forms: tuple[str, str], hr: str, lr: str) -> None:
    names = ["bébé", "ångström", "画像"]
    for seed, name in enumerate(names):
        first, second = (unicodedata.normalize(form, name) for form in forms)
        images.write(tmp_path / f"{hr.format(first)}.png", scene(seed))
        images.write(tmp_path / f"{lr.format(second)}.png", noisy(scene(seed), 4))
    found = layouts.survey(tmp_path / ("both" if "both" in hr else ""), 4)
    assert [unicodedata.is_normalized("NFC", pair.name) for pair in found.pairs] == [True] * 3
    assert {pair.name.removesuffix("_HR") for pair in found.pairs} == set(names)
    assert {pair.origin for pair in found.pairs} == {"file"}


def test_one_name_in_both_forms_is_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        images.write(tmp_path / f"{unicodedata.normalize(form, 'bébé')}.png", scene(1))
    with pytest.raises(UserError, match="have one name"):
        layouts.survey(tmp_path, 4)


def test_sizes_that_fit() -> None:
    """LR x scale may fall short of HR by less than the scale."""
    for height in range(8, 30):
        for low in range(1, 12):
            assert pairs.fits((height, 16), (low, 4), 4) == (low == height // 4)


def test_an_lr_folder_known_by_its_scale_alone_is_not_taken_for_hr(tmp_path: Path) -> None:
    """`degraded_x4` beside `sharp`: the folder around them is ambiguous, and the LR folder is said to be one."""
    lay(tmp_path, "sharp/{}.png", "degraded_x4/{}.png")
    with pytest.raises(UserError, match="holds degraded_x4 and sharp: name the one that is meant"):
        layouts.survey(tmp_path, 4)
    assert layouts.survey(tmp_path / "sharp", 4).lr_folder == "degraded_x4"
    (remark,) = layouts.survey(tmp_path / "degraded_x4", 4).remarks
    assert f"has the images of {tmp_path / 'sharp'} at 1/4 of their size" in remark


def test_pictures_in_folders_inside_are_said(tmp_path: Path) -> None:
    for name in ("a.png", "more/b.png"):
        images.write(tmp_path / "set/photos" / name, scene(1))
    found = layouts.survey(tmp_path / "set/photos", 4)
    assert [pair.name for pair in found.pairs] == ["a"]
    assert found.remarks == ("pictures in folders inside photos are not read: more",)
    images.write(tmp_path / "set/more_lr/a.png", noisy(scene(1), 4))
    found = layouts.survey(tmp_path / "set/photos", 4)
    assert found.lr_folder == "more_lr"  # which begins as `more` does
    assert "pictures in folders inside photos are not read: more" in found.remarks


@pytest.mark.parametrize("name", ["b.jfif", "b", "b.png.part", "b.tga"])
def test_a_picture_of_another_suffix_is_refused_and_not_left_out(tmp_path: Path, name: str) -> None:
    images.write(tmp_path / "a.png", scene(1))
    (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=name):
        layouts.survey(tmp_path, 4)
