"""A table for one's own paper: rows, columns, order, precision and marks as asked, in a LaTeX that compiles."""

import csv
import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from safmn import cli, provenance, quantities
from safmn.errors import UserError
from safmn.files import write_json
from safmn.paper import statistics
from safmn.quality.figures import FIGURES
from safmn.report import ablation_table, networks, own_tables
from safmn.report.joined import Joined
from safmn.study import Study
from tests.report import fabricate

HARD = np.random.default_rng(0).normal(28, 3, 100)
NOISE = np.random.default_rng(1).normal(0, 0.01, 100)
GAPS = {"safmn": 0.0, "ccm_none": -0.9, "no_fm": 0.2, "no_mr": 0.0005}
WANTED = {
    "title": "Mine & others, 100 %",
    "rows": ["ccm_none", "safmn", "no_fm", "no_mr", "imdn"],
    "columns": ["params", "b100_psnr", "difference_b100_psnr", "published_b100_psnr", "b100_ssim", "training_hours"],
    "significance": "safmn",
}


def study(**changes) -> Study:
    data = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["Set5", "B100"]}
    variants = ["safmn", "ccm_none", "no_fm", "no_mr"]
    return fabricate.study(data=data, variants=variants, networks=["imdn"], own_tables={"main": WANTED | changes})


def fill(of: Study, folder) -> None:
    for name, gap in GAPS.items():
        fabricate.trained(folder, of, name, list(HARD + gap + NOISE * (gap != 0)), dataset="B100", seconds=7200.0)
        fabricate.complexity(folder, name, 239_520 if name != "ccm_none" else 30_720, 10**10, 10**7)
    fabricate.quality(folder, "imdn", "published", "B100", [27.56] * 100)


def build(of: Study, folder):
    (table,) = own_tables.build_all(Joined(of, folder))
    return table


def column(table, title: str) -> dict[str, object]:
    (part,) = table.sections
    place = part.headers.index(("", title))
    return {row[0].text: row[place] for row in part.rows}


@pytest.fixture
def filled(tmp_path):
    fill(study(), tmp_path)
    return tmp_path


def test_rows_columns_and_numbers_are_those_asked_for(filled):
    table = build(study(), filled)
    (part,) = table.sections
    assert [row[0].text for row in part.rows] == ["CCM → None", "SAFMN", "(a): w/o FM", "(b): w/o MR", "IMDN"]
    assert [what for _, what in part.headers][:3] == ["Network", "#Params [K]", "B100 PSNR [dB]"]
    assert column(table, "B100 PSNR [dB]")["SAFMN"].text == f"{np.mean(HARD):.2f}"
    assert column(table, "B100 PSNR [dB], published")["IMDN"].text == "27.56"
    assert column(table, "Training [h]")["SAFMN"].text == "2.0"
    assert column(table, "Training [h]")["IMDN"].text == ""
    gap = column(table, "B100 PSNR [dB], difference")
    assert gap["CCM → None"].text == f"{np.mean(NOISE) - 0.9:+.3f}"
    assert gap["SAFMN"].text == ""


def test_best_second_best_and_significance_are_marked(filled):
    table = build(study(), filled)
    psnr = column(table, "B100 PSNR [dB]")
    texts = sorted({entry.text for entry in psnr.values()}, reverse=True)[:2]
    assert {row: psnr[row].place for row in psnr} == {
        row: texts.index(entry.text) + 1 if entry.text in texts else 0 for row, entry in psnr.items()
    }
    assert [row for row in psnr if psnr[row].place == 2] == ["SAFMN", "(b): w/o MR"]  # equal as far as is shown
    assert [column(table, "#Params [K]")[row].place for row in ("CCM → None", "SAFMN", "IMDN")] == [1, 2, 0]
    assert (psnr["CCM → None"].symbol, psnr["(a): w/o FM"].symbol, psnr["(b): w/o MR"].symbol) == ("▽", "△", "")
    interval = statistics.paired_bootstrap(HARD - 0.9 + NOISE, HARD)
    lines = {line["row"]: line for line in table.flat}
    assert float(lines["ccm_none"]["b100_psnr low"]) == pytest.approx(interval.low)
    assert lines["no_mr"]["b100_psnr decision"] == "undecided"
    assert "below SAFMN across images" in dict(table.legend)["▽"]
    assert not [1 for row in build(study(mark="none"), filled).sections[0].rows for entry in row if entry.place]


def test_a_row_that_is_not_trained_yet_is_not_compared_by_its_published_weights(filled):
    """Its number is blank, and so is what is decided by it."""
    shutil.rmtree(filled / "quality" / "safmn")
    fabricate.quality(filled, "safmn", "published", "B100", list(HARD))
    table = build(study(), filled)
    assert column(table, "B100 PSNR [dB]")["SAFMN"].text == ""
    assert {entry.text for entry in column(table, "B100 PSNR [dB], difference").values()} == {""}
    assert not table.legend


def test_numbers_that_are_no_measurement_say_so(filled):
    counts = {"params": 239_520, "flops": 10**10, "activations": 10**7, "lower_bound": True}
    write_json(filled / "cost/complexity/no_fm.json", {"network": "no_fm", "scales": {"4": counts}})
    fabricate.memory(filled, {"safmn": 64.9})
    fabricate.runtime(filled, {"safmn": 12.5})
    columns = ["params", "flops", "gpu_memory", "runtime", "b100_psnr"]
    run = filled / "training/ccm_none/x4_seed0/run.json"
    files = {"training/ccm_none/x4_seed0/run.json": provenance.of_file(run)}
    write_json(filled / "imported.json", {"seal": "0" * 64, "files": files})
    facts = build(study(columns=columns), filled).facts
    assert facts == [
        "FLOPs and activations are lower bounds, since an operation could not be counted: (a): w/o FM.",
        "Memory is predicted, not measured: SAFMN.",
        "Times are of a CPU: SAFMN.",
        "Imported from an archive, not measured here: CCM → None.",
    ]
    one = ablation_table.build(Joined(study(), filled))
    assert {facts[0], facts[3]} < set(one.facts)


def test_order_and_precision(filled):
    table = build(study(sort="-b100_psnr", decimals={"psnr": 1, "params": 0}), filled)
    psnr = column(table, "B100 PSNR [dB]")
    assert [entry.value for entry in psnr.values()] == sorted((e.value for e in psnr.values()), reverse=True)
    assert all(re.fullmatch(r"\d+\.\d", entry.text) for entry in psnr.values())
    assert column(table, "#Params [K]")["SAFMN"].text == "240"


def test_every_column_of_networks_csv_can_stand_in_a_table(filled):
    """Its numbers are those of the file, in the unit that the header names; texts are shown as they are."""
    rgb = {name: list(HARD + gap - 1.5 + NOISE * (gap != 0)) for name, gap in GAPS.items()}
    for name, values in rgb.items():
        file = filled / f"quality/{name}/x4/seed0_best/B100.csv"
        lines = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
        more = [line | {"psnr_rgb": v, "ssim_rgb": 0.8, "lpips": 0.3} for line, v in zip(lines, values, strict=True)]
        text = io.StringIO()
        writer = csv.DictWriter(text, more[0])
        writer.writeheader()
        writer.writerows(more)
        file.write_text(text.getvalue(), encoding="utf-8")
    counts = {"params": 239_520, "flops": 10**10, "activations": 10**7, "convolutions": 58, "lower_bound": True}
    write_json(filled / "cost/complexity/no_fm.json", {"network": "no_fm", "scales": {"4": counts}})
    fabricate.memory(filled, {"safmn": 64.9}, {"safmn": 65.5}, provenance=fabricate.GPU)
    fabricate.runtime(filled, {"safmn": 12.5})
    every = [name for name in networks.frame(study(), filled) if not name.startswith("set5")]
    assert set(every) == {*quantities.COLUMNS, *(f"b100_{figure}" for figure in quantities.QUALITIES)}
    columns = [*every, "gpu_memory", "runtime", "difference_b100_psnr_rgb", "difference_b100_lpips"]
    of = study(columns=columns, sort="-weights", decimals={"psnr_rgb": 1})
    table = build(of, filled)
    expected = networks.frame(of, filled).set_index("network", drop=False)
    for line in table.flat:
        for name in every:
            wanted, unit = expected.loc[line["row"], name], quantities.quantity(name).unit
            if pd.isna(wanted):
                assert line[name] is None, (line["row"], name)
            elif isinstance(wanted, str | bool):
                assert line[name] == {True: "yes", False: "no"}.get(wanted, wanted)
            else:
                assert float(line[name]) == pytest.approx(wanted / unit)
    assert column(table, "#Conv")["(a): w/o FM"].text == "58"
    assert column(table, "Counts are lower bounds")["(a): w/o FM"].text == "yes"
    assert column(table, "Memory, measured [MiB]")["SAFMN"].text == "65.50"
    assert column(table, "Memory, predicted [MiB]")["SAFMN"].text == "64.90"
    shown = column(table, "B100 PSNR, RGB [dB]")
    assert (shown["SAFMN"].text, shown["(a): w/o FM"].place) == (f"{np.mean(rgb['safmn']):.1f}", 1)
    gap = column(table, "B100 PSNR, RGB [dB], difference")["CCM → None"]
    assert (gap.text, gap.symbol) == (f"{np.mean(rgb['ccm_none']) - np.mean(rgb['safmn']):+.1f}", "▽")
    assert [row[0].text for row in table.sections[0].rows][-1] == "IMDN"  # published before trained, by the alphabet


def test_published_values_are_the_papers_also_on_its_other_test_sets(filled):
    columns = ["published_params", "published_set5_psnr", "published_manga109_psnr"]
    table = build(study(columns=columns), filled)
    shown = {row[0].text: [entry.text for entry in row[1:]] for row in table.sections[0].rows}
    assert shown["SAFMN"] == ["239.5", "32.18", "30.43"]
    assert shown["CCM → None"] == ["30.7", "", "28.49"]


def test_names_of_figures_are_those_of_an_evaluation():
    assert tuple(quantities.QUALITIES) == FIGURES


def test_the_command_writes_three_forms_and_the_latex_compiles(filled, tmp_path):
    of = study()
    write_json(filled / "study.json", of.content)
    assert cli.main(["tables", "--study", str(filled / "study.json"), "--results", str(filled)]) == 0
    markdown, tex = ((filled / "tables" / f"main.{form}").read_text(encoding="utf-8") for form in ("md", "tex"))
    assert "**" in markdown
    assert "<u>" in markdown
    assert r"\underline{" in tex
    assert r"Mine \& others, 100 \%" in tex
    (body,) = re.findall(r"\\midrule\n(.*?)\\bottomrule", tex, re.DOTALL)
    lines = [line for line in body.splitlines() if line]
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(WANTED["columns"])}
    assert all(line.endswith(r"\\") for line in lines)
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: the LaTeX was checked by its structure alone")
    packages = "".join(
        rf"\usepackage{option}{{{name}}}"
        for option, name in (("[T1]", "fontenc"), ("", "booktabs"), ("", "graphicx"), ("", "amssymb"))
    )
    inputs = "".join(rf"\input{{{filled / 'tables' / name}}}" for name in ("main.tex", "ablation.tex", "table3.tex"))
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rows": ["ccm_nome"]},
            "own_tables.main.rows: 'ccm_nome' is not a network of the study: did you mean ccm_none",
        ),
        ({"columns": ["b100_pnsr"]}, "own_tables.main.columns: 'b100_pnsr' is not a column: did you mean b100_psnr"),
        ({"columns": ["convolution"]}, "'convolution' is not a column: did you mean convolutions"),
        ({"columns": ["b100_psnr_rbg"]}, "'b100_psnr_rbg' is not a column: did you mean b100_psnr_rgb"),
        ({"columns": ["published_photographs_psnr"]}, "'published_photographs_psnr' is not a column: "),
        ({"columns": ["urban100_psnr"]}, "'urban100_psnr' is not a column: did you mean"),
        (
            {"significance": "safm"},
            "own_tables.main.significance: 'safm' is not a network of the study: did you mean safmn",
        ),
        ({"significance": None}, "'difference_b100_psnr' needs `significance`, the row to compare with"),
        ({"sort": "-flops"}, "own_tables.main.sort: 'flops' is not a column of the table: "),
        ({"decimals": {"snr": 1}}, "own_tables.main.decimals: 'snr' is not a column of the table: did you mean psnr"),
        ({"scale": 2}, "own_tables.main.scale: 2 is not one of the study's scales (4)"),
        ({"rows": ["safmn", "safmn"]}, "lists 'safmn' twice"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(changes, said):
    with pytest.raises(UserError) as raised:
        study(**changes)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["table3", "claims", "ablation"])
def test_a_name_of_the_reports_own_tables_is_refused(name):
    with pytest.raises(UserError, match="a table of the report has this name"):
        fabricate.study(own_tables={name: {"rows": ["safmn"], "columns": ["params"]}})


def test_a_study_without_own_tables_is_the_study_that_it_was():
    """Its content, of which fingerprints are made, has no such key."""
    assert "own_tables" not in fabricate.study().content
    assert study().content["own_tables"]["main"]["rows"] == WANTED["rows"]
