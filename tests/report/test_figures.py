"""Figures hold the cells' numbers, tell published from measured, and say what is missing."""

import re

import numpy as np
import pytest

from safmn import paths
from safmn.files import write_text
from safmn.report import cells, figures
from safmn.report.measured import Results
from tests.report import fabricate


def text_of(file) -> str:
    """Every word of an SVG's text elements."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text(encoding="utf-8")))


def draw(study, folder) -> dict[str, str]:
    frame = cells.collect(study, folder)
    return {file.stem: text_of(file) for file in figures.draw_all(study, folder, frame, folder / "figures")}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("measured")
    study = fabricate.study(networks=["imdn", "carn"], variants=["safmn", "ln_none", "ln_bn"])
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Set5", [30.0] * 5)
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.21] * 5)
    fabricate.run(tmp_path, study, "safmn")
    fabricate.run(tmp_path, study, "ln_none", **fabricate.collapsed(77))
    return study, tmp_path


@pytest.fixture(scope="module")
def drawn(measured) -> dict[str, str]:
    return draw(*measured)


def test_every_figure_is_drawn_twice(measured, drawn):
    folder = measured[1]
    assert set(drawn) == {"figure1", "figure7", "curves_x4"}
    for name in ("figure1", "figure7", "curves_x4"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_points_are_the_cells(measured):
    study, folder = measured
    frame = cells.collect(study, folder)
    published = {each.name: each for each in figures.points(frame, (1,), 4, "set5_psnr", "published")}
    assert set(published) == {"carn", "imdn", "safmn"}
    assert published["carn"] == figures.Point("carn", 91.0, 32.13, 1592.0)
    own = {each.name: each for each in figures.points(frame, (1, 3, 4), 4, "set5_psnr", "measured")}
    assert own["safmn"] == figures.Point("safmn", 13.55491584, 30.0, 239.52)
    # IMDN is not counted here, so its measured PSNR stands at the printed FLOPs.
    assert own["imdn"] == figures.Point("imdn", 41.0, pytest.approx(32.21), 715.0)
    assert set(own) == {"safmn", "imdn"}


def test_figure_1_tells_published_from_measured(drawn):
    words = drawn["figure1"]
    for part in ("Set5, x2", "Set5, x4", "published", "measured", "IMDN", "CARN", "not measured in this study"):
        assert part in words


def test_figure_1_takes_the_studys_own_test_set(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[-2:]"]}
    study = fabricate.study(variants=["safmn"], data=data)
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    fabricate.quality(tmp_path, "safmn", "seed0_best", "photographs", [30.0, 31.0])
    assert "photographs, x4" in draw(study, tmp_path)["figure1"]


def test_curves_overlay_the_authors_log_up_to_the_same_iteration(drawn):
    assert "authors' log (DF2K, batch 64)" in drawn["figure7"]
    assert "collapsed at 77" in drawn["figure7"]
    # The authors validated at 5,000 first; these runs end at 100.
    assert "authors' first validation is later" in drawn["curves_x4"]
    log = figures.read_curve(paths.PUBLISHED / "training_log_x4.csv")
    xs, ys = figures._column(log, "l1_loss", 300)
    assert xs == [100, 200, 300]
    assert ys[0] == 4.3399e-02
    later = figures._column(figures.read_curve(paths.PUBLISHED / "validation_log_x2.csv"), "div2k_val_psnr_rgb", 10_000)
    assert later[0] == [5000, 10_000]


def test_missing_inputs_are_said(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs"]}
    words = draw(fabricate.study(data=data), tmp_path)
    assert "No PSNR on photographs at x4 yet" in words["figure1"]
    assert "No history yet of safmn, ln_none, ln_none_low_lr" in words["figure7"]
    assert "No run has been validated yet" in words["curves_x4"]


def test_a_study_that_trains_nothing_has_no_curves(tmp_path):
    study = fabricate.study(training=None, data={"test": ["Set5"]})
    assert set(draw(study, tmp_path)) == {"figure1", "figure7"}


def test_a_damaged_history_is_none(tmp_path):
    study = fabricate.study()
    write_text(tmp_path / "training" / "safmn" / "x4_seed0" / "history.csv", "iteration,l1_loss\n1,x\n")
    assert Results(tmp_path).history(study.runs("safmn")[0]) == []


def test_the_same_input_gives_the_same_file(measured, drawn):
    study, folder = measured
    first = {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}
    draw(study, folder)
    assert {file.name: file.read_bytes() for file in (folder / "figures").iterdir()} == first


def test_smoothing_is_a_running_mean():
    values = np.random.default_rng(0).normal(size=200).tolist()  # a window of 4
    expected = [np.mean(values[max(0, place - 3) : place + 1]) for place in range(200)]
    assert figures._smooth(values) == pytest.approx(expected)
    assert figures._smooth([3.0, 5.0]) == [3.0, 5.0]
