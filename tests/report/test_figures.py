"""Figures hold the cells' numbers, tell published from measured, and say what is missing."""

import math
import re
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy import stats

from safmn import __version__, paths
from safmn.files import write_text
from safmn.inspection import record
from safmn.paper import NUMBERS
from safmn.report import figures, inspected
from safmn.report.figures import canvas, curves, figure1, figure2, figure6, order
from safmn.report.joined import Joined
from safmn.report.measured import Results, read_curve
from safmn.study import Study
from tests.report import fabricate


def text_of(file) -> str:
    """Every word of an SVG's text elements."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text(encoding="utf-8")))


def draw(study, folder) -> dict[str, str]:
    return {file.stem: text_of(file) for file in figures.draw_all(Joined(study, folder))}


B100 = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["B100"]}


def draw_files(study, folder):
    draw(study, folder)
    return folder / "figures"


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


@pytest.mark.parametrize("name", ["t291-cpu", "table1"])
def test_names_in_figure_1_do_not_overlap(name):
    """Of the committed studies: a dozen networks within half a dB, and a crowd of variants around the baseline."""
    folder = paths.ROOT / "results" / name
    study = Study.load(folder / "study.json")
    with canvas.style():
        figure = figure1.draw(Joined(study, folder))
        figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines to the points
        assert len(boxes) > 10
        assert not [pair for pair in combinations(boxes, 2) if pair[0].shrunk(0.95, 0.75).overlaps(pair[1])]


@pytest.fixture(scope="module")
def drawn(measured) -> dict[str, str]:
    return draw(*measured)


def test_every_figure_is_drawn_twice(measured, drawn):
    folder = measured[1]
    assert set(drawn) == {"figure1", "figure2", "figure5", "figure6", "figure7", "differences", "order", "curves_x4"}
    for name in drawn:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_points_are_the_cells(measured):
    study, folder = measured
    frame = Joined(study, folder).cells
    published = figure1.points(frame, (1,), 4, "set5_psnr", "published").set_index("name")
    assert set(published.index) == {"carn", "imdn", "safmn"}
    assert published.loc["carn"].to_dict() == {"flops": 91.0, "psnr": 32.13, "params": 1592.0}
    own = figure1.points(frame, (1, 3, 4), 4, "set5_psnr", "measured").set_index("name")
    assert own.loc["safmn"].to_dict() == {"flops": 13.55491584, "psnr": 30.0, "params": 239.52}
    # IMDN is not counted here, so its measured PSNR stands at the printed FLOPs.
    assert own.loc["imdn"].to_dict() == {"flops": 41.0, "psnr": pytest.approx(32.21), "params": 715.0}
    assert set(own.index) == {"safmn", "imdn"}


def test_figure_1_tells_published_from_measured(drawn):
    words = drawn["figure1"]
    for part in ("Set5, x4", "published", "measured", "IMDN", "CARN", "Pareto front, measured", "1,000 K parameters"):
        assert part in words
    assert "x2" not in words  # nothing is measured there


@pytest.mark.parametrize(("most", "named"), [(60, True), (3, False)])
def test_figure_1_names_own_variants_while_they_are_few(tmp_path, monkeypatch, most, named):
    """Of half the baseline's FLOPs, so that they do not crowd around it."""
    monkeypatch.setattr(figure1, "MAX_NAMED", most)
    names = ["safmn", "ccm_none", "channel_mlp", "blocks_4"]
    study = fabricate.study(variants=names)
    for place, name in enumerate(names):
        fabricate.complexity(tmp_path, name, 240_000, 13_000_000_000 // (1 + place), 76_700_160)
        fabricate.quality(tmp_path, name, "seed0_best", "Set5", [30.0 - place] * 5)
    words = draw(study, tmp_path)["figure1"]
    assert [name in words for name in names[1:]] == [named] * 3
    assert "safmn" in words or "SAFMN" in words


def test_figure_1_takes_the_studys_own_test_set(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[-2:]"]}
    study = fabricate.study(variants=["safmn"], data=data)
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    fabricate.quality(tmp_path, "safmn", "seed0_best", "photographs", [30.0, 31.0])
    assert "photographs, x4" in draw(study, tmp_path)["figure1"]


def test_curves_overlay_the_authors_log_up_to_the_same_iteration(drawn):
    assert "authors (DF2K, batch 64)" in drawn["figure7"]
    assert "collapsed at 77" in drawn["figure7"]
    # The authors validated at 5,000 first; these runs end at 100.
    assert "authors' first validation is later" in drawn["curves_x4"]
    log = read_curve(NUMBERS / "training_log_x4.csv", "l1_loss").loc[:300]
    assert list(log.index) == [100, 200, 300]
    assert log.iloc[0] == 4.3399e-02


def test_missing_inputs_are_said(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs"]}
    words = draw(fabricate.study(data=data), tmp_path)
    assert "No PSNR on photographs yet" in words["figure1"]
    assert "No history yet of safmn, ln_none, ln_none_low_lr" in words["figure7"]
    assert "No run has been validated yet" in words["curves_x4"]


def test_a_study_that_trains_nothing_has_no_curves(tmp_path):
    study = fabricate.study(training=None, data={"test": ["Set5"]})
    assert set(draw(study, tmp_path)) == {"figure1", "figure2", "figure5", "figure6", "figure7"}
    assert not (tmp_path / "figures" / "differences.csv").exists()


def test_a_damaged_history_is_none(tmp_path):
    study = fabricate.study()
    write_text(tmp_path / "training" / "safmn" / "x4_seed0" / "history.csv", "iteration,l1_loss\n1,x\n")
    assert Results(tmp_path).curve(study.runs("safmn")[0], "l1_loss").empty


def test_the_same_input_gives_the_same_file(measured, drawn):
    study, folder = measured
    first = {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}
    draw(study, folder)
    assert {file.name: file.read_bytes() for file in (folder / "figures").iterdir()} == first


def test_smoothing_is_a_running_mean():
    values = np.random.default_rng(0).normal(size=200)  # a window of 4
    expected = [np.mean(values[max(0, place - 3) : place + 1]) for place in range(200)]
    assert list(curves.smooth(pd.Series(values))) == pytest.approx(expected)
    assert list(curves.smooth(pd.Series([3.0, 5.0]))) == [3.0, 5.0]


# --- Differences and order -------------------------------------------------------------------------------------------


def test_differences_are_those_of_the_statistics_and_the_papers(tmp_path):
    study = fabricate.study(variants=["safmn", "ccm_none", "no_fm"], data=B100)
    hard, noise = (np.random.default_rng(seed).normal(0, scatter, 100) for seed, scatter in ((0, 3), (1, 0.01)))
    for name, gap in (("safmn", 28.0), ("ccm_none", 27.0), ("no_fm", 28.1)):
        fabricate.trained(tmp_path, study, name, list(hard + noise * (name != "safmn") + gap), dataset="B100")
    words = draw(study, tmp_path)["differences"]
    for part in ("CCM → None", "ccm_none", "opposite direction", "same direction as in the paper", "paper, Manga109"):
        assert part in words
    header, *rows = figures.numbers(tmp_path / "figures" / "differences.svg")
    found = dict(zip(header, rows[0], strict=True))
    assert (found["name"], found["test set"], found["paper [dB]"]) == ("ccm_none", "B100", "-1.94")
    assert float(found["low"]) < float(found["difference [dB]"]) < float(found["high"])


def test_tau_over_iterations_is_kendalls(tmp_path):
    """Against scipy's, at each iteration, with the last order and with the paper's."""
    names = ["safmn", "safm_none", "ccm_none", "no_fm", "no_mr", "blocks_4", "blocks_12"]
    study = fabricate.study(variants=names, data=B100)
    values = np.random.default_rng(5).normal(27, 1, (len(study.variants), 4))
    for name, own in zip(study.variants, values, strict=True):
        fabricate.run(tmp_path, study, name)
        lines = [f"{step},{value!r}" for step, value in zip((10, 20, 30, 40), own.tolist(), strict=True)]
        history = tmp_path / "training" / name / "x4_seed0" / "history.csv"
        write_text(history, "\n".join(["iteration,validation_psnr_rgb", *lines]) + "\n")
    tau = order.taus(order.validations(study, Results(tmp_path)))
    manga109 = {"safmn": 30.43, "safm_none": 30.09, "ccm_none": 28.49, "no_fm": 30.32, "no_mr": 30.30}
    manga109 |= {"blocks_4": 29.86, "blocks_12": 30.71}
    printed = [manga109[name] for name in study.variants]
    for place, step in enumerate((10, 20, 30, 40)):
        assert tau[order.FINAL][step] == pytest.approx(stats.kendalltau(values[:, 3], values[:, place]).statistic)
        assert tau[order.PAPER][step] == pytest.approx(stats.kendalltau(printed, values[:, place]).statistic)
    header, *rows = figures.numbers(draw_files(study, tmp_path) / "order.svg")
    assert [float(row[header.index("Kendall's tau")]) for row in rows[:4]] == pytest.approx(list(tau[order.FINAL]))


def test_one_variant_that_trains_longer_does_not_take_the_others_out(tmp_path, monkeypatch):
    (tmp_path / "ablations").mkdir()
    (tmp_path / paths.MADE_WITH).write_text(__version__)
    text = "title: M\ndescription: x\ntraining: {iterations: 200}\n"
    write_text(tmp_path / "ablations" / "longer.yaml", text)
    monkeypatch.setenv("SAFMN_PROJECT", str(tmp_path))
    names = ["safmn", "no_fm", "no_mr"]
    study = fabricate.study(variants=[*names, "longer"])
    for name in study.variants:
        fabricate.run(tmp_path, study, name)
        steps = (50, 100, 150, 200) if name == "longer" else (50, 100)
        lines = [f"{step},{27 + step / 100}" for step in steps]
        history = tmp_path / "training" / name / "x4_seed0" / "history.csv"
        write_text(history, "\n".join(["iteration,validation_psnr_rgb", *lines]) + "\n")
    frame = order.validations(study, Results(tmp_path))
    assert (list(frame.columns), list(frame.index)) == (names, [50, 100])


@pytest.mark.parametrize(
    ("taus", "start"),
    [([0.2, 0.95, 0.8, 0.92, 1.0], 40), ([0.95, 0.9, 1.0, 1.0, 1.0], 10), ([0.1, 0.2, 0.3, 0.4, 1.0], 50)],
)
def test_the_order_is_stable_from_where_it_stays(taus, start):
    assert order.stable_from(pd.DataFrame({order.FINAL: taus}, index=[10, 20, 30, 40, 50])) == start


def test_names_at_line_ends_do_not_overlap():
    rng = np.random.default_rng(7)
    for count in range(1, 9):
        wanted, heights = rng.uniform(0, 1, count), rng.uniform(0.03, 0.11, count)
        places = canvas.spread(list(wanted), list(heights))
        assert list(np.argsort(places)) == list(np.argsort(wanted))
        by_height = sorted(zip(places, heights, strict=True))
        for (below, low), (above, high) in pairwise(by_height):
            assert above - below >= (low + high) / 2 - 1e-9
        assert by_height[0][0] >= by_height[0][1] / 2 - 1e-9
        assert by_height[-1][0] <= 1 - by_height[-1][1] / 2 + 1e-9


@pytest.mark.parametrize("count", [2, 4, 5, 9, 26])
@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.5, 2.2])
def test_figure_6_leaves_little_empty(aspect, count):
    block = figure6.Block.fitting(aspect, count)
    places = block.places
    assert len(places) == 1 + count
    for left, top, width, height in places:
        assert -1e-9 <= left <= left + width <= figure6.WIDTH + 1e-9
        assert top + height <= block.height + 1e-9
    boxes = list(combinations(places, 2))
    assert (
        not [  # none covers another
            1
            for (a, b, w, h), (c, d, v, g) in boxes
            if min(a + w, c + v) - max(a, c) > 1e-9 and min(b + h, d + g) - max(b, d) > 1e-9
        ]
    )
    titles = figure6.TITLE * sum(width for _, _, width, _ in places)
    assert sum(width * height for _, _, width, height in places) + titles > 0.75 * figure6.WIDTH * block.height


# --- Figures 2, 5 and 6 ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """Bicubic and SAFMN are inspected; IMDN's weights are not there, no_fm is not trained, ln_bn failed."""
    tmp_path = tmp_path_factory.mktemp("looked")
    study = fabricate.study(networks=["imdn"], variants=["safmn", "no_fm", "ln_bn"])
    fabricate.inspection(tmp_path, "bicubic", "published", 1.25, 30.0, features=False)
    fabricate.inspection(tmp_path, "safmn", "seed0_best", 12.5, 31.5)
    write_text(tmp_path / "logs" / "inspect" / "ln_bn_x4_seed0_best.log", "safmn inspect: no room left\n")
    return study, tmp_path, draw(study, tmp_path)


@pytest.mark.parametrize(
    ("figure", "pictures", "parts"),
    [
        (
            "figure2",
            1 + 2 + 1,  # LR, two maps, the scale
            (
                *("Bicubic", "DI 1.25", "SAFMN", "DI 12.50", "LR x4: butterfly"),
                "Without IMDN: no weights available: `safmn fetch NAME --scale 4 --to DIR`",
                "Without (a): w/o FM: not trained yet: `snakemake train_NAME`",
                "Without LN → BN: failed: no room left",
            ),
        ),
        ("figure5", 7, (*(f"({panel})" for panel in "abcdefg"), "SAFMN, SAFM 8 of 8")),
        (
            "figure6",
            1 + 3,  # the whole image, HR and two networks
            ("HR", "Bicubic", "30.00 (29.00)", "SAFMN", "31.50 (30.50)", "Set5/butterfly, x4", "of the crop alone"),
        ),
    ],
)
def test_figures_2_5_and_6_show_what_was_inspected_and_say_what_is_missing(looked, figure, pictures, parts):
    for part in parts:
        assert part in looked[2][figure]
    assert (looked[1] / "figures" / f"{figure}.svg").read_text(encoding="utf-8").count("<image") == pictures


def test_figure_2_draws_the_maps_pixels(looked):
    """Relative to the largest, absolute: what is drawn is the array that was computed."""
    inspections = inspected.collect(looked[0], Results(looked[1]))
    shown = figure2.relative(inspections.available[1])
    assert shown.max() == 1
    contributions = np.abs(inspections.available[1].arrays["attribution"])
    np.testing.assert_allclose(shown, contributions / contributions.max(), rtol=1e-6)


def test_figure_5_without_multi_scale_features_says_so(tmp_path):
    study = fabricate.study(variants=["no_mr"])
    fabricate.inspection(tmp_path, "no_mr", "seed0_best", 1.0, 30.0, panels="bfg")
    assert draw(study, tmp_path)["figure5"].count("not in this variant") == 3


@pytest.mark.parametrize(("height", "width"), [(656, 528), (1356, 2040), (700, 320), (512, 512), (321, 321), (40, 60)])
def test_the_frame_in_figure_6_knows_how_much_smaller_the_whole_image_is(height, width):
    """Sizes that no block divides included, such as Set14's ppt3 and DIV2K's."""
    hr = np.zeros((height, width, 3), np.uint8)
    overview = record.smaller(hr, record.OVERVIEW)
    factor = figure6.reduced_by(overview, height, width)
    assert factor == math.ceil(max(height, width) / record.OVERVIEW)
    assert overview.shape[:2] == (height // factor, width // factor)


def test_the_numbers_of_the_figures_are_beside_them(looked):
    header, *rows = figures.numbers(looked[1] / "figures" / "figure2.svg")
    assert [row[header.index("Network")] for row in rows] == ["bicubic", "safmn"]
    assert [float(row[header.index("Diffusion index")]) for row in rows] == [1.25, 12.5]
    header, *rows = figures.numbers(looked[1] / "figures" / "figure6.svg")
    assert [float(row[header.index("PSNR of the image [dB]")]) for row in rows] == [30.0, 31.5]


def test_without_weights_and_tests_the_figures_say_why(tmp_path):
    words = draw(fabricate.study(networks=["imdn"], variants=["safmn"]), tmp_path)
    for name in ("figure2", "figure5", "figure6"):
        assert "Without Bicubic: not inspected yet" in words[name]
        assert "not trained yet" in words[name]
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": []}
    words = draw(fabricate.study(data=data, variants=["safmn"]), tmp_path)
    for name in ("figure2", "figure5", "figure6"):
        assert "no test images" in words[name]


def test_what_was_looked_at_elsewhere_is_not_compared(tmp_path):
    study = fabricate.study(variants=["safmn"])
    fabricate.inspection(tmp_path, "bicubic", "published", 1.25, 30.0, features=False)
    fabricate.inspection(tmp_path, "safmn", "seed0_best", 12.5, 31.5, image="bird")
    words = draw(study, tmp_path)
    for name in ("figure2", "figure6"):
        assert "Without SAFMN: inspected at another place" in words[name]
        assert "12.50" not in words[name]


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_a_damaged_inspection_is_said(tmp_path, suffix):
    study = fabricate.study(variants=["safmn"])
    fabricate.inspection(tmp_path, "safmn", "seed0_best", 12.5, 31.5)
    (tmp_path / f"inspection/safmn/x4/seed0_best.{suffix}").write_text("{")
    words = draw(study, tmp_path)
    for name in ("figure2", "figure5", "figure6"):
        assert "is damaged" in words[name]


def test_an_index_or_psnr_that_is_none_is_drawn(tmp_path):
    fabricate.inspection(tmp_path, "bicubic", "published", None, None, features=False)
    words = draw(fabricate.study(variants=["safmn"]), tmp_path)
    assert "DI not defined" in words["figure2"]
    assert "inf (inf)" in words["figure6"]


def test_many_networks_are_drawn_in_rows(tmp_path):
    study = fabricate.study(variants="all")
    for name in study.variants:
        fabricate.inspection(tmp_path, name, "seed0_best", 2.0, 30.0)
    inspections = inspected.collect(study, Results(tmp_path))
    for draws, words in ((figure2.draw, "DI 2.00"), (figure6.draw, "30.00 (29.00)")):
        with canvas.style():
            file = canvas.save(draws(inspections), tmp_path / "many.svg")
        assert text_of(file).count(words) == len(study.variants)
