"""networks.csv: every figure of a study by network and scale, also where evaluations are older or missing."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from safmn import provenance
from safmn.paths import ROOT
from safmn.report import frames, networks, own_tables
from safmn.report.joined import Joined
from safmn.study import Study
from tests.report import fabricate


def scores(folder: Path, network: str, which: str, header: str, *lines: str) -> None:
    file = folder / "quality" / network / "x4" / which / "Set5.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *lines, ""]))


def rows(study: Study, folder: Path) -> dict[str, dict[str, str]]:
    networks.write(study, list(Joined(study, folder).networks.values()), folder / "networks.csv")
    with open(folder / "networks.csv", encoding="utf-8", newline="") as file:
        return {line["network"]: line for line in csv.DictReader(file)}


RGB = "image,psnr,ssim,psnr_rgb,ssim_rgb"


def test_all_figures_of_a_study(tmp_path):
    study = fabricate.study(seeds=[3, 4], networks=["imdn", "safmn_pp"])
    for seed, more in ((3, 0.0), (4, 1.0)):
        scores(tmp_path, "safmn", f"seed{seed}_best", RGB, f"a,{30 + more},0.8,{28 + more},0.7", "b,32.0,0.9,29.0,0.9")
    scores(tmp_path, "no_fm", "seed3_best", "image,psnr,ssim", "a,30.5,0.8", "b,31.5,0.6")  # of an earlier version
    scores(tmp_path, "safmn_pp", "published", f"{RGB},lpips", "a,33.0,0.9,31.0,0.8,0.25")
    counts = {"params": 239520, "flops": 13554809856, "activations": 76700160, "convolutions": 58, "lower_bound": False}
    place = tmp_path / "cost" / "complexity" / "safmn.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"network": "safmn", "scales": {"4": counts}}))
    found = rows(study, tmp_path)
    assert list(found) == ["safmn", "no_fm", "imdn", "safmn_pp"]
    safmn = found["safmn"]
    assert {key: safmn[key] for key in counts} == {key: str(value) for key, value in counts.items()}
    assert (safmn["weights"], safmn["seeds"], safmn["scale"], safmn["title"]) == ("trained", "3 4", "4", "SAFMN")
    assert float(safmn["set5_psnr"]) == pytest.approx((31 + 31.5) / 2)
    assert float(safmn["set5_psnr_rgb"]) == pytest.approx((28.5 + 29) / 2)
    assert float(safmn["set5_ssim_rgb"]) == pytest.approx(0.8)
    assert (found["no_fm"]["set5_ssim"], found["no_fm"]["set5_psnr_rgb"], found["no_fm"]["seeds"]) == ("0.7", "", "3")
    assert (found["safmn_pp"]["weights"], found["safmn_pp"]["set5_lpips"]) == ("published", "0.25")
    assert {value for key, value in found["imdn"].items() if key not in ("network", "title", "scale")} == {""}
    frame = networks.frame(study, tmp_path).set_index("network")
    assert frame.loc["safmn", "flops"] == 13554809856
    assert pd.isna(frame.loc["imdn", "params"])
    assert "set5_lpips" in frame


def test_a_figure_that_not_every_seed_has_is_no_mean(tmp_path):
    """Of two seeds, the older evaluation has no figures in RGB: blank, and said where a table asks for it."""
    wanted = {"rows": ["safmn", "no_fm"], "columns": ["set5_psnr", "set5_psnr_rgb", "difference_set5_psnr_rgb"]}
    study = fabricate.study(seeds=[3, 4], own_tables={"main": wanted | {"significance": "no_fm"}})
    for name in study.variants:
        scores(tmp_path, name, "seed3_best", RGB, "a,30.0,0.8,28.0,0.7", "b,32.0,0.9,29.0,0.9")
    scores(tmp_path, "no_fm", "seed4_best", RGB, "a,30.0,0.8,28.0,0.7", "b,32.0,0.9,29.0,0.9")
    scores(tmp_path, "safmn", "seed4_best", "image,psnr,ssim", "a,31.0,0.8", "b,33.0,0.9")
    found = rows(study, tmp_path)
    assert [found[name]["set5_psnr_rgb"] for name in study.variants] == ["", "28.5"]
    assert (found["safmn"]["set5_psnr"], found["safmn"]["seeds"]) == ("31.5", "3 4")
    (table,) = own_tables.build_all(Joined(study, tmp_path))
    assert [[field.text for field in row][1:] for row in table.sections[0].rows] == [
        ["31.50", "", ""],
        ["31.00", "28.50", ""],
    ]
    assert "Set5 PSNR, RGB [dB] of SAFMN is blank: not measured for 1 of 2 seeds (seed 4)." in table.facts


def test_a_test_set_that_one_seed_lacks_is_blank_and_said(tmp_path):
    """Two seeds are evaluated on Set5, one of them on B100 too."""
    data = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["Set5", "B100"]}
    wanted = {"rows": ["safmn", "no_fm"], "columns": ["set5_psnr", "b100_psnr", "difference_b100_psnr"]}
    wanted |= {"significance": "safmn"}
    study = fabricate.study(seeds=[3, 4], data=data, own_tables={"main": wanted})
    for name in study.variants:
        for seed in study.seeds:
            fabricate.trained(tmp_path, study, name, [30.0] * 5, seed)
            fabricate.quality(tmp_path, name, f"seed{seed}_best", "B100", [27.0] * 100)
    (tmp_path / "quality/no_fm/x4/seed4_best/B100.csv").unlink()
    found = rows(study, tmp_path)
    assert [found[name]["b100_psnr"] for name in study.variants] == ["27.0", ""]
    (table,) = own_tables.build_all(Joined(study, tmp_path))
    assert [[field.text for field in row][1:] for row in table.sections[0].rows] == [
        ["30.00", "27.00", ""],
        ["30.00", "", ""],  # nor a difference, whose seeds would be others than those of the number
    ]
    said = [fact for fact in table.facts if "blank" in fact]
    assert said == ["B100 PSNR [dB] of (a): w/o FM is blank: not measured for 1 of 2 seeds (seed 4)."]


def test_what_was_imported_does_not_pass_for_trained_or_timed_here(tmp_path):
    study = fabricate.study(networks=["imdn"], variants=["safmn", "no_fm"])
    for name in study.variants:
        fabricate.trained(tmp_path, study, name, [30.0] * 5)
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.0] * 5)
    fabricate.evaluation(tmp_path, "imdn", "published")
    fabricate.runtime(tmp_path, {"safmn": 12.5})
    names = ["training/no_fm/x4_seed0/run.json", "quality/imdn/x4/published/evaluation.json", "cost/runtime.json"]
    files = {name: provenance.of_file(tmp_path / name) for name in names}
    (tmp_path / "imported.json").write_text(json.dumps({"seal": "0" * 64, "files": files}))
    found = rows(study, tmp_path)
    assert [found[name]["weights"] for name in found] == ["trained", "trained, imported", "published, imported"]
    assert found["safmn"]["time_device"] == "CPU (Test CPU), imported"
    fabricate.run(tmp_path, study, "no_fm", seconds=1.0)  # trained here again
    assert rows(study, tmp_path)["no_fm"]["weights"] == "trained"


def test_memory_and_time_stand_at_their_scale(tmp_path):
    study = fabricate.study(scales=[2, 4], variants=["safmn"])
    fabricate.memory(tmp_path, {"safmn": 64.9})
    fabricate.runtime(tmp_path, {"safmn": 12.5})
    lines = {row["scale"]: row for row in networks.collect(study, networks.Results(tmp_path))}
    assert lines[4]["predicted_memory"] == round(64.9 * 2**20)
    assert "measured_memory" not in lines[4]
    assert lines[4]["time_device"] == "CPU (Test CPU)"
    assert lines[4]["time"] > 0
    assert not {"predicted_memory", "time"} & set(lines[2])


def test_a_study_of_before_is_read():
    """results/table1 is committed, and has neither convolutions nor figures in RGB."""
    folder = ROOT / "results" / "table1"
    if not (folder / "study.json").exists():
        pytest.skip("results/table1 is not here")
    study = Study.load(folder / "study.json")
    frame = networks.frame(study, folder)
    imdn = frame[(frame.network == "imdn") & (frame.scale == 4)].iloc[0]
    cells = pd.read_csv(folder / "cells.csv")
    cell = cells[(cells.row == "imdn") & (cells.scale == 4) & (cells.table == 1)].set_index("column").measured
    assert imdn.set5_psnr == pytest.approx(cell.set5_psnr)
    assert imdn.params == pytest.approx(1000 * cell.params)
    assert frame.set5_psnr_rgb.isna().all()
    # As data frames, from the study's file alone.
    pd.testing.assert_frame_equal(frames.networks(folder / "study.json"), frame)
    shown = frames.cells(folder / "study.json")
    assert list(shown) == list(pd.read_csv(folder / "cells.csv"))
    assert list(shown.verdict) == list(pd.read_csv(folder / "cells.csv").verdict)
    table = frames.table(folder / "study.json", 1).set_index(["row", "scale"])
    assert table.loc[("imdn", 4), "set5_psnr measured"] == pytest.approx(cell.set5_psnr)
