"""What a study says in three sentences and one table: counted from its cells, by fixed rules."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from safmn import paths, provenance
from safmn.paper import statistics, verdicts
from safmn.paper.statistics import Difference, Interval
from safmn.report import ablation_table, answer, origins, rendering, sentences
from safmn.report.ablation import Contrast
from safmn.report.joined import Joined
from safmn.report.measured import Results
from safmn.study import Study
from tests.report import fabricate

HARD = np.random.default_rng(0).normal(28, 3, 100)
NOISE = np.random.default_rng(1).normal(0, 0.01, 100)


def on_b100(folder: Path, gaps: dict[str, float], **changes) -> Study:
    """A study on Set5 and B100 whose variants are these dB away from the baseline."""
    data = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["Set5", "B100"]}
    study = fabricate.study(**{"variants": ["safmn", *gaps], "data": data} | changes)
    for name, gap in {"safmn": 0.0, **gaps}.items():
        values = list(HARD + gap + (NOISE if gap else 0))
        fabricate.trained(folder, study, name, values, dataset="B100")
        fabricate.quality(folder, name, "seed0_best", "Set5", values[:5])
    return study


def told(study: Study, folder: Path) -> dict[str, str]:
    return dict(answer.sentences(Joined(study, folder)))


def table(study: Study, folder: Path):
    return ablation_table.build(Joined(study, folder))


# --- The direction of a difference -----------------------------------------------------------------------------------


def difference(value: float, low: float, high: float, images: int = 100) -> Difference:
    return Difference(value, Interval(low, high, images), Interval(None, None, 2, "one seed each"))


@pytest.mark.parametrize(
    ("measured", "printed", "verdict"),
    [
        (difference(-0.2, -0.3, -0.1), "-0.34", verdicts.REPRODUCED),
        (difference(+0.2, +0.1, +0.3), "-0.34", verdicts.CONTRADICTED),
        (difference(-0.2, -0.5, +0.1), "-0.34", verdicts.UNDECIDABLE),  # the interval has 0 in it
        (difference(-0.2, -0.3, -0.1, images=5), "-0.34", verdicts.UNDECIDABLE),  # too few images
        (difference(0.01, -0.01, 0.03), "0.00", verdicts.REPRODUCED),  # the paper prints no difference
        (difference(0.2, 0.1, 0.3), "0.00", verdicts.CONTRADICTED),
        (difference(0.02, -0.04, 0.08), "0.00", verdicts.UNDECIDABLE),
        (difference(-0.2, -0.3, -0.1), None, ""),
        (None, "-0.34", verdicts.MISSING),
    ],
)
def test_a_direction_is_judged_by_the_interval(measured, printed, verdict):
    assert Contrast(measured, None if printed is None else Decimal(printed)).verdict == verdict


# --- Sentences -------------------------------------------------------------------------------------------------------


def test_three_sentences_from_the_cells(tmp_path):
    study = on_b100(tmp_path, {"ccm_none": -0.9, "ccm_se": -0.3, "no_fm": 0.0001})
    twice = {"flops": [{"value": 13_560_000_000, "sentence": "rounded twice", "rule": "equal"}]}
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160, alternatives=twice)
    fabricate.complexity(tmp_path, "no_fm", 239_520, 13_554_915_840, 99_000_000)  # not the paper's activations
    said = told(study, tmp_path)
    agrees, contradicts, cannot = said.values()
    own = [cell for cell in Joined(study, tmp_path).cells if cell.published]
    counted = [cell for cell in own if cell.column in ("params", "flops", "activations") and not cell.is_missing]
    agree = [cell for cell in counted if cell.verdict in answer.AGREE]
    explained = sum(cell.verdict == verdicts.EXPLAINED for cell in counted)
    assert f"{len(agree)} of {len(counted)} values of parameters, FLOPs and activations" in agrees
    assert explained
    assert f"({explained} others differ, and the cause is computed)" in agrees
    assert "the direction of 1 of 3 differences to the baseline on B100 (CCM → None)" in agrees
    wrong = [cell for cell in own if cell.verdict == verdicts.CONTRADICTED]
    assert f"{len(wrong)} values of parameters, FLOPs and activations" in contradicts
    assert "(a): w/o FM" in contradicts
    assert "the direction of 1 difference to the baseline on B100 (w/ SE)" in contradicts  # the paper has it above
    assert "whether 1 of 3 variants are better or worse than the baseline ((a): w/o FM)" in cannot
    assert "iterations 100 instead of 500000" in cannot
    claims = [result.measured.verdict for result in sentences.evaluate(Joined(study, tmp_path).cells)]
    same, other = (claims.count(verdict) for verdict in (verdicts.REPRODUCED, verdicts.CONTRADICTED))
    assert (f"{same} of the {same + other} claims of its text" in agrees) == (same > 0)
    assert (f"{other} of the {same + other} claims of its text" in contradicts) == (other > 0)
    assert same + other
    missing = sum(cell.is_missing for cell in own)
    assert f"anything about {missing} of the {len(own)} published values" in cannot


def test_claims_that_are_contradicted_are_named():
    folder = paths.ROOT / "results/t291-cpu"
    table = pd.read_csv(folder / "tables/claims.csv")
    count = (table.measured_verdict == verdicts.CONTRADICTED).sum()
    contradicts = told(Study.load(folder / "study.json"), folder)["Contradicts it:"]
    first = "parameters of SAFMN and PAN, x4 (Table 1); parameters of SAFMN and ShuffleMixer, x4 (Table 1)"
    third = "activations of SAFMN and SAFM → None, x4 (Table 3)"
    assert f"measured values can decide ({first}; {third} and {count - 3} more)" in contradicts


def test_nothing_measured_says_nothing(tmp_path):
    agrees, contradicts, cannot = told(fabricate.study(), tmp_path).values()
    assert agrees.startswith("nothing yet")
    assert contradicts == "nothing that was measured here."
    assert "anything about 1 variant without a difference to the baseline yet ((a): w/o FM)" in cannot


def test_date_device_duration_commit_and_data_are_those_of_the_records(tmp_path):
    study = fabricate.study()
    more = {"started": "2026-03-01T10:00:00+00:00", "seconds": 5400.0, "code_commit": "0123456789abcdef" * 3}
    fabricate.run(tmp_path, study, "safmn", provenance=fabricate.PROVENANCE | more)
    found = dict(answer.facts(study, origins.collect(study, Results(tmp_path))))
    assert found["Date"] == "2026-03-01"
    assert (found["Device"], found["Computing"]) == ("Test CPU", "1 h 30 min")
    assert (found["Commit"], found["Data"]) == ("0123456789", "trained on T91; tested on Set5")


def test_a_commit_has_changes_only_where_its_code_is_another(tmp_path):
    """Of three results of one commit, the second was made with a changed README, the third with changed code."""
    study = fabricate.study(seeds=[0, 1, 2])
    for seed, (code, dirty) in enumerate([("a", False), ("a", True), ("b", True)]):
        origin = {"code_commit": "0123456789" * 4, "code_sha256": code * 64, "code_dirty": dirty}
        fabricate.run(tmp_path, study, "safmn", seed, provenance=fabricate.PROVENANCE | origin)
        found = dict(answer.facts(study, origins.collect(study, Results(tmp_path))))
        assert found["Commit"] == "0123456789" + (", 0123456789 with changed code" if seed == 2 else "")


def test_what_changed_is_not_known_where_no_result_is_of_the_unchanged_commit():
    codes = [{"code_commit": "0123456789" * 4, "code_sha256": "b" * 64, "code_dirty": True}] * 2
    assert provenance.commits(codes, digits=10) == ["0123456789 with changes, maybe outside of the code"]


def test_what_has_no_number_stands_beside_the_command_that_fills_it(tmp_path):
    study = on_b100(tmp_path, {"no_fm": -0.1}, networks=["imdn"])
    found = Joined(study, tmp_path).cells
    lines = answer.unmeasured(study, found)
    assert sum(count for _, count, _ in lines) == sum(cell.is_missing and cell.published != "" for cell in found)
    commands = {command: what for what, _, command in lines}
    assert "Urban100" in commands[answer.TABLE_1]
    assert "DIV2K_val" in commands[answer.PAPER]
    assert "snakemake --cores all --configfile results/made/study.json" in commands
    assert (paths.ROOT / "config/table1.yaml").is_file()
    assert (paths.ROOT / "config/paper.yaml").is_file()


# --- The one table ---------------------------------------------------------------------------------------------------


def test_a_row_holds_counts_psnr_difference_and_the_papers(tmp_path):
    study = on_b100(tmp_path, {"ccm_none": -0.9, "blocks_12": 0.4})
    fabricate.complexity(tmp_path, "ccm_none", 30_720, 1_610_979_840, 26_933_760)
    one = table(study, tmp_path)
    (part,) = one.sections
    assert [[row[0].text, row[1].text, row[1].name] for row in part.rows] == [
        ["Baseline", "SAFMN", "safmn"],
        ["Main module", "CCM → None", "ccm_none"],
        ["Number of FMMs", "N = 12", "blocks_12"],
    ]
    heads = [" ".join(filter(None, header)) for header in part.headers]
    row = dict(zip(heads, part.rows[1], strict=True))
    assert row["#Params [K]"].text == "30.720"
    assert row["PSNR on Y [dB] B100"].value == pytest.approx(np.mean(HARD - 0.9 + NOISE))
    assert row["vs. baseline [dB] B100"].text == f"{np.mean(NOISE) - 0.9:+.3f}"
    assert row["vs. baseline [dB] paper, Manga109"].text == "-1.94"  # 28.49 - 30.43
    assert row["Direction"].verdict == verdicts.REPRODUCED
    assert "Verdict" not in heads
    best = [line[1].name for line in part.rows if line[heads.index("PSNR on Y [dB] B100")].place == 1]
    assert best == ["blocks_12"]
    interval = statistics.paired_bootstrap(HARD - 0.9 + NOISE, HARD)
    lines = one.flat
    assert float(lines[1]["b100 difference to baseline low"]) == pytest.approx(interval.low)
    assert str(lines[1]["b100 difference to baseline paper"]) == "-1.94"
    tex = rendering.latex(one)
    assert tex.count(r"\midrule") == 3  # below the head, and between three groups
    assert r"\textbf{" in tex
    assert "$-$1.94" in tex


def test_the_legend_of_a_direction_does_not_speak_of_the_size(tmp_path):
    """-0.9 dB has the direction of the paper's -1.94 dB, and is no value within a tolerance of it."""
    study = on_b100(tmp_path, {"ccm_none": -0.9, "ccm_se": -0.3})
    fabricate.complexity(tmp_path, "ccm_se", 999_000, 13_554_915_840, 76_700_160)  # not the paper's parameters
    one = table(study, tmp_path)
    assert one.legend == [
        ("✗", "contradicted: differs by more than tolerance and spread, and no cause is known"),
        ("✓", "reproduced: the direction is the paper's"),
        ("✗", "contradicted: the direction is another than the paper's"),
    ]
    for text in (rendering.markdown(one), rendering.latex(one)):
        assert "Direction" in text
        assert "tolerance and spread" in text
        assert "within the stated tolerance" not in text


def test_without_a_decided_difference_no_number_is_the_best_and_the_reason_is_told(tmp_path):
    study = fabricate.study(variants=["safmn", "no_fm"])
    for name, value in (("safmn", 30.0), ("no_fm", 30.1)):
        fabricate.trained(tmp_path, study, name, [value, value + 2])  # two images
    one = table(study, tmp_path)
    (part,) = one.sections
    assert not [entry for row in part.rows for entry in row if entry.place]
    assert "95 % interval" not in [what for _, what in part.headers]
    (said,) = [fact for fact in one.facts if fact.startswith("No difference is decided")]
    assert "2 images: too few to resample; one seed each" in said


def test_numbers_that_look_equal_share_the_best_place(tmp_path):
    study = on_b100(tmp_path, {"ccm_none": -0.9, "no_fm": 0.201, "no_mr": 0.2})
    (part,) = table(study, tmp_path).sections
    place = part.headers.index(("PSNR on Y [dB]", "B100"))
    assert [row[1].name for row in part.rows if row[place].place == 1] == ["no_fm", "no_mr"]


def test_a_users_own_variants_come_first(tmp_path, monkeypatch):
    folder = tmp_path / "ablations"
    fabricate.own_variants(folder, mine="title: Mine\ndescription: x\n")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    study = on_b100(tmp_path / "results", {"no_fm": -0.1, "mine": 0.2, "ln_bn": -0.2, "ln_bn_reference_ema": -0.1})
    (part,) = table(study, tmp_path / "results").sections
    assert [row[0].text for row in part.rows] == ["Own", "Baseline", "SAFM", "Normalization", "Normalization"]
    assert part.rows[0][-1] == ablation_table.BLANK  # no verdict, since the paper does not have it


def test_a_retrained_network_is_compared_with_the_baseline(tmp_path):
    study = on_b100(tmp_path, {"no_fm": -0.1}, retrain=["imdn"])
    fabricate.trained(tmp_path, study, "imdn", list(HARD + 0.3 + NOISE), dataset="B100")
    fabricate.quality(tmp_path, "imdn", "seed0_best", "Set5", [30.0] * 5)
    (part,) = table(study, tmp_path).sections
    row = next(row for row in part.rows if row[1].name == "imdn_retrained")
    assert row[1].text == "IMDN, retrained"
    assert f"{np.mean(NOISE) + 0.3:+.3f}" in [entry.text for entry in row]


def test_a_study_that_trains_nothing_shows_the_networks(tmp_path):
    study = fabricate.study(training=None, data={"test": ["Set5"]}, networks=["imdn", "pan"], variants=["safmn"])
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.21] * 5)
    fabricate.quality(tmp_path, "pan", "published", "Set5", [31.00] * 5)
    (part,) = table(study, tmp_path).sections
    assert [[entry.text for entry in row] for row in part.rows] == [
        ["x4", "IMDN", "32.21", "", verdicts.ROUNDING],  # a difference would be the rounding of the print
        ["x4", "PAN", "31.00", "-1.130", verdicts.CONTRADICTED],  # the paper has 32.13
    ]
