"""`safmn import`: results of others count as done, stay marked as theirs, and are refused where they do not fit."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safmn import provenance
from safmn.archive import fitting, importing
from safmn.archive.opening import Opened
from safmn.cli import main
from safmn.data import images
from safmn.errors import UserError
from safmn.planning import jobs
from safmn.report import imported
from tests import small_study
from tests.test_verify import reseal
from tests.workflow.conftest import MICRO, ROOT

STAGES = {
    "packing": jobs.PACKING,
    "evaluation": jobs.EVALUATING,
    "inspection": jobs.LOOKING,
    "memory": ("safmn.cost.memory:predict",),
}


@pytest.fixture
def crate(small, tmp_path):
    """A copy of the archive, to be edited."""
    shutil.copytree(small / "whole", tmp_path / "crate")
    return tmp_path / "crate"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder as the present one."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def take(crate, small):
    return importing.take(Opened(crate, crate), str(small / "home/somebody"), None, STAGES)


def cells(folder="results/small"):
    with open(Path(folder) / "cells.csv", encoding="utf-8", newline="") as handle:
        return {(cell["table"], cell["row"], cell["column"]): cell for cell in csv.DictReader(handle)}


def snakemake(*words, folder="."):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    return told.stdout + told.stderr


def to_do(*words):
    """The jobs of a dry run, by the first word of their messages and what they are about."""
    return set(re.findall(r"^Job \d+: (\w+ \w+)", snakemake("--dry-run", *words), re.MULTILINE))


def test_imported_results_are_done_marked_and_passed_on_as_imported(small, empty, capsys):
    assert main(["import", str(small / "whole"), "--data-root", str(small / "home/somebody")]) == 0
    told = capsys.readouterr()
    assert "results/small/quality/bicubic/x4/published/mine.csv" in told.out  # this archive is of a part of its study
    assert "inspection/ccm_none/x4/seed3_best.npz" in told.err
    done = to_do("--configfile", "results/small/study.json")
    assert not {job for job in done if job.startswith(("Train", "Pack", "Evaluate the"))}, done
    more = to_do("--configfile", "results/small/study.json", "--config", "variants=ccm_none,no_fm")
    trained = re.findall("Train (\\w+)", " ".join(more))
    assert trained == ["no_fm"]
    assert not [job for job in more if job.startswith("Pack")]

    seal = json.loads(Path("results/small/imported.json").read_text())["seal"]
    assert seal == Opened(small / "whole", small / "whole").seals[1]
    measured = [cell for cell in cells().values() if cell["measured"]]
    assert len(measured) > 4
    assert all(cell["origin"].endswith(", imported") and seal[:12] in cell["note"] for cell in measured)
    assert "imported from an archive" in Path("results/small/tables/table3.md").read_text()
    record = json.loads(Path("results/small/provenance.json").read_text())
    assert {result.get("imported") for result in record["results"]} == {seal}
    numbers = ("published", "measured", "verdict", "low", "high", "std", "seeds", "device")
    theirs = cells(small / "results/small")
    for place, cell in cells().items():
        assert [cell[key] for key in numbers] == [theirs[place][key] for key in numbers]

    small_study.safmn("archive", "--study", "results/small/study.json", "--out", "onwards")
    assert json.loads(Path("onwards/results/small/imported.json").read_text())["seal"] == seal
    assert main(["verify", "onwards", "--steps", "consistent", "--device", "cpu"]) == 0


def test_a_result_that_is_made_here_loses_its_mark(small, crate, empty):
    take(crate, small)
    source = imported.Imported("results/small")
    name = f"{small_study.RUN}/run.json"
    assert source.holds(name)
    file = Path("results/small") / name
    file.write_text(file.read_text() + "\n")
    assert not imported.Imported("results/small").holds(name)
    assert not imported.Imported("elsewhere").holds(name)


# --- refused ---


def refused(crate, small, *words):
    with pytest.raises(UserError) as error:
        take(crate, small)
    assert all(word in str(error.value) for word in words), error.value
    assert not Path("results/small").exists()
    assert not list(Path("results").glob(".*"))


def test_other_data_are_named(small, crate, empty, tmp_path):
    shutil.copytree(small / "home/somebody", tmp_path / "home/somebody")
    pixels = images.read(tmp_path / "home/somebody/mine/HR/c.png")
    pixels[3, 3, 1] ^= 1
    images.write(tmp_path / "home/somebody/mine/HR/c.png", pixels)
    refused(crate, tmp_path, "mine/x4", "1 image with other HR pixels (c)")


def test_absent_data_are_named(crate, empty, tmp_path):
    refused(crate, tmp_path, "your data mine/x4", "--data-root DIR")


EDITS = {
    "safmn/quality/metrics.py": ("seed3_best", "safmn.quality.metrics."),
    "safmn/training/step.py": ("training/ccm_none/x4_seed3", "of safmn.training.step"),
    "safmn/networks/safmn.py": ("safmn.networks.safmn",),
    "safmn/data/bicubic.py": ("packed data", "safmn.data.bicubic."),
}


@pytest.mark.parametrize("name", EDITS)
def test_other_code_is_named_piece_by_piece(small, crate, empty, name):
    """The edit is in the archive; a key that was made with that code goes with it."""
    file = crate / name
    lines = file.read_text().splitlines()
    last = next(place for place in reversed(range(len(lines))) if re.match(r"\s+return ", lines[place]))
    lines.insert(last, f"{re.match(r' *', lines[last])[0]}print()")
    file.write_text("\n".join(lines) + "\n")
    if name.startswith("safmn/training") or "networks" in name:
        code = provenance.code(crate)["code_sha256"]
        for record in crate.rglob("run.json"):
            text = re.sub(r'"key": "\w+"', f'"key": "{small_study.key_by(crate, record)}"', record.read_text())
            record.write_text(re.sub(r'"code_sha256": "\w+"', f'"code_sha256": "{code}"', text))
    reseal(crate)
    refused(crate, small, *EDITS[name])


def test_other_comments_are_the_same_code(small, crate, empty):
    for name in EDITS:
        (crate / name).write_text((crate / name).read_text() + "\n# A remark.\n")
    reseal(crate)
    other = fitting.Other(crate)
    assert other.of_functions(jobs.EVALUATING) == []
    assert other.of_network("ccm_none") == []
    assert take(crate, small).files


def test_other_code_that_makes_nothing_stale_is_no_reason_to_refuse(small, crate, empty):
    """Code that finds a variant by its name and reads its file: what it finds counts."""
    for name in ("networks/variants.py", "configuration.py", "paths.py"):
        file = crate / "safmn" / name
        file.write_text(re.sub(r"^    return (?=[^\n]*$)", "    print()\n    return ", file.read_text(), flags=re.M))
        assert "    print()\n" in file.read_text()
    reseal(crate)
    assert take(crate, small).files


def test_memory_of_a_network_that_is_another_here_is_refused(small, crate, empty):
    """In this study, only the predicted memory depends on the CCM, which `ccm_none` does not have."""
    file = crate / "safmn/networks/safmn.py"
    text = file.read_text()
    start = text.index("def convolutional")
    file.write_text(text[:start] + text[start:].replace("    return", "    print()\n    return", 1))
    reseal(crate)
    refused(crate, small, "cost/memory.json", "safmn.networks.safmn.convolutional")


def test_a_damaged_archive_an_unknown_variant_and_an_existing_study_are_refused(small, crate, empty):
    file = crate / "results/small/cost/memory.json"
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    refused(crate, small, "is damaged", "cost/memory.json", "safmn verify")
    file.write_bytes(content)
    study = crate / "results/small/study.json"
    study.write_text(study.read_text().replace('"ccm_none"', '"not_here"'))
    reseal(crate)
    refused(crate, small, "not_here", "ablations/")
    Path("results/small").mkdir(parents=True)
    with pytest.raises(UserError, match="results/small exists already"):
        take(small / "whole", small)


# --- the whole road ---


@pytest.mark.slow
def test_after_an_import_there_is_nothing_to_do_and_one_more_variant_is_trained_beside(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    study = MICRO | {"variants": ["no_fm"], "efficiency": {**MICRO["efficiency"], "cpu": False}}
    (first / "micro.yaml").write_text(json.dumps(study))
    snakemake("--configfile", "micro.yaml", folder=first)
    monkeypatch.chdir(first)
    small_study.safmn("archive", "--study", "results/micro/study.json", "--out", "../micro.zip", "--weights", "all")
    monkeypatch.chdir(second)
    small_study.safmn("import", "../micro.zip")
    said = snakemake("--dry-run", "--configfile", "results/micro/study.json")
    assert "Nothing to be done" in said, said
    snakemake("--configfile", "results/micro/study.json", "--config", "variants=no_fm,ccm_none")
    both = cells("results/micro")
    column = "photographs_psnr"
    assert both["3", "no_fm", column]["origin"] == "trained, imported"
    assert both["3", "ccm_none", column]["origin"] == "trained"
    assert both["3", "no_fm", column]["measured"] == cells(first / "results/micro")["3", "no_fm", column]["measured"]
