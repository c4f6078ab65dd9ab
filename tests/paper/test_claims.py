"""The claims: each rule by hand, interval arithmetic, and the verdicts of the paper's sentences."""

import csv
import os
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safmn.paper import claims, published, spans, verdicts
from safmn.paper.cell import Cell
from safmn.paper.claims import Allowed, Claim
from safmn.paper.quotations import CLAIMS
from safmn.paper.spans import Span
from safmn.report import sentences
from safmn.report.joined import Joined
from safmn.report.rendering import escape_markdown
from tests.report import fabricate

# --- Arithmetic -------------------------------------------------------------------------------------------------------

A, B = replace(Span.point(3), text="a"), replace(Span.point(4), text="b")


@pytest.mark.parametrize(
    ("number", "expected", "text"),
    [
        (A - B, "-1", "a - b"),
        ((A * 1000 - 16608) / 7, "-13608/7", "(a * 1000 - 16608) / 7"),
        ((A - B) - spans.least(A - B, B), "0", "(a - b) - least(a - b, b)"),
        (Span.point(0) - spans.ratio(A, B), "-0.75", "0 - ratio(a, b)"),
        (spans.difference(A, B), "-1", "difference(a, b)"),
        (spans.percent(A, B), "75", "percent(a, b)"),
        (spans.percent_less(A, B), "25", "percent_less(a, b)"),
        (spans.percent_less(B, A), "-100/3", "percent_less(b, a)"),
        (spans.magnitude(A - B), "1", "magnitude(a - b)"),
        (spans.greatest(A, B, A), "4", "greatest(a, b, a)"),
        (spans.mean(A, B, Span.point(8)), "5", "mean(a, b, 8)"),
        (spans.smallest_step(Span.point(1), A, B), "1", "smallest_step(1, a, b)"),
        (spans.smallest_step(B, A), "-1", "smallest_step(b, a)"),
    ],
)
def test_operations(number, expected, text):
    assert number.low == number.high == Fraction(expected)
    assert number.text == text


@pytest.mark.parametrize(
    ("printed", "low", "high"),
    [
        ("240", "239.5", "240.5"),
        ("0.17", "0.165", "0.175"),
        ("110.00", "109.995", "110.005"),
        ("46.5", "46.45", "46.55"),
    ],
)
def test_a_published_value_stands_for_what_rounds_to_it(printed, low, high):
    assert Span.printed(printed) == Span(Fraction(low), Fraction(high))
    assert verdicts.rounds_to(verdicts.Decimal(low), printed)
    beyond = verdicts.Decimal(high) + verdicts.Decimal("0.0001")
    assert not verdicts.rounds_to(beyond, printed)


def test_rounding_is_carried_through():
    span = spans.percent_less(Span.printed("77"), Span.printed("108"))
    assert span.low == 100 * (1 - Fraction("77.5") / Fraction("107.5"))
    assert span.high == 100 * (1 - Fraction("76.5") / Fraction("108.5"))
    assert Span.printed("30.43") - Span.printed("30.30") == Span(Fraction("0.12"), Fraction("0.14"))


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-2, 1, (0, 2)), (-1, 3, (0, 3)), (-3, -1, (1, 3)), (1, 3, (1, 3)), (0, 2, (0, 2))]
)
def test_magnitude_of_a_span(low, high, expected):
    span = spans.magnitude(Span(Fraction(low), Fraction(high)))
    assert (span.low, span.high) == expected


def test_dividing_by_what_may_be_0():
    for divisor in (Span.printed("0"), B - B, Span(Fraction(-1), Fraction(2))):
        with pytest.raises(ZeroDivisionError, match="divides by what may be 0"):
            spans.percent_less(A, divisor)


numbers = st.decimals(min_value=-1000, max_value=1000, places=2, allow_nan=False, allow_infinity=False).map(Fraction)
BINARY = {  # on spans, and on plain numbers
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "/": (lambda a, b: a / b, lambda a, b: a / b),
    "least": (spans.least, min),
    "greatest": (spans.greatest, max),
    "mean": (spans.mean, lambda a, b: (a + b) / 2),
    "percent": (spans.percent, lambda a, b: a / b * 100),
    "percent_less": (spans.percent_less, lambda a, b: (b - a) / b * 100),
    "smallest_step": (spans.smallest_step, lambda a, b: b - a),
    "magnitude": (lambda a, b: spans.magnitude(a - b), lambda a, b: abs(a - b)),
}
formulas = st.recursive(st.sampled_from("abc"), lambda part: st.tuples(st.sampled_from(sorted(BINARY)), part, part))


def compute(formula, values, side):
    if isinstance(formula, str):
        return values[formula]
    name, *parts = formula
    return BINARY[name][side](*(compute(part, values, side) for part in parts))


@settings(max_examples=200, deadline=None)
@given(formulas, st.tuples(numbers, numbers, numbers), st.tuples(*[st.integers(0, 50)] * 3), st.data())
def test_a_span_holds_every_value(formula, centres, widths, data):
    values = dict(zip("abc", centres, strict=True))
    try:
        expected = compute(formula, values, 1)
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            compute(formula, {name: Span.point(value) for name, value in values.items()}, 0)
        return
    point = compute(formula, {name: Span.point(value) for name, value in values.items()}, 0)
    assert point == Span(expected, expected)
    inside = {
        name: value + data.draw(st.integers(0, width))
        for (name, value), width in zip(values.items(), widths, strict=True)
    }
    ranges = {name: Span(value, value + width) for (name, value), width in zip(values.items(), widths, strict=True)}
    try:
        span = compute(formula, ranges, 0)
    except ZeroDivisionError:
        return
    assert span.low <= compute(formula, inside, 1) <= span.high


# --- How precise a sentence is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "value", "unit", "inside", "outside"),
    [
        ("exactly", "0.17", "dB", ["0.165", "0.17", "0.175"], ["0.1649", "0.1751", "-0.17"]),
        ("exactly", "29", "%", ["28.5", "28.7", "29.5"], ["28.49", "29.51"]),
        ("exactly", "0.20", "dB", ["0.195", "0.205"], ["0.19", "0.21"]),
        ("about", "85", "%", ["84", "84.92", "86"], ["83.99", "86.01"]),
        ("about", "8.5", "%", ["8.4", "8.6"], ["8.39", "8.61"]),
        ("nearly", "2", "times", ["1.8", "1.85", "2", "2.5"], ["1.79", "1.67", "2.51"]),
        ("nearly", "33", "M", ["29.7", "33.3", "33.5"], ["29.69", "33.51"]),
        ("at least", "3", "times", ["3", "100"], ["2.999", "-3"]),
        ("at most", "10", "%", ["10", "-5"], ["10.001"]),
        ("more than", "0", "dB", ["0.0001", "9"], ["0", "-0.1"]),
        ("less than", "10", "%", ["9.999", "-1"], ["10", "11"]),
        ("almost the same", "", "dB", ["-0.05", "0", "0.05"], ["-0.051", "0.051"]),
        ("comparable", "", "dB", ["-0.1", "0", "5"], ["-0.11"]),
        ("similar", "", "dB", ["-0.1", "0.1"], ["-0.11", "0.11"]),
        ("similar", "", "%", ["-10", "4.8", "10"], ["-10.1", "10.1"]),
        ("much less", "", "%", ["50", "68"], ["49.9"]),
        ("small", "", "%", ["10", "4.9"], ["10.1", "28.8"]),
        ("large margin", "", "dB", ["0.1", "0.63"], ["0.099"]),
        ("large margin", "", "SSIM", ["0.001", "0.0018"], ["0.0009"]),
    ],
)
def test_rules_of_precision(precision, value, unit, inside, outside):
    rule = replace(DROP, precision=precision, value=value, unit=unit).allowed
    for number in inside:
        assert rule.covers(Span.point(number)), number
        assert rule.meets(Span.point(number)), number
    for number in outside:
        assert not rule.covers(Span.point(number)), number
        assert not rule.meets(Span.point(number)), number


def test_every_rule_is_described_and_tested():
    marks = next(mark for mark in test_rules_of_precision.pytestmark if mark.name == "parametrize")
    tested = {(case[0], case[2]) for case in marks.args[1]}
    assert {precision for precision, _ in tested} == {*claims.STATED, *claims.WORDS}
    assert {(word, unit) for word, rules in claims.WORDS.items() for unit in rules} <= tested
    assert all(f"`{word}" in claims.__doc__ for word in (*claims.STATED, *claims.WORDS))


@pytest.mark.parametrize(
    ("low", "high", "covers", "meets"),
    [("1", "2", True, True), ("0", "2", False, True), ("2", "4", False, True), ("3.1", "4", False, False)],
)
def test_spans_and_what_is_allowed(low, high, covers, meets):
    rule = Allowed(Fraction(1), Fraction(3))
    span = Span(Fraction(low), Fraction(high))
    assert (rule.covers(span), rule.meets(span)) == (covers, meets)
    assert not Allowed(low=Fraction(2), strict=True).meets(Span(Fraction(1), Fraction(2)))
    assert Allowed(low=Fraction(2)).meets(Span(Fraction(1), Fraction(2)))


# --- One claim --------------------------------------------------------------------------------------------------------

OURS, WITHOUT = (3, "safmn", 4, "div2k_val_psnr"), (3, "safm_none", 4, "div2k_val_psnr")
DROP = Claim("made", "exactly", "0.17", "dB", {"ours": OURS, "without": WITHOUT}, spans.difference)
DIGITS = {OURS: "30.43", WITHOUT: "30.26"}


def test_groups_of_cells_are_named_by_their_parts():
    group = {name: {"a": (1, name, 4, "set5_psnr"), "b": (1, name, 4, "b100_psnr")} for name in ("safmn", "imdn")}
    claim = replace(
        DROP, cells=group, compute=lambda ours, imdn: spans.least(*(x - y for x, y in zip(ours, imdn, strict=True)))
    )
    assert claim.arithmetic == "least(safmn_a - imdn_a, safmn_b - imdn_b)"
    assert list(claim.places) == ["safmn_a", "safmn_b", "imdn_a", "imdn_b"]
    values = {place: Span.point(number) for number, place in enumerate(claim.places.values())}
    assert claim.number(values) == Span.point(-2)


# --- On the print -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "reproduced"),  # 30.43 - 30.26 = 0.17, the numbers behind from 0.16 to 0.18
        ({"value": "0.18"}, "rounding"),
        ({"value": "0.16"}, "rounding"),
        ({"value": "0.19"}, "contradicted"),
        ({"value": "0.15"}, "contradicted"),
        ({"value": "0.2"}, "reproduced"),
        ({"precision": "about", "value": "0.18"}, "reproduced"),
        ({"precision": "about", "value": "0.20"}, "contradicted"),
        ({"precision": "more than", "value": "0.17"}, "rounding"),
        ({"precision": "more than", "value": "0.18"}, "contradicted"),
        ({"precision": "at least", "value": "0.18"}, "rounding"),
        ({"compute": lambda ours, without: without - ours}, "contradicted"),
    ],
)
def test_verdicts_on_the_print(changes, expected):
    side = claims.on_print(replace(DROP, **changes), DIGITS)
    assert side.verdict == expected
    assert abs(side.value) == pytest.approx(0.17)
    assert side.low < side.value < side.high


def test_a_wrong_sentence_is_caught():
    """Every number that a sentence states, moved by four units of its last digit, no longer follows."""
    digits = {cell.place: cell.printed for cell in published.cells(sentences.printed_networks())}
    moved = 0
    for claim in CLAIMS:
        if claim.precision not in ("exactly", "about") or claims.on_print(claim, digits).verdict == "contradicted":
            continue
        decimals = verdicts.decimals(claim.value)
        for step in (-4, 4):
            wrong = f"{float(Fraction(claim.value) + step * Fraction(1, 10**decimals)):.{decimals}f}"
            assert claims.on_print(replace(claim, value=wrong), digits).verdict == "contradicted", claim.id
            moved += 1
    assert moved > 50


# --- The paper's sentences --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results():
    return {each.claim.id: each for each in sentences.evaluate()}


def as_published():
    """Every published cell, measured as it was published."""
    for each in published.cells(sentences.printed_networks()):
        yield Cell(*each.place, each.printed, each.value, each.unit, 0.0, "rounding", device="cuda")


def with_seeds():
    """Every published cell, moved by up to five units of its last digit, with an interval of two units to a side."""
    for number, each in enumerate(published.cells(sentences.printed_networks())):
        unit = 10.0 ** -verdicts.decimals(each.printed)
        value = round(each.value + (number * 7 % 11 - 5) * unit, 6)
        ends = {"low": round(value - 2 * unit, 6), "high": round(value + 2 * unit, 6), "seeds": 3}
        yield Cell(*each.place, each.printed, value, each.unit, None, "reproduced", device="cuda", **ends)


def test_the_verdicts_of_all_claims():
    """On the published cells, on cells measured as published, and on cells with a spread.

    The values on the published cells were computed by hand from the tables as printed, too.
    """
    sides = {"as_published": sentences.evaluate(as_published()), "with_seeds": sentences.evaluate(with_seeds())}
    lines = []
    for first, second in zip(*sides.values(), strict=True):
        numbers = (f"{second.measured.value:.6g}", f"{second.measured.low:.6g}", f"{second.measured.high:.6g}")
        verdicts_ = (first.printed.verdict, first.measured.verdict, second.measured.verdict)
        lines.append([first.claim.id, *verdicts_, f"{first.printed.value:.6g}", *numbers])
    with open(Path(__file__).with_name("verdicts_of_claims.csv"), encoding="utf-8", newline="") as handle:
        assert lines == list(csv.reader(handle))[1:]
    assert {line[3] for line in lines} == {"reproduced", "contradicted", "undecidable"}
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) == 69


def test_no_reading_is_called_a_contradiction(results):
    """What a sentence states, in a number or an order, and still does not follow."""
    failing = [each.claim for each in results.values() if each.printed.verdict == verdicts.CONTRADICTED]
    assert {claim.id for claim in failing if not claim.is_reading} == {
        "improvement_in_time",
        "memory_of_carn",
        "twice_as_fast_as_carn_m",
        "twice_as_fast_as_carn",
    }
    assert all(each.claim.note for each in results.values() if each.claim.read)


def test_the_best_prints_are_the_best():
    """`urban100_worst_*` names the network with the best print of each test set."""
    values = {cell.place: cell.value for cell in published.cells(sentences.printed_networks(), [1])}
    for claim in (each for each in CLAIMS if each.id.startswith("urban100_worst")):
        for place in claim.cells["best"].values():
            rivals = [value for other, value in values.items() if other[2:] == place[2:]]
            assert values[place] == max(rivals), (claim.id, place)


def test_architecture_behind_the_block_count():
    from torch import nn

    from safmn import networks

    def count(module: nn.Module) -> int:
        return sum(each.numel() for each in module.parameters())

    four, eight = networks.build("blocks_4", 4), networks.build("safmn", 4)
    assert count(eight) == 8 * 27864 + 16608
    assert count(eight) - count(four) == 4 * (21 * 36 + 18) * 36


@pytest.fixture(scope="module")
def paper():
    folder = os.environ.get("SAFMN_DOCS")
    if not folder:
        pytest.skip("SAFMN_DOCS is not set: it names the folder that holds paper.md, the paper's text")
    file = Path(folder) / "paper.md"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file.read_text(encoding="utf-8")


def test_quotations_are_the_papers_words(paper):
    sections, name = {}, ""
    for line in paper.splitlines():
        heading = re.match(r"#+ (\d+(?:\.\d+)?)?\.? ?(.*)", line)
        if heading:
            name = heading[1] or heading[2]
        sections[name] = f"{sections.get(name, '')} {line}"
    plain = {name: " ".join(text.split()) for name, text in sections.items()}
    for claim in CLAIMS:
        assert claim.section in plain, claim.id
        assert claim.quotation in plain[claim.section], f"{claim.id}: not in section {claim.section}"


# --- On measured cells ------------------------------------------------------------------------------------------------


def at(network, measured=None, verdict="reproduced", note="", **changes):
    """A cell of Table 3, DIV2K-val; `changes` replace fields."""
    fields = {"table": 3, "scale": 4, "column": "div2k_val_psnr", "published": "30.00", "unit": "dB"} | changes
    return Cell(network=network, measured=measured, verdict=verdict, note=note, **fields)


def trained(network, mean, reach):
    """A network trained with several seeds, its verdict by the rule."""
    ends = (mean - reach, mean + reach)
    verdict = verdicts.training("30.00", "psnr", mean, interval=ends)
    facts = {"low": ends[0], "high": ends[1], "seeds": 3, "origin": "trained"}
    return at(network, mean, verdict.verdict, verdict.note, **facts)


def judge(cells, **changes):
    return claims.on_measurement(replace(DROP, **changes), {cell.place: cell for cell in cells})


@pytest.mark.parametrize(
    ("reach", "changes", "expected"),
    [
        (0.001, {}, "reproduced"),  # 0.171, from 0.169 to 0.173
        (0.001, {"value": "0.18"}, "contradicted"),  # from 0.175
        (0.003, {}, "undecidable"),  # 0.165 to 0.177
        (0.001, {"value": "0.19"}, "contradicted"),
        (0.05, {"value": "0.34"}, "contradicted"),  # 0.071 to 0.271, from 0.335
        (0.05, {"precision": "more than", "value": "0"}, "reproduced"),
        (0.1, {"precision": "more than", "value": "0"}, "undecidable"),
        (0.05, {"precision": "more than", "value": "0.3"}, "contradicted"),
    ],
)
def test_seeds_decide_or_not(reach, changes, expected):
    side = judge([trained("safmn", 30.431, reach), trained("safm_none", 30.26, reach)], **changes)
    assert side.verdict == expected
    assert side.value == pytest.approx(0.171)
    assert (side.low, side.high) == (pytest.approx(0.171 - 2 * reach), pytest.approx(0.171 + 2 * reach))


def test_a_number_counts_with_its_interval():
    for mean, low, high in ((30.0, 29.99, 30.01), (30.0, 28.0, 32.0), (-1.5, -2.25, 0.125)):
        assert claims.spread(at("safmn", mean, low=low, high=high)) == Span(Fraction(str(low)), Fraction(str(high)))
    assert claims.spread(at("safmn", 30.1)) == Span.point("30.1")


@pytest.mark.parametrize("mean", [30.12345, 30.12355])
def test_a_rounded_interval_holds_its_mean(mean):
    """Seeds that agree have an interval of no width; rounded for print, it lies beside the mean."""
    span = claims.spread(at("safmn", mean, low=30.1235, high=30.1235))
    assert span == Span(*sorted((Fraction(str(mean)), Fraction("30.1235"))))


def test_a_single_seed_decides_nothing():
    single = verdicts.training("30.43", "psnr", 30.43)
    lines = [at("safmn", 30.43, single.verdict, single.note), trained("safm_none", 30.26, 0.001)]
    side = judge(lines)
    assert side.verdict == "undecidable"
    assert "Table 3 safmn x4 div2k_val_psnr has no interval" in side.note
    assert side.value == pytest.approx(0.17)


def test_a_missing_cell_is_named():
    lines = [trained("safmn", 30.43, 0.001), at("safm_none", None, "missing", "not trained yet")]
    side = judge(lines)
    assert side == claims.Side("missing", note="Table 3 safm_none x4 div2k_val_psnr: not trained yet")
    assert judge(lines[:1]).note.endswith(": the study does not have it")
    assert judge([]).note == "Table 3 safmn x4 div2k_val_psnr (and 1 more): nothing is measured yet"


def test_what_is_not_comparable_is_said():
    reason = "trained for 1000 iterations instead of 500000"
    side = judge([trained("safmn", 30.43, 0.001), at("safm_none", 25.5, "not comparable", reason)])
    assert (side.verdict, side.note) == ("not comparable", f"Table 3 safm_none x4 div2k_val_psnr: {reason}")
    assert side.value == pytest.approx(4.93)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_not_computed_with(value):
    side = judge([at("safmn", value, "contradicted", "diverged"), trained("safm_none", 30.26, 0.001)])
    assert (side.verdict, side.value) == ("undecidable", None)
    assert side.note == "Table 3 safmn x4 div2k_val_psnr is not finite: diverged"


def test_dividing_by_a_measured_0():
    lines = [at("safmn", 1.0), at("safm_none", 0.0)]
    side = judge(lines, compute=spans.ratio, unit="times")
    assert (side.verdict, side.note) == ("undecidable", "it divides by what may be 0")


def test_counts_and_predicted_memory_are_exact_enough():
    measured = {"safmn": 76.70016, "carn": 193.7088, "imdn": 107.827}
    counted = {"table": 1, "column": "activations", "unit": "M", "origin": "counted"}
    memory = {"table": 2, "column": "gpu_memory", "unit": "MiB", "origin": "predicted"}
    lines = [at(network, value, "rounding", **counted) for network, value in measured.items()]
    lines += [at(network, value, **memory) for network, value in (("safmn", 64.90), ("imdn", 200.28))]
    found = {each.claim.id: each.measured for each in sentences.evaluate(lines)}
    assert (found["acts_less_than_carn"].verdict, found["acts_less_than_imdn"].verdict) == ("reproduced", "reproduced")
    assert found["acts_less_than_carn"].value == pytest.approx(60.4, abs=0.01)
    assert found["memory_less_than_imdn"].verdict == "reproduced"
    assert found["memory_less_than_imdn"].note == "memory predicted without a GPU"
    assert found["acts_less_than_shufflemixer"].verdict == "missing"


RTX = fabricate.GPU
OTHER = fabricate.GPU | {"gpu": "NVIDIA H100"}


@pytest.mark.parametrize(
    ("provenance", "verdict", "value"),
    [(RTX, "reproduced", 1.9), (OTHER, "not comparable", 1.9), (fabricate.PROVENANCE, "not comparable", None)],
)
def test_times_count_on_the_papers_gpu_only(tmp_path, provenance, verdict, value):
    study = fabricate.study(networks=["carn"])
    fabricate.runtime(tmp_path, {"safmn": 10.0, "carn": 19.0}, provenance)
    found = {each.claim.id: each.measured for each in sentences.evaluate(Joined(study, tmp_path).cells)}
    side = found["twice_as_fast_as_carn"]
    assert side.verdict == verdict
    assert side.value == (pytest.approx(value) if value else None)
    assert ("CPU" in side.note) == (value is None)
    assert found["twice_as_fast_as_lapar"].verdict == "missing"


def test_a_users_own_variants_do_not_change_the_print(tmp_path, monkeypatch):
    folder = tmp_path / "ablations"
    folder.mkdir()
    (folder / "mine.yaml").write_text("title: mine\ndescription: One of my own.\n", encoding="utf-8")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    assert len(sentences.evaluate()) == len(CLAIMS)


# --- What is written --------------------------------------------------------------------------------------------------


def test_files(tmp_path):
    written = sentences.evaluate()
    sentences.write(written, tmp_path / "study")
    folder = tmp_path / "study" / "tables"
    assert sorted(each.name for each in folder.iterdir()) == ["claims.csv", "claims.md"]
    with open(folder / "claims.csv", encoding="utf-8", newline="") as handle:
        sheet = {line["id"]: line for line in csv.DictReader(handle)}
    assert list(sheet) == [each.claim.id for each in written] == [claim.id for claim in CLAIMS]
    line = sheet["params_less_than_carn"]
    assert [line[key] for key in ("printed_verdict", "states", "section")] == ["reproduced", "about 85 %", "4.2"]
    assert float(line["printed_value"]) == pytest.approx(100 - 24000 / 1592, abs=1e-9)
    assert "ours = Table 1 safmn x4 params" in line["cells"]
    text = (folder / "claims.md").read_text(encoding="utf-8")
    for each in written:
        assert f"“{each.claim.quotation}”" in text
        assert escape_markdown(sentences.about(each.claim)) in text
        assert "_" not in each.claim.id or each.claim.id not in text  # names of the code are not for readers
    assert "On measured cells: 69 missing" in text
    short = text[text.index("## What does not follow from") : text.index("## What does not follow as")]
    assert short.count("\n- ") == 4
    assert "states exactly 10 %, the cells give 9.46 %" in short


def test_any_text_is_escaped():
    claim = replace(DROP, section="5", quotation="a | b\n<script> `x` *c*", value="0.99", note="see | <b>")
    result = claims.Result(claim, claims.on_print(claim, DIGITS), claims.on_measurement(claim, {}))
    text = sentences.markdown([result])
    assert "<script>" not in text.replace("\\<script>", "")
    rows = [line for line in text.splitlines() if line.startswith("| 5")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 9  # eight columns: no field was split
