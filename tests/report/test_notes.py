"""Notes are for people: whatever they say, verdicts, marks, numbers and claims are the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from safmn.paper import verdicts
from safmn.paper.cell import Cell
from safmn.report import sentences, tables
from safmn.report.figures import figure1
from safmn.report.grids import Table
from safmn.report.joined import Joined
from safmn.study import Study
from tests.report import fabricate

WORDS = [
    "word",
    "* collapsed: interval 0.1 to 99.9; predicted without a GPU; ms (CPU)",  # every word that was ever looked for
]


def papers(folder: Path) -> Study:
    """The paper's protocol with three seeds: verdicts that rest on intervals, times of the paper's GPU."""
    study = fabricate.paper(seeds=[0, 1, 2], networks=["imdn"])
    for name, mean in (("safmn", 30.43), ("no_fm", 30.32)):
        fabricate.complexity(folder, name, 239_520, 13_554_915_840, 76_700_160)
        for seed in study.seeds:
            fabricate.run(folder, study, name, seed)
            scores = [mean + seed / 250 + image / 1000 for image in range(-54, 55)]
            fabricate.quality(folder, name, f"seed{seed}_best", "Manga109", scores)
            fabricate.quality(folder, name, f"seed{seed}_best", "Set5", [32.0 + seed / 2] * 5)  # decides nothing
    fabricate.runtime(folder, {"safmn": 10.7, "imdn": 10.2}, fabricate.GPU)
    fabricate.memory(folder, {"safmn": 64.9, "imdn": 200.28}, measured={"safmn": 65.2})
    return study


@pytest.fixture(scope="module", params=[fabricate.everything, papers])
def made(request, tmp_path_factory) -> tuple[Study, Path, list[Cell]]:
    folder = tmp_path_factory.mktemp("notes") / "made"
    study = request.param(folder)
    return study, folder, Joined(study, folder).cells


def marks(made: list[Table]) -> list:
    """All that is shown except for the footnotes' words and the words that appear on pointing."""
    return [
        [table.number, table.summary, section.title, section.headers, table.legend]
        + [(each.text, each.value, each.verdict, each.symbol, each.footnote > 0, each.header) for each in row]
        for table in made
        for section in table.sections
        for row in section.rows
    ]


def judged(found: list[Cell]) -> list:
    return [
        (each.claim.id, each.measured.verdict, each.measured.value, each.measured.low, each.measured.high)
        for each in sentences.evaluate(found)
    ]


@pytest.mark.parametrize("word", WORDS)
def test_nothing_is_read_out_of_a_note(made, word):
    study, folder, found = made
    read = [replace(each, note=word) for each in found]
    assert marks(tables.build_all(Joined(study, folder, read))) == marks(tables.build_all(Joined(study, folder, found)))
    assert judged(read) == judged(found)
    assert tables.counts_by_table(read) == tables.counts_by_table(found)
    for which in ("published", "measured"):
        for column in ("set5_psnr", "manga109_psnr"):
            points = [figure1.points(each, (1, 3, 4), 4, column, which) for each in (found, read)]
            assert points[0].equals(points[1])


def test_nothing_is_read_out_of_a_unit(made):
    study, folder, found = made
    assert {each.unit for each in found} <= {"K", "G", "M", "MiB", "ms", "dB", ""}  # as printed, whatever the device
    changed = [replace(each, unit=f"{each.unit} (CPU)") for each in found]
    assert marks(tables.build_all(Joined(study, folder, changed))) == marks(
        tables.build_all(Joined(study, folder, found))
    )
    assert judged(changed) == judged(found)


def test_the_studies_hold_what_could_be_misread(tmp_path):
    """Verdicts of all kinds, both ways of measuring memory, both kinds of device, a collapse, intervals."""
    found = [each for make in (fabricate.everything, papers) for each in collected(make, tmp_path / make.__name__)]
    assert {each.verdict for each in found} == set(verdicts.VERDICTS) - {verdicts.EXPLAINED}
    assert {each.origin for each in found} == {"", "trained", "published weights", "counted", "predicted", "measured"}
    assert {each.device for each in found if each.column == "runtime" and each.measured} == {"cpu", "cuda"}
    assert any(each.collapsed for each in found)
    assert any(each.interval for each in found)
    said = {each.measured.verdict for each in sentences.evaluate(collected(papers, tmp_path / "again"))}
    assert said & {verdicts.REPRODUCED, verdicts.CONTRADICTED}


def collected(make, folder: Path) -> list[Cell]:
    return Joined(make(folder), folder).cells
