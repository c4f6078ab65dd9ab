"""The ablation compared: at which scale, over which images and seeds, and in which order the rows stand."""

from pathlib import Path

import numpy as np
import pytest

from safmn.paper import verdicts
from safmn.paper.cell import Cell
from safmn.report import ablation, tables
from safmn.report.joined import Joined
from tests.report import fabricate
from tests.report.test_tables import build, entry, section

HARD = np.random.default_rng(0).normal(28, 3, 100)  # B100, where a bootstrap over images can be trusted


def on_b100(**changes):
    data = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["B100"]}
    return fabricate.study(**{"data": data} | changes)


def trained(folder: Path, study, network: str, values, seed: int = 0, scale: int = 4) -> None:
    fabricate.trained(folder, study, network, list(values), seed, scale, "B100")


# --- What is compared ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "symbols"), [(1, "△▽"), (3, "▲▼")])
def test_one_seed_decides_for_its_weights_only(tmp_path, seeds, symbols):
    """The same differences on 100 images: one seed each is shown by another mark than several."""
    scatter = np.random.default_rng(1).normal(0, 0.01, 100)
    for shift, symbol in zip((0.5, -0.5), symbols, strict=True):
        folder = tmp_path / symbol
        study = on_b100(seeds=list(range(seeds)))
        for seed in range(seeds):
            trained(folder, study, "safmn", HARD + seed / 1000, seed)
            trained(folder, study, "no_fm", HARD + shift + scatter + seed / 1000, seed)
        table = build(study, folder)[3]
        found = entry(section(table, "Difference"), "(a): w/o FM", "B100 [dB]", "measured")
        assert found.symbol == symbol
        assert ("one seed each" in dict(table.legend)[symbol]) == (seeds == 1)


def test_the_ablation_is_compared_at_x4_whatever_stands_first(tmp_path):
    study = on_b100(scales=[2, 3, 4])
    for scale, gap in ((2, 5.0), (3, 3.0), (4, -1.0)):
        for network, values in (("safmn", HARD), ("no_fm", HARD + gap)):
            trained(tmp_path, study, network, values, scale=scale)
    assert ablation.scale_of(study) == 4
    (found,) = Joined(study, tmp_path).comparisons[3]
    assert found.differences["no_fm"].value == pytest.approx(-1.0)
    assert (
        entry(section(build(study, tmp_path)[3], "Difference"), "(a): w/o FM", "B100 [dB]", "measured").text == "-1.000"
    )


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_an_image_that_a_seed_lacks_is_left_out_of_all(tmp_path, lacking):
    """Whichever seed lacks it, its place in the order must not matter."""
    study = on_b100(seeds=[0, 1, 2], variants=["safmn", "no_fm", "no_mr"])
    for number, network in enumerate(study.variants):
        for seed in (0, 1, 2):
            values = HARD[:30] - number / 10
            trained(tmp_path, study, network, values[:29] if seed == lacking and network == "no_fm" else values, seed)
    (found,) = Joined(study, tmp_path).comparisons[3]
    assert found.differences["no_fm"].images.n == 29
    assert found.differences["no_fm"].value == pytest.approx(-0.1)
    assert found.differences["no_mr"].images.n == 30
    assert found.agreement.n == 3


# --- Where rows stand ------------------------------------------------------------------------------------------------


def test_own_variants_stand_behind_the_row_that_they_name(tmp_path, monkeypatch):
    """Names that come first by letters, in every form of the table."""
    folder = tmp_path / "ablations"
    beside = {"a_first": "no_fm", "b_second": "no_fm", "a_norm": "ln_bn", "zz_last": "safmn"}
    files = {name: f"title: {name}\ndescription: x\nbeside: {other}\n" for name, other in beside.items()}
    fabricate.own_variants(folder, **files)
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    study = fabricate.study(variants="all")
    found = Joined(study, tmp_path).cells
    rows = list(dict.fromkeys(each.network for each in found if each.table == 3))
    for own, beside in (
        (["a_first", "b_second"], "no_fm"),
        (["a_norm", "ln_bn_reference_ema"], "ln_bn"),
        (["zz_last"], "safmn"),
    ):
        place = rows.index(beside)
        assert rows[place + 1 : place + 1 + len(own)] == own
    table = tables.build(Joined(study, tmp_path), 3)
    shown = [[each.text for each in row if each.header] for row in table.sections[0].rows]
    place = shown.index(["SAFM", "(a): w/o FM"])
    assert shown[place + 1 : place + 3] == [["SAFM", "a_first"], ["SAFM", "b_second"]]
    assert [line["row"] for line in table.flat] == rows


# --- What departs from the paper -------------------------------------------------------------------------------------

PAPER = fabricate.paper().content["training"]
CHANGED = {
    "iterations": 400_000,
    "batch": 32,
    "patch": 48,
    "small_images": "skip",
    "draw": "area",
    "learning_rate": 2e-3,
    "minimum_learning_rate": 1e-6,
    "betas": [0.9, 0.999],
    "fft_weight": 0.1,
    "ema": 0.99,
    "ema_buffers": "frozen",
    "precision": "float32",
    "validate_every": 1000,
}
"""Every key of `training` with another value, but for `threads`, which changes the order of sums alone."""


def test_every_key_is_changed():
    assert CHANGED.keys() == PAPER.keys() - {"threads"}
    assert not [key for key, value in CHANGED.items() if PAPER[key] == value]


IMAGES = {"train": ["T91"], "validation": ["T91"]}


def judged(folder: Path, study, last: dict | None = None) -> Cell:
    """Manga109 of the baseline, trained with two seeds to the published number, the last run as `last` specifies."""
    for run in study.runs("safmn"):
        specification = study.specification(run)
        specification |= (last or {}) if run.seed else {}
        changes = {"seed": run.seed, "dataset": "Manga109", "specification": specification}
        fabricate.trained(folder, study, "safmn", [30.43] * 109, **changes)
    return fabricate.cell(study, folder, "safmn", "manga109_psnr")


def test_a_run_without_a_record_is_not_comparable(tmp_path):
    study = fabricate.paper(seeds=[0, 1])
    assert judged(tmp_path, study).verdict == verdicts.REPRODUCED
    (tmp_path / "training/safmn/x4_seed1/run.json").unlink()
    found = fabricate.cell(study, tmp_path, "safmn", "manga109_psnr")
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "no record says how seed 1 was trained" in found.note


@pytest.mark.parametrize("departs", ["study", "run"])
@pytest.mark.parametrize("key", [*CHANGED, *IMAGES])
def test_a_study_that_departs_from_the_paper_or_a_run_from_its_study_in_any_key_is_not_comparable(
    tmp_path, key, departs
):
    training = {"training": PAPER | {key: CHANGED[key]}} if key in CHANGED else {}
    if departs == "study":
        data = {"data": fabricate.paper().content["data"] | {key: IMAGES[key]}} if key in IMAGES else {}
        found = judged(tmp_path, fabricate.paper(seeds=[0, 1], **training, **data))
    else:
        found = judged(tmp_path, fabricate.paper(seeds=[0, 1]), training or {key: IMAGES[key]})
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert ("this run " in found.note) == (departs == "run")
    assert (key.replace("_", " ") if key in CHANGED else "on T91") in found.note
