"""A study with a network of one's own, a sweep, a retrained baseline and a network with weights, command by command.

`tests/workflow/test_own.py` runs all of it through Snakemake.
"""

import contextlib
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from safmn import networks
from safmn.cli import main
from safmn.data import bicubic, images
from safmn.files import write_json
from safmn.networks import own, variants
from safmn.planning import calibration, estimate, plan, readiness
from safmn.planning.jobs import Jobs
from safmn.study import Study
from tests.small_study import safmn

NETS = """
from torch import nn


class Tiny(nn.Module):
    def __init__(self, scale, dim, colours=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(colours, dim, 3, padding=1), nn.ReLU())
        self.tail = nn.Sequential(nn.Conv2d(dim, colours * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        return self.tail(self.body(x))
"""
STUDY = {
    "name": "own",
    "description": "A few iterations",
    "scales": [4],
    "seeds": [0],
    "variants": "all",
    "networks": ["bicubic", "imdn", "theirs"],
    "retrain": ["imdn"],
    "own_networks": "theirs",
    "data": {"root": "data", "train": ["mine[1:]"], "validation": ["mine[:1]"], "test": ["mine[:2]"]},
    "training": {"iterations": 2, "batch": 1, "patch": 8, "validate_every": 2, "ema": 0.5},
    "efficiency": {"images": 1, "rounds": 1, "processes": 1},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    for name in "abcd":
        images.write(tmp_path / "data/mine/HR" / f"{name}.png", draw.integers(0, 256, (48, 48, 3), np.uint8))
    for place in ("ablations", "theirs"):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"nets_{place}.py").write_text(NETS)
    for name, content in {
        "ablations/safmn": {"network": {"n_blocks": 1, "dim": 4}},
        "ablations/tiny": {"title": "Tiny", "network": {"class": "nets_ablations:Tiny", "args": {"dim": 24}}},
        "ablations/plane": {
            "title": "Plane",
            "network": {"class": "nets_ablations:Tiny", "args": {"dim": 8, "colours": 1}},
            "colour": "Y",
        },
        "ablations/size": {"title": "C = {dim}", "sweep": {"network.dim": [4, 8]}, "network": {"n_blocks": 1}},
        "theirs/theirs": {"class": "nets_theirs:Tiny", "args": {"dim": 8}, "weights": {4: {"file": "x4.pth"}}},
    }.items():
        description = {} if name.startswith("theirs") else {"description": "x"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"title": name} | description | content))
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path / "ablations"))
    monkeypatch.setenv("SAFMN_NETWORKS", "")  # the study sets it
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [("ablations/tiny", "dim: 24", "dim: 48"), ("ablations/size", "n_blocks: 1", "n_blocks: 2")],
)
def test_another_number_in_a_file_times_again(folder, file, before, after):
    """It is neither in the code nor in the name."""
    first = Jobs(Study.load("own.yaml")).own_code()
    edit(folder / f"{file}.yaml", before, after)
    assert Jobs(Study.load("own.yaml")).own_code() != first


def test_another_number_of_a_network_with_weights_evaluates_and_trains_again(folder):
    edit(folder / "own.yaml", "- imdn\ns", "- theirs\ns")
    assert Study.load("own.yaml").retrain == ("theirs",)

    def fingerprints():
        jobs = Jobs(Study.load("own.yaml"))
        return {jobs.evaluation("theirs"), jobs.training("theirs", 4, 0), jobs.inspection("theirs")}

    first = fingerprints()
    assert len(first) == 3
    edit(folder / "theirs/theirs.yaml", "dim: 8", "dim: 16")
    assert not first & fingerprints()


def test_networks_of_one_class_are_planned_apart(folder):
    other = (folder / "theirs/theirs.yaml").read_text().replace("dim: 8", "dim: 64")
    (folder / "theirs/others.yaml").write_text(other)
    edit(folder / "own.yaml", "- imdn\ns", "- theirs\n- others\ns")
    groups = [{run.variant for run in group} for group in plan.alike(Study.load("own.yaml"))]
    assert {"theirs"} in groups
    assert {"others"} in groups


@pytest.mark.parametrize(("counted", "expected"), [({}, [1, 1]), ({"tiny": 9_000, "size_4": 3_000}, [3, 1])])
def test_an_estimate_needs_the_flops_of_both_networks(folder, monkeypatch, capsys, counted, expected):
    """Without those of the one that is timed, all take as long as it does."""
    study = Study.load("own.yaml")
    for name in ("imdn", *counted):
        counts = dict.fromkeys(("params", "flops", "activations"), counted.get(name, 10**10))
        write_json(study.results / f"cost/complexity/{name}.json", {"network": name, "scales": {"4": counts}})
    other = "tiny" if counted else "imdn"
    step = calibration.Step(1.0, 1, 1, calibration.Timing(1.0, 3, 0.0), "")
    monkeypatch.setattr(calibration, "step", lambda *_: step)
    monkeypatch.setattr(calibration, "evaluating", lambda *_: 0.0)
    monkeypatch.setattr(estimate.memory, "predict_training", lambda *_: {"peak": 0})
    monkeypatch.setattr(readiness, "free_bytes", lambda _: 10**5 if counted else 10**12)
    times = []
    monkeypatch.setattr(estimate, "makespan", lambda seconds, _: times.extend(seconds) or 1.0)
    command = ["plan", "own.yaml", "--estimate", "--device", "cpu", "--runs", "size_4/x4_seed0", f"{other}/x4_seed0"]
    assert main(command) == 0
    assert ("NOT ENOUGH ROOM: own writes about" in capsys.readouterr().out) == bool(counted)
    overhead = times[0] - 2 * expected[1]
    assert times[1] - overhead == pytest.approx(2 * expected[0])


def test_an_optimiser_is_tried_on_patches_that_the_network_takes(folder, capsys):
    wide = NETS.replace("self.body(x)", "self.body(nn.functional.pad(x, [9] * 4, 'reflect'))[..., 9:-9, 9:-9]")
    (folder / "ablations/nets_ablations.py").write_text(wide)
    edit(folder / "own.yaml", "patch: 8", "patch: 16\n  optimiser: torch.optim:RAdam")
    assert main(["trial", "tiny", "--study", "own.yaml"]) == 0
    assert "1 tried, of tiny" in capsys.readouterr().out


def edit(file, before, after):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    variants._discover.cache_clear()
    own._networks.cache_clear()


def luma(image):
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def test_from_its_files_to_its_tables(folder):
    study = Study.load("own.yaml")
    assert study.trained == ["plane", "safmn", "size_4", "size_8", "tiny", "imdn"]
    results = Path("results/own")
    write_json(results / "study.json", study.content)
    state = {f"net.{key}": torch.randn_like(value) for key, value in networks.build("theirs", 4).state_dict().items()}
    torch.save({"params_ema": state}, "theirs/x4.pth")
    data, device = ("--data", f"{results}/data/mine/x4[:2]"), ("--device", "cpu")
    for run in study.runs():
        place = results / "training" / run.folder
        words = ("--study", f"{results}/study.json", "--scale", "4", "--seed", "0", "--out", place)
        safmn("train", run.variant, *words, *device)
        for which in ("best", "last"):
            out = results / f"quality/{run.variant}/x4/seed0_{which}"
            weights = ("--network", run.variant, "--scale", "4", "--weights", place / f"{which}.safetensors")
            files = ("--out", out / "mine.csv", "--record", out / "evaluation.json")
            safmn("evaluate", *weights, *data, *files, *device)
    out = results / "quality/theirs/x4/published"
    files = ("--out", out / "mine.csv", "--record", out / "evaluation.json")
    safmn("evaluate", "--network", "theirs", "--scale", "4", "--weights", "theirs/x4.pth", *data, *files, *device)
    safmn("complexity", *study.counted, "--scale", "all", "--check", "--out", results / "cost/complexity")
    size = ("--scale", "4", "--height", "12", "--width", "12")
    safmn("memory", *study.timed, *size, "--out", results / "cost/memory.json")
    few = ("--images", "1", "--rounds", "1", "--processes", "1", "--no-habit")
    safmn("runtime", *study.timed, *size, *few, "--out", results / "cost/runtime.json")
    small = ("--crop", "24", "--window", "8", "--patch", "8", "--steps", "1")
    weights = ("--weights", results / "training/tiny/x4_seed0/best.safetensors")
    out = results / "inspection/tiny/x4/seed0_best.json"
    scene = ("--scene", f"{results}/data/mine/x4[:2]")
    safmn("inspect", "--network", "tiny", "--scale", "4", *weights, *scene, *small, *device, "--out", out)
    safmn("tables", "--study", "own.yaml")
    with open(results / "cells.csv", encoding="utf-8", newline="") as handle:
        cells = {
            (line["table"], line["row"], line["column"]): line
            for line in csv.DictReader(handle)
            if line["scale"] == "4"
        }
    for place in (
        *(
            ("3", name, column)
            for name in ("tiny", "plane", "size_4", "size_8")
            for column in ("params", "mine_psnr", "mine_ssim")
        ),
        *(("2", name, column) for name in ("tiny", "size_8", "theirs") for column in ("gpu_memory", "runtime")),
        *(("1", name, column) for name in ("imdn_retrained", "theirs") for column in ("flops", "mine_psnr")),
    ):
        assert (cells[place]["measured"] != "", cells[place]["published"]) == (True, ""), place
        assert cells[place]["verdict"] == "not comparable"
    assert "imdn" not in {
        row for table, row, column in cells if table == "1" and cells[table, row, column]["seeds"] == "1"
    }
    assert float(cells["3", "tiny", "params"]["measured"]) == (24 * 27 + 24 + 48 * 24 * 9 + 48) / 1000
    assert float(cells["1", "imdn_retrained", "params"]["measured"]) == 715.176  # Table 1: 715 K
    assert float(cells["3", "plane", "params"]["measured"]) == (8 * 9 + 8 + 16 * 8 * 9 + 16) / 1000
    for title in ("Tiny", "Plane"):
        rows = [line for line in (results / "tables/table3.md").read_text().splitlines() if f"| {title} " in line]
        assert rows
        assert all("Own" in row for row in rows)
    with open(results / "quality/plane/x4/seed0_best/mine.csv", encoding="utf-8", newline="") as handle:
        scores = list(csv.DictReader(handle))
    plane = networks.load_weights(results / "training/plane/x4_seed0/best.safetensors", "plane", 4)
    for score in scores:  # Y by its definition; the images of a study have LR by bicubic
        hr = images.read(Path(f"data/mine/HR/{score['image']}.png"))
        sr = plane(torch.from_numpy(luma(bicubic.downscale(hr, 4)) / 255)[None, None].float())[0, 0].detach().numpy()
        error = (np.clip(np.round(sr * 255), 0, 255) - luma(hr))[4:-4, 4:-4]
        assert float(score["psnr"]) == pytest.approx(10 * np.log10(255**2 / np.square(error).mean()), abs=1e-3)
    assert "IMDN, retrained" in (results / "tables/table1.md").read_text()
    with open(results / "figures/sweep_size.csv", encoding="utf-8", newline="") as handle:
        points = list(csv.DictReader(handle))
    assert [point["network"] for point in points] == ["size_4", "size_8", "safmn"]
    assert all(point["mine_psnr"] and point["params_k"] and point["runtime_ms"] for point in points)
    assert "Tiny" in (results / "figures/figure2.svg").read_text()
    assert "Tiny" in (results / "figures/figure1.svg").read_text()


@pytest.mark.parametrize(("name", "params"), [("imdn", 715_176), ("pan", 272_419)])
def test_a_published_network_is_trained_on_real_images(datasets, tmp_path, name, params):
    """Table 1 has 715 K and 272 K. The file that training leaves is the network's own: evaluation takes it as such."""
    content = {
        **{key: STUDY[key] for key in ("name", "description", "scales", "seeds", "training")},
        "variants": ["safmn"],
        "retrain": ["imdn", "pan"],
        "data": {"root": str(datasets), "train": ["T91[:8]"], "validation": ["T91[8:10]"], "test": ["Set5[:1]"]},
    }
    (tmp_path / "t91.yaml").write_text(yaml.safe_dump(content))
    with contextlib.chdir(tmp_path):
        run = ("--study", "t91.yaml", "--scale", "4", "--out", "run", "--device", "cpu")
        safmn("train", name, *run)
        trained = networks.load_weights("run/best.safetensors", name, 4)
        assert sum(parameter.numel() for parameter in trained.parameters()) == params
        record = json.loads(Path("run/run.json").read_text())
    assert (record["outcome"], record["specification"]["network"], record["specification"]["train"]) == (
        *("finished", name),
        ["T91[:8]"],
    )
    torch.manual_seed(0)
    initial = networks.build(name, 4).state_dict()
    changes = [(value - initial[key]).abs().max() for key, value in trained.state_dict().items()]
    assert max(changes) < 0.01  # two steps of Adam from its own initial weights
    assert max(changes) > 0
