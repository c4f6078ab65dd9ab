"""The wheel in an empty environment, used from an empty folder without any environment variable."""

import csv
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from safmn import paths, provenance
from safmn.data import images
from tests.package.conftest import ROOT, build


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder but for a test set of one picture."""
    folder = tmp_path_factory.mktemp("anywhere")
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    images.write(folder / "mine/HR/a.png", picture)
    images.write(folder / "small.png", picture[:12, :16])
    return folder


def test_what_runs_is_the_installed_package(anywhere, python, tmp_path):
    code = "import safmn, safmn.paths, sys, json; print(json.dumps([safmn.__file__, str(safmn.paths.ROOT), sys.path]))"
    package, root, searched = json.loads(anywhere("python", "-c", code, cwd=tmp_path).stdout)
    environment = python.parents[1].resolve()
    assert Path(package).resolve().is_relative_to(environment)
    assert Path(root).resolve().is_relative_to(environment)
    assert str(ROOT) not in searched
    # Nor is the checkout reached if the package is taken away.
    told = anywhere("python", "-I", "-c", "import tests", cwd=tmp_path, fails=True)
    assert "No module named 'tests'" in told.stderr


def test_list(anywhere, tmp_path):
    found = {each["name"]: each for each in json.loads(anywhere("safmn", "list", "--json", cwd=tmp_path).stdout)}
    assert len(found) == len(list((ROOT / "ablations").glob("*.yaml"))) + 17
    assert found["safmn"]["params"]["4"] == 239_520  # 239.52 K in Table 1


def test_its_commands_one_after_the_other(anywhere, place):
    """Trained on the photographs inside installed packages."""
    weights = "--network ccm_none --weights run/best.safetensors --scale 4"
    commands = (
        "complexity ccm_none --scale 4 --json",
        "memory ccm_none --scale 4 --height 16 --width 16",
        "train ccm_none --study mini --scale 4 --seed 0 --iterations 2 --device cpu --out run",
        f"evaluate {weights} --data mine --out scores.csv",
        f"upscale small.png large.png {weights}",
        "explain --network bicubic --scale 4 --data mine --published 28.42 --json",
    )
    told = anywhere("safmn", *" then ".join(commands).split(), cwd=place).stdout
    assert '"params": 30720' in told  # 30.72 K in Table 3
    assert "predicted" in told
    assert json.loads(told[told.rindex("\n{") :])
    assert images.read(place / "large.png").shape == (48, 64, 3)
    with open(place / "scores.csv", newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert row["image"] == "a"
    assert 3 < float(row["psnr"]) < 40
    facts = json.loads((place / "run/run.json").read_text())["provenance"]
    assert (facts["code_version"], facts["code_commit"]) == (version(), None)


def version():
    return next(line.split('"')[1] for line in (ROOT / "safmn/__init__.py").read_text().splitlines() if "__ver" in line)


def test_a_packaged_study_is_found_by_its_name(anywhere, tmp_path):
    assert json.loads(anywhere("safmn", "resolve", "paper", cwd=tmp_path).stdout)["training"]["iterations"] == 500_000


def test_the_packaged_workflow_runs_where_one_stands(anywhere, tmp_path):
    snakefile = anywhere("python", "-c", "import safmn.paths as p; print(p.SNAKEFILE)", cwd=tmp_path).stdout.strip()
    told = anywhere("snakemake", "--snakefile", snakefile, "--dry-run", "--cores", "1", cwd=tmp_path)
    assert "Train no_fm x4 with seed 0." in told.stdout
    assert {file.name for file in tmp_path.iterdir()} <= {".snakemake"}


def test_the_same_code_has_the_same_digest_in_a_checkout_and_a_wheel(anywhere, checkout, tmp_path):
    code = "from safmn import provenance; print(provenance.code()['code_sha256'])"
    assert anywhere("python", "-c", code, cwd=tmp_path).stdout.strip() == provenance.code(checkout)["code_sha256"]


def test_what_rules_refer_to_is_in_the_wheel(wheel):
    """Environments, captions and included rules, by the paths that stand in the rules."""
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    referred = set()
    for file in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]:
        for path in re.findall(r'"((?:\.\./|workflow/)[^"{}]+\.(?:yml|rst|smk))"', file.read_text()):
            target = Path(os.path.normpath(file.parent / path)).relative_to(ROOT)
            referred.add(f"safmn/project/{target.as_posix()}")
    assert len(referred) > 5
    assert referred <= names
    assert {f"safmn/project/workflow/schemas/{file.name}" for file in paths.SCHEMAS.iterdir()} <= names


def test_an_sdist_gives_the_same_wheel(checkout, wheel, tmp_path):
    code = "import setuptools.build_meta as build, sys; print(build.build_sdist(sys.argv[1]))"
    told = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=checkout, env={}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        assert not [name for name in packed.getnames() if "/results/" in name or "__pycache__" in name]
    again = build(sdist, tmp_path / "dist")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert set(first.namelist()) == set(second.namelist())
        same = [name for name in first.namelist() if "dist-info" not in name]
        assert all(first.read(name) == second.read(name) for name in same)


def test_the_python_of_a_conda_environment_finds_the_package_and_none_of_its_neighbours(python, tmp_path):
    """Its jobs get the package by PYTHONPATH; numpy of another environment would not even load."""
    (reach,) = python.parents[1].glob("lib/python*/site-packages/safmn/project/workflow/reach")
    command = [sys.executable, "-S", "-m", "safmn", "--help"]
    told = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(reach)}, capture_output=True, text=True)
    assert "usage: safmn" in told.stdout, told.stderr
    code = "import safmn, safmn.paths; print(safmn.__file__, safmn.paths.ROOT)\nimport numpy"
    command = [sys.executable, "-S", "-c", code]
    told = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(reach)}, capture_output=True, text=True)
    package = reach.parents[2]
    assert told.stdout.split() == [str(package / "__init__.py"), str(package / "project")]
    assert "No module named 'numpy'" in told.stderr
