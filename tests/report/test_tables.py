"""Rendered tables: order and labels are the paper's, numbers are the cells', and other people's text stays text."""

import csv
import json
import re

import numpy as np
import pytest

from safmn import cli, paths
from safmn.files import write_json, write_text
from safmn.paper import NUMBERS, verdicts
from safmn.report import grids, rendering, tables
from safmn.report.grids import Table
from safmn.report.joined import Joined
from safmn.report.rendered import render
from tests.report import fabricate


def build(study, folder) -> dict[int, Table]:
    return {table.number: table for table in tables.build_all(Joined(study, folder))}


def section(table: Table, title: str) -> grids.Section:
    return next(each for each in table.sections if each.title.startswith(title))


def entry(part: grids.Section, label: str, quantity: str, what: str) -> grids.Entry:
    """The field of the row whose last label is `label`."""
    column = part.headers.index((quantity, what))
    rows = [row for row in part.rows if label in [each.text for each in row if each.header]]
    assert len(rows) == 1
    return rows[0][column]


def read_markdown(text: str) -> list[list[str]]:
    """The fields of every line of every grid, as a Markdown reader splits them."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[field.strip() for field in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def unescaped(text: str) -> str:
    return re.sub(r"\\([^\w\s])", r"\1", text)


# --- Order and labels ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> dict[int, Table]:
    study = fabricate.study(variants="all", networks="all", scales=[2, 3, 4])
    return build(study, tmp_path_factory.mktemp("empty"))


def printed(number: int) -> list[dict[str, str]]:
    with open(NUMBERS / f"table{number}.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_difference_stands_in_the_line_of_its_scale_only(tmp_path):
    study = fabricate.study(scales=[2, 3])
    for scale, gap in ((2, 0.5), (3, -0.5)):
        fabricate.trained(tmp_path, study, "safmn", [30.0, 31.0, 32.0, 33.0, 34.0], scale=scale)
        fabricate.trained(tmp_path, study, "no_fm", [30.0 + gap, 31.0, 32.0, 33.0, 34.0], scale=scale)
    lines = [line for line in build(study, tmp_path)[3].flat if line["row"] == "no_fm"]
    found = {line["scale"]: line.get("set5 difference to baseline [dB]") for line in lines}
    assert found == {4: None, 2: pytest.approx(0.1), 3: None}


@pytest.mark.parametrize(
    ("number", "labels"),
    [
        (1, lambda line: [f"x{line['scale']}", line["method"]]),
        (2, lambda line: [line["method"]]),
        (3, lambda line: [line["group"], line["variant"]]),
        (4, lambda line: [line["n_blocks"]]),
        (5, lambda line: [line["operation"]]),
    ],
)
def test_rows_and_labels_are_the_papers(everything, number, labels):
    expected = [labels(line) for line in printed(number)]
    for part in everything[number].sections:
        if part.title.startswith("Difference"):
            continue
        found = [[each.text for each in row if each.header] for row in part.rows]
        assert [labels for labels in found if "(not printed)" not in labels[-1]] == expected


def test_a_row_that_is_not_printed_stands_beside_its_own(everything):
    for part in everything[3].sections:
        found = [[each.text for each in row if each.header] for row in part.rows]
        place = found.index(["Normalization", "LN → BN"])
        assert found[place + 1] == ["Normalization", "LN → BN, the reference's EMA (not printed)"]
        shown = zip(part.headers, part.rows[place + 1], strict=True)
        assert all(each.text == "" for (_, what), each in shown if what == "paper")
    assert not [row for row in everything[4].sections[0].rows if "(not printed)" in row[0].text]


def test_printed_digits_are_the_papers(everything):
    part = section(everything[3], "PSNR")
    assert [entry(part, line["variant"], "Manga109", "paper").text for line in printed(3)] == [
        line["manga109_psnr"] for line in printed(3)
    ]
    part = section(everything[1], "Complexity")
    column = part.headers.index(("#Params [K]", "paper"))
    assert [row[column].text for row in part.rows] == [line["params_k"] for line in printed(1)]
    part = section(everything[5], "Runtime")
    assert [row[1].text for row in part.rows] == [line["runtime_ms"] for line in printed(5)]


def test_the_papers_columns_come_first_and_in_order(everything):
    for number, names in (
        (1, ["Set5", "Set14", "B100", "Urban100", "Manga109"]),
        (3, ["DIV2K_val", "Manga109", "Set5"]),
    ):
        assert list(dict.fromkeys(name for name, _ in section(everything[number], "PSNR").headers if name)) == names


def test_published_measured_and_difference_stand_beside_each_other(measured, everything):
    usual = {("paper", "measured", "difference"), ("measured",)}
    relative = {"Time / SAFMN's", "Share of the six [%]"}  # a difference of these says nothing
    for table in (*everything.values(), *measured[2].values()):
        for part in table.sections:
            for name, start, stop in rendering.spans(part.headers):
                whats = tuple(what for _, what in part.headers[start:stop])
                if name in relative:
                    assert whats == ("paper", "measured")
                elif part.title.startswith("Difference"):
                    assert not name or whats in {("paper",), ("measured", "95 % interval")}
                else:
                    assert not name or whats in usual, (table.number, name, whats)


def test_an_empty_study_renders_everywhere(everything):
    for number, table in everything.items():
        assert "missing" in table.summary
        grid = read_markdown(rendering.markdown(table))
        assert len(grid) == sum(len(part.rows) + 2 for part in table.sections)
        assert r"\bottomrule" in rendering.latex(table)
        assert len(table.flat) == len(printed(number)) + (number == 3)  # Table 3 has a row that is not printed


def test_a_study_without_a_row_of_a_table_says_so(tmp_path):
    table = build(fabricate.study(variants=["no_fm"]), tmp_path)[2]
    assert table.sections == []
    for text in (rendering.markdown(table), rendering.latex(table)):
        assert "no row of this table" in text


# --- Numbers and marks -----------------------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path):
    """A study with two seeds of the baseline, a collapse, a failure and a run that is not done yet."""
    study = fabricate.study(variants=["safmn", "no_fm", "no_mr", "no_fa", "ln_none"], extra_seeds={"safmn": [1]})
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    fabricate.complexity(tmp_path, "no_fm", 239_520, 13_554_915_840, 76_600_000)
    hard = np.array([28.0, 29.0, 30.0, 31.0, 32.0])
    for seed, shift in ((0, 0.0), (1, 0.2)):
        fabricate.trained(tmp_path, study, "safmn", list(hard + shift), seed)
    fabricate.trained(tmp_path, study, "no_fm", list(hard - [0.8, 0.9, 1.0, 1.1, 1.2]))
    far = list(hard - [5.0, 5.1, 5.2, 5.3, 5.4])
    fabricate.trained(tmp_path, study, "ln_none", far, **fabricate.collapsed(61))
    write_text(tmp_path / "training" / "no_mr" / "x4_seed0" / "failure.txt", "the disk is full\n")
    return study, tmp_path, build(study, tmp_path)


def test_published_measured_and_difference_stand_side_by_side(measured):
    part = section(measured[2][3], "Complexity")
    fields = [entry(part, "-", "#FLOPs [G]", what) for what in ("paper", "measured", "difference")]
    assert [each.text for each in fields] == ["13.56", "13.555", "-0.005"]
    assert [each.value for each in fields] == [13.56, 13.55491584, -0.00508416]
    found = entry(part, "(a): w/o FM", "#Acts [M]", "measured")
    assert (found.text, found.verdict, found.symbol) == ("76.600", verdicts.CONTRADICTED, "✗")
    exact = entry(part, "-", "#Params [K]", "measured")
    assert (exact.symbol, entry(part, "-", "#Params [K]", "difference").text) == ("=", "0.000")


def test_seeds_show_their_scatter_and_a_collapse_its_star(measured):
    part = section(measured[2][3], "PSNR")
    assert entry(part, "-", "Set5", "measured").text == "30.100 ± 0.141"
    assert entry(part, "(a): w/o FM", "Set5", "measured").text == "29.000"
    star = entry(part, "LN → None, lr=1e-3*", "Set5", "measured")
    assert star.text == "24.800*"
    assert measured[2][3].footnotes[star.footnote - 1] == "collapsed: seed 0 at iteration 61 (the loss is not finite)"
    assert ("*", grids.COLLAPSE_MEANING) in measured[2][3].legend


def test_footnotes_say_why_and_are_not_repeated(measured):
    table = measured[2][3]
    part = section(table, "PSNR")
    failed = entry(part, "(b): w/o MR", "Set5", "measured")
    assert table.footnotes[failed.footnote - 1] == "training failed: the disk is full"
    waiting = entry(part, "(c): w/o FA", "Set5", "measured")
    assert table.footnotes[waiting.footnote - 1] == "not trained yet: `snakemake train_NAME`"
    assert len(set(table.footnotes)) == len(table.footnotes)
    assert entry(section(table, "SSIM"), "(c): w/o FA", "Set5", "measured").footnote == waiting.footnote
    numbers = [each.footnote for one in table.sections for row in one.rows for each in row if each.footnote]
    assert set(numbers) == set(range(1, len(table.footnotes) + 1))


def test_the_difference_to_the_baseline_stands_beside_the_papers(measured):
    part = section(measured[2][3], "Difference")
    assert [row[1].text for row in part.rows] == ["(a): w/o FM", "(b): w/o MR", "(c): w/o FA", "LN → None, lr=1e-3*"]
    assert entry(part, "(a): w/o FM", "Manga109 [dB]", "paper").text == "-0.11"
    assert entry(part, "(a): w/o FM", "DIV2K_val [dB]", "paper").text == "-0.07"
    found = entry(part, "(a): w/o FM", "Set5 [dB]", "measured")
    assert found.text == "-1.100"
    # Two seeds of the baseline 0.2 dB apart: t(0.975, 1) = 12.706, deviation 0.1414, one seed against two.
    reach = 12.706204736174705 * 0.2 / np.sqrt(2) * np.sqrt(1.5)
    assert (
        entry(part, "(a): w/o FM", "Set5 [dB]", "95 % interval").text == f"{-1.1 - reach:+.3f} to {-1.1 + reach:+.3f}"
    )
    assert found.symbol == "?"
    far = entry(part, "LN → None, lr=1e-3*", "Set5 [dB]", "measured")
    assert (far.text, far.symbol) == ("-5.300*", "▼")
    assert entry(part, "(c): w/o FA", "Set5 [dB]", "measured").text == ""


def test_the_ordering_is_told_for_every_test_set(measured):
    facts = [fact for fact in measured[2][3].facts if fact.startswith("Ordering")]
    assert len(facts) == 1
    # Manga109: 30.43 > 30.32 > 30.04, measured 30.1 > 29.0 > 24.8.
    assert "Ordering on Set5: Kendall's tau 1.00" in facts[0]
    assert "of 3 rows" in facts[0]


def test_the_lines_below_say_data_budget_device_and_convention(measured):
    facts = "\n".join(measured[2][3].facts)
    for part in (
        "fvcore, as in the paper (fvcore 0.1.5)",
        "100 iterations of 4 patches of 24x24 LR pixels",
        "on T91",
        "weights chosen on BSDS200[:10]",
        "seeds 0, 1",
        "trained on CPU (Test CPU)",
        "tested on Set5",
        "iterations 100 instead of 500000",
    ):
        assert part in facts


def test_the_summary_counts_printed_cells_by_verdict(measured):
    # 5 rows of 7 printed cells. Parameters are exact twice and activations a rounding once; 76.6 M is wrong, and so is
    # 13.5549 G twice, which rounds to 13.55 and has no explanation here.
    found = Joined(measured[0], measured[1]).cells
    counts = tables.verdict_counts([each for each in found if each.table == 3 and each.published])
    assert sum(counts.values()) == 35
    assert (counts["exact"], counts["rounding"], counts["missing"]) == (2, 1, 29)
    assert measured[2][3].summary.startswith("35 printed cells: 2 exact, 1 rounding, 3 contradicted, 29 missing.")
    assert measured[2][3].summary.endswith("Beyond the paper: 6 measured, 4 missing.")


def test_a_study_at_x2_compares_its_ablation_there(tmp_path):
    study = fabricate.study(scales=[2])
    for name, values in (("safmn", [30.0, 31.0, 32.0]), ("no_fm", [29.0, 30.5, 31.0])):
        fabricate.trained(tmp_path, study, name, values, scale=2)
    part = section(build(study, tmp_path)[3], "Difference")
    assert [[each.text for each in row if each.header] for row in part.rows] == [["SAFM", "(a): w/o FM", "x2"]]
    assert entry(part, "(a): w/o FM", "Set5 [dB]", "measured").text == "-0.833"


@pytest.mark.parametrize(
    ("provenance", "mark", "verdict"), [(fabricate.PROVENANCE, " (CPU)", "not comparable"), (fabricate.GPU, "", "")]
)
def test_tables_2_and_5_mark_what_is_no_gpus_and_show_ratios(tmp_path, provenance, mark, verdict):
    fabricate.runtime(tmp_path, {"safmn": 200.0, "imdn": 190.0}, provenance)
    fabricate.memory(tmp_path, {"safmn": 64.9, "imdn": 200.28})
    titles = [line["operation"] for line in printed(5)]
    fabricate.operations(tmp_path, dict(zip(titles, (10, 20, 30, 20, 10, 10), strict=True)), provenance)
    built = build(fabricate.study(networks=["imdn"]), tmp_path)
    part = section(built[2], "Memory")
    assert entry(part, "IMDN", "#Avg. Time [ms]", "measured").text == f"190.00{mark}"
    assert (entry(part, "IMDN", "#Avg. Time [ms]", "difference").text == "") == bool(mark)
    shown, own = (entry(part, "IMDN", "Time / SAFMN's", what) for what in ("paper", "measured"))
    assert (shown.text, shown.verdict) == ("0.95", "")  # 10.22 / 10.71
    assert (own.text, own.verdict) == ("0.95", verdict)
    assert entry(part, "SAFMN", "#GPU Mem. [MiB]", "measured").text == "64.90 (predicted)"
    assert any("predicted without a GPU" in fact for fact in built[2].facts)
    assert any(("CPU (Test CPU)" if mark else "RTX 3090") in fact for fact in built[2].facts)
    other = entry(section(built[2], "Time in other ways"), "SAFMN", "one pass, no warm-up", "mean [ms]")
    assert other.text == f"400.00{mark}"
    rows = section(built[5], "Runtime").rows
    assert [row[-1].text for row in rows] == ["10.0", "20.0", "30.0", "20.0", "10.0", "10.0"]
    assert rows[0][-2].text == "7.3"  # 46.5 of 637.5
    assert ({row[-1].verdict for row in rows}, {row[-2].verdict for row in rows}) == ({verdict}, {""})


@pytest.mark.parametrize(
    ("value", "column", "digits", "signed", "text"),
    [
        (57.281, "params", "57", False, "57.28"),
        (239.52, "params", "239.52", False, "239.520"),
        (-0.0004, "params", "239.52", True, "0.000"),
        (0.0151, "set5_psnr", "32.21", True, "+0.015"),
        (float("inf"), "set5_psnr", "32.21", False, "+inf"),
        (float("nan"), "set5_ssim", "", False, "nan"),
        (46.04, "layernorm", "46.5", False, "46.0"),
    ],
)
def test_numbers_as_shown(value, column, digits, signed, text):
    assert grids.number(value, column, digits, signed) == text


# --- Formats ---------------------------------------------------------------------------------------------------------

NASTY = r"a|b_c*d `e` <script>alert(1)</script> & 100% #1 $x^2$ {y} \input{z} ~ [l](http://x) → 模"


def modes(eager: float) -> dict[str, dict]:
    """Records of modes as the runtime command leaves them, for a network that takes `eager` ms."""
    checked = {"status": "timed", "difference_from_eager": 3e-7, "tolerance": 1e-4}
    half = {"status": "timed", "difference_from_eager": 1.5e-3, "tolerance": 2e-2}
    return {
        "compiled": {"status": "timed", "median_ms": eager / 2, "mean_ms": eager / 2 + 1, "processes": [checked]},
        "half": {"status": "timed", "median_ms": eager / 4, "mean_ms": eager / 4, "processes": [half, checked]},
        "cuda_graph": {"status": "unavailable", "reason": "CUDA graphs need CUDA"},
        "fused": {"status": "out of memory", "requested_lr": {"height": 180, "width": 320}, "message": "9 GiB"},
    }


def test_table_2_has_the_habit_and_the_other_modes_beside_the_main_column(tmp_path):
    fabricate.runtime(tmp_path, {"safmn": 10.0, "imdn": 8.0}, fabricate.GPU)
    file = tmp_path / "cost" / "runtime.json"
    document = json.loads(file.read_text())
    document["networks"]["safmn"] |= modes(10.0)
    write_json(file, document)
    study = fabricate.study(networks=["imdn"])
    table = build(study, tmp_path)[2]
    part = section(table, "Time in other ways")
    assert entry(part, "SAFMN", "one pass, no warm-up", "mean [ms]").text == "20.00"
    assert entry(part, "SAFMN", "compiled", "mean [ms]").text == "6.00"
    assert entry(part, "SAFMN", "compiled", "/ eager").text == "0.51"  # of the medians: 5 and 9.9 ms
    assert entry(part, "IMDN", "compiled", "mean [ms]").text == ""
    for mode, reason in (
        ("cuda graph", "unavailable: CUDA graphs need CUDA"),
        ("fused", "out of memory with an LR image of 320x180: 9 GiB"),
    ):
        found = entry(part, "SAFMN", mode, "mean [ms]")
        assert (found.verdict, table.footnotes[found.footnote - 1]) == (verdicts.MISSING, reason)
    fact = next(fact for fact in table.facts if fact.startswith("Outputs, checked"))
    assert "compiled 3e-07 (tolerance 0.0001), half 0.002 (tolerance 0.02)" in fact
    flat = {line["row"]: line for line in table.flat}
    assert flat["safmn"]["runtime half [ms]"] == 2.5
    assert flat["imdn"]["runtime one pass without warm-up [ms]"] == 16.0


@pytest.fixture
def nasty(tmp_path, monkeypatch) -> Table:
    """Table 3 of a study with a variant whose title is no name, and with a failure that quotes it."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    for name in ("safmn.yaml", "no_fm.yaml"):
        write_text(folder / name, (paths.ablations() / name).read_text(encoding="utf-8"))
    write_json(folder / "mine.yaml", {"title": NASTY, "description": "x"})
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    write_text(tmp_path / "training" / "mine" / "x4_seed0" / "failure.txt", f"# {NASTY}\n")
    return build(fabricate.study(variants="all"), tmp_path)[3]


def test_markdown_of_a_nasty_name_is_one_field(nasty):
    text = rendering.markdown(nasty)
    grid = read_markdown(text)
    own = [line for line in grid if line[0] == "Own"]
    assert len(own) == 4
    assert all(len(line) in {len(other) for other in grid if other[0] == "SAFM"} for line in own)
    assert unescaped(own[0][1]) == NASTY
    assert "<script>" not in re.sub(r"\\<", "", text)
    assert "](http" not in text.replace(r"\](http", "")
    footnote = next(line for line in text.splitlines() if "training failed" in line)
    assert unescaped(footnote).endswith(f"training failed: # {NASTY}")


def test_latex_of_a_nasty_name_is_text(nasty):
    text = rendering.latex(nasty)
    row = next(line for line in text.splitlines() if line.startswith("Own"))
    assert r"\input{" not in row
    assert r"a\textbar{}b\_c*d" in row
    assert r"\textless{}script\textgreater{}" in row
    assert r"\& 100\% \#1 \$x\textasciicircum{}2\$ \{y\} \textbackslash{}input\{z\}" in row
    assert r"$\rightarrow$ [U+6A21]" in row
    # Not one unescaped & more than between fields.
    fields = len(re.findall(r"(?<!\\)&", row)) + 1
    assert fields == len(nasty.sections[0].headers)


def test_latex_is_balanced(everything, measured):
    for table in (*everything.values(), *measured[2].values()):
        text = "\n".join(line for line in rendering.latex(table).splitlines() if not line.startswith("%"))
        stack = []
        for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", text):
            if kind == "begin":
                stack.append(name)
            else:
                assert stack.pop() == name
        assert stack == []
        plain = re.sub(r"\\[{}%&#_$]", "", text)
        assert plain.count("{") == plain.count("}")
        assert plain.count("$") % 2 == 0
        assert all(ord(sign) < 0x180 for sign in text)  # what pdfLaTeX's fonts have
        for block in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
            rows = [line for line in block[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
            assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(block[0])}


def test_markdown_keeps_what_is_harmless_readable():
    assert rendering.escape_markdown("DIV2K_val: `train_no_fm` [K]") == "DIV2K_val: `train_no_fm` [K]"
    assert rendering.escape_markdown("_a_ *b*") == r"\_a\_ \*b\*"
    assert rendering.escape_markdown("two\nlines |") == r"two lines \|"


def test_the_csv_is_unrounded(measured):
    write_json(measured[1] / "study.json", measured[0].content)
    render(Joined(*measured[:2]))
    with open(measured[1] / "tables/table3.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    base = lines[0]
    assert (base["row"], base["label"], base["group"]) == ("safmn", "-", "Baseline")
    assert base["flops measured"] == "13.55491584"
    assert base["flops published"] == "13.56"
    assert float(lines[1]["set5 difference to baseline [dB]"]) == pytest.approx(-1.1)
    assert lines[2]["set5_psnr note"] == "training failed: the disk is full"


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_everything(measured, capsys):
    study, folder, _ = measured
    write_json(folder / "study.json", study.content)
    assert cli.main(["tables", "--study", str(folder / "study.json"), "--results", str(folder)]) == 0
    printed_text = capsys.readouterr().out
    assert "# Ablation, study made" in printed_text
    assert "Agrees with the paper:" in printed_text
    assert "Table 5: 6 printed cells: 6 missing." in printed_text
    expected = ["cells.csv", "report.html", "figures/figure1.svg", "figures/figure1.png", "figures/figure7.svg"]
    expected += [f"tables/table{number}.{suffix}" for number in range(1, 6) for suffix in ("md", "csv", "tex")]
    for name in expected:
        assert (folder / name).stat().st_size > 0, name
    assert not [file for file in folder.rglob(".*") if file.is_file()]  # nothing half-written is left


def test_the_command_prints_json(measured, capsys):
    study, folder, _ = measured
    write_json(folder / "study.json", study.content)
    assert cli.main(["tables", "--study", str(folder / "study.json"), "--results", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = next(each for each in record["cells"] if (each["row"], each["column"]) == ("no_fm", "activations"))
    assert (found["published"], found["measured"], found["verdict"]) == ("76.70", 76.6, "contradicted")
    missing = next(each for each in record["cells"] if each["verdict"] == "missing")
    assert missing["measured"] is None


def test_the_command_refuses_a_file_for_a_folder(tmp_path, capsys):
    study = tmp_path / "study.json"
    write_json(study, fabricate.study().content)
    assert cli.main(["tables", "--study", str(study), "--results", str(study)]) == 2
    assert "is not a folder" in capsys.readouterr().err
