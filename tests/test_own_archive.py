"""A study with a network, a loss and an optimiser of its own is archived with them, verified, imported elsewhere."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from safmn import __version__, networks
from safmn.archive import importing, own_files
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, NOTED
from safmn.archive.opening import Opened
from safmn.archive.steps import STEPS
from safmn.cli import main
from safmn.data import images
from safmn.errors import UserError
from safmn.files import write_json
from safmn.networks import variants
from safmn.planning import status
from safmn.study import Study
from tests import small_study
from tests.small_study import safmn
from tests.test_import import STAGES
from tests.test_own_study import NETS
from tests.test_verify import notes, reseal, verified
from tests.workflow.conftest import ROOT

FILES = {
    "ablations/shared_nets/__init__.py": "",
    "ablations/shared_nets/tiny.py": NETS,
    "ablations/shared_losses.py": """
from pathlib import Path

FACTOR = float((Path(__file__).parent / "shared" / "factor.txt").read_text())


class Scaled:
    def __call__(self, sr, hr):
        return FACTOR * (sr - hr).abs().mean()
""",
    "ablations/shared/factor.txt": "0.5\n",
    "ablations/not_named.txt": "mine\n",
    "networks/shared_theirs.py": NETS,
    "config/shared_steps.py": "from torch.optim import SGD\n\n\nclass Plain(SGD):\n    pass\n",
}
YAML = {
    "ablations/tiny": {
        "title": "Tiny",
        "description": "x",
        "network": {"class": "shared_nets.tiny:Tiny", "args": {"dim": 4}},
        "training": {"loss": "shared_losses:Scaled"},
    },
    "networks/theirs": {
        "title": "Theirs",
        "class": "shared_theirs:Tiny",
        "args": {"dim": 8},
        "weights": {4: {"file": "x4.pth"}},
    },
    "config/study": {
        "name": "shared",
        "description": "A few iterations",
        "scales": [4],
        "seeds": [0],
        "variants": ["tiny"],
        "networks": ["theirs"],
        "own_networks": "networks",
        "data": {"root": "data", "train": ["mine[1:]"], "validation": ["mine[:1]"], "test": ["mine[:1]"]},
        "training": {
            "iterations": 2,
            "batch": 1,
            "patch": 8,
            "validate_every": 2,
            "ema": 0.5,
            "optimiser": {"name": "shared_steps:Plain"},
        },
        "run": {"log_every": 1},
    },
}
MODULES = ("shared_nets", "shared_nets.tiny", "shared_losses", "shared_theirs", "shared_steps")


def forget():
    """As a new process: nothing of another project is known."""
    for name in MODULES:
        sys.modules.pop(name, None)
    variants.reread()


def project(folder):
    (folder / "ablations").mkdir(parents=True)
    (folder / ".safmn-version").write_text(__version__)
    return folder


def empty(folder, monkeypatch):
    """Go into a new folder as a new process would."""
    forget()
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "first" not in Path(place).parts])
    for key in ("SAFMN_PROJECT", "SAFMN_NETWORKS"):
        os.environ.pop(key, None)
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A project with a finished study, and its archive in `crate`."""
    folder = project(tmp_path_factory.mktemp("shared") / "first")
    draw = np.random.default_rng(0)
    for name in "ab":
        images.write(folder / "data/mine/HR" / f"{name}.png", draw.integers(0, 256, (48, 48, 3), np.uint8))
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, content in YAML.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setenv("SAFMN_NETWORKS", "")
        patched.setattr(sys, "path", [*sys.path])
        forget()
        study = Study.load("config/study.yaml")
        write_json("results/shared/study.json", study.content)
        state = {
            f"net.{key}": torch.randn_like(value) for key, value in networks.build("theirs", 4).state_dict().items()
        }
        torch.save({"params_ema": state}, "networks/x4.pth")
        place, device = Path("results/shared/training/tiny/x4_seed0"), ("--device", "cpu")
        words = ("--study", "results/shared/study.json", "--scale", "4", "--seed", "0", "--no-check", "--out", place)
        safmn("train", "tiny", *words, *device)
        for name, which, file in (
            *(("tiny", f"seed0_{which}", place / f"{which}.safetensors") for which in ("best", "last")),
            ("theirs", "published", "networks/x4.pth"),
        ):
            out = Path("results/shared/quality") / name / "x4" / which
            files = ("--out", out / "mine.csv", "--record", out / "evaluation.json")
            data = ("--data", "results/shared/data/mine/x4[:1]", "--weights", file)
            safmn("evaluate", "--network", name, "--scale", "4", *data, *files, *device)
        for name in ("tiny", "theirs"):
            safmn("complexity", name, "--scale", "4", "--out", f"results/shared/cost/complexity/{name}.json")
        safmn("tables", "--study", "results/shared/study.json")
        safmn("archive", "--study", "results/shared/study.json", "--out", "crate", "--weights", "all")
    forget()
    return folder


def test_what_counts_is_archived_and_nothing_else(first):
    crate = first / "crate"
    expected = {name for name in FILES if name.startswith(("ablations/shared", "networks/", "config/"))}
    for name in (*expected, "ablations/tiny.yaml", "networks/theirs.yaml"):
        assert (crate / name).read_bytes() == (first / name).read_bytes()
    there = {file.relative_to(crate).as_posix() for file in crate.rglob("*") if file.is_file()}
    assert not there & {
        "ablations/not_named.txt",
        "networks/x4.pth",
        "config/study.yaml",
    }


def test_all_steps_confirm_it_where_none_of_it_is(first, tmp_path, monkeypatch, capsys):
    here = empty(tmp_path / "second", monkeypatch)
    (here / "weights").mkdir()
    (here / "weights/x4.pth").write_bytes((first / "networks/x4.pth").read_bytes())
    words = (first / "crate", "--data-root", first / "data", "--weights-root", "weights")
    steps = ("--retrain", "tiny", "--extrapolate", "tiny")
    status, without, _ = verified(capsys, *words, *steps, "--steps", "whole", "evaluated")
    assert (status, without["whole"]["verdict"], without["evaluated"]["verdict"]) == (0, CONFIRMED, NOT_CHECKED)
    assert "--trust-code" in notes(without["evaluated"], NOT_CHECKED)[0]
    assert not [name for name in MODULES if name in sys.modules]
    status, found, _ = verified(capsys, *words, *steps, "--trust-code")
    assert {name: step["verdict"] for name, step in found.items()} == dict.fromkeys(STEPS, CONFIRMED), found
    for name in set(STEPS) - {"consistent"}:  # figures of images need the images
        assert not notes(found[name], NOT_CHECKED)
    assert not [key for key in ("SAFMN_PROJECT", "SAFMN_NETWORKS") if os.environ.get(key)]
    assert [file.name for file in here.iterdir()] == ["weights"]


def test_code_of_a_damaged_archive_is_not_run(first, tmp_path, monkeypatch, capsys):
    empty(tmp_path / "second", monkeypatch)
    file = first / "crate/ablations/shared_losses.py"
    content = file.read_bytes()
    file.write_bytes(content + b"\n")
    try:
        assert main(["verify", str(first / "crate"), "--trust-code", "--device", "cpu"]) == 2
    finally:
        file.write_bytes(content)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "ablations/shared_losses.py" in line
    assert "its code is not run" in line


def take(crate, root, trust_code=True):
    return importing.take(Opened(crate, crate), str(root), None, STAGES, trust_code=trust_code)


def test_an_import_into_an_empty_project_brings_it(first, tmp_path, monkeypatch):
    empty(tmp_path / "second", monkeypatch)
    with pytest.raises(UserError, match="safmn init"):
        take(first / "crate", first / "data")
    project(tmp_path / "third")
    here = empty(tmp_path / "third", monkeypatch)
    with pytest.raises(UserError, match="--trust-code"):
        take(first / "crate", first / "data", trust_code=False)
    with pytest.raises(UserError, match="--data-root"):  # no data: what was put there is gone again
        take(first / "crate", tmp_path)
    assert not [file for file in here.rglob("*") if file.is_file() and file.name != ".safmn-version"]
    brought = take(first / "crate", first / "data").own_files
    assert {"ablations/tiny.yaml", "networks/theirs.yaml", "config/shared_steps.py"} <= set(brought)
    forget()
    study = Study.load("results/shared/study.json")
    assert study.content["own_networks"] == "networks"
    (run,) = status.look(study, study.results)["runs"]
    assert (run["state"], run["remarks"]) == ("done", [])
    safmn("tables", "--study", "results/shared/study.json")
    with open("results/shared/cells.csv", encoding="utf-8", newline="") as handle:
        origins = {cell["row"]: cell["origin"] for cell in csv.DictReader(handle) if cell["column"] == "mine_psnr"}
    assert origins["tiny"] == "trained, imported"
    assert origins["theirs"].endswith(", imported")


def test_other_files_of_these_names_are_named_and_stay(first, tmp_path, monkeypatch):
    project(tmp_path / "second")
    here = empty(tmp_path / "second", monkeypatch)
    (here / "ablations/shared_losses.py").write_text("mine")
    with pytest.raises(UserError, match=r"other files of these names: ablations/shared_losses\.py"):
        take(first / "crate", first / "data")
    assert (here / "ablations/shared_losses.py").read_text() == "mine"
    assert not (here / "ablations/tiny.yaml").exists()


def test_files_in_whose_place_the_harness_has_others_are_named(first, tmp_path, monkeypatch, capsys):
    crate = shutil.copytree(first / "crate", tmp_path / "crate")
    file = crate / "ablations/no_fm.yaml"
    file.write_text(f"{file.read_text()}# Of one's own.\n")
    reseal(crate)
    project(tmp_path / "second")
    empty(tmp_path / "second", monkeypatch)
    _, found, _ = verified(capsys, crate, "--steps", "whole", "--trust-code")
    (told,) = [note for note in notes(found["whole"], NOTED) if note.startswith("ablations/")]
    assert told.startswith("ablations/no_fm.yaml: it is not run: the harness here has another file")
    taken = take(crate, first / "data")
    assert taken.hidden == ["ablations/no_fm.yaml"]
    assert "ablations/tiny.yaml" in taken.own_files


IMPORT = """
import sys
from pathlib import Path
from safmn.archive import importing
from safmn.archive.opening import Opened
from safmn.planning import jobs
from safmn.study import Study

stages = {"packing": jobs.PACKING, "evaluation": jobs.EVALUATING}
crate = Path(sys.argv[1])
importing.take(Opened(crate, crate), sys.argv[2], None, stages, trust_code=True)
print(sorted(Study.load("results/shared/study.json").counted))
"""


def test_an_import_into_a_checkout_brings_networks_too(first, tmp_path):
    checkout = small_study.copy_code(ROOT, tmp_path / "checkout")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAFMN")}
    command = [sys.executable, "-c", IMPORT, str(first / "crate"), str(first / "data")]
    environment["PYTHONPATH"] = str(checkout)
    told = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "['theirs', 'tiny']"
    assert (checkout / "networks/theirs.yaml").is_file()


def test_what_lies_in_the_present_folder_gets_into_config(first, tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_PROJECT", str(first))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared_here.py").write_text("from torch.optim import SGD\n\n\nclass Plain(SGD):\n    pass\n")
    forget()
    content = json.loads((first / "results/shared/study.json").read_text())
    content["own_networks"] = str(first / "networks")
    content["training"]["optimiser"]["name"] = "shared_here:Plain"
    files, outside = own_files.collect(Study.from_content(content, "x"))
    assert files["config/shared_here.py"] == tmp_path / "shared_here.py"
    assert outside == []


def test_a_file_outside_of_the_folders_is_said(first, tmp_path, monkeypatch):
    with contextlib.chdir(first):
        monkeypatch.setenv("SAFMN_NETWORKS", "")
        forget()
        module = first / "ablations/shared_losses.py"
        content = module.read_text()
        (tmp_path / "far.txt").write_text("1")
        hidden = first / "ablations/shared/.private.txt"  # beside a file that is read, it counts
        hidden.write_text("mine")
        try:
            module.write_text(
                content.replace('(Path(__file__).parent / "shared" / "factor.txt")', f'Path("{tmp_path}/far.txt")')
            )
            files, outside = own_files.collect(Study.load("config/study.yaml"))
        finally:
            module.write_text(content)
            hidden.unlink()
    assert outside == ["far.txt"]
    assert not [name for name in files if "private" in name]
    assert "ablations/shared_losses.py" in files
