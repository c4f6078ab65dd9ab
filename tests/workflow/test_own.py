"""A network of one's own, a sweep, retrained baselines and a network with weights, through the DAG."""

import csv
import json
import shutil

import pytest
import torch

from tests.workflow.conftest import ROOT

TINY = """
title: "Tiny"
description: "Three convolutions and a pixel shuffle."
network: {class: "my_nets:Tiny", args: {dim: 24}}
"""
NETS = """
from torch import nn


class Tiny(nn.Module):
    def __init__(self, scale, dim):
        super().__init__()
        layers = [nn.Conv2d(3, dim, 3, padding=1), nn.ReLU(), nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(dim, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)
"""
SIZE = """
title: "N = {n_blocks}, C = {dim}"
description: "Depth and width."
sweep: {network.n_blocks: [4, 8, 12], network.dim: [24, 36, 48]}
"""
THEIRS = """
title: "Theirs"
class: "their_nets:Tiny"
args: {dim: 8}
reference: "Somebody, Somewhere, 2026"
weights: {4: {file: theirs.pth}}
"""
POINTS = [f"size_{n}_{c}" for n in (4, 8, 12) for c in (24, 36, 48)]
PARAMS = {"imdn": 715_176, "pan": 272_419}  # Table 1: 715 K and 272 K


@pytest.fixture
def ablations(tmp_path):
    """The files as the documentation shows them, beside the paper's baseline."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    shutil.copyfile(ROOT / "ablations/safmn.yaml", folder / "safmn.yaml")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "my_nets.py").write_text(NETS)
    (folder / "size.yaml").write_text(SIZE)
    return folder


def read(file):
    with open(file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def stats(told):
    lines = told.stdout.split("Job stats:")[1].splitlines()
    return {
        line.split()[0]: int(line.split()[1]) for line in lines if len(line.split()) == 2 and line.split()[1].isdigit()
    }


def test_targets(snakemake, micro, ablations):
    study = micro(variants=["safmn", "size"], retrain=["imdn"])
    environment = {"SAFMN_ABLATIONS": str(ablations)}
    assert {"train_size", "train_size_4_24", "train_imdn"} <= set(
        snakemake("--list", "--configfile", study, **environment).stdout.split()
    )
    for targets, count in ((["train_size"], 9), (["train_size_4_24", "train_imdn"], 2)):
        told = snakemake("--dry-run", *targets, "--configfile", study, **environment)
        assert stats(told)["train"] == count, told.stderr


def test_a_class_that_does_not_fit_is_one_line_before_anything_is_trained(snakemake, micro, ablations):
    """As those of tests/networks/test_own.py."""
    (ablations / "my_nets.py").write_text(NETS.replace("scale**2", "4").replace("Shuffle(scale)", "Shuffle(2)"))
    told = snakemake("--dry-run", "--configfile", micro(variants=["safmn", "tiny"]), SAFMN_ABLATIONS=str(ablations))
    assert told.returncode != 0
    (line,) = [line for line in (told.stdout + told.stderr).splitlines() if "tiny.yaml" in line]
    assert "tiny x4 makes 2x3x48x48" in line
    assert "Traceback" not in told.stderr


@pytest.mark.slow  # a start of Python for each of some forty jobs
def test_all_through_the_dag(snakemake, micro, ablations, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "theirs.yaml").write_text(THEIRS)
    (theirs / "their_nets.py").write_text(NETS)
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 48, 3)]
    state = {f"module.body.{2 * place}.{key}": value for place, layer in enumerate(layers)
             for key, value in layer.state_dict().items()}  # fmt: skip
    torch.save({"params": state}, theirs / "theirs.pth")
    few = {"iterations": 2, "batch": 1, "patch": 16, "validate_every": 2, "ema": 0.5}
    study = micro(
        variants=["safmn", "tiny", "size"],
        networks=["bicubic", "imdn", "theirs"],
        retrain=["imdn", "pan"],
        own_networks="theirs",
        training=few,
        efficiency={"images": 1, "rounds": 1, "processes": 1, "cpu": False},  # tests/test_own_study.py times them
        figures={"networks": ["tiny", "theirs", "imdn"], "steps": 1},
    )
    environment = {"SAFMN_ABLATIONS": str(ablations)}
    told = snakemake("--configfile", study, **environment)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    again = snakemake("--dry-run", "--configfile", study, **environment)
    assert "Nothing to be done" in again.stdout + again.stderr
    results = tmp_path / "results/micro"
    cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in read(results / "cells.csv")}
    # A network of one's own: counted, predicted, timed, trained, evaluated, inspected; in Table 3 under "Own".
    assert float(cells["3", "tiny", "params"]["measured"]) == pytest.approx(
        (24 * 27 + 24 + 24 * 24 * 9 + 24 + 48 * 24 * 9 + 48) / 1000
    )
    for table, row, column in (
        ("3", "tiny", "photographs_psnr"),
        ("2", "tiny", "gpu_memory"),
        ("2", "size_8_36", "gpu_memory"),
        ("1", "imdn_retrained", "photographs_psnr"),
        ("1", "pan_retrained", "photographs_ssim"),
        ("1", "theirs", "photographs_psnr"),
        ("1", "theirs", "flops"),
        *(("3", name, "photographs_psnr") for name in POINTS),
    ):
        cell = cells[table, row, column]
        assert (cell["measured"] != "", cell["verdict"]) == (True, "not comparable"), cell
    lines = [line for line in (results / "tables/table3.md").read_text().splitlines() if "| Tiny " in line]
    assert lines
    assert all("| Own " in line for line in lines)
    assert any("+" in line or "-" in line for line in lines)  # its difference to the baseline
    assert (results / "inspection/tiny/x4/seed0_best.json").is_file()
    assert (results / "inspection/theirs/x4/published.json").is_file()
    # Retrained baselines: counted as published, trained from their own initial weights, beside the published row.
    assert {name: float(cells["1", f"{name}_retrained", "params"]["measured"]) * 1000 for name in PARAMS} == PARAMS
    assert cells["1", "imdn", "params"]["published"] == "715"
    assert cells["1", "imdn_retrained", "params"]["published"] == ""
    assert "IMDN, retrained" in (results / "tables/table1.md").read_text()
    run = json.loads((results / "training/imdn/x4_seed0/run.json").read_text())
    assert (run["specification"]["network"], run["specification"]["training"]["iterations"]) == ("imdn", 2)
    # The sweep: its figure, and the numbers of it.
    for form in ("svg", "png", "csv"):
        assert (results / f"figures/sweep_size.{form}").stat().st_size
    rows = read(results / "figures/sweep_size.csv")
    assert [row["network"] for row in rows] == [*POINTS, "safmn"]
    assert all(row["photographs_psnr"] and row["params_k"] and row["flops_g"] for row in rows)
    smallest = min(rows, key=lambda row: float(row["params_k"]))
    assert (smallest["network"], smallest["front_params"]) == ("size_4_24", "True")
    # An edit of the class trains this network again and no other.
    (ablations / "my_nets.py").write_text(NETS.replace("ReLU", "GELU"))
    planned = stats(snakemake("--dry-run", "--configfile", study, **environment))
    assert planned["train"] == 1
