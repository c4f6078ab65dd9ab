"""Data through the DAG: downloaded from a server on loopback that holds the sources' archives, packed, evaluated."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from safmn import networks
from safmn.data import bicubic, images, manifest, packed
from safmn.networks import published_weights
from safmn.quality import psnr_y
from tests.data import served_datasets
from tests.data.loopback import Answer, Site
from tests.data.pictures import edsr_folder
from tests.data.served_datasets import NAMES, hr, layouts, pack, paths
from tests.workflow.conftest import PATIENCE, ROOT, start, wait_for
from tests.workflow.test_parsing import EXTRA, PAPER

EVALUATION = {
    "name": "served",
    "description": "Nothing is trained; data and weights come from a server",
    "scales": [4],
    "seeds": [0],
    "variants": ["safmn"],
    "networks": ["bicubic"],
    "data": {"download": "down loads", "test": ["Set5", "B100"]},
    "weights": {"download": "weights"},
    "training": None,
    "efficiency": {"images": 1, "rounds": 1, "processes": 1},
}
WEIGHTS = published_weights.find("safmn", 4).remote


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The archives, and SAFMN's weights: fresh ones, as their authors' are packed."""
    with served_datasets.mirror(monkeypatch, tmp_path / "corrections.json") as running:
        buffer = io.BytesIO()
        torch.manual_seed(0)
        torch.save({"params": networks.build("safmn", 4).state_dict()}, buffer)
        running.archives[WEIGHTS.name] = running.files[urlsplit(WEIGHTS.urls[0]).path] = buffer.getvalue()
        served_datasets.write_corrections(tmp_path / "corrections.json", running.archives)
        yield running


@pytest.fixture
def study(tmp_path):
    """Writes a study with changes."""

    def write(**changes) -> Path:
        file = tmp_path / "served.yaml"
        file.write_text(yaml.safe_dump(EVALUATION | changes))
        return file

    return write


def instead(site: Site, tmp_path: Path, name: str, data: bytes) -> None:
    """Another archive, with the checksum to match."""
    site.files[paths()[name]] = data
    served_datasets.write_corrections(tmp_path / "corrections.json", site.archives | {name: data})
    site.archives = site.archives | {name: data}


def check_store(folder: Path, dataset: str, scale: int = 4) -> None:
    """A packed dataset has the pixels that were served, and says so in hashes that others can make."""
    store = packed.PackedPairs(folder)
    assert store.names == NAMES[dataset]
    lines = ""
    for index, name in enumerate(store.names):
        high = hr(dataset, index)
        low = bicubic.downscale(high, scale)
        np.testing.assert_array_equal(store.hr(index), high)
        np.testing.assert_array_equal(store.lr(index), low)
        lines += f'{of_ppm(high)} {of_ppm(low)} "{name}"\n'
    assert manifest.read(folder).digest == of(lines.encode())


def of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def of_ppm(image: np.ndarray) -> str:
    """As another library writes it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "ppm")
    return of(buffer.getvalue())


def said(log: Path) -> list[str]:
    """What a command complained about."""
    return [line for line in log.read_text().splitlines() if line.startswith("safmn ")]


def jobs(told: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Rule -> jobs of a dry run."""
    lines = told.stdout.split("Job stats:")[1].splitlines() if "Job stats:" in told.stdout else []
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) == 2 and words[1].isdigit()}


def test_the_papers_downloads_are_planned_by_rule(snakemake, tmp_path):
    """On a machine without data, and on one that has a part of it."""
    told = snakemake("--dry-run", "--configfile", ROOT / "config/paper.yaml")
    assert told.returncode == 0, told.stderr
    counts = jobs(told)
    sources = ("DIV2K", "DIV2K_val", "Flickr2K", "benchmark")
    assert {rule: count for rule, count in counts.items() if rule.startswith("fetch")} == {
        **{f"fetch_{source}": 1 for source in sources},
        "fetch_weights": sum(bool(networks.info(weights.network).rows) for weights in published_weights.WEIGHTS),
    }  # the rest of the authors' family stands in no table of the paper
    assert counts["pack"] == 7 * 3  # without Manga109
    assert counts["train"] == len(PAPER) + len(EXTRA) + 2  # every variant at x4, the baseline also at x2 and x3
    for name in ("DIV2K/DIV2K_train_HR/0001", "Manga109/HR/ARMS", "Set14/HR/ppt3"):
        images.write(tmp_path / "mine" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    arguments = ["--configfile", ROOT / "config/paper.yaml", "--config", "data_root=mine", "weights_download=none"]
    told = snakemake("--dry-run", *arguments)
    counts = jobs(told)
    assert [rule for rule in counts if rule.startswith("fetch")] == [
        "fetch_DIV2K_val",
        "fetch_Flickr2K",
        "fetch_benchmark",
    ]
    assert counts["pack"] == 8 * 3
    assert "fetched/paper/Set14" not in told.stdout


def test_data_and_weights_come_from_their_sources(site, study, snakemake, tmp_path):
    scores = [f"results/served/quality/bicubic/x4/published/{name}.csv" for name in ("Set5", "B100")]
    scores.append("results/served/quality/safmn/x4/published/Set5.csv")
    told = snakemake(*scores, "--configfile", study())
    assert told.returncode == 0, told.stdout + told.stderr
    for name in ("Set5", "B100"):
        check_store(tmp_path / f"results/served/data/{name}/x4", name)
    with open(tmp_path / scores[0], newline="") as handle:
        found = {line["image"]: float(line["psnr"]) for line in csv.DictReader(handle)}
    for index, name in enumerate(NAMES["Set5"]):
        high = hr("Set5", index)
        assert found[name] == pytest.approx(psnr_y(bicubic.upscale(bicubic.downscale(high, 4), 4), high, 4), abs=0.002)
    assert json.loads((tmp_path / "down loads/fetched/served/Set5_x4.json").read_text()) == {
        "dataset": "Set5",
        "folder": "benchmark/Set5/HR",
        "images": 5,
        "scale": 4,
        "lr": "file",
    }
    asked = [path for path, _ in site.log]
    assert sorted(asked) == sorted([paths()["benchmark.tar"], urlsplit(WEIGHTS.urls[0]).path])  # each once

    # Nothing to do, neither a second time nor when the downloads were deleted to save space.
    shutil.rmtree(tmp_path / "down loads")
    assert "Nothing to be done" in (second := snakemake(*scores, "--configfile", study())).stdout + second.stderr


def test_bad_sources_are_told_and_the_rest_is_kept(site, study, snakemake, tmp_path):
    datasets = ("DIV2K", "DIV2K_val", "Set5", "Flickr2K")
    packs = [f"results/served/data/{name}/x4/index.json" for name in datasets]
    file = study(data={"download": "downloads", "test": list(datasets)})
    sound = dict(site.archives)
    site.answers[paths()["DIV2K_train_HR.zip"]] = [Answer(status=500)]
    site.answers[paths()["DIV2K_valid_HR.zip"]] = [Answer(cut=1000), Answer(status=404)]
    half = "DIV2K_valid_LR_bicubic_X4.zip"
    instead(site, tmp_path, half, sound[half][: len(sound[half]) // 2])
    site.files[paths()["benchmark.tar"]] = bytes([1]) + sound["benchmark.tar"][1:]
    evil = pack("Flickr2K.tar", layouts()["Flickr2K.tar"] | {"../../evil.png": b"evil"})
    twice = pack("Flickr2K.zip", layouts()["Flickr2K.zip"] | {"other/000001.png": b"twice"})
    instead(site, tmp_path, "Flickr2K.tar", evil)
    instead(site, tmp_path, "Flickr2K.zip", twice)

    told = snakemake(*packs, "--configfile", file)
    assert told.returncode != 0
    check_store(tmp_path / packs[0].removesuffix("/index.json"), "DIV2K")
    assert not any((tmp_path / pack).exists() for pack in packs[1:])
    logs = tmp_path / "results/served/logs/fetch"
    assert not said(logs / "DIV2K.log")
    cut, damaged = sorted(said(logs / "DIV2K_val.log"), key=lambda line: "damaged" in line)
    assert "DIV2K_valid_HR.zip" in cut
    assert "are kept in" in cut
    assert "damaged or cut short" in damaged
    (wrong,) = said(logs / "benchmark.log")
    assert "instead of" in wrong
    outside, duplicated = sorted(said(logs / "Flickr2K.log"), key=lambda line: "two members" in line)
    assert "'../../evil.png'" in outside
    assert "two members for one file" in duplicated
    assert not [log for log in logs.iterdir() if "Traceback" in log.read_text()]
    assert not list(tmp_path.rglob("evil.png"))
    assert not [
        name for name in ("benchmark", "Flickr2K", "DIV2K/DIV2K_valid_HR") if (tmp_path / "downloads" / name).exists()
    ]
    with open(tmp_path / "results/served/cells.csv", encoding="utf-8", newline="") as handle:
        notes = {cell["note"] for cell in csv.DictReader(handle) if cell["column"] == "set5_psnr"}
    assert any("DIV2K_val failed" in note and "damaged" in note for note in notes)

    # The sources are well again; the archives that are named as bad are removed, as the messages say.
    for name in (half, "Flickr2K.tar", "Flickr2K.zip"):
        (tmp_path / "downloads/archives" / name).unlink()
        instead(site, tmp_path, name, sound[name])
    site.files[paths()["benchmark.tar"]] = sound["benchmark.tar"]
    site.log.clear()
    told = snakemake(*packs, "--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    for name, path in zip(datasets, packs, strict=True):
        check_store(tmp_path / Path(path).parent, name)
    assert not [path for path, _ in site.log if "DIV2K_train" in path]
    assert site.requests(paths()["DIV2K_valid_HR.zip"]) == ["bytes=1000-"]


def test_bad_pairs_are_told_and_the_rest_is_packed(study, snakemake, tmp_path):
    """In place, as a user may have it: nothing is copied, nothing downloaded."""
    root = tmp_path / "my data"
    sizes = {"a": (48, 48), "b": (48, 64)}
    for name in ("sound", "lacking", "unequal", "twice"):
        edsr_folder(root / name, sizes, scale=4)
    (root / "lacking/LR_bicubic/X4/bx4.png").unlink()
    images.write(root / "unequal/LR_bicubic/X4/bx4.png", np.zeros((12, 12, 3), np.uint8))
    shutil.copyfile(root / "twice/HR/a.png", root / "twice/HR/a.bmp")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    names = ["sound", "lacking", "unequal", "twice"]
    packs = {name: f"results/served/data/{name}/x4/index.json" for name in names}
    file = study(data={"root": str(root), "download": "downloads", "test": names})
    told = snakemake(*packs.values(), "--configfile", file)
    assert told.returncode != 0
    assert [name for name in names if (tmp_path / packs[name]).exists()] == ["sound"]
    for name, words in {
        "lacking": ("lacks bx4.png", "HR/b.png"),
        "unequal": ("bx4.png is 12x12", "b.png is 64x48", "not 4 times"),
        "twice": ("a.bmp and", "a.png have one name"),
    }.items():
        (line,) = said(tmp_path / f"results/served/logs/pack/{name}_x4.log")
        assert all(word in line for word in words), line
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before

    (root / "twice/HR/a.bmp").unlink()
    told = snakemake(packs["sound"], packs["twice"], "--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Pack twice" in told.stdout + told.stderr
    assert "Pack sound" not in told.stdout + told.stderr
    assert packed.PackedPairs((tmp_path / packs["twice"]).parent).names == ["a", "b"]
    assert not (tmp_path / "downloads").exists()


@pytest.mark.slow
def test_a_study_from_nothing_to_its_tables(site, study, snakemake, tmp_path):
    """Every source, a training on what it brought, and every table; Manga109 stays missing and says how to get it."""
    benchmarks = ["Set5", "Set14", "B100", "Urban100"]
    file = study(
        variants=["safmn", "no_fm"],
        data={
            "download": "downloads",
            "train": ["DIV2K", "Flickr2K[:3]"],
            "validation": ["DIV2K_val"],
            "test": [*benchmarks, "Manga109", "DIV2K_val"],
        },
        training={"iterations": 4, "batch": 1, "patch": 12, "validate_every": 4, "ema": 0.5},
        run={"log_every": 2},
    )
    told = snakemake("--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    packs = {path.parents[1].name: path.parent for path in (tmp_path / "results/served/data").rglob("index.json")}
    assert set(packs) == {*benchmarks, "DIV2K", "Flickr2K", "DIV2K_val"}
    for name, path in packs.items():
        check_store(path, name)
    with open(tmp_path / "results/served/cells.csv", encoding="utf-8", newline="") as handle:
        cells = {(cell["row"], cell["column"]): cell for cell in csv.DictReader(handle) if cell["scale"] == "4"}
    for column in ("set5_psnr", "urban100_ssim", "div2k_val_psnr"):
        assert cells["no_fm", column]["measured"], column
        assert cells["no_fm", column]["verdict"] == "not comparable"
    assert cells["no_fm", "manga109_psnr"]["verdict"] == "missing"
    assert "http://www.manga109.org" in cells["no_fm", "manga109_psnr"]["note"]
    again = snakemake("--configfile", file)
    assert "Nothing to be done" in again.stdout + again.stderr

    # A pack that is lost after the downloads were deleted brings them back, and the same data.
    before = manifest.read(packs["Set5"]).digest
    shutil.rmtree(tmp_path / "downloads")
    shutil.rmtree(packs["Set5"])
    told = snakemake(packs["Set5"].relative_to(tmp_path) / "manifest.json", "--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    assert manifest.read(packs["Set5"]).digest == before


@pytest.mark.slow
def test_a_download_that_is_killed_is_resumed(site, study, snakemake, tmp_path):
    path = paths()["benchmark.tar"]
    site.always[path] = Answer(cut=len(site.archives["benchmark.tar"]) // 2, stall=PATIENCE)
    target = "results/served/data/Set5/x4/index.json"
    running = start(tmp_path, target, "--configfile", study())
    part = tmp_path / "down loads/archives/benchmark.tar.part"
    wait_for(lambda: part.exists() and part.stat().st_size, running)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = part.stat().st_size
    assert 0 < kept < len(site.archives["benchmark.tar"])
    site.always.clear()
    snakemake("--unlock", "--configfile", study())
    told = snakemake(target, "--configfile", study())
    assert told.returncode == 0, told.stdout + told.stderr
    assert site.requests(path)[-1] == f"bytes={kept}-"
    check_store((tmp_path / target).parent, "Set5")


@pytest.mark.slow
def test_without_room_for_all_nothing_is_asked_for(site, study, snakemake, tmp_path):
    known = json.loads((tmp_path / "corrections.json").read_text())
    known["files"]["Flickr2K.tar"]["size"] = 10**18
    (tmp_path / "corrections.json").write_text(json.dumps(known))
    file = study(data={"download": "downloads", "test": ["Set5", "DIV2K_val", "Flickr2K"]}, weights={"root": None})
    told = snakemake("fetch", "--configfile", file)
    assert told.returncode != 0
    for source in ("benchmark", "DIV2K_val", "Flickr2K"):
        (line,) = said(tmp_path / f"results/served/logs/fetch/{source}.log")
        assert "Flickr2K.tar" in line
        assert "are free" in line
    assert site.log == []
