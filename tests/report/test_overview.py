"""The page over all studies: which evidence is chosen, and what is written."""

import csv
import json
from dataclasses import replace

import pytest

from safmn import cli
from safmn.errors import UserError
from safmn.paper import verdicts
from safmn.paper.cell import PUBLISHED_WEIGHTS, TRAINED, Cell
from safmn.paths import ROOT
from safmn.report import cells, overview
from safmn.report import page as page_file
from safmn.report.joined import Joined
from safmn.study import Study

PLACE = (1, "safmn", 4, "set5_psnr")


def make(folder, name, cell=None, **training):
    """A folder of a study with no number but that of `cell` at PLACE."""
    content = json.loads(json.dumps(Study.load(ROOT / "config/mini.yaml").shareable)) | {"name": name}
    content["training"] |= training
    folder = folder / name
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(content))
    found = Joined(Study.from_content(content, name), folder).cells
    cells.write(
        [replace(each, **cell) if cell and each.place == PLACE else each for each in found], folder / "cells.csv"
    )
    return folder


def number(verdict, **facts):
    return {"measured": 32.1, "verdict": verdict, "note": "", "seeds": 1, "device": "cpu", "origin": TRAINED} | facts


def chosen(*folders):
    evidence = overview.choose([overview.read(folder) for folder in folders])
    return next(each for each in evidence if each.cell.place == PLACE)


ORDER = [
    verdicts.CONTRADICTED,
    verdicts.REPRODUCED,
    verdicts.UNDECIDABLE,
    verdicts.NOT_COMPARABLE,
    verdicts.MISSING,
]


@pytest.mark.parametrize("better", range(4))
def test_the_better_verdict_is_taken_in_either_order(tmp_path, better):
    first = make(tmp_path, "first", number(ORDER[better]))
    worse = ORDER[better + 1]
    second = make(tmp_path, "second", None if worse == verdicts.MISSING else number(worse))
    for folders in ((first, second), (second, first)):
        evidence = chosen(*folders)
        assert (evidence.study, evidence.cell.verdict) == ("first", ORDER[better])
        assert evidence.others == ({} if worse == verdicts.MISSING else {"second": worse})
        assert (f"second says {worse}" in evidence.note) == (worse != verdicts.MISSING)


def test_of_equal_verdicts_the_larger_budget_then_more_seeds_are_taken(tmp_path):
    small = make(tmp_path, "small", number(verdicts.NOT_COMPARABLE, seeds=9), iterations=300)
    large = make(tmp_path, "large", number(verdicts.NOT_COMPARABLE), iterations=301)
    seeds = make(tmp_path, "seeds", number(verdicts.NOT_COMPARABLE, seeds=3), iterations=301)
    assert chosen(small, large).study == "large"
    assert chosen(small, large, seeds).study == "seeds"
    assert chosen(large).budget == "301 iterations of 1 patch of 24x24 on photographs[2:3], photographs[4:]"


def test_a_number_that_needs_no_training_has_no_budget(tmp_path):
    weights = make(tmp_path, "weights", number(verdicts.ROUNDING, seeds=0, origin=PUBLISHED_WEIGHTS))
    assert chosen(weights).budget == ""


def test_every_published_cell_stands_once_in_each_form(tmp_path, capsys):
    folder = make(tmp_path, "one", number(verdicts.NOT_COMPARABLE, low=32.0, high=32.2, note="<b>|`$x$`</b>"))
    stem = tmp_path / "overview"
    assert cli.main(["overview", str(folder), "--out", str(stem)]) == 0
    assert "746 published cells" in capsys.readouterr().out
    with open(f"{stem}.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert len(lines) == 746 == len({(line["table"], line["row"], line["scale"], line["column"]) for line in lines})
    assert list(lines[0])[:10] == list(cells.FIELDS)[:10]
    line = next(
        line
        for line in lines
        if (line["table"], line["row"], line["column"]) == ("1", "safmn", "set5_psnr") and line["scale"] == "4"
    )
    assert (line["measured"], line["study"]) == ("32.1", "one")
    page = (tmp_path / "overview.html").read_text()
    assert "32.100 [32.000, 32.200]" in page
    assert "<b>|" not in page
    assert "32.100 [32.000, 32.200]" in (tmp_path / "overview.md").read_text()


def test_studies_without_a_published_cell_give_an_overview_of_nothing(tmp_path):
    folder = make(tmp_path, "gated")
    own = [Cell(3, "gated", 4, "params", measured=1.0, verdict=verdicts.NOT_COMPARABLE)]
    cells.write(own, folder / "cells.csv")
    stem = tmp_path / "overview"
    assert cli.main(["overview", str(folder), "--out", str(stem)]) == 0
    with open(f"{stem}.csv", newline="") as handle:
        assert list(csv.reader(handle)) == [[*cells.FIELDS, "study", "budget"]]
    assert "\n0 published cells.\n" in (tmp_path / "overview.md").read_text()


def test_counts_agree_with_counting(tmp_path):
    folders = [make(tmp_path, "one", number(verdicts.REPRODUCED)), make(tmp_path, "two")]
    evidence = overview.choose([overview.read(folder) for folder in folders])
    frame = overview.counts(evidence)
    assert frame.loc["Table 1", "reproduced"] == 1
    assert frame.loc["All", "cells"] == len(evidence) == frame.loc["All"].drop("cells").sum()


def test_a_folder_without_cells_is_left_out_and_two_of_one_name_are_refused(tmp_path, caplog):
    folder = make(tmp_path, "one")
    with pytest.raises(UserError, match="study named one"):
        overview.write([folder, folder], tmp_path / "overview")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    assert len(overview.write([folder, unfinished], tmp_path / "overview")) == 746
    assert "unfinished has no cells.csv: run the study" in caplog.text
    with pytest.raises(UserError, match="none of the folders"):
        overview.write([unfinished], tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_a_study_of_an_earlier_version_may_lack_cells(tmp_path):
    whole, older = make(tmp_path, "whole"), make(tmp_path, "older")
    listed = [cell for cell in cells.read(older / "cells.csv") if cell.place != PLACE]
    cells.write(listed, older / "cells.csv")
    assert len(overview.choose([overview.read(older)])) == 745
    assert len(overview.choose([overview.read(older), overview.read(whole)])) == 746


def test_own_rows_of_a_user_do_not_count(tmp_path):
    folder = make(tmp_path, "one")
    found = cells.read(folder / "cells.csv")
    cells.write(
        [*found, Cell(3, "mine", 4, "params", measured=1.0, verdict=verdicts.NOT_COMPARABLE)], folder / "cells.csv"
    )
    assert "mine" not in {each.cell.network for each in overview.choose([overview.read(folder)])}


def test_the_page_shows_what_only_a_neighbour_has_measured(tmp_path):
    here = make(tmp_path, "here")
    make(tmp_path, "neighbour", number(verdicts.NOT_COMPARABLE))
    broken = make(tmp_path, "broken")
    (broken / "cells.csv").write_text("no cells")
    (evidence,) = overview.elsewhere(here, cells.read(here / "cells.csv"))
    assert (evidence.cell.place, evidence.study) == (PLACE, "neighbour")
    assert cli.main(["tables", "--study", str(here / "study.json"), "--results", str(here)]) == 0
    page = (here / "report.html").read_text()
    assert "Measured in other studies, not in this one: 1" in page
    budget = "375 iterations of 1 patch of 24x24 on photographs[2:3], photographs[4:]"
    for text in ("neighbour", "cpu", budget):  # no number without its study, device and budget
        assert f'<td data-text="{text}">{text}</td>' in page
    assert "neighbour" not in page_file.without_other_studies(page)
    assert not overview.elsewhere(tmp_path / "neighbour", [evidence.cell])
