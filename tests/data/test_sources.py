"""Datasets by name: where they are looked for, what a selection means, what is said where nothing is found."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from safmn.data import images, sources
from safmn.errors import UserError
from safmn.paths import ROOT

from .pictures import check_message, picture


def touch(folder: Path, names: list[str]) -> None:
    for name in names:
        images.write(folder / f"{name}.png", picture(8, 8))


def test_photographs_are_inside_installed_packages():
    files = sources.photographs()
    expected = {name for _, _, names in sources.PHOTOGRAPHS.values() for name in names}
    assert {file.name for file in files} == expected
    for file in files:
        assert "site-packages" in file.parts or "dist-packages" in file.parts
        assert min(images.size(file)) >= 300  # room for 64 x 64 LR patches at x4
    found = sources.select("photographs", 4).pairs
    assert [pair.name for pair in found] == sorted(Path(name).stem for name in expected)
    assert {pair.origin for pair in found} == {"bicubic"}


def test_the_newcomers_study_keeps_its_parts_apart():
    data = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())["data"]
    parts = {
        use: {pair.name for text in data[use] for pair in sources.select(text, 4).pairs}
        for use in ("train", "validation", "test")
    }
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    one_scene = {"motorcycle_left", "motorcycle_right"}
    assert all(len(part & one_scene) in (0, 2) for part in parts.values())


def test_photographs_are_listed_in_the_wheels():
    """Not among the files that scikit-image fetches: they are part of the distribution as recorded at installation."""
    from importlib.metadata import files

    for distribution, (package, folder, names) in sources.PHOTOGRAPHS.items():
        recorded = {str(file) for file in files(distribution) or []}
        assert {f"{package}/{folder}/{name}" for name in names} <= recorded


def test_locating_photographs_imports_neither_package():
    code = "import sys; from safmn.data import sources; sources.photographs(); print('skimage' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100", "T91", "BSDS200"])
def test_known_datasets_are_found_and_complete(datasets, name):
    assert len(sources.select(name, 4, datasets).pairs) == sources.DATASETS[name].images


def test_slices_are_of_the_sorted_names(datasets):
    every = [pair.name for pair in sources.select("Set5", 4, datasets).pairs]
    assert every == ["baby", "bird", "butterfly", "head", "woman"]
    for text in ("[1:]", "[:2]", "[-2:]", "[::2]", "[ 1 : -1 ]"):
        expected = eval(f"every{text}")
        assert [pair.name for pair in sources.select(f"Set5{text}", 4, datasets).pairs] == expected


@pytest.mark.parametrize("folder", ["Set5", "benchmark/Set5"])
def test_usual_places(tmp_path, folder):
    touch(tmp_path / folder / "HR", ["a"])
    assert sources.locate("Set5", tmp_path) == tmp_path / folder


@pytest.mark.parametrize("train", ["DIV2K/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/HR", "DIV2K"])
def test_div2k_in_one_folder_keeps_training_and_validation_apart(tmp_path, train):
    touch(tmp_path / train, ["0001", "0800", "0801", "0900"])
    assert [pair.name for pair in sources.select("DIV2K", 4, tmp_path).pairs] == ["0001", "0800"]
    if train != "DIV2K":
        assert [pair.name for pair in sources.select("DIV2K_val", 4, tmp_path).pairs] == ["0801", "0900"]


def test_div2k_in_two_folders(tmp_path):
    touch(tmp_path / "DIV2K/DIV2K_train_HR", ["0001"])
    with pytest.raises(UserError, match="0801-0900"):
        sources.select("DIV2K_val", 4, tmp_path)
    touch(tmp_path / "DIV2K/DIV2K_valid_HR", ["0801"])
    touch(tmp_path / "DIV2K/DIV2K_valid_LR_bicubic/X4", [])
    assert [pair.name for pair in sources.select("DIV2K", 4, tmp_path).pairs] == ["0001"]
    assert [pair.name for pair in sources.select("DIV2K_val", 4, tmp_path).pairs] == ["0801"]


def test_folders_come_first_and_own_datasets_need_no_registration(tmp_path):
    touch(tmp_path / "elsewhere", ["z"])
    touch(tmp_path / "root" / "holiday_2024", ["x", "y"])
    folders = {"Set5": str(tmp_path / "elsewhere"), "mine": str(tmp_path / "elsewhere")}
    for name in folders:
        assert [pair.name for pair in sources.select(name, 4, tmp_path / "root", folders).pairs] == ["z"]
    assert [pair.name for pair in sources.select("holiday_2024[1:]", 4, tmp_path / "root").pairs] == ["y"]


@pytest.mark.parametrize(
    ("text", "root", "folders", "match"),
    [
        ("Set5", None, None, "Set5 needs a data_root.*benchmark.tar"),
        ("Set5", "", None, "looked for Set5, benchmark/Set5.*benchmark.tar"),
        ("Manga109", "", None, "academic"),
        ("DIV2K", "", None, "DIV2K_train_HR.zip"),
        ("Sett5", "", None, "Sett5 is unknown.*Set5"),
        ("Sett5", None, None, "data_root.*Set14"),
        ("Set5", "", {"Set5": "/no/where"}, "/no/where.*folders"),
        ("photographs[99:]", None, None, r"photographs\[99:\] selects none of the 8"),
    ],
)
def test_what_cannot_be_found_says_where_to_get_it(tmp_path, text, root, folders, match):
    with pytest.raises(UserError, match=match) as caught:
        sources.select(text, 4, None if root is None else tmp_path / root, folders)
    check_message(caught.value)


limits = st.none() | st.integers(-999, 999)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+ -]{0,9}[A-Za-z0-9]", fullmatch=True),
    limits,
    limits,
    st.none() | st.integers(1, 99),
)
def test_written_slices_are_parsed_back(name, start, stop, step):
    def show(limit):
        return "" if limit is None else str(limit)

    text = f"{name}[{show(start)}:{show(stop)}{'' if step is None else f':{step}'}]"
    assert sources.parse_selection(text) == (name, slice(start, stop, step))
    assert sources.parse_selection(name) == (name, slice(None))


@given(st.text(max_size=30) | st.from_regex(r"\A[A-Za-z]{1,4}\[[-0-9:. ]{0,12}\]?\Z"))
def test_any_other_text_is_refused(text):
    try:
        name, part = sources.parse_selection(text)
    except UserError as error:
        check_message(error, "not a selection")
    else:
        assert "/" not in name
        assert name.isascii()
        assert not name.startswith((".", "-", " "))
        assert not name.endswith(" ")
        list(range(10))[part]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a[3]",
        "a[]",
        "a[1:2:0]",
        "a[::-1]",
        "a[1:2",
        "a]",
        "../a",
        "a/b",
        "a ",
        " a",
        "a [1:]",
        "a[1:x]",
        "a\n",
        "a[:][:]",
    ],
)
def test_near_misses_are_refused(text):
    with pytest.raises(UserError, match="not a selection"):
        sources.parse_selection(text)
