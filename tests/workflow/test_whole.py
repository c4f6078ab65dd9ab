"""The whole road, on a study of a few iterations."""

import csv
import json
import shutil
import zipfile

import pytest

from tests.workflow.conftest import MICRO, ROOT


@pytest.fixture
def ablations(tmp_path):
    """A copy of the project's variants, to add to."""
    folder = tmp_path / "ablations"
    shutil.copytree(ROOT / "ablations", folder)
    return folder


def read_cells(tmp_path):
    with open(tmp_path / "results/micro/cells.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_one_command_makes_the_tables_and_a_second_one_has_nothing_to_do(snakemake, micro, tmp_path):
    study = micro()
    first = snakemake("--configfile", study)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    results = tmp_path / "results/micro"
    for number in range(1, 6):
        for form in ("md", "csv", "tex"):
            assert (results / f"tables/table{number}.{form}").stat().st_size > 0
    assert (results / "report.html").stat().st_size > 0
    cells = read_cells(tmp_path)
    params = [cell for cell in cells if cell["row"] == "safmn" and cell["column"] == "params" and cell["table"] == "3"]
    assert params[0]["published"] == "239.52"
    assert float(params[0]["measured"]) == pytest.approx(239.52)
    quality = [cell for cell in cells if cell["row"] == "no_fm" and cell["column"] == "photographs_psnr"]
    assert 5 < float(quality[0]["measured"]) < 60
    assert quality[0]["verdict"] == "not comparable"
    missing = [cell for cell in cells if cell["row"] == "no_fm" and cell["column"] == "manga109_psnr"]
    assert missing[0]["verdict"] == "missing"
    assert missing[0]["note"]
    run = json.loads((results / "training/safmn/x4_seed0/run.json").read_text())
    assert run["outcome"] == "finished"

    second = snakemake("--configfile", study)
    assert "Nothing to be done" in second.stdout + second.stderr

    told = snakemake("--report", tmp_path / "report.zip", "--configfile", study)
    assert told.returncode == 0, told.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert any(name.endswith("report.html") for name in archive.namelist())
        assert any(name.endswith("table3.md") for name in archive.namelist())

    # What was trained is not trained again when a table is lost.
    (results / "tables/table3.md").unlink()
    told = snakemake("--dry-run", "--configfile", study)
    assert "tables" in told.stdout
    assert "Train" not in told.stdout

    # Another learning rate is another result, of every variant.
    changed = micro(training=MICRO["training"] | {"learning_rate": 0.0005})
    told = snakemake("--dry-run", "--configfile", changed)
    assert "Train safmn" in told.stdout
    assert "Train no_fm" in told.stdout


def test_a_failed_variant_does_not_keep_the_others_from_the_tables(snakemake, micro, ablations, tmp_path):
    (ablations / "broken_mixers.py").write_text(
        "from torch import nn\n\n\n"
        "class Broken(nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n\n"
        "    def forward(self, x):\n"
        "        if self.training:\n"
        '            raise RuntimeError("a mixer that fails in training")\n'
        "        return x\n"
    )
    (ablations / "broken.yaml").write_text(
        'title: "Broken"\ndescription: "Fails in training."\nnetwork:\n  mixer: broken_mixers:Broken\n'
    )
    told = snakemake("--configfile", micro(variants=["safmn", "broken"]), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    cells = read_cells(tmp_path)
    broken = [cell for cell in cells if cell["row"] == "broken" and cell["column"] == "photographs_psnr"]
    assert broken[0]["verdict"] == "missing"
    assert "a mixer that fails in training" in broken[0]["note"]
    sound = [cell for cell in cells if cell["row"] == "safmn" and cell["column"] == "photographs_psnr"]
    assert sound[0]["measured"]
    # These tables do not pass for a finished study's: the same command tries again what failed, and renders them anew.
    again = snakemake(
        "--dry-run", "--configfile", micro(variants=["safmn", "broken"]), SAFMN_ABLATIONS=str(ablations)
    ).stdout
    assert "Train broken" in again
    assert "Render the tables" in again
    assert "Train safmn" not in again


def test_a_network_that_contradicts_its_row_costs_no_training(snakemake, micro, ablations, tmp_path):
    (ablations / "no_fm.yaml").write_text(
        'title: "(a): w/o FM"\ndescription: "Wrong on purpose."\nrows:\n  "3": "(a): w/o FM"\nnetwork:\n  dim: 40\n'
    )
    told = snakemake("train_no_fm", "--configfile", micro(variants=["no_fm"]), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    run = tmp_path / "results/micro/training/no_fm/x4_seed0"
    assert [file.name for file in run.iterdir()] == ["failure.txt"]
    reason = (run / "failure.txt").read_text()
    assert all(word in reason for word in ("no_fm does not match", "Table 3", "params", "239.52")), reason
    assert "no_fm does not match" in told.stdout + told.stderr
