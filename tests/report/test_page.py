"""report.html: one file, well-formed, with every number, and nothing of others' text taken for HTML."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from safmn.files import write_text
from safmn.paper import verdicts
from safmn.report import ablation_table, figures, grids, origins, page, rendering, sentences, tables
from safmn.report.joined import Joined
from safmn.report.measured import Results
from tests.report import fabricate

VOID = {"meta", "img", "br", "hr", "link", "input"}
BAD = "<img src=x onerror=alert(1)> & \"quoted\" 'single' </script>"


class Reader(HTMLParser):
    """Elements, text and ids; fails on an element that is closed wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(study, folder) -> str:
    joined = Joined(study, folder)
    figures.draw_all(joined)
    origins.write(study, folder)
    return page.write(joined, tables.build_all(joined), ablation_table.build(joined)).read_text(encoding="utf-8")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("made") / "made"  # alone in its folder: a page shows its neighbours
    study = fabricate.study(
        description=BAD,
        data={"root": "/home/somebody/data", "train": ["T91"], "validation": ["BSDS200"], "test": ["Set5"]},
        weights={"root": "/home/somebody/weights"},
    )
    fabricate.complexity(tmp_path, "safmn", 239_520, 13_554_915_840, 76_700_160)
    fabricate.run(tmp_path, study, "safmn", **fabricate.collapsed(60, BAD))
    fabricate.quality(tmp_path, "safmn", "seed0_best", "Set5", [28.0, 29.0, 30.0, 31.0, 32.0])
    write_text(tmp_path / "training" / "no_fm" / "x4_seed0" / "failure.txt", BAD)
    return study, tmp_path, render(study, tmp_path)


def test_the_page_is_well_formed_and_for_phones_and_screen_readers(made):
    reader = read(made[2])
    assert reader.all("html") == [{"lang": "en"}]
    assert any(each.get("name") == "viewport" for each in reader.all("meta"))
    for tag in ("header", "nav", "main", "h1"):
        assert len(reader.all(tag)) == 1
    assert all(each.get("alt") for each in reader.all("img"))
    assert all(each.get("scope") for each in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    regions = [each for each in reader.all("div") if each.get("role") == "region"]
    assert len(regions) == len(reader.all("table"))  # every wide table scrolls by itself, by keyboard too
    assert all(each.get("tabindex") == "0" and each.get("aria-label") for each in regions)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [each["href"] for each in reader.all("a")]
    assert all(target.startswith("#") and target[1:] in ids for target in targets)


def test_the_page_needs_nothing_else(made):
    reader = read(made[2])
    for _, attributes in reader.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    assert not reader.all("link")
    assert "url(" not in made[2]
    assert "@import" not in made[2]
    policy = next(each for each in reader.all("meta") if each.get("http-equiv"))
    assert "default-src 'none'" in policy["content"]


def test_figures_are_inside(made):
    reader = read(made[2])
    first, *others = (each["alt"] for each in reader.all("img"))
    assert first == figures.caption("figure1")
    assert {figures.caption(name) for name in ("curves_x4", "figure2", "figure5", "figure6", "figure7")} <= set(others)
    for each in reader.all("img"):
        assert b"<svg" in base64.b64decode(each["src"].partition(",")[2])


def test_others_text_stays_text(made):
    html = made[2]
    assert "<img src=x" not in html
    assert "onerror=alert(1)>" not in html
    text = "".join(read(html).text)
    assert text.count(BAD) >= 4  # description, failure, collapse, and the list of what is missing


def test_verdicts_add_up_and_the_answer_comes_first(made):
    study, folder, html = made
    frame = Joined(study, folder).cells
    overview = tables.counts_by_table(frame)
    assert sum(overview["all"].values()) == sum(each.published != "" for each in frame)
    assert overview["Table 3"]["exact"] == 1
    assert list(overview["all"]) == list(verdicts.VERDICTS)
    order = [html.index(f'id="{name}"') for name in ("answer", "ablation", "overview", "verdicts", "table1", "figures")]
    assert order == sorted(order)
    for word in verdicts.VERDICTS:
        assert f"{grids.SYMBOLS[word]} {word}" in html


def test_every_table_is_there_and_sortable_by_unrounded_values(made):
    reader = read(made[2])
    ids = {attributes.get("id") for _, attributes in reader.elements}
    assert {f"table{number}" for number in range(1, 6)} <= ids
    values = [each["data-value"] for each in reader.all("td") if each.get("data-value")]
    assert "13.55491584" in values
    sortable = [each for each in reader.all("table") if "sortable" in (each.get("class") or "")]
    assert len(sortable) == len(reader.all("table")) - 1
    assert "aria-sort" in made[2]


def test_what_is_missing_is_listed_with_the_reason_and_the_number_of_cells(made):
    study, folder, html = made
    frame = Joined(study, folder).cells
    found = page.missing(frame)
    assert sum(each["cells"] for each in found) == sum(each.verdict == "missing" for each in frame)
    assert any(each["reason"].startswith("training failed: <img") for each in found)
    text = "".join(read(html).text)
    assert "the study does not test on Manga109" in text


def test_provenance_is_told_once(tmp_path):
    study = fabricate.study(seeds=[0, 1])
    fabricate.run(tmp_path, study, "safmn", 0)
    fabricate.run(tmp_path, study, "safmn", 1)
    fabricate.run(tmp_path, study, "no_fm", 0, provenance=fabricate.GPU)
    fabricate.runtime(tmp_path, {"safmn": 9.0}, fabricate.GPU)
    shared, *others = page.provenance(origins.collect(study, Results(tmp_path)))
    assert shared == {"what": "All 4 results", "facts": {"torch": "2.13.0"}}  # the same everywhere, so told once
    assert [each["what"] for each in others] == ["Training (2)", "Training (1), Time (1)"]
    assert (others[0]["facts"]["cpu"], others[1]["facts"]["gpu"]) == ("Test CPU", "NVIDIA GeForce RTX 3090")
    assert not any("torch" in each["facts"] for each in others)


def test_no_folder_of_whoever_ran_it_is_passed_on(made):
    assert "somebody" not in made[2]
    assert str(made[1]) not in made[2]
    shown = re.search(r"<summary>.*?<pre[^>]*>(.*?)</pre>", made[2], re.DOTALL)[1]
    import html

    told = json.loads(html.unescape(shown))
    assert told["data"]["train"] == ["T91"]
    assert told["training"]["iterations"] == 100


def test_an_empty_study_is_a_page_too(tmp_path):
    html = render(fabricate.study(variants="all", networks="all"), tmp_path)
    text = "".join(read(html).text)
    assert "not counted yet" in text
    assert "There are no results yet." in text


def test_claims_are_told_by_sentence_without_names_of_the_code(made):
    study, folder, html = made
    judged = sentences.evaluate(Joined(study, folder).cells)
    text = " ".join("".join(read(html).text).split())
    assert sentences.summary(judged) in text
    for each in sentences.by_sentence(judged):
        assert text.count(f"“{each.quotation}”") == 1
    for each in judged:
        assert sentences.about(each.claim) in text
        assert "_" not in each.claim.id or each.claim.id not in text
    shown = sentences.by_heading(judged)
    assert sum(len(each.rows) for part in shown.values() for each in part) == len(judged)
    following = shown.pop(sentences.FOLLOWING)
    words = {row["printed_verdict"] for each in following for row in each.rows}
    assert words == {verdicts.REPRODUCED, verdicts.ROUNDING}
    assert all(
        verdicts.CONTRADICTED in {word for result in each.results for word in result.verdicts}
        for part in shown.values()
        for each in part
    )


def test_commands_in_notes_are_code_and_nothing_else_is():
    assert str(rendering._with_code("run `snakemake train_a`: <b>")) == "run <code>snakemake train_a</code>: &lt;b&gt;"
    assert str(rendering._with_code("`<i>` and `")) == "<code>&lt;i&gt;</code> and `"
