"""report.html in a real browser: layout, sorting, a phone's width, paper, screen readers, and no network at all."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from safmn import cli
from safmn.files import write_json
from safmn.paper import verdicts
from safmn.report import grids
from tests.report import browser, fabricate
from tests.report.browser import Browser

PHONE, NARROWEST, DESK = 390, 320, 1280  # CSS pixels; 320 is the width at which WCAG asks for no sideways scrolling
SECTIONS = [
    "answer",
    "ablation",
    "overview",
    "verdicts",
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "claims",
    "figures",
    "missing",
    "provenance",
]
UNFOLD = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
SMALLEST_TARGET = 24  # CSS pixels, WCAG 2.5.8
CONTRAST = 4.5  # WCAG 1.4.3

# Text that can be seen, its colour and what is behind it: the nearest background of its ancestors that is not clear.
TEXTS = """
(() => {
  const clear = colour => colour === "rgba(0, 0, 0, 0)" || colour === "transparent";
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!clear(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, .sr, details:not([open]) > :not(summary)")) continue;
    const style = getComputedStyle(element);
    const key = [style.color, behind(element), style.fontSize].join("|");
    if (!found.has(key)) found.set(key, node.data.trim().slice(0, 40));
  }
  return [...found].map(([key, text]) => [...key.split("|"), text]);
})()
"""

# Clicks every header of every table twice; tells what stands in the column then, and who says that it is sorted.
SORT = """
(() => [...document.querySelectorAll("table.sortable")].map(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const column = at => [...body.rows].map(row => {
    const {value, text} = row.cells[at].dataset;
    const label = row.cells[at].tagName === "TH" ? row.cells[at].innerText : null;
    return value !== undefined ? Number(value) : text ?? label;
  });
  const rows = () => [...body.rows].map(row => row.innerText);
  const collator = new Intl.Collator("en", {numeric: true});
  const steps = shown => shown.slice(1).map((each, at) => typeof each === "string" && typeof shown[at] === "string"
    ? Math.sign(collator.compare(shown[at], each)) : null);
  const before = rows();
  const sorts = heads.map((head, at) => [1, 2].map(() => {
    head.querySelector("button").click();
    return {states: heads.map(each => each.getAttribute("aria-sort")), column: column(at), same: rows().sort(),
            steps: steps(column(at))};
  }));
  return {label: table.closest("[role=region]").ariaLabel, heads: heads.map(each => each.innerText.trim()), sorts,
          before: before.sort()};
}))()
"""

STICKING_OUT = """
(() => [...document.body.querySelectorAll("*")].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > innerWidth + 0.5 && !element.closest(".scroll *, pre *, figure *, .sr, script");
}).map(element => element.outerHTML.slice(0, 80)))()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report with something of everything: verdicts of many kinds, claims, figures, provenance, gaps."""
    folder = tmp_path_factory.mktemp("browser") / "made"
    study = fabricate.everything(folder)
    write_json(folder / "study.json", study.content)
    assert cli.main(["tables", "--study", str(folder / "study.json"), "--results", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Browser]:
    program = browser.find()
    if program is None:
        pytest.skip(f"none of {', '.join(browser.NAMES)} is installed: the page cannot be looked at")
    with browser.running(program, tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture
def desk(tab: Browser, page: Path) -> Browser:
    tab.media()
    tab.resize(DESK)
    tab.open(page)
    tab.run(UNFOLD)
    return tab


@pytest.fixture
def phone(tab: Browser, page: Path) -> Browser:
    tab.media()
    tab.resize(PHONE, 844, phone=True)
    tab.open(page)
    tab.run(UNFOLD)
    return tab


# --- Nothing but the file --------------------------------------------------------------------------------------------


def test_nothing_is_fetched_and_nothing_goes_wrong(desk: Browser, page: Path) -> None:
    asked = [
        event["params"]["request"]["url"] for event in desk.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert sum(url.startswith("data:image/svg+xml") for url in asked) == desk.run("document.images.length") >= 2
    bad = ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
    assert [event for event in desk.events if event["method"] in bad] == []
    # No address of another place, not even where nobody asked for it yet; code that asks for one would be refused.
    html = desk.run("document.documentElement.outerHTML")
    links = desk.run(
        "[...document.querySelectorAll('[href], [src], [srcset], [action], [data]')].map(e => e.outerHTML)"
    )
    assert all(' href="#' in link or ' src="data:' in link for link in links)
    assert "url(" not in html
    refused = desk.run("fetch('http://192.0.2.1/').then(() => 'answered', error => String(error))")
    assert "TypeError" in refused
    violations = [event["params"]["entry"]["text"] for event in desk.events if event["method"] == "Log.entryAdded"]
    assert any("Content Security Policy" in text for text in violations)


# --- Structure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_sections_follow_each_other(tab: Browser, page: Path, width: int) -> None:
    tab.media()
    tab.resize(width, phone=width < DESK)
    tab.open(page)
    boxes = tab.run(
        "[...document.querySelectorAll('header, nav, main > section')].map(each => {"
        " const box = each.getBoundingClientRect();"
        " return [each.id || each.localName, box.top, box.bottom, box.left, box.right]; })"
    )
    assert [box[0] for box in boxes] == ["header", "nav", *SECTIONS]
    for (_, _, above, *_), (name, top, bottom, left, right) in pairwise(boxes):
        assert top >= above, f"{name} begins within what stands before it"
        assert bottom - top > 20
        assert 0 <= left < right <= width


def test_the_first_screen_holds_the_answer_and_the_top_of_the_one_table(tab: Browser, page: Path) -> None:
    tab.media()
    tab.resize(DESK, 800)
    tab.open(page)
    answer = tab.run(
        "[...document.querySelectorAll('.answer')].map(e => [e.innerText, e.getBoundingClientRect().bottom])"
    )
    assert [text.partition(":")[0] for text, _ in answer] == ["Agrees with the paper", "Contradicts it", "Cannot say"]
    assert all(len(text) > len("Contradicts it: ") and bottom < 800 for text, bottom in answer)
    rows = tab.run("[...document.querySelectorAll('#ablation tbody tr')].map(e => e.getBoundingClientRect().bottom)")
    assert sum(bottom < 800 for bottom in rows) >= 3
    box = "document.querySelector('#ablation .scroll')"
    assert tab.run(f"{box}.scrollWidth <= {box}.clientWidth")  # every column, the verdict too
    assert tab.run("[...document.querySelectorAll('details')].every(each => !each.open)")


def test_the_first_screen_of_a_phone_holds_the_answer(tab: Browser, page: Path) -> None:
    tab.media()
    tab.resize(PHONE, 844, phone=True)
    tab.open(page)
    bottoms = tab.run("[...document.querySelectorAll('.answer')].map(e => e.getBoundingClientRect().bottom)")
    assert len(bottoms) == 3
    assert max(bottoms) < 844
    assert tab.run("document.querySelector('#ablation table').getBoundingClientRect().top") < 2 * 844


def test_a_link_unfolds_what_it_leads_to(tab: Browser, page: Path) -> None:
    tab.media()
    tab.resize(DESK, 800)
    tab.open(page)
    x, y = tab.run(
        "(box => [box.left + box.width / 2, box.top + box.height / 2])"
        "(document.querySelector('nav a[href=\"#table3\"]').getBoundingClientRect())"
    )
    tab.click(x, y)
    assert tab.run("new Promise(done => setTimeout(() => done(document.querySelector('#table3 details').open), 50))")
    assert tab.run("document.querySelector('#table3').getBoundingClientRect().top") < 800


def test_each_measured_field_has_colour_symbol_and_word(desk: Browser) -> None:
    fields = desk.run(
        "[...document.querySelectorAll('td .v')].filter(each => each.querySelector('.sr')).map(each => ({"
        " symbol: each.querySelector('[aria-hidden]').innerText, word: each.querySelector('.sr').textContent,"
        " look: [getComputedStyle(each).backgroundColor, getComputedStyle(each).color].join(' on ') }))"
    )
    looks = {}
    for field in fields:
        assert field["symbol"] == grids.SYMBOLS[field["word"]]
        looks.setdefault(field["word"], set()).add(field["look"])
    assert len(fields) > 50
    assert {verdicts.EXACT, verdicts.ROUNDING, verdicts.CONTRADICTED, verdicts.NOT_COMPARABLE} <= set(looks)
    assert all(len(each) == 1 for each in looks.values())
    good = looks[verdicts.EXACT] | looks[verdicts.ROUNDING]  # both agree with the print
    assert len(good) == 1
    assert len(set().union(*looks.values())) == len(looks) - 1


# --- Sorting ---------------------------------------------------------------------------------------------------------


def in_order(column: list, steps: list, falling: bool) -> bool:
    """Numbers by size, text by letters with its numbers by size, blanks last.

    `steps` is -1, 0 or 1 for each two neighbours that are text, as the language's own rules order them.
    """
    there = [each for each in column if each not in (None, "")]
    if column[len(there) :] != [each for each in column if each in (None, "")]:
        return False
    if all(isinstance(each, int | float) for each in there):
        return there == sorted(there, reverse=falling)
    wrong = -1 if falling else 1
    return all(isinstance(each, str) for each in there) and wrong not in steps[: len(there) - 1]


def test_every_header_sorts_its_table(desk: Browser) -> None:
    found = desk.run(SORT)
    assert len(found) > 14
    for table in found:
        for at, sorts in enumerate(table["sorts"]):
            for done, state in zip(sorts, ("ascending", "descending"), strict=True):
                where = f"{table['label']}, {table['heads'][at]}, {state}"
                assert [each for each in done["states"] if each] == [state], where
                assert done["states"][at] == state, where
                assert done["same"] == table["before"], f"{where}: rows were lost"
                assert in_order(done["column"], done["steps"], state == "descending"), where
            up, down = (done["column"] for done in sorts)
            assert up != down or len(set(up) - {None, ""}) < 2, (
                f"{table['label']}: the header {table['heads'][at]!r} sorts nothing"
            )


def test_a_mouse_and_a_keyboard_sort(desk: Browser) -> None:
    rows = "[...document.querySelector('#table2 table').tBodies[0].rows].map(row => row.cells[0].innerText)"
    assert desk.run(rows) == ["CARN", "IMDN", "SAFMN"]
    x, y = desk.run(
        "(() => { const button = document.querySelectorAll('#table2 th button')[1];"
        " button.scrollIntoView({block: 'center'}); const box = button.getBoundingClientRect();"
        " return [box.left + box.width / 2, box.top + box.height / 2]; })()"
    )
    desk.click(x, y)  # by the paper's memory: 65.26, 203.44 and 689.83 MiB
    assert desk.run(rows) == ["SAFMN", "IMDN", "CARN"]
    desk.press("Enter", 13)
    assert desk.run(rows) == ["CARN", "IMDN", "SAFMN"]
    outline = desk.run("(e => getComputedStyle(e).outlineStyle + ' ' + e.innerText)(document.activeElement)")
    assert outline.startswith("solid")  # one sees where the keyboard is


# --- A phone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [PHONE, NARROWEST])
def test_a_phone_scrolls_tables_and_not_the_page(tab: Browser, page: Path, width: int) -> None:
    tab.media()
    tab.resize(width, 844, phone=True)
    tab.open(page)
    tab.run(UNFOLD)
    assert tab.run("innerWidth") == width  # not zoomed out
    assert tab.run("document.scrollingElement.scrollWidth") <= width
    assert tab.run(STICKING_OUT) == []
    wide = tab.run(
        "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
    )
    assert wide > 5
    # A figure is as wide as the screen, and its writing no smaller than half of what it was drawn at.
    assert min(tab.run("[...document.images].map(each => each.width / each.naturalWidth)")) > 0.5
    assert min(tab.run("[...document.images].map(each => each.width)")) > 0.85 * width
    # Scrolled to the side, one still sees what the row is about.
    seen = tab.run(
        "(() => { const box = document.querySelector('#table3 .scroll'); box.scrollLeft = 400;"
        " const label = box.querySelector('tbody th:last-of-type').getBoundingClientRect();"
        " return label.left - box.getBoundingClientRect().left; })()"
    )
    assert abs(seen) < 3


def test_a_finger_hits_what_it_aims_at(phone: Browser) -> None:
    boxes = phone.run(
        "[...document.querySelectorAll('th button')].map(each => each.getBoundingClientRect())"
        ".filter(box => box.width > 0).map(box => [box.width, box.height])"  # a phone shows no column of groups
    )
    assert min(min(box) for box in boxes) >= SMALLEST_TARGET
    sizes = {float(size.removesuffix("px")) for _, _, size, _ in phone.run(TEXTS)}
    assert min(sizes) >= 10.5  # the smallest are footnote numbers


# --- Screen readers --------------------------------------------------------------------------------------------------


def test_what_a_screen_reader_gets(desk: Browser) -> None:
    nodes = desk.accessibility()
    by_role: dict[str, list[dict]] = {}
    for node in nodes:
        by_role.setdefault(node["role"], []).append(node)
    for landmark in ("banner", "main", "navigation"):
        assert len(by_role[landmark]) == 1, landmark
    assert by_role["navigation"][0]["name"] == "Contents"
    assert desk.run("[document.documentElement.lang, document.title]") == ["en", "SAFMN reproduced: made"]

    levels = [node["level"] for node in by_role["heading"]]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = [node["name"] for node in by_role["heading"]]
    assert all(names)
    assert len([name for name in names if name.startswith("Table ")]) == 5

    for role in ("region", "table", "button", "link", "image"):
        assert by_role[role], role
        assert all(node["name"] for node in by_role[role]), role
    for role in ("region", "table"):  # which of all these is it?
        found = [node["name"] for node in by_role[role]]
        assert len(found) == len(set(found)), role
    assert not [node for node in by_role["button"] if "↕" in node["name"]]
    assert {"columnheader", "rowheader", "caption"} <= set(by_role)
    assert len(by_role["table"]) == desk.run("document.querySelectorAll('table').length")
    # A verdict is a word for the ear, where the eye has a symbol.
    text = " ".join(node["name"] for node in by_role["cell"])
    assert "not comparable" in text
    assert not any(symbol in text for symbol in ("≈", "○", "✗"))


def test_everything_can_be_reached_by_keyboard(desk: Browser) -> None:
    reachable = desk.run(
        "[...document.querySelectorAll('a, button, summary, [tabindex]')].filter(each => each.tabIndex < 0).length"
    )
    assert reachable == 0
    desk.press("Tab", 9)
    assert desk.run("document.activeElement.innerText") == "Answer"


# --- Colours ---------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of rgb(...), by WCAG 2's definition."""
    values = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_whatever_the_reader_prefers(tab: Browser, page: Path, scheme: str) -> None:
    tab.resize(DESK)
    tab.media(prefers_color_scheme=scheme)
    tab.open(page)
    texts = tab.run(TEXTS)
    assert len(texts) > 10
    for colour, behind, _, text in texts:
        low, high = sorted((luminance(colour), luminance(behind)))
        assert (high + 0.05) / (low + 0.05) >= CONTRAST, (text, colour, behind)


# --- Paper -----------------------------------------------------------------------------------------------------------


def test_tables_fit_on_paper(desk: Browser) -> None:
    assert desk.run("getComputedStyle(document.querySelector('nav')).display") != "none"
    desk.media("print")
    # A4 across with margins of 10 mm: 277 mm, 1047 CSS pixels.
    desk.resize(1047)
    assert desk.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert set(desk.run("[...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)")) == {
        "visible"
    }
    assert (
        desk.run("Math.max(...[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right))")
        <= 1047
    )
    paper = desk.pdf()
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") >= 4
