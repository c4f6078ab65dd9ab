"""The whole road, on studies of few iterations; and variants that change how they are trained."""

import csv
import json
import re
import shlex
import shutil
import zipfile

import pytest

from safmn.cli import main
from tests.workflow.conftest import MICRO, ROOT

CHARBONNIER = """\
title: "Charbonnier"
description: "Another loss and another optimiser, longer, on fewer images."
network: {dim: 8, n_blocks: 1}
training:
  iterations: 500
  validate_every: 500
  loss: "my_losses:Charbonnier"
  optimiser: {name: "my_losses:Signs", beta: 0.5}
  schedule: {name: multistep, milestones: [2], gamma: 0.5}
  patch: 8
data: {train: ["photographs[6:]"]}
"""
LOSSES = """\
import torch
from torch import nn


class Charbonnier(nn.Module):
    def forward(self, sr, hr):
        return {"charbonnier": ((sr - hr) ** 2 + 1e-6).sqrt().mean()}


class Signs(torch.optim.SGD):
    def __init__(self, parameters, lr, beta):
        super().__init__(parameters, lr, momentum=beta)
"""
NAMES = ["safmn", "no_fm", "charbonnier"]
UNTIMED = MICRO["efficiency"] | {"cpu": False}


@pytest.fixture
def ablations(tmp_path):
    """A copy of the project's variants, and one with a loss and an optimiser of its own."""
    folder = tmp_path / "ablations"
    shutil.copytree(ROOT / "ablations", folder)
    (folder / "my_losses.py").write_text(LOSSES)
    (folder / "charbonnier.yaml").write_text(CHARBONNIER)
    return folder


def read_cells(tmp_path):
    with open(tmp_path / "results/micro/cells.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def lines(told):
    """The lines on the screen, without empty ones."""
    return [line for line in (told.stdout + told.stderr).splitlines() if line.strip()]


def test_one_command_makes_the_tables_and_a_second_one_has_nothing_to_do(snakemake, micro, ablations, tmp_path):
    place = {"SAFMN_ABLATIONS": str(ablations)}
    study = micro(variants=NAMES, efficiency=UNTIMED)
    first = snakemake("--configfile", study, **place)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    results = tmp_path / "results/micro"

    # The screen has an estimate before the first job, since 500 iterations are worth one; and the tables' place, but no
    # table, as its last line.
    assert any("losses and optimisers of your own work on a small batch: 1 tried, of " in line for line in lines(first))
    estimate = next(line for line in lines(first) if line.startswith("micro: "))
    assert re.fullmatch(
        r"micro: \d+ jobs, about [\d.]+ (s|min) on 2 cores for 3 runs \([\d.]+ m?s a step of safmn, .*\)", estimate
    )
    assert lines(first)[-1] == "Tables: results/micro/tables/   page to read: results/micro/report.html"
    assert not any(line.startswith("| ") for line in lines(first))

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
    measured = {
        cell["row"]: cell["measured"] for cell in cells if (cell["table"], cell["column"]) == ("3", "photographs_psnr")
    }
    assert all(5 < float(measured[name]) < 60 for name in NAMES)
    assert len({measured[name] for name in NAMES}) == 3

    # Each was trained as its file says.
    runs = {name: results / f"training/{name}/x4_seed0" for name in NAMES}
    records = {name: json.loads((run / "run.json").read_text()) for name, run in runs.items()}
    assert {record["outcome"] for record in records.values()} == {"finished"}
    columns = {name: (run / "history.csv").read_text().splitlines()[0].split(",")[2:-2] for name, run in runs.items()}
    assert columns == {name: ["l1_loss", "fft_loss"] for name in NAMES[:2]} | {"charbonnier": ["charbonnier"]}
    specification = records["charbonnier"]["specification"]
    assert (specification["train"], specification["training"]["patch"]) == (["photographs[6:]"], 8)

    second = snakemake("--configfile", study, **place)
    assert "Nothing to be done" in second.stdout + second.stderr

    told = snakemake("--report", tmp_path / "report.zip", "--configfile", study, **place)
    assert told.returncode == 0, told.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert any(name.endswith("report.html") for name in archive.namelist())
        assert any(name.endswith("table3.md") for name in archive.namelist())

    # What was trained is not trained again when a table is lost.
    (results / "tables/table3.md").unlink()
    told = snakemake("--dry-run", "--configfile", study, **place)
    assert "tables" in told.stdout
    assert "Train" not in told.stdout

    # Another loss is another result of the variant that has it; another learning rate one of every variant.
    (ablations / "my_losses.py").write_text(LOSSES.replace("1e-6", "1e-4"))
    told = snakemake("--dry-run", "--configfile", study, **place)
    assert [name for name in NAMES if f"Train {name} " in told.stdout] == ["charbonnier"]
    changed = micro(variants=NAMES, efficiency=UNTIMED, training=MICRO["training"] | {"learning_rate": 0.0005})
    told = snakemake("--dry-run", "--configfile", changed, **place)
    assert [name for name in NAMES if f"Train {name} " in told.stdout] == NAMES


def test_networks_are_timed_by_commands_that_work(snakemake, micro, tmp_path, monkeypatch):
    """Those of a dry run, on smaller images; at the size of the paper they take a minute."""
    targets = [f"results/micro/cost/{name}.json" for name in ("runtime", "operations")]
    told = snakemake("--dry-run", "--printshellcmds", *targets, "--configfile", micro())
    commands = re.findall(r"python -m safmn ((?:runtime|operations) [^>]*) >", told.stdout + told.stderr)
    assert len(commands) == 2, told.stdout + told.stderr
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main([*shlex.split(command), "--height", "16", "--width", "16"]) == 0
    assert all((tmp_path / target).is_file() for target in targets)


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
    few = {"networks": [], "figures": {"networks": []}, "efficiency": UNTIMED}
    study = micro(variants=["safmn", "broken"], **few)
    told = snakemake("--configfile", study, SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    cells = read_cells(tmp_path)
    broken = [cell for cell in cells if cell["row"] == "broken" and cell["column"] == "photographs_psnr"]
    assert broken[0]["verdict"] == "missing"
    assert "a mixer that fails in training" in broken[0]["note"]
    sound = [cell for cell in cells if cell["row"] == "safmn" and cell["column"] == "photographs_psnr"]
    assert sound[0]["measured"]
    # These tables do not pass for a finished study's: the same command tries again what failed, and renders them anew.
    again = snakemake("--dry-run", "--configfile", study, SAFMN_ABLATIONS=str(ablations)).stdout
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


def test_a_loss_that_is_none_ends_the_run_before_anything_is_trained(snakemake, micro, ablations, tmp_path):
    (ablations / "my_losses.py").write_text(LOSSES.replace(".mean()", ""))
    told = snakemake("--configfile", micro(variants=NAMES), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    first = next(line for line in lines(told) if "training.loss" in line)
    assert f"{ablations / 'charbonnier.yaml'}: training.loss: my_losses:Charbonnier gives charbonnier with" in first
    assert not (tmp_path / "results/micro/training").exists()


@pytest.mark.parametrize("name", ["my_losses:Missing", "missing:Loss"])
def test_a_loss_that_is_not_there_is_told_before_the_jobs_are_known(snakemake, micro, ablations, name):
    file = ablations / "charbonnier.yaml"
    file.write_text(CHARBONNIER.replace("my_losses:Charbonnier", name))
    told = snakemake("--dry-run", "--configfile", micro(variants=NAMES), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    assert f"{file}: training.loss: '{name}' cannot be imported" in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr
