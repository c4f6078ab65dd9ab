"""What a study must download: what is neither at hand nor its user's own."""

from pathlib import Path

import pytest

from safmn.data import catalogue, supply
from safmn.errors import UserError
from safmn.study import Study
from tests.workflow.conftest import ROOT

STORES = [
    ("Set5", 2),
    ("Set5", 4),
    ("B100", 4),
    ("DIV2K", 4),
    ("photographs", 4),
    ("T91", 4),
    ("Manga109", 4),
    ("my", 4),
]


def there(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_what_can_be_downloaded_and_is_nowhere(tmp_path):
    found = supply.to_fetch(STORES, None, {}, tmp_path / "data")
    assert found == {"benchmark": {"Set5": [2, 4], "B100": [4]}, "DIV2K": {"DIV2K": [4]}}
    assert supply.to_fetch(STORES, None, {"Set5": "somewhere"}, tmp_path / "data")["benchmark"] == {"B100": [4]}


def test_nothing_without_a_folder_for_it(tmp_path):
    assert supply.to_fetch(STORES, tmp_path / "not/there", {}, None) == {}
    for name in ("mini", "t291", "table1"):
        study = Study.load(ROOT / f"config/{name}.yaml")
        assert (study.to_fetch(), study.weights_to_fetch()) == ({}, {})


def test_what_lies_under_the_root_is_used_in_place(tmp_path):
    root = there(tmp_path / "root", "benchmark/Set5/HR/baby.png", "DIV2K/DIV2K_train_HR/0001.png")
    assert supply.to_fetch(STORES, root, {}, tmp_path / "data") == {"benchmark": {"B100": [4]}}


def test_a_folder_of_downloads_that_is_the_root_is_completed(tmp_path):
    root = there(tmp_path / "root", "benchmark/Set5/HR/baby.png")
    assert supply.to_fetch(STORES, root, {}, root)["benchmark"] == {"Set5": [2, 4], "B100": [4]}


@pytest.mark.parametrize(
    ("files", "train", "validation"),
    [
        (["DIV2K/DIV2K_train_HR/0001.png"], True, False),
        (["DIV2K/DIV2K_train_HR/0001.png", "DIV2K/DIV2K_train_HR/0801.png"], True, True),  # EDSR's layout
        (["DIV2K/DIV2K_valid_HR/0801.png"], False, True),
        (["DIV2K/HR/0850.png"], False, True),
        (["DIV2K/DIV2K_train_HR/readme.txt"], False, False),
        ([], False, False),
    ],
)
def test_the_two_parts_of_div2k_are_told_apart(tmp_path, files, train, validation):
    there(tmp_path, *files)
    assert (supply.is_in("DIV2K", tmp_path), supply.is_in("DIV2K_val", tmp_path)) == (train, validation)


def test_a_slip_of_the_pen_downloads_nothing(tmp_path):
    with pytest.raises(UserError, match="rooot is said to hold datasets, but is no folder"):
        supply.to_fetch(STORES, tmp_path / "rooot", {}, tmp_path / "data")
    content = Study.load(ROOT / "config/paper.yaml").content
    study = Study.from_content(content | {"data": content["data"] | {"root": str(tmp_path / "rooot")}}, "my.yaml")
    with pytest.raises(UserError, match=r"my\.yaml: .*correct data\.root or leave it out"):
        study.to_fetch()


def test_datasets_that_share_an_archive_share_a_source():
    for name in catalogue.downloadable():
        sharing = {other for archive in catalogue.ARCHIVES if name in archive.holds for other in archive.holds}
        for other in sharing:
            assert catalogue.source_of(other) == catalogue.source_of(name)
    assert {catalogue.source_of(name) for name in catalogue.downloadable()} == {
        "benchmark",
        "DIV2K",
        "DIV2K_val",
        "Flickr2K",
    }


@pytest.mark.parametrize("folder", ["", " ", "a{b}", "a\nb"])
def test_folders_that_snakemake_would_misread_are_refused(tmp_path, folder):
    study = Study.load(ROOT / "config/paper.yaml").content
    for section in ("data", "weights"):
        with pytest.raises(UserError, match=f"{section}.download"):
            Study.from_content(study | {section: study[section] | {"download": folder}}, "x.yaml")
