"""Cells of a made-up results folder, checked by hand, and what is said where something is missing."""

import csv
import math

import pytest

from safmn import __version__, paths
from safmn.errors import UserError
from safmn.files import read_json, write_json, write_text
from safmn.paper import published, verdicts
from safmn.paper.cell import Cell
from safmn.report import cells, trained
from safmn.report.joined import Joined
from safmn.report.measured import Scores
from tests.report import fabricate
from tests.report.fabricate import cell

# --- Which cells there are -------------------------------------------------------------------------------------------


def test_an_empty_study_has_every_printed_cell_with_a_reason(tmp_path):
    study = fabricate.study(variants="all", networks="all", scales=[2, 3, 4])
    found = Joined(study, tmp_path / "nothing here").cells
    assert {each.verdict for each in found} == {verdicts.MISSING}
    assert all(each.note for each in found)
    assert {(each.measured, each.delta, each.low, each.std, each.seeds, each.origin) for each in found} == {
        (None, None, None, None, 0, "")
    }
    for table in published.TABLES:
        own = [each for each in found if each.table == table and each.published]
        assert len(own) == len(published.printed(table))


def test_a_study_of_two_networks_has_their_rows_only(tmp_path):
    found = Joined(fabricate.study(networks=["imdn"]), tmp_path).cells
    rows = {table: list(dict.fromkeys(each.network for each in found if each.table == table)) for table in (1, 2, 3)}
    assert rows == {1: ["imdn", "safmn"], 2: ["imdn", "safmn"], 3: ["safmn", "no_fm"]}


def test_own_test_sets_get_columns_without_print(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[-2:]", "Set5", "my.set"]}
    study = fabricate.study(data=data)
    for column in ("photographs_psnr", "my_set_ssim", "set5_psnr"):
        assert cell(study, tmp_path, "no_fm", column).published == ""
    assert cell(study, tmp_path, "safmn", "set5_psnr", table=1).published == "32.18"
    assert cell(study, tmp_path, "safmn", "photographs_psnr", table=1).published == ""


def test_two_parts_of_one_test_set_are_told_apart(tmp_path):
    data = {"train": ["T91"], "validation": ["BSDS200"], "test": ["photographs[:2]", "photographs[2:4]"]}
    study = fabricate.study(variants=["safmn"], data=data)
    fabricate.trained(tmp_path, study, "safmn", [1.0], dataset="photographs")  # of which part?
    own = [each for each in Joined(study, tmp_path).cells if each.column.startswith("photographs")]
    assert len({each.column for each in own}) == 4
    assert {each.measured for each in own} == {None}


def test_own_variants_follow_the_papers_in_table_3(tmp_path, monkeypatch):
    folder = tmp_path / "ablations"
    fabricate.own_variants(folder, a_mine='title: "Mine | <b>x</b> & $y_1$"\ndescription: "My own."\n')
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    study = fabricate.study(variants="all")
    fabricate.complexity(tmp_path, "a_mine", 1500, 2_500_000_000, 3_000_000)
    found = Joined(study, tmp_path).cells
    assert [each.network for each in found if each.table == 3][-1] == "a_mine"
    assert {each.table for each in found if each.network == "a_mine"} == {3}
    params = cell(study, tmp_path, "a_mine", "params")
    assert (params.published, params.measured, params.unit, params.delta) == ("", 1.5, "K", None)
    assert params.verdict == verdicts.NOT_COMPARABLE
    assert cell(study, tmp_path, "a_mine", "set5_psnr").verdict == verdicts.MISSING


def test_a_study_without_x4_shows_its_ablation_where_it_is(tmp_path):
    study = fabricate.study(scales=[2])
    fabricate.trained(tmp_path, study, "no_fm", [33.0] * 5, scale=2)
    assert cell(study, tmp_path, "no_fm", "set5_psnr", scale=2).measured == 33.0
    assert "does not test on" in cell(study, tmp_path, "no_fm", "manga109_psnr").note


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_counts_by_hand(tmp_path):
    study = fabricate.study(variants=["safmn", "no_fm", "ln_bn"])
    twice = {"value": 13_560_000_000, "sentence": "rounded twice", "rule": "equal"}
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160, alternatives={"flops": [twice]})
    fabricate.complexity(tmp_path, "no_fm", 239_524, 13_557_000_000, 80_000_000)
    expected = {
        ("safmn", "params", 3): ("239.52", 239.52, 0.0, verdicts.EXACT),
        ("safmn", "flops", 3): ("13.56", 13.55491584, -0.00508416, verdicts.EXPLAINED),  # no binary dust
        ("safmn", "activations", 3): ("76.70", 76.70016, 0.00016, verdicts.ROUNDING),
        ("safmn", "params", 1): ("240", 239.52, -0.48, verdicts.ROUNDING),
        ("no_fm", "params", 3): ("239.52", 239.524, 0.004, verdicts.ROUNDING),
        ("no_fm", "activations", 3): ("76.70", 80.0, 3.3, verdicts.CONTRADICTED),
    }
    for (network, column, table), values in expected.items():
        found = cell(study, tmp_path, network, column, table)
        assert (found.published, found.measured, found.delta, found.verdict) == values
    assert cell(study, tmp_path, "safmn", "flops").note == "rounded twice"
    assert "not counted yet" in cell(study, tmp_path, "ln_bn", "params").note


def test_a_count_that_failed_says_what_the_command_said(tmp_path):
    log = (
        "some table\nsafmn complexity: no_fm is not the row it stands for: correct it\n"
        "safmn complexity: warning: of something else\n"
    )
    write_text(tmp_path / "logs" / "complexity.log", log)
    found = cell(fabricate.study(), tmp_path, "no_fm", "params")
    assert found.note == "failed: no_fm is not the row it stands for: correct it"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scales": {"4": {"params": 1}}}', '{"scales": 3}', "\udcff"])
def test_a_damaged_record_is_a_missing_cell(tmp_path, content):
    file = tmp_path / "cost" / "complexity" / "safmn.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    found = cell(fabricate.study(), tmp_path, "safmn", "params")
    assert found.verdict == verdicts.MISSING
    assert "complexity/safmn.json" in found.note
    assert "make it again" in found.note
    assert str(tmp_path.parent) not in found.note


# --- What was trained here -------------------------------------------------------------------------------------------


def test_a_short_study_is_not_comparable_and_says_its_budget(tmp_path):
    study = fabricate.study()
    fabricate.trained(tmp_path, study, "safmn", [28.0, 29.0, 30.0, 31.0, 32.5])
    fabricate.quality(tmp_path, "safmn", "seed0_last", "Set5", [28.0, 29.0, 30.0, 31.0, 32.0])
    fabricate.quality(tmp_path, "safmn", "published", "Set5", [32.18] * 5)
    found = cell(study, tmp_path, "safmn", "set5_psnr", table=1)
    assert (found.measured, found.published, found.delta) == (30.1, "32.18", -2.08)
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
    assert found.note.endswith("published weights give 32.180 dB")


def test_seeds_are_averaged_and_their_scatter_is_told(tmp_path):
    study = fabricate.study(seeds=[0, 1, 2])
    for seed, value in ((0, 30.0), (1, 30.2)):
        fabricate.trained(tmp_path, study, "no_fm", [value] * 5, seed)
    found = cell(study, tmp_path, "no_fm", "set5_psnr")
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
        fabricate.trained(tmp_path, study, "safmn", [value] * 109, seed, dataset="Manga109")
    found = cell(study, tmp_path, "safmn", "manga109_psnr")
    assert (found.published, found.verdict) == ("30.43", verdict), found.note


@pytest.mark.parametrize(
    ("row", "changes", "reason"),
    [
        ("(a): w/o FM", "training: {iterations: 9000}", "its file says iterations 9000 instead of 500000"),
        ("(a): w/o FM", "training: {loss: 'mine:Loss'}", "its file says loss mine:Loss instead of paper"),
        ("(a): w/o FM", "data: {train: ['T91']}", "its file trains on T91"),
        ("LN → None, lr=1e-4", "training: {learning_rate: 1.0e-4}", ""),
        ("(a): w/o FM", "", ""),
    ],
)
def test_a_users_variant_for_a_row_of_the_paper_is_trained_as_that_row_or_not_comparable(
    tmp_path, monkeypatch, row, changes, reason
):
    (tmp_path / "ablations").mkdir()
    (tmp_path / paths.MADE_WITH).write_text(__version__)
    text = f'title: "M"\ndescription: "x"\nrows: {{"3": "{row}"}}\nnetwork: {{modulation: false}}\n{changes}\n'
    (tmp_path / "ablations" / "mine.yaml").write_text(text)
    monkeypatch.setenv("SAFMN_PROJECT", str(tmp_path))
    monkeypatch.delenv("SAFMN_ABLATIONS", raising=False)
    study = fabricate.paper(variants=["safmn", "mine"])
    fabricate.trained(tmp_path, study, "mine", [20.0] * 109, dataset="Manga109")
    found = cell(study, tmp_path, "mine", "manga109_psnr")
    assert found.verdict == (verdicts.NOT_COMPARABLE if reason else verdicts.UNDECIDABLE), found.note
    assert reason in found.note


def test_a_part_of_a_benchmark_is_another_quantity(tmp_path):
    study = fabricate.paper()
    fabricate.trained(tmp_path, study, "safmn", [30.43] * 20, dataset="Manga109")
    found = cell(study, tmp_path, "safmn", "manga109_psnr")
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "20 of the 109 images of Manga109" in found.note


def test_a_collapsed_run_is_measured_and_marked(tmp_path):
    study = fabricate.study()
    fabricate.trained(tmp_path, study, "no_fm", [25.0] * 5, **fabricate.collapsed(61, "the loss is not finite"))
    found = cell(study, tmp_path, "no_fm", "set5_psnr")
    assert (found.measured, found.collapsed) == (25.0, True)
    assert found.note.startswith("* collapsed: seed 0 at iteration 61 (the loss is not finite)")


def test_why_a_trained_cell_is_missing(tmp_path):
    study = fabricate.study(variants=["safmn", "no_fm", "no_mr", "no_fa"])
    folder = tmp_path / "training"
    write_text(folder / "safmn" / "x4_seed0" / "failure.txt", "\n  out of memory:   lower training.batch \nTraceback\n")
    (folder / "no_fm" / "x4_seed0" / "state").mkdir(parents=True)
    fabricate.run(tmp_path, study, "no_mr")
    assert {name: cell(study, tmp_path, name, "set5_psnr").note for name in study.variants} == {
        "safmn": "training failed: out of memory: lower training.batch",
        "no_fm": "training is not finished: `snakemake train_no_fm` resumes it",
        "no_mr": "trained, but not evaluated on Set5 yet: `snakemake`",
        "no_fa": "not trained yet: `snakemake train_no_fa`",
    }


def test_a_benchmark_given_on_application_only_says_where_to_apply(tmp_path):
    study = fabricate.paper()
    fabricate.run(tmp_path, study, "safmn")
    note = cell(study, tmp_path, "safmn", "manga109_psnr").note
    assert note.startswith("Manga109 is not available: ")
    assert "manga109.org" in note
    assert "not evaluated on Set5" in cell(study, tmp_path, "safmn", "set5_psnr").note


@pytest.mark.parametrize(
    "content",
    [
        "",
        "image,psnr,ssim\n",
        "image,psnr\na,1\n",
        "image,psnr,ssim\na,x,y\n",
        "image,psnr,ssim,psnr_rgb,ssim_rgb\na,30,0.9,x,0.8\n",
        "image,psnr,ssim,lpips\na,30,0.9,0.1\nb,30,0.9,\n",
        "image,psnr,ssim,lpips\na,30,0.9,0.1\nb,30,0.9\n",
    ],
)
def test_damaged_scores_are_a_missing_cell(tmp_path, content):
    study = fabricate.study()
    fabricate.run(tmp_path, study, "no_fm")
    write_text(tmp_path / "quality" / "no_fm" / "x4" / "seed0_best" / "Set5.csv", content)
    found = cell(study, tmp_path, "no_fm", "set5_psnr")
    assert found.verdict == verdicts.MISSING
    assert "seed0_best/Set5.csv" in found.note
    assert "evaluate again" in found.note


# --- What others trained ---------------------------------------------------------------------------------------------


def evaluating(**changes) -> cells.Study:
    return fabricate.study(training=None, networks=["bicubic", "imdn"], data={"test": ["Set5"]}, **changes)


def test_published_weights_are_judged_by_their_tolerance(tmp_path):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.2199] * 5, 0.8970)
    found = [cell(evaluating(), tmp_path, "imdn", f"set5_{metric}", table=1).verdict for metric in ("psnr", "ssim")]
    assert found == [verdicts.REPRODUCED, verdicts.CONTRADICTED]


def test_published_weights_that_are_not_there(tmp_path):
    note = cell(evaluating(), tmp_path, "imdn", "set5_psnr", table=1).note
    assert "weights of IMDN x4 are not available" in note
    assert "safmn fetch imdn" in note
    assert cell(evaluating(), tmp_path, "imdn", "set5_psnr", table=1, scale=2).note == "the study has no x2"
    assert "nobody published any" in cell(evaluating(), tmp_path, "no_fm", "set5_psnr").note
    (tmp_path / "IMDN_x4.pth").touch()
    found = cell(evaluating(weights={"root": str(tmp_path)}), tmp_path, "imdn", "set5_psnr", table=1)
    assert found.note.startswith("the weights are available, but not evaluated yet")


def test_bicubic_needs_no_weights(tmp_path):
    fabricate.quality(tmp_path, "bicubic", "published", "Set5", [28.4214] * 5)
    found = cell(evaluating(), tmp_path, "bicubic", "set5_psnr", table=1)
    assert (found.measured, found.verdict) == (pytest.approx(28.4214), verdicts.ROUNDING)


# --- Memory and time -------------------------------------------------------------------------------------------------


def test_predicted_memory_is_marked(tmp_path):
    fabricate.memory(tmp_path, {"safmn": 64.9, "imdn": 150.0})
    study = fabricate.study(networks=["imdn"])
    safmn = cell(study, tmp_path, "safmn", "gpu_memory", table=2)
    assert safmn.measured == pytest.approx(64.9, abs=1e-6)
    assert (safmn.verdict, safmn.unit) == (verdicts.REPRODUCED, "MiB")  # -0.6 % of 65.26
    assert "predicted without a GPU, peak in feats.1" in safmn.note
    assert cell(study, tmp_path, "imdn", "gpu_memory", table=2).verdict == verdicts.CONTRADICTED  # 203.44 printed


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"measured": {"safmn": 65.261}}, "rounding", "measured on NVIDIA GeForce RTX 3090; predicted 64.90 MiB"),
        ({"settings": {"height": 90, "width": 160}}, "not comparable", "160x90"),
    ],
)
def test_measured_memory_goes_before_the_prediction_and_the_size_counts(tmp_path, changes, verdict, said):
    fabricate.memory(tmp_path, {"safmn": 64.9}, **changes)
    found = cell(fabricate.study(), tmp_path, "safmn", "gpu_memory", table=2)
    assert found.verdict == verdict
    assert said in found.note


def test_a_cpus_time_never_passes_for_a_gpus(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.71, "imdn": 10.22})  # the printed numbers themselves
    found = cell(fabricate.study(networks=["imdn"]), tmp_path, "imdn", "runtime", table=2)
    assert (found.measured, found.unit, found.device, found.origin) == (10.22, "ms", "cpu", "measured")
    assert (found.verdict, found.delta) == (verdicts.NOT_COMPARABLE, None)
    assert "time of a CPU, not of a GPU" in found.note
    assert "0.954 times SAFMN in the same run" in found.note


def test_time_on_the_papers_gpu_and_on_another(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.9}, fabricate.GPU)
    found = cell(fabricate.study(), tmp_path, "safmn", "runtime", table=2)
    assert (found.verdict, found.unit, found.delta) == (verdicts.REPRODUCED, "ms", 0.19)
    fabricate.runtime(tmp_path, {"safmn": 10.71}, fabricate.GPU | {"gpu": "NVIDIA H100"})
    found = cell(fabricate.study(), tmp_path, "safmn", "runtime", table=2)
    assert found.verdict == verdicts.NOT_COMPARABLE
    assert "measured on NVIDIA H100, printed for an RTX 3090" in found.note


def test_out_of_memory_is_a_reason(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.0}, fabricate.GPU)
    file = tmp_path / "cost" / "runtime.json"
    record = read_json(file)
    failed = {"status": "out of memory", "requested_lr": {"height": 180, "width": 320}, "message": "CUDA out of memory"}
    record["networks"]["safmn"]["eager"] = failed
    write_json(file, record)
    found = cell(fabricate.study(), tmp_path, "safmn", "runtime", table=2)
    assert (found.verdict, found.measured, found.origin) == (verdicts.MISSING, None, "")
    assert found.note == "out of memory with an LR image of 320x180: CUDA out of memory"


@pytest.mark.parametrize(("cpu", "reason"), [(True, "not timed yet"), (False, "times networks on a GPU only")])
def test_why_there_are_no_times(tmp_path, cpu, reason):
    study = fabricate.study(efficiency={"cpu": cpu})
    for table, column in ((2, "runtime"), (5, "layernorm")):
        found = cell(study, tmp_path, "safmn", column, table=table)
        assert found.verdict == verdicts.MISSING
        assert reason in found.note
    fabricate.runtime(tmp_path, {"safmn": 10.9}, fabricate.GPU)
    assert cell(study, tmp_path, "safmn", "runtime", table=2).verdict == verdicts.REPRODUCED


def test_operations_of_ten_images_are_scaled_to_fifty(tmp_path):
    fabricate.operations(tmp_path, {"LayerNorm": 9.3}, images=10)
    found = cell(fabricate.study(), tmp_path, "safmn", "layernorm", table=5)
    assert (found.published, found.measured) == ("46.5", pytest.approx(46.5))
    assert found.verdict == verdicts.NOT_COMPARABLE  # of a CPU
    assert "of 10 images, scaled to 50" in found.note
    assert cell(fabricate.study(), tmp_path, "safmn", "elementwise_product", table=5).verdict == verdicts.MISSING
    fabricate.operations(tmp_path, {"LayerNorm": 46.4}, fabricate.GPU)
    assert cell(fabricate.study(), tmp_path, "safmn", "layernorm", table=5).verdict == "reproduced"


def test_a_number_names_the_records_that_it_comes_from(tmp_path):
    study = fabricate.everything(tmp_path)
    fabricate.evaluation(tmp_path, "imdn", "published")
    found = Joined(study, tmp_path).cells
    assert all(bool(each.files) == (each.measured is not None) for each in found)
    assert all((tmp_path / name).is_file() for each in found for name in each.files)
    files = {each.column: each.files for each in found if (each.table, each.network) == (3, "no_fm")}
    assert files["params"] == ("cost/complexity/no_fm.json",)
    assert files["set5_psnr"] == tuple(f"training/no_fm/x4_seed{seed}/run.json" for seed in (0, 1, 2))


# --- The file --------------------------------------------------------------------------------------------------------

HEADER = ",".join(cells.FIELDS)
LINE = "3,safmn,4,params,239.52,239.52,K,0.0,exact,,,,,0,,False,counted"


def test_the_file_reads_back_as_it_was(tmp_path):
    study = fabricate.study()
    fabricate.trained(tmp_path, study, "safmn", [28.1, 29.1, 0.1 + 0.2, math.inf, 1 / 3])
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    found = Joined(study, tmp_path).cells
    cells.write(found, tmp_path / "cells.csv")
    assert cells.read(tmp_path / "cells.csv") == found
    assert (tmp_path / "cells.csv").read_text(encoding="utf-8").splitlines()[0] == HEADER
    assert HEADER == (
        "table,row,scale,column,published,measured,unit,delta,verdict,note,low,high,std,seeds,device,collapsed,origin"
    )


def test_an_interval_is_written_unrounded_and_a_device_as_data(tmp_path):
    study = fabricate.study(seeds=[0, 1, 2])
    for seed, value in enumerate((30.1, 30.2, 30.4)):
        fabricate.trained(tmp_path, study, "no_fm", [value] * 5, seed, **(fabricate.collapsed() if seed == 2 else {}))
    fabricate.runtime(tmp_path, {"safmn": 10.9}, fabricate.GPU)
    cells.write(Joined(study, tmp_path).cells, tmp_path / "cells.csv")
    with open(tmp_path / "cells.csv", encoding="utf-8", newline="") as handle:
        lines = {(line["table"], line["row"], line["column"]): line for line in csv.DictReader(handle)}
    line = lines["3", "no_fm", "set5_psnr"]
    # Mean 90.7 / 3, variance 0.07 / 3; the quantile of Student's t with two degrees of freedom in closed form.
    deviation = math.sqrt(0.07 / 3)
    reach = 0.95 * math.sqrt(2 / (1 - 0.95**2)) * deviation / math.sqrt(3)
    expected = [90.7 / 3 - reach, 90.7 / 3 + reach, deviation]
    assert [float(line[key]) for key in ("low", "high", "std")] == pytest.approx(expected, abs=1e-12)
    facts = ("unit", "seeds", "device", "collapsed", "origin")
    assert [line[key] for key in facts] == ["dB", "3", "cpu", "True", "trained"]
    assert [lines["2", "safmn", "runtime"][key] for key in facts] == ["ms", "0", "cuda", "False", "measured"]
    blank = ["", "", "", "0", "", "False", ""]
    assert [lines["3", "safmn", "params"][key] for key in [*cells.FIELDS][10:]] == blank


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


@pytest.mark.parametrize(
    ("training", "how"),
    [
        ({}, ""),
        ({"fft_weight": 0.05}, ""),
        ({"fft_weight": 0}, ", without the frequency term"),
        (
            {"fft_weight": 0, "loss": "my:Loss", "optimiser": {"name": "sgd", "momentum": 0.9}, "augment": []},
            ", loss my:Loss, optimiser sgd (momentum 0.9), augment none",
        ),
    ],
    ids=str,
)
def test_a_note_says_what_of_the_training_is_not_the_papers(training, how):
    specification = {"train": ["T91"], "training": {"iterations": 7} | training}
    record = {"specification": specification, "provenance": {"device": "cpu"}}
    found = trained.Trained({0: Scores({"psnr": {"a": 30.0}, "ssim": {"a": 0.9}})}, {}, {0: record})
    assert trained.note(found, "psnr").startswith(f"7 iterations on T91{how}, CPU")
