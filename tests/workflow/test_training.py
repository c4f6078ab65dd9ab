"""A variant that changes how it is trained, through the whole DAG; and a mistake in one, told before anything runs."""

import csv
import json
import shutil

import pytest

from tests.workflow.conftest import ROOT

NO_FFT = """\
# ablations/no_fft.yaml
title: "w/o FFT loss"
description: "L1 alone."
training: {fft_weight: 0}
"""
CHARBONNIER = """\
title: "Charbonnier"
description: "Another loss and another optimiser, on fewer images, with two threads."
training:
  loss: "my_losses:Charbonnier"
  optimiser: {name: "my_losses:Signs", beta: 0.5}
  schedule: {name: multistep, milestones: [2], gamma: 0.5}
  threads: 2
data: {train: ["photographs[6:]"]}
"""
CODE = """\
import torch
from torch import nn


class Charbonnier(nn.Module):
    def forward(self, sr, hr):
        return {"charbonnier": ((sr - hr) ** 2 + 1e-6).sqrt().mean()}


class Signs(torch.optim.SGD):
    def __init__(self, parameters, lr, beta):
        super().__init__(parameters, lr, momentum=beta)
"""


@pytest.fixture
def ablations(tmp_path):
    folder = tmp_path / "ablations"
    shutil.copytree(ROOT / "ablations", folder)
    (folder / "my_losses.py").write_text(CODE)
    (folder / "no_fft.yaml").write_text(NO_FFT)
    (folder / "charbonnier.yaml").write_text(CHARBONNIER)
    return folder


NAMES = ["safmn", "no_fft", "charbonnier"]


def test_other_losses_optimisers_and_images_are_rows(snakemake, micro, ablations, tmp_path):
    study, place = micro(variants=NAMES), {"SAFMN_ABLATIONS": str(ablations)}
    told = snakemake("--configfile", study, **place)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    assert "losses and optimisers of your own work on a small batch: 1 tried, of " in told.stdout + told.stderr
    results = tmp_path / "results/micro"
    runs = {name: results / f"training/{name}/x4_seed0" for name in NAMES}
    records = {name: json.loads((run / "run.json").read_text())["specification"] for name, run in runs.items()}
    columns = {name: (run / "history.csv").read_text().splitlines()[0].split(",")[2:-2] for name, run in runs.items()}
    assert columns == {name: ["l1_loss", "fft_loss"] for name in NAMES[:2]} | {"charbonnier": ["charbonnier"]}
    with open(runs["no_fft"] / "history.csv", encoding="utf-8", newline="") as handle:
        assert {float(row["fft_loss"]) for row in csv.DictReader(handle)} == {0.0}
    assert records["no_fft"]["training"] == records["safmn"]["training"] | {"fft_weight": 0}
    assert records["charbonnier"]["train"] == ["photographs[6:]"]
    assert records["charbonnier"]["training"]["threads"] == 2
    with open(results / "cells.csv", encoding="utf-8", newline="") as handle:
        cells = list(csv.DictReader(handle))
    measured = {
        cell["row"]: cell["measured"] for cell in cells if cell["table"] == "3" and cell["column"] == "photographs_psnr"
    }
    assert all(5 < float(measured[name]) < 60 for name in NAMES)
    assert len({measured[name] for name in NAMES}) == 3

    again = snakemake("--dry-run", "--configfile", study, **place)
    assert "Nothing to be done" in again.stdout + again.stderr
    (ablations / "my_losses.py").write_text(CODE.replace("1e-6", "1e-4"))
    again = snakemake("--dry-run", "--configfile", study, **place)
    assert "Train charbonnier" in again.stdout
    assert not [name for name in NAMES[:2] if f"Train {name} " in again.stdout]


def test_a_loss_that_is_none_ends_the_run_before_anything_is_trained(snakemake, micro, ablations, tmp_path):
    (ablations / "my_losses.py").write_text(CODE.replace(".mean()", ""))
    told = snakemake("--configfile", micro(variants=NAMES), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    lines = [line for line in (told.stdout + told.stderr).splitlines() if "training.loss" in line]
    assert f"{ablations / 'charbonnier.yaml'}: training.loss: my_losses:Charbonnier gives charbonnier with" in lines[0]
    assert not (tmp_path / "results/micro/training").exists()


@pytest.mark.parametrize("name", ["my_losses:Missing", "missing:Loss"])
def test_a_loss_that_is_not_there_is_told_before_the_jobs_are_known(snakemake, micro, ablations, name):
    file = ablations / "charbonnier.yaml"
    file.write_text(CHARBONNIER.replace("my_losses:Charbonnier", name))
    told = snakemake("--dry-run", "--configfile", micro(variants=NAMES), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    assert f"{file}: training.loss: '{name}' cannot be imported" in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr
