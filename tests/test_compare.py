"""`safmn compare`: which cells differ, by how much, whether by more than their spread, and what may explain it."""

import json
import math
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from safmn.archive import comparing
from safmn.archive.comparing import MORE, ONE_SIDED, UNKNOWN, WITHIN
from safmn.cli import main
from safmn.paper.cell import Cell
from safmn.report import cells
from tests import small_study

RESULTS = "results/small"


@pytest.fixture
def both(small, tmp_path):
    """Two copies of a study's results, to be edited."""
    for name in ("a", "b"):
        shutil.copytree(small / RESULTS, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def compared(first, second):
    with comparing.side(first) as a, comparing.side(second) as b:
        differences, equal, whole = comparing.compare(a, b)
    return {difference.cell: difference for difference in differences}, equal, whole


def with_number(folder, column, change):
    own = cells.read(folder / "cells.csv")
    for cell in own:
        if cell.column == column and cell.network == "ccm_none" and cell.measured is not None:
            object.__setattr__(cell, "measured", change(cell.measured))
    cells.write(own, folder / "cells.csv")


def edited(file, change):
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_a_study_and_its_archive_are_equal(small, capsys):
    assert main(["compare", str(small / RESULTS), str(small / "whole")]) == 0
    assert "5 cells are equal, 0 differ" in capsys.readouterr().out


def test_a_count_that_differs_is_more_than_its_spread(both):
    with_number(both[1], "params", lambda value: value + 1)
    differences, equal, _ = compared(*both)
    (difference,) = differences.values()
    assert (difference.cell, difference.size) == ("Table 3, ccm_none x4, params", MORE)
    assert difference.apart == pytest.approx(1)
    assert equal == 4


def test_one_seed_each_has_no_spread(both, capsys):
    with_number(both[1], "mine_psnr", lambda value: value + 0.5)
    assert main(["compare", *map(str, both), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    (difference,) = record["different"]
    assert (difference["size"], difference["unit"]) == (UNKNOWN, "dB")
    assert difference["cause"] == ""


def test_a_number_in_one_only_says_why_the_other_has_none(both):
    own = [cell for cell in cells.read(both[1] / "cells.csv") if cell.column != "flops"]
    own += [cell.missing("lost") for cell in cells.read(both[1] / "cells.csv") if cell.column == "flops"]
    object.__setattr__(own[-1], "measured", None)
    own = [cell if cell.verdict != "missing" else Cell(*cell.place, note=cell.note) for cell in own]
    cells.write(own, both[1] / "cells.csv")
    (difference,) = compared(*both)[0].values()
    assert (difference.size, difference.second) == (ONE_SIDED, None)
    assert difference.reason == "lost"


CAUSES = {
    "specification": "specification: training.batch: 1 and 4",
    "data": "data: mine/x4: 1 image with other HR pixels decoded from the same file (b)",
    "code": "code: 1111111111 and 2222222222",
    "torch": "torch: 2.6.0 and 2.7.0",
    "cpu": "cpu: a and b",
}


@pytest.mark.parametrize("first", range(len(CAUSES)))
def test_the_first_cause_is_named_specification_data_code_versions(both, first):
    """All causes from one place on are there; the first of them is named."""
    kinds = list(CAUSES)[first:]
    for number, folder in enumerate(both):
        record = json.loads((folder / "provenance.json").read_text())
        for environment in record["environments"]:
            code, device, host = (environment[key] for key in ("code", "device", "host"))
            code["code_sha256"] = "0" * 64 if "code" not in kinds else f"{number + 1}" * 64
            code["code_commit"] = None
            device["torch"] = "2.6.0" if "torch" not in kinds or not number else "2.7.0"
            host["cpu"] = "a" if "cpu" not in kinds or not number else "b"
        for result in record["results"]:
            if result["what"] == "training" and number and "specification" in kinds:
                result["specification"] = "1" * 64
            if result["data"] and number and "data" in kinds:
                result["data"] = dict.fromkeys(result["data"], "2" * 64)
        (folder / "provenance.json").write_text(json.dumps(record))
    if "specification" in kinds:
        run = both[1] / small_study.RUN / "run.json"
        edited(run, lambda record: record["specification"]["training"].update(batch=4))
    if "data" in kinds:
        from safmn.data import manifest

        file = both[1] / "data/mine/x4/manifest.json"
        content = manifest.read(file)
        images = [
            pair.model_copy(update={"hr": pair.hr.model_copy(update={"sha256": "3" * 64})})
            if pair.name == "b"
            else pair
            for pair in content.images
        ]
        manifest.write(file, "mine", 4, images)
    with_number(both[1], "mine_psnr", lambda value: value + 1)
    (difference,) = compared(*both)[0].values()
    assert difference.cause == CAUSES[kinds[0]]


def test_a_cell_depends_on_its_own_weights_only(tmp_path):
    """A network that is trained here again lies under its own name, beside its published weights."""
    side = comparing.Side("a", tmp_path)
    trained = ["training/imdn/x4_seed0/run.json", "quality/imdn/x4/seed0_best/evaluation.json"]
    published = ["quality/imdn/x4/published/evaluation.json"]
    side.provenance = {name: {} for name in (*published, *trained)}
    again = Cell(1, "imdn_retrained", 4, "x_psnr", measured=30.0, seeds=1)
    assert comparing._records(side, side, again) == trained
    assert comparing._records(side, side, Cell(1, "imdn", 4, "x_psnr", measured=32.0)) == published
    counted = Cell(1, "imdn_retrained", 4, "params", measured=715.0)
    assert comparing._records(side, side, counted) == ["cost/complexity/imdn.json"]


def test_keys_of_the_study_and_datasets_that_differ_are_listed(both):
    edited(both[1] / "study.json", lambda study: study["training"].update(iterations=12))
    shutil.rmtree(both[1] / "data")
    whole = compared(*both)[2]
    assert whole == ["study: training.iterations: 6 and 12", f"data: mine/x4 is only in {both[0]}"]
    edited(both[0] / "study.json", lambda study: study["data"].update(root="/somewhere/else"))
    assert compared(*both)[2] == whole


def cell(column="x_psnr", **fields):
    return Cell(3, "no_fm", 4, column, **fields)


def test_the_spread_of_seeds_is_students_interval():
    """By simulation: of two means that do not differ, 95 % are within."""
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        sides = []
        for seeds in (3, 4):
            values = draw.normal(30, 0.1, seeds).tolist()
            mean, std = statistics.fmean(values), statistics.stdev(values)
            sides.append(cell(measured=mean, std=std, seeds=seeds))
        inside += comparing._size(*sides, sides[0].measured, sides[1].measured)[0] == WITHIN
    assert inside / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(
    ("a", "b", "size"),
    [
        (cell(measured=30.0), cell(measured=30.009), WITHIN),  # the same published weights
        (cell(measured=30.0), cell(measured=30.011), MORE),
        (cell("x_ssim", measured=0.9), cell("x_ssim", measured=0.9003), MORE),
        (cell(measured=30.0, seeds=1), cell(measured=30.1, seeds=1), UNKNOWN),
        (cell(measured=30.0, seeds=1), cell(measured=30.1, seeds=2, std=0.01), WITHIN),  # 12.7 deviations
        (cell(measured=30.0, seeds=1), cell(measured=31.0, seeds=2, std=0.01), MORE),
        (cell("runtime", measured=10.0, device="cpu"), cell("runtime", measured=10.2, device="cpu"), WITHIN),
        (cell("runtime", measured=10.0, device="cpu"), cell("runtime", measured=11.0, device="cpu"), MORE),
        (cell("runtime", measured=10.0, device="cpu"), cell("runtime", measured=1.0, device="cuda"), UNKNOWN),
    ],
)
def test_what_is_taken_for_equal(a, b, size):
    assert comparing._size(a, b, a.measured, b.measured)[0] == size


def test_an_infinite_psnr_is_valid_json():
    difference = comparing.Difference("x", math.inf, 30.0, "dB", -math.inf, UNKNOWN, "", "")
    assert json.loads(json.dumps(difference.record(), allow_nan=False))["first"] is None


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_mistakes_are_one_line(small, tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(small / RESULTS), str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert name in line
    assert not Path(name).exists()
