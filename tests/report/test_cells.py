"""Cells of a made-up results folder, checked by hand, and what is said where something is missing."""

import csv
import math
from pathlib import Path

import pytest

from safmn import paths
from safmn.errors import UserError
from safmn.files import write_json, write_text
from safmn.paper import NUMBERS, published, verdicts
from safmn.paper.cell import Cell
from safmn.report import cells
from tests.report import fabricate


def cell(found: list[Cell], network: str, column: str, table: int = 3, scale: int = 4) -> Cell:
    """The one cell there."""
    (only,) = [each for each in found if each.place == (table, network, scale, column)]
    return only


# --- Which cells there are -------------------------------------------------------------------------------------------


def everything() -> cells.Study:
    return fabricate.study(variants="all", networks="all", scales=[2, 3, 4])


def test_an_empty_study_has_every_printed_cell_with_a_reason(tmp_path):
    found = cells.collect(everything(), tmp_path / "nothing here")
    assert {each.verdict for each in found} == {verdicts.MISSING}
    assert all(each.note for each in found)
    assert {(each.measured, each.delta, each.low, each.std, each.seeds, each.origin) for each in found} == {
        (None, None, None, None, 0, "")
    }
    for table in published.TABLES:
        own = [each for each in found if each.table == table and each.published]
        assert len(own) == len(published.printed(table))


def test_rows_stand_in_the_papers_order(tmp_path):
    frame = cells.collect(everything(), tmp_path)
    from safmn.networks import all_networks

    networks = all_networks()
    for table, header in ((1, "method"), (2, "method"), (3, "variant"), (4, "n_blocks")):
        with open(NUMBERS / f"table{table}.csv", encoding="utf-8", newline="") as handle:
            lines = [(line[header], int(line.get("scale") or 4)) for line in csv.DictReader(handle)]
        rows = dict.fromkeys((each.network, each.scale) for each in frame if each.table == table)
        rows.pop(("ln_bn_reference_ema", 4), None)  # which the paper does not have
        assert [(networks[network].rows[table], scale) for network, scale in rows] == lines


def test_a_study_of_two_networks_has_their_rows_only(tmp_path):
    frame = cells.collect(fabricate.study(networks=["imdn"]), tmp_path)
    rows = {table: list(dict.fromkeys(each.network for each in frame if each.table == table)) for table in (1, 2, 3)}
    assert rows == {1: ["imdn", "safmn"], 2: ["imdn", "safmn"], 3: ["safmn", "no_fm"]}


def test_own_test_sets_get_columns_without_print(tmp_path):
    study = fabricate.study(
        data={"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[-2:]", "Set5", "my.set"]}
    )
    frame = cells.collect(study, tmp_path)
    for column in ("photographs_psnr", "my_set_ssim", "set5_psnr"):
        assert cell(frame, "no_fm", column).published == ""
    assert cell(frame, "safmn", "set5_psnr", table=1).published == "32.18"
    assert cell(frame, "safmn", "photographs_psnr", table=1).published == ""


def test_two_parts_of_one_test_set_are_told_apart(tmp_path):
    study = fabricate.study(
        variants=["safmn"],
        data={"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[:2]", "photographs[2:4]"]},
    )
    fabricate.run(tmp_path, study, "safmn")
    fabricate.quality(tmp_path, "safmn", "seed0_best", "photographs", [1.0])  # of which part?
    frame = cells.collect(study, tmp_path)
    own = [each for each in frame if each.column.startswith("photographs")]
    assert len({each.column for each in own}) == 4
    assert {each.measured for each in own} == {None}


@pytest.fixture
def own_variant(tmp_path, monkeypatch) -> Path:
    """A folder of variants: the paper's, and one's own."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    for file in paths.ablations().glob("*.yaml"):
        write_text(folder / file.name, file.read_text(encoding="utf-8"))
    write_text(folder / "a_mine.yaml", 'title: "Mine | <b>x</b> & $y_1$"\ndescription: "My own."\n')
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    return folder


def test_own_variants_follow_the_papers_in_table_3(tmp_path, own_variant):
    study = fabricate.study(variants="all")
    fabricate.complexity(tmp_path, "a_mine", 1500, 2_500_000_000, 3_000_000)
    frame = cells.collect(study, tmp_path)
    assert [each.network for each in frame if each.table == 3][-1] == "a_mine"
    assert {each.table for each in frame if each.network == "a_mine"} == {3}
    params = cell(frame, "a_mine", "params")
    assert (params.published, params.measured, params.unit) == ("", 1.5, "K")
    assert params.delta is None
    assert params.verdict == verdicts.NOT_COMPARABLE
    assert cell(frame, "a_mine", "set5_psnr").verdict == verdicts.MISSING


def test_a_study_without_x4_shows_its_ablation_where_it_is(tmp_path):
    study = fabricate.study(scales=[2])
    fabricate.run(tmp_path, study, "no_fm", scale=2)
    fabricate.quality(tmp_path, "no_fm", "seed0_best", "Set5", [33.0] * 5, scale=2)
    frame = cells.collect(study, tmp_path)
    assert cell(frame, "no_fm", "set5_psnr", scale=2).measured == 33.0
    assert "does not test on" in cell(frame, "no_fm", "manga109_psnr").note


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_counts_by_hand(tmp_path):
    study = fabricate.study(variants=["safmn", "no_fm", "ln_bn", "blocks_6"])
    twice = {"value": 13_560_000_000, "sentence": "rounded twice", "rule": "equal"}
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160, alternatives={"flops": [twice]})
    fabricate.complexity(tmp_path, "no_fm", 239_524, 13_557_000_000, 80_000_000)
    frame = cells.collect(study, tmp_path)
    exact = cell(frame, "safmn", "params")
    assert (exact.published, exact.measured, exact.unit, exact.delta) == ("239.52", 239.52, "K", 0.0)
    assert exact.verdict == verdicts.EXACT
    explained = cell(frame, "safmn", "flops")
    assert (explained.measured, explained.delta) == (13.55491584, -0.00508416)  # no binary dust in the difference
    assert (explained.verdict, explained.note) == (verdicts.EXPLAINED, "rounded twice")
    assert cell(frame, "safmn", "activations").verdict == verdicts.ROUNDING
    assert cell(frame, "safmn", "params", table=1).verdict == verdicts.ROUNDING  # printed 240
    assert cell(frame, "no_fm", "params").verdict == verdicts.ROUNDING
    assert cell(frame, "no_fm", "flops").verdict == verdicts.ROUNDING
    wrong = cell(frame, "no_fm", "activations")
    assert (wrong.verdict, wrong.delta) == (verdicts.CONTRADICTED, 3.3)
    assert "not counted yet" in cell(frame, "ln_bn", "params").note


def test_a_count_that_failed_says_what_the_command_said(tmp_path):
    write_text(
        tmp_path / "logs" / "complexity.log",
        "some table\nsafmn complexity: no_fm is not the row it stands for: correct it\n"
        "safmn complexity: warning: of something else\n",
    )
    found = cell(cells.collect(fabricate.study(), tmp_path), "no_fm", "params")
    assert found.note == "failed: no_fm is not the row it stands for: correct it"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scales": {"4": {"params": 1}}}', '{"scales": 3}', "\udcff"])
def test_a_damaged_record_is_a_missing_cell(tmp_path, content):
    file = tmp_path / "cost" / "complexity" / "safmn.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "params")
    assert found.verdict == verdicts.MISSING
    assert "complexity/safmn.json" in found.note
    assert "make it again" in found.note
    assert str(tmp_path.parent) not in found.note


# --- What was trained here -------------------------------------------------------------------------------------------


def test_a_short_study_is_not_comparable_and_says_its_budget(tmp_path):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "safmn")
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Set5", [28.0, 29.0, 30.0, 31.0, 32.5], 0.87)
    fabricate.quality(tmp_path, "safmn", "seed0_last", "Set5", [28.0, 29.0, 30.0, 31.0, 32.0], 0.87)
    found = cell(cells.collect(study, tmp_path), "safmn", "set5_psnr", table=1)
    assert (found.measured, found.published) == (30.1, "32.18")
    assert found.delta == -2.08
    assert found.verdict == verdicts.NOT_COMPARABLE
    for part in (
        "trained on T91 instead of DIV2K, Flickr2K",
        "iterations 100 instead of 500000",
        "100 iterations on T91, CPU (Test CPU)",
        "seed 0",
        "best at iteration 50",
        "last weights give 30.000 dB",
    ):
        assert part in found.note
    assert cell(cells.collect(study, tmp_path), "no_fm", "manga109_psnr").note == "the study does not test on Manga109"


def test_seeds_are_averaged_and_their_scatter_is_told(tmp_path):
    study = fabricate.study(seeds=[0, 1, 2])
    for seed, value in ((0, 30.0), (1, 30.2)):
        fabricate.run(tmp_path, study, "no_fm", seed)
        fabricate.quality(tmp_path, "no_fm", f"seed{seed}_best", "Set5", [value] * 5)
    found = cell(cells.collect(study, tmp_path), "no_fm", "set5_psnr")
    assert found.measured == pytest.approx(30.1)
    assert "mean of seeds 0, 1, standard deviation 0.141 dB" in found.note  # 0.2 / sqrt(2)
    assert "without seed 2: not trained yet: `snakemake train_no_fm`" in found.note


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([30.43], verdicts.UNDECIDABLE),  # one run
        ([30.43, 30.43], verdicts.REPRODUCED),
        ([30.10, 30.10], verdicts.CONTRADICTED),
        ([30.0, 30.9], verdicts.UNDECIDABLE),  # interval of +-5.7 dB
        ([math.nan, 30.43], verdicts.CONTRADICTED),
    ],
)
def test_only_the_papers_own_protocol_reproduces_or_contradicts(tmp_path, values, verdict):
    study = fabricate.paper(seeds=list(range(len(values))))
    for seed, value in enumerate(values):
        fabricate.run(tmp_path, study, "safmn", seed)
        fabricate.quality(tmp_path, "safmn", f"seed{seed}_best", "Manga109", [value] * 109)
    found = cell(cells.collect(study, tmp_path), "safmn", "manga109_psnr")
    assert found.published == "30.43"
    assert found.verdict == verdict, found.note


def test_published_weights_are_told_beside_ones_own(tmp_path):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "safmn")
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Set5", [30.0] * 5)
    fabricate.quality(tmp_path, "safmn", "published", "Set5", [32.18] * 5)
    found = cell(cells.collect(study, tmp_path), "safmn", "set5_psnr", table=1)
    assert found.measured == 30.0
    assert found.note.endswith("published weights give 32.180 dB")


def test_a_part_of_a_benchmark_is_another_quantity(tmp_path):
    study = fabricate.paper()
    fabricate.run(tmp_path, study, "safmn")
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Manga109", [30.43] * 20)
    found = cell(cells.collect(study, tmp_path), "safmn", "manga109_psnr")
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "20 of the 109 images of Manga109" in found.note


def test_a_run_with_other_iterations_than_the_study_is_found_out(tmp_path):
    study = fabricate.paper()
    specification = study.specification(study.runs("safmn")[0])
    short = specification | {"training": specification["training"] | {"iterations": 1000}}
    fabricate.run(tmp_path, study, "safmn", specification=short)
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Manga109", [30.43] * 109)
    found = cell(cells.collect(study, tmp_path), "safmn", "manga109_psnr")
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "iterations 1000 instead of the study's 500000" in found.note


def test_a_collapsed_run_is_measured_and_marked(tmp_path):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "no_fm", **fabricate.collapsed(61, "the loss is not finite"))
    fabricate.quality(tmp_path, "no_fm", "seed0_best", "Set5", [25.0] * 5)
    found = cell(cells.collect(study, tmp_path), "no_fm", "set5_psnr")
    assert found.measured == 25.0
    assert found.note.startswith("* collapsed: seed 0 at iteration 61 (the loss is not finite)")
    assert found.collapsed


def test_why_a_trained_cell_is_missing(tmp_path):
    study = fabricate.study(variants=["safmn", "no_fm", "no_mr", "no_fa"])
    folder = tmp_path / "training"
    write_text(folder / "safmn" / "x4_seed0" / "failure.txt", "\n  out of memory:   lower training.batch \nTraceback\n")
    (folder / "no_fm" / "x4_seed0" / "state").mkdir(parents=True)
    fabricate.run(tmp_path, study, "no_mr")
    frame = cells.collect(study, tmp_path)
    notes = {row: cell(frame, row, "set5_psnr").note for row in study.variants}
    assert notes == {
        "safmn": "training failed: out of memory: lower training.batch",
        "no_fm": "training is not finished: `snakemake train_no_fm` resumes it",
        "no_mr": "trained, but not evaluated on Set5 yet: `snakemake`",
        "no_fa": "not trained yet: `snakemake train_no_fa`",
    }


def test_a_benchmark_given_on_application_only_says_where_to_apply(tmp_path):
    study = fabricate.paper()
    fabricate.run(tmp_path, study, "safmn")
    found = cell(cells.collect(study, tmp_path), "safmn", "manga109_psnr")
    assert found.note.startswith("Manga109 is not at hand: ")
    assert "manga109.org" in found.note
    assert "not evaluated on Set5" in cell(cells.collect(study, tmp_path), "safmn", "set5_psnr").note


@pytest.mark.parametrize("content", ["", "image,psnr,ssim\n", "image,psnr\na,1\n", "image,psnr,ssim\na,x,y\n"])
def test_damaged_scores_are_a_missing_cell(tmp_path, content):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "no_fm")
    write_text(tmp_path / "quality" / "no_fm" / "x4" / "seed0_best" / "Set5.csv", content)
    found = cell(cells.collect(study, tmp_path), "no_fm", "set5_psnr")
    assert found.verdict == verdicts.MISSING
    assert "seed0_best/Set5.csv" in found.note
    assert "evaluate again" in found.note


# --- What others trained ---------------------------------------------------------------------------------------------


def only_evaluating(**changes) -> cells.Study:
    return fabricate.study(
        training=None,
        networks=["bicubic", "imdn"],
        data={"test": ["Set5"]},
        **{"variants": ["safmn", "no_fm"]} | changes,
    )


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        (32.2149, 0.89484, (verdicts.ROUNDING, verdicts.ROUNDING)),
        (32.2199, 0.8950, (verdicts.REPRODUCED, verdicts.REPRODUCED)),
        (32.35, 0.8970, (verdicts.CONTRADICTED, verdicts.CONTRADICTED)),
    ],
)
def test_published_weights_have_no_luck(tmp_path, psnr, ssim, expected):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [psnr] * 5, ssim)
    frame = cells.collect(only_evaluating(), tmp_path)
    assert tuple(cell(frame, "imdn", f"set5_{metric}", table=1).verdict for metric in ("psnr", "ssim")) == expected


def test_published_weights_that_are_not_there(tmp_path):
    frame = cells.collect(only_evaluating(), tmp_path)
    note = cell(frame, "imdn", "set5_psnr", table=1).note
    assert "weights of IMDN x4 are not at hand" in note
    assert "safmn fetch imdn" in note
    assert cell(frame, "imdn", "set5_psnr", table=1, scale=2).note == "the study has no x2"
    assert "nobody published any" in cell(frame, "no_fm", "set5_psnr").note


def test_published_weights_that_are_there_wait_for_their_evaluation(tmp_path):
    (tmp_path / "IMDN_x4.pth").touch()
    frame = cells.collect(only_evaluating(weights={"root": str(tmp_path)}), tmp_path)
    assert cell(frame, "imdn", "set5_psnr", table=1).note.startswith("the weights are at hand, but not evaluated yet")


def test_bicubic_needs_no_weights(tmp_path):
    fabricate.quality(tmp_path, "bicubic", "published", "Set5", [28.4214] * 5)
    found = cell(cells.collect(only_evaluating(), tmp_path), "bicubic", "set5_psnr", table=1)
    assert (found.measured, found.verdict) == (pytest.approx(28.4214), verdicts.ROUNDING)


def test_bicubics_row_is_explained_by_the_older_protocol(tmp_path):
    fabricate.quality(tmp_path, "bicubic", "published", "Set5", [28.431] * 5)
    contradicted = cell(cells.collect(only_evaluating(), tmp_path), "bicubic", "set5_psnr", table=1)
    assert contradicted.verdict == verdicts.CONTRADICTED
    fabricate.quality(tmp_path, "bicubic", "legacy", "Set5", [28.418] * 5)
    explained = cell(cells.collect(only_evaluating(), tmp_path), "bicubic", "set5_psnr", table=1)
    assert explained.verdict == verdicts.EXPLAINED
    assert "28.418 dB" in explained.note
    fabricate.quality(tmp_path, "bicubic", "legacy", "Set5", [28.6] * 5)
    assert cell(cells.collect(only_evaluating(), tmp_path), "bicubic", "set5_psnr", table=1).verdict == "contradicted"


# --- Memory and time -------------------------------------------------------------------------------------------------


def test_predicted_memory_is_marked(tmp_path):
    fabricate.memory(tmp_path, {"safmn": 64.9, "imdn": 150.0})
    frame = cells.collect(fabricate.study(networks=["imdn"]), tmp_path)
    safmn = cell(frame, "safmn", "gpu_memory", table=2)
    assert safmn.measured == pytest.approx(64.9, abs=1e-6)
    assert (safmn.verdict, safmn.unit) == (verdicts.REPRODUCED, "MiB")  # -0.6 % of 65.26
    assert "predicted without a GPU, peak in feats.1" in safmn.note
    assert cell(frame, "imdn", "gpu_memory", table=2).verdict == verdicts.CONTRADICTED  # 203.44 printed


def test_measured_memory_goes_before_the_prediction(tmp_path):
    fabricate.memory(tmp_path, {"safmn": 64.9}, measured={"safmn": 65.261})
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "gpu_memory", table=2)
    assert found.verdict == verdicts.ROUNDING
    assert "measured on NVIDIA GeForce RTX 3090; predicted 64.90 MiB" in found.note


def test_memory_of_another_image_size_is_another_quantity(tmp_path):
    fabricate.memory(tmp_path, {"safmn": 65.26}, settings={"height": 90, "width": 160})
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "gpu_memory", table=2)
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "160x90" in found.note


def test_a_cpus_time_never_passes_for_a_gpus(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.71, "imdn": 10.22})  # the printed numbers themselves
    frame = cells.collect(fabricate.study(networks=["imdn"]), tmp_path)
    found = cell(frame, "imdn", "runtime", table=2)
    assert (found.measured, found.unit, found.device, found.origin) == (10.22, "ms", "cpu", "measured")
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert found.delta is None
    assert "time of a CPU, not of a GPU" in found.note
    assert "0.954 times SAFMN in the same run" in found.note


def test_time_on_the_papers_gpu_and_on_another(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.9}, fabricate.GPU)
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "runtime", table=2)
    assert (found.verdict, found.unit, found.delta) == (verdicts.REPRODUCED, "ms", 0.19)
    fabricate.runtime(tmp_path, {"safmn": 10.71}, fabricate.GPU | {"gpu": "NVIDIA H100"})
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "runtime", table=2)
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "measured on NVIDIA H100, printed for an RTX 3090" in found.note


def test_out_of_memory_is_a_reason(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.0}, fabricate.GPU)
    file = tmp_path / "cost" / "runtime.json"
    from safmn.files import read_json

    record = read_json(file)
    record["networks"]["safmn"]["eager"] = {
        "status": "out of memory",
        "requested_lr": {"height": 180, "width": 320},
        "message": "CUDA out of memory",
    }
    write_json(file, record)
    found = cell(cells.collect(fabricate.study(), tmp_path), "safmn", "runtime", table=2)
    assert (found.verdict, found.measured, found.origin) == (verdicts.MISSING, None, "")
    assert found.note == "out of memory with an LR image of 320x180: CUDA out of memory"


def test_operations_of_ten_images_are_scaled_to_fifty(tmp_path):
    fabricate.operations(tmp_path, {"LayerNorm": 9.3}, images=10)
    frame = cells.collect(fabricate.study(), tmp_path)
    found = cell(frame, "safmn", "layernorm", table=5)
    assert (found.published, found.measured) == ("46.5", pytest.approx(46.5))
    assert found.verdict == verdicts.NOT_COMPARABLE  # of a CPU
    assert "of 10 images, scaled to 50" in found.note
    assert cell(frame, "safmn", "elementwise_product", table=5).verdict == verdicts.MISSING
    fabricate.operations(tmp_path, {"LayerNorm": 46.4}, fabricate.GPU)
    assert cell(cells.collect(fabricate.study(), tmp_path), "safmn", "layernorm", table=5).verdict == "reproduced"


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_file_reads_back_as_it_was(tmp_path):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "safmn")
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Set5", [28.1, 29.1, 0.1 + 0.2, math.inf, 1 / 3])
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    frame = cells.collect(study, tmp_path)
    cells.write(frame, tmp_path / "cells.csv")
    assert cells.read(tmp_path / "cells.csv") == frame
    header = (tmp_path / "cells.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "table,row,scale,column,published,measured,unit,delta,verdict,note,low,high,std,seeds,device,collapsed,origin"
    )


def test_an_interval_is_written_unrounded_and_a_device_as_data(tmp_path):
    study = fabricate.study(seeds=[0, 1, 2])
    for seed, value in enumerate((30.1, 30.2, 30.4)):
        fabricate.run(tmp_path, study, "no_fm", seed, **(fabricate.collapsed() if seed == 2 else {}))
        fabricate.quality(tmp_path, "no_fm", f"seed{seed}_best", "Set5", [value] * 5)
    fabricate.runtime(tmp_path, {"safmn": 10.9}, fabricate.GPU)
    cells.write(cells.collect(study, tmp_path), tmp_path / "cells.csv")
    with open(tmp_path / "cells.csv", encoding="utf-8", newline="") as handle:
        lines = {(line["table"], line["row"], line["column"]): line for line in csv.DictReader(handle)}
    line = lines["3", "no_fm", "set5_psnr"]
    # Mean 90.7 / 3, variance 0.07 / 3; the quantile of Student's t with two degrees of freedom in closed form.
    deviation = math.sqrt(0.07 / 3)
    reach = 0.95 * math.sqrt(2 / (1 - 0.95**2)) * deviation / math.sqrt(3)
    assert float(line["std"]) == pytest.approx(deviation, abs=1e-12)
    assert float(line["low"]) == pytest.approx(90.7 / 3 - reach, abs=1e-12)
    assert float(line["high"]) == pytest.approx(90.7 / 3 + reach, abs=1e-12)
    assert [line[key] for key in ("seeds", "device", "collapsed", "origin")] == ["3", "cpu", "True", "trained"]
    line = lines["2", "safmn", "runtime"]
    assert [line[key] for key in ("unit", "device", "collapsed", "origin")] == ["ms", "cuda", "False", "measured"]
    line = lines["3", "safmn", "params"]
    assert [line[key] for key in [*cells.FIELDS][10:]] == ["", "", "", "0", "", "False", ""]


HEADER = ",".join(cells.FIELDS)
LINE = "3,safmn,4,params,239.52,239.52,K,0.0,exact,,,,,0,,False,counted"


def test_a_file_of_the_right_form_is_read(tmp_path):
    write_text(tmp_path / "cells.csv", f"{HEADER}\n{LINE}\n")
    (found,) = cells.read(tmp_path / "cells.csv")
    assert found == Cell(3, "safmn", 4, "params", "239.52", 239.52, "K", 0.0, "exact", origin="counted")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "table,row\n1,2\n",
        f"{HEADER}\n{LINE[:-8]}\n",  # cut off
        f"{HEADER}\n{LINE},more\n",
        f"{HEADER}\n{LINE.replace('239.52,K', 'many,K')}\n",
        f"{HEADER}\n{LINE.replace('False', 'maybe')}\n",
        f"{HEADER}\n{LINE}".replace("exact,", 'exact,"'),  # a quote that never ends
    ],
)
def test_another_file_is_refused(tmp_path, content):
    if content is not None:
        write_text(tmp_path / "cells.csv", content)
    with pytest.raises(UserError, match=r"cells\.csv is not readable"):
        cells.read(tmp_path / "cells.csv")
